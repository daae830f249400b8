"""How far a stage is from the truth of generated movies: drift, defocus, picks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit.benchmarks.relion.files import column
from kit.benchmarks.relion.movies import Drift
from kit.benchmarks.relion.phantom import Array


def drift_error(star: Path, drift: Drift, pixel_size: float) -> float:
    """Root mean square, in pixels, of what MotionCorr leaves of a micrograph's drift in its middle.

    `star` is the STAR file that MotionCorr writes for one micrograph; its shifts undo the drift, so they have the other
    sign. The origin of time is free: each path is taken about its own mean.
    """
    found = np.column_stack([column(star, "global_shift", f"rlnMicrographShift{axis}") for axis in "XY"])
    left = found + drift.at(0.0, 0.0) / pixel_size
    return float(np.sqrt(((left - left.mean(0)) ** 2).sum(1).mean()))


@dataclass(frozen=True)
class Astigmatism:
    """Defocus of a micrograph as a mean and a vector, in which U, V and angle are the same whichever way round they are."""

    mean: float  # angstrom
    vector: Array  # (2,) angstrom: (U - V) / 2 at twice the angle

    @classmethod
    def of(cls, u: float, v: float, angle: float) -> Astigmatism:
        twice = 2 * np.deg2rad(angle)
        return cls((u + v) / 2, (u - v) / 2 * np.array([np.cos(twice), np.sin(twice)]))


def defocus_error(found: Astigmatism, true: Astigmatism) -> tuple[float, float]:
    """Error of the mean defocus, and of the astigmatism, in angstrom."""
    return abs(found.mean - true.mean), float(np.hypot(*(found.vector - true.vector)))


@dataclass(frozen=True)
class Picks:
    """Picked positions held against true ones, matched one to one."""

    found: int
    true: int
    matched: int
    centre_error: float  # pixels: median distance of matched picks, their common offset taken off

    @property
    def precision(self) -> float:
        return self.matched / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.matched / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def match_picks(found: Array, true: Array, radius: float) -> Picks:
    """Matches picks (n, 2) to true positions (m, 2), both in pixels of one micrograph, so that most lie within `radius`.

    The assignment is the best of all (Hungarian method): no pick counts for two particles, no particle for two picks.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if not len(found) or not len(true):
        return Picks(len(found), len(true), 0, float("nan"))
    distance = cdist(found, true)
    # Beyond the radius all are equally wrong, so that the assignment counts pairs and only then minds their distance.
    rows, columns = linear_sum_assignment(np.where(distance <= radius, distance / radius, 1e3))
    near = distance[rows, columns] <= radius
    offset = found[rows[near]] - true[columns[near]]
    error = np.hypot(*(offset - np.median(offset, axis=0)).T) if near.any() else np.array([np.nan])
    return Picks(len(found), len(true), int(near.sum()), float(np.median(error)))
