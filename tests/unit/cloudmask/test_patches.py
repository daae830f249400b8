"""How scenes are cut, put together again and labelled, and the shards that training reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from kit.stages.cloudmask import convert, patches, shards
from kit.stages.cloudmask.patches import Label


@pytest.mark.parametrize("shape", [(1200, 1500), (512, 512), (300, 177), (176, 176), (257, 1000), (90, 61), (1700, 300)])
@pytest.mark.parametrize("patch", [patches.PATCH, 512, patches.WHOLE])
def test_overlapping_patches_come_back_as_the_scene(shape: tuple[int, int], patch: int) -> None:
    field = np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape)
    cut = patches.inference_patches(field, patch)
    assert max(cut.shape[1:]) <= patch
    assert all(side % 8 == 0 for side in cut.shape[1:])
    assert np.array_equal(patches.assemble(cut, shape, patch), field)


def test_a_scene_of_slstr_is_one_patch() -> None:
    assert patches.inference_patches(np.zeros((1200, 1500), bool), patches.WHOLE).shape == (1, 1280, 1584)


@pytest.mark.parametrize("patch", [0, 80, 260])
def test_patches_that_can_not_be(patch: int) -> None:
    with pytest.raises(ValueError, match=f"patches of {patch} pixels: a multiple of 8 above 80 is needed"):
        patches.inference_patches(np.zeros((300, 300)), patch)


def test_patches_are_the_references() -> None:
    numbers = np.arange(1, 1200 * 1500 + 1).reshape(1200, 1500)
    overlapping = patches.inference_patches(numbers)
    assert len(overlapping) == 63
    # The reference pads 56 rows and 82 columns before the scene (SAME).
    assert overlapping[0, 56, 82] == 1
    cut = patches.training_patches(numbers - 1)
    assert cut.shape == (20, 256, 256)
    assert cut[0, 0, 0] == 88 * 1500 + 110


def test_a_scene_smaller_than_a_patch() -> None:
    with pytest.raises(ValueError, match=r"a scene of \(255, 400\) pixels is smaller than one patch of 256"):
        patches.training_patches(np.zeros((255, 400)))


@pytest.fixture
def labelled(tmp_path: Path) -> h5py.File:
    with h5py.File(tmp_path / "scene.hdf", "w") as file:
        bayes = file.create_dataset("bayes", data=np.array([[0, 1, 2, 8]], np.uint8)[..., None])
        bayes.attrs["flag_masks"] = [1, 2, 4, 8]
        bayes.attrs["flag_meanings"] = "single_low single_moderate dual_low dual_moderate"
        file["summary"] = np.array([[1, 0, 0, 1]], np.uint8)[..., None]
        yield file


@pytest.mark.parametrize(
    ("label", "cloud"),
    [
        (Label(), [0, 1, 1, 1]),
        (Label(positive="clear"), [1, 0, 0, 0]),
        (Label(bits="single_moderate"), [0, 0, 1, 0]),
        (Label(bits="single_moderate,dual_moderate"), [0, 0, 1, 1]),
        (Label("summary"), [1, 0, 0, 1]),
    ],
)
def test_label_is_a_choice(labelled: h5py.File, label: Label, cloud: list[int]) -> None:
    assert label.read(labelled).astype(int).tolist() == [cloud]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (Label("truth"), "label source truth"),
        (Label(positive="yes"), "positive yes: bayes, summary or probability; cloud or clear"),
        (Label("probability"), "no dataset probability"),
        (Label(bits="moderate"), "bayes has no bit moderate; it has single_low, single_moderate"),
    ],
)
def test_labels_that_are_none(labelled: h5py.File, label: Label, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label.read(labelled)


def test_shards_hold_what_the_scenes_do(converted: Path) -> None:
    found = shards.Shards(converted / "patches", "training")
    listing = json.loads((converted / "patches/shards.json").read_text())
    assert len(found) == listing["training_patches"] == 3
    channels, classes = found.read(np.array([2, 0]))
    paths = sorted((converted / "scenes/training").glob("*.hdf"))
    for place, path in ((0, paths[2]), (1, paths[0])):
        scene = patches.load(path, Label())
        assert np.allclose(channels[place], patches.training_patches(scene.channels)[0], rtol=2**-11, atol=1e-6)
        seen, cloud = (patches.training_patches(field)[0] for field in (scene.seen, scene.cloud))
        assert np.array_equal(classes[place] != patches.UNSEEN, seen)
        assert np.array_equal((classes[place] == 1) & seen, cloud & seen)


def test_a_patch_that_nobody_saw_is_left_out(converted: Path, tmp_path: Path) -> None:
    source = sorted((converted / "scenes/training").glob("*.hdf"))[0]
    target = tmp_path / source.name
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "a") as file:
        file["seen"][:] = 0
    found = shards.cut((target, tmp_path / "x.npy", Label()))
    assert (found["patches"], found["dropped"]) == (0, 1)


def test_swapped_polarity_is_refused(converted: Path, tmp_path: Path) -> None:
    """Cloud is colder than what it hides; a label by which it is warmer is read the wrong way round."""
    with pytest.raises(ValueError, match=r"is warmer, .* K, than what it calls clear.*read the wrong way round"):
        shards.cut_all(converted / "scenes", tmp_path, Label(positive="clear"))
    assert not (tmp_path / "shards.json").exists()


def repainted(converted: Path, folder: Path, change: Callable[[h5py.File], object]) -> Path:
    """Copies of the scenes to train on, each changed."""
    for split in shards.SPLITS:
        (folder / split).mkdir(parents=True)
        for path in (converted / "scenes" / split).glob("*.hdf"):
            shutil.copy(path, folder / split)
            with h5py.File(folder / split / path.name, "a") as file:
                change(file)
    return folder


def place(file: h5py.File, time: str, surface: int) -> None:
    """Puts a whole scene into a time of day and onto a surface."""
    masks = dict(zip(file["flags"].attrs["flag_meanings"].split(), file["flags"].attrs["flag_masks"], strict=True))
    # Whole arrays: a single number would be written a pixel at a time.
    file["flags"][:] = np.full(file["flags"].shape, masks[time])
    file["surface"][:] = np.full(file["surface"].shape, surface)


def polar_night(file: h5py.File, surface: int = 0) -> None:
    """Ice under a clear sky cools to 235 K, and cloud above it is 15 K warmer."""
    place(file, "night", surface)
    cloud = file["bayes"][:, :, 0] > 0
    file["bts"][:] = np.where(np.isfinite(file["bts"][:]), np.where(cloud, 250, 235)[..., None], np.nan)


@pytest.mark.parametrize("surface", [0, 1, 2])  # the sea, frozen or not, has one flag; and not all snow is seen by night
def test_the_right_label_of_polar_night_is_taken(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], surface: int
) -> None:
    """Cloud is warmer than the ice below it: a warning that says where, and no refusal."""
    data = repainted(converted, tmp_path / "scenes", lambda file: polar_night(file, surface))
    shards.cut_all(data, tmp_path, Label())
    name = f"{('sea', 'land', 'ice')[surface]} by night"
    said = capsys.readouterr().out
    assert f"warning: cloud is warmer than clear sky: {name} 250.0 K, and 235.0 K" in said
    assert "warning: no open sea and no land by day: nothing tells whether the label is read the right way round" in said
    found = json.loads((tmp_path / "shards.json").read_text())["polarity"]
    assert (found["reversed"], found["decided"], found["trusted"]) == (False, False, False)
    assert [entry["place"] for entry in found["places"]] == [name]
    assert len(found["warnings"]) == 2


def test_polar_night_does_not_hide_a_swapped_label(converted: Path, tmp_path: Path) -> None:
    """One scene of open sea tells, however much ice is beside it."""
    left = iter(range(100))
    data = repainted(
        converted, tmp_path / "scenes", lambda file: polar_night(file) if next(left) else place(file, "night", 0)
    )
    shards.cut_all(data, tmp_path, Label())
    (tmp_path / "shards.json").unlink()
    whole = repainted(converted, tmp_path / "whole", lambda file: None)
    with pytest.raises(ValueError, match=r"sea by day .* K, and .* K.*read the wrong way round .*--trust-label"):
        shards.cut_all(whole, tmp_path, Label(positive="clear"))
    assert not (tmp_path / "shards.json").exists()


def test_unknown_ground_by_night_decides_nothing(converted: Path, tmp_path: Path) -> None:
    """Of files that do not say what lies below, as those of DS1: cloud above polar land by night is the warmer."""

    def change(file: h5py.File) -> None:
        place(file, "night", convert.NO_SURFACE)
        cloud = file["bayes"][:, :, 0] > 0
        file["bts"][:] = np.broadcast_to(np.where(cloud, 275.0, 272.0)[..., None], file["bts"].shape)

    shards.cut_all(repainted(converted, tmp_path / "scenes", change), tmp_path, Label())
    found = json.loads((tmp_path / "shards.json").read_text())["polarity"]
    assert [entry["place"] for entry in found["places"]] == ["unknown surface by night"]
    assert (found["reversed"], found["decided"]) == (False, False)


def test_what_overrules_the_guard_is_recorded(converted: Path, tmp_path: Path) -> None:
    shards.cut_all(converted / "scenes", tmp_path, Label(positive="clear"), trust_label=True)
    found = json.loads((tmp_path / "shards.json").read_text())["polarity"]
    assert (found["reversed"], found["trusted"]) == (True, True)
    assert found["cloud_kelvin"] > found["clear_kelvin"]
    assert shards.Shards(tmp_path, "training").trusted
    assert not shards.Shards(converted / "patches", "training").trusted
    found = json.loads((converted / "patches/shards.json").read_text())["polarity"]
    assert (found["reversed"], found["decided"], found["trusted"]) == (False, True, False)


def test_one_training_has_one_radiometry(converted: Path, tmp_path: Path) -> None:
    """Reflectances that others made, without the vicarious gain, are not those of products; the refusal names both."""
    assert shards.Shards(converted / "patches", "training").radiometry == "products"
    others = iter(["distributed"])
    data = repainted(
        converted, tmp_path / "scenes", lambda file: file.attrs.update({"radiometry": next(others, "products")})
    )
    message = r"different radiometry.*: S3\w+ has distributed \(no vicarious gain.*\); S3\w+ has products \(vicarious gain"
    with pytest.raises(ValueError, match=message):
        shards.cut_all(data, tmp_path, Label())
    assert not (tmp_path / "shards.json").exists()


def test_a_model_knows_its_radiometry(tmp_path: Path) -> None:
    model = tmp_path / "model.weights.h5"
    with h5py.File(model, "w") as file:
        file["kernel"] = np.zeros(3)
    assert patches.trained_on(model) == ""
    with h5py.File(model, "r+") as file:
        file.attrs["radiometry"] = "products"
    assert patches.trained_on(model) == "products"
    assert patches.one_radiometry([("a", "products"), ("b", "")], "products") == "products"
    assert patches.one_radiometry([("a", "distributed")]) == "distributed"
    with pytest.raises(ValueError, match=r"b has distributed \(.*\); the model has products \("):
        patches.one_radiometry([("a", "products"), ("b", "distributed")], "products")


def test_a_network_masks_no_scene_of_another_radiometry(converted: Path, tmp_path: Path) -> None:
    source = sorted((converted / "scenes/inference").glob("*.hdf"))[0]
    for model in ("products", ""):
        assert patches.load_for(model, source).seen.any()
    with pytest.raises(ValueError, match=r"the model has distributed \(no vicarious gain.*; S3\w+\.SEN3 has products \("):
        patches.load_for("distributed", source)


def test_ranks_share_the_patches() -> None:
    """Equal steps, nothing twice; the patches of a step are the same however many ranks there are."""
    from kit.stages.ml.shards import shares

    alone = shares(103, 4, 1, seed=1, epoch=0)
    shared = shares(103, 2, 2, seed=1, epoch=0)
    assert alone.shape == (1, 25, 4)
    assert shared.shape == (2, 25, 2)
    assert len(np.unique(shared)) == shared.size
    assert np.array_equal(np.sort(alone[0], axis=1), np.sort(np.concatenate([*shared], axis=1), axis=1))
    assert not np.array_equal(shares(103, 4, 1, seed=1, epoch=1), alone)
