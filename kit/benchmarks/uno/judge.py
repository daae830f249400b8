"""Judges a run on the login node: the ranks formed one job, the rows are those of the data, and the split leaks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.uno.responses import FILE
from kit.core.errors import KitError
from kit.core.files import read_json
from kit.stages.uno.hdf import PARTS, Responses, Store
from kit.stages.uno.prepare import KINDS
from kit.stages.uno.rows import RECORD, SPLITS
from kit.training.judge import one_job, splits_kept

TRAIN, INFER, SCORE, ROWS = "train/train.json", "answers/infer.json", "score/score.json", "rows/prepared.json"
NAMES = {"cell": "sample", "drug": "drug"}


def judge(directory: Path, ranks: int) -> None:
    """KitError for what cannot be. The names of cell lines and drugs are read from the data again: a split is judged by them
    and not by what the stages say of it."""
    trained, inferred = (one_job(directory, name, ranks) for name in (TRAIN, INFER))
    prepared, scored = (read_json(directory / name) for name in (ROWS, SCORE))
    split = prepared["split"]
    if split not in KINDS or {trained["split"], scored["split"]} != {split}:
        raise KitError(f"{TRAIN} has the split {trained['split']}, {SCORE} {scored['split']}, and {ROWS} {split}")
    rows = {name: load(directory / f"rows/{name}.npy") for name in SPLITS}
    try:
        with Store(directory / "data" / FILE) as store:
            said = [store.responses(f"y_{part}") for part in PARTS]
    except ImportError:
        raise KitError("the data of uno are read with h5py; pip install 'science-kit[uno]'") from None
    except ValueError as error:
        raise KitError(str(error)) from None
    named = {name: names(rows[name], said, f"rows/{name}.npy") for name in SPLITS}
    whole(rows, said, split)
    if split != "random":
        apart(named, split)
        used = {name: [str(one) for one in trained["used"][name][split]] for name in ("training", "validation")}
        listed = {name: {str(one): str(one) for one in np.unique(rows[name][split])} for name in SPLITS}
        splits_kept(TRAIN, used, listed, test="test", what=f"{split}s")
    for name, found in ((INFER, inferred["rows"]), (SCORE, scored["rows"])):
        if found != len(rows["test"]):
            raise KitError(f"{name}: {found} rows, but rows/test.npy has {len(rows['test'])}")
    if trained["validation_samples"] != len(rows["validation"]):
        raise KitError(f"{TRAIN}: {trained['validation_samples']} of {len(rows['validation'])} validation rows")
    for kind, share in seen(named).items():
        if not abs(scored["shared"][kind] - share) <= 1e-9:
            raise KitError(
                f"{SCORE}: says that {scored['shared'][kind]} of the test rows have a known {kind}, but {share} do"
            )


def load(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: no rows ({error})") from None
    if found.dtype != RECORD or not len(found):
        raise KitError(f"{path}: holds no rows of cell lines and drugs")
    return found


def names(rows: NDArray[Any], said: list[Responses], name: str) -> dict[str, NDArray[np.bytes_]]:
    """The names of cell line and drug of each row, from the data; KitError where the area is not that of the data."""
    found = {kind: np.empty(len(rows), "S64") for kind in NAMES}
    for number, part in enumerate(said):
        here = rows["part"] == number
        places = rows["row"][here]
        if places.size and int(places.max()) >= len(part.auc):
            raise KitError(f"{name}: names row {int(places.max())} of y_{PARTS[number]}, which has {len(part.auc)}")
        if not np.array_equal(part.auc[places], rows["auc"][here]):
            raise KitError(f"{name}: its areas are not those of y_{PARTS[number]} in {FILE}")
        for kind, column in NAMES.items():
            found[kind][here] = getattr(part, column)[places]
    return found


def whole(rows: Mapping[str, NDArray[Any]], said: list[Responses], split: str) -> None:
    """KitError unless every row of the data is in one split, once; with the random one, where it was published."""
    places = np.concatenate([rows[name]["part"].astype(np.int64) << 32 | rows[name]["row"] for name in SPLITS])
    total = sum(len(part.auc) for part in said)
    if len(np.unique(places)) != len(places):
        raise KitError("rows/: a row of the data is in more than one split, or twice in one")
    if len(places) != total:
        raise KitError(f"rows/: {len(places)} rows, but {FILE} has {total}")
    if split == "random":
        for number, name in enumerate(SPLITS):
            if (rows[name]["part"] != number).any():
                raise KitError(f"rows/{name}.npy: has rows that are not of y_{PARTS[number]}, as published")


def apart(named: Mapping[str, Mapping[str, NDArray[np.bytes_]]], split: str) -> None:
    """KitError where a cell line (a drug) of a split by them is in two of its parts."""
    for place, first in enumerate(SPLITS):
        for second in SPLITS[place + 1 :]:
            both = np.intersect1d(named[first][split], named[second][split])
            if both.size:
                shown = ", ".join(one.decode(errors="replace") for one in both[:5])
                raise KitError(f"rows/: split by {split}, but {both.size} are in {first} and in {second}: {shown}")


def seen(named: Mapping[str, Mapping[str, NDArray[np.bytes_]]]) -> dict[str, float]:
    """Shares of the test rows whose cell line, drug and pair of both are in training, by their names."""
    training, test = named["training"], named["test"]
    found = {kind: float(np.isin(test[kind], training[kind]).mean()) for kind in NAMES}
    pairs = [np.char.add(np.char.add(of["cell"], b"\t"), of["drug"]) for of in (test, training)]
    return {**found, "pair": float(np.isin(pairs[0], pairs[1]).mean())}
