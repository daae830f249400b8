"""Measurements on disk: a table of the cell lines, one of the drugs, and rows that say which of each, and what came of it.

Cell lines and drugs come again in hundreds of rows each, so that the published 13 GB of features are some 30 MB here. A
batch is gathered when it is read, from tables that are mapped and let go: memory stays bounded whatever their size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.shards import Shards
from kit.stages.uno.network import DESCRIPTORS, GENES

SPLITS = ("training", "validation", "test")
# `part` and `row` are where it stands in the file: which of its parts (hdf.PARTS), and which row of it.
RECORD = np.dtype([("cell", "<u4"), ("drug", "<u4"), ("auc", "<f4"), ("part", "u1"), ("row", "<u4")])
FIELDS = [np.dtype(("<f4", (GENES,))), np.dtype(("<f4", (DESCRIPTORS,))), np.dtype("<f4")]


class Rows(Shards):
    """The rows of a split as the network takes them: features of the cell line, of the drug, and the area measured."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        path = folder / f"{split}.npy"
        for needed in (path, folder / "cells.npy", folder / "drugs.npy"):
            if not needed.is_file():
                raise ValueError(f"{needed}: missing; the stage prepare writes it")
        self.records = np.load(path)  # 17 bytes a row
        if self.records.dtype != RECORD:
            raise ValueError(f"{path}: holds {self.records.dtype}, not rows of this version; run the stage prepare again")
        super().__init__([path], [len(self.records)], RECORD)

    def fields(self) -> list[np.dtype[Any]]:
        return FIELDS

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        rows = self.records[numbers]
        cells, drugs = (np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ("cells", "drugs"))
        return np.asarray(cells[rows["cell"]]), np.asarray(drugs[rows["drug"]]), rows["auc"].copy()

    def members(self) -> dict[str, list[int]]:
        """The cell lines and drugs of the split, by their numbers in the tables."""
        return {name: np.unique(self.records[name]).tolist() for name in ("cell", "drug")}


def prepared(folder: Path) -> dict[str, Any]:
    """What the stage prepare says of its rows."""
    path = folder / "prepared.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; the stage prepare writes it") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path}: not JSON ({error}); run the stage prepare again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no JSON object; run the stage prepare again")
    return found
