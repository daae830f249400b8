"""Raw movies of a cryo-EM session with every truth known: drift, dose, defocus, beam tilt, positions, poses, species.

A micrograph is a field of ice with particles of the species of `phantom` in it. What the beam leaves of it is, for a weak
phase object, `1 - 2 phi * h`: phi is the projected phase shift, h the transform of the contrast transfer function (with
astigmatism, and the coma of a tilted beam). Every frame shows it displaced by the drift of that moment, which has a part
that all of the micrograph shares and a part that differs over it, with the high frequencies faded by the radiation that
the specimen has taken so far. The camera counts electrons (Poisson) through a gain that differs from pixel to pixel.

Units: angstrom, electrons per square angstrom, degrees, kilovolt, millimetre (Cs), milliradian (beam tilt). Conventions
are RELION's: coordinates are pixels of the micrograph from its first pixel, x before y; protein is dark in the movies.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.phantom import Array

# Phase shift (radian) of one electron of a molecule's atoms in a square angstrom, in ice, at 300 kV: 0.13 rad for 100
# angstrom of protein, from a difference of mean inner potential of 2 V (protein against vitreous ice) and the interaction
# constant of 0.00652 rad / (V nm), over 43 electrons per square angstrom (0.43 electrons per cubic angstrom of protein).
PHASE_PER_ELECTRON = 0.003


@dataclass(frozen=True)
class Settings:
    """What one session is made of; the truth file repeats it."""

    micrographs: int = 6
    size: int = 1024  # pixels, of a square micrograph
    pixel_size: float = 3.54  # angstrom
    particles: int = 40  # of each micrograph
    fractions: tuple[float, ...] = (0.65, 0.35)  # in the order of phantom.SPECIES
    spacing: float = 310.0  # angstrom: no two particles are nearer
    frames: int = 12
    dose: float = 2.0  # electrons per square angstrom and frame
    voltage: float = 300.0
    cs: float = 2.7
    amplitude_contrast: float = 0.1
    defocus: tuple[float, float] = (12000.0, 24000.0)  # of a micrograph, uniform
    height: float = 200.0  # angstrom, standard deviation of the particles' heights in the ice
    astigmatism: float = 400.0  # angstrom, mean of U - V, which is never negative
    beam_tilt: tuple[float, float] = (2.0, -1.5)  # mrad
    bfactor: float = 120.0  # angstrom^2, of atoms and camera together
    drift: float = 14.0  # angstrom that a micrograph moves in all, most of it in the first frames
    local_drift: float = 6.0  # angstrom by which its corners move otherwise than its middle
    ice: float = 0.06  # radian, standard deviation of the phase of the ice in a pixel
    gain: float = 0.05  # standard deviation of the camera's gain
    seed: int = 20212


@dataclass(frozen=True)
class Drift:
    """How a micrograph moved: `d(t, x, y) = sum_k c_k q_k(x, y) s(t)`, in angstrom, zero in the first frame.

    `coefficients` (6, 2): x and y for 1, x, y, x^2, y^2, xy, with x and y from -0.5 to 0.5 over the micrograph; `course`
    (frames,): from 0 to 1. RELION fits polynomials of the same degree in space and of the third degree in time.
    """

    coefficients: Array
    course: Array

    def at(self, x: Array | float, y: Array | float) -> Array:
        """Displacement (frames, 2) in angstrom of what lies at (x, y)."""
        terms = np.array([np.ones_like(x), x, y, np.square(x), np.square(y), np.multiply(x, y)])
        return np.outer(self.course, terms @ self.coefficients)


def draw_drift(rng: np.random.Generator, settings: Settings) -> Drift:
    """A drift in a random direction that slows down as the ice comes to rest, bent over the field."""
    angle = rng.uniform(0, 2 * np.pi)
    coefficients = np.zeros((6, 2))
    coefficients[0] = settings.drift * np.array([np.cos(angle), np.sin(angle)])
    bend = rng.normal(size=(5, 2)) * np.array([1, 1, 2, 2, 2])[:, None]
    corners = np.abs(bend[:2]).sum(0) * 0.5 + np.abs(bend[2:]).sum(0) * 0.25
    coefficients[1:] = bend * settings.local_drift / corners.max()
    time = np.linspace(0, 1, settings.frames)
    course = 0.6 * (1 - np.exp(-time / 0.25)) / (1 - np.exp(-4)) + 0.4 * time
    return Drift(coefficients, course)


def place(rng: np.random.Generator, settings: Settings) -> Array:
    """Positions (n, 2) in pixels, none nearer than `spacing` to another or half of it to the edge."""
    distance = settings.spacing / settings.pixel_size
    found: list[Array] = []
    for _ in range(20000):
        point = rng.uniform(distance / 2, settings.size - distance / 2, 2)
        if all(np.hypot(*(point - other)) >= distance for other in found):
            found.append(point)
            if len(found) == settings.particles:
                return np.array(found)
    raise ValueError(
        f"{settings.particles} particles {settings.spacing:g} angstrom apart do not fit into {settings.size} pixels of "
        f"{settings.pixel_size:g} angstrom ({len(found)} did); take fewer, or a larger micrograph"
    )


def damage(k: Array, exposure: float) -> Array:
    """What is left of an amplitude at spatial frequency `k` (1/angstrom) after an exposure (electrons per angstrom^2).

    Critical exposure at 300 kV of Grant & Grigorieff (2015), doi:10.7554/eLife.06980: `0.245 k^-1.665 + 2.81`.
    """
    with np.errstate(divide="ignore"):
        return np.exp(-exposure / (2 * (0.245 * k**-1.665 + 2.81)))


def coma(frequency_x: Array, frequency_y: Array, settings: Settings) -> NDArray[np.complexfloating]:
    """The phase that a tilted beam gives: `2 pi Cs lambda^2 k^2 (k . tilt)`, Glaeser et al. (2011), as RELION has it."""
    wavelength = phantom.wavelength(settings.voltage)
    tilt_x, tilt_y = (1e-3 * tilt for tilt in settings.beam_tilt)
    k2 = frequency_x**2 + frequency_y**2
    phase = 2 * np.pi * settings.cs * 1e7 * wavelength**2 * k2 * (frequency_x * tilt_x + frequency_y * tilt_y)
    return np.exp(-1j * phase)


def particle_box(settings: Settings) -> int:
    """Pixels of a square that holds a particle and what its defocus spreads out to the Nyquist frequency."""
    spread = phantom.wavelength(settings.voltage) * settings.defocus[1] / (2 * settings.pixel_size)
    pixels = int(np.ceil((settings.spacing + 2 * spread) / settings.pixel_size))
    return pixels + pixels % 2


@threadpool_limits.wrap(limits=1)  # sums of matrices differ in their last digits by the number of threads
def generate(folder: Path, settings: Settings = Settings()) -> None:
    """Writes movies/*.mrcs (8 bit), gain.mrc, truth.star (one row a particle) and truth.json into an existing folder.

    Positions and defocus are those of the first frame. The same settings give the same bytes on the same machine,
    on any number of its cores.
    """
    import pandas as pd
    from scipy import fft

    rng = np.random.default_rng(settings.seed)
    species = list(phantom.load_species().values())
    labels = phantom.mixture(rng, settings.micrographs * settings.particles, settings.fractions)

    pixel, size, box = settings.pixel_size, settings.size, particle_box(settings)
    gain = np.clip(1 + settings.gain * rng.standard_normal((size, size)), 0.5, 1.5).astype(np.float32)
    phantom.write_mrc(folder / "gain.mrc", gain, pixel)

    (folder / "movies").mkdir()
    ky, kx = phantom.half_plane(box, pixel)
    wide_y, wide_x = phantom.half_plane(size, pixel)
    lens = coma(kx, ky, settings)
    rows, drifts, lenses = [], [], []
    for number, kinds in enumerate(labels.reshape(settings.micrographs, settings.particles)):
        name = f"movies/micrograph{number + 1:02d}.mrcs"
        drift = draw_drift(rng, settings)
        defocus, astigmatism, angle = (
            rng.uniform(*settings.defocus),
            rng.exponential(settings.astigmatism),
            rng.uniform(0, 180),
        )
        optics = (angle, settings.voltage, settings.cs, settings.amplitude_contrast)
        middle = (defocus + astigmatism / 2, defocus - astigmatism / 2)
        positions = place(rng, settings)
        heights = rng.normal(0, settings.height, settings.particles)
        rot, psi = rng.uniform(-180, 180, (2, settings.particles))
        tilt = np.rad2deg(np.arccos(rng.uniform(-1, 1, settings.particles)))

        factors: list[NDArray[np.complexfloating]] = []
        for i, matrix in enumerate(phantom.euler_matrices(rot, tilt, psi)):
            atoms = species[kinds[i]]
            transfer = phantom.ctf(kx, ky, middle[0] + heights[i], middle[1] + heights[i], *optics)
            electrons = phantom.project(atoms, matrix, box, pixel, settings.bfactor) / pixel**2
            factors.append(PHASE_PER_ELECTRON * electrons * transfer * lens)
        ice = fft.rfft2(settings.ice * rng.standard_normal((size, size)))
        ice *= phantom.ctf(wide_x, wide_y, *middle, *optics)

        relative = positions / size - 0.5
        paths = np.array([drift.at(x, y) for x, y in relative])  # (particles, frames, 2)
        common = drift.at(0.0, 0.0)
        movie = np.empty((settings.frames, size, size), dtype=np.int8)
        for frame in range(settings.frames):
            phase = fft.irfft2(phantom.moved(ice, common[frame], pixel), s=(size, size))
            fade = damage(np.hypot(kx, ky), settings.dose * (frame + 0.5))
            for factor, position, path in zip(factors, positions, paths, strict=True):
                add_particle(phase, factor * fade, position * pixel + path[frame], pixel)
            expected = settings.dose * pixel**2 * np.clip(1 - 2 * phase, 0, None) / gain
            movie[frame] = np.minimum(rng.poisson(expected), 127)
        phantom.write_mrc(folder / name, movie, pixel)

        drifts.append({"coefficients": drift.coefficients.tolist(), "course": drift.course.tolist()})
        lenses.append({"defocus_u": middle[0], "defocus_v": middle[1], "angle": angle})
        rows.append(
            pd.DataFrame(
                {
                    "rlnMicrographName": name,
                    "rlnCoordinateX": positions[:, 0],
                    "rlnCoordinateY": positions[:, 1],
                    "rlnAngleRot": rot,
                    "rlnAngleTilt": tilt,
                    "rlnAnglePsi": psi,
                    "rlnDefocusU": middle[0] + heights,
                    "rlnDefocusV": middle[1] + heights,
                    "rlnDefocusAngle": angle,
                    "rlnClassNumber": kinds + 1,
                }
            )
        )
    phantom.write_star(folder / "truth.star", {"particles": pd.concat(rows, ignore_index=True)})
    facts = {
        **asdict(settings),
        "species": list(phantom.SPECIES),
        "counts": np.bincount(labels).tolist(),
        "structure": "PDB 6ZU5",
        "drifts": drifts,
        "lenses": lenses,
    }
    (folder / "truth.json").write_text(json.dumps(facts, indent=2) + "\n")


def add_particle(image: Array, factor: NDArray[np.complexfloating], centre: Array, pixel: float) -> None:
    """Adds a particle, given by its transform (box, box // 2 + 1), to a micrograph, centred at `centre` (x, y; angstrom).

    What sticks out over the edge is cut off.
    """
    box = len(factor)
    whole = np.floor(centre / pixel).astype(int)
    patch = phantom.centred(phantom.moved(factor, centre - whole * pixel, pixel))
    left, top = whole - box // 2
    size = len(image)
    rows, columns = slice(max(top, 0), min(top + box, size)), slice(max(left, 0), min(left + box, size))
    image[rows, columns] += patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
