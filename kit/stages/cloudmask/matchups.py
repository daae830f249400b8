"""Tables of match-ups: a sea-surface temperature of a buoy beside that of the satellite, and where it is in which scene.

Two forms are read, as comma-separated values or as HDF that pandas wrote (to_hdf, in either of its formats): the kit's own,
`COLUMNS`, and `ANCESTOR`, that of the end-to-end benchmark (sst_matchups.h5; stfc-sciml/e2e, sst_comparison.py), whose
buoys are in degrees Celsius. HDF is read by h5py, so that the image needs no PyTables; what pandas pickled into it, names
and texts, is read by an unpickler that can make arrays and nothing else.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.hdf import of_the_system, read_hdf

# Where in which scene, temperatures (K), angles (degrees), and what the retrieval says of itself.
COLUMNS = (
    *("product", "row", "column", "latitude", "longitude", "buoy_latitude", "buoy_longitude", "sst_insitu", "sst_satellite"),
    *("satellite_zenith_nadir", "satellite_zenith_oblique", "quality_level", "algorithm_type"),
    *("probability_nadir", "probability_oblique"),
)
# Columns of the ancestor's table, in small letters, and what they are here. x counts columns, y rows, of the 1 km grid.
ANCESTOR = {
    "cems_path": "product",
    "y_cems": "row",
    "x_cems": "column",
    "latitude_an": "latitude",
    "longitude_an": "longitude",
    "slat": "buoy_latitude",
    "slon": "buoy_longitude",
    "isst": "sst_insitu",
    "satzan": "satellite_zenith_nadir",
    "satzao": "satellite_zenith_oblique",
    "quality_level": "quality_level",
    "sst_algorithm_type": "algorithm_type",
    "pcloudn": "probability_nadir",
    "pcloudo": "probability_oblique",
}
OPTIONAL = ("quality_level",)  # not every version of the ancestor's table has it
# Retrievals and their types: nadir or dual view, with two channels (10.8 and 12 um) or three (3.7 um too, by night). In this
# order are the ancestor's columns of their temperatures, sat_sst_0 to sat_sst_3.
RETRIEVALS = {"N2": 1, "N3": 3, "D2": 4, "D3": 5}
ZERO = 273.15  # K of 0 degrees Celsius
# What a value may be; all else is fill (-9999, -32768), or as good as.
RANGES = {
    "row": (0, np.inf),
    "column": (0, np.inf),
    "latitude": (-90, 90),
    "longitude": (-180, 360),
    "buoy_latitude": (-90, 90),
    "buoy_longitude": (-180, 360),
    "sst_insitu": (200, 350),
    "sst_satellite": (200, 350),
    "satellite_zenith_nadir": (0, 90),
    "satellite_zenith_oblique": (0, 90),
    "quality_level": (0, 5),
    "algorithm_type": (0, 255),
    "probability_nadir": (0, 1),
    "probability_oblique": (0, 1),
}


def read_matchups(path: Path) -> Any:
    """A table (pandas) with the columns `COLUMNS`: temperatures in kelvin, NaN for fill; attrs says what it was
    ("ancestor": bool, "celsius": the columns that were).

    ValueError for a file that is no table, a column that it lacks, and temperatures in two units.
    """
    import pandas as pd

    try:
        if path.suffix in (".h5", ".hdf", ".hdf5"):
            table = pd.DataFrame(read_hdf(path, frame))
        else:
            table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table of comma-separated values: {error}") from None
    except (OSError, KeyError, TypeError, pickle.UnpicklingError, EOFError, AttributeError, IndexError) as error:
        if isinstance(error, OSError) and of_the_system(error):
            raise
        said = str(error) or type(error).__name__
        raise ValueError(
            f"{path}: not a table that pandas wrote as HDF ({said}); write it as comma-separated values"
        ) from None
    table = table.rename(columns={name: str(name).lower() for name in table})
    ancestor = "cems_path" in table
    if ancestor:
        table = from_ancestor(path, table)
    missing = [name for name in COLUMNS if name not in table and not (ancestor and name in OPTIONAL)]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table)}")
    found = table[[name for name in COLUMNS if name in table]].copy()
    celsius = []
    for name, (low, high) in RANGES.items():
        if name not in found:
            continue
        values = pd.to_numeric(found[name], errors="coerce").astype(float)
        if name.startswith("sst_"):
            values, was = in_kelvin(path, name, values)
            celsius += [name] * was
        found[name] = values.where((values >= low) & (values <= high))
    found.attrs.update({"ancestor": ancestor, "celsius": celsius})
    return found


def from_ancestor(path: Path, table: Any) -> Any:
    """The ancestor's table with our names, and in `sst_satellite` the temperature of the retrieval that a row is of."""
    lacking = [name for name, ours in ANCESTOR.items() if name not in table and ours not in OPTIONAL]
    if lacking:
        raise ValueError(f"{path}: no column {', '.join(lacking)}; it has {', '.join(table)}")
    temperature = np.full(len(table), np.nan)
    for place, kind in enumerate(RETRIEVALS.values()):
        if f"sat_sst_{place}" in table:
            here = (table["sst_algorithm_type"] == kind).to_numpy()
            temperature[here] = table[f"sat_sst_{place}"].to_numpy()[here]
    if "sat_sst_2" not in table:
        raise ValueError(f"{path}: no column sat_sst_2, the dual-view temperature; it has {', '.join(table)}")
    table = table[[name for name in ANCESTOR if name in table]].rename(columns=ANCESTOR)
    return table.assign(sst_satellite=temperature, product=[Path(str(name)).name for name in table["product"]])


