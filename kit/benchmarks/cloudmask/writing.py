"""Writes a generated scene as a product, in the form that `kit/stages/cloudmask/products.py` reads.

The files are NetCDF-4, which is HDF5 whose dimensions are scales with a mark (NetCDF-4 file format, "Dimensions"). They are
many and small, and the libraries that write NetCDF take several times as long over each as HDF5 itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.products import FLAGS, IRRADIANCE, NAME, SOLAR, TIE_STEP

FILL = -32768  # of packed values
GRID = ("rows", "columns")
DEFAULT_LEVEL = 4  # of zlib, where a file does not say


class Variable(NamedTuple):
    """A variable as a file holds it."""

    dimensions: tuple[str, ...]
    values: NDArray[Any]
    attributes: Mapping[str, Any]
    level: int = 0  # of zlib; 0: not compressed
    fill: Any = None


def packed(values: NDArray[Any], unit: str, standard_name: str, scale: float, offset: float = 0.0) -> Variable:
    """A field as integers of 16 bits, `value = stored * scale + offset`; NaN is fill."""
    stored = np.rint((values - values.dtype.type(offset)) / values.dtype.type(scale))
    attributes = {"units": unit, "standard_name": standard_name, "scale_factor": scale, "add_offset": offset}
    whole = np.where(np.isnan(stored), FILL, stored).astype(np.int16)
    return Variable(GRID, whole, attributes, level=1, fill=np.int16(FILL))


def flags(name: str, kind: str, **bits: NDArray[np.bool_]) -> Variable:
    """A variable of bits, of which these are set where they are true."""
    meanings = FLAGS[name].split()
    values = np.zeros(next(iter(bits.values())).shape, kind)
    for bit, field in bits.items():
        values |= field.astype(kind) << np.array(meanings.index(bit), kind)
    masks = np.array([1 << bit for bit in range(len(meanings))], kind)
    return Variable(GRID, values, {"flag_masks": masks, "flag_meanings": " ".join(meanings)}, level=1)


def write(folder: Path, fields: dict[str, Any]) -> None:
    """Writes the fields of one scene (`scenes.scene`) as a product; `folder`, whose name is the product's, is made."""
    import h5py

    folder.mkdir()
    match = NAME.match(folder.name)
    assert match, folder.name
    times = {
        f"{key}_time": f"{t[:4]}-{t[4:6]}-{t[6:11]}:{t[11:13]}:{t[13:]}.000000Z"
        for key, t in (("start", match["start"]), ("stop", match["end"]))
    }
    for name, (variables, attributes) in files(fields).items():
        with h5py.File(folder / name, "w") as file:
            attach(file, {"product_name": folder.name, **times, **attributes})
            for key, variable in variables.items():
                add(file, key, variable)


def attach(target: Any, attributes: Mapping[str, Any]) -> None:
    """Attributes as NetCDF has them: texts, and numbers that are never without a dimension."""
    for key, value in attributes.items():
        target.attrs[key] = value if isinstance(value, str) else np.atleast_1d(value)


def add(file: Any, name: str, variable: Variable) -> None:
    """Adds a variable to a file of HDF5, and those of its dimensions that are not there yet."""
    compression = {"compression": "gzip", "compression_opts": variable.level} if variable.level else {}
    made = file.create_dataset(name, data=variable.values, fillvalue=variable.fill, **compression)
    attach(made, variable.attributes if variable.fill is None else {**variable.attributes, "_FillValue": variable.fill})
    for axis, (dimension, length) in enumerate(zip(variable.dimensions, variable.values.shape, strict=True)):
        if dimension not in file:
            scale = file.create_dataset(dimension, (length,), dtype=">f4")
            scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{length:10d}")
            scale.attrs["_Netcdf4Dimid"] = np.int32(sum(entry.is_scale for entry in file.values()) - 1)
        made.dims[axis].attach_scale(file[dimension])


