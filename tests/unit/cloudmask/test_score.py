"""What is said of a mask: each number against another way to come by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from kit.stages.cloudmask import infer, score
from kit.stages.cloudmask.patches import Label, Scene, load


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


def test_calibration_is_scikit_learns() -> None:
    from sklearn import metrics
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(4)
    chance = rng.random((50, 80)).astype(np.float32)
    cloud, seen = rng.random((50, 80)) < chance**2, rng.random((50, 80)) < 0.9
    found = score.Calibration()
    found.add(chance, Scene("x", True, np.zeros(0), cloud, seen))
    result = found.result()
    assert result["cross_entropy"] == pytest.approx(metrics.log_loss(cloud[seen], chance[seen]), rel=1e-5)
    assert result["brier"] == pytest.approx(metrics.brier_score_loss(cloud[seen], chance[seen]), rel=1e-5)
    share, said = calibration_curve(cloud[seen], chance[seen], n_bins=10)
    assert [entry["found"] for entry in result["bins"]] == pytest.approx(share.tolist())
    assert [entry["said"] for entry in result["bins"]] == pytest.approx(said.tolist(), rel=1e-5)
    assert result["calibration_error"] > 0.1  # x^2 is far from x


def test_intervals_are_over_scenes() -> None:
    """Scenes that are all alike leave no doubt; two that differ leave the whole range between them."""
    draws = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), size=500)
    alike = np.array([[[40, 10], [10, 40]]] * 4)
    assert score.interval(score.accuracies(alike, draws)) == [0.8, 0.8]
    apart = np.array([[[50, 0], [0, 50]]] * 2 + [[[0, 50], [50, 0]]] * 2)
    low, high = score.interval(score.accuracies(apart, draws))
    assert (low, high) == (0.0, 1.0)


@pytest.fixture
def masks(converted: Path, tmp_path: Path) -> Path:
    """Masks of the scenes for inference that are the label itself, but for a tenth of the pixels."""
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    for path in sorted((converted / "scenes/inference").glob("*.hdf")):
        scene = load(path, Label())
        chance = np.where(scene.cloud ^ (rng.random(scene.cloud.shape) < 0.1), 0.8, 0.2)
        infer.write_mask(tmp_path / "masks" / f"{path.stem}.nc", scene, chance)
    return tmp_path / "masks"


def test_masks_follow_the_conventions(masks: Path) -> None:
    paths = sorted(masks.glob("*.nc"))
    assert [path.stem for path in paths] == [path.stem for path in sorted(masks.glob("*.png"))]
    with xr.open_dataset(paths[0], engine="h5netcdf") as mask:
        assert mask.attrs["Conventions"] == "CF-1.8"
        assert mask["cloud_mask"].attrs["flag_meanings"] == "clear cloud not_seen"
        unseen = mask["cloud_mask"].values == 2
        assert unseen.any()
        assert np.array_equal(np.isnan(mask["cloud_probability"].values), unseen)


def test_score_against_label_truth_and_baselines(data: Path, converted: Path, masks: Path, tmp_path: Path) -> None:
    score.score(converted / "scenes", masks, data / "truth.h5", tmp_path, Label())
    found = json.loads((tmp_path / "score.json").read_text())
    assert found["label"]["network"]["accuracy"] == pytest.approx(0.9, abs=0.01)
    assert found["label"]["label"]["accuracy"] == 1
    assert found["truth"]["label"]["accuracy"] == pytest.approx(0.97, abs=0.005)
    assert found["label"]["majority"]["accuracy"] == pytest.approx(max(found["cloud_fraction"], 1 - found["cloud_fraction"]))
    assert found["best_baseline"] in ("majority", "threshold", "summary")
    assert 0 < found["separation"] <= found["margin_interval"][0] < found["margin"] < 0.9
    baselines = [found["label"][name]["accuracy_interval"][1] for name in score.BASELINES]
    assert found["separation"] == found["label"]["network"]["accuracy_interval"][0] - max(baselines)
    strata = found["strata"]
    assert {"day", "night", "sea", "land"} <= set(strata)
    assert strata["day"]["pixels"] + strata["night"]["pixels"] == found["pixels"]
    # These masks are the label but for chance, and the label errs at thin cloud.
    layers = found["truth_by_thickness"]
    assert set(layers) == {"thin", "medium", "thick", "clear"}
    assert sum(layer["pixels"] for layer in layers.values()) == found["pixels"]
    assert layers["thin"]["accuracy"] < layers["thick"]["accuracy"] == pytest.approx(0.9, abs=0.01)
    # The other way round it is as wrong as it was right.
    score.score(converted / "scenes", masks, None, tmp_path, Label(positive="clear"))
    swapped = json.loads((tmp_path / "score.json").read_text())
    assert swapped["label"]["network"]["accuracy"] == pytest.approx(1 - found["label"]["network"]["accuracy"])
    assert swapped["margin"] < 0
    assert swapped["truth"] == {}


def test_a_scene_without_a_mask_is_refused(data: Path, converted: Path, masks: Path, tmp_path: Path) -> None:
    sorted(masks.glob("*.nc"))[0].unlink()
    with pytest.raises(ValueError, match=r"\.nc: missing; a score without every scene"):
        score.score(converted / "scenes", masks, data / "truth.h5", tmp_path, Label())
    assert not (tmp_path / "score.json").exists()


def changed(converted: Path, folder: Path, change: Callable[[h5py.File], object]) -> Path:
    """The scenes for inference, each changed, beside those to train on."""
    (folder / "inference").mkdir(parents=True)
    (folder / "training").symlink_to(converted / "scenes/training")
    for path in (converted / "scenes/inference").glob("*.hdf"):
        shutil.copy(path, folder / "inference")
        with h5py.File(folder / "inference" / path.name, "a") as file:
            change(file)
    return folder


def flag(file: h5py.File, name: str, where: Any) -> None:
    masks = dict(zip(file["flags"].attrs["flag_meanings"].split(), file["flags"].attrs["flag_masks"], strict=True))
    file["flags"][:, :, 0] = np.where(where, file["flags"][:, :, 0] | masks[name], file["flags"][:, :, 0])


def scored(data: Path, masks: Path, out: Path, **options: Any) -> dict[str, Any]:
    score.score(data, masks, None, out, Label(), **options)
    return json.loads((out / "score.json").read_text())


def test_what_was_not_seen_is_reported(converted: Path, masks: Path, tmp_path: Path) -> None:
    found = scored(converted / "scenes", masks, tmp_path)["unseen"]
    unseen = []
    for path in (converted / "scenes/inference").glob("*.hdf"):
        with h5py.File(path) as file:
            unseen.append(file["seen"][:] == 0)
    assert found["share"] == pytest.approx(np.mean(unseen))
    assert found["pixels"] == sum(part.size for part in unseen)
    assert set(found["channels"]) == {f"S{band}" for band in range(1, 10)}
    assert set(found["by_time"]) == {"day", "night"}
    assert {"sea", "land"} <= set(found["by_surface"])


def test_a_pixel_without_a_label_is_not_scored(converted: Path, masks: Path, tmp_path: Path) -> None:
    """In no count, neither as clear nor as cloud; and how many there are is said."""
    rows = np.arange(288)[:, None] < 100
    data = changed(converted, tmp_path / "scenes", lambda file: flag(file, "no_bayes", rows))
    whole, found = scored(converted / "scenes", masks, tmp_path), scored(data, masks, tmp_path)
    assert whole["unlabelled"] == 0
    assert found["unlabelled"] == pytest.approx(1 - found["pixels"] / whole["pixels"])
    assert 0.3 < found["unlabelled"] < 0.4
    # A summary mask that says nothing there is judged by the rest.
    data = changed(converted, tmp_path / "other", lambda file: flag(file, "no_summary", rows))
    found = scored(data, masks, tmp_path)
    assert found["label"]["summary"]["pixels"] < found["label"]["network"]["pixels"] == whole["pixels"]


def test_cosmetic_copies_can_be_left_out(converted: Path, masks: Path, tmp_path: Path) -> None:
    copied = np.arange(320)[None, :] % 4 == 0
    data = changed(converted, tmp_path / "scenes", lambda file: flag(file, "cosmetic", copied))
    whole, found = (scored(data, masks, tmp_path, without_cosmetic=choice) for choice in (False, True))
    assert whole["cosmetic"] == {"share": pytest.approx(0.25, abs=0.01), "left_out": False}
    assert found["cosmetic"] == {"share": whole["cosmetic"]["share"], "left_out": True}
    assert found["pixels"] == pytest.approx(whole["pixels"] * (1 - whole["cosmetic"]["share"]))
    assert found["label"]["network"]["accuracy"] == pytest.approx(0.9, abs=0.01)


def test_day_and_night_are_pixel_by_pixel(converted: Path, masks: Path, tmp_path: Path) -> None:
    """A scene that the terminator goes through has pixels of both."""

    def terminator(file: h5py.File) -> None:
        file["flags"][:] = np.where(np.arange(320)[None, :, None] < 80, 1, 2)

    found = scored(changed(converted, tmp_path / "scenes", terminator), masks, tmp_path)["strata"]
    assert found["day"]["pixels"] / (found["day"]["pixels"] + found["night"]["pixels"]) == pytest.approx(0.25, abs=0.01)


def test_scenes_of_every_satellite_are_scored(converted: Path, masks: Path, tmp_path: Path) -> None:
    data = changed(converted, tmp_path / "scenes", lambda file: None)
    path = sorted((data / "inference").glob("*.hdf"))[0]
    path.rename(path.with_name(path.name.replace("S3A", "S3C").replace("S3B", "S3D")))
    with pytest.raises(ValueError, match=r"S3[CD].*\.nc: missing"):
        scored(data, masks, tmp_path)


def test_a_mask_that_says_nothing_is_refused(converted: Path, masks: Path, tmp_path: Path) -> None:
    """Fill in a mask is no clear sky."""
    path = sorted(masks.glob("*.nc"))[0]
    with h5py.File(path, "a") as file:
        file["cloud_mask"][:144] = 2
    with pytest.raises(ValueError, match=r"\.nc: says nothing of (49|50|51)\.\d% of the pixels that the scene was seen at"):
        scored(converted / "scenes", masks, tmp_path)
    assert not (tmp_path / "score.json").exists()
