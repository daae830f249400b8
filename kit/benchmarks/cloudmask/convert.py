"""SLSTR products to the HDF5 layout of the reference: one file a scene, everything on the 1 km grid.

    bts (rows, columns, 3) K          S7-S9
    rads (rows, columns, 6) mW m-2 sr-1 nm-1, refs (rows, columns, 6) 1    S1-S6, 500 m pixels averaged 2 x 2
    bayes (rows, columns, 1), summary (rows, columns, 1)    0 or 1
    seen (rows, columns, 1)    1 where every channel that the time of day allows has a value

Reflectance is `pi L / (E0 cos(SZA))` with the product's own solar irradiance and its tie-point zenith angles; at night
(SZA >= 90) it is 0. Pixels without a value are 0 in `rads` and `refs` and NaN in `bts`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class ProductError(Exception):
    """A product that can not be read; names the file and what is wrong with it."""


def read(product: Path, file: str, variable: str) -> tuple[Array, dict[str, object], dict[str, object]]:
    """A variable of a product as (values with fill as NaN, its attributes, the file's attributes)."""
    import xarray as xr

    path = product / file
    if not path.is_file():
        raise ProductError(f"{path}: missing from the product")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            if variable not in dataset:
                raise ProductError(f"{path}: no variable {variable}")
            return dataset[variable].values, dict(dataset[variable].attrs), dict(dataset.attrs)
    except (OSError, KeyError, ValueError) as error:
        raise ProductError(f"{path}: not a readable NetCDF file: {error}") from None


def resolution(attributes: dict[str, object]) -> tuple[float, float]:
    """(along track, across track) pixel size in metres, from the attribute `[ 500 500 ]`."""
    along, across = re.findall(r"[\d.]+", str(attributes["resolution"]))
    return float(along), float(across)


def solar_zenith(product: Path, rows: int, columns: int, image: dict[str, object]) -> Array:
    """Solar zenith angle (rows, columns) in degrees on an image grid, linear between the tie points.

    Both grids count columns from the satellite track: `track_offset` is the column of the track in each.
    """
    tie, _, attributes = read(product, "geometry_tn.nc", "solar_zenith_tn")
    along, across = resolution(image)
    tie_along, tie_across = resolution(attributes)
    x = (np.arange(columns) - int(str(image["track_offset"]))) * across
    tie_x = (np.arange(tie.shape[1]) - int(str(attributes["track_offset"]))) * tie_across
    y = np.arange(rows) * along + int(str(image["start_offset"])) * along
    tie_y = np.arange(tie.shape[0]) * tie_along + int(str(attributes["start_offset"])) * tie_along
    across_track = np.stack([np.interp(x, tie_x, line) for line in tie])
    return np.stack([np.interp(y, tie_y, column) for column in across_track.T], axis=1)


def reflectance(radiance: Array, irradiance: float, zenith: Array) -> Array:
    """`pi L / (E0 cos(SZA))`, 0 at night."""
    cosine = np.cos(np.deg2rad(zenith))
    return np.where(zenith < 90, np.pi * radiance / (irradiance * np.where(zenith < 90, cosine, 1)), 0.0)


def halve(field: Array) -> Array:
    """The 500 m grid to the 1 km grid: the mean of the pixels that have a value, NaN where none has."""
    rows, columns = field.shape[0] // 2, field.shape[1] // 2
    blocks = field[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    count = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def flag(product: Path, variable: str, meanings: list[str] | None = None) -> NDArray[np.bool_]:
    """True where any bit of `variable` in flags_in.nc is set, or any of the named ones, as the file itself names them."""
    values, attributes, _ = read(product, "flags_in.nc", variable)
    values = np.asarray(np.nan_to_num(values), dtype=np.int64)
    if meanings is None:
        return values > 0
    names = str(attributes["flag_meanings"]).split()
    masks = dict(zip(names, np.atleast_1d(np.asarray(attributes["flag_masks"])).astype(np.int64), strict=True))
    missing = [name for name in meanings if name not in masks]
    if missing:
        raise ProductError(f"{product}/flags_in.nc: {variable} has no flag {missing[0]}; it has {', '.join(names)}")
    return (values & np.bitwise_or.reduce([masks[name] for name in meanings])) > 0


def convert(product: Path, target: Path) -> None:
    """Converts one `.SEN3` product into one HDF5 file, which appears whole or not at all."""
    import h5py

    bts = np.stack([read(product, f"S{band}_BT_in.nc", f"S{band}_BT_in")[0] for band in (7, 8, 9)], axis=-1)
    rads, refs = [], []
    for band in range(1, 7):
        radiance, _, attributes = read(product, f"S{band}_radiance_an.nc", f"S{band}_radiance_an")
        if radiance.shape != (2 * bts.shape[0], 2 * bts.shape[1]):
            raise ProductError(
                f"{product}: S{band} has {radiance.shape} pixels, but twice those of S7, {bts.shape[:2]}, are expected"
            )
        irradiance, _, _ = read(product, f"S{band}_quality_an.nc", f"S{band}_solar_irradiance_an")
        zenith = solar_zenith(product, *radiance.shape, attributes)
        rads.append(halve(radiance))
        refs.append(halve(reflectance(radiance, float(irradiance[0]), zenith)))
        day = bool(np.all(zenith < 90))
    seen = np.isfinite(bts).all(axis=-1)
    if day:
        seen &= np.isfinite(np.stack(refs, axis=-1)).all(axis=-1)
    if not seen.any():
        raise ProductError(f"{product}: not one pixel has a value in every channel")
    partial = target.with_suffix(".partial")
    with h5py.File(partial, "w") as file:
        for name, data, unit in (
            ("bts", bts, "K"),
            ("rads", np.nan_to_num(np.stack(rads, axis=-1)), "mW m-2 sr-1 nm-1"),
            ("refs", np.nan_to_num(np.stack(refs, axis=-1)), "1"),
        ):
            file.create_dataset(name, data=data.astype(np.float32)).attrs["units"] = unit
        for name, mask in (
            ("bayes", flag(product, "bayes_in")),
            ("summary", flag(product, "confidence_in", ["summary_cloud"])),
            ("seen", seen),
        ):
            file.create_dataset(name, data=np.asarray(mask, dtype=np.uint8)[..., None])
        file.attrs["product"] = product.name
        file.attrs["day"] = day
    partial.rename(target)


def run(data: Path, out: Path) -> None:
    """Converts every product below `data`/training and `data`/inference that is not converted yet."""
    for split in ("training", "inference"):
        (out / split).mkdir(parents=True, exist_ok=True)
        products = sorted((data / split).glob("S3*.SEN3"))
        if not products:
            raise ProductError(f"{data / split}: no products (S3*.SEN3)")
        for product in products:
            target = out / split / f"{product.stem}.hdf"
            if not target.is_file():
                convert(product, target)
            print(f"{split}: {product.name}", flush=True)
    (out / "converted.txt").write_text("\n".join(sorted(p.name for p in out.rglob("*.hdf"))) + "\n")
