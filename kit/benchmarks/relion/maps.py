"""Density maps: Fourier shell correlation, low-pass, and the alignment of one map to another.

Maps are cubes (n, n, n), axes z, y, x, with the origin at voxel n // 2. Shells are integers: shell s of a box of n
voxels of `pixel_size` angstrom is the resolution `n * pixel_size / s` angstrom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, optimize
from scipy.spatial.transform import Rotation

from kit.core.errors import KitError

Array = NDArray[np.floating]

# The Fourier shell correlation at which a map's resolution ends, both of Rosenthal & Henderson (2003),
# doi:10.1016/j.jmb.2003.07.013: of the maps of two halves of the data, and what that makes of the whole map against one
# without noise (their C_ref), which is the convention for map and model.
HALF_MAPS = 0.143
AGAINST_TRUTH = 0.5
# Voxels of a side of the grids on which an alignment is searched for and then refined before the map's own grid is.
COARSEST, MIDDLE = 32, 64
ALIKE = 3.0  # degrees by which two poses of one hand differ that are one
SAME = 0.01  # angstrom by which a resolution may differ that RELION wrote, with six digits, from the one computed again


def read_map(path: Path) -> tuple[Array, float]:
    """A map as (density, voxel size in angstrom); KitError when it is missing or cut short."""
    import mrcfile

    try:
        with mrcfile.open(path) as file:
            return file.data.astype(np.float64), float(file.voxel_size.x)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: not a readable MRC map: {error}") from None


def shells(n: int) -> NDArray[np.int64]:
    """Shell of every coefficient of `rfftn` of a cube of n voxels."""
    full, half = np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n
    z, y, x = np.meshgrid(full, full, half, indexing="ij")
    return np.rint(np.sqrt(z**2 + y**2 + x**2)).astype(np.int64)


def fsc(first: Array, second: Array) -> Array:
    """Fourier shell correlation of two maps, shells 0 to n // 2. Harauz & van Heel (1986).

    The sums run over the half of the transform that a real map needs, as RELION's do, so that the values agree.
    """
    n = first.shape[0]
    index = shells(n)
    keep = index <= n // 2
    a, b = np.fft.rfftn(first)[keep], np.fft.rfftn(second)[keep]
    index = index[keep]
    cross = np.bincount(index, (a * b.conj()).real)
    power = np.bincount(index, np.abs(a) ** 2) * np.bincount(index, np.abs(b) ** 2)
    return cross / np.sqrt(np.maximum(power, np.finfo(float).tiny))


def crossing(curve: Array, threshold: float) -> int:
    """The last shell before the curve first falls below `threshold`; shell 0 does not count."""
    below = np.flatnonzero(curve[1:] < threshold)
    return int(below[0]) if len(below) else len(curve) - 1


def low_pass(density: Array, shell: float, edge: float = 2.0) -> Array:
    """Removes what lies beyond a shell, over a cosine edge of `edge` shells."""
    distance = np.clip((shells(density.shape[0]) - shell) / edge + 0.5, 0, 1)
    weight = 0.5 + 0.5 * np.cos(np.pi * distance)
    return np.fft.irfftn(np.fft.rfftn(density) * weight, s=density.shape, axes=(0, 1, 2))


def resample(density: Array, ratio: float, box: int) -> Array:
    """A map on a grid of `box` voxels, each `ratio` times as large as its own, about the same origin.

    What the new grid cannot hold is taken out first; what lies outside the map is 0.
    """
    n = len(density)
    if ratio > 1:
        density = low_pass(density, n / (2 * ratio))
    offset = n // 2 - ratio * (box // 2)
    return np.asarray(ndimage.affine_transform(density, np.full(3, ratio), offset, output_shape=(box,) * 3, order=3))


def sphere(n: int, diameter: float) -> NDArray[np.bool_]:
    """True within `diameter` voxels of the centre of a cube of n."""
    grid = np.indices((n, n, n)) - n // 2
    return (grid**2).sum(axis=0) <= (diameter / 2) ** 2


def correlation(first: Array, second: Array, mask: NDArray[np.bool_]) -> float:
    """Pearson correlation of two maps inside a mask."""
    return float(np.corrcoef(first[mask], second[mask])[0, 1])


@dataclass(frozen=True)
class Alignment:
    """How a map was aligned to another: rotation (vector, degrees), shift (voxels), hand, and the result."""

    rotation: tuple[float, float, float]
    shift: tuple[float, float, float]
    mirrored: bool
    correlation: float
    aligned: Array

    def apply(self, density: Array) -> Array:
        """Moves a map as the aligned one was moved."""
        source = mirror(density) if self.mirrored else density
        return transform(source, Rotation.from_rotvec(self.rotation, degrees=True), np.array(self.shift), order=3)


def transform(density: Array, rotation: Rotation, shift: Array, order: int = 3) -> Array:
    """Rotates a map about its origin and then shifts it (voxels, z y x)."""
    centre = np.full(3, density.shape[0] // 2, dtype=float)
    matrix = rotation.as_matrix().T  # affine_transform maps voxels of the output to the input
    offset = centre - matrix @ (centre + shift)
    return np.asarray(ndimage.affine_transform(density, matrix, offset, order=order, mode="constant"))


def orientations(count: int) -> Rotation:
    """Rotations that cover all orientations evenly: super-Fibonacci spirals, Alexa (2022), doi:10.1109/CVPR52688.2022."""
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041413
    s = np.arange(count) + 0.5
    t, d = s / count, 2 * np.pi * s
    r, big = np.sqrt(t), np.sqrt(1 - t)
    return Rotation.from_quat(
        np.column_stack([r * np.sin(d / phi), r * np.cos(d / phi), big * np.sin(d / psi), big * np.cos(d / psi)])
    )


def align(density: Array, reference: Array, diameter: float, count: int = 800) -> Alignment:
    """Aligns a map to a reference by rotation, shift and hand, over all orientations.

    From coarse to fine grids. On the coarsest, `count` orientations of both hands are tried on low-passed maps, with the
    best shift of each found by cross-correlation. The best of them are refined there, and the best of those on the next
    grid, down to one on the maps as they are. Symmetry needs no case of its own: every orientation is tried, so whichever
    of the equivalent ones fits best is found. KitError for a map that holds what is no number.
    """
    if not (np.isfinite(density).all() and np.isfinite(reference).all()):
        raise KitError("a map holds what is no number, and cannot be aligned")
    n = len(density)
    coarse = min(n // 2, COARSEST)
    small, target = (resample(m, n / coarse, coarse) for m in (density, reference))
    found = search(small, target, diameter * coarse / n, count)
    found = [replace(pose, shift=pose.shift * (n / coarse)) for pose in found]
    for box in sorted({coarse, min(n, MIDDLE), n}):
        effort = LAST if box == n else FIRST if box == coarse else NEXT
        pair = (density, reference) if box == n else [resample(m, n / box, box) for m in (density, reference)]
        splines = [ndimage.spline_filter(m) for m in (pair[0], mirror(pair[0]))]
        poses = [replace(pose, shift=pose.shift * (box / n)) for pose in found[: effort.poses]]
        poses = [refine(splines[pose.mirrored], pair[1], diameter * box / n, pose, effort) for pose in poses]
        found = distinct([replace(pose, shift=pose.shift * (n / box)) for pose in poses])
        found = [pose for pose in found if pose.score >= found[0].score - NEAR]
    best = found[0]
    rotation, shift = best.rotation.as_rotvec(degrees=True).tolist(), best.shift.tolist()
    moves = Alignment(tuple(rotation), tuple(shift), best.mirrored, best.score, density)
    aligned = moves.apply(density)
    return replace(moves, correlation=correlation(aligned, reference, sphere(n, diameter)), aligned=aligned)


@dataclass(frozen=True)
class Effort:
    """How many poses are refined on a grid; a refinement ends when a step takes no more than the share `enough` off."""

    poses: int
    enough: float
    steps: int  # at most, of a pose; each moves the map seven times


# A wrong pose may creep on for long, and is not worth it; a right one has arrived by then. More than one gets as far as the
# last grid where coarse maps cannot tell them apart, as the hands of a map.
FIRST, NEXT, LAST = Effort(12, 1e-2, 20), Effort(3, 1e-4, 10), Effort(2, 1e-5, 30)
NEAR = 0.1  # of a correlation: poses that are further behind the best on one grid are not tried on the next


@dataclass(frozen=True)
class Pose:
    """A hand, rotation and shift (voxels of the map) that are tried, and how well the maps agree then: higher is better."""

    score: float
    mirrored: bool
    rotation: Rotation
    shift: Array


def distinct(poses: list[Pose]) -> list[Pose]:
    """Poses, best first, without those that turn a map as a better one does."""
    found: list[Pose] = []
    for pose in sorted(poses, key=lambda pose: -pose.score):
        same_hand = [other for other in found if other.mirrored == pose.mirrored]
        if all((other.rotation.inv() * pose.rotation).magnitude() > np.deg2rad(ALIKE) for other in same_hand):
            found.append(pose)
    return found


def search(density: Array, reference: Array, diameter: float, count: int) -> list[Pose]:
    """Poses over all orientations of both hands of small maps, best first, each with its best shift in whole voxels."""
    m = len(density)
    density, reference = (low_pass(map, m // 4) for map in (density, reference))
    target = fft.rfftn(reference * sphere(m, diameter))
    poses = []
    for mirrored in (False, True):
        source = mirror(density) if mirrored else density
        # The unturned map first: a refinement that began at the reference ends near it.
        for rotation in [Rotation.identity(), *orientations(count)]:
            turned = transform(source, rotation, np.zeros(3), order=1)
            cross = fft.irfftn(target * fft.rfftn(turned).conj(), s=turned.shape)
            peak = np.array(np.unravel_index(cross.argmax(), cross.shape))
            norm = np.sqrt((turned**2).sum()) or 1.0
            poses.append(Pose(float(cross.max() / norm), mirrored, rotation, np.where(peak > m // 2, peak - m, peak)))
    return sorted(poses, key=lambda pose: -pose.score)


def refine(splines: Array, reference: Array, diameter: float, start: Pose, effort: Effort) -> Pose:
    """The pose near another at which the correlation with the reference, in a sphere, is highest.

    `splines` are the coefficients of the cubic splines of the map, of the hand of the pose. Of two vectors of mean 0 and
    length 1 half the squared distance is 1 less their correlation, so that this is a problem of least squares.
    """
    n = len(reference)
    mask = sphere(n, diameter)
    points = np.argwhere(mask).T - n // 2
    target = standard(reference[mask])

    def turned(x: Array) -> Rotation:
        return Rotation.from_rotvec(x[:3], degrees=True) * start.rotation

    def residuals(x: Array) -> Array:
        places = turned(x).as_matrix().T @ (points - x[3:, None]) + n // 2
        return standard(ndimage.map_coordinates(splines, places, order=3, prefilter=False)) - target

    found = optimize.least_squares(
        residuals,
        np.array([0, 0, 0, *start.shift]),
        diff_step=1e-4,
        ftol=effort.enough,
        max_nfev=effort.steps,
    )
    return Pose(1 - float(found.cost), start.mirrored, turned(found.x), found.x[3:])


def standard(values: Array) -> Array:
    """Values less their mean, as a vector of length 1."""
    values = values - values.mean()
    return np.asarray(values / (np.linalg.norm(values) or 1.0))


def mirror(density: Array) -> Array:
    """The other hand of a map: z reversed about the origin."""
    return np.roll(density[::-1], 1 - density.shape[0] % 2, axis=0)
