"""Samples a second in training: the scheme of the reference against the kit's, on the same data, in one process.

The reference (mlcommons/science, benchmarks/earthquake, a notebook) cuts all windows out of the series first, holds them in
memory and trains an LSTM on them with Keras' `model.fit`. This is that scheme, written anew. The kit cuts the windows of a
batch out of mapped series when they are asked for. Both take the same network without dropout, the same loss, batch and
optimiser, in turns, so that what else the machine does meets both; of each turn an epoch counts that is not the first, for
which `fit` copies its arrays. Beside it stand the bytes that all windows have, and those of the series.

    PYTHONPATH=$PWD python bench/tevolop_reference.py DATA [--days 14610] [--pixels 40] [--batch-size 64] [--steps 100]

DATA is a folder that `kit data make tevolop --size tiny` filled, which has as many days. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kit.stages.ml.task import adam
from kit.stages.ml.train import Step
from kit.stages.tevolop.prepare import prepare
from kit.stages.tevolop.train import task

UNITS, RATE = 64, 1e-3


def reference(series: Path, batch: int, steps: int) -> Any:
    """A function that trains two epochs of `steps` steps as the reference does, and returns the seconds of the second."""
    import tensorflow as tf

    of = task(series, "lstm", UNITS)
    inputs, targets = of.training.read(np.arange(len(of.training)))
    model = of.network()

    def loss(observed: Any, predicted: Any) -> Any:
        there = tf.math.is_finite(observed)
        squares = tf.where(there, (predicted - tf.where(there, observed, 0.0)) ** 2, 0.0)
        return tf.reduce_sum(squares) / tf.reduce_sum(tf.cast(there, predicted.dtype))

    times: list[float] = []

    class Clock(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            times.append(time.perf_counter() - self.began)

    model.compile(loss=loss, optimizer=adam(RATE))

    def run() -> float:
        part = np.random.default_rng(1).permutation(len(inputs))[: steps * batch]
        model.fit(inputs[part], targets[part], batch_size=batch, epochs=2, verbose=0, callbacks=[Clock()])
        return times[-1]

    return run


def ours(series: Path, batch: int, steps: int) -> Any:
    """An epoch with the kit's windows and step."""
    import tensorflow as tf

    of = task(series, "lstm", UNITS)
    model = of.network()
    optimizer = adam(RATE)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--days", type=int, default=14610)
    parser.add_argument("--pixels", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        series = Path(folder)
        with contextlib.redirect_stdout(io.StringIO()):  # for the one line of JSON
            prepare(given.data, series, given.days, given.pixels, "location", 1, 1, 2.5, 0.01)
        windows = task(series, "lstm", UNITS).training
        steps = min(given.steps, len(windows) // given.batch_size)
        if not steps:
            parser.error(f"--batch-size {given.batch_size}: the training has {len(windows)} windows; take a smaller batch")
        ways = {name: way(series, given.batch_size, steps) for name, way in (("reference", reference), ("kit", ours))}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.rounds + 1):
            for name in list(ways) if turn % 2 else list(ways)[::-1]:
                took = ways[name]()
                if turn:  # the first traces graphs
                    seconds[name].append(took)
        size = {
            "windows_bytes": len(windows) * sum(f.base.itemsize * int(np.prod(f.shape)) for f in windows.fields()),  # type: ignore[attr-defined]
            "series_bytes": sum((series / f"{name}.npy").stat().st_size for name in ("inputs", "targets")),
        }
    samples = steps * given.batch_size
    rates = {name: samples / statistics.median(took) for name, took in seconds.items()}
    best = {name: samples / min(took) for name, took in seconds.items()}  # where others use the machine as well
    ratios = [theirs / own for theirs, own in zip(seconds["reference"], seconds["kit"], strict=True)]
    print(json.dumps({"unit": "windows/s", "median": rates, "best": best, "ratios": ratios, "steps": steps, **size}))


if __name__ == "__main__":
    main()
