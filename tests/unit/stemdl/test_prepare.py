"""Readers of the published forms, with what is wrong with files; splits by material; stacks that are changed in training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kit.benchmarks.stemdl.patterns import generate
from kit.core.errors import KitError
from kit.stages.stemdl import prepare as preparing
from kit.stages.stemdl.augment import Augment, changed
from kit.stages.stemdl.prepare import ENANTIOMORPHS, SPLITS, prepare
from kit.stages.stemdl.read import area_mean, read, space_group, to_scale
from kit.stages.stemdl.shards import Shards, places
from kit.stages.stemdl.train import density_scale
from kit.training.judge import splits_kept

OPTIONS: dict[str, Any] = {"side": 16, "values": "log", "merge": "enantiomorphs", "held_out": 0.2, "seed": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four materials of each of two space groups, both hands of quartz and selenium among them."""
    folder = tmp_path_factory.mktemp("data")
    numbers = {"materials": 4, "orientations": 1, "thicknesses": 2, "raw_side": 32, "data_seed": 3}
    generate(folder, {**numbers, "space_groups": "152,154,216"})
    return folder


def write_group(file: h5py.File, name: str, **changes: Any) -> None:
    """A good sample, but for what is changed; None leaves a key out."""
    made = {"cbed_stack": np.full((3, 32, 32), 1e-3, np.float32), "space_group": "225", **changes}
    group = file.create_group(name)
    for key, value in made.items():
        if value is None:
            continue
        if key in ("cbed_stack", "density"):
            group[key] = value
        else:
            group.attrs[key] = value


def stack(value: float) -> np.ndarray[Any, Any]:
    found = np.full((3, 32, 32), 1e-3, np.float32)
    found[1, 2, 3] = value
    return found


def test_scale_is_the_references() -> None:
    """clip(10 (max(-17, ln I) + 17), 0, 255)"""
    intensity = np.array([0.0, np.exp(-17), np.exp(-10), 1.0, np.exp(8.5), 1e9])
    assert to_scale(intensity) == pytest.approx([0, 0, 70, 170, 255, 255], abs=1e-3)


def test_pixels_are_means_of_areas() -> None:
    whole = np.arange(3 * 8 * 8, dtype=float).reshape(3, 8, 8)
    found = area_mean(whole, 4)
    assert found.shape == (3, 4, 4)
    assert found[1, 2, 3] == whole[1, 4:6, 6:8].mean()
    assert area_mean(whole, 8) is not None
    assert found.mean() == pytest.approx(whole.mean())


