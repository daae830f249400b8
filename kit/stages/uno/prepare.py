"""From the published file to tables of cell lines and drugs, and to the rows of each split.

Splits by cell line and by drug stand beside the published random one: with that, nearly every cell line and drug of the test
is in training as well, so that it asks what a known drug does to a known cell line, and not what a new one does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.shards import write
from kit.stages.uno.hdf import PARTS, Store, UnoError
from kit.stages.uno.network import DESCRIPTORS, GENES
from kit.stages.uno.rows import RECORD, SPLITS

KINDS = ("random", "cell", "drug")
SHARES = (0.8, 0.1, 0.1)  # of the cell lines or drugs, as of the published rows
INPUTS = {"cell": GENES, "drug": DESCRIPTORS}


class Table:
    """Rows that differ, written once each in the order in which they came; they are told apart by 128 bits of BLAKE2b."""

    def __init__(self, path: Path, columns: int) -> None:
        self.path, self.columns = path, columns
        self.raw = path.with_suffix(".raw.partial")
        self.known: dict[bytes, int] = {}

    def places(self, blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.uint32]:
        """For each row of the blocks its number in the table."""
        found = []
        with self.raw.open("ab") as file:
            for block in blocks:
                for row in np.ascontiguousarray(block, dtype="<f4"):
                    text = row.tobytes()
                    digest = hashlib.blake2b(text, digest_size=16).digest()
                    if digest not in self.known:
                        self.known[digest] = len(self.known)
                        file.write(text)
                    found.append(self.known[digest])
        return np.array(found, dtype=np.uint32)

    def close(self) -> None:
        """Writes the table (.npy), whole or not at all."""
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file, self.raw.open("rb") as raw:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(self.known), self.columns)}
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(raw, file)
        self.raw.unlink()
        partial.rename(self.path)


def prepare(data: Path, out: Path, split: str, seed: int) -> None:
    """Writes cells.npy, drugs.npy, a file of rows for each split, and prepared.json.

    UnoError for data that cannot be used; prepared.json comes last, so that without it nothing was prepared.
    """
    if split not in KINDS:
        raise UnoError(f"--split {split}: one of {', '.join(KINDS)} is needed")
    for stale in out.glob("*.partial"):
        stale.unlink()
    tables = {"cell": Table(out / "cells.npy", GENES), "drug": Table(out / "drugs.npy", DESCRIPTORS)}
    parts, names = [], {"cell": {}, "drug": {}}  # type: ignore[var-annotated]
    with Store(data) as store:
        check_inputs(store)
        for number, part in enumerate(PARTS):
            said = store.responses(f"y_{part}")
            if not len(said.auc):
                raise UnoError(f"{data}: y_{part} has no rows; a split without any cannot be judged")
            records = np.zeros(len(said.auc), RECORD)
            records["auc"], records["part"], records["row"] = said.auc, number, np.arange(len(said.auc))
            for place, (kind, columns) in enumerate(INPUTS.items()):
                key = f"x_{part}_{place}"
                numbers = tables[kind].places(store.features(key, columns))
                if len(numbers) != len(records):
                    raise UnoError(f"{data}: {key} has {len(numbers)} rows and y_{part} {len(records)}; export it again")
                records[kind] = numbers
                called(names[kind], getattr(said, "sample" if kind == "cell" else "drug"), numbers, f"{data}: {key}")
            parts.append(records)
    rows = np.concatenate(parts)
    for table in tables.values():
        table.close()
    chosen = places(rows, split, seed)
    for name, take in zip(SPLITS, chosen, strict=True):
        if not take.any():
            raise UnoError(f"{data}: split by {split}: {name} has no rows; there are too few of them to split")
        write(out / f"{name}.npy", rows[take])
    by_split = {name: rows[take] for name, take in zip(SPLITS, chosen, strict=True)}
    facts = {
        "split": split,
        "seed": seed,
        "rows": {name: len(found) for name, found in by_split.items()},
        "cells": listed(names["cell"], len(tables["cell"].known)),
        "drugs": listed(names["drug"], len(tables["drug"].known)),
        "shared": shared(by_split),
        "auc_mean": float(rows["auc"].mean(dtype=np.float64)),
        "auc_variance": float(rows["auc"].var(dtype=np.float64)),
    }
    partial = out / "prepared.partial"
    partial.write_text(json.dumps(facts, indent=1) + "\n")
    partial.rename(out / "prepared.json")


def check_inputs(store: Store) -> None:
    """UnoError unless the features are those of genes and of one drug."""
    shapes = store.shapes()
    if list(shapes.values()) != [GENES, DESCRIPTORS]:
        raise UnoError(
            f"{store.path}: model: its features are {shapes}, where {GENES} of genes and {DESCRIPTORS} of one drug are "
            "needed; the AUC benchmark's file is top_21_auc_1fold.uno.h5"
        )
    for part in PARTS:
        if f"x_{part}_2" in store:
            raise UnoError(f"{store.path}: has a third input, x_{part}_2; the AUC benchmark's file has two")


def called(known: dict[bytes, int], names: NDArray[np.bytes_], numbers: NDArray[np.uint32], where: str) -> None:
    """Notes the number of each name; UnoError for a name with two rows of features, which no split could keep apart."""
    for name, number in sorted(set(zip(names.tolist(), numbers.tolist(), strict=True))):
        if known.setdefault(name, number) != number:
            raise UnoError(f"{where}: {name.decode(errors='replace')} has two different rows of features; export it again")


def listed(names: Mapping[bytes, int], number: int) -> list[list[str]]:
    """The names of each row of a table: several where they have the same features."""
    found: list[list[str]] = [[] for _ in range(number)]
    for name, place in sorted(names.items()):
        found[place].append(name.decode(errors="replace"))
    return found


def places(rows: NDArray[Any], split: str, seed: int) -> list[NDArray[np.bool_]]:
    """Which rows are of training, validation and test: as published, or with no cell line (no drug) in two of them."""
    if split == "random":
        return [rows["part"] == number for number in range(len(PARTS))]
    groups = np.unique(rows[split])
    order = np.random.default_rng([seed, KINDS.index(split)]).permutation(groups)
    ends = np.rint(np.cumsum(SHARES) * len(order)).astype(int)
    return [np.isin(rows[split], order[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def shared(by_split: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Shares of the test rows whose cell line, drug, or pair of both is in training as well."""
    training, test = by_split["training"], by_split["test"]

    def pairs(rows: NDArray[Any]) -> NDArray[np.uint64]:
        return rows["cell"].astype(np.uint64) << np.uint64(32) | rows["drug"]

    return {
        "cell": float(np.isin(test["cell"], training["cell"]).mean()),
        "drug": float(np.isin(test["drug"], training["drug"]).mean()),
        "pair": float(np.isin(pairs(test), pairs(training)).mean()),
    }
