"""Holds what the network says of the test rows against what was measured, beside baselines that it must beat.

Sums are kept group by group, a drug each (a cell line each where the split is by cell line): intervals come from drawing
groups anew (bootstrap), since the rows of one drug are not independent of each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.uno.baselines import Ridge, of_means
from kit.stages.uno.hdf import PARTS
from kit.stages.uno.rows import Rows, prepared
from kit.stages.uno.train import CENTRE, summary

BASELINES = ("mean", "drug_mean", "cell_mean", "ridge")
DRAWS = 1000
Sums = NDArray[np.float64]  # in the order of kit.stages.uno.train.SUMS


def sums_of(said: NDArray[Any], wanted: NDArray[Any]) -> Sums:
    """The sums of which `summary` makes scores."""
    p, y = said.astype(np.float64) - CENTRE, wanted.astype(np.float64) - CENTRE
    return np.array([part.sum() for part in ((p - y) ** 2, abs(p - y), np.ones_like(y), p, y, p * p, y * y, p * y)])


def r2_of(sums: Sums) -> NDArray[np.float64]:
    """Coefficients of determination, of sums (draws, 8)."""
    spread = sums[:, 6] - sums[:, 4] ** 2 / np.maximum(sums[:, 2], 1)
    return 1 - sums[:, 0] / np.maximum(spread, 1e-300)


def interval(values: NDArray[np.float64]) -> list[float]:
    """The middle 95 % of the values."""
    return [float(value) for value in np.percentile(values, [2.5, 97.5])]


def conclusions(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What follows from the sums of each group: scores with intervals, and what the network gains over the baselines.

    A group has the sums of the network, of each baseline and, where the noiseless response is known, of that. A submission
    carries them, so that whoever checks it comes to the same.
    """
    names = list(next(iter(groups.values())))
    tables = {name: np.array([group[name] for group in groups.values()], dtype=float) for name in names}
    number = len(groups)
    draws = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    drawn = {name: r2_of(draws @ table) for name, table in tables.items()}
    found: dict[str, Any] = {
        name: {**summary(table.sum(axis=0)), "r2_interval": interval(drawn[name])} for name, table in tables.items()
    }
    best = max(BASELINES, key=lambda name: float(found[name]["r2"]))
    result = {
        **found,
        "best_baseline": best,
        "margin": found["network"]["r2"] - found[best]["r2"],
        "margin_interval": interval(drawn["network"] - drawn[best]),
    }
    if "truth" in found:
        result["ceiling"] = found["truth"]["r2"]
        result["ceiling_share"] = found["network"]["r2"] / found["truth"]["r2"]
    return result


def truth_of(path: Path, rows: NDArray[Any]) -> NDArray[np.float32]:
    """The response without noise of some rows, by where they stand in the file that was generated."""
    import h5py

    found = np.empty(len(rows), np.float32)
    with h5py.File(path, "r", locking=False) as file:
        for number, part in enumerate(PARTS):
            here = rows["part"] == number
            found[here] = file[part][()][rows["row"][here]]
    return found


def score(data: Path, predictions: Path, out: Path, truth_file: Path | None = None) -> None:
    """Writes score.json. ValueError for predictions that are missing, of other rows, or not finite."""
    facts = prepared(data)
    training, validation, test = (Rows(data, name).records for name in ("training", "validation", "test"))
    path = predictions / "predictions.npy"
    if not path.is_file():
        raise ValueError(f"{path}: missing; the stage infer writes it")
    said = np.load(path)
    if said.shape != (len(test),):
        raise ValueError(
            f"{path}: has {said.shape} predictions for {len(test)} test rows; a score without each is of others"
        )
    if not np.isfinite(said).all():
        raise ValueError(f"{path}: row {int((~np.isfinite(said)).argmax())} is not finite")
    ridge = Ridge(data)
    ridge.fit(training, validation)
    answers = {
        "network": said,
        "mean": np.full(len(test), training["auc"].mean(dtype=np.float64)),
        "drug_mean": of_means(training, test, "drug"),
        "cell_mean": of_means(training, test, "cell"),
        "ridge": ridge.predict(test),
    }
    if truth_file:
        answers["truth"] = truth_of(truth_file, test)
    kind = "cell" if facts["split"] == "cell" else "drug"
    names = facts["cells" if kind == "cell" else "drugs"]
    groups = {}
    for number in np.unique(test[kind]):
        here = test[kind] == number
        groups["/".join(names[number])] = {
            name: sums_of(values[here], test["auc"][here]).tolist() for name, values in answers.items()
        }
    result = {
        "rows": len(test),
        "split": facts["split"],
        "group": kind,
        "shared": facts["shared"],
        "ridge_penalty": ridge.penalty,
        **conclusions(groups),
        "per_group": groups,
    }
    partial = out / "score.partial"
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    partial.rename(out / "score.json")
