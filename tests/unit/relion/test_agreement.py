"""What two runs have in common: classes matched whatever their numbers, and chance told from difference."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.agreement import matched_classes, permutation_test, same_particles
from kit.benchmarks.relion.phantom import write_star


def test_chance_is_called_difference_as_seldom_as_the_p_value_says() -> None:
    """Two runs that draw each particle's class from the same distribution, 200 times."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(200):
        sure = rng.random(300) < rng.random()
        first = np.where(sure, 0, rng.integers(0, 3, 300))
        second = np.where(sure, 0, rng.integers(0, 3, 300))
        found.append(permutation_test(first, second, seed))
    for level in (0.05, 0.2, 0.5):  # three standard deviations of 200 trials; ties make the test a little too careful
        assert level - 0.12 < np.mean(np.array(found) <= level) < level + 3 * (level * (1 - level) / 200) ** 0.5


def test_another_distribution_is_told_from_chance() -> None:
    rng = np.random.default_rng(1)
    first = (rng.random(1000) < 0.51).astype(np.int64)
    moved = np.where((first == 1) & (rng.random(1000) < 0.15), 0, first)  # one class loses a share to the other
    assert permutation_test(first, moved) < 0.001
    assert permutation_test(first, first) == 1.0


def bodies(box: int, count: int) -> list[maps.Array]:
    """Maps without symmetry: a few Gaussian balls each."""
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(*[np.arange(box) - box // 2] * 3, indexing="ij"))
    common = rng.normal(0, box / 9, (4, 3))
    found = []
    for _ in range(count):
        places = np.vstack([common, rng.normal(0, box / 9, (2, 3))])
        found.append(sum(np.exp(-((grid - p[:, None, None, None]) ** 2).sum(0) / 8) for p in places))
    return found


def class3d(folder: Path, densities: list[maps.Array], fractions: list[float]) -> Path:
    folder.mkdir()
    for number, density in enumerate(densities, start=1):
        with mrcfile.new(folder / f"run_it003_class{number:03d}.mrc", data=density.astype(np.float32)) as file:
            file.voxel_size = 10.0
    general = {"rlnCurrentResolution": 40.0, "rlnOriginalImageSize": 32, "rlnPixelSize": 10.0}
    model = {"model_general": general, "model_classes": pd.DataFrame({"rlnClassDistribution": fractions})}
    write_star(folder / "run_it003_model.star", model)
    write_star(folder / "run_it003_data.star", {"particles": pd.DataFrame({"rlnClassNumber": [1, 2]})})
    return folder


@pytest.mark.parametrize("turned", [False, True])
def test_classes_are_matched_by_their_maps(tmp_path: Path, turned: bool) -> None:
    one, two, three = bodies(32, 3)
    first = class3d(tmp_path / "first", [one, two, three], [0.6, 0.3, 0.1])
    other = [three, one, two]
    if turned:  # an initial model of its own: any orientation, either hand
        turn = maps.Rotation.from_rotvec([40, -70, 100], degrees=True)
        other = [maps.transform(maps.mirror(density), turn, np.zeros(3)) for density in other]
    second = class3d(tmp_path / "second", other, [0.1, 0.6, 0.3])
    assert matched_classes(first, second, aligned=turned).tolist() == [2, 0, 1]


def test_particles_are_matched_by_place_or_by_image() -> None:
    first = pd.DataFrame(
        {"rlnMicrographName": ["m/a.mrc", "m/a.mrc", "m/b.mrc"], "rlnCoordinateX": [10, 90, 10], "rlnCoordinateY": [5, 5, 5]}
    )
    second = first.iloc[::-1].assign(rlnCoordinateX=[12, 200, 8])
    left, right = same_particles(first, second, radius=5)
    assert (left.tolist(), right.tolist()) == ([0, 2], [2, 0])
    images = pd.DataFrame({"rlnImageName": ["1@x", "2@x", "3@x"]})
    left, right = same_particles(images, images.iloc[[2, 0]].reset_index(drop=True), radius=5)
    assert dict(zip(left.tolist(), right.tolist(), strict=True)) == {0: 1, 2: 0}
