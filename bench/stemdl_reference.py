"""What STEMDL gains on the reference's scheme, in one process on the same files: stacks a second in training, warm.

    python bench/stemdl_reference.py DATA [ROUNDS] [BATCH]

It runs where TensorFlow is (in the image, with kit/ on the path), on a folder of generated data. The reference's
scheme (at-aaims/stemdl-benchmark, and its port by STFC), written anew for Keras: each stack is opened, scaled and
averaged again whenever it is trained on, one after the other, and the framework's own loop does the rest. The kit's
prepares shards once, whose time is stated beside, and trains from them in its own loop. Both train the same network
in single precision, without changes to the stacks. Rounds alternate; the speed-up is the median of their ratios.
Prints JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kit.stages.stemdl.prepare import files_in as all_files
from kit.stages.stemdl.prepare import prepare, split_by_material
from kit.stages.stemdl.read import area_mean, to_scale

SIDE, DEPTH, WIDTH = 64, 14, 16


def reference(files: list[Path], labels: list[int], batch: int) -> float:
    """Stacks a second of the second epoch of a Keras fit that reads each stack from its file."""
    import h5py
    import tensorflow as tf

    from kit.stages.stemdl.network import resnet

    samples: list[tuple[Path, str]] = []
    for path in files:
        with h5py.File(path, locking=False) as file:
            samples += [(path, name) for name in file]

    def load(sample: tuple[Path, str]) -> tuple[Any, int]:
        with h5py.File(sample[0], locking=False) as file:
            group = file[sample[1]]
            image = area_mean(to_scale(group["cbed_stack"][()]), SIDE).transpose(1, 2, 0)
            return image, labels.index(int(group.attrs["space_group"]))

    class Stacks(tf.keras.utils.Sequence):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(samples) // batch

        def __getitem__(self, number: int) -> tuple[Any, Any]:
            read = [load(sample) for sample in samples[number * batch : (number + 1) * batch]]
            return np.stack([image for image, _ in read]), np.array([label for _, label in read])

    times: list[float] = []

    class Clock(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            times.append(time.perf_counter() - self.began)

    tf.keras.utils.set_random_seed(1)
    model = resnet(DEPTH, WIDTH, len(labels), SIDE)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.AdamW(1e-3, weight_decay=5e-5), loss)
    model.fit(Stacks(), epochs=2, verbose=0, callbacks=[Clock()])
    return len(samples) // batch * batch / times[-1]


def ours(prepared: Path, out: Path, batch: int) -> float:
    """Stacks a second of the kit's training, warm."""
    words = ["train", "--data", str(prepared), "--out", str(out), "--backend", "single", "--epochs", "2"]
    words += ["--batch-size", str(batch), "--depth", str(DEPTH), "--width", str(WIDTH)]
    subprocess.run([sys.executable, "-m", "kit.stages.stemdl", *words], check=True, capture_output=True)
    return float(json.loads((out / "train.json").read_text())["samples_per_second"])


def main() -> None:
    data = Path(sys.argv[1])
    rounds, batch = (int(sys.argv[place]) if len(sys.argv) > place else other for place, other in ((2, 3), (3, 16)))
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared"
        prepared.mkdir()
        began = time.perf_counter()
        prepare(data, prepared, SIDE, "log", "none", 0.2, 1)
        seconds = time.perf_counter() - began
        labels = json.loads((prepared / "prepared.json").read_text())["labels"]
        files = split_by_material(all_files(data), "none", 1, 0.2)["training"]
        found: list[dict[str, float]] = []
        for number in range(rounds):
            ways = {"reference": lambda: reference(files, labels, batch)}
            out = Path(folder) / f"train{number}"
            ways["kit"] = lambda out=out: ours(prepared, out, batch)  # type: ignore[misc]
            order = list(ways) if number % 2 else list(ways)[::-1]
            found.append({name: ways[name]() for name in order})
    ratios = [entry["kit"] / entry["reference"] for entry in found]
    result = {"prepare_seconds": seconds, "rounds": found, "ratios": ratios, "speed_up": statistics.median(ratios)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
