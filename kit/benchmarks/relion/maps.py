"""Density maps: Fourier shell correlation, low-pass, and the alignment of one map to another.

Maps are cubes (n, n, n), axes z, y, x, with the origin at voxel n // 2. Shells are integers: shell s of a box of n
voxels of `pixel_size` angstrom is the resolution `n * pixel_size / s` angstrom.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from kit.core.errors import KitError

Array = NDArray[np.floating]

# The Fourier shell correlation at which a map's resolution ends, both of Rosenthal & Henderson (2003),
# doi:10.1016/j.jmb.2003.07.013: of the maps of two halves of the data, and what that makes of the whole map against one
# without noise (their C_ref), which is the convention for map and model.
HALF_MAPS = 0.143
AGAINST_TRUTH = 0.5
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

    A coarse search over `count` orientations of both hands on low-passed, halved maps, with the best shift of each
    found by cross-correlation; the best few are refined on the full maps. Symmetry needs no case of its own: every
    orientation is tried, so whichever of the equivalent ones fits best is found.
    """
    n = density.shape[0]
    mask = sphere(n, diameter)
    small = [low_pass(m, n // 8)[::2, ::2, ::2] for m in (density, reference)]
    target = np.fft.rfftn(small[1] * sphere(len(small[1]), diameter / 2))
    m = len(small[1])

    candidates = []
    for mirrored in (False, True):
        source = mirror(small[0]) if mirrored else small[0]
        # The unturned map first: a refinement that began at the reference ends near it.
        for rotation in [Rotation.identity(), *orientations(count)]:
            turned = transform(source, rotation, np.zeros(3), order=1)
            cross = np.fft.irfftn(target * np.fft.rfftn(turned).conj(), s=turned.shape, axes=(0, 1, 2))
            peak = np.array(np.unravel_index(cross.argmax(), cross.shape))
            peak = np.where(peak > m // 2, peak - m, peak)
            norm = np.sqrt((turned**2).sum()) or 1.0
            candidates.append((cross.max() / norm, mirrored, rotation, 2.0 * peak))
    candidates.sort(key=lambda candidate: -candidate[0])

    best: Alignment | None = None
    for _, mirrored, rotation, shift in candidates[:6]:
        source = mirror(density) if mirrored else density

        def moved(x: Array, source: Array = source, rotation: Rotation = rotation) -> Array:
            return transform(source, Rotation.from_rotvec(x[:3], degrees=True) * rotation, x[3:], order=1)

        def loss(x: Array) -> float:
            return -correlation(moved(x), reference, mask)

        start = np.concatenate([np.zeros(3), shift])
        simplex = np.vstack([start, start + np.diag([8.0, 8.0, 8.0, 1.0, 1.0, 1.0])])
        found = optimize.minimize(
            loss,
            start,
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "maxfev": 250, "xatol": 0.02, "fatol": 1e-5},
        )
        if best is None or -found.fun > best.correlation:
            total = Rotation.from_rotvec(found.x[:3], degrees=True) * rotation
            best = Alignment(
                tuple(total.as_rotvec(degrees=True).tolist()),
                tuple(found.x[3:].tolist()),
                mirrored,
                float(-found.fun),
                source,
            )
    assert best is not None  # candidates is never empty
    aligned = transform(best.aligned, Rotation.from_rotvec(best.rotation, degrees=True), np.array(best.shift), order=3)
    return Alignment(best.rotation, best.shift, best.mirrored, correlation(aligned, reference, mask), aligned)


def mirror(density: Array) -> Array:
    """The other hand of a map: z reversed about the origin."""
    return np.roll(density[::-1], 1 - density.shape[0] % 2, axis=0)
