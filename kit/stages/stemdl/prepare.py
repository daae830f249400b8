"""Makes shards of the samples, and splits them by material: no crystal is on two sides.

Where the data have folders training, validation and testing, these are the splits: the published form. Otherwise the files
are split here, class by class, by the materials in them, from a seed.

    prepared.json       labels, classes, materials of each split, and the shards
    SPLIT/NNNN-N.npy    records of `record`, at most `MOST_RECORDS` in a file

A job is a file of HDF5, or some files of npz. Each leaves a note (SPLIT/NNNN.json) once its shards are whole, so that
a stage that was cut off goes on behind the jobs that are done.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit.stages.ml.shards import write
from kit.stages.stemdl.read import SUFFIXES, VALUES, Sample, read
from kit.stages.stemdl.whole import write_json

SPLITS = ("training", "validation", "testing")
MOST_RECORDS = 512
NPZ_OF_A_JOB = 1024
# The space groups that are each other's mirror image: 11 pairs (International Tables A).
ENANTIOMORPHS = {
    **{78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152},
    **{170: 169, 172: 171, 179: 178, 181: 180, 213: 212},
}
MERGES = ("none", "enantiomorphs")


class Job(NamedTuple):
    """Some files of one split, and how they are read."""

    split: str
    number: int
    paths: list[Path]
    side: int
    values: str
    merge: str

    @property
    def note(self) -> str:
        return f"{self.split}/{self.number:05d}.json"


def record(side: int, density: int) -> np.dtype[Any]:
    """The type of a record; `density` is the side of the projected density, 0 where there is none."""
    fields: list[Any] = [("image", "<f2", (side, side, 3)), ("space_group", "<i2"), ("material", "<i4")]
    return np.dtype([*fields, ("density", "<f2", (density, density, 3))] if density else fields)


def merged(space_group: int, merge: str) -> int:
    """The class of a space group: with enantiomorphs merged, the one of the pair with the lower number."""
    return ENANTIOMORPHS.get(space_group, space_group) if merge == "enantiomorphs" else space_group


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def inspect(path: Path, merge: str) -> tuple[str, int]:
    """Material and class of a generated file, of which each has one material; ValueError for one that does not say it."""
    import h5py

    if SUFFIXES[path.suffix] != "hdf5":
        raise ValueError(f"{path}: npz does not say its material; put it into a folder training, validation or testing")
    try:
        with h5py.File(path, locking=False) as file:
            said = {(str(group.attrs["material"]), int(group.attrs["space_group"])) for group in file.values()}
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path}: does not say the material and space_group of its samples ({str(error).splitlines()[0]}): it cannot "
            "be split without; put it into a folder training, validation or testing, or fetch it again"
        ) from None
    if len(said) != 1:
        raise ValueError(f"{path}: has samples of {len(said)} materials, where one is needed to split by files")
    ((material, group),) = said
    return material, merged(group, merge)


def split_by_material(paths: list[Path], merge: str, seed: int, held_out: float) -> dict[str, list[Path]]:
    """Files by split. Of each class a share `held_out` of the materials is for validation, as many for testing, one
    at least.

    Both hands of a crystal are one material and stay together. ValueError for a class of fewer than three materials, and
    for a material of two classes, which are split one by one.
    """
    of: dict[int, dict[str, list[Path]]] = {}
    first: dict[str, int] = {}
    for path in paths:
        material, group = inspect(path, merge)
        if (known := first.setdefault(material, group)) != group:
            hands = merged(known, "enantiomorphs") == merged(group, "enantiomorphs")
            out = (
                "make the two hands of a crystal one class: --merge enantiomorphs"
                if hands
                else "give each its own attribute material, or put the files into folders training, validation and testing"
            )
            raise ValueError(f"{path}: {material} is of space group {group}, but also of {known}; {out}")
        of.setdefault(group, {}).setdefault(material, []).append(path)
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for group, materials in sorted(of.items()):
        if len(materials) < 3:
            file = min(materials.values())[0]
            raise ValueError(
                f"{file}: space group {group}: {len(materials)} materials, and three splits need one each; add files of "
                "others (of generated data: parameter materials), or remove those of the group"
            )
        order = np.random.default_rng([seed, group]).permutation(sorted(materials))
        number = min(max(1, round(held_out * len(order))), (len(order) - 1) // 2)
        for split, part in zip(("testing", "validation", "training"), np.split(order, [number, 2 * number]), strict=True):
            found[split] += [path for name in part for path in materials[str(name)]]
    return {split: sorted(paths) for split, paths in found.items()}


def job(todo: Job, out: Path) -> dict[str, Any]:
    """Writes the shards of a job and its note; what the note says."""
    (out / todo.split).mkdir(exist_ok=True)
    note = out / todo.note
    # What a note must say to be of this job: the same files, read in the same way.
    facts = {"files": [str(path) for path in todo.paths], "side": todo.side, "values": todo.values, "merge": todo.merge}
    if note.is_file():
        known: dict[str, Any] = json.loads(note.read_text())
        if {key: known[key] for key in facts} == facts:
            return known
    materials: list[str] = []
    shards: list[dict[str, Any]] = []
    kept: list[Sample] = []
    counts: Counter[int] = Counter()

    def flush() -> None:
        density = kept[0].density
        rows = np.zeros(len(kept), record(todo.side, 0 if density is None else density.shape[0]))
        for row, sample in zip(rows, kept, strict=True):
            if (sample.density is None) != (density is None) or (
                density is not None and sample.density is not None and sample.density.shape != density.shape
            ):
                raise ValueError(f"{todo.paths[0]}: {sample.name} has another density than the samples before it")
            row["image"], row["space_group"] = sample.image, merged(sample.space_group, todo.merge)
            row["material"] = materials.index(sample.material) if sample.material else -1
            if sample.density is not None:
                # Relative to the mean of each projection, so that light and heavy crystals count alike.
                row["density"] = sample.density / sample.density.mean(axis=(0, 1))
        name = f"{todo.split}/{todo.number:05d}-{len(shards)}.npy"
        write(out / name, rows)
        shards.append({"file": name, "samples": len(rows), "density": 0 if density is None else density.shape[0]})
        kept.clear()

    for path in todo.paths:
        for sample in read(path, todo.side, todo.values):
            if sample.material and sample.material not in materials:
                materials.append(sample.material)
            counts[merged(sample.space_group, todo.merge)] += 1
            kept.append(sample)
            if len(kept) == MOST_RECORDS:
                flush()
    if kept:
        flush()
    said = {**facts, "split": todo.split, "materials": materials, "classes": sorted(counts.items()), "shards": shards}
    write_json(note, said)
    return said


def jobs(data: Path, side: int, values: str, merge: str, seed: int, held_out: float) -> Iterator[Job]:
    """What is to be done, in the order of the splits and of the names."""
    if (data / "training").is_dir():
        found = {split: files_in(data / split) for split in SPLITS}
    else:
        found = split_by_material(files_in(data), merge, seed, held_out)
    for split, paths in found.items():
        if not paths:
            raise ValueError(f"{data}: no samples (.h5, .npz) for {split}")
        single = [[path] for path in paths if SUFFIXES[path.suffix] == "hdf5"]
        many = [path for path in paths if SUFFIXES[path.suffix] == "npz"]
        parts = [*single, *(many[start : start + NPZ_OF_A_JOB] for start in range(0, len(many), NPZ_OF_A_JOB))]
        for number, part in enumerate(parts):
            yield Job(split, number, part, side, values, merge)


def prepare(data: Path, out: Path, side: int, values: str, merge: str, held_out: float, seed: int) -> None:
    """Writes the shards and prepared.json; ValueError for a material on two sides, and for what no reader takes."""
    for name, value, known in (("values", values, VALUES), ("merge", merge, MERGES)):
        if value not in known:
            raise ValueError(f"--{name} {value}: {' or '.join(known)} is needed")
    if not 0 < held_out < 0.5:
        raise ValueError(f"--held-out {held_out}: a share above 0 and below 0.5 is needed")
    todo = list(jobs(data, side, values, merge, seed, held_out))
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        notes = list(pool.map(job, todo, [out] * len(todo)))
    write_json(out / "prepared.json", listing(data, notes, side, merge), indent=1)


def listing(data: Path, notes: list[dict[str, Any]], side: int, merge: str) -> dict[str, Any]:
    """What prepared.json says, of the notes of all jobs."""
    classes = {split: Counter[int]() for split in SPLITS}
    materials: dict[str, set[str]] = {split: set() for split in SPLITS}
    shards = []
    for note in notes:
        classes[note["split"]].update(dict(note["classes"]))
        materials[note["split"]] |= set(note["materials"])
        # The materials of a shard are numbered within its job.
        shards += [{**shard, "split": note["split"], "materials": note["materials"]} for shard in note["shards"]]
    for one, other in (("training", "validation"), ("training", "testing"), ("validation", "testing")):
        both = sorted(materials[one] & materials[other])
        if both:
            raise ValueError(
                f"{data}: materials of {one} are in {other} as well: {', '.join(both[:5])}; move the files of each into one "
                "folder"
            )
    sides = {shard["density"] for shard in shards}
    if len(sides) != 1:
        raise ValueError(f"{data}: densities of different sizes ({', '.join(map(str, sorted(sides)))}; 0 is none)")
    labels = sorted(set().union(*classes.values()))
    counted = {split: {str(label): classes[split][label] for label in labels} for split in SPLITS}
    present = [number for number in counted["training"].values() if number]
    return {
        "side": side,
        "merge": merge,
        "merged": [[low, high] for high, low in sorted(ENANTIOMORPHS.items())] if merge == "enantiomorphs" else [],
        "labels": labels,  # the fixed list that scores are made over: all that occur in any split
        "classes": counted,
        "imbalance": max(present) / min(present),  # largest class of training over its smallest
        "untrained": [label for label in labels if not classes["training"][label]],  # nobody can learn these
        "samples": {split: sum(classes[split].values()) for split in SPLITS},
        "materials": {split: sorted(materials[split]) for split in SPLITS},
        "materials_known": all(materials.values()),
        "density": sides.pop(),
        "shards": shards,
    }
