"""What TEvolOp gives the trainer. One process a rank:

mpirun -n 2 python -m kit.stages.tevolop train --data series --out train --model lstm --epochs 8
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.options import Options
from kit.stages.ml.task import Tally, Target, Task
from kit.stages.ml.train import train as train_task
from kit.stages.tevolop import grid
from kit.stages.tevolop.network import network
from kit.stages.tevolop.windows import Windows

# The least that the working group calls a score: its NNSE lies between 0.8 and 0.99.
TARGET = Target("nnse", 0.8)


def task(data: Path, model: str, units: int, rate: float = 0.0) -> Task:
    """A network on the windows of `data`. The loss is the squared error of the scaled magnitudes, of all horizons alike."""
    training, validation = Windows(data, "training"), Windows(data, "validation")

    def tally(model: Any, inputs: Any, targets: Any, training: bool) -> Tally:
        """A target that does not exist is in no loss, no count and no sum."""
        import tensorflow as tf

        predicted = model(inputs, training=training)
        there = tf.math.is_finite(targets)
        one, known = tf.cast(there, predicted.dtype), tf.where(there, targets, 0.0)
        # Not times the mask: NaN would stay.
        squares = tf.where(there, (predicted - known) ** 2, 0.0)
        of = [tf.reduce_sum(values, axis=0) for values in (one, known, known**2, squares)]
        loss, count = tf.reduce_sum(squares), tf.reduce_sum(one)
        return Tally(loss, count, tf.concat([tf.stack([loss, count]), *of], axis=0))

    return Task(
        unit="windows",
        target=TARGET,
        training=training,
        validation=validation,
        network=lambda: network(model, training.known.shape[2], units, rate),
        sums=2 + 4 * len(grid.WIDTHS),
        tally=tally,
        summary=summary,
        facts={
            "model": model,
            "units": units,
            "dropout": rate,
            "split": training.facts["split"],
            **{
                f"{name}_{key}": windows.split[key]
                for name, windows in (("training", training), ("validation", validation))
                for key in ("pixels", "first", "until")
            },
        },
    )


def summary(sums: NDArray[np.float64]) -> dict[str, float]:
    """The loss, and the NNSE over all windows: of each horizon, and the mean of those that have a target."""
    number, total, squares, errors = sums[2:].reshape(4, len(grid.WIDTHS))
    varied = squares - total**2 / np.maximum(number, 1)
    found = {f"nnse_{name}": nnse(v, e) for name, v, e in zip(grid.HORIZONS, varied.tolist(), errors.tolist(), strict=True)}
    there = [value for value, n in zip(found.values(), number, strict=True) if n > 1]
    return {"loss": float(sums[0] / sums[1]), "nnse": float(np.mean(there)) if there else 0.0, **found}


def nnse(varied: float, errors: float) -> float:
    """The normalised Nash-Sutcliffe efficiency, 1 / (2 - NSE) with NSE = 1 - errors / varied.

    `varied` is the sum of squared differences of the observations from their mean, `errors` that from what was predicted.
    Of nothing observed or nothing that varied it is 0: the fraction is 0/0 there or says nothing.
    """
    return varied / (varied + errors) if varied > 0 else 0.0


def train(data: Path, out: Path, options: Options, backend: str, model: str, units: int, dropout: float) -> None:
    """Trains a network; see `kit.stages.ml.train`."""
    train_task(task(data, model, units, dropout), out, options, backend)
