"""What the network of a Uno run said of the test rows, and the score that it has against data made again.

The stages of the run are walked again but for the two that need a network: prepare, and score with the answers of the
evidence. What follows from answers and areas comes out the same. The ridge regression is solved by the library of linear
algebra that is at hand, and agrees to `SOLVED`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks import Parameters
from kit.benchmarks.uno.consistency import SCORE
from kit.benchmarks.uno.responses import FILE
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import plain_file, read_table
from kit.training import judge

PREDICTIONS = "predictions.npy"
SOLVED = 1e-4  # of the R2 of the ridge
# By how much a score, a baseline or a margin may differ where the data made here are not, byte for byte, those of the run:
# another processor or library rounds otherwise. That is far below what the areas of a test differ by, and above what a
# feature that is rounded otherwise moves a ridge by. Ends of intervals, see `judge.differing`.
ROUNDED = 1e-3


def write_predictions(directory: Path, target: Path) -> None:
    """Writes the answers of a run, float32, in the order of the test rows."""
    try:
        answers = np.load(plain_file(directory, "answers/predictions.npy"), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise KitError(f"{directory}/answers/predictions.npy: no answers ({error})") from None
    with target.open("wb") as file:
        np.save(file, answers.astype("<f4"), allow_pickle=False)


def score_again(
    files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
) -> Iterator[tuple[str, str, str]]:
    """(rule, file, what is wrong) of a run's answers and of the score that is said to be theirs."""
    name = f"evidence/{PREDICTIONS}"
    try:
        answers = np.load(files[name], allow_pickle=False)
    except Exception:  # its header is read as Python, with all of its errors
        yield "evidence-form", name, "is no array of NumPy"
        return
    if answers.dtype != np.dtype("<f4") or answers.ndim != 1 or not np.isfinite(answers).all():
        yield (
            "evidence-form",
            name,
            f"holds {answers.dtype} in {answers.ndim} dimensions, where finite float32 in one is needed",
        )
        return
    try:
        again = scored(data, answers, parameters)
    except ValueError as error:
        yield "evidence-form", name, str(error)
        return
    said = read_table(files[SCORE])
    if not same_data:
        for label, found, wanted in nearly(said, again):
            yield "evidence-score", SCORE, f"{label} is {found!r}, but the answers come to {wanted!r} with other data"
        return
    for label, found, wanted in compared(said, again):
        yield "evidence-score", SCORE, f"{label} is {found!r}, but the answers of the evidence come to {wanted!r}"


def scored(data: Path, answers: Any, parameters: Parameters) -> dict[str, Any]:
    """What the stages prepare and score make of the answers."""
    from kit.stages.uno.prepare import prepare
    from kit.stages.uno.score import score

    truth = str(parameters["truth"]).removeprefix("data/")
    with tempfile.TemporaryDirectory(dir=paths.make_cached(paths.cache() / "scored-again")) as made:
        folder = Path(made)
        for name in ("rows", "answers", "score"):
            (folder / name).mkdir()
        np.save(folder / "answers/predictions.npy", answers)
        prepare(data / FILE, folder / "rows", str(parameters["split"]), int(parameters["data_seed"]))
        score(folder / "rows", folder / "answers", folder / "score", data / truth if truth else None)
        found: dict[str, Any] = json.loads((folder / "score/score.json").read_text())
    return found


def compared(said: dict[str, Any], again: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(label, said, computed) of what differs; of the ridge, and of what it decides, by more than its solution may."""
    loose = {"ridge", "margin", "margin_interval", "ridge_penalty", "per_group"}
    yield from judge.differing(said, {key: value for key, value in again.items() if key not in loose})
    for label, one, other in (
        ("ridge.r2", said["ridge"]["r2"], again["ridge"]["r2"]),
        ("margin", said["margin"], again["margin"]),
    ):
        if not abs(one - other) <= SOLVED:
            yield label, one, other
    for name, group in again["per_group"].items():
        found = said["per_group"].get(name, {})
        for answer, sums in group.items():
            if answer != "ridge" and not np.allclose(found.get(answer, np.nan), sums, rtol=1e-9, atol=1e-9):
                yield f"per_group.{name}.{answer}", found.get(answer), sums


def nearly(said: dict[str, Any], again: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(label, said, computed) of scores, baselines, shares, margins and intervals that differ by more than `ROUNDED`.

    Sums of groups differ where a single area is rounded otherwise, as does the penalty of the ridge; which baseline is the
    best may change where two are as good.
    """
    exact = {"rows", "split", "group"}
    for key in sorted(exact):
        if said.get(key) != again[key]:
            yield key, said.get(key), again[key]
    loose = {"ridge_penalty", "per_group", "best_baseline", *exact}
    yield from judge.differing(said, {key: value for key, value in again.items() if key not in loose}, close=ROUNDED)