def test_hdf5_of_the_published_shape(tmp_path: Path) -> None:
    """512 pixels a side, a space group of bytes, no material and no density."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_group(
            file, "sample_0_0", cbed_stack=np.full((3, 512, 512), np.exp(-7), np.float32), space_group=np.bytes_("62")
        )
        write_group(file, "sample_0_1", cbed_stack=np.zeros((3, 512, 512), np.float32), space_group=14)
    one, other = read(tmp_path / "x.h5", 128)
    assert one.image.shape == other.image.shape == (128, 128, 3)
    assert (one.space_group, other.space_group) == (62, 14)
    assert one.image == pytest.approx(np.full((128, 128, 3), 100.0), abs=1e-3)
    assert not other.image.any()
    assert (one.material, one.density) == ("", None)


def test_npz_of_the_published_shape(tmp_path: Path) -> None:
    values = np.random.default_rng(1).uniform(0, 170, (3, 128, 128)).astype(np.float32)
    np.savez(tmp_path / "x.npz", data=values, label=np.array(225))
    (found,) = read(tmp_path / "x.npz", 128)
    assert found.space_group == 225
    assert np.array_equal(found.image, values.transpose(1, 2, 0))
    np.savez(tmp_path / "y.npz", data=np.exp(values / 10 - 17), label=np.array([2]))
    (other,) = read(tmp_path / "y.npz", 128, "intensity")
    assert other.image == pytest.approx(found.image, abs=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cbed_stack": None}, r"x\.h5: bad: cbed_stack is missing"),
        ({"space_group": None}, r"x\.h5: bad: the attribute space_group is missing"),
        ({"space_group": "231"}, r"x\.h5: bad: the attribute space_group is '231', where the number .* 1 to 230"),
        ({"space_group": "Fm-3m"}, r"space_group is 'Fm-3m'"),
        ({"space_group": "0"}, r"space_group is '0'"),
        ({"cbed_stack": np.ones((2, 32, 32), np.float32)}, r"bad/cbed_stack is \(2, 32, 32\), where \(3, n, n\) is needed"),
        ({"cbed_stack": np.ones((3, 32, 16), np.float32)}, r"is \(3, 32, 16\)"),
        ({"cbed_stack": np.ones((3, 24, 24), np.float32)}, r"multiple of 16 \(parameter side\)"),
        ({"cbed_stack": np.ones((3, 0, 0), np.float32)}, r"is \(3, 0, 0\)"),
        ({"cbed_stack": stack(np.nan)}, r"bad/cbed_stack has values that are not finite; fetch the file again"),
        ({"cbed_stack": stack(np.inf)}, "not finite"),
        ({"cbed_stack": stack(-0.5)}, r"bad/cbed_stack has negative intensities, down to -0\.5"),
        ({"dose": -1.0}, r"bad: the attribute dose is -1\.0, where more than 0 electrons are needed"),
        ({"dose": np.nan}, "the attribute dose is nan"),
        ({"density": np.ones((2, 8, 8))}, r"bad/density is \(2, 8, 8\)"),
        ({"density": 1.0}, r"x\.h5: bad/density is \(\), where \(3, m, m\) finite numbers are needed"),
        ({"density": np.ones((3, 8, 4))}, r"bad/density is \(3, 8, 4\)"),
        ({"density": np.full((3, 8, 8), np.nan)}, "finite numbers are needed"),
        ({"density": np.zeros((3, 8, 8))}, "has a mean of 0 or less"),
    ],
)
def test_what_is_wrong_with_hdf5_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_group(file, "bad", **changes)
    with pytest.raises(ValueError, match=message):
        list(read(tmp_path / "x.h5", 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, r"x\.npz: data is missing; it has label"),
        ({"label": None}, r"x\.npz: label is missing; it has data"),
        ({"label": np.array(231)}, r"x\.npz: label is '231'"),
        ({"label": np.array([1, 2])}, "where the number of a space group is needed"),
        ({"data": np.zeros((32, 32, 3), np.float32)}, r"x\.npz: data is \(32, 32, 3\)"),
        ({"data": stack(-1)}, "negative intensities"),
        ({"data": stack(np.nan)}, "not finite"),
        ({"data": stack(300)}, "data goes up to 300, beyond 255: .* --values intensity"),
        ({"data": np.full((3, 32, 32), "x")}, "where numbers are needed"),
    ],
)
def test_what_is_wrong_with_npz_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    made = {"data": stack(5), "label": np.array(3), **changes}
    np.savez(tmp_path / "x.npz", **{key: value for key, value in made.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        list(read(tmp_path / "x.npz", 16))


@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_files_that_are_cut_off_or_something_else_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "h5":
        with h5py.File(path, "w") as file:
            write_group(file, "one", cbed_stack=np.random.default_rng(1).random((3, 64, 64)))
    else:
        np.savez(path, data=np.random.default_rng(1).random((3, 64, 64)), label=3)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"x\.{suffix}: cannot be read as .*; fetch it again"):
            list(read(path, 16))
    with pytest.raises(ValueError, match=r"none\.h5: cannot be read as HDF5"):
        list(read(tmp_path / "none.h5", 16))
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(ValueError, match=r"empty\.h5: holds no groups"):
        list(read(tmp_path / "empty.h5", 16))


def test_space_groups_are_read_however_they_stand_there() -> None:
    for value in (225, "225", b"225", np.int64(225), np.array([225]), np.array(225.0), " 225 "):
        assert space_group(value, "x") == 225


def prepared(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    prepare(data, out, **{**OPTIONS, **changes})
    found: dict[str, Any] = json.loads((out / "prepared.json").read_text())
    return found


def test_no_material_is_on_two_sides_and_hands_stay_together(data: Path, tmp_path: Path) -> None:
    listing = prepared(data, tmp_path / "out")
    assert listing["labels"] == [152, 216]
    assert [152, 154] in listing["merged"]
    seen = [set(listing["materials"][split]) for split in SPLITS]
    assert all(seen)
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    assert len(set().union(*seen)) == 8  # each hand of a chiral crystal is the same material
    for split in SPLITS:
        assert set(listing["classes"][split]) == {"152", "216"}
        assert all(listing["classes"][split].values())
    assert listing["samples"] == {split: sum(listing["classes"][split].values()) for split in SPLITS}
    # Both hands of four crystals are twice as many stacks as four of zinc blende.
    assert listing["imbalance"] == 2.0
    for split in SPLITS:
        shards = Shards(tmp_path / "out", split, "space_group", "material", "density", "image")
        groups, materials, densities, images = shards.read(np.arange(len(shards)))
        assert len(groups) == listing["samples"][split]
        assert set(shards.units(materials)) == set(listing["materials"][split])
        assert densities.astype(float).mean(axis=(1, 2)) == pytest.approx(np.ones((len(groups), 3)), abs=2e-3)
        assert 0 <= images.min() <= images.max() <= 255
        assert (places(listing["labels"])[groups] >= 0).all()


def test_another_seed_splits_otherwise_and_the_same_alike(data: Path, tmp_path: Path) -> None:
    found = [prepared(data, tmp_path / name, seed=seed)["materials"] for name, seed in (("a", 1), ("b", 1), ("c", 5))]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_folders_of_the_publisher_are_the_splits(tmp_path: Path) -> None:
    for number, split in enumerate(SPLITS):
        (tmp_path / "data" / split).mkdir(parents=True)
        for place in range(3):
            np.savez(tmp_path / "data" / split / f"{place}.npz", data=stack(5 + number), label=place + 1)
    listing = prepared(tmp_path / "data", tmp_path / "out", merge="none")
    assert listing["samples"] == dict.fromkeys(SPLITS, 3)
    assert listing["labels"] == [1, 2, 3]
    assert listing["materials_known"] is False
    assert listing["density"] == 0
    assert listing["merged"] == []
    shards = Shards(tmp_path / "out", "testing", "material")
    assert shards.units(*shards.read(np.arange(3))) == ["testing/00000-0.npy 0"] * 3


def test_splits_that_can_not_be_are_refused(data: Path, tmp_path: Path) -> None:
    def expect(message: str, folder: Path, **changes: Any) -> None:
        with pytest.raises(ValueError, match=message):
            prepared(folder, tmp_path / "out", **changes)
        assert not (tmp_path / "out/prepared.json").exists()

    expect("held-out 0.7: a share above 0 and below 0.5", data, held_out=0.7)
    expect("--merge both: none or enantiomorphs is needed", data, merge="both")
    expect("--values dB: log or intensity is needed", data, values="dB")
    (tmp_path / "two").mkdir()
    for path in sorted(data.iterdir())[-2:]:
        shutil.copy(path, tmp_path / "two")
    said = r"crystal-\d+\.h5: space group 216: 2 materials, and three splits need one each; add .* parameter materials"
    expect(said, tmp_path / "two")
    expect(r"\.h5: .* is of space group 154, but also of 152; .*: --merge enantiomorphs", data, merge="none")
    (tmp_path / "named").mkdir()
    for group in ("14", "62"):
        with h5py.File(tmp_path / f"named/{group}.h5", "w") as file:
            write_group(file, "one", space_group=group, material="ice")
    expect(r"62\.h5: ice is of space group 62, but also of 14; give each its own attribute material", tmp_path / "named")
    for split in ("training", "validation"):
        (tmp_path / "leak" / split).mkdir(parents=True)
        shutil.copy(min(data.iterdir()), tmp_path / "leak" / split)
    (tmp_path / "leak/testing").mkdir()
    expect(r"no samples \(\.h5, \.npz\) for testing", tmp_path / "leak")
    shutil.copy(max(data.iterdir()), tmp_path / "leak/testing")
    expect(r"materials of training are in validation as well: SiO2 \(low quartz\); move the files", tmp_path / "leak")
    (tmp_path / "silent").mkdir()
    with h5py.File(tmp_path / "silent/x.h5", "w") as file:
        write_group(file, "one")
    expect(r"x\.h5: does not say the material", tmp_path / "silent")
    np.savez(tmp_path / "silent/a.npz", data=stack(5), label=3)
    expect(r"a\.npz: npz does not say its material", tmp_path / "silent")


def test_densities_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    class Alike:
        paths = (tmp_path / "training/00000-0.npy",)

    (tmp_path / "training").mkdir()
    np.save(Alike.paths[0], np.ones(3, preparing.record(4, 2)))
    alike: Any = Alike
    with pytest.raises(ValueError, match=r"training: density: those of training are all alike.* prepare them again"):
        density_scale(alike)


def test_a_leak_is_refused_by_the_judge(data: Path, tmp_path: Path) -> None:
    materials = prepared(data, tmp_path / "out")["materials"]
    listed = {split: {name: name for name in found} for split, found in materials.items()}
    used = {split: list(materials[split]) for split in ("training", "validation")}
    splits_kept("train/train.json", used, listed, "testing", "materials")
    leaked = {**used, "training": [*used["training"], materials["testing"][0]]}
    with pytest.raises(KitError, match="test materials were seen in training"):
        splits_kept("train/train.json", leaked, listed, "testing", "materials")


def test_a_stage_that_was_cut_off_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are done are not done again; a file that cannot be read leaves no prepared.json, and nothing half."""
    first = prepared(data, tmp_path / "whole")
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    broken = max(copy.iterdir())
    content = broken.read_bytes()
    with h5py.File(broken, "r+") as file:
        del file[min(file)]["cbed_stack"]
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=rf"{broken.name}: .*cbed_stack is missing"):
        prepared(copy, out)
    assert not (out / "prepared.json").exists()
    assert not list(out.rglob("*.partial"))
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    assert times
    broken.write_bytes(content)
    second = prepared(copy, out)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {key: second[key] for key in ("materials", "classes", "shards")} == {
        key: first[key] for key in ("materials", "classes", "shards")
    }
    # Read in another way, everything is made anew.
    assert prepared(copy, out, side=32)["side"] == 32
    shards = Shards(out, "training", "image")
    assert shards.read(np.arange(1))[0].shape == (1, 32, 32, 3)
    # A file holds at most so many records.
    monkeypatch.setattr(preparing, "MOST_RECORDS", 1)
    job = preparing.Job("training", 99, [min(data.iterdir())], 16, "log", "enantiomorphs")
    assert [shard["samples"] for shard in preparing.job(job, out)["shards"]] == [1, 1]


