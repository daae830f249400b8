"""Does what a submission carries of a TEvolOp run agree with itself? What can be computed again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.tevolop.judge import INFER, PREPARED, SCORE, TRAIN, leaks, otherwise_trained
from kit.core.files import read_table
from kit.core.schema import shortened
from kit.training import judge

HORIZONS = 6
# The sums of a pixel are written with nine digits: those that follow from them differ by less than this.
ROUNDED = 1e-6
# The summed series are written with four decimals: their NNSE differs by less than this.
ROUNDED_SERIES = 1e-4


def contradictions(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of files of a run by their names, of which some may be missing.

    Scores follow from the sums of each pixel, which are in turn those of possible numbers; clocks and target of the
    training are held against each other, and its split against what was prepared.
    """
    tables = {}
    for name in (PREPARED, TRAIN, INFER, SCORE):
        if name in files:
            try:
                tables[name] = read_table(files[name])
                yield from ((name, problem) for problem in CHECKS[name](tables[name]))
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                tables.pop(name, None)
                yield name, f"is not what a run leaves: {shortened(error)}"
    try:
        yield from together(tables)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        yield TRAIN, f"is not what a run leaves: {shortened(error)}"


def together(tables: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """What only two files together can say."""
    prepared = tables.get(PREPARED)
    if not prepared:
        return
    if TRAIN in tables:
        yield from ((TRAIN, problem) for problem in otherwise_trained(prepared, tables[TRAIN]))
    for name in (INFER, SCORE):
        if name in tables and tables[name]["windows"] != prepared["splits"]["test"]["windows"]:
            yield (
                name,
                f"windows is {tables[name]['windows']!r}, but {PREPARED} has {prepared['splits']['test']['windows']!r}",
            )
    if SCORE in tables:
        wanted = prepared["splits"]["test"]["missing"]
        for label, found, again in judge.differing(tables[SCORE]["missing"], wanted, "missing", ROUNDED):
            yield SCORE, f"{label} is {found!r}, but {PREPARED} has {again!r}"
        if tables[SCORE]["split"] != prepared["split"]:
            yield SCORE, f"split is {tables[SCORE]['split']!r}, but {PREPARED} has {prepared['split']!r}"
        if set(tables[SCORE]["per_pixel"]) != {str(number) for number in prepared["splits"]["test"]["pixels"]}:
            yield SCORE, f"per_pixel has other pixels than the test of {PREPARED}"


def of_score(said: dict[str, Any]) -> Iterator[str]:
    from kit.stages.tevolop.score import BASELINES, conclusions

    pixels = said["per_pixel"]
    if not 0 < len(pixels) <= 2400:
        yield f"has {len(pixels)} pixels, where 1 to 2400 are expected"
        return
    names = {"n", "sum", "squares", "network", *BASELINES}
    for number, of in pixels.items():
        sums = {name: np.asarray(values, dtype=float) for name, values in of.items()}
        if not names <= sums.keys() or any(values.shape != (HORIZONS,) for values in sums.values()):
            yield f"per_pixel.{number} lacks sums, or has some that are not of {HORIZONS} horizons"
            return
        n, total = sums["n"], sums["sum"]
        least = total**2 / np.maximum(n, 1)
        wrong = [name for name, values in sums.items() if not (np.isfinite(values) & (values >= 0)).all() and name != "sum"]
        # Squares are at least those of equal numbers; no count is larger than that of the windows.
        if wrong or not (sums["squares"] >= least * (1 - ROUNDED) - ROUNDED).all() or n.max() > said["windows"]:
            yield f"per_pixel.{number} holds what are no sums of {wrong[0] if wrong else 'squares'}"
            return
    for label, found, again in differing(said, conclusions(pixels)):
        yield f"{label} is {found!r}, but the sums of its pixels say {again!r}"
    yield from of_series(said["summed"])


def of_series(summed: Mapping[str, Any]) -> Iterator[str]:
    """Where the NNSE of the network's summed series is not that of the series."""
    from kit.stages.tevolop.score import series_efficiency

    total, told = (np.array(summed[name], dtype=float) for name in ("observed", "network"))
    if total.shape != told.shape or total.shape != (len(summed["starts"]), HORIZONS) or not np.isfinite(told).all():
        yield f"summed.observed and summed.network are no two series of {HORIZONS} horizons, a row a start"
        return
    found, again = summed["nnse"]["network"], series_efficiency(total, told)
    for horizon in sorted({*found, *again}):
        value, wanted = found.get(horizon), again.get(horizon)
        if value is None or wanted is None or not abs(value - wanted) <= ROUNDED_SERIES:
            yield f"summed.nnse.network.{horizon} is {value!r}, but its series says {wanted!r}"


def of_train(said: dict[str, Any]) -> Iterator[str]:
    yield from judge.contradictions(said, metric="val_nnse")
    if said["target"] != 0.8:
        yield f"target is {said['target']!r}, where 0.8 is the working group's"
    horizons = [value for name, value in said.items() if name.startswith("val_nnse_") and value > 0]
    mean = float(np.mean(horizons))
    if not abs(said["val_nnse"] - mean) <= ROUNDED:
        yield f"val_nnse is {said['val_nnse']!r}, but its horizons have a mean of {mean!r}"


def of_prepared(said: dict[str, Any]) -> Iterator[str]:
    yield from (problem.removeprefix(f"{PREPARED}: ") for problem in leaks(said, said["split"]))
    if said["counts"]["used"] > said["counts"]["read"]:
        yield f"counts.used is {said['counts']['used']!r}, more than were read"


def of_infer(said: dict[str, Any]) -> Iterator[str]:
    again = said["windows"] / said["seconds"]
    if not abs(said["windows_per_second"] - again) <= ROUNDED * again:
        yield f"windows_per_second is {said['windows_per_second']!r}, but windows and seconds say {again!r}"


CHECKS = {PREPARED: of_prepared, TRAIN: of_train, INFER: of_infer, SCORE: of_score}


def differing(said: Any, again: Any) -> Iterator[tuple[str, Any, Any]]:
    """As that of every training; the verdict is that of the interval which is said."""
    yield from judge.differing(said, {**again, "verdict": verdict_of(said, again)}, close=ROUNDED)


def verdict_of(said: Mapping[str, Any], again: Mapping[str, Any]) -> str:
    from kit.stages.tevolop.score import verdict

    ends: Any = said.get("margin_interval")
    if np.shape(ends) != (2,):  # which differs, and is told
        ends = again["margin_interval"]
    return verdict(again["margin"], ends, again["best_baseline"])
