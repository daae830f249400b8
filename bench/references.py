"""What the ports of references' schemes share: a clock around the epochs of Keras' `fit`, and what they print."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple


class Given(NamedTuple):
    data: Path  # as `kit data make` left them
    run: Path  # the directory of the kit's run on them
    seed: int
    size: dict[str, Any]  # the parameters of the size


def given() -> Given:
    data, run, seed, size = sys.argv[1:]
    return Given(Path(data), Path(run), int(seed), json.loads(size))


def scaled(size: dict[str, Any], batch: int) -> float:
    """The size's learning rate for another batch, by the rule that the kit scales with."""
    return float(size["learning_rate"] * (batch / size["reference_batch"]) ** 0.5)


def fitted(model: Any, batches: Any, steps: int, batch: int, epochs: int, score: Any, **more: float) -> None:
    """Fits, and prints samples a second of all epochs but the first, the best score of an epoch, seconds with scores, and
    what `more` was measured."""
    import tensorflow as tf

    times: list[float] = []
    scores: list[float] = []

    class Clock(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            times.append(time.perf_counter() - self.began)
            scores.append(float(score(model)))

    began = time.perf_counter()
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=[Clock()])
    seconds = time.perf_counter() - began
    speed = steps * batch * (epochs - 1) / sum(times[1:])
    print(json.dumps({"samples_per_second": speed, "score": max(scores), "seconds": seconds, "batch": batch, **more}))
