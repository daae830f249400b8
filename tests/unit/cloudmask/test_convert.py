"""The split, and the conversion to the reference's layout: what it records, what it skips, what it refuses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from kit.benchmarks.cloudmask import scenes, writing
from kit.stages.cloudmask import convert, extract, hdf, patches, products
from kit.stages.cloudmask.products import ProductError


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


def day_of(folder: Path, split: str, orbits: list[tuple[str, int, int, int, int]]) -> None:
    """Products that are but names, of orbits: platform, first minute of the day, cycle, number, three-minute granules."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    for platform, first, cycle, number, granules in orbits:
        for minute in range(first, first + 3 * granules, 3):
            stamp = f"20210301T{minute // 60:02d}{minute % 60:02d}"
            times = f"{stamp}00_{stamp}59_20210401T000000_0179"
            (folder / split / f"{platform}_SL_1_RBT____{times}_{cycle:03d}_{number:03d}_0000_KIT_O_NT_004.SEN3").mkdir()


def started(listing: dict[str, Any], split: str) -> dict[str, list[int]]:
    """Minutes at which the scenes of a split begin, by platform."""
    found: dict[str, list[int]] = {}
    for scene in listing["scenes"]:
        if scene["split"] == split:
            found.setdefault(scene["platform"], []).append(int(scene["start"][9:11]) * 60 + int(scene["start"][11:13]))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_splits_keep_a_distance_in_time(tmp_path: Path, seed: int) -> None:
    """Orbits that follow each other without a gap: no scene begins less than ten minutes from one of another split."""
    day_of(tmp_path, "training", [("S3A", 33 * number, 70, number + 1, 11) for number in range(20)])
    day_of(tmp_path, "training", [("S3B", 33 * number + 1, 51, number + 201, 11) for number in range(20)])
    day_of(tmp_path, "inference", [("S3A", 660, 70, 21, 11)])
    (tmp_path / "out").mkdir()
    extract.extract(tmp_path, tmp_path / "out", validation_scenes=60, seed=seed)
    listing = json.loads((tmp_path / "out/scenes.json").read_text())
    found = {split: started(listing, split) for split in ("training", "validation", "inference")}
    for one, other in (("training", "validation"), ("training", "inference"), ("validation", "inference")):
        for platform in {*found[one]} & {*found[other]}:
            distances = np.abs(np.subtract.outer(found[one][platform], found[other][platform]))
            assert distances.min() >= extract.APART
    # What is left out is what touches, and no more: three granules on each side of a stretch.
    assert listing["validation"] >= 60
    assert 3 <= len(listing["left_out"]) <= 3 * 2 * 6 + 3
    assert listing["training"] + listing["validation"] + listing["inference"] + len(listing["left_out"]) == 451


def test_two_satellites_on_one_track_are_one(tmp_path: Path) -> None:
    """In tandem one sees half a minute later what the other saw; otherwise they are at different places at one time."""
    day_of(tmp_path, "inference", [("S3A", 100, 30, 7, 3)])
    day_of(tmp_path, "training", [("S3B", 101, 9, 7, 3), ("S3B", 200, 9, 8, 3), ("S3B", 300, 9, 9, 3)])
    (tmp_path / "out").mkdir()
    extract.extract(tmp_path, tmp_path / "out", validation_scenes=1, seed=0)
    listing = json.loads((tmp_path / "out/scenes.json").read_text())
    assert {name.split("_")[12] for name in listing["left_out"]} == {"007"}
    assert len(listing["left_out"]) == 3
    shutil.rmtree(tmp_path / "training")
    day_of(tmp_path, "training", [("S3B", 101, 9, 107, 3), ("S3B", 200, 9, 8, 3), ("S3B", 300, 9, 9, 3)])
    extract.extract(tmp_path, tmp_path / "out", validation_scenes=1, seed=0)
    assert json.loads((tmp_path / "out/scenes.json").read_text())["left_out"] == []


def test_every_satellite_counts_and_what_is_no_product_is_said(tmp_path: Path) -> None:
    day_of(tmp_path, "training", [("S3C", 100, 1, 1, 2), ("S3D", 200, 1, 90, 2)])
    day_of(tmp_path, "inference", [("S3D", 500, 1, 95, 2)])
    whole = sorted((tmp_path / "training").iterdir())[0]
    (tmp_path / "training" / f"{whole.name}.tmp").mkdir()
    (tmp_path / "training" / f"{whole.name}x").mkdir()
    (tmp_path / "out").mkdir()
    extract.extract(tmp_path, tmp_path / "out", validation_scenes=1, seed=0)
    listing = json.loads((tmp_path / "out/scenes.json").read_text())
    assert {scene["platform"] for scene in listing["scenes"]} == {"S3C", "S3D"}
    assert (listing["training"], listing["validation"], listing["inference"]) == (2, 2, 2)
    assert listing["passed_over"] == [f"{whole.name}.tmp", f"{whole.name}x"]
    (tmp_path / "training" / whole.name.replace("S3C", "S3E")).mkdir()
    with pytest.raises(ProductError, match=r"S3E.*: not the name of an SLSTR level 1 product"):
        extract.extract(tmp_path, tmp_path / "out", validation_scenes=1, seed=0)


