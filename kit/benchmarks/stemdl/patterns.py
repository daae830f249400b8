"""Generated data: convergent-beam patterns of real crystals with their projected electron density, in the published layout.

A sample is a group of an HDF5 file with `cbed_stack` (3, side, side) float32, the share of the incident electrons
that a pixel counted, and the attribute `space_group`; beside these, which the published files have too, `density` (3,
side/2, side/2) in electrons/angstrom^3 about the probe, averaged along the beam, and the attributes material,
thickness, kilovolt, dose and orientation.

Every number is drawn from the seed, the place of the crystal in the list, and that of the orientation: how many
processes share the work changes no sample.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kit.benchmarks import Parameters
from kit.benchmarks.stemdl.crystals import Crystal, chosen
from kit.benchmarks.stemdl.diffraction import BANDWIDTH, Projection, coordinates, multislice, probe
from kit.core.errors import KitError

ZONES = ((0, 0, 1), (1, 0, 0), (1, 1, 0))
KILOVOLTS = (100.0, 200.0, 300.0)
PIXEL = 0.25  # angstrom of the grid; with its bandwidth, patterns end at 1.33 1/angstrom
APERTURE = 0.16  # 1/angstrom: 4 mrad at 200 kV
SLICE = 2.0  # angstrom
THICKNESS = (50.0, 200.0)  # angstrom
MOST_TILT = 0.003  # radians, a normal deviation a third of it
DEBYE_WALLER = (0.3, 0.8)  # angstrom^2
DOSE = (6.0, 8.0)  # decadic logarithm of the electrons in a pattern
STRAIN = 0.04  # of all three axes alike, either way: pressure, temperature, and a composition that is never exact
MOST_TURN = 5.0  # degrees about the axis, either way
BLUR = 0.25  # angstrom, standard deviation: densities are drawn no sharper than patterns of this extent tell
DENSITY_WINDOW = 2  # times as many pixels has a pattern a side as its density


def orientation(
    crystal: Crystal, side: int, thicknesses: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], dict[str, float]]]:
    """Samples of one orientation, one for each thickness: patterns (3, side, side), densities, and what was drawn.

    Each projection is turned about its axis on its own by a few degrees, and, as often as not, by 180 degrees more. The two
    hands of a chiral crystal can then not be told apart: they are inversions of each other, so that their projections are
    the same, turned by 180 degrees.
    """
    grid = round(side / BANDWIDTH)
    box = grid * PIXEL
    strained = crystal._replace(cell=crystal.cell * (1 + rng.uniform(-STRAIN, STRAIN)))
    kilovolt = float(rng.choice(KILOVOLTS))
    debye_waller = float(rng.uniform(*DEBYE_WALLER))
    depths = np.sort(rng.uniform(*THICKNESS, thicknesses))
    slices = [max(round(depth / SLICE), 1) for depth in depths]
    dose = 10 ** rng.uniform(*DOSE, thicknesses)
    patterns = np.zeros((thicknesses, 3, side, side), np.float32)
    densities = np.zeros((3, side // DENSITY_WINDOW, side // DENSITY_WINDOW), np.float32)
    x, incident = coordinates(grid, box), probe(grid, box, APERTURE)
    first = (grid - side) // 2
    for number, zone in enumerate(ZONES):
        turn = np.deg2rad(rng.uniform(-MOST_TURN, MOST_TURN)) + np.pi * rng.integers(2)
        seen = Projection(strained, zone, float(turn), BANDWIDTH / PIXEL / 2, debye_waller)
        column = seen.columns[rng.integers(len(seen.columns))]
        tilt = np.clip(rng.normal(0, MOST_TILT / 3, 2), -MOST_TILT, MOST_TILT)
        potential = seen.field(seen.potential, x + column[0], x + column[1])
        size = densities.shape[-1]
        near = coordinates(size, size * PIXEL)
        blurred = seen.density * np.exp(-2 * (np.pi * BLUR) ** 2 * (seen.g**2).sum(axis=1))
        densities[number] = seen.field(blurred, near + column[0], near + column[1])
        waves = multislice(potential, (box, box), incident, kilovolt, SLICE, slices, (float(tilt[0]), float(tilt[1])))
        for place, wave in enumerate(waves):
            intensity = np.fft.fftshift(np.abs(wave) ** 2)[first : first + side, first : first + side] / grid**2
            # Poisson's counts, as a share of the dose: what a counting detector gives.
            patterns[place, number] = rng.poisson(np.asarray(intensity, float) * dose[place]) / dose[place]
    if not (np.isfinite(patterns).all() and np.isfinite(densities).all()):
        raise KitError(f"{crystal.material}: its patterns are not finite")
    return [
        (
            patterns[place],
            densities,
            {
                "kilovolt": kilovolt,
                "thickness": slices[place] * SLICE,
                "dose": float(dose[place]),
                "debye_waller": debye_waller,
            },
        )
        for place in range(thicknesses)
    ]


def write_crystal(folder: Path, number: int, crystal: Crystal, parameters: Parameters) -> None:
    """Writes all samples of one crystal into a file of its own."""
    import h5py

    target = folder / f"crystal-{number:04d}.h5"
    partial = target.with_suffix(".partial")
    # No times in the file: the same numbers are the same bytes.
    with h5py.File(partial, "w", libver="latest", track_order=False) as file:
        for turn in range(int(parameters["orientations"])):
            rng = np.random.default_rng([int(parameters["data_seed"]), number, turn])
            made = orientation(crystal, int(parameters["raw_side"]), int(parameters["thicknesses"]), rng)
            for place, (patterns, densities, drawn) in enumerate(made):
                group = file.create_group(f"sample_{number}_{turn}_{place}")
                group.create_dataset("cbed_stack", data=patterns, track_times=False)
                group.create_dataset("density", data=densities.astype(np.float16), track_times=False)
                group.attrs.update(
                    {"space_group": str(crystal.space_group), "material": crystal.material, "orientation": turn, **drawn}
                )
    partial.rename(target)


def generate(folder: Path, parameters: Parameters, processes: int | None = None) -> None:
    """Writes the samples of a size, a file for each crystal; the same bytes every time. As many processes as the job has
    cores, not the node, and each with one thread: the matrices are small, and threads that wait for each other cost more.

    KitError without h5py, for space groups that the tables do not have, and for numbers that make no sample.
    """
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise KitError("the generated data of stemdl need h5py; pip install 'science-kit[stemdl]'") from None
    for key in ("raw_side", "orientations", "thicknesses", "materials"):
        if int(parameters[key]) < 1:
            raise KitError(f"parameter {key}: {parameters[key]!r}, where 1 or more is needed")
    if int(parameters["raw_side"]) % 4:
        raise KitError(f"parameter raw_side: {parameters['raw_side']!r}, where a multiple of 4 is needed")
    groups = [int(text) for text in str(parameters["space_groups"]).split(",")]
    found = chosen(groups, int(parameters["materials"]))
    number = processes or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(number, initializer=threadpool_limits, initargs=(1,)) as pool:
        for _ in pool.map(write_crystal, repeat(folder), range(len(found)), found, repeat(dict(parameters))):
            pass
