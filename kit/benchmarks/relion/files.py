"""RELION's files, read by label: STAR tables and MRC maps, with errors that name the file and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.benchmarks.relion import maps
from kit.errors import KitError
from kit.model import read_star

if TYPE_CHECKING:
    import pandas as pd


def read_map(path: Path) -> tuple[maps.Array, float]:
    """A map as (density, voxel size in angstrom); KitError when it is missing or cut short."""
    import mrcfile

    try:
        with mrcfile.open(path) as file:
            return file.data.astype(np.float64), float(file.voxel_size.x)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: not a readable MRC map: {error}") from None


def read_columns(path: Path, block: str, labels: Sequence[str]) -> pd.DataFrame:
    """Those of `labels` that the last table of a STAR file has, read straight from its rows; text is categorical.

    For tables of a million rows, of which a few columns are wanted: reading the whole takes three times as long and nine
    times the memory. KitError for a file without the block, or a row of another length.
    """
    import pandas as pd

    known: list[str] = []
    inside = False
    try:
        with path.open() as file:
            for number, line in enumerate(file):  # noqa: B007
                if inside and line.startswith("_"):
                    known.append(line.split()[0].removeprefix("_"))
                elif known:
                    break
                inside = inside or line.strip() == f"data_{block}"
        wanted = [label for label in known if label in labels]
        if not wanted:
            raise KitError(f"{path}: no data_{block} with any of the labels _{', _'.join(labels)}")
        first = pd.read_csv(path, sep=r"\s+", header=None, names=known, skiprows=number, nrows=100)
        numeric = {label: pd.api.types.is_numeric_dtype(first[label]) for label in wanted}
        kinds: Any = {label: float if real else "category" for label, real in numeric.items()}
        table = pd.read_csv(path, sep=r"\s+", header=None, names=known, skiprows=number, usecols=wanted, dtype=kinds)
    except OSError as error:
        raise KitError(f"{path}: can not be read: {error.strerror}") from None
    except ValueError as error:
        raise KitError(f"{path}: a row of data_{block} can not be read: {error}") from None
    cut = table.isna().any(axis=1)
    if cut.any():
        raise KitError(f"{path}: line {number + 1 + int(cut.argmax())}: a value of data_{block} is missing, or no number")
    return table


def column(path: Path, block: str, label: str) -> Any:
    """A column (or single value) of a STAR file by block and label; KitError names what is missing."""
    blocks = read_star(path)
    if block not in blocks or label not in blocks[block]:
        raise KitError(f"{path}: no label _{label} in data_{block}")
    return blocks[block][label]
