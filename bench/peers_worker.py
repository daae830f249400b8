"""What an engine of bench/peers.py does: it reads orders, one line of JSON each, and answers with one line of JSON.

An engine offers `predict`, from images (n, rows, columns, 9) to the probability of cloud (n, rows, columns), and may offer
to train and to multiply matrices. The folder has what all engines share: `given.npz` with images, classes (0 clear, 1 cloud,
2 not seen) and a scene, and `weights.npz` with the arrays of the network in its order.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

UNSEEN = 2
# As the kit trains: Keras' Adam and its defaults.
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7
LOSSES = 4  # steps whose losses are compared


class Engine(NamedTuple):
    version: str
    predict: Callable[[Any], Any]
    step: Callable[[Any, Any], float] | None = None  # one of training, with images and classes; its loss before it
    product: Callable[[int], Callable[[], object]] | None = None  # of two square matrices of a size, made beforehand
    # Where an engine has a loop of its own: seconds of wall clock and of all processors of a number of steps, and the losses
    # of the first LOSSES steps from the given weights.
    train: Callable[[int], tuple[float, float]] | None = None
    losses: Callable[[], list[float]] | None = None


class Given(NamedTuple):
    images: Any  # (batch, 256, 256, 9) float32
    classes: Any  # (batch, 256, 256) uint8
    scene: Any  # (1, rows, columns, 9) float32
    weights: list[Any]  # kernel (rows, columns, in, out), bias (out,), the next


def given(folder: Path) -> Given:
    with np.load(folder / "given.npz") as file, np.load(folder / "weights.npz") as weights:
        arrays = [weights[f"arr_{number}"] for number in range(len(weights.files))]
        return Given(file["images"], file["classes"], file["scene"], arrays)


def layers(weights: list[Any]) -> list[tuple[Any, Any]]:
    """Kernel and bias of each convolution, first to last."""
    return list(zip(weights[::2], weights[1::2], strict=True))


def timed(action: Callable[[], object], times: int) -> tuple[float, float]:
    """Seconds of wall clock and of all processors that an action took, the given number of times."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        action()
    return time.perf_counter() - wall, time.process_time() - cpu


def orders() -> Iterator[tuple[dict[str, Any], Callable[[Any], None]]]:
    """Each order with the function that answers it. What libraries print goes to the errors."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:

        def answer(value: Any) -> None:
            print(json.dumps(value), file=answers, flush=True)

        yield json.loads(line), answer


def serve(folder: Path, engine: Engine) -> None:
    data = given(folder)
    step = engine.step

    def losses() -> list[float]:
        assert step
        return [step(data.images, data.classes) for _ in range(LOSSES)]

    def train(steps: int) -> tuple[float, float]:
        assert step
        return timed(lambda: step(data.images, data.classes), steps)

    trains = engine.train or (train if step else None)
    for order, answer in orders():
        match order["do"]:
            case "facts":
                answer({"version": engine.version, "trains": bool(trains), "multiplies": bool(engine.product)})
            case "answers":  # before any training, which changes the weights
                parts = {"patches": engine.predict(data.images), "scene": engine.predict(data.scene)}
                if trains:
                    parts["losses"] = np.array((engine.losses or losses)())
                np.savez(order["to"], **parts)
                answer({})
            case "train":
                assert trains
                answer(trains(order["times"]))
            case "infer":
                answer(timed(lambda: engine.predict(data.scene), order["times"]))
            case "infer patches":
                answer(timed(lambda: engine.predict(data.images), order["times"]))
            case "product":
                assert engine.product
                multiply = engine.product(order["size"])
                multiply()
                answer(timed(multiply, order["times"]))
