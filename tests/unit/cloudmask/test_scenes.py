"""Synthetic scenes: each against what is known of it, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from synthetic import PARAMETERS

from kit.benchmarks.cloudmask import scenes, writing
from kit.stages.cloudmask import patches, products, score


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """By any number of processes."""
    small = {**PARAMETERS, "rows": 64, "columns": 80, "training_scenes": 3, "inference_scenes": 1}
    for name, seed, processes in (("one", 5, 1), ("two", 5, 3), ("three", 6, 3)):
        (tmp_path / name).mkdir()
        scenes.generate(tmp_path / name, {**small, "data_seed": seed}, processes)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert hashes(tmp_path / "one") != hashes(tmp_path / "three")


def test_a_product_is_netcdf(data: Path) -> None:
    """Its files are opened by the library of NetCDF itself, and named dimensions are shared by the variables of a file."""
    import netCDF4

    product = sorted((data / "training").iterdir())[0]
    for path in sorted(product.iterdir()):
        with netCDF4.Dataset(path) as file:
            assert file.variables
            assert not set(file.variables) & set(file.dimensions)
            used = {name for variable in file.variables.values() for name in variable.dimensions}
            assert used == set(file.dimensions)
    with netCDF4.Dataset(product / "S1_radiance_an.nc") as file:
        radiance = file["S1_radiance_an"]
        assert radiance.dimensions == ("rows", "columns")
        assert radiance.shape == (2 * PARAMETERS["rows"], 2 * PARAMETERS["columns"])
        assert np.ma.getmaskarray(radiance[:]).any()  # beyond the swath


@pytest.mark.parametrize("offset", [0.0, 283.73])
def test_packing_is_undone_by_reading(tmp_path: Path, offset: float) -> None:
    values = np.linspace(-20, 20, 1000).reshape(20, 50) + offset
    values[3, 4] = np.nan
    with h5py.File(tmp_path / "x.nc", "w") as file:
        writing.add(file, "x", writing.packed(values, "K", "toa_brightness_temperature", 0.01, offset))
    read, attributes, _ = products.read(tmp_path, "x.nc", "x")
    assert np.isnan(read[3, 4])
    assert np.isnan(read).sum() == 1
    assert np.nanmax(np.abs(read - values)) <= 0.005 + 1e-9
    assert attributes["units"] == "K"


def test_an_orbit_on_both_sides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training_scenes is 4, not a multiple of 3"):
        scenes.generate(tmp_path, {**PARAMETERS, "training_scenes": 4})


def test_physical_ranges(converted: Path) -> None:
    for path in (converted / "scenes").rglob("*.hdf"):
        with h5py.File(path) as file:
            seen = file["seen"][:, :, 0] > 0
            assert 180 < file["bts"][:][seen].min() < file["bts"][:][seen].max() < 340
            difference = (file["bts"][:, :, 1] - file["bts"][:, :, 2])[seen]
            assert -2 < difference.min() < difference.max() < 10
            if file.attrs["day"]:
                assert -0.05 < file["refs"][:][seen].min() < file["refs"][:][seen].max() < 1.6
            else:
                assert (file["refs"][:] == 0).all()
            assert 0 < seen.mean() < 1  # the swath has an edge


def test_label_is_wrong_at_the_known_rate(data: Path, converted: Path) -> None:
    errors = []
    with h5py.File(data / "truth.h5") as truth:
        for path in (converted / "scenes").rglob("*.hdf"):
            scene = patches.load(path, patches.Label())
            errors.append((scene.cloud != truth[scene.name]["truth"][:])[scene.seen].mean())
    assert np.mean(errors) == pytest.approx(PARAMETERS["label_error"], rel=0.15)


def test_neither_trivial_nor_hopeless(converted: Path) -> None:
    """A threshold on temperature must find some of the cloud and miss some, or the scenes test nothing."""
    label = patches.Label()
    threshold = score.best_threshold(converted / "scenes", label)
    counts = np.zeros((2, 2), np.int64)
    for path in sorted((converted / "scenes").rglob("*.hdf")):
        scene = patches.load(path, label)
        counts += score.confusion(scene.channels[..., 7] < threshold, scene.cloud, scene.seen)
    assert 0.55 < score.scores(counts)["accuracy"] < 0.9
