"""Dynamical electron diffraction by multislice, along a zone axis, in the projection approximation.

Sources: the method is Cowley and Moodie 1957 (Acta Cryst. 10, 609); constants and sampling as in Kirkland, Advanced
Computing in Electron Microscopy (2nd ed. 2010, chapters 2 and 6); scattering factors are those of Lobato and Van Dyck
2014 (Acta Cryst. A70, 636), whose coefficients stand in scattering.csv, g in 1/angstrom:

    f(g) = sum_i a_i (2 + b_i g^2) / (1 + b_i g^2)^2      angstrom

The X-ray factor, of which the electron density is made, follows by Mott and Bethe: f_x = Z - f g^2 / (4 * 0.023934).

All slices are alike, since only reflections of the zero-order Laue zone are taken: the crystal is its projection.
Thermal motion is a Debye-Waller factor exp(-B g^2 / 4); there is no absorption and no thermal diffuse scattering.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from kit.benchmarks.stemdl.crystals import Crystal

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
REST = 510.99895  # keV, electron
HC = 12.3984198  # keV angstrom
POTENTIAL = 47.87801  # V angstrom^2: h^2 / (2 pi m e)
MOTT_BETHE = 0.023934  # 1/angstrom: m e^2 / (8 pi epsilon_0 h^2)
BANDWIDTH = 2 / 3  # of the largest frequency that a grid holds: products of wave and transmission do not alias


def wavelength(kilovolt: float) -> float:
    """Relativistic, in angstrom."""
    return HC / float(np.sqrt(kilovolt * (2 * REST + kilovolt)))


def interaction(kilovolt: float) -> float:
    """sigma, the phase in radians of a volt-angstrom of projected potential."""
    return 2 * np.pi / (wavelength(kilovolt) * kilovolt * 1e3) * (REST + kilovolt) / (2 * REST + kilovolt)


@cache
def coefficients() -> dict[str, tuple[int, Array, Array]]:
    """{element: atomic number, a (5,), b (5,)}"""
    with (Path(__file__).parent / "scattering.csv").open(newline="") as file:
        return {
            row["element"]: (
                int(row["number"]),
                np.array([float(row[f"a{i}"]) for i in range(1, 6)]),
                np.array([float(row[f"b{i}"]) for i in range(1, 6)]),
            )
            for row in csv.DictReader(file)
        }


def electron_factor(element: str, g2: Array) -> Array:
    """Electron scattering factor in angstrom, of g^2 in 1/angstrom^2."""
    _, a, b = coefficients()[element]
    bg = b * g2[..., None]
    return np.asarray((a * (2 + bg) / (1 + bg) ** 2).sum(axis=-1))


def xray_factor(element: str, g2: Array) -> Array:
    """Electrons: the Fourier transform of the atom's electron density."""
    return np.asarray(coefficients()[element][0] - electron_factor(element, g2) * g2 / (4 * MOTT_BETHE))


def frame(axis: Array) -> Array:
    """Two unit vectors (2, 3) at right angles to an axis, which see it point towards them."""
    axis = axis / np.linalg.norm(axis)
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = np.cross(helper, axis)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first)])


