"""What STEMDL gives the trainer: two tasks. One process a rank:

mpirun -n 2 python -m kit.stages.stemdl train --data prepared --out train --epochs 8
mpirun -n 2 python -m kit.stages.stemdl reconstruct --data prepared --out reconstruct --epochs 8
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.options import Options
from kit.stages.ml.ranks import join
from kit.stages.ml.task import Tally, Target, Task
from kit.stages.ml.train import train as train_task
from kit.stages.stemdl.augment import Augment, Changing
from kit.stages.stemdl.network import dense, dense_parameters, resnet, resnet_parameters
from kit.stages.stemdl.shards import Shards, places
from kit.stages.stemdl.statistics import classification
from kit.stages.stemdl.whole import write_json

NO_CHANGE = Augment()
UNIT = "stacks"
F1 = Target("f1", 0.9)  # MLCommons Science policy: "0.9 considered converged"
CORRELATION = Target("correlation", 0.9)  # of the kit: nobody states a target for the reconstruction
WEIGHT_DECAY = 5e-5  # at-aaims/stemdl-benchmark


def adamw(rate: float) -> Any:
    import tensorflow as tf

    return tf.keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)


def classify(
    data: Path, depth: int, width: int, smoothing: float = 0.0, augment: Augment = NO_CHANGE, seed: int = 0
) -> Task:
    """The residual network on the space groups of the shards; F1 is that of the whole split, over all labels.

    The loss is the cross-entropy to labels that are smoothed by `smoothing` (Szegedy et al. 2016, arXiv 1512.00567,
    section 7): a network that knows its few materials by heart is not driven to ever larger logits.
    """
    training = Changing(data, "training", "image", "space_group", how=augment, seed=seed)
    validation = Shards(data, "validation", "image", "space_group")
    labels, side = training.listing["labels"], training.listing["side"]
    classes, place = len(labels), places(labels)

    def tally(model: Any, images: Any, groups: Any, training: bool) -> Tally:
        import tensorflow as tf

        logits = model(tf.cast(images, tf.float32), training=training)
        actual = tf.gather(tf.constant(place), tf.cast(groups, tf.int32))
        wanted = tf.one_hot(actual, classes, 1 - smoothing + smoothing / classes, smoothing / classes)
        loss = tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
        called = tf.argmax(logits, axis=1, output_type=tf.int32)
        # Not in single precision throughout: a count is exact up to 2^24 in float32, which no batch reaches.
        table = tf.reshape(tf.math.confusion_matrix(actual, called, classes, dtype=loss.dtype), [-1])
        return Tally(loss, tf.cast(tf.size(actual), loss.dtype), tf.concat([[loss], table], axis=0))

    def summary(sums: NDArray[np.float64]) -> dict[str, float]:
        table = sums[1:].reshape(classes, classes)
        found = classification(table)
        return {"loss": float(sums[0] / table.sum()), "f1": found["f1"], "accuracy": found["accuracy"]}

    return Task(
        unit=UNIT,
        target=F1,
        training=training,
        validation=validation,
        network=lambda: resnet(depth, width, classes, side),
        parameters=resnet_parameters(depth, width, classes),
        sums=1 + classes**2,
        tally=tally,
        summary=summary,
        optimizer=adamw,
        facts={
            "depth": depth,
            "width": width,
            "smoothing": smoothing,
            "augment": augment._asdict(),
            "side": side,
            "labels": labels,
            "training_materials": training.listing["materials"]["training"],
            "validation_materials": training.listing["materials"]["validation"],
        },
        attributes={"labels": json.dumps(labels)},
    )


def density_scale(training: Shards) -> tuple[float, float]:
    """Mean and standard deviation of the densities of training, a shard at a time."""
    count, total, squares = 0, 0.0, 0.0
    for path in training.paths:
        values = np.load(path, mmap_mode="r")["density"].astype(np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + (values**2).sum()
    mean = total / count
    deviation = float(np.sqrt(squares / count - mean**2))
    if not deviation > 0:
        raise ValueError(
            f"{training.paths[0].parent}: density: those of training are all alike, and there is nothing to learn; make or "
            "fetch the data again, and prepare them again"
        )
    return float(mean), deviation


def redraw(data: Path, growth: int, blocks: int) -> Task:
    """The dense network on the projected densities. Errors are of densities that were standardised by those of training."""
    training, validation = (Shards(data, split, "image", "density") for split in ("training", "validation"))
    side, size = training.listing["side"], training.listing["density"]
    if side != 2 * size:
        raise ValueError(f"{data}: densities have {size} pixels a side and patterns {side}; half of it is needed")
    mean, deviation = density_scale(training)

    def tally(model: Any, images: Any, densities: Any, training: bool) -> Tally:
        import tensorflow as tf

        found = model(tf.cast(images, tf.float32), training=training)
        wanted = (tf.cast(densities, tf.float32) - mean) / deviation
        loss = tf.reduce_sum((found - wanted) ** 2)
        axes = [1, 2, 3]
        one = found - tf.reduce_mean(found, axes, keepdims=True)
        other = wanted - tf.reduce_mean(wanted, axes, keepdims=True)
        norms = tf.sqrt(tf.reduce_sum(one**2, axes) * tf.reduce_sum(other**2, axes))
        # Pearson's of each stack; of a constant one it is 0.
        correlation = tf.reduce_sum(tf.math.divide_no_nan(tf.reduce_sum(one * other, axes), norms))
        samples = tf.cast(tf.shape(wanted)[0], loss.dtype)
        values = tf.cast(tf.size(wanted), loss.dtype)
        return Tally(loss, values, tf.stack([loss, values, correlation, samples]))

    return Task(
        unit=UNIT,
        target=CORRELATION,
        training=training,
        validation=validation,
        network=lambda: dense(growth, blocks, side),
        parameters=dense_parameters(growth, blocks),
        sums=4,
        tally=tally,
        summary=lambda sums: {"loss": float(sums[0] / sums[1]), "correlation": float(sums[2] / sums[3])},
        facts={
            "growth": growth,
            "blocks": blocks,
            "side": side,
            "density_mean": mean,
            "density_deviation": deviation,
            "training_materials": training.listing["materials"]["training"],
            "validation_materials": training.listing["materials"]["validation"],
        },
    )


def train(
    data: Path, out: Path, options: Options, backend: str, depth: int, width: int, smoothing: float, augment: Augment
) -> None:
    """Trains the classifier; see `kit.stages.ml.train`."""
    train_task(classify(data, depth, width, smoothing, augment, options.seed), out, options, backend)


def reconstruct(data: Path, out: Path, options: Options, backend: str, growth: int, blocks: int) -> None:
    """Trains the reconstruction; where the data have no density, says so in train.json, and trains nothing."""
    if not json.loads((data / "prepared.json").read_text())["density"]:
        if join(backend).rank == 0:  # every rank comes here
            write_json(out / "train.json", {"trained": False, "reason": "the data have no densities"})
        return
    train_task(redraw(data, growth, blocks), out, options, backend)
