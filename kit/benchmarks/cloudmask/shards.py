"""Training patches on disk, one file (.npy) a scene, and how ranks read them: any patch at any time, in bounded memory.

A record holds the channels of a patch in half precision and the class of each pixel: 1.2 MB, a third of what the scene
takes in single precision. Half precision resolves 0.02 K and 0.0005 of reflectance, which is finer than the noise.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.cloudmask.patches import PATCH, UNSEEN, Label, load, training_patches

RECORD = np.dtype([("channels", "<f2", (PATCH, PATCH, 9)), ("label", "u1", (PATCH, PATCH))])
SPLITS = ("training", "validation")


def cut(job: tuple[Path, Path, Label]) -> dict[str, Any]:
    """Cuts one scene into the records of a shard, which appears whole or not at all; returns what is in it.

    Patches without one pixel that was seen are left out.
    """
    path, target, label = job
    scene = load(path, label)
    classes = training_patches(np.where(scene.seen, scene.cloud, UNSEEN).astype(np.uint8))
    some = (classes != UNSEEN).any(axis=(1, 2))
    records = np.empty(int(some.sum()), RECORD)
    records["channels"] = training_patches(scene.channels)[some]
    records["label"] = classes[some]
    partial = target.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, records)
    partial.rename(target)
    temperature = scene.channels[..., 7]
    cloud, clear = temperature[scene.seen & scene.cloud], temperature[scene.seen & ~scene.cloud]
    return {
        "scene": path.stem,
        "file": f"{target.parent.name}/{target.name}",
        "patches": len(records),
        "dropped": int((~some).sum()),
        "day": scene.day,
        "cloud_pixels": len(cloud),
        "clear_pixels": len(clear),
        "cloud_sum": float(cloud.sum(dtype=np.float64)),
        "clear_sum": float(clear.sum(dtype=np.float64)),
    }


def pack(data: Path, out: Path, label: Label) -> None:
    """Cuts the scenes of `data`/{training,validation} into shards and writes shards.json.

    ValueError for a label whose cloud is warmer than its clear sky: nothing else tells a mask that is read the wrong
    way round.
    """
    jobs = []
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
        jobs += [(path, out / split / f"{path.stem}.npy", label) for path in sorted((data / split).glob("*.hdf"))]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        shards = list(pool.map(cut, jobs))
    cloud, clear = (sum(shard[f"{name}_pixels"] for shard in shards) for name in ("cloud", "clear"))
    if not cloud or not clear:
        raise ValueError(f"{data}: label {label.source} marks {cloud} pixels cloud and {clear} clear: nothing to learn")
    kelvin = [
        270 + 22 * sum(shard[f"{name}_sum"] for shard in shards) / count
        for name, count in (("cloud", cloud), ("clear", clear))
    ]
    if kelvin[0] >= kelvin[1]:
        raise ValueError(
            f"{data}: what the label {label.source} ({label.bits}) marks as cloud is warmer, {kelvin[0]:.1f} K, than what "
            f"it calls clear, {kelvin[1]:.1f} K: it is read the wrong way round (positive: {label.positive})"
        )
    listing = {
        "label": label._asdict(),
        "cloud_fraction": cloud / (cloud + clear),
        "cloud_kelvin": kelvin[0],
        "clear_kelvin": kelvin[1],
        "shards": shards,
    }
    for split in SPLITS:
        listing[f"{split}_patches"] = sum(shard["patches"] for shard in shards if shard["file"].startswith(split))
        if not listing[f"{split}_patches"]:
            raise ValueError(f"{data / split}: no patches")
    (out / "shards.json").write_text(json.dumps(listing, indent=1) + "\n")


class Shards:
    """The patches of a split, numbered through."""

    def __init__(self, folder: Path, split: str) -> None:
        listing = json.loads((folder / "shards.json").read_text())
        self.label = listing["label"]
        shards = [shard for shard in listing["shards"] if shard["file"].startswith(f"{split}/")]
        self.scenes = [shard["scene"] for shard in shards]
        self.paths = [folder / shard["file"] for shard in shards]
        self.ends = np.cumsum([shard["patches"] for shard in shards])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Channels (n, 256, 256, 9) and classes (n, 256, 256) of some patches."""
        channels = np.empty((len(numbers), PATCH, PATCH, 9), np.float16)
        classes = np.empty((len(numbers), PATCH, PATCH), np.uint8)
        for place, number in enumerate(numbers):
            shard = int(np.searchsorted(self.ends, number, side="right"))
            # Mapped and let go: what was read does not pile up in the memory of the rank.
            record = np.load(self.paths[shard], mmap_mode="r")[number - self.ends[shard]]
            channels[place], classes[place] = record["channels"], record["label"]
        return channels, classes

    def batches(self, numbers: NDArray[np.int64]) -> Any:
        """A tf.data pipeline over numbers (steps, batch) that reads ahead of the step that is computed."""
        import tensorflow as tf

        def read(row: Any) -> tuple[Any, Any]:
            channels, classes = tf.numpy_function(self.read, [row], [tf.float16, tf.uint8])
            channels.set_shape((None, PATCH, PATCH, 9))
            classes.set_shape((None, PATCH, PATCH))
            return channels, classes

        return tf.data.Dataset.from_tensor_slices(numbers).map(read, num_parallel_calls=1).prefetch(2)
