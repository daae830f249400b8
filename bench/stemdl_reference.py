"""The reference's scheme of STEMDL, written anew, for `make bench/science`.

In the reference (at-aaims/stemdl-benchmark, and its port by STFC) each stack is opened, scaled and averaged again whenever
it is trained on, one after the other, in batches of 32, with random erasing, and the framework's own loop does the rest. The
kit prepares shards once, and trains from them in its own loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from references import fitted, given, scaled

from kit.stages.stemdl.augment import Augment, changed
from kit.stages.stemdl.network import resnet
from kit.stages.stemdl.prepare import files_in, split_by_material
from kit.stages.stemdl.read import area_mean, to_scale
from kit.stages.stemdl.statistics import classification
from kit.stages.stemdl.train import adamw

BATCH = 32


def main() -> None:
    import h5py
    import tensorflow as tf

    of = given()
    size = of.size
    tf.keras.utils.set_random_seed(of.seed)
    labels = json.loads((of.run / "prepared/prepared.json").read_text())["labels"]
    files = split_by_material(files_in(of.data), size["merge"], int(size["data_seed"]), float(size["held_out"]))

    def names(split: str) -> list[tuple[Path, str]]:
        found = []
        for path in files[split]:
            with h5py.File(path, locking=False) as file:
                found += [(path, name) for name in file]
        return found

    def load(sample: tuple[Path, str]) -> tuple[Any, int]:
        with h5py.File(sample[0], locking=False) as file:
            group = file[sample[1]]
            image = area_mean(to_scale(group["cbed_stack"][()]), int(size["side"])).transpose(1, 2, 0)
            return image, labels.index(int(group.attrs["space_group"]))

    training, validation = names("training"), names("validation")
    rng = np.random.default_rng(of.seed)
    how = Augment(mirror=size["mirror"] == "yes", zoom=float(size["zoom"]), erase=float(size["erase"]))

    def batches() -> Iterator[Any]:
        while True:
            for part in rng.permutation(len(training))[: len(training) // BATCH * BATCH].reshape(-1, BATCH):
                read = [load(training[number]) for number in part]
                # A stack at a time, as the reference changes them.
                images = [changed(image[None], how, rng)[0] for image, _ in read]
                yield np.stack(images), tf.one_hot([label for _, label in read], len(labels))

    held = [load(sample) for sample in validation]
    images, actual = np.stack([image for image, _ in held]), np.array([label for _, label in held])

    def f1(model: Any) -> float:
        called = model.predict(images, batch_size=BATCH, verbose=0).argmax(axis=1)
        table = np.zeros((len(labels), len(labels)))
        np.add.at(table, (actual, called), 1)
        return float(classification(table)["f1"])

    model = resnet(int(size["depth"]), int(size["width"]), len(labels), int(size["side"]))
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=float(size["smoothing"]))
    model.compile(adamw(scaled(size, BATCH)), loss)
    fitted(model, batches(), len(training) // BATCH, BATCH, int(size["epochs"]), f1)


if __name__ == "__main__":
    main()