LOCK = """
import fcntl, sys, time
files = [open(name, "r+b") for name in sys.argv[1:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Files that another process holds a lock on, as a client that is gone may on a shared file system."""
    holder = subprocess.Popen([sys.executable, "-c", LOCK, *map(str, paths)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    try:
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_locked_file_is_read(product: Callable[[str], Path], distributed: Path, tmp_path: Path) -> None:
    folder = product("products")
    with locked(*folder.glob("*.nc"), distributed):
        convert.convert(folder, tmp_path / "a.hdf")
        convert.convert(distributed, tmp_path / "b.hdf")
    with locked(tmp_path / "a.hdf"):
        assert patches.load(tmp_path / "a.hdf", patches.Label()).seen.any()


class Failing:
    """Opens files, but fails some times before with an error of the system."""

    def __init__(self, action: Callable[..., Any], number: int, times: int) -> None:
        self.action, self.number, self.times = action, number, times

    def __call__(self, path: Any, *words: Any, **options: Any) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number), str(path))
        return self.action(path, *words, **options)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_what_passes_is_tried_again(
    product: Callable[[], Path], distributed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(hdf, "WAITS", (0.0, 0.0))
    folder = product()
    monkeypatch.setattr(xr, "open_dataset", Failing(xr.open_dataset, number, 2))
    convert.convert(folder, tmp_path / "a.hdf")
    monkeypatch.setattr(h5py, "File", Failing(h5py.File, number, 2))
    assert convert.read_layout(distributed)[0]["seen"].any()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_what_stays_ends_the_stage_and_blames_no_scene(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """However many scenes may be unreadable: what is wrong is not the data."""
    monkeypatch.setattr(hdf, "WAITS", (0.0,))
    (tmp_path / "products").mkdir()
    extract.extract(data, tmp_path / "products", 1, 1)
    monkeypatch.setattr(xr, "open_dataset", Failing(xr.open_dataset, number, 10000))
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        convert.run(tmp_path / "products/scenes.json", tmp_path / "scenes", skip=1.0)
    assert raised.value.errno == number
    if number in hdf.TRANSIENT:
        assert "the file system failed 2 times, which says nothing of the data" in str(raised.value)
    assert not (tmp_path / "scenes/converted.json").exists()


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
    writing.write(tmp_path / name, fields)
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
    with pytest.raises(ProductError, match=r"1 of 3 inference scenes cannot be read, and 0 may be: .*S9_BT_in"):
        convert.run(tmp_path / "products/scenes.json", tmp_path / "scenes", skip=0.9)


def test_full_disk_leaves_nothing_half_written(data: Path, tmp_path: Path) -> None:
    """A file may grow to 1 MB and no further, as on a disk that is full."""
    first = sorted((data / "training").iterdir())[0]
    code = (
        "import sys; from pathlib import Path; from kit.stages.cloudmask import convert\n"
        "convert.convert(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(first), str(tmp_path / "x.hdf")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert result.returncode == 1
    assert "x.hdf: cannot be written" in result.stderr
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


def test_fill_of_distributed_files_is_no_value(distributed: Path, tmp_path: Path) -> None:
    """Labels without a value, reflectances near the terminator, and a half of the scene in the night."""
    with h5py.File(distributed, "a") as file:
        bayes = file["bayes"][:].astype("f4")
        bayes[:20] = np.nan
        bayes[20:30] = 64  # nothing but a bit without a meaning
        bayes[30:40] = 255  # as the ancestor writes cloud
        del file["bayes"]
        file["bayes"] = bayes
        file["refs"][:, 300:310, 2] = 1.6e7
        file["refs"][:, 310:] = np.nan
        file["rads"][:, 310:] = 0
        file["refs"][50:60, :100, 0] = np.nan
    convert.convert(distributed, tmp_path / "out.hdf")
    scene, bare = (patches.load(tmp_path / "out.hdf", label) for label in (patches.Label(), None))
    with h5py.File(distributed) as source:
        warm = (source["bts"][:] > 0).all(axis=-1)
    lost = np.zeros_like(warm)
    lost[50:60, :100] = True
    assert np.array_equal(bare.seen, warm & ~lost)
    assert not scene.seen[:30].any()
    assert np.array_equal(scene.seen[30:], bare.seen[30:])
    assert scene.cloud[30:40].all()
    with h5py.File(tmp_path / "out.hdf") as file:
        assert file["refs"][:].max() == convert.REFLECTANCE_LIMIT
        assert np.isfinite(file["refs"][:].astype(np.float16)).all()
        assert "rads" not in file
        day = patches.pixel_bits(file, "day")
        assert not day[:, 310:].any()
        assert day[warm & (np.arange(320) < 310)].mean() > 0.99
        assert file.attrs["radiometry"] == "distributed"
        shares = convert.unseen_shares(file.attrs["unseen_counts"])
    assert shares["share"] == pytest.approx(1 - bare.seen.mean())
    assert set(shares["by_surface"]) == {"unknown"}
    # Beyond the edge of the swath nothing was seen, and nobody knows the time of day.
    assert set(shares["by_time"]) == {"day", "night", "unknown"}
    assert shares["by_time"]["unknown"]["share"] == 1


def test_what_was_not_seen_is_counted(converted: Path) -> None:
    """Over all scenes of a split, by channel, surface and time of day."""
    record = json.loads((converted / "scenes/converted.json").read_text())["unseen"]
    for split in ("training", "validation", "inference"):
        unseen = []
        for path in (converted / "scenes" / split).glob("*.hdf"):
            with h5py.File(path) as file:
                unseen.append((file["seen"][:] == 0).mean())
        assert record[split]["share"] == pytest.approx(np.mean(unseen))
        assert set(record[split]["channels"]) == {f"S{band}" for band in range(1, 10)}
        assert sum(part["pixels"] for part in record[split]["by_surface"].values()) == record[split]["pixels"]
        assert sum(part["pixels"] for part in record[split]["by_time"].values()) == record[split]["pixels"]
        # At night the solar channels see nothing, and nothing of it is lost.
        if "night" in record[split]["by_time"]:
            assert record[split]["by_time"]["night"]["channels"]["S1"] == 0 < record[split]["by_time"]["night"]["share"]


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
