"""Trains the U-Net. One process a rank:

    mpirun -n 2 python -m kit.stages.cloudmask train --data patches --out train --epochs 8

Every rank takes the same number of steps by construction: patches are permuted with one seed for all, cut to a whole
number of global batches, and rank r takes every size-th of them. What is reported is summed over all ranks.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.network import PARAMETERS, save, unet
from kit.stages.cloudmask.patches import UNSEEN
from kit.stages.cloudmask.ranks import agreed_precision, crowded, join
from kit.stages.cloudmask.shards import Shards

TARGET = 0.9  # validation accuracy (MLCommons Science policy)
JOINED = 2  # a checkpoint has it whose network joins the upsampled field before the skip; earlier ones had it behind
TALLIES = ("loss", "cross_entropy", "clear_as_clear", "clear_as_cloud", "cloud_as_clear", "cloud_as_cloud")


class Plan(NamedTuple):
    """What decides a training, and is recorded with its result."""

    epochs: int
    batch_size: int  # patches of one rank in a step
    learning_rate: float  # for a global batch of `reference_batch` patches
    reference_batch: int = 32
    scaling: str = "sqrt"  # of the learning rate with the global batch: sqrt, linear or none
    warmup_epochs: float = 0  # over which the learning rate rises from near zero
    schedule: str = "constant"  # after that: constant, or cosine down to a hundredth
    patience: int = 0  # epochs without a lower validation loss after which it ends; 0: never
    positive_weight: float = 1.0  # of the loss of cloud pixels
    precision: str = "float32"  # of the arithmetic: float32 or bfloat16; weights and loss are float32
    tf32: bool = True  # GPUs that can multiply float32 in TF32
    xla: bool = False
    fused: bool = True  # the network in the form with less arithmetic
    share: float = 1.0  # of the training patches
    deterministic: bool = True  # the same bytes every time, where the device can
    seed: int = 1234

    def rate(self, step: int, steps: int, global_batch: int) -> float:
        """The learning rate of a step (from 0 on), where an epoch has `steps`.

        It grows with the square root of the global batch: Adam divides the mean gradient by its own size, so that the noise
        of a step falls with the root of the batch, and not with the batch as it does in plain gradient descent, whose rule
        is the linear one (Goyal et al. 2017, arXiv 1706.02677). Malladi et al. 2022 (arXiv 2205.10287) derive and test the
        root for Adam; they change its decay rates with the batch as well, which is not done here. The ancestor leaves the
        rate as it is, whatever the number of ranks: `none`.
        """
        ratio = global_batch / self.reference_batch
        factor = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.scaling]
        full, warm = self.learning_rate * factor, self.warmup_epochs * steps
        if step < warm:
            first = min(self.learning_rate, full) / max(warm, 1)
            return first + (full - first) * step / warm
        if self.schedule == "cosine":
            share = (step - warm) / max(self.epochs * steps - warm, 1)
            return full * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
        return full


def shares(patches: int, batch_size: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers of the patches of an epoch (ranks, steps, batch): all ranks take as many steps, no patch comes twice."""
    steps = patches // (batch_size * size)
    order = np.random.default_rng([seed, epoch]).permutation(patches)[: steps * batch_size * size]
    # A step takes the same patches, however many ranks share them.
    return order.reshape(steps, batch_size, size).transpose(2, 0, 1)


class Step:
    """What a rank does with a batch: gradients and tallies as sums over its pixels, to be summed over the ranks."""

    def __init__(self, model: Any, positive_weight: float, xla: bool = False) -> None:
        import tensorflow as tf

        def tally(images: Any, classes: Any, training: bool) -> tuple[Any, Any]:
            """The summed loss, and the sums that `TALLIES` names. Pixels that were not seen are in none of them."""
            logits = model(tf.cast(images, tf.float32), training=training)[..., 0]
            seen = classes != UNSEEN
            mask, cloud = tf.cast(seen, logits.dtype), tf.cast(classes == 1, logits.dtype)
            weighted = tf.nn.weighted_cross_entropy_with_logits(cloud, logits, positive_weight)
            # Not times the mask: a pixel that is not finite would stay so.
            loss = tf.reduce_sum(tf.where(seen, weighted, 0.0))
            plain = tf.reduce_sum(tf.where(seen, tf.nn.sigmoid_cross_entropy_with_logits(cloud, logits), 0.0))
            called = tf.cast(logits > 0, logits.dtype)
            counts = [tf.reduce_sum(mask * one * other) for one in (1 - cloud, cloud) for other in (1 - called, called)]
            return loss, tf.stack([loss, plain, *counts])

        @tf.function(jit_compile=xla, reduce_retracing=True)
        def gradients(images: Any, classes: Any) -> Any:
            with tf.GradientTape() as tape:
                loss, tallies = tally(images, classes, training=True)
            return tape.gradient(loss, model.trainable_variables), tallies

        @tf.function(jit_compile=xla, reduce_retracing=True)
        def validate(images: Any, classes: Any) -> Any:
            return tally(images, classes, training=False)[1]

        self.gradients, self.validate = gradients, validate


