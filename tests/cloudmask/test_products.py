"""The product's own form: names, grids and flags, read back by us and by another reader; and products that are broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from kit.benchmarks.cloudmask import convert, products
from kit.benchmarks.cloudmask.products import ProductError

REAL = "S3A_SL_1_RBT____20210930T220914_20210930T221214_20211002T102150_0180_077_043_5400_LN2_O_NT_004.SEN3"


def test_names() -> None:
    assert products.parse_name(REAL) == ("S3A", "20210930T220914", "S3A_077_043", 4)
    assert products.gains(4)[5] == 1.11
    assert set(products.gains(5).values()) == {1.0}
    with pytest.raises(ProductError, match="unknown processing baseline 042; known: 001, 002"):
        products.parse_name(REAL.replace("_004.", "_042."))
    with pytest.raises(ProductError, match=r"scene7\.SEN3: not the name of an SLSTR level 1 product"):
        products.parse_name("scene7.SEN3")


def test_product_has_the_names_and_grids_of_slstr(data: Path) -> None:
    product = sorted((data / "training").iterdir())[0]
    names = {path.name for path in product.iterdir()}
    assert names >= {*(f"S{b}_radiance_an.nc" for b in range(1, 7)), *(f"S{b}_BT_in.nc" for b in (7, 8, 9)), "flags_in.nc"}
    with xr.open_dataset(product / "S1_radiance_an.nc", engine="h5netcdf", mask_and_scale=False) as raw:
        assert raw["S1_radiance_an"].dtype == np.int16
        assert raw["S1_radiance_an"].shape == (576, 640)
        assert raw["S1_radiance_an"].attrs["_FillValue"] == -32768
    assert {path.name[:3] for path in (data / "training").iterdir()} == {"S3A", "S3B"}


def test_satpy_reads_the_same(data: Path, converted: Path) -> None:
    """Another reader, of another convention: percent, without the cosine of the zenith angle, always with the gain."""
    satpy = pytest.importorskip("satpy")
    product = next(path for path in sorted((data / "training").glob("*_004.SEN3")))
    files = [str(path) for path in product.glob("S*_*_?n.nc") if "quality" not in path.name]
    scene = satpy.Scene(filenames=files, reader="slstr_l1b")
    scene.load(["S3", "S5", "S8"])
    (path,) = (converted / "scenes").rglob(f"{product.stem}.hdf")
    with h5py.File(path) as file:
        assert file.attrs["day"]
        seen = file["seen"][:, :, 0] > 0
        assert np.allclose(scene["S8"].values[seen], file["bts"][:, :, 1][seen], atol=0.005)
        with xr.open_dataset(product / "S3_radiance_an.nc", engine="h5netcdf") as image:
            zenith = products.solar_zenith(product, 576, 640, products.grid(product, image.attrs))
        for name, place in (("S3", 2), ("S5", 4)):
            reflectance = scene[name].values / 100 / np.cos(np.deg2rad(zenith))
            ours = file["refs"][:, :, place]
            assert np.allclose(convert.halve(reflectance)[0][seen], ours[seen], rtol=1e-4, atol=1e-5)


def test_tie_points_lie_where_real_products_say(tmp_path: Path) -> None:
    """In real files the resolution of tie points is `[ 16000 1000 ]`, across the track first, and grids begin anywhere."""
    tie = 30 + np.arange(130) * 0.2 + np.arange(40)[:, None] * 0.01  # degrees at every 16th column of every row
    attributes = {"track_offset": 64, "start_offset": 10000, "resolution": "[ 16000 1000 ]"}
    xr.Dataset({"solar_zenith_tn": (("rows", "columns"), tie)}, attrs=attributes).to_netcdf(
        tmp_path / "geometry_tn.nc", engine="h5netcdf"
    )
    image = products.Grid(across=500, along=500, track_offset=1996, start_offset=20002)
    zenith = products.solar_zenith(tmp_path, 6, 3000, image)
    # Column 1996 is the track, as is tie point 64; 32 columns on is the next. Row 0 is 1 km behind the first tie points.
    assert zenith[0, 1996] == pytest.approx(tie[1, 64])
    assert zenith[0, 1996 + 32] == pytest.approx(tie[1, 65])
    assert zenith[0, 1996 - 320] == pytest.approx(tie[1, 54])
    assert zenith[1, 1996] == pytest.approx((tie[1, 64] + tie[2, 64]) / 2)


def remove(name: str) -> Callable[[Path], object]:
    return lambda product: (product / name).unlink()


def cut(name: str) -> Callable[[Path], object]:
    def apply(product: Path) -> None:
        content = (product / name).read_bytes()
        (product / name).write_bytes(content[: len(content) // 2])

    return apply


def rewrite(name: str, change: Callable[[xr.Dataset], xr.Dataset]) -> Callable[[Path], object]:
    def apply(product: Path) -> None:
        with xr.open_dataset(product / name, engine="h5netcdf") as opened:
            whole = change(opened.load())
        whole.to_netcdf(product / name, engine="h5netcdf")

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("S7_BT_in.nc"), r"S7_BT_in\.nc: missing from the product"),
        (cut("S3_radiance_an.nc"), r"S3_radiance_an\.nc: not a readable NetCDF file"),
        (cut("flags_in.nc"), r"flags_in\.nc: not a readable NetCDF file"),
        (rewrite("S2_radiance_an.nc", lambda d: d.isel(rows=slice(100))), r"S2 has \(100, 640\) pixels, but twice those"),
        (rewrite("flags_in.nc", lambda d: d.isel(rows=slice(100))), r"bayes_in has \(100, 320\) pixels, but S7 has"),
        (rewrite("S8_BT_in.nc", lambda d: d.rename({"S8_BT_in": "x"})), r"no variable S8_BT_in; it has x"),
        (rewrite("S8_BT_in.nc", lambda d: d * np.nan), "not one pixel has a value in every channel"),
        (rewrite("S4_quality_an.nc", lambda d: d * 0), "S4_solar_irradiance_an is no irradiance"),
        (rewrite("geometry_tn.nc", lambda d: d.drop_attrs()), r"geometry_tn\.nc: no grid: .*'resolution'"),
        (rewrite("S1_radiance_an.nc", lambda d: d.assign_attrs(resolution="[ 500 ]")), r"S1_radiance_an\.nc: no grid: "),
    ],
)
def test_damaged_product(
    product: Callable[..., Path], tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    broken = product()
    damage(broken)
    with pytest.raises(ProductError, match=message):
        convert.convert(broken, tmp_path / "x.hdf")
    assert {path.name for path in tmp_path.iterdir()} == {broken.name}


def test_pixels_without_a_value_are_not_seen(product: Callable[..., Path], tmp_path: Path) -> None:
    """A storm of NaN in one channel leaves finite numbers everywhere, and marks where they mean nothing."""
    broken = product()
    storm = np.random.default_rng(0).random((576, 640)) < 0.5
    rewrite("S2_radiance_an.nc", lambda d: d.where(~storm))(broken)
    convert.convert(broken, tmp_path / "x.hdf")
    with h5py.File(tmp_path / "x.hdf") as file:
        assert np.isfinite(file["refs"][:]).all()
        lost = storm.reshape(288, 2, 320, 2).all(axis=(1, 3))
        assert not (file["seen"][:, :, 0] > 0)[lost].any()
        assert (file["seen"][:, :, 0] > 0).mean() > 0.8  # one sub-pixel of four is enough


def test_an_old_product_without_probabilities(product: Callable[..., Path], tmp_path: Path) -> None:
    old = product()
    rewrite("flags_in.nc", lambda d: d.drop_vars("probability_cloud_single_in"))(old)
    convert.convert(old, tmp_path / "x.hdf")
    with h5py.File(tmp_path / "x.hdf") as file:
        assert "probability" not in file


def test_wrong_name_of_a_product(product: Callable[..., Path], tmp_path: Path) -> None:
    moved = shutil.move(product(), tmp_path / "scene.SEN3")
    with pytest.raises(ProductError, match="not the name of an SLSTR level 1 product"):
        convert.convert(Path(moved), tmp_path / "x.hdf")
