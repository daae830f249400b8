"""Fourier shell correlation and alignment on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.phantom import Settings, density, load_species

BOX, PIXEL = 32, 10.6


@pytest.fixture(scope="module")
def ribosome() -> maps.Array:
    return density(load_species()["80S"], BOX, PIXEL, 500.0).astype(np.float64)


def test_fsc_of_a_map_with_itself_and_with_noise(ribosome: maps.Array) -> None:
    noise = np.random.default_rng(0).normal(size=ribosome.shape)
    assert np.allclose(maps.fsc(ribosome, ribosome)[: BOX // 2], 1)
    assert abs(maps.fsc(ribosome, noise)[5:].mean()) < 0.05


def test_fsc_falls_where_noise_begins(ribosome: maps.Array) -> None:
    noise = np.random.default_rng(0).normal(size=ribosome.shape) * ribosome.std() * 5
    mixed = maps.low_pass(ribosome, 8) + noise - maps.low_pass(noise, 8)
    curve = maps.fsc(ribosome, mixed)
    assert 7 <= maps.crossing(curve, 0.5) <= 9
    assert maps.crossing(np.array([1.0, 0.9, 0.6, 0.4, 0.6, 0.1]), 0.5) == 2
    assert maps.crossing(np.ones(17), 0.143) == 16


@pytest.mark.parametrize("mirrored", [False, True])
def test_align_undoes_rotation_shift_and_hand(ribosome: maps.Array, mirrored: bool) -> None:
    rotation = Rotation.from_euler("ZYZ", [70, 110, -40], degrees=True)
    moved = maps.transform(maps.mirror(ribosome) if mirrored else ribosome, rotation, np.array([1.5, -1.0, 0.5]))
    assert maps.correlation(moved, ribosome, maps.sphere(BOX, 28)) < 0.8
    found = maps.align(moved, ribosome, 29)
    assert found.mirrored == mirrored
    assert found.correlation > 0.97


def test_wrong_map_is_not_aligned_into_a_right_one(ribosome: maps.Array) -> None:
    """The check that a map agrees with the truth must refuse a map that does not."""
    wrong = maps.low_pass(np.random.default_rng(1).normal(size=ribosome.shape), 6) * maps.sphere(BOX, 26)
    assert maps.align(wrong, ribosome, 29, count=200).correlation < 0.8
    assert Settings().box == BOX


def test_resample_keeps_the_map_on_another_grid(ribosome: maps.Array) -> None:
    """Finer and coarser, from the same atoms: what one grid shows and what the other was brought to."""
    fine = density(load_species()["80S"], 2 * BOX, PIXEL / 2, 500.0).astype(np.float64)
    inside = maps.sphere(BOX, 28)
    assert maps.correlation(maps.resample(fine, 2.0, BOX), ribosome, inside) > 0.97
    back = maps.resample(ribosome, 0.5, 2 * BOX)
    smooth = [maps.low_pass(m, BOX // 2 - 3) for m in (back, fine)]
    assert maps.correlation(*smooth, maps.sphere(2 * BOX, 56)) > 0.97
    wide = maps.resample(ribosome, 1.0, BOX + 8)
    assert np.allclose(wide[4:-4, 4:-4, 4:-4], ribosome, atol=1e-6 * ribosome.max())
    assert wide[:3].max() == 0