def summary(prefix: str, tallies: NDArray[np.float64]) -> dict[str, float]:
    """Means over the pixels that were seen, of sums over all ranks."""
    values = dict(zip(TALLIES, tallies.tolist(), strict=True))
    pixels = sum(tallies[2:])
    return {
        f"{prefix}loss": values["loss"] / pixels,
        f"{prefix}cross_entropy": values["cross_entropy"] / pixels,
        f"{prefix}accuracy": (values["clear_as_clear"] + values["cloud_as_cloud"]) / pixels,
    }


def until_target(records: Sequence[dict[str, Any]], target: float) -> dict[str, Any]:
    """Whether and when the validation accuracy reached a target, from the records of the epochs, first to last.

    The seconds are from the beginning of the first epoch to the end of the validation that said so, with all that was
    between: steps, validation, checkpoints, as in the time to train of MLPerf Training's rules. Where the target was not
    reached, `seconds_to_target` is None, and `target_epoch` and `target_seconds` are those of the last epoch: it takes more.
    """
    reached = next((record for record in records if record["val_accuracy"] >= target), None)
    last = reached or records[-1]
    return {
        "target": target,
        "target_reached": int(reached is not None),
        "target_epoch": last["epoch"],
        "target_seconds": last["elapsed"],
        "target_best": max(record["val_accuracy"] for record in records),
        "seconds_to_target": reached["elapsed"] if reached else None,
    }


