"""Crystals and their diffraction: space groups by spglib, waves by Bloch's theorem, and the symmetries that must hold
or break."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import spglib
from numpy.typing import NDArray

from kit.benchmarks.stemdl.crystals import Crystal, chosen, crystals
from kit.benchmarks.stemdl.diffraction import (
    BANDWIDTH,
    Projection,
    coefficients,
    coordinates,
    electron_factor,
    interaction,
    multislice,
    probe,
    wavelength,
    xray_factor,
)
from kit.core.errors import KitError

ANGSTROM = 0.25  # a pixel


def named(material: str, space_group: int = 0) -> Crystal:
    return next(c for c in crystals() if c.material == material and space_group in (0, c.space_group))


def test_every_crystal_is_of_its_space_group() -> None:
    """As spglib finds it from cell and atoms alone; and no two atoms are where one has room."""
    for crystal in crystals():
        numbers = [coefficients()[element][0] for element in crystal.elements]
        found = spglib.get_symmetry_dataset((crystal.cell, crystal.places, numbers), symprec=1e-3)
        assert found is not None
        assert found.number == crystal.space_group, crystal.material
        apart = (crystal.places[:, None] - crystal.places[None] + 0.5) % 1 - 0.5
        lengths = np.linalg.norm(apart @ crystal.cell, axis=-1) + 9 * np.eye(len(numbers))
        assert lengths.min() > 1.1, crystal.material


def test_materials_are_prototypes_with_compositions() -> None:
    found = chosen([225, 216], 20)
    assert len({crystal.material for crystal in found}) == len(found)
    assert {crystal.material.split("(")[1] for crystal in found if crystal.space_group == 225} == {
        "rock salt)",
        "fluorite)",
        "copper)",
    }
    with pytest.raises(
        KitError, match=r"space group 2: 0 crystals are in structures\.csv, and three are needed; it has 122"
    ):
        chosen([225, 2], 20)


def test_constants_are_those_of_the_books() -> None:
    """Kirkland 2010: 2.508 pm and 7.288e-4 rad/(V angstrom) at 200 kV."""
    assert wavelength(200) == pytest.approx(0.025079, abs=1e-6)
    assert wavelength(100) == pytest.approx(0.037014, abs=1e-6)
    assert interaction(200) == pytest.approx(7.288e-4, rel=1e-3)
    assert interaction(100) == pytest.approx(9.244e-4, rel=1e-3)


def test_scattering_factors_are_physical() -> None:
    """Forwards as Doyle and Turner 1968 (silicon 5.83, gold about 10.6 angstrom); the X-ray factor begins with all
    electrons."""
    zero, far = np.zeros(1), np.full(1, 16.0)
    assert electron_factor("Si", zero)[0] == pytest.approx(5.83, abs=0.02)
    assert electron_factor("Au", zero)[0] == pytest.approx(10.57, abs=0.1)
    for element, (number, _, _) in coefficients().items():
        assert xray_factor(element, zero)[0] == pytest.approx(number)
        assert 0 < xray_factor(element, far)[0] < number
        assert 0 < electron_factor(element, far)[0] < electron_factor(element, zero)[0]
    # X-ray factor of silicon at sin(theta)/lambda = 0.5, where g = 1: 6.24 (International Tables C, table 6.1.1.1).
    assert xray_factor("Si", np.ones(1))[0] == pytest.approx(6.24, abs=0.05)


def test_density_holds_the_electrons_of_the_cell() -> None:
    crystal = named("NaCl (rock salt)")
    seen = Projection(crystal, (0, 0, 1), 0.0, 2.0, 0.5)
    box = 5.64
    field = seen.field(seen.density, coordinates(32, box), coordinates(32, box))
    assert field.mean() * box**3 == pytest.approx(4 * (11 + 17), rel=1e-6)
    blurred = seen.density * np.exp(-2 * (np.pi * 0.25) ** 2 * (seen.g**2).sum(axis=1))
    assert seen.field(blurred, coordinates(32, box), coordinates(32, box)).min() > -0.01


def bloch(seen: Projection, kilovolt: float, thickness: float, limit: float) -> dict[tuple[int, int], complex]:
    """Amplitudes of the zero-order zone from a plane wave along it, by the scattering matrix exp(2 pi i A t): an independent
    way, of eigenvalues, that has no slices and no grid. {rounded 1000 g: amplitude}"""
    near = (seen.g**2).sum(axis=1) < limit**2
    g, number = seen.g[near], int(near.sum())
    lookup = {tuple(np.rint(1000 * vector).astype(int)): value for vector, value in zip(seen.g, seen.potential, strict=True)}
    matrix = np.zeros((number, number), complex)
    for row in range(number):
        for column in range(number):
            difference = tuple(np.rint(1000 * (g[row] - g[column])).astype(int))
            matrix[row, column] = interaction(kilovolt) / (2 * np.pi) * lookup.get(difference, 0.0)
        matrix[row, row] -= wavelength(kilovolt) * (g[row] ** 2).sum() / 2
    start = np.zeros(number, complex)
    start[int((g**2).sum(axis=1).argmin())] = 1
    amplitudes = scipy.linalg.expm(2j * np.pi * matrix * thickness) @ start
    return {tuple(np.rint(1000 * vector).astype(int)): complex(value) for vector, value in zip(g, amplitudes, strict=True)}


def plane(
    seen: Projection, box: tuple[float, float], kilovolt: float, slice_angstrom: float, slices: int
) -> NDArray[np.complex64]:
    """Amplitudes (rows, columns) of a plane wave behind a crystal of which a whole number fits into the box (height,
    width)."""
    rows, columns = (round(length / ANGSTROM) for length in box)
    y, x = np.arange(rows) * box[0] / rows, np.arange(columns) * box[1] / columns
    wave = np.ones((rows, columns), np.complex64)
    (found,) = multislice(seen.field(seen.potential, x, y), box, wave, kilovolt, slice_angstrom, [slices])
    return found / (rows * columns)


def test_multislice_gives_what_bloch_waves_give() -> None:
    """Zinc blende along [001]: every beam, to a hundredth of the incident intensity at 100 angstrom; and slices of half the
    thickness are nearer."""
    crystal = named("GaAs (zinc blende)")
    seen = Projection(crystal, (0, 0, 1), 0.0, 1.33, 0.5)
    box = 4 * crystal.cell[0, 0]
    wanted = bloch(seen, 200, 100.0, BANDWIDTH / ANGSTROM / 2)
    worst = []
    for slice_angstrom in (2.0, 1.0):
        found = plane(seen, (box, box), 200, slice_angstrom, round(100 / slice_angstrom))
        apart = [
            abs(abs(found[round(gy / 1000 * box), round(gx / 1000 * box)]) ** 2 - abs(value) ** 2)
            for (gx, gy), value in wanted.items()
        ]
        worst.append(max(apart))
    assert sum(abs(value) ** 2 for value in wanted.values()) == pytest.approx(1)
    assert max(abs(value) ** 2 for key, value in wanted.items() if key != (0, 0)) > 0.05  # it is dynamical
    assert worst[0] < 0.01
    assert worst[1] < worst[0]


def test_friedels_law_breaks_where_scattering_is_dynamical() -> None:
    """Zinc blende along [110], which shows that it has no centre: I(g) = I(-g) for a thin crystal, and not for a thick one.
    Silicon has one, and keeps it at any thickness."""

    def asymmetry(material: str, thickness: float) -> float:
        crystal = named(material)
        seen = Projection(crystal, (1, 1, 0), 0.0, 1.33, 0.5)
        a = crystal.cell[0, 0]
        # Along [110] the net of the projection is a wide and a / sqrt(2) high, or the other way round.
        wide = np.abs(seen.g[np.argsort((seen.g**2).sum(axis=1))[1:]])
        across = 2 * a if np.isclose(wide[:, 0], 2 / a, atol=1e-6).any() else 2 * a * np.sqrt(2)
        box = (4 * a / np.sqrt(2), 4 * a) if across == 2 * a else (4 * a, 4 * a / np.sqrt(2))
        found = np.abs(plane(seen, box, 200, 1.0, round(thickness))) ** 2
        turned = np.roll(found[::-1, ::-1], (1, 1), (0, 1))
        found[0, 0] = turned[0, 0] = 0
        return float(np.abs(found - turned).max() / found.max())

    assert asymmetry("GaAs (zinc blende)", 2) < 0.02
    assert asymmetry("ZnTe (zinc blende)", 120) > 0.1
    assert asymmetry("Si (diamond)", 120) < 1e-3


def test_thin_crystals_scatter_kinematically() -> None:
    """Intensities of one slice go with |F|^2, to a hundredth of the strongest."""
    crystal = named("NaF (rock salt)")
    seen = Projection(crystal, (0, 0, 1), 0.0, 1.33, 0.5)
    box = 4 * crystal.cell[0, 0]
    found = np.abs(plane(seen, (box, box), 200, 1.0, 1)) ** 2
    pairs = [
        (found[round(gy * box), round(gx * box)], abs(value) ** 2)
        for (gx, gy), value in zip(seen.g, seen.potential, strict=True)
        if 0 < gx**2 + gy**2 < 1
    ]
    measured, wanted = (np.array(values) for values in zip(*pairs, strict=True))
    assert measured / measured.max() == pytest.approx(wanted / wanted.max(), abs=0.01)


def test_hands_of_a_crystal_give_the_same_pattern_turned() -> None:
    """What a perfect observer cannot tell: the projections of low quartz are those of its other hand, turned by 180 degrees.
    So are its densities; the classes are merged."""
    right, left = named("SiO2 (low quartz)", 152), named("SiO2 (low quartz)", 154)
    grid = 96
    box = grid * ANGSTROM
    for zone in ((0, 0, 1), (1, 0, 0), (1, 1, 0)):
        found = []
        for crystal, angle in ((right, 0.3), (left, 0.3 + np.pi)):
            seen = Projection(crystal, zone, angle, 1.33, 0.5)
            column = seen.columns[0]
            axis = coordinates(grid, box)
            potential = seen.field(seen.potential, axis + column[0], axis + column[1])
            (wave,) = multislice(potential, (box, box), probe(grid, box, 0.16), 200, 2.0, [50])
            found.append(np.abs(wave) ** 2)
        # The same up to single precision, in every pixel; with the other crystal not turned they differ.
        assert np.abs(found[0] - found[1]).max() < 1e-3 * found[0].max()


def test_probe_is_focused_on_the_middle_pixel() -> None:
    found = np.abs(probe(96, 24.0, 0.16)) ** 2
    assert np.unravel_index(found.argmax(), found.shape) == (48, 48)
    assert found.sum() == pytest.approx(1, rel=1e-5)
