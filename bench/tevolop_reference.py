"""The reference's scheme of TEvolOp, written anew, for `make bench/science`.

The reference (mlcommons/science, benchmarks/earthquake, a notebook) cuts all windows out of the series first, holds them in
memory and trains on them with Keras' `model.fit`, in batches of 64. The kit cuts the windows of a batch out of mapped series
when they are asked for, and takes a larger batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from references import fitted, given, scaled

from kit.stages.ml import dropout
from kit.stages.ml.task import adam
from kit.stages.tevolop.train import task

BATCH = 64


def main() -> None:
    import tensorflow as tf

    of = given()
    tf.keras.utils.set_random_seed(of.seed)
    windows = task(of.run / "series", of.size["model"], int(of.size["units"]), float(of.size["dropout"]))
    inputs, targets = windows.training.read(np.arange(len(windows.training)))
    held = windows.validation.read(np.arange(len(windows.validation)))
    model = windows.network()
    dropout.number(model, of.seed, 0)
    rng = np.random.default_rng(of.seed)

    def loss(observed: Any, predicted: Any) -> Any:
        there = tf.math.is_finite(observed)
        squares = tf.where(there, (predicted - tf.where(there, observed, 0.0)) ** 2, 0.0)
        return tf.reduce_sum(squares) / tf.reduce_sum(tf.cast(there, predicted.dtype))

    def batches() -> Iterator[Any]:
        while True:
            for part in rng.permutation(len(inputs))[: len(inputs) // BATCH * BATCH].reshape(-1, BATCH):
                yield inputs[part], targets[part]

    def nnse(model: Any) -> float:
        sums = sum(
            windows.tally(model, *(tf.constant(field[start : start + 256]) for field in held), training=False).sums.numpy()
            for start in range(0, len(held[0]), 256)
        )
        return float(windows.summary(np.asarray(sums, np.float64))["nnse"])

    model.compile(loss=loss, optimizer=adam(scaled(of.size, BATCH)))
    fitted(model, batches(), len(inputs) // BATCH, BATCH, int(of.size["epochs"]), nnse)


if __name__ == "__main__":
    main()