def test_enantiomorphs_are_eleven_pairs() -> None:
    """Those of the 65 groups without improper operations whose screws have a hand (International Tables A)."""
    assert len(ENANTIOMORPHS) == 11
    import spglib

    operations: dict[int, list[Any]] = {}
    for hall in range(1, 531):
        found = spglib.get_spacegroup_type(hall)
        assert found is not None
        operations.setdefault(found.number, []).append((hall, found.pointgroup_international))
    for high, low in ENANTIOMORPHS.items():
        assert operations[high][0][1] == operations[low][0][1]  # one point group
        symmetry = spglib.get_symmetry_from_database(operations[high][0][0])
        assert symmetry is not None
        assert all(round(np.linalg.det(rotation)) == 1 for rotation in symmetry["rotations"])


MIRRORS: list[Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = [
    lambda p: p,
    lambda p: p[::-1],
    lambda p: p[:, ::-1],
    lambda p: p[::-1, ::-1],
]


def test_stacks_are_changed_as_said() -> None:
    images = np.random.default_rng(1).uniform(1, 255, (6, 16, 16, 3)).astype(np.float16)
    assert np.array_equal(changed(images, Augment(), np.random.default_rng(1)), images)
    mirrored = changed(images, Augment(mirror=True), np.random.default_rng(1))
    for one, other in zip(mirrored, images, strict=True):
        for projection in range(3):
            inner = other[1:, 1:, projection]  # the middle pixel is in the middle of these
            assert any(np.array_equal(one[1:, 1:, projection], turn(inner)) for turn in MIRRORS)
            assert one[8, 8, projection] == other[8, 8, projection]
    assert not np.array_equal(mirrored, images)
    erased = changed(images, Augment(erase=1.0), np.random.default_rng(1))
    for image in erased:
        share = (image == 0).all(axis=-1).mean()
        assert 0 < share < 0.4
    assert np.array_equal(erased[erased > 0], images[erased > 0])
    zoomed = changed(images, Augment(zoom=0.2), np.random.default_rng(1))
    assert np.array_equal(zoomed[:, 8, 8], images[:, 8, 8])  # about the middle
    again = changed(images, Augment(True, 0.2, 0.5), np.random.default_rng(2))
    assert np.array_equal(again, changed(images, Augment(True, 0.2, 0.5), np.random.default_rng(2)))
    assert np.array_equal(images, np.random.default_rng(1).uniform(1, 255, (6, 16, 16, 3)).astype(np.float16))
    with pytest.raises(ValueError, match="--mirror makes the other hand of a crystal"):
        Augment(mirror=True).checked("none")
    with pytest.raises(ValueError, match="shares are needed"):
        Augment(erase=1.5).checked("none")
