"""Reads what pandas writes into HDF5 (HDFStore), without pandas: tables of features and responses, in blocks of rows.

A frame is a group with the attribute `pandas_type`. In its table format (`frame_table`) the group holds one dataset `table`
of records: the index, blocks of columns of one type, and columns of their own. In its fixed format (`frame`) each block is
an array of rows, and texts are pickled. Layouts: pandas/io/pytables.py. Pickles are read as lists, dictionaries, tuples,
texts and numbers, and nothing else of them is run.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 32 * 2**20  # bytes of a block of rows, about
ROUNDED = 1e-6  # by which an area in single precision may be above 1
# What a pickle of plain values and of arrays of texts may name.
HARMLESS = {
    **{(of, name): getattr(np, name) for of in ("numpy",) for name in ("ndarray", "dtype")},
    ("collections", "OrderedDict"): dict,
}


class UnoError(ValueError):
    """What is wrong with the data: names the file, the key and the way out."""


class Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in HARMLESS:
            return HARMLESS[module, name]
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.ndarray.__reduce__(np.empty(0))[0]
        raise UnoError(f"its pickle names {module}.{name}, which is not run here")


def plain(value: Any, where: str) -> Any:
    """What the pickle of an attribute or of an array of texts holds."""
    try:
        return Plain(io.BytesIO(bytes(value))).load()
    except UnoError as error:
        raise UnoError(f"{where}: {error}") from None
    except Exception as error:  # a pickle that is none raises whatever its bytes mean
        raise UnoError(f"{where}: is no pickle of plain values ({type(error).__name__})") from None


class Responses(NamedTuple):
    """What was measured, a row each: 50 bytes or so, so that all of them are held."""

    auc: NDArray[np.float32]  # area under the dose-response curve, 0 (dead at any dose) to 1 (nothing happens)
    sample: NDArray[np.bytes_]  # the name of the cell line
    drug: NDArray[np.bytes_]


class Store:
    """An open file. UnoError for one that is no such file, or is cut off."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        try:
            self.file = h5py.File(path, "r", locking=False)
        except FileNotFoundError:
            raise UnoError(f"{path}: missing; kit data make uno, or kit data get uno/top21 for the published one") from None
        except OSError as error:
            raise UnoError(f"{path}: no whole HDF5 file ({error}); fetch or make it again") from None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __contains__(self, key: str) -> bool:
        return key in self.file

    def frame(self, key: str) -> tuple[Any, bool]:
        """The group of a frame, and whether it is in the table format."""
        if key not in self.file:
            raise UnoError(
                f"{self.path}: has no key {key}; one that the reference exports has {', '.join(KEYS)} (README.AUC.md)"
            )
        group = self.file[key]
        kind = group.attrs.get("pandas_type", b"")
        if kind not in (b"frame", b"frame_table", "frame", "frame_table"):
            raise UnoError(f"{self.path}: {key} is no frame of pandas (pandas_type {kind!r}); write it with HDFStore.append")
        return group, kind in (b"frame_table", "frame_table")

    def features(self, key: str, columns: int) -> Iterator[NDArray[np.float32]]:
        """The rows of a key (rows, columns), block by block; UnoError for another width and for what is not finite."""
        group, table = self.frame(key)
        where = f"{self.path}: {key}"
        names = [name for name in group if name.startswith("block") and name.endswith("_values")]
        if not table and names != ["block0_values"]:
            raise UnoError(f"{where}: has {len(names)} blocks of columns, where features of one type are needed: float32")
        data = group["table"] if table else group["block0_values"]
        field = "values_block_0" if table else ""
        if table and set(data.dtype.names or ()) != {"index", field}:
            raise UnoError(f"{where}: its columns are {data.dtype.names}, where features of one type are needed: float32")
        width = (data.dtype[field].shape if table else data.shape[1:]) or (1,)
        kind = (data.dtype[field] if table else data.dtype).base
        if width != (columns,) or kind.kind != "f":
            raise UnoError(
                f"{where}: has {width[0]} columns of {kind}, where {columns} of float32 are needed; it is of another Uno "
                "(the AUC benchmark has 942 of genes and 5,270 of drugs)"
            )
        start = 0
        for block in self.blocks(data, where):
            values = np.asarray(block[field] if table else block, dtype=np.float32).reshape(len(block), columns)
            bad = ~np.isfinite(values).all(axis=1)
            if bad.any():
                raise UnoError(
                    f"{where}: row {start + int(bad.argmax())} has a feature that is not finite; leave it out, or impute it"
                )
            start += len(block)
            yield values

    def responses(self, key: str) -> Responses:
        """The responses of a key; UnoError for a column that is missing and an area that is none."""
        group, table = self.frame(key)
        where = f"{self.path}: {key}"
        columns = self.table_columns(group["table"], where) if table else self.fixed_columns(group, where)
        missing = [name for name in ("AUC", "Sample", "Drug1") if name not in columns]
        if missing:
            raise UnoError(
                f"{where}: has no column {missing[0]}, but {', '.join(columns) or 'none'}; export it with agg_dose"
            )
        auc = np.asarray(columns["AUC"], dtype=np.float32)
        wrong = ~((auc >= 0) & (auc <= 1 + ROUNDED))  # NaN as well
        if wrong.any():
            row = int(wrong.argmax())
            raise UnoError(
                f"{where}: AUC of row {row} is {auc[row]}, where an area from 0 to 1 is needed; leave the row out"
            )
        return Responses(auc, np.asarray(columns["Sample"], dtype="S"), np.asarray(columns["Drug1"], dtype="S"))

    def table_columns(self, data: Any, where: str) -> dict[str, NDArray[Any]]:
        parts = list(self.blocks(data, where))
        rows = np.concatenate(parts) if parts else np.empty(0, data.dtype)
        found = {}
        for field in rows.dtype.names or ():
            if field == "index":
                continue
            kind = data.attrs.get(f"{field}_kind")
            names = (
                plain(kind, f"{where}, {field}_kind") if field.startswith("values_block_") and kind is not None else [field]
            )
            values = rows[field].reshape(len(rows), int(np.prod(rows.dtype[field].shape)))
            found.update({str(name): values[:, place] for place, name in enumerate(names[: values.shape[1]])})
        return found

    def fixed_columns(self, group: Any, where: str) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for number in range(int(group.attrs.get("nblocks", 0))):
            data = group[f"block{number}_values"]
            if data.dtype.kind == "O":  # texts, pickled, in one cell
                values = np.asarray(plain(data[0], f"{where}, block{number}_values"), dtype="S")
                values = values.reshape(1, -1).T if values.ndim == 1 else values.T if len(values) == 1 else values
            else:
                values = data[()]
            for place, name in enumerate(group[f"block{number}_items"][()]):
                found[name.decode() if isinstance(name, bytes) else str(name)] = values[:, place]
        return found

    def blocks(self, data: Any, where: str) -> Iterator[NDArray[Any]]:
        """The rows of a dataset, some at a time, each of its chunks read once."""
        size = data.dtype.itemsize * int(np.prod(data.shape[1:]))
        chunk = data.chunks[0] if data.chunks else 1
        step = chunk * max(1, BLOCK // (chunk * size))
        know_filters(data, where)
        for start in range(0, len(data), step):
            try:
                rows = data[start : start + step]
            except (OSError, ValueError) as error:
                raise UnoError(f"{where}: rows from {start} cannot be read ({error}); fetch or make it again") from None
            yield rows

    def shapes(self) -> dict[str, int]:
        """Columns of the features by their kind, as the key `model` states them."""
        group, _ = self.frame("model")
        found = {}
        for name in ("input_features", "feature_shapes"):
            if name not in group.attrs:
                raise UnoError(f"{self.path}: key model has no attribute {name}; the reference's export writes it")
            found[name] = plain(group.attrs[name], f"{self.path}: model.{name}")
        inputs, shapes = found["input_features"], found["feature_shapes"]
        try:
            return {str(name): int(shapes[kind][0]) for name, kind in inputs.items()}
        except (AttributeError, LookupError, TypeError, ValueError):
            raise UnoError(f"{self.path}: model: input_features {inputs} and feature_shapes {shapes} do not agree") from None


def know_filters(data: Any, where: str) -> None:
    """Makes HDF5 read what a dataset is packed with; UnoError where it cannot.

    HDF5 itself knows few filters. The published file has Blosc with Snappy (pandas' complib "blosc:snappy",
    uno_baseline_keras2.py of ECP-CANDLE/Benchmarks), which the package hdf5plugin adds to it.
    """
    import h5py

    filters = data.id.get_create_plist()
    packed = [filters.get_filter(number) for number in range(filters.get_nfilters())]
    if all(h5py.h5z.filter_avail(number) for number, *_ in packed):
        return
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401
    for number, _, _, name in packed:
        if not h5py.h5z.filter_avail(number):
            raise UnoError(
                f"{where}: is packed by a filter that is not known here, {number} ({name.decode(errors='replace')}); "
                "install hdf5plugin, or rewrite the file with ptrepack --complib=zlib"
            )


PARTS = ("train", "val", "test")
KEYS = (*(f"x_{part}_{place}" for part in PARTS for place in (0, 1)), *(f"y_{part}" for part in PARTS), "model")
