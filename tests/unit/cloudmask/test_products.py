"""The product's own form: names, grids and flags, read back by us and by another reader; and products that are broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from kit.stages.cloudmask import convert, patches, products, shards
from kit.stages.cloudmask.products import ProductError

REAL = "S3A_SL_1_RBT____20210930T220914_20210930T221214_20211002T102150_0180_077_043_5400_LN2_O_NT_004.SEN3"

# The bits of the variables S*_exception_*: why a pixel of a channel is not what it should be.
EXCEPTIONS = "ISP_absent pixel_absent not_decompressed no_signal saturation invalid_radiance no_parameters unfilled_pixel"


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


def test_a_name_is_matched_to_its_end() -> None:
    """What is not whole yet has another end; S3C and S3D are as S3A and S3B are."""
    for name in (REAL, f"{REAL}.zip", REAL.removesuffix(".SEN3"), REAL.replace(".SEN3", ".hdf")):
        assert products.parse_name(name).baseline == 4
    for platform in ("S3B", "S3C", "S3D"):
        assert products.parse_name(REAL.replace("S3A", platform)).orbit == f"{platform}_077_043"
    for name in (f"{REAL}.tmp", f"{REAL}.part.zip", f"{REAL}2", f"{REAL}/x", f"{REAL}\n", REAL.replace(".SEN3", "_7.SEN3")):
        with pytest.raises(ProductError, match="not the name of an SLSTR level 1 product"):
            products.parse_name(name)
    with pytest.raises(ProductError, match="not the name"):
        products.parse_name(REAL.replace("S3A", "S3E"))


def converted_with(product: Path, target: Path, **options: Any) -> dict[str, Any]:
    """The datasets and attributes of a product as it is converted, without the last axis of one."""
    convert.convert(product, target, **options)
    with h5py.File(target) as file:
        found = {name: values[:, :, 0] if values.shape[-1] == 1 else values[:] for name, values in file.items()}
        meanings = file["flags"].attrs["flag_meanings"].split()
        flags = {name: found["flags"] >> place & 1 > 0 for place, name in enumerate(meanings)}
        return {**found, **flags, "attributes": dict(file.attrs)}


def test_a_tie_point_without_a_value_is_no_night(product: Callable[..., Path], tmp_path: Path) -> None:
    """A column of tie points is lost: what lies beside it has no reflectance, is not seen, and is of no time of day."""
    whole = converted_with(product(), tmp_path / "whole.hdf")
    assert whole["attributes"]["day"]
    broken = product("broken")
    rewrite("geometry_tn.nc", lambda d: d.where(np.arange(d.sizes["columns"]) != 8))(broken)
    found = converted_with(broken, tmp_path / "x.hdf")
    lost = ~found["day"] & ~found["night"]
    # The ninth tie point lies at column 112 (the first is one before the scene), and the next ones 16 pixels off.
    assert np.flatnonzero(lost.any(axis=0)).tolist() == list(range(97, 128))
    assert not found["night"].any()
    assert found["attributes"]["day"]
    assert not found["seen"][lost].any()
    assert np.array_equal(found["seen"][~lost], whole["seen"][~lost])
    apart = ~lost & (np.abs(np.arange(320) - 112) > 16)  # the pixels at the edge have lost half of their 500 m pixels
    assert np.allclose(found["refs"][apart], whole["refs"][apart], atol=1e-6)
    unknown = convert.unseen_shares(found["attributes"]["unseen_counts"])["by_time"]["unknown"]
    assert (unknown["pixels"], unknown["share"]) == (lost.sum(), 1.0)
    # An angle that is none is as good as fill.
    rewrite("geometry_tn.nc", lambda d: d.fillna(-999.0))(broken)
    assert np.array_equal(converted_with(broken, tmp_path / "y.hdf")["seen"], found["seen"])


def set_flags(variable: str, change: Callable[[Any], Any], fill: int) -> Callable[[Path], object]:
    """Changes the stored bits of a variable of flags_in.nc, of which `fill` is the fill from then on."""

    def apply(product: Path) -> None:
        with h5py.File(product / "flags_in.nc", "a") as file:
            values = file[variable]
            values[:] = change(values[:])
            values.attrs["_FillValue"] = np.array([fill], values.dtype)

    return apply


def test_what_has_no_label_is_neither_clear_nor_cloud(product: Callable[..., Path], tmp_path: Path) -> None:
    broken, rows = product(), np.arange(288)[:, None]

    def label(bayes: Any) -> Any:
        bayes = np.where(rows < 10, 255, bayes)  # fill
        bayes = np.where((rows >= 10) & (rows < 20), 32, bayes)  # nothing but a spare bit
        return np.where((rows >= 20) & (rows < 30), 32 | 2, bayes)  # a spare one beside one that says cloud

    set_flags("bayes_in", label, 255)(broken)
    set_flags("confidence_in", lambda v: np.where(rows >= 280, 65535, np.where(rows >= 270, v | 32, v)), 65535)(broken)
    found = converted_with(broken, tmp_path / "x.hdf")
    values = {label: patches.load(tmp_path / "x.hdf", label) for label in (patches.Label(), patches.Label("summary"), None)}
    bayes, summary, none = values.values()
    assert np.array_equal(none.seen, found["seen"] > 0)
    assert not bayes.seen[:20].any()
    assert np.array_equal(bayes.seen[20:], none.seen[20:])
    assert bayes.cloud[20:30].all()
    # Where the confidence word is fill, or says that nothing was written, there is no summary and no surface.
    assert not summary.seen[270:].any()
    assert np.array_equal(summary.seen[:270], none.seen[:270])
    assert (found["surface"][270:] == 3).all()
    assert (found["surface"][:270] < 3).all()
    # Training has no class there, whatever the bits.
    record = shards.cut((tmp_path / "x.hdf", tmp_path / "x.npy", patches.Label()))
    assert record["cloud_pixels"] + record["clear_pixels"] == bayes.seen.sum()


def test_bytes_with_a_sign_are_bits_too(tmp_path: Path) -> None:
    """As old NetCDF stores them: -128 is the eighth bit, in values, masks and fill."""
    values = np.array([[0, 2, -128, -126, -1]], np.int8)
    masks = np.array([1, 2, 4, 8, 16, 32, 64, -128], np.int8)
    attributes = {"flag_masks": masks, "flag_meanings": products.FLAGS["bayes_in"], "missing_value": np.int8(-1)}
    xr.Dataset({"bayes_in": (("rows", "columns"), values, attributes)}).to_netcdf(
        tmp_path / "flags_in.nc", engine="h5netcdf"
    )
    found = products.flag_bits(tmp_path, "bayes_in")
    assert found.values.tolist() == [[0, 2, 128, 130, 255]]
    assert found.known.tolist() == [[True, True, True, True, False]]
    assert found.bits["single_moderate"] == 2
    assert found.set("single_moderate", "single_low").tolist() == [[False, True, False, True, False]]


def test_a_scene_with_hardly_a_label_is_refused(product: Callable[..., Path], tmp_path: Path) -> None:
    broken = product()
    set_flags("bayes_in", lambda v: np.where(np.arange(288)[:, None] < 200, 128, v), 128)(broken)
    convert.convert(broken, tmp_path / "x.hdf")
    with pytest.raises(
        ValueError, match=r"x\.hdf: (69|70)\.\d% of the pixels that were seen have no label bayes, and 50% may"
    ):
        patches.load(tmp_path / "x.hdf", patches.Label())
    assert patches.load(tmp_path / "x.hdf", patches.Label("summary")).seen.any()


def test_a_scene_with_hardly_a_value_is_refused_with_the_share(product: Callable[..., Path], tmp_path: Path) -> None:
    broken = product()
    rewrite("S8_BT_in.nc", lambda d: d.where(np.arange(d.sizes["rows"])[:, None] < 100))(broken)
    message = r"6\d\.\d% of the pixels have no value in some channel \(most in S8 6\d\.\d%, .*\), and 50\.0% may have none"
    with pytest.raises(ProductError, match=message):
        convert.convert(broken, tmp_path / "x.hdf")
    found = converted_with(broken, tmp_path / "x.hdf", unseen=0.7)
    shares = convert.unseen_shares(found["attributes"]["unseen_counts"])
    assert shares["pixels"] == 288 * 320
    assert shares["share"] == pytest.approx(1 - found["seen"].mean())
    assert shares["channels"]["S8"] > 0.65 > 0.1 > shares["channels"]["S9"]
    assert sum(part["pixels"] for part in shares["by_surface"].values()) == shares["pixels"]
    assert set(shares["by_time"]) == {"day"}


def saturate(band: int, grid: str, where: Any, fill: int = 128) -> Callable[[Path], object]:
    """Takes the values of a channel away where it is saturated, and says so as products do."""
    kind = "radiance" if grid == "an" else "BT"

    def apply(product: Path) -> None:
        with h5py.File(product / f"S{band}_{kind}_{grid}.nc", "a") as file:
            image = file[f"S{band}_{kind}_{grid}"]
            image[:] = np.where(where, -32768, image[:])
            exception = file.create_dataset(f"S{band}_exception_{grid}", data=np.where(where, 16, 0).astype("u1"))
            exception[-1:] = fill  # pixels that nothing was written to
            for place, scale in enumerate(image.dims):
                exception.dims[place].attach_scale(scale[0])
            exception.attrs["flag_masks"] = (1 << np.arange(8)).astype("u1")
            exception.attrs["flag_meanings"] = EXCEPTIONS
            exception.attrs["_FillValue"] = np.array([fill], "u1")

    return apply


def test_saturation_is_a_value(product: Callable[..., Path], tmp_path: Path) -> None:
    """Glint that is too bright for one channel, and ground that is too hot for another, are seen: as bright and as hot as
    anything in the scene."""
    whole = converted_with(product(), tmp_path / "whole.hdf", rads=True)
    broken = product("broken")
    fine = np.zeros((576, 640), bool)
    fine[100:140, 200:240] = True
    coarse = np.zeros((288, 320), bool)
    coarse[200:210, 30:50] = True
    saturate(5, "an", fine)(broken)
    saturate(7, "in", coarse)(broken)
    found = converted_with(broken, tmp_path / "x.hdf", rads=True)
    assert np.array_equal(found["seen"], whole["seen"])
    assert found["attributes"]["saturated"].tolist() == [0, 0, 0, 0, 1600, 0, 200, 0, 0]
    glint, hot = fine[::2, ::2], coarse & (whole["seen"] > 0)
    assert found["rads"][glint, 4] == pytest.approx(float(found["rads"][..., 4].max()), rel=1e-5)
    assert found["bts"][hot, 0] == pytest.approx(float(np.nanmax(whole["bts"][~coarse, 0])), abs=0.02)
    assert np.array_equal(found["refs"][~glint], whole["refs"][~glint])


def test_reflectance_ends_before_the_sun_does(product: Callable[..., Path], tmp_path: Path) -> None:
    """Through the terminator: day is day pixel by pixel, and nothing is brighter than it may be or too large for half
    precision, however bright the radiance."""
    broken = product()
    # One tie column a degree, from 74 degrees on: 85 is reached at tie column 11, 90 at 16.
    rewrite("geometry_tn.nc", lambda d: d.map(lambda v: v * 0 + 74.0 + np.arange(v.sizes["columns"])))(broken)
    rewrite("S3_radiance_an.nc", lambda d: d.where(d.isnull(), 300.0))(broken)
    found = converted_with(broken, tmp_path / "x.hdf")
    zenith = 74 + 1 + np.arange(320) / 16
    assert np.array_equal(found["day"], np.broadcast_to(zenith < convert.DAY_LIMIT, (288, 320)))
    assert np.array_equal(found["night"], ~found["day"])
    assert 0 < found["day"].mean() < 1
    assert not found["attributes"]["day"]
    assert found["attributes"]["day_fraction"] == pytest.approx(found["day"].mean())
    assert (found["refs"][found["night"]] == 0).all()
    assert found["refs"].max() == convert.REFLECTANCE_LIMIT
    assert np.isfinite(found["refs"].astype(np.float16)).all()
    by_time = convert.unseen_shares(found["attributes"]["unseen_counts"])["by_time"]
    assert by_time["day"]["pixels"] == found["day"].sum()
    assert by_time["night"]["pixels"] == found["night"].sum()


@pytest.mark.parametrize("zenith", [0.0, 60.0, 84.999, 85.0, 89.9999, 90.0, 120.0])
def test_the_sun_factor_is_finite(zenith: float) -> None:
    factor = convert.sun_factor(np.array([[zenith]], np.float32))[0, 0]
    assert factor == pytest.approx(np.pi / np.cos(np.deg2rad(zenith)) if zenith < 85 else 0, rel=1e-4)
    assert np.isnan(convert.sun_factor(np.array([[np.nan]]))).all()


def test_each_detector_has_an_irradiance_of_its_own(product: Callable[..., Path], tmp_path: Path) -> None:
    """Four detectors see every fourth line of the 500 m grid each; one of them has no irradiance in one channel."""
    whole = converted_with(product(), tmp_path / "whole.hdf")
    several = product("several")
    lines = np.broadcast_to((np.arange(576) // 2 % 4)[:, None], (576, 640)).astype("u1")
    with h5py.File(several / "indices_an.nc", "a") as file:
        file["detector_an"][:] = lines
        file["detector_an"][:, :4] = 255
        file["detector_an"].attrs["_FillValue"] = np.array([255], "u1")
    factors = np.array([1.0, 1.02, 0.98, 1.05], np.float32)
    rewrite("S1_quality_an.nc", lambda d: d * factors)(several)
    rewrite("S2_quality_an.nc", lambda d: d * np.array([np.nan, 1, 1, 1], np.float32))(several)
    found = converted_with(several, tmp_path / "x.hdf")
    seen = found["seen"] > 0
    expected = whole["refs"] / factors[lines[::2, ::2]][..., None]
    assert np.allclose(found["refs"][seen, 0], expected[seen, 0], rtol=1e-5)
    assert np.allclose(found["refs"][seen, 1], whole["refs"][seen, 1], rtol=1e-5)
    assert np.allclose(found["refs"][seen, 2], whole["refs"][seen, 2], rtol=1e-5)
    # A first detector without an irradiance is no reason to refuse, and no pixel of another's suffers.
    lost = lines[::2, ::2] == 0
    assert not seen[lost].any()
    assert not seen[:, :2].any()
    kept = ~lost & (np.arange(320) >= 2)
    assert np.array_equal(seen[kept], whole["seen"][kept] > 0)
    (several / "indices_an.nc").unlink()
    with pytest.raises(ProductError, match=r"indices_an\.nc: missing from the product"):
        convert.convert(several, tmp_path / "y.hdf")


def test_cosmetic_copies_are_marked(product: Callable[..., Path], tmp_path: Path) -> None:
    broken, copied = product(), np.arange(320)[None, :] % 4 == 0
    set_flags("confidence_in", lambda v: np.where(copied, v | 256, v), 65535)(broken)
    found = converted_with(broken, tmp_path / "x.hdf")
    assert np.array_equal(found["cosmetic"], np.broadcast_to(copied, (288, 320)))


def test_radiances_are_left_out_unless_asked_for(product: Callable[..., Path], tmp_path: Path) -> None:
    """Nothing reads them, and they are a third of what is written."""
    folder = product()
    assert "rads" not in converted_with(folder, tmp_path / "x.hdf")
    assert converted_with(folder, tmp_path / "y.hdf", rads=True)["rads"].shape == (288, 320, 6)
    assert (tmp_path / "x.hdf").stat().st_size < 0.66 * (tmp_path / "y.hdf").stat().st_size
