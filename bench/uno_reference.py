"""Samples a second in training: the scheme of the reference against the kit's, on the same data, in one process.

The reference (ECP-CANDLE/Benchmarks, Pilot1/Uno, --use_exported_data) has Keras' `model.fit` read each batch from the pandas
store when it is needed, whole rows of features from the table of the file. This is that scheme, written anew: a generator
over the HDF5 tables, Keras' own dropout, and `fit`. The kit gathers from tables of cell lines and drugs. Both take the same
network, batch and optimiser, in turns, so that what else the machine does meets both.

    PYTHONPATH=$PWD python bench/uno_reference.py DATA [--batch-size 32] [--steps 20] [--rounds 3]

DATA is a folder that `kit data make uno` filled. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.uno.responses import FILE
from kit.stages.ml import dropout
from kit.stages.ml.train import Step
from kit.stages.uno.network import DESCRIPTORS, GENES
from kit.stages.uno.prepare import prepare
from kit.stages.uno.train import adamax, task


def reference_network() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers

    def stack(x: Any, number: int) -> Any:
        for _ in range(number):
            x = layers.Dropout(0.1)(layers.Dense(1000, activation="relu")(x))
        return x

    inputs = [layers.Input((GENES,)), layers.Input((DESCRIPTORS,))]
    joined = layers.Concatenate()([stack(x, 3) for x in inputs])
    return tf.keras.Model(inputs, layers.Dense(1)(stack(joined, 5)))


def reference(data: Path, batch: int, steps: int) -> Any:
    """A function that trains `steps` steps as the reference does, and returns its seconds."""
    import h5py

    model = reference_network()
    model.compile(loss="mean_squared_error", optimizer=adamax(1e-4), metrics=["mae"])
    file = h5py.File(data / FILE, "r")

    def batches() -> Iterator[Any]:
        rows = len(file["y_train/table"])
        start = 0
        while True:
            here = slice(start, start + batch)
            x = tuple(file[f"x_train_{place}/table"][here]["values_block_0"] for place in (0, 1))
            yield x, file["y_train/table"][here]["values_block_0"][:, 0]
            start = start + batch if start + 2 * batch <= rows else 0

    given = batches()

    def run() -> float:
        began = time.perf_counter()
        model.fit(given, steps_per_epoch=steps, epochs=1, verbose=0)
        return time.perf_counter() - began

    return run


def ours(rows: Path, batch: int, steps: int) -> Any:
    """The same with the kit's network, records and step."""
    import tensorflow as tf

    of = task(rows)
    model = of.network()
    dropout.number(model, 1, 0)
    optimizer = adamax(1e-4)
    optimizer.build(model.trainable_variables)
    step = Step(of, model)

    @tf.function
    def apply(gradients: Any) -> None:
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    def run() -> float:
        order = np.random.default_rng(1).permutation(len(of.training))[: steps * batch]
        began = time.perf_counter()
        for fields in of.training.batches(order.reshape(-1, batch)):
            gradients, count, _ = step.gradients(*fields)
            apply([gradient / count for gradient in gradients])
        return time.perf_counter() - began

    return run


def in_memory(rows: Path, batch: int, steps: int) -> Any:
    """The same step on one batch that is in memory already: what reading costs is the difference."""
    import tensorflow as tf

    of = task(rows)
    fields = [tf.constant(field) for field in of.training.read(np.arange(batch))]
    whole = ours(rows, batch, steps)
    records = of.training.__class__
    kept = records.batches

    def run() -> float:
        records.batches = lambda self, numbers: [fields] * len(numbers)  # type: ignore[method-assign]
        try:
            return float(whole())
        finally:
            records.batches = kept  # type: ignore[method-assign]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder)
        prepare(given.data / FILE, rows, "random", 1)
        ways = {
            "reference": reference(given.data, given.batch_size, given.steps),
            "kit": ours(rows, given.batch_size, given.steps),
            "kit_in_memory": in_memory(rows, given.batch_size, given.steps),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.rounds + 1):
            for name, run in ways.items():
                took = run()
                if turn:  # the first traces graphs
                    seconds[name].append(took)
    samples = given.steps * given.batch_size
    rates = {name: samples / statistics.median(took) for name, took in seconds.items()}
    best = {name: samples / min(took) for name, took in seconds.items()}  # where others use the machine as well
    print(json.dumps({"unit": "samples/s", "median": rates, "best": best}))


if __name__ == "__main__":
    main()