def in_kelvin(path: Path, name: str, values: Any) -> tuple[Any, bool]:
    """Sea-surface temperatures in kelvin, and whether they were in degrees Celsius; ValueError for both in one column."""
    celsius, kelvin = values.between(-10, 60), values.between(200, 350)
    if celsius.any() and kelvin.any():
        raise ValueError(
            f"{path}: {name} has {celsius.sum()} temperatures in degrees Celsius and {kelvin.sum()} in kelvin; one unit is "
            "needed"
        )
    return (values + ZERO, True) if celsius.any() else (values, False)


class Arrays(pickle.Unpickler):
    """Reads arrays, texts and numbers, and refuses whatever else a pickle would have made or called."""

    def find_class(self, module: str, name: str) -> Any:
        reconstruct = np.empty(0).__reduce__()[0]
        known = {"_reconstruct": reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] == "numpy" and name in known:
            return known[name]
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which is no array")


def unpickled(content: bytes) -> Any:
    return Arrays(io.BytesIO(content)).load()


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def frame(file: Any) -> dict[str, NDArray[Any]]:
    """The columns of the one table in an open HDF file of pandas."""
    found: list[Any] = []
    file.visititems(lambda name, item: found.append(item) if "pandas_type" in item.attrs else None)
    if len(found) != 1:
        raise KeyError(f"it has {len(found)} tables, and one is needed")
    group, kind = found[0], text(found[0].attrs["pandas_type"])
    if kind == "frame":
        return fixed(group)
    if kind == "frame_table":
        return appendable(group["table"])
    raise KeyError(f"it has a {kind}, not a frame")


def fixed(group: Any) -> dict[str, NDArray[Any]]:
    """Of pandas' fixed format: blocks of columns of one type, texts as a pickled array."""
    rows, columns = len(group["axis1"]), {}
    for block in range(int(group.attrs["nblocks"])):
        names, values = [text(name) for name in group[f"block{block}_items"][:]], group[f"block{block}_values"][:]
        if values.dtype == object:
            values = unpickled(values[0].tobytes())
        if values.ndim == 1:  # texts of pandas 3, a block for each column
            values = values[:, None]
        if values.shape != (rows, len(names)):
            values = values.T
        columns.update({name: values[:, place] for place, name in enumerate(names)})
    return columns


def appendable(table: Any) -> dict[str, NDArray[Any]]:
    """Of pandas' table format: records, whose fields hold the columns that a pickled list names."""
    columns, records = {}, table[:]
    for field in records.dtype.names:
        if f"{field}_kind" not in table.attrs or field == "index":
            continue
        names = [text(name) for name in unpickled(bytes(table.attrs[f"{field}_kind"]))]
        values = records[field].reshape(len(records), len(names))
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8")
        columns.update({name: values[:, place] for place, name in enumerate(names)})
    return columns
