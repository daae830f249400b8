"""The training of any network, one process a rank.

Every rank takes the same number of steps by construction: samples are permuted with one seed for all, cut to a whole
number of global batches, and rank r takes every size-th of them. What is reported is summed over all ranks.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml import dropout
from kit.stages.ml.learning_rate import learning_rate
from kit.stages.ml.options import Options
from kit.stages.ml.ranks import agreed_precision, crowded, join
from kit.stages.ml.shards import shares
from kit.stages.ml.task import Target, Task
from kit.stages.ml.weights import save

CLOCKS = ("input", "compute", "exchange")  # what a rank does in a step: waits for input, computes, exchanges (and waits)


class Step:
    """What a rank does with a batch: gradients, count and sums over its samples, to be summed over the ranks."""

    def __init__(self, task: Task, model: Any, xla: bool = False) -> None:
        import tensorflow as tf

        @tf.function(jit_compile=xla, reduce_retracing=True)
        def gradients(*fields: Any) -> Any:
            with tf.GradientTape() as tape:
                tally = task.tally(model, *fields, training=True)
            return tape.gradient(tally.loss, model.trainable_variables), tally.count, tally.sums

        @tf.function(jit_compile=xla, reduce_retracing=True)
        def validate(*fields: Any) -> Any:
            return task.tally(model, *fields, training=False).sums

        self.gradients, self.validate = gradients, validate


def updating(model: Any, optimizer: Any) -> Any:
    """A function that moves the network by the sums of all ranks: gradients, and the count by which they are divided.

    Keras compiles its optimisers on GPUs alone. On a processor each of their dozen operations goes through all parameters,
    gradients and moments; compiled, one loop does it all, which took a third of the time with Uno's 16 million parameters.
    """
    import tensorflow as tf

    @tf.function(jit_compile=None if tf.config.get_visible_devices("GPU") else True)
    def update(gradients: Any, count: Any) -> None:
        mean = [gradient / tf.maximum(count, 1.0) for gradient in gradients]
        optimizer.apply_gradients(zip(mean, model.trainable_variables, strict=True))

    return update


def average(variables: Iterable[Any], ranks: Any) -> None:
    """Sets floating-point variables that no gradient changes to their means over the ranks; without any, does nothing.

    They are the moving means and variances of batch normalisation. In a step each rank normalises with the statistics of
    its own batch, as is common (Goyal et al. 2017, arXiv 1706.02677, section 2.3), and so moves averages of its own: left
    alone, the ranks of one job would validate and save different networks. A moving average is linear in what it
    averages, so that the mean at the end of an epoch is what exchanging in every step would give. It is also what
    TensorFlow does: the layer declares both variables as read by their mean over the replicas
    (tf.VariableAggregation.MEAN). The variance is the mean of those within the ranks' batches, without that between them.

    Means are formed in double precision: a constant that all ranks have alike stays as it is. Counters and states of random
    generators are no floating-point numbers, and are left alone.
    """
    values = [(variable, np.asarray(variable.numpy())) for variable in variables]
    floats = [(variable, value) for variable, value in values if value.dtype.kind == "f"]
    if floats:
        totals = ranks.sum([value.astype(np.float64) for _, value in floats])
        for (variable, value), total in zip(floats, totals, strict=True):
            variable.assign((np.asarray(total) / ranks.size).astype(value.dtype))


def until_target(records: Sequence[dict[str, Any]], target: Target) -> dict[str, Any]:
    """Whether and when the validation reached a target, from the records of the epochs, first to last.

    The seconds are from the beginning of the first epoch to the end of the validation that said so, with all that was
    between: steps, validation, checkpoints, as in the time to train of MLPerf Training's rules. Where the target was not
    reached, `seconds_to_target` is None, and `target_epoch` and `target_seconds` are those of the last epoch: it takes more.
    """
    sign = 1.0 if target.higher else -1.0
    values = [record[f"val_{target.metric}"] for record in records]
    found = [record for record, value in zip(records, values, strict=True) if sign * value >= sign * target.value]
    last = found[0] if found else records[-1]
    return {
        "target": target.value,
        "target_reached": int(bool(found)),
        "target_epoch": last["epoch"],
        "target_seconds": last["elapsed"],
        "target_best": sign * max(sign * value for value in values),
        "seconds_to_target": found[0]["elapsed"] if found else None,
    }


def train(task: Task, out: Path, options: Options, backend: str) -> None:
    """Trains a network and writes model.weights.h5, epochs.jsonl and train.json into `out`.

    The weights are those of the epoch with the lowest validation loss. A checkpoint is written after every epoch; a run
    that finds one goes on from it, and on CPUs ends with the bytes of one that was never cut off. Layers that draw random
    numbers must be those of `kit.stages.ml.dropout`, whose masks follow from the seed, the rank and what a checkpoint has;
    no checkpoint has the state of Keras' own.
    """
    import tensorflow as tf

    if options.patience >= options.epochs:
        raise ValueError(
            f"--patience {options.patience} never acts in --epochs {options.epochs}: it ends a training that many epochs "
            "behind its best one; give fewer, or 0 for none"
        )
    ranks = join(backend, options.tf32)
    tf.keras.utils.set_random_seed(options.seed)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    options = options._replace(precision=agreed_precision(options.precision, ranks))
    if options.precision == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    global_batch = options.batch_size * ranks.size
    samples = round(options.share * len(task.training))
    steps = samples // global_batch
    if steps == 0:
        raise ValueError(
            f"{samples} training {task.unit} do not fill one global batch of {options.batch_size} x {ranks.size} ranks"
        )

    model = task.network()
    dropout.number(model, options.seed, ranks.rank)
    parameters = dropout.parameters(model)
    if task.parameters and parameters != task.parameters:
        raise ValueError(f"the network has {parameters} parameters, not the reference's {task.parameters}")
    optimizer = task.optimizer(options.learning_rate)
    optimizer.build(model.trainable_variables)
    step, update = Step(task, model, options.xla), updating(model, optimizer)
    done, best, best_epoch = (tf.Variable(value) for value in (0, np.float64(np.inf), 0))
    parts = {"model": model, "optimizer": optimizer, "done": done, "best": best, "best_epoch": best_epoch}
    checkpoint = tf.train.Checkpoint(**parts, **{name: tf.Variable(value) for name, value in task.marks.items()})
    manager = tf.train.CheckpointManager(checkpoint, str(out / "checkpoints"), max_to_keep=2)
    best_weights = out / "model.weights.h5"
    if ranks.rank == 0 and manager.latest_checkpoint:
        known = tf.train.load_checkpoint(manager.latest_checkpoint)
        for name, value in task.marks.items():
            key = f"{name}/.ATTRIBUTES/VARIABLE_VALUE"
            if not known.has_tensor(key) or known.get_tensor(key) != value:
                raise ValueError(
                    f"{manager.latest_checkpoint}: is of {task.stale}; its weights mean nothing here. Remove {out}, and "
                    "train from the beginning"
                )
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    ranks.broadcast([*model.variables, *optimizer.variables, done, best, best_epoch])

    history = out / "epochs.jsonl"
    records: list[dict[str, Any]] = []
    if ranks.rank == 0:
        # What was written behind the last checkpoint belongs to an epoch that comes again, and may be half a line.
        lines = history.read_text().splitlines()[: int(done)] if history.is_file() else []
        records = [json.loads(line) for line in lines]
        partial = out / "epochs.partial"
        partial.write_text("".join(f"{line}\n" for line in lines))
        partial.rename(history)

    def validate() -> NDArray[np.float64]:
        mine = np.arange(len(task.validation))[ranks.rank :: ranks.size]
        sums = np.zeros(task.sums)
        # In batches of one size, but for the last: each size is a graph of its own.
        for start in range(0, len(mine), options.batch_size):
            fields = task.validation.read(mine[start : start + options.batch_size])
            sums += step.validate(*map(tf.constant, fields)).numpy()
        total: NDArray[np.float64] = ranks.sum([tf.constant(sums)])[0].numpy()
        return total

    def batches(epoch: int) -> Any:
        """The batches of this rank, which are read from now on, before the first is asked for."""
        return task.training.batches(shares(samples, options.batch_size, ranks.size, options.seed, epoch)[ranks.rank])

    # What goes on counts from what its finished epochs took; the time of one that was cut off is not known.
    began = time.perf_counter() - (records[-1]["elapsed"] if records else 0.0)
    coming = batches(int(done))
    for epoch in range(int(done), options.epochs):
        if options.patience and epoch - int(best_epoch) >= options.patience:
            break
        sums = np.zeros(task.sums)
        clock: dict[str, list[float]] = {name: [] for name in CLOCKS}  # seconds of this rank
        ranks.sum([tf.constant(0.0)])  # rank 0 wrote a checkpoint, and waiting for that is no exchange
        for number in range(steps):
            marks = [time.perf_counter()]
            fields = next(coming)
            marks.append(time.perf_counter())
            gradients, count, part = step.gradients(*fields)
            sums += part.numpy()
            marks.append(time.perf_counter())
            # What the ranks saw counts alike: sums are exchanged, and divided once by the count of all ranks.
            *gradients, count = ranks.sum([*gradients, count])
            marks.append(time.perf_counter())
            optimizer.learning_rate.assign(learning_rate(options, epoch * steps + number, steps, global_batch))
            update(gradients, count)
            marks.append(time.perf_counter())
            read, computed, exchanged, applied = np.diff(marks).tolist()
            for name, seconds in zip(CLOCKS, (read, computed + applied, exchanged), strict=True):
                clock[name].append(seconds)
        if epoch + 1 < options.epochs:
            coming = batches(epoch + 1)  # so that reading begins beside the validation
        total = ranks.sum([tf.constant(sums)])[0].numpy()
        # Of the steps but the first, whose graphs are traced; the mean of the ranks.
        warm = [sum(part[1:] if epoch == 0 else part) for part in clock.values()]
        warm = (ranks.sum([tf.constant(warm, tf.float64)])[0].numpy() / ranks.size).tolist()
        average(model.non_trainable_variables, ranks)  # before validation, checkpoint and weights: all see one network
        held_out = validate()
        trained, validated = task.summary(total), task.summary(held_out)
        if not np.isfinite([*total, *held_out]).all():
            said = f"training {trained['loss']}, validation {validated['loss']}"
            raise ValueError(f"epoch {epoch + 1}: the loss is not finite ({said})")
        record = {
            "epoch": epoch + 1,
            **trained,
            **{f"val_{name}": value for name, value in validated.items()},
            "samples": steps * global_batch,
            "seconds": sum(sum(part) for part in clock.values()),  # of the steps alone
            "elapsed": time.perf_counter() - began,  # since the first epoch began, with everything
            "steps": steps,
            "warm": dict(zip(clock, warm, strict=True)),
            "warm_samples": (steps - (epoch == 0)) * global_batch,
        }
        if record["val_loss"] < float(best):
            best.assign(record["val_loss"])
            best_epoch.assign(epoch + 1)
            if ranks.rank == 0:
                save(model, best_weights, **task.attributes)
        done.assign(epoch + 1)
        if ranks.rank == 0:
            records.append(record)
            with history.open("a") as file:
                file.write(json.dumps(record) + "\n")
            manager.save()
            print(json.dumps(record), flush=True)

    # Ranks that have drifted apart have not trained one network.
    digests = ranks.gather(hashlib.sha256(b"".join(value.tobytes() for value in model.get_weights())).hexdigest())
    if len(set(digests)) > 1:
        raise ValueError(f"the weights of the ranks differ: {', '.join(digests)}")
    oversubscribed = crowded(ranks)
    memory = ranks.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
    if ranks.rank == 0:
        (best_record,) = (record for record in records if record["epoch"] == int(best_epoch))
        clocks = {name: sum(record["warm"][name] for record in records) for name in CLOCKS}
        names = {key.removeprefix("val_") for key in best_record if key.startswith("val_")}  # of the summary
        result = {
            **options._asdict(),
            **{key: value for key, value in best_record.items() if key.removeprefix("val_") in names},
            "best_epoch": int(best_epoch),
            "epochs_run": len(records),
            "backend": backend,
            "tensorflow": tf.__version__,
            "ranks": ranks.size,
            "devices": ranks.devices,
            "tf32": ranks.tf32,  # of each rank; asked for or not, only GPUs from Ampere on have it
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),  # of a rank; 0: as many as there are cores
            "oversubscribed": oversubscribed,
            "parameters": parameters,
            "global_batch": global_batch,
            "unit": task.unit,  # what a sample is called
            **task.facts,
            "training_samples": samples,
            "validation_samples": len(task.validation),
            "last_weights_sha256": digests[0],  # of the last epoch; model.weights.h5 has those of the best
            "seconds": sum(record["seconds"] for record in records),  # of the steps alone
            "elapsed": records[-1]["elapsed"],  # with validation and checkpoints
            "samples_per_second": sum(record["warm_samples"] for record in records) / sum(clocks.values()),
            "warm_seconds": clocks,
            "input_share": clocks["input"] / sum(clocks.values()),
            "peak_memory_gb": max(memory),
            **until_target(records, task.target),
        }
        (out / "train.json").write_text(json.dumps(result, indent=1) + "\n")
