"""The maps and particles that a RELION run is judged by, and what its scores are when they are computed from them again."""

from __future__ import annotations

import functools
import shutil
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks import Writer
from kit.benchmarks.relion import accuracy, judge, maps
from kit.benchmarks.relion.consistency import EVALUATION
from kit.benchmarks.relion.workflow import folders
from kit.core.errors import KitError
from kit.core.files import open_plain, read_json, read_table

MAPS = ("half1.mrc", "half2.mrc", "mask.mrc", "map.mrc")
PARTICLES = "particles.star"
MOST_VOXELS = 512  # of a side; more memory than a check should take
WORD = {2: 4, 12: 2}  # bytes of a voxel by the mode of an MRC map: single and half precision
SAME_CURVE = 1e-3  # of an FSC: the gate of the metric fsc_difference; the sums are the same, RELION writes six decimals
# Of a correlation, an FSC against the truth, and degrees of a pose: the sums and splines are the same, on a truth that was
# made again, and differ by rounding alone. Not at all on the machine of the run; other machines were not tried.
SAME_SCORE = 1e-3
# FSC of two half maps, lowest over all shells, from which on they are one map twice. Honest halves do not share their
# noise, which is all there is in the highest shells: 0.005 at size tiny.
ONE_MAP = 0.99
# FSC of the mean of the half maps and the map of all particles, mean up to the shell that is reported. A run of tiny has
# 0.97: the map is the two halves joined, weighted otherwise. Maps that have nothing to do with each other have 0.
JOINED = 0.8


def writers(stages: Collection[str]) -> dict[str, Writer]:
    """Copies of the last refinement's half maps, map and mask, and of the first refinement's particles from movies."""

    def kind(name: str) -> bool:
        return any(stage.startswith(name) for stage in stages)

    if not all(map(kind, ("refine3d", "maskcreate", "postprocess"))):
        return {}
    places: dict[str, Callable[[dict[str, str]], str]] = {
        "half1.mrc": lambda jobs: f"{judge.last_job(jobs, 'refine3d')}run_half1_class001_unfil.mrc",
        "half2.mrc": lambda jobs: f"{judge.last_job(jobs, 'refine3d')}run_half2_class001_unfil.mrc",
        "mask.mrc": lambda jobs: f"{judge.last_job(jobs, 'maskcreate')}mask.mrc",
        "map.mrc": lambda jobs: f"{judge.last_job(jobs, 'refine3d')}run_class001.mrc",
    }
    if {"motioncorr", "refine3d"} <= set(stages):
        places[PARTICLES] = lambda jobs: f"{jobs['refine3d']}run_data.star"
    return {name: functools.partial(copied, place) for name, place in places.items()}


def copied(place: Callable[[dict[str, str]], str], directory: Path, target: Path) -> None:
    with open_plain(directory, place(folders(directory))) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def score_again(files: Mapping[str, Path], data: Path) -> Iterator[tuple[str, str, str]]:
    """(rule, file, what is wrong) of a run's maps and particles, and of evaluation.json, which is said to be of them."""
    problems = {name: unreadable(files[f"evidence/{name}"]) for name in MAPS}
    yield from (("evidence-form", f"evidence/{name}", problem) for name, problem in problems.items() if problem)
    if any(problems.values()):
        return
    read = {name: maps.read_map(files[f"evidence/{name}"]) for name in MAPS}
    found = {name: density for name, (density, _) in read.items()}
    pixels = {name: pixel for name, (_, pixel) in read.items()}
    strange = [name for name, density in found.items() if not np.isfinite(density).all()]
    yield from (("evidence-form", f"evidence/{name}", "holds what is no number") for name in strange)
    if strange:
        return
    if len({density.shape for density in found.values()}) > 1 or np.ptp(list(pixels.values())) > 1e-3:
        yield "evidence-form", "evidence/map.mrc", "map, half maps and mask have boxes or voxels of different sizes"
        return
    said = read_table(files[EVALUATION])
    yield from of_halves(files, found, pixels["map.mrc"], said)
    if (data / "truth.json").is_file():
        yield from of_truth(found["map.mrc"], pixels["map.mrc"], data, said)
        if f"evidence/{PARTICLES}" in files:
            yield from of_particles(files[f"evidence/{PARTICLES}"], data, said)


