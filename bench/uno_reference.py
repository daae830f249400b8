"""The reference's scheme of CANDLE-UNO, written anew, for `make bench/science`.

The reference (ECP-CANDLE/Benchmarks, Pilot1/Uno, --use_exported_data) has Keras' `model.fit` read each batch of 32 from the
pandas store when it is needed, whole rows of features from the table of the file, and Keras' own dropout. The kit gathers
from tables of cell lines and drugs, takes a larger batch, and moves the 16 million parameters in one loop.

Beside it stands what reading costs the kit: samples a second of its step on batches that are read, over those of the same
step on one batch that is in memory, in turns in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from references import fitted, given, scaled

from kit.benchmarks.uno.responses import FILE
from kit.stages.ml import dropout
from kit.stages.ml.train import Step, updating
from kit.stages.uno.network import DESCRIPTORS, GENES
from kit.stages.uno.train import adamax, task

BATCH = 32  # uno_auc_model.txt


def network() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers

    def stack(x: Any, number: int) -> Any:
        for _ in range(number):
            x = layers.Dropout(0.1)(layers.Dense(1000, activation="relu")(x))
        return x

    inputs = [layers.Input((GENES,)), layers.Input((DESCRIPTORS,))]
    joined = layers.Concatenate()([stack(x, 3) for x in inputs])
    return tf.keras.Model(inputs, layers.Dense(1)(stack(joined, 5)))


def streamed(rows: Path, batch: int, steps: int = 10, rounds: int = 3) -> float:
    """Samples a second from disk over those from memory, the median of the rounds."""
    import tensorflow as tf

    of = task(rows)
    model = of.network()
    dropout.number(model, 1, 0)
    optimizer = adamax(1e-4)
    optimizer.build(model.trainable_variables)
    step, update = Step(of, model), updating(model, optimizer)
    order = np.random.default_rng(1).permutation(len(of.training))[: steps * batch].reshape(-1, batch)
    fields = [tf.constant(field) for field in of.training.read(order[0])]

    def seconds(batches: Any) -> float:
        began = time.perf_counter()
        for each in batches:
            gradients, count, _ = step.gradients(*each)
            update(gradients, count)
        return time.perf_counter() - began

    seconds([fields])  # traces the graphs
    return statistics.median(seconds([fields] * len(order)) / seconds(of.training.batches(order)) for _ in range(rounds))


def main() -> None:
    import h5py
    import tensorflow as tf

    of = given()
    tf.keras.utils.set_random_seed(of.seed)
    model = network()
    model.compile(loss="mean_squared_error", optimizer=adamax(scaled(of.size, BATCH)))
    file = h5py.File(of.data / FILE, "r")
    rows = len(file["y_train/table"])
    order = np.random.default_rng(of.seed)

    def batches() -> Iterator[Any]:
        while True:
            for number in order.permutation(rows // BATCH):
                here = slice(number * BATCH, (number + 1) * BATCH)
                x = tuple(file[f"x_train_{place}/table"][here]["values_block_0"] for place in (0, 1))
                yield x, file["y_train/table"][here]["values_block_0"][:, 0]

    held = [file[f"x_val_{place}/table"][:]["values_block_0"] for place in (0, 1)]
    wanted = file["y_val/table"][:]["values_block_0"][:, 0]

    def r2(model: Any) -> float:
        found = model.predict(held, batch_size=256, verbose=0)[:, 0]
        return float(1 - ((found - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum())

    share = streamed(of.run / "rows", int(of.size["batch_size"]))  # first, so that no other graph is in memory
    fitted(model, batches(), rows // BATCH, BATCH, int(of.size["epochs"]), r2, streamed=share)


if __name__ == "__main__":
    main()
