"""Synthetic products, their conversion, and the patches: each against what is known of it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from kit.benchmarks.cloudmask import convert, patches, scenes, score

PARAMETERS = {"rows": 288, "columns": 320, "training_scenes": 3, "inference_scenes": 1, "label_error": 0.03, "seed": 5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slstr")
    scenes.generate(folder, PARAMETERS)
    return folder


@pytest.fixture(scope="module")
def converted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hdf")
    convert.run(data, out)
    return out


def test_product_has_the_names_and_grids_of_slstr(data: Path) -> None:
    import xarray as xr

    product = sorted((data / "training").iterdir())[0]
    assert product.name.startswith("S3A_SL_1_RBT____")
    names = {path.name for path in product.iterdir()}
    assert names >= {*(f"S{b}_radiance_an.nc" for b in range(1, 7)), *(f"S{b}_BT_in.nc" for b in (7, 8, 9)), "flags_in.nc"}
    with xr.open_dataset(product / "S1_radiance_an.nc", engine="h5netcdf", mask_and_scale=False) as raw:
        assert raw["S1_radiance_an"].dtype == np.int16
        assert raw["S1_radiance_an"].shape == (576, 640)
        assert raw["S1_radiance_an"].attrs["_FillValue"] == -32768


def test_physical_ranges(converted: Path) -> None:
    for path in converted.rglob("*.hdf"):
        with h5py.File(path) as file:
            seen = file["seen"][:, :, 0] > 0
            assert 180 < file["bts"][:][seen].min() < file["bts"][:][seen].max() < 340
            if file.attrs["day"]:
                assert -0.05 < file["refs"][:][seen].min() < file["refs"][:][seen].max() < 1.3
            assert 0 < seen.mean() < 1  # the swath has an edge


def test_reflectance_undoes_the_radiance(converted: Path) -> None:
    """Sea without cloud has the albedo it was made with, whatever the sun: the conversion found irradiance and angle."""
    days = 0
    for path in converted.rglob("*.hdf"):
        with h5py.File(path) as file:
            if file.attrs["day"]:
                days += 1
                dark = np.quantile(file["refs"][:, :, 1][file["seen"][:, :, 0] > 0], 0.02)
                assert dark == pytest.approx(0.04, abs=0.03)
                assert not np.allclose(file["refs"][:], file["rads"][:])
            else:
                assert (file["refs"][:] == 0).all()
    assert days == 3


def test_label_is_wrong_at_the_known_rate(data: Path, converted: Path) -> None:
    with h5py.File(data / "truth.h5") as truth:
        errors = []
        for path in converted.rglob("*.hdf"):
            with h5py.File(path) as file:
                seen = file["seen"][:, :, 0] > 0
                errors.append(((file["bayes"][:, :, 0] > 0) != truth[str(file.attrs["product"])]["truth"][:])[seen].mean())
    assert np.mean(errors) == pytest.approx(PARAMETERS["label_error"], rel=0.15)


def test_neither_trivial_nor_hopeless(converted: Path) -> None:
    """A threshold on temperature must find some of the cloud and miss some, or the scenes test nothing."""
    threshold = score.best_threshold(converted)
    accuracy = []
    for path in sorted(converted.rglob("*.hdf")):
        scene = patches.load(path)
        counts = score.confusion(scene.channels[..., 7] < threshold, scene.label, scene.seen)
        accuracy.append(score.scores(counts)["accuracy"])
    assert 0.6 < np.mean(accuracy) < 0.95


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda product: (product / "S7_BT_in.nc").unlink(), r"S7_BT_in\.nc: missing"),
        (lambda product: (product / "S3_radiance_an.nc").write_bytes(b"CDF"), r"S3_radiance_an\.nc: not a readable"),
    ],
)
def test_damaged_product(data: Path, tmp_path: Path, damage: object, message: str) -> None:
    import shutil

    product = tmp_path / sorted((data / "training").iterdir())[0].name
    shutil.copytree(sorted((data / "training").iterdir())[0], product)
    damage(product)  # type: ignore[operator]
    with pytest.raises(convert.ProductError, match=message):
        convert.convert(product, tmp_path / "x.hdf")
    assert not (tmp_path / "x.hdf").exists()


@pytest.mark.parametrize("shape", [(1200, 1500), (512, 512), (300, 177), (176, 176), (257, 1000)])
def test_overlapping_patches_come_back_as_the_scene(shape: tuple[int, int]) -> None:
    field = np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape)
    assert np.array_equal(patches.assemble(patches.inference_patches(field), shape), field)


def test_patch_counts_are_the_references() -> None:
    field = np.zeros((1200, 1500, 1), np.uint8)
    assert len(patches.inference_patches(field)) == 63
    cut = patches.training_patches(np.arange(1200 * 1500).reshape(1200, 1500))
    assert cut.shape == (20, 256, 256)
    assert cut[0, 0, 0] == 88 * 1500 + 110


def test_scores_are_scikit_learns() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(3)
    actual, predicted = rng.random(5000) > 0.7, rng.random(5000) > 0.6
    counts = score.confusion(predicted, actual, np.ones(5000))
    own = score.scores(counts)
    assert own["accuracy"] == pytest.approx(metrics.accuracy_score(actual, predicted))
    assert own["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(actual, predicted))
    assert own["iou"] == pytest.approx(metrics.jaccard_score(actual, predicted))
    assert own["f1"] == pytest.approx(metrics.f1_score(actual, predicted))
    assert own["mcc"] == pytest.approx(metrics.matthews_corrcoef(actual, predicted))
    assert np.array_equal(counts, metrics.confusion_matrix(actual, predicted))
    # Pixels that were not seen count nowhere.
    assert score.confusion(predicted, actual, np.arange(5000) < 100).sum() == 100
