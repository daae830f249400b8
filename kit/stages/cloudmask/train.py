"""What CloudMask gives the trainer. One process a rank:

mpirun -n 2 python -m kit.stages.cloudmask train --data patches --out train --epochs 8
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.network import PARAMETERS, unet
from kit.stages.cloudmask.patches import UNSEEN
from kit.stages.cloudmask.shards import Shards
from kit.stages.ml.options import Options
from kit.stages.ml.task import Tally, Target, Task
from kit.stages.ml.train import train as train_task

UNIT = "patches"
TARGET = Target("accuracy", 0.9)  # MLCommons Science policy
JOINED = 2  # a checkpoint has it whose network joins the upsampled field before the skip; earlier ones had it behind
SUMS = ("loss", "cross_entropy", "clear_as_clear", "clear_as_cloud", "cloud_as_clear", "cloud_as_cloud")


def task(data: Path, positive_weight: float = 1.0, fused: bool = True) -> Task:
    """The U-Net on the shards of `data`. `positive_weight` is that of the loss of cloud pixels; `fused` takes the network in
    the form with less arithmetic."""
    training, validation = Shards(data, "training"), Shards(data, "validation")

    def tally(model: Any, images: Any, classes: Any, training: bool) -> Tally:
        """Pixels that were not seen are in no loss, no count and no sum."""
        import tensorflow as tf

        logits = model(tf.cast(images, tf.float32), training=training)[..., 0]
        seen = classes != UNSEEN
        mask, cloud = tf.cast(seen, logits.dtype), tf.cast(classes == 1, logits.dtype)
        weighted = tf.nn.weighted_cross_entropy_with_logits(cloud, logits, positive_weight)
        # Not times the mask: a pixel that is not finite would stay so.
        loss = tf.reduce_sum(tf.where(seen, weighted, 0.0))
        plain = tf.reduce_sum(tf.where(seen, tf.nn.sigmoid_cross_entropy_with_logits(cloud, logits), 0.0))
        called = tf.cast(logits > 0, logits.dtype)
        counts = [tf.reduce_sum(mask * one * other) for one in (1 - cloud, cloud) for other in (1 - called, called)]
        sums = tf.stack([loss, plain, *counts])
        return Tally(loss, tf.reduce_sum(sums[2:]), sums)

    return Task(
        unit=UNIT,
        target=TARGET,
        training=training,
        validation=validation,
        network=lambda: unet(fused),
        parameters=PARAMETERS,
        sums=len(SUMS),
        tally=tally,
        summary=summary,
        facts={
            "positive_weight": positive_weight,
            "fused": fused,
            "label": training.label,
            "label_trusted": training.trusted,  # whatever its polarity
            "radiometry": training.radiometry,
            "training_scenes": training.scenes,
            "validation_scenes": validation.scenes,
        },
        attributes={"radiometry": training.radiometry},
        marks={"joined": JOINED},
        stale="a network whose channels are joined in another order than the reference's",
    )


def summary(sums: NDArray[np.float64]) -> dict[str, float]:
    """Means over the pixels that were seen, of sums over all ranks."""
    values = dict(zip(SUMS, sums.tolist(), strict=True))
    pixels = sum(sums[2:])
    return {
        "loss": values["loss"] / pixels,
        "cross_entropy": values["cross_entropy"] / pixels,
        "accuracy": (values["clear_as_clear"] + values["cloud_as_cloud"]) / pixels,
    }


def train(data: Path, out: Path, options: Options, backend: str, positive_weight: float, fused: bool) -> None:
    """Trains the U-Net; see `kit.stages.ml.train`."""
    train_task(task(data, positive_weight, fused), out, options, backend)
