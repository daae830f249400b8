"""The split, and the conversion to the reference's layout: what it records, what it skips, what it refuses."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from kit.benchmarks.cloudmask import convert, extract, products, scenes
from kit.benchmarks.cloudmask.products import ProductError


def test_split_is_by_orbit_and_does_not_depend_on_the_order_of_files(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    extract.extract(data, tmp_path / "a", validation_scenes=1, seed=3)
    listing = json.loads((tmp_path / "a/scenes.json").read_text())
    splits: dict[str, set[str]] = {"training": set(), "validation": set(), "inference": set()}
    for scene in listing["scenes"]:
        splits[scene["split"]].add(scene["orbit"])
        assert len(scene["sha256"]) == 64
    assert (listing["training"], listing["validation"], listing["inference"]) == (3, 3, 3)
    assert not splits["training"] & splits["validation"]
    assert not (splits["training"] | splits["validation"]) & splits["inference"]
    orbits = {f"S3A_000_{number:03d}": 3 for number in range(20)}
    chosen = extract.validation_orbits(orbits, 7, seed=3)
    assert len(chosen) == 3
    assert chosen == extract.validation_orbits(dict(reversed(orbits.items())), 7, seed=3)
    assert chosen != extract.validation_orbits(orbits, 7, seed=4)


def linked(data: Path, folder: Path) -> Path:
    """The products of `data` as links, of which some can go or come."""
    for split in ("training", "inference"):
        (folder / split).mkdir(parents=True)
        for path in (data / split).iterdir():
            (folder / split / path.name).symlink_to(path)
    return folder


def test_splits_that_are_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    twice = linked(data, tmp_path / "twice")
    first = sorted((twice / "training").iterdir())[0]
    copy = twice / "training" / first.name.replace("_001_", "_099_").replace("T0000", "T2350")
    copy.symlink_to(first.resolve())
    with pytest.raises(ProductError, match=r"the same content as .*; a scene counts once"):
        extract.extract(twice, out, 1, 0)
    copy.unlink()
    again = twice / "training" / first.name.replace("20210201T000000", "20210301T000000")
    shutil.copytree(first, again)
    (again / "S8_BT_in.nc").write_bytes(b"processed anew")
    with pytest.raises(ProductError, match="the same satellite and time as"):
        extract.extract(twice, out, 1, 0)
    with pytest.raises(ProductError, match="6 scenes of 2 orbits, 6 of them for validation, leave none for training"):
        extract.extract(data, out, 6, 0)
    (tmp_path / "empty/training").mkdir(parents=True)
    with pytest.raises(ProductError, match="no scenes"):
        extract.extract(tmp_path / "empty", out, 1, 0)
    assert not (out / "scenes.json").exists()


def test_scenes_beside_those_of_inference_are_left_out(data: Path, tmp_path: Path) -> None:
    """A granule of the same orbit a few minutes off shows nearly the same sky."""
    near, out = linked(data, tmp_path / "near"), tmp_path / "out"
    out.mkdir()
    tested = sorted((near / "inference").iterdir())[0]
    shutil.move(tested, near / "training" / tested.name)
    extract.extract(near, out, 1, 0)
    listing = json.loads((out / "scenes.json").read_text())
    assert listing["left_out"] == [tested.stem]
    assert tested.stem not in {scene["name"] for scene in listing["scenes"]}
    assert (listing["training"], listing["validation"], listing["inference"]) == (3, 3, 2)


def test_archives_are_unpacked(data: Path, tmp_path: Path) -> None:
    packed = linked(data, tmp_path / "packed")
    first = sorted((packed / "training").iterdir())[0]
    target = first.resolve()
    first.unlink()
    shutil.make_archive(str(first), "zip", target.parent, target.name)
    out = tmp_path / "out"
    out.mkdir()
    extract.extract(packed, out, 1, 0)
    scene = json.loads((out / "scenes.json").read_text())["scenes"][0]
    assert scene["path"] == str(out / "unpacked" / target.name)
    assert (out / "unpacked" / target.name / "S8_BT_in.nc").read_bytes() == (target / "S8_BT_in.nc").read_bytes()
    archive = first.with_name(first.name + ".zip")
    archive.write_bytes(archive.read_bytes()[:1000])
    shutil.rmtree(out / "unpacked")
    with pytest.raises(ProductError, match="not a whole zip archive"):
        extract.extract(packed, out, 1, 0)


def test_reflectance_undoes_the_radiance(converted: Path) -> None:
    """Sea without cloud has the albedo it was made with, whatever the sun and the baseline: irradiance, angle and gain
    were found."""
    dark: dict[int, list[float]] = {4: [], 5: []}
    for path in (converted / "scenes").rglob("*.hdf"):
        with h5py.File(path) as file:
            if file.attrs["day"]:
                sea = (file["surface"][:, :, 0] == 0) & (file["seen"][:, :, 0] > 0)
                dark[int(file.attrs["baseline"])].append(float(np.quantile(file["refs"][:, :, 4][sea], 0.02)))
                gain = file["refs"].attrs["vicarious_gain"][4]
                assert gain == (1.11 if file.attrs["baseline"] < 5 else 1.0)
                assert file["refs"].attrs["solar_irradiance"][0] == pytest.approx(1837.4)
    for values in dark.values():
        assert np.median(values) == pytest.approx(0.02, abs=0.012)  # the albedo of the sea at 1.6 um


@pytest.mark.parametrize("baseline", [4, 5])
def test_a_known_reflectance_comes_back(tmp_path: Path, baseline: int) -> None:
    """A scene of reflectance 0.4, written as the radiance that the sun at its zenith angles gives, with the gain that a
    product of this baseline lacks or has."""
    name = scenes.product_name(3 * (baseline - 4))
    fields = scenes.scene(np.random.default_rng(0), 64, 96, day=True, label_error=0.03, baseline=baseline)
    sun = np.cos(np.deg2rad(scenes.doubled(fields["zenith"])))
    factors = {1: 0.97, 2: 0.98, 3: 0.98, 4: 1.0, 5: 1.11, 6: 1.13} if baseline == 4 else dict.fromkeys(products.SOLAR, 1.0)
    fields["radiance"] = {
        band: np.where(np.isnan(field), np.nan, 0.4 / np.pi * products.IRRADIANCE[band] * sun / factors[band])
        for band, field in fields["radiance"].items()
    }
    products.write(tmp_path / name, fields)
    convert.convert(tmp_path / name, tmp_path / "x.hdf")
    with h5py.File(tmp_path / "x.hdf") as file:
        assert file.attrs["baseline"] == baseline
        seen = file["seen"][:, :, 0] > 0
        assert file["refs"][:][seen] == pytest.approx(0.4, rel=2e-3)


def test_conversion_goes_on_and_skips_what_is_documented(data: Path, tmp_path: Path) -> None:
    some = linked(data, tmp_path / "some")
    first, second = sorted((some / "training").iterdir())[:2]
    target = second.resolve()
    second.unlink()
    broken = Path(shutil.copytree(target, second))
    (broken / "S9_BT_in.nc").unlink()
    products, scenes = tmp_path / "products", tmp_path / "scenes"
    products.mkdir()
    extract.extract(some, products, 1, 1)
    with pytest.raises(ProductError, match=r"S9_BT_in\.nc: missing from the product"):
        convert.run(products / "scenes.json", scenes, skip=0.0)
    assert not (scenes / "converted.json").exists()
    convert.run(products / "scenes.json", scenes, skip=0.4)
    record = json.loads((scenes / "converted.json").read_text())
    assert record["scenes"] == 8
    (skipped,) = record["skipped"]
    assert skipped["name"] == second.name
    assert "S9_BT_in.nc: missing" in skipped["reason"]
    (done,) = scenes.rglob(f"{first.stem}.hdf")
    before = done.stat().st_mtime_ns
    convert.run(products / "scenes.json", scenes, skip=0.4)
    assert done.stat().st_mtime_ns == before
    assert not list(scenes.rglob("*.partial"))


def test_no_scene_of_inference_is_skipped(data: Path, tmp_path: Path) -> None:
    some = linked(data, tmp_path / "some")
    tested = sorted((some / "inference").iterdir())[0]
    target = tested.resolve()
    tested.unlink()
    shutil.copytree(target, tested)
    (tested / "S9_BT_in.nc").unlink()
    (tmp_path / "products").mkdir()
    extract.extract(some, tmp_path / "products", 1, 1)
    with pytest.raises(ProductError, match=r"1 of 3 inference scenes can not be read, and 0 may be: .*S9_BT_in"):
        convert.run(tmp_path / "products/scenes.json", tmp_path / "scenes", skip=0.9)


def test_full_disk_leaves_nothing_half_written(data: Path, tmp_path: Path) -> None:
    """A file may grow to 1 MB and no further, as on a disk that is full."""
    first = sorted((data / "training").iterdir())[0]
    code = (
        "import sys; from pathlib import Path; from kit.benchmarks.cloudmask import convert\n"
        "convert.convert(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(first), str(tmp_path / "x.hdf")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert result.returncode == 1
    assert "x.hdf: can not be written" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def distributed(converted: Path, tmp_path: Path) -> Path:
    """A day scene as others distribute it: the five datasets of the reference, without attributes."""
    target = tmp_path / "S3A_scene.hdf"
    for path in sorted((converted / "scenes").rglob("*.hdf")):
        with h5py.File(path) as source:
            if source.attrs["day"]:
                with h5py.File(target, "w") as file:
                    for name in ("bts", "rads", "refs", "bayes", "summary"):
                        file.create_dataset(name, data=np.nan_to_num(source[name][:]))
                return target
    raise AssertionError("no day scene")


def test_distributed_files_are_read(distributed: Path, tmp_path: Path) -> None:
    convert.convert(distributed, tmp_path / "out.hdf")
    with h5py.File(tmp_path / "out.hdf") as file, h5py.File(distributed) as source:
        assert file.attrs["day"]
        assert file.attrs["distributed"]
        seen = file["seen"][:, :, 0] > 0
        assert np.array_equal(seen, (source["bts"][:] > 0).all(axis=-1))
        assert np.array_equal(file["bts"][:][seen], source["bts"][:][seen])
        assert np.isnan(file["bts"][:][~seen]).all()


def test_a_distributed_scene_of_the_night(distributed: Path, tmp_path: Path) -> None:
    """At night S5 and S6 still see what burns, and reflectances have no value: no day, and nothing that is not seen."""
    with h5py.File(distributed, "a") as file:
        file["refs"][:] = np.nan
        file["rads"][:, :, :4] = 0
    convert.convert(distributed, tmp_path / "out.hdf")
    with h5py.File(tmp_path / "out.hdf") as file, h5py.File(distributed) as source:
        assert not file.attrs["day"]
        assert (source["rads"][:, :, 4:] > 0).any()
        assert np.array_equal(file["seen"][:, :, 0] > 0, (source["bts"][:] > 0).all(axis=-1))


def test_reflectances_that_are_radiances_are_found(distributed: Path, tmp_path: Path) -> None:
    with h5py.File(distributed, "a") as file:
        file["refs"][:] = file["rads"][:]
    with pytest.raises(ProductError, match="refs equals rads: its reflectances are radiances"):
        convert.convert(distributed, tmp_path / "out.hdf")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "not a readable HDF5 file"),
        (lambda path: edit(path, lambda file: file.pop("bayes")), "no dataset bayes; it has"),
        (lambda path: edit(path, shrink), r"refs has the shape \(10, 320, 6\), not"),
    ],
)
def test_damaged_distributed_file(distributed: Path, tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(distributed)
    with pytest.raises(ProductError, match=message):
        convert.convert(distributed, tmp_path / "out.hdf")
    assert not (tmp_path / "out.hdf").exists()


def edit(path: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "a") as file:
        change(file)


def shrink(file: h5py.File) -> None:
    values = file["refs"][:10]
    del file["refs"]
    file["refs"] = values
