"""The space groups that the network of a run called, and the score that they have against data made again.

The stages of the run are walked again but for the two that need a network: what it called is the evidence, two bytes
a stack. The densities that it drew would take megabytes and are not kept; of them the baseline, what it was held
against, is computed again.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks import Parameters
from kit.benchmarks.stemdl.consistency import SCORE, own_separation
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import plain_file, read_table
from kit.training import judge

CALLED = "called.npy"
CLOSE = 1e-6  # relative: sums of squares, added in another order
# By how much a score may differ where the data made here are not, byte for byte, those of the run: another library rounds
# otherwise, a count of electrons becomes another one, and a baseline calls a few stacks otherwise. Densities have no noise.
ROUNDED = 0.02
ROUNDED_DENSITY = 0.005


def write_called(directory: Path, target: Path) -> None:
    """Writes the space groups that the network called, in the order of the test split."""
    path = plain_file(directory, "score/predictions.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            called = file["network"].astype(np.uint16)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise KitError(f"{path}: cannot be read ({error})") from None
    with target.open("wb") as file:
        np.save(file, called, allow_pickle=False)


def score_again(
    files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
) -> Iterator[tuple[str, str, str]]:
    """(rule, file, what is wrong) of what a run's network called and of the score that is said to be of it.

    On the bytes that the run had, everything of the space groups comes out the same, and the baseline of the densities. On
    other bytes, of another library, what the network called is counted alike, and all scores are compared, to `ROUNDED` and
    `ROUNDED_DENSITY`: baselines and margins may differ by a few stacks.
    """
    from kit.stages.stemdl.statistics import density_conclusions, group_conclusions

    name = f"evidence/{CALLED}"
    try:
        called = np.load(files[name], allow_pickle=False)
    except Exception:  # its header is read as Python, with all of its errors
        yield "evidence-form", name, "is no array of NumPy"
        return
    with tempfile.TemporaryDirectory(dir=paths.make_cached(paths.cache() / "scored-again")) as folder:
        again = scored(data, Path(folder), parameters, called)
        if isinstance(again, str):
            yield "evidence-form", name, again
            return
        units, labels, sums = again
    said = read_table(files[SCORE])
    if said["labels"] != labels:
        yield "evidence-score", SCORE, f"labels are {said['labels']}, but the data have {labels}"
        return
    kept = units if same_data else {unit: {"network": counts["network"]} for unit, counts in units.items()}
    for label, found, wanted in judge.differing(said["groups"]["per_unit"], kept, "groups.per_unit"):
        yield "evidence-score", SCORE, f"{label} is {found!r}, but the evidence comes to {wanted!r}"
    again = {**group_conclusions(units, labels), **own_separation(said["groups"])}
    if not same_data:
        del again["best_baseline"]  # of two that are near to each other, a few stacks decide
    for label, found, wanted in judge.differing(said["groups"], again, "groups", 1e-9 if same_data else ROUNDED):
        yield "evidence-score", SCORE, f"{label} is {found!r}, but the evidence comes to {wanted!r}"
    if not same_data:
        if bool(sums) != bool(said["density"]["stacks"]):
            yield "evidence-score", SCORE, f"density.stacks is {said['density']['stacks']!r}, which the data contradict"
        elif sums:
            # The sums of the network are the run's own; its margin over the baseline is of the data made here.
            mixed = {unit: {**said["density"]["per_unit"][unit], **values} for unit, values in sums.items()}
            for label, found, wanted in judge.differing(
                said["density"], density_conclusions(mixed), "density", ROUNDED_DENSITY
            ):
                yield "evidence-score", SCORE, f"{label} is {found!r}, but the data say {wanted!r}"
        return
    for unit, values in sums.items():
        for key, value in values.items():
            found = said["density"]["per_unit"][unit][key]
            if not abs(found - value) <= CLOSE * abs(value):
                yield "evidence-score", SCORE, f"density.per_unit.{unit}.{key} is {found!r}, but the data say {value!r}"


def scored(data: Path, folder: Path, parameters: Parameters, called: np.ndarray[Any, Any]) -> Any:
    """Counts of each material, labels, and the sums of the baseline of the densities; or what is wrong with the evidence."""
    from kit.stages.stemdl.prepare import prepare
    from kit.stages.stemdl.score import baselines, count_units, mean_density
    from kit.stages.stemdl.shards import Shards
    from kit.stages.stemdl.train import density_scale

    with contextlib.redirect_stdout(io.StringIO()):
        prepare(
            data,
            folder,
            int(parameters["side"]),
            str(parameters["values"]),
            str(parameters["merge"]),
            float(parameters["held_out"]),
            int(parameters["data_seed"]),
        )
    shards = Shards(folder, "testing", "space_group", "material")
    labels = shards.listing["labels"]
    if called.dtype != np.uint16 or called.shape != (len(shards),) or not np.isin(called, labels).all():
        return f"holds {called.dtype} {called.shape}, where {len(shards)} space groups of the data (uint16) are needed"
    actual, materials = shards.read(np.arange(len(shards)))
    units = shards.units(materials)
    counts = count_units(units, actual.astype(np.int64), {"network": called.astype(np.int64), **baselines(folder)})
    sums: dict[str, dict[str, float]] = {}
    if shards.listing["density"]:
        mean = mean_density(folder)
        middle, _ = density_scale(Shards(folder, "training", "density"))
        densities = Shards(folder, "testing", "density")
        for number, unit in enumerate(units):
            (truth,) = densities.read(np.array([number]))
            of_unit = sums.setdefault(unit, {"mean": 0.0, "spread": 0.0})
            of_unit["mean"] += float(((mean - truth[0].astype(np.float64)) ** 2).sum())
            of_unit["spread"] += float(((truth[0].astype(np.float64) - middle) ** 2).sum())
    return counts, labels, sums