def train(data: Path, out: Path, plan: Plan, backend: str) -> None:
    """Trains on the shards of `data` and writes model.weights.h5, epochs.jsonl and train.json into `out`.

    The weights are those of the epoch with the lowest validation loss. A checkpoint is written after every epoch; a run
    that finds one goes on from it, and on CPUs ends with the bytes of one that was never cut off.
    """
    import tensorflow as tf

    if plan.patience >= plan.epochs:
        raise ValueError(
            f"--patience {plan.patience} never acts in --epochs {plan.epochs}: it ends a training that many epochs behind "
            "its best one; give fewer, or 0 for none"
        )
    ranks = join(backend, plan.tf32)
    tf.keras.utils.set_random_seed(plan.seed)
    if plan.deterministic:
        tf.config.experimental.enable_op_determinism()
    plan = plan._replace(precision=agreed_precision(plan.precision, ranks))
    if plan.precision == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    training, validation = Shards(data, "training"), Shards(data, "validation")
    global_batch = plan.batch_size * ranks.size
    patches = round(plan.share * len(training))
    steps = patches // global_batch
    if steps == 0:
        raise ValueError(
            f"{patches} training patches do not fill one global batch of {plan.batch_size} x {ranks.size} ranks"
        )

    model = unet(plan.fused)
    if model.count_params() != PARAMETERS:
        raise ValueError(f"the network has {model.count_params()} parameters, not the reference's {PARAMETERS}")
    optimizer = tf.keras.optimizers.Adam(plan.learning_rate)
    optimizer.build(model.trainable_variables)
    step = Step(model, plan.positive_weight, plan.xla)
    done, best, best_epoch = (tf.Variable(value) for value in (0, np.float64(np.inf), 0))
    parts = {"model": model, "optimizer": optimizer, "done": done, "best": best, "best_epoch": best_epoch}
    checkpoint = tf.train.Checkpoint(**parts, joined=tf.Variable(JOINED))
    manager = tf.train.CheckpointManager(checkpoint, str(out / "checkpoints"), max_to_keep=2)
    best_weights = out / "model.weights.h5"
    if ranks.rank == 0 and manager.latest_checkpoint:
        known = tf.train.load_checkpoint(manager.latest_checkpoint)
        if not known.has_tensor("joined/.ATTRIBUTES/VARIABLE_VALUE"):
            raise ValueError(
                f"{manager.latest_checkpoint}: is of a network whose channels are joined in another order than the "
                f"reference's; its weights mean nothing here. Remove {out}, and train from the beginning"
            )
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    ranks.broadcast([*model.variables, *optimizer.variables, done, best, best_epoch])

    @tf.function
    def apply(gradients: Any) -> None:
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

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
        mine = np.arange(len(validation))[ranks.rank :: ranks.size]
        tallies = np.zeros(len(TALLIES))
        # In batches of one size, but for the last: each size is a graph of its own.
        for start in range(0, len(mine), plan.batch_size):
            images, classes = validation.read(mine[start : start + plan.batch_size])
            tallies += step.validate(tf.constant(images), tf.constant(classes)).numpy()
        return ranks.sum([tf.constant(tallies)])[0].numpy()

    # What goes on counts from what its finished epochs took; the time of one that was cut off is not known.
    began = time.perf_counter() - (records[-1]["elapsed"] if records else 0.0)
    for epoch in range(int(done), plan.epochs):
        if plan.patience and epoch - int(best_epoch) >= plan.patience:
            break
        mine = shares(patches, plan.batch_size, ranks.size, plan.seed, epoch)[ranks.rank]
        tallies = np.zeros(len(TALLIES))
        # Seconds of a rank: waiting for input, computing, and exchanging with the others (waiting for them in it).
        clock: dict[str, list[float]] = {"input": [], "compute": [], "exchange": []}
        batches = iter(training.batches(mine))
        ranks.sum([tf.constant(0.0)])  # rank 0 wrote a checkpoint, and waiting for that is no exchange
        for number in range(steps):
            marks = [time.perf_counter()]
            images, classes = next(batches)
            marks.append(time.perf_counter())
            gradients, part = step.gradients(images, classes)
            tallies += part.numpy()
            marks.append(time.perf_counter())
            # The pixels of all ranks count alike: sums are exchanged, and divided once by the global number of pixels.
            *gradients, pixels = ranks.sum([*gradients, tf.reduce_sum(part[2:])])
            marks.append(time.perf_counter())
            optimizer.learning_rate.assign(plan.rate(epoch * steps + number, steps, global_batch))
            apply([gradient / tf.maximum(pixels, 1.0) for gradient in gradients])
            marks.append(time.perf_counter())
            read, computed, exchanged, applied = np.diff(marks).tolist()
            for name, value in (("input", read), ("compute", computed + applied), ("exchange", exchanged)):
                clock[name].append(value)
        total = ranks.sum([tf.constant(tallies)])[0].numpy()
        # Of the steps but the first, whose graphs are traced; the mean of the ranks.
        warm = [sum(part[1:] if epoch == 0 else part) for part in clock.values()]
        warm = (ranks.sum([tf.constant(warm, tf.float64)])[0].numpy() / ranks.size).tolist()
        held_out = validate()
        if not np.isfinite([*total, *held_out]).all():
            raise ValueError(f"epoch {epoch + 1}: the loss is not finite (training {total[0]}, validation {held_out[0]})")
        record = {
            "epoch": epoch + 1,
            **summary("", total),
            **summary("val_", held_out),
            "patches": steps * global_batch,
            "seconds": sum(sum(part) for part in clock.values()),  # of the steps alone
            "elapsed": time.perf_counter() - began,  # since the first epoch began, with everything
            "steps": steps,
            "warm": dict(zip(clock, warm, strict=True)),
            "warm_patches": (steps - (epoch == 0)) * global_batch,
        }
        if record["val_loss"] < float(best):
            best.assign(record["val_loss"])
            best_epoch.assign(epoch + 1)
            if ranks.rank == 0:
                save(model, best_weights, radiometry=training.radiometry)
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
    memory = ranks.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    if ranks.rank == 0:
        (best_record,) = (record for record in records if record["epoch"] == int(best_epoch))
        clocks = {name: sum(record["warm"][name] for record in records) for name in ("input", "compute", "exchange")}
        result = {
            **plan._asdict(),
            **{key: value for key, value in best_record.items() if key.startswith(("loss", "acc", "cross", "val_"))},
            "best_epoch": int(best_epoch),
            "epochs_run": len(records),
            "backend": backend,
            "tensorflow": tf.__version__,
            "ranks": ranks.size,
            "devices": ranks.devices,
            "tf32": ranks.tf32,  # of each rank; asked for or not, only GPUs from Ampere on have it
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),  # of a rank; 0: as many as there are cores
            "oversubscribed": oversubscribed,
            "parameters": int(model.count_params()),
            "global_batch": global_batch,
            "label": training.label,
            "label_trusted": training.trusted,  # whatever its polarity
            "radiometry": training.radiometry,
            "training_scenes": training.scenes,
            "validation_scenes": validation.scenes,
            "training_patches": patches,
            "validation_patches": len(validation),
            "last_weights_sha256": digests[0],  # of the last epoch; model.weights.h5 has those of the best
            "seconds": sum(record["seconds"] for record in records),  # of the steps alone
            "elapsed": records[-1]["elapsed"],  # with validation and checkpoints
            "patches_per_second": sum(record["warm_patches"] for record in records) / sum(clocks.values()),
            "warm_seconds": clocks,
            "input_share": clocks["input"] / sum(clocks.values()),
            "peak_memory_gb": max(memory),
            **until_target(records, TARGET),
        }
        (out / "train.json").write_text(json.dumps(result, indent=1) + "\n")