def files(fields: dict[str, Any]) -> dict[str, tuple[dict[str, Variable], dict[str, Any]]]:
    """{name: (its variables, its attributes)} of the files of a product."""
    rows, columns = fields["truth"].shape
    offset_500m = {"track_offset": 2 * (columns // 2), "start_offset": 0, "resolution": "[ 500 500 ]"}
    offset_1km = {"track_offset": columns // 2, "start_offset": 0, "resolution": "[ 1000 1000 ]"}
    found: dict[str, tuple[dict[str, Variable], dict[str, Any]]] = {}
    for band, field in fields["radiance"].items():
        name, scale = f"S{band}_radiance_an", IRRADIANCE[band] / 30000 / np.pi * 1.8
        radiance = packed(field, "mW.m-2.sr-1.nm-1", "toa_upwelling_spectral_radiance", scale)
        found[f"{name}.nc"] = ({name: radiance}, offset_500m)
        detectors = Variable(
            ("detectors",), np.full(4, IRRADIANCE[band], "f4"), {"units": "mW.m-2.nm-1"}, fill=np.float32("nan")
        )
        found[f"S{band}_quality_an.nc"] = ({f"S{band}_solar_irradiance_an": detectors}, offset_500m)
    # The same irradiances again, by detector and view, and which detector saw each pixel: what other readers ask for.
    views = {
        f"S{band}_solar_irradiances": Variable(("detectors", "views"), np.full((4, 2), IRRADIANCE[band]), {}, fill=np.nan)
        for band in SOLAR
    }
    found["viscal.nc"] = (views, {})
    for grid, shape, offset in (("an", (2 * rows, 2 * columns), offset_500m), ("in", (rows, columns), offset_1km)):
        seen_by = Variable(GRID, np.zeros(shape, "u1"), {}, level=DEFAULT_LEVEL)
        found[f"indices_{grid}.nc"] = ({f"detector_{grid}": seen_by}, offset)
    for band, field in fields["temperature"].items():
        name = f"S{band}_BT_in"
        found[f"{name}.nc"] = ({name: packed(field, "K", "toa_brightness_temperature", 0.01, 283.73)}, offset_1km)
    probability = Variable(
        GRID,
        fields["probability"].astype("f4"),
        {"units": "1", "standard_name": "cloud_probability"},
        level=1,
        fill=np.float32("nan"),
    )
    variables = {
        "bayes_in": flags("bayes_in", "u1", single_moderate=fields["bayes"]),
        "probability_cloud_single_in": probability,
        "cloud_in": flags("cloud_in", "u2", gross_cloud=fields["summary"]),
        "confidence_in": flags(
            "confidence_in",
            "u2",
            land=fields["land"],
            ocean=~fields["land"],
            snow=fields["ice"],
            day=fields["zenith"] < 90,
            sun_glint=fields["glint"] > 0.05,
            summary_cloud=fields["summary"],
        ),
    }
    found["flags_in.nc"] = (variables, offset_1km)
    # Tie points every 16 km, one beyond each end, with their own origin.
    tie_columns = np.arange(-TIE_STEP, columns + TIE_STEP, TIE_STEP)
    slope = fields["zenith"][0, 1] - fields["zenith"][0, 0]
    first = fields["zenith"][0, 0]
    zenith = first + slope * tie_columns[None, :] + (fields["zenith"][:, :1] - first)
    ties = Variable(GRID, zenith, {"units": "degrees"}, level=DEFAULT_LEVEL, fill=np.nan)
    origin = {"track_offset": (columns // 2) // TIE_STEP + 1, "start_offset": 0, "resolution": "[ 16000 1000 ]"}
    found["geometry_tn.nc"] = ({"solar_zenith_tn": ties}, origin)
    places = {
        f"{name}_in": Variable(GRID, np.asarray(fields[name]), {"units": f"degrees_{way}"}, level=1, fill=np.nan)
        for name, way in (("latitude", "north"), ("longitude", "east"))
    }
    found["geodetic_in.nc"] = (places, offset_1km)
    return found
