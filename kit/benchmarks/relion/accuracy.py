"""Compares each stage of a workflow with the truth of generated movies: drift, defocus, picks, classes, poses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.movies import Drift
from kit.benchmarks.relion.phantom import Array
from kit.benchmarks.relion.star import column, read_star
from kit.core.errors import KitError
from kit.core.files import read_json

if TYPE_CHECKING:
    import pandas as pd


def global_shifts(star: Path) -> Array:
    """Shifts (frames, 2), in pixels, of the STAR file that MotionCorr writes for one micrograph."""
    return np.column_stack([column(star, "global_shift", f"rlnMicrographShift{axis}") for axis in "XY"])


def drift_error(star: Path, drift: Drift, pixel_size: float) -> float:
    """Root mean square, in pixels, of what MotionCorr leaves of a micrograph's drift in its middle.

    `star` is the STAR file that MotionCorr writes for one micrograph; its shifts undo the drift, so they have the other
    sign. The origin of time is free: each path is taken about its own mean.
    """
    left = global_shifts(star) + drift.at(0.0, 0.0) / pixel_size
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

    def as_dict(self) -> dict[str, float | None]:
        """NaN as None, because JSON has no NaN."""
        error = self.centre_error if np.isfinite(self.centre_error) else None
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, "centre_error": error}


def assign(found: Array, true: Array, radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of picks (n, 2) and true positions (m, 2), both in pixels of one micrograph, that lie within `radius`.

    The assignment is the best of all (Hungarian method): no pick counts for two particles, no particle for two picks.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if not len(found) or not len(true):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    distance = cdist(found, true)
    # Beyond the radius all are equally wrong, so that the assignment counts pairs and only then minds their distance.
    rows, columns = linear_sum_assignment(np.where(distance <= radius, distance / radius, 1e3))
    near = distance[rows, columns] <= radius
    return rows[near], columns[near]


def match_picks(found: Array, true: Array, radius: float) -> Picks:
    """Holds the picks (n, 2) of one micrograph against its true positions (m, 2); all in pixels."""
    rows, columns = assign(found, true, radius)
    offset = found[rows] - true[columns]
    error = np.hypot(*(offset - np.median(offset, axis=0)).T) if len(rows) else np.array([np.nan])
    return Picks(len(found), len(true), len(rows), float(np.median(error)))


@dataclass(frozen=True)
class Truth:
    """What movies.generate wrote down of a session: `facts` of truth.json, and a row a particle of truth.star."""

    facts: dict[str, Any]
    particles: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Truth:
        rows = read_star(folder / "truth.star")["particles"]
        return cls(read_json(folder / "truth.json"), rows.assign(stem=stems(rows["rlnMicrographName"])))

    @property
    def pixel_size(self) -> float:
        return float(self.facts["pixel_size"])

    @property
    def radius(self) -> float:
        """Pixels within which a pick is of a particle: half a particle's room."""
        return float(self.facts["spacing"]) / 2 / self.pixel_size

    @property
    def micrographs(self) -> list[str]:
        return list(dict.fromkeys(self.particles["stem"]))

    def drift(self, stem: str) -> Drift:
        entry = self.facts["drifts"][self.micrographs.index(stem)]
        return Drift(**{key: np.array(value) for key, value in entry.items()})

    def astigmatism(self, stem: str) -> Astigmatism:
        lens = self.facts["lenses"][self.micrographs.index(stem)]
        return Astigmatism.of(lens["defocus_u"], lens["defocus_v"], lens["angle"])

    def positions(self, stem: str) -> Array:
        rows = self.particles[self.particles["stem"] == stem]
        return rows[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()

    def match(self, star: Path) -> pd.DataFrame:
        """The particles of a STAR file beside those of the truth that they are, whose columns end in `True`.

        A particle lies where it was cut out, less its origin. Particles that are none of the truth's are left out.
        """
        import pandas as pd

        found = read_star(star)["particles"]
        found = found.assign(stem=stems(found["rlnMicrographName"]))
        places = found[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(dtype=float)
        if "rlnOriginXAngst" in found:
            places = places - found[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(dtype=float) / self.pixel_size
        parts = []
        for stem in self.micrographs:
            here = np.flatnonzero(found["stem"] == stem)
            true = self.particles[self.particles["stem"] == stem]
            rows, columns = assign(places[here], self.positions(stem), self.radius)
            left = found.iloc[here[rows]].reset_index(drop=True)
            right = true.iloc[columns].reset_index(drop=True)
            parts.append(left.merge(right, left_index=True, right_index=True, suffixes=("", "True")))
        return pd.concat(parts, ignore_index=True)


def stems(names: Iterable[str]) -> list[str]:
    return [Path(name).stem for name in names]


def of_micrograph(directory: Path, folder: str, name: str) -> Path:
    """A file that a job wrote for one micrograph, somewhere below its folder; KitError when there is none."""
    files = sorted((directory / folder).glob(f"**/{name}"))
    if not files:
        raise KitError(f"{directory / folder}: no {name}; the job wrote nothing for this micrograph")
    return files[0]


def positions(directory: Path, folder: str, stem: str) -> Array:
    """The picks (n, 2) of an AutoPick job in one micrograph, in pixels."""
    return coordinates(of_micrograph(directory, folder, f"{stem}_autopick.star"))


def coordinates(star: Path) -> Array:
    """The positions (n, 2) in a STAR file of a picker; none of an empty one, which RELION leaves where it found nothing.

    KitError for a file that holds something else.
    """
    blocks = read_star(star)
    if not blocks and star.stat().st_size == 0:
        return np.empty((0, 2))
    block = next((block for block in blocks.values() if "rlnCoordinateX" in block), None)
    if block is None:
        raise KitError(f"{star}: no label _rlnCoordinateX in any block")
    if "rlnCoordinateY" not in block:
        raise KitError(f"{star}: has 'rlnCoordinateX' without 'rlnCoordinateY'")
    return np.column_stack([np.ravel(block[f"rlnCoordinate{axis}"]) for axis in "XY"]).reshape(-1, 2)


def shifts(directory: Path, folder: str, stem: str) -> Array:
    """What MotionCorr moved each frame of one micrograph by: (frames, 2), in pixels."""
    return global_shifts(of_micrograph(directory, folder, f"{stem}.star"))


def against(found: Mapping[str, Array], true: Mapping[str, Array], radius: float) -> Picks:
    """Picks held against others, by micrograph, over those that both know; `centre_error` is the mean of theirs."""
    known = sorted(found.keys() & true.keys())
    every = [match_picks(found[name], true[name], radius) for name in known]
    errors = [entry.centre_error for entry in every if entry.matched]
    return Picks(
        sum(entry.found for entry in every),
        sum(entry.true for entry in every),
        sum(entry.matched for entry in every),
        float(np.mean(errors)) if errors else float("nan"),
    )


def picks(directory: Path, folder: str, truth: Truth) -> dict[str, float | None]:
    """Precision, recall and F1 of an AutoPick job over all micrographs, and its mean error of centres in pixels."""
    found = {stem: positions(directory, folder, stem) for stem in truth.micrographs}
    return against(found, {stem: truth.positions(stem) for stem in truth.micrographs}, truth.radius).as_dict()


def drifts(directory: Path, folder: str, truth: Truth) -> dict[str, float]:
    """What MotionCorr left of the drift (pixels, root mean square, mean over micrographs), and what there was."""
    left, before = [], []
    for stem in truth.micrographs:
        drift = truth.drift(stem)
        left.append(drift_error(of_micrograph(directory, folder, f"{stem}.star"), drift, truth.pixel_size))
        path = drift.at(0.0, 0.0) / truth.pixel_size
        before.append(float(np.sqrt(((path - path.mean(0)) ** 2).sum(1).mean())))
    return {"error": float(np.mean(left)), "drift": float(np.mean(before))}


def defocus(directory: Path, folder: str, truth: Truth) -> dict[str, float]:
    """Median error (angstrom) of CtfFind's defocus and astigmatism over the micrographs."""
    found = fitted(directory, folder)
    errors = [defocus_error(estimate, truth.astigmatism(stem)) for stem, estimate in found.items()]
    mean, astigmatism = np.median(errors, axis=0)
    return {"error": float(mean), "astigmatism_error": float(astigmatism), "micrographs": len(errors)}


def fitted(directory: Path, folder: str) -> dict[str, Astigmatism]:
    """What a CtfFind job found, by micrograph."""
    rows = read_star(directory / folder / "micrographs_ctf.star")["micrographs"]
    return {
        Path(row["rlnMicrographName"]).stem: Astigmatism.of(row["rlnDefocusU"], row["rlnDefocusV"], row["rlnDefocusAngle"])
        for _, row in rows.iterrows()
    }


def particle_defocus(matched: pd.DataFrame) -> float:
    """Median error (angstrom) of the defocus of single particles, which lie at different heights in the ice."""
    means = [matched[[f"rlnDefocus{axis}{end}" for axis in "UV"]].to_numpy(dtype=float).mean(1) for end in ("", "True")]
    return float(np.median(np.abs(means[0] - means[1])))


def beam_tilt(star: Path, truth: Truth) -> dict[str, float]:
    """The beam tilt (milliradian) of the optics group, and how far it is from the truth."""
    found = np.array([float(np.ravel(column(star, "optics", f"rlnBeamTilt{axis}"))[0]) for axis in "XY"])
    return {"x": found[0], "y": found[1], "error": float(np.hypot(*(found - np.array(truth.facts["beam_tilt"]))))}


def pose_error(matched: pd.DataFrame) -> dict[str, Any]:
    """Median angular error (degrees) of the poses, after the one rotation that brings the map onto the truth.

    The hand of a map from projections is free: a point-inverted map has the same projections, turned by 180 degrees about
    the beam. The hand with the smaller error is taken, and said.
    """
    from scipy.spatial.transform import Rotation

    def rotations(end: str) -> Rotation:
        angles = (matched[f"rlnAngle{name}{end}"].to_numpy(dtype=float) for name in ("Rot", "Tilt", "Psi"))
        return Rotation.from_matrix(phantom.euler_matrices(*angles))

    found, true = rotations(""), rotations("True")
    half_turn = Rotation.from_euler("z", 180, degrees=True)
    errors = []
    for estimate in (found, half_turn * found):
        between = estimate.inv() * true
        # Poses that are right agree on that rotation, so it is near some of them; wrong ones draw a mean aside.
        tried = [np.median((candidate.inv() * between).magnitude()) for candidate in between[:100]]
        centre = between[int(np.argmin(tried))]
        for _ in range(3):
            angles = (centre.inv() * between).magnitude()
            centre = between[angles <= 2 * np.median(angles)].mean()
        errors.append(float(np.rad2deg(np.median((centre.inv() * between).magnitude()))))
    return {"error": min(errors), "mirrored": errors[1] < errors[0]}