def unreadable(path: Path) -> str:
    """Why a file is no MRC map that can be read safely, by its header alone; empty if it is one.

    A header may claim any size: memory is only taken for a cube that the file has the bytes of.
    """
    with path.open("rb") as file:
        header = file.read(1024)
    if len(header) < 1024:
        return "is too short for an MRC map"
    columns, rows, sections, mode = struct.unpack_from("<4i", header)
    extended = struct.unpack_from("<i", header, 92)[0]
    if not (columns == rows == sections and 8 <= columns <= MOST_VOXELS):
        return f"is no cube of 8 to {MOST_VOXELS} voxels"
    if mode not in WORD:
        return f"has mode {mode}; 2 (single precision) and 12 (half precision) can be scored again"
    wanted = 1024 + extended + columns**3 * WORD[mode]
    if extended < 0 or path.stat().st_size != wanted:
        return f"has {path.stat().st_size} bytes, where its header asks for {wanted}"
    return ""


def of_halves(
    files: Mapping[str, Path], found: Mapping[str, maps.Array], pixel: float, said: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """The half maps are two, their FSC is the one that RELION reports, and the map is made of both."""
    first, second = found["half1.mrc"], found["half2.mrc"]
    plain = maps.fsc(first, second)
    if plain.min() > ONE_MAP:
        yield (
            "evidence-copy",
            "evidence/half2.mrc",
            (f"is half1.mrc again: their FSC is {plain.min():.3f} and more in every shell; halves do not share their noise"),
        )
    posts = sorted(name for name in files if name.endswith("postprocess.star"))
    if not posts:
        yield "evidence-missing", "PostProcess", "no postprocess.star is here, whose FSC the half maps could be held against"
        return
    try:
        again = judge.recomputed(files[posts[-1]], first, second, found["mask.mrc"], pixel)
    except KitError as error:
        yield "evidence-fsc", posts[-1], str(error).removeprefix(f"{files[posts[-1]]}: ")
        return
    if not again["fsc_difference"] <= SAME_CURVE:
        yield (
            "evidence-fsc",
            posts[-1],
            (
                f"its FSC differs by {again['fsc_difference']:.4f} from that of the half maps and the mask, "
                f"and {SAME_CURVE:g} may be rounding"
            ),
        )
    if not abs(again["recomputed_shell"] - said["postprocess"]["shell"]) <= 1:
        yield (
            "evidence-fsc",
            EVALUATION,
            (
                f"postprocess.shell is {said['postprocess']['shell']}, but the half maps and the mask come to "
                f"{again['recomputed_shell']}"
            ),
        )
    shells = slice(1, max(int(again["recomputed_shell"]), 1) + 1)
    joined = float(maps.fsc((first + second) / 2, found["map.mrc"])[shells].mean())
    if not joined >= JOINED:
        yield (
            "evidence-map",
            "evidence/map.mrc",
            (f"is not the map of both halves: its FSC with their mean is {joined:.2f}, and {JOINED} and more is expected"),
        )


def of_truth(density: maps.Array, pixel: float, data: Path, said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The map agrees with the truth as it is said to, when it is turned and shifted as is said: nothing is searched for."""
    held, shell = said["truth"], said["postprocess"]["shell"]
    rotation, shift = (tuple(float(v) for v in held[key]) for key in ("rotation_degrees", "shift_angstrom"))
    true = judge.truth_map(data, read_json(data / "truth.json"), len(density), pixel)
    moves = maps.Alignment(rotation, tuple(s / pixel for s in shift), bool(held["mirrored"]), 0.0, density)  # type: ignore[arg-type]
    aligned, mask = moves.apply(density), maps.sphere(len(true), judge.DIAMETER / pixel)
    correlation = maps.correlation(aligned, maps.low_pass(true, shell), mask)
    if not abs(correlation - held["correlation"]) <= SAME_SCORE:
        yield (
            "evidence-truth",
            EVALUATION,
            (f"truth.correlation is {held['correlation']!r}, but map.mrc has {correlation:.6f} with the truth"),
        )
    curve, stated = maps.fsc(aligned * mask, true * mask), np.asarray(said["fsc"]["truth"], dtype=float)
    if stated.shape != curve.shape or not np.abs(stated - curve).max() <= SAME_SCORE:
        yield "evidence-truth", EVALUATION, "fsc.truth is not the FSC of map.mrc and the truth"


def of_particles(star: Path, data: Path, said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The particles lie where those of the data lie, and are turned as well as is said."""
    matched = accuracy.Truth.read(data).match(star)
    if not len(matched):
        yield "evidence-particles", f"evidence/{PARTICLES}", "not one of its particles lies where the data have one"
        return
    again, stated = judge.poses(matched), said["refine3d"]
    for label, found, wanted in (
        ("particles", stated["particles"], again["particles"]),
        ("pose.error", stated["pose"]["error"], again["pose"]["error"]),
        ("purity", stated["purity"], again["purity"]),
    ):
        if not abs(found - wanted) <= SAME_SCORE:
            yield (
                "evidence-particles",
                EVALUATION,
                (f"refine3d.{label} is {found!r}, but {PARTICLES} comes to {wanted!r} against the data"),
            )
