"""The kit's own network, trainer and predictor, in the TensorFlow that starts this. See peers_worker.py for the orders.

python bench/peers_ours.py FOLDER weights           writes FOLDER/model.weights.h5, by Keras
python bench/peers_ours.py FOLDER PRECISION         reads orders
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from peers_worker import LOSSES, RATE, Engine, given, serve

from kit.stages.cloudmask import train as cloudmask
from kit.stages.cloudmask.infer import predictor
from kit.stages.cloudmask.network import trained, unet
from kit.stages.ml.options import Options
from kit.stages.ml.ranks import join
from kit.stages.ml.train import train
from kit.stages.ml.weights import save


class Repeated:
    """A split of one batch, taken as often as it is asked for; notes the clocks when a batch is asked for.

    It is what training reads from in place of shards, so that what is timed is the kit's own loop and its step.
    """

    def __init__(self, images: Any, classes: Any, batches: int) -> None:
        self.fields, self.number = (images, classes), batches
        self.asked: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return self.number * len(self.fields[0])

    def read(self, numbers: Any) -> tuple[Any, ...]:
        return tuple(field[: len(numbers)] for field in self.fields)

    def batches(self, numbers: Any) -> Iterator[Any]:
        tensors = tuple(map(tf.constant, self.fields))
        for _ in numbers:
            self.asked.append((time.perf_counter(), time.process_time()))
            yield tensors


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    join("single")
    if what == "weights":
        tf.keras.utils.set_random_seed(1)
        save(unet(), folder / "model.weights.h5")
        return
    if what == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    weights = folder / "model.weights.h5"
    (folder / "shards.json").write_text(json.dumps({"label": {}, "shards": []}))  # splits of none, which are replaced
    data = given(folder)
    answer = predictor(trained(weights))

    def run(batches: int, epochs: int) -> tuple[Repeated, list[dict[str, Any]]]:
        """The kit's trainer, from the given weights; what it read from, and its records of the epochs."""
        images = data.images.astype(np.float16)  # as shards have them
        split, one = Repeated(images, data.classes, batches), Repeated(images[:1], data.classes[:1], 1)
        batch = len(data.images)
        options = Options(epochs, batch, RATE, reference_batch=batch, precision=what)
        with tempfile.TemporaryDirectory() as out:
            task = dataclasses.replace(
                cloudmask.task(folder), training=split, validation=one, network=lambda: trained(weights)
            )
            train(task, Path(out), options, "single")
            return split, [json.loads(line) for line in (Path(out) / "epochs.jsonl").read_text().splitlines()]

    def timed_train(steps: int) -> tuple[float, float]:
        split, _ = run(steps + 2, 1)  # the first is traced, and nobody asks for a batch behind the last
        (wall, cpu), (wall_end, cpu_end) = split.asked[1], split.asked[-1]
        return wall_end - wall, cpu_end - cpu

    def losses() -> list[float]:
        return [record["loss"] for record in run(1, LOSSES)[1]]

    def product(size: int) -> Any:
        kind = tf.bfloat16 if what == "bfloat16" else tf.float32
        one, other = (tf.cast(tf.random.normal((size, size)), kind) for _ in range(2))
        multiply = tf.function(tf.matmul)
        return lambda: multiply(one, other)

    def predict(images: Any) -> Any:
        return np.asarray(answer(tf.constant(images)))

    forced = os.environ.get("ONEDNN_MAX_CPU_ISA", "its best")
    version = f"TensorFlow {tf.__version__} (oneDNN: {forced})"
    serve(folder, Engine(version, predict, None, product, timed_train, losses))


if __name__ == "__main__":
    main()
