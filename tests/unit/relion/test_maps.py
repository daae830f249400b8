"""Fourier shell correlation and alignment on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.phantom import Settings, density, load_species
from kit.core.errors import KitError

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


FLIP = np.diag([-1.0, 1.0, 1.0])  # what maps.mirror does to a point (z, y, x)


def left_over(found: maps.Alignment, rotation: Rotation, mirrored: bool) -> Rotation:
    """What an alignment leaves of a known rotation; of a mirrored map, that was mirrored before it was rotated."""
    turned = FLIP @ rotation.as_matrix() @ FLIP if mirrored else rotation.as_matrix()
    return Rotation.from_rotvec(found.rotation, degrees=True) * Rotation.from_matrix(turned)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_align_undoes_rotation_shift_and_hand(ribosome: maps.Array, mirrored: bool, noise: float) -> None:
    rotation, shift = Rotation.from_euler("ZYZ", [70, 110, -40], degrees=True), np.array([1.5, -1.0, 0.5])
    moved = maps.transform(maps.mirror(ribosome) if mirrored else ribosome, rotation, shift)
    inside = maps.sphere(BOX, 29)
    assert maps.correlation(moved, ribosome, inside) < 0.8
    moved = moved + noise * moved.std() * np.random.default_rng(2).normal(size=moved.shape)
    found = maps.align(moved, ribosome, 29)
    assert found.mirrored == mirrored
    assert found.correlation > (0.8 if noise else 0.97)
    assert np.rad2deg(left_over(found, rotation, mirrored).magnitude()) < 0.5
    # Rotated first and then shifted, so what has to be undone is the shift as the rotation leaves it.
    source, undone = (maps.mirror(moved), shift * np.diag(FLIP)) if mirrored else (moved, shift)
    back = Rotation.from_matrix(FLIP @ rotation.as_matrix() @ FLIP if mirrored else rotation.as_matrix()).inv()
    assert np.allclose(found.shift, -back.apply(undone), atol=0.1)
    # No pose fits better, the true one included.
    true = maps.transform(source, back, -back.apply(undone))
    assert found.correlation > maps.correlation(true, ribosome, inside) - 1e-3
    assert np.array_equal(found.apply(moved), found.aligned)


@pytest.mark.parametrize("mirrored", [False, True])
def test_align_goes_over_all_grids_of_a_large_map(
    ribosome: maps.Array, mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shifts are voxels of the map on every grid; an odd side, which none of the others divides."""
    monkeypatch.setattr(maps, "COARSEST", 16)
    monkeypatch.setattr(maps, "MIDDLE", 24)
    box = 37
    large = maps.resample(ribosome, 1.5, box)  # two thirds of the size, so that it can move far
    rotation, shift = Rotation.from_rotvec([40, -100, 65], degrees=True), np.array([-6.5, 6.0, 5.5])
    moved = maps.transform(maps.mirror(large) if mirrored else large, rotation, shift)
    starts: dict[int, maps.Pose] = {}
    plain = maps.refine

    def watched(
        splines: maps.Array, reference: maps.Array, diameter: float, start: maps.Pose, effort: maps.Effort
    ) -> maps.Pose:
        starts.setdefault(len(reference), start)
        return plain(splines, reference, diameter, start, effort)

    monkeypatch.setattr(maps, "refine", watched)
    found = maps.align(moved, large, 21)
    assert list(starts) == [16, 24, box]
    assert all(np.allclose(starts[grid].shift * box / grid, found.shift, atol=0.5) for grid in (24, box))
    assert found.mirrored == mirrored
    assert found.correlation > 0.98
    assert np.rad2deg(left_over(found, rotation, mirrored).magnitude()) < 0.5


def test_align_finds_one_of_the_poses_of_a_symmetric_map(ribosome: maps.Array) -> None:
    turns = [Rotation.from_rotvec([angle, 0, 0], degrees=True) for angle in (0, 90, 180, 270)]
    fourfold = np.sum([maps.transform(ribosome, turn, np.zeros(3)) for turn in turns], axis=0)
    rotation = Rotation.from_euler("ZYZ", [-20, 75, 130], degrees=True)
    found = maps.align(maps.transform(fourfold, rotation, np.array([0.5, 1.0, -1.0])), fourfold, 29)
    assert not found.mirrored
    assert found.correlation > 0.97
    left = left_over(found, rotation, False)
    assert min(np.rad2deg((turn * left).magnitude()) for turn in turns) < 1


def test_of_poses_that_are_one_the_best_stays_and_of_hands_both() -> None:
    here, near = Rotation.identity(), Rotation.from_rotvec([0, 0, maps.ALIKE / 2], degrees=True)
    first, second = maps.Pose(0.9, False, here, np.zeros(3)), maps.Pose(0.8, False, near, np.zeros(3))
    other = maps.Pose(0.7, True, here, np.zeros(3))
    assert maps.distinct([other, second, first]) == [first, other]


def test_wrong_map_is_not_aligned_into_a_right_one(ribosome: maps.Array) -> None:
    """The check that a map agrees with the truth must refuse a map that does not."""
    wrong = maps.low_pass(np.random.default_rng(1).normal(size=ribosome.shape), 6) * maps.sphere(BOX, 26)
    assert maps.align(wrong, ribosome, 29, count=200).correlation < 0.8
    assert Settings().box == BOX


def test_a_map_of_no_numbers_or_of_nothing_agrees_with_nothing(ribosome: maps.Array) -> None:
    with pytest.raises(KitError, match="no number"):
        maps.align(np.where(maps.sphere(BOX, 3), np.nan, ribosome), ribosome, 29, count=2)
    with np.errstate(invalid="ignore"):
        assert not maps.align(np.zeros_like(ribosome), ribosome, 29, count=2).correlation > 0


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