class Projection:
    """A crystal seen along a zone axis [uvw], turned by `angle` (radians) about it.

    `g` (n, 2) are the reflections of the zero-order zone below `limit` (1/angstrom), `potential` (n,) their Fourier
    coefficients in volt, `density` (n,) those of the electron density in electrons/angstrom^3, `columns` (atoms, 2)
    where the atoms are.
    """

    def __init__(self, crystal: Crystal, zone: Sequence[int], angle: float, limit: float, debye_waller: float) -> None:
        reciprocal = np.linalg.inv(crystal.cell).T
        volume = abs(float(np.linalg.det(crystal.cell)))
        most = np.floor(limit * np.linalg.norm(crystal.cell, axis=1)).astype(int)
        indices = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
        indices = indices[indices @ np.asarray(zone) == 0]
        vectors = indices @ reciprocal
        near = (vectors**2).sum(axis=1) < limit**2
        indices, vectors = indices[near], vectors[near]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        plane = turn @ frame(np.asarray(zone, float) @ crystal.cell)
        self.g = vectors @ plane.T
        self.columns = crystal.places @ crystal.cell @ plane.T
        g2 = (vectors**2).sum(axis=1)
        phases = np.exp(-2j * np.pi * indices @ crystal.places.T)
        motion = np.exp(-debye_waller * g2 / 4)
        self.potential: Complex = np.zeros(len(g2), complex)
        self.density: Complex = np.zeros(len(g2), complex)
        for element in sorted(set(crystal.elements)):
            where = np.array([other == element for other in crystal.elements])
            structure = motion * phases[:, where].sum(axis=1) / volume
            self.potential += POTENTIAL * structure * electron_factor(element, g2)
            self.density += structure * xray_factor(element, g2)

    def field(self, coefficients: Complex, x: Array, y: Array) -> Array:
        """The real field (rows y, columns x) of Fourier coefficients, at coordinates in angstrom."""
        across = np.exp(2j * np.pi * np.outer(self.g[:, 0], x))
        down = np.exp(2j * np.pi * np.outer(y, self.g[:, 1]))
        return np.asarray(((down * coefficients) @ across).real)


def coordinates(pixels: int, box: float) -> Array:
    """Of a grid whose middle pixel is at 0."""
    return np.asarray((np.arange(pixels) - pixels // 2) * (box / pixels))


def multislice(
    potential: Array, box: tuple[float, float], wave: NDArray[np.complex64], kilovolt: float, slice_angstrom: float,
    slices: Sequence[int], tilt: tuple[float, float] = (0.0, 0.0),
) -> Iterator[NDArray[np.complex64]]:  # fmt: skip
    """The wave in reciprocal space (zero frequency first, as FFTs have it) behind each number of `slices`, which rise.

    `potential` (rows, columns) in volt is that of the box (height, width; angstrom), the mean along the beam; `wave` is the
    incident one in real space; `tilt` of the crystal in radians (x, y), small.
    """
    rows, columns = potential.shape
    qy, qx = np.fft.fftfreq(rows, box[0] / rows)[:, None], np.fft.fftfreq(columns, box[1] / columns)[None, :]
    q2 = qx**2 + qy**2
    limit = BANDWIDTH * min(rows / box[0], columns / box[1]) / 2
    path = -np.pi * wavelength(kilovolt) * q2 + 2 * np.pi * (qx * np.tan(tilt[0]) + qy * np.tan(tilt[1]))
    propagator = (np.exp(1j * slice_angstrom * path) * (q2 < limit**2)).astype(np.complex64)
    transmission = np.exp(1j * interaction(kilovolt) * slice_angstrom * potential).astype(np.complex64)
    wave, done = np.asarray(wave, np.complex64), 0
    for number in slices:
        for _ in range(number - done):
            found = scipy.fft.fft2(wave * transmission) * propagator
            wave = scipy.fft.ifft2(found, overwrite_x=False)
        done = number
        yield scipy.fft.fft2(wave)


def probe(pixels: int, box: float, aperture: float, centre: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.complex64]:
    """A focused probe without aberrations on the middle pixel, of unit intensity; `aperture` in 1/angstrom.

    The edge of the aperture is a pixel wide, so that its area does not jump with the grid.
    """
    q = np.fft.fftfreq(pixels, box / pixels)
    radius = np.hypot(q[None, :] - centre[0], q[:, None] - centre[1])
    inside = np.clip((aperture - radius) * box + 0.5, 0, 1)
    shift = np.exp(-2j * np.pi * q * coordinates(pixels, box)[pixels // 2]) * np.exp(-1j * np.pi * np.arange(pixels))
    wave = scipy.fft.ifft2(inside * np.outer(shift, shift))
    return np.asarray(wave / np.sqrt((np.abs(wave) ** 2).sum()), np.complex64)
