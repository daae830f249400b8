"""Holds forecasts against what happened, beside forecasts that need no network, and against what can be reached at most.

What is kept are sums of each pixel: scores follow from them, and intervals from drawing pixels anew (bootstrap), since the
windows of one pixel overlap and are not independent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.tevolop import grid
from kit.stages.tevolop.prepare import CLIMATOLOGY, PERSISTENCE
from kit.stages.tevolop.windows import Windows

Array = NDArray[np.float64]

BASELINES = ("persistence", "climatology", "etas")
DRAWS = 1000
BINS = 60  # of a calibration
LOW, HIGH = 0.8, 0.99  # the working group's window


def efficiency(varied: Any, errors: Any) -> Any:
    """NNSE of sums of squares, NaN where the observations do not vary (0/0: a pixel that was silent all the time)."""
    varied, errors = np.asarray(varied, dtype=float), np.asarray(errors, dtype=float)
    return np.divide(varied, varied + errors, out=np.full(varied.shape, np.nan), where=varied > 1e-9)


class Curve:
    """From an expected number of events to a magnitude: the mean of what followed in training, by bins of the number."""

    def __init__(self, numbers: Array, observed: Array) -> None:
        there = np.isfinite(observed)
        x, y = np.log(numbers[there] + 1e-6), observed[there]
        edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)))
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
        count = np.bincount(place)
        some = count > 0
        self.x = np.bincount(place, x)[some] / count[some]
        self.y = np.bincount(place, y)[some] / count[some]

    def __call__(self, numbers: Array) -> Array:
        return np.interp(np.log(numbers + 1e-6), self.x, self.y)


def calibrated(table: Any, training: Windows, test: Windows) -> Array:
    """Forecasts (test windows, horizons) of expected numbers (rows, fortnights, horizons), calibrated in training."""
    rows, starts = (training.index[name].astype(np.int64) for name in ("row", "start"))
    observed = training.observed(rows, starts)
    here = test.index["row"].astype(np.int64), test.index["start"].astype(np.int64)
    found = np.empty((len(test), len(grid.WIDTHS)))
    for number in range(len(grid.WIDTHS)):
        curve = Curve(np.asarray(table[rows, starts, number], float), observed[:, number].astype(float))
        found[:, number] = curve(np.asarray(table[here[0], here[1], number], float))
    return found


def forecasts(data: Path, network: NDArray[Any], test: Windows, truth: Path | None) -> dict[str, Array]:
    """Forecasts (windows, horizons) by name: the network, the baselines and, where the truth is known, the intensity.

    Persistence says what the last window of the same width had, climatology the mean of the pixel's windows so far, and
    etas what followed in training the number of events that a generic ETAS model expects (prepare.rates).
    """
    training = Windows(data, "training")
    rows, starts = (test.index[name].astype(np.int64) for name in ("row", "start"))
    horizons = len(grid.WIDTHS)
    known = np.asarray(test.known[rows, starts - 1], dtype=float)
    found = {
        "network": network.astype(float),
        "persistence": known[:, PERSISTENCE : PERSISTENCE + horizons],
        "climatology": known[:, CLIMATOLOGY : CLIMATOLOGY + horizons],
        "etas": calibrated(np.load(data / "rates.npy", mmap_mode="r"), training, test),
    }
    if truth:
        with np.load(truth) as file:
            places = {int(number): place for place, number in enumerate(file["pixels"])}
            lacking = [number for number in test.facts["pixels"] if number not in places]
            if lacking:
                raise ValueError(
                    f"{truth}: says nothing of pixel {lacking[0]}; the data are of other parameters: make them anew"
                )
            table = file["expected"][[places[number] for number in test.facts["pixels"]]]
        found["intensity"] = calibrated(table, training, test)
    return found


def pixel_sums(test: Windows, observed: Array, found: Mapping[str, Array]) -> dict[str, Any]:
    """Of each pixel and horizon, by the pixel's number: targets, their sum and that of their squares, and the squared errors
    of each forecast."""
    there = np.isfinite(observed)
    known = np.where(there, observed, 0.0)
    rows = test.index["row"]
    names = {"n": there.astype(float), "sum": known, "squares": known**2}
    names |= {name: np.where(there, (values - known) ** 2, 0.0) for name, values in found.items()}
    pixels = {}
    for row in np.unique(rows):
        part = rows == row
        sums = {name: [float(f"{value:.9g}") for value in values[part].sum(axis=0)] for name, values in names.items()}
        pixels[str(test.facts["pixels"][row])] = sums
    return pixels


def conclusions(pixels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What follows from the sums of each pixel: NNSE with intervals, and what the network gains over the baselines.

    Over all windows: the mean is that of all pixels. By pixel: each has its own mean, and one that was silent has no NNSE.
    Horizons that no window of the split can reach are left out.
    """
    stack = {name: np.array([of[name] for of in pixels.values()], dtype=float) for name in next(iter(pixels.values()))}
    models = [name for name in stack if name not in ("n", "sum", "squares")]
    reached = [place for place in range(len(grid.WIDTHS)) if stack["n"][:, place].sum() > 1]
    names = [name for place, name in enumerate(grid.HORIZONS) if place in reached]
    count = len(pixels)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS)

    def varied(n: Array, total: Array, squares: Array) -> Array:
        return np.maximum(squares - total**2 / np.maximum(n, 1), 0.0)

    def over(weights: Array) -> dict[str, Array]:
        """NNSE of each draw and horizon."""
        of = {name: weights @ values[:, reached] for name, values in stack.items()}
        spread = varied(of["n"], of["sum"], of["squares"])
        return {name: efficiency(spread, of[name]) for name in models}

    whole, drawn = over(np.ones((1, count))), over(draws.astype(float))
    own = varied(stack["n"], stack["sum"], stack["squares"])[:, reached]
    each = {name: efficiency(own, stack[name][:, reached]) for name in models}
    means = {name: float(values.mean()) for name, values in whole.items()}
    best = max(BASELINES, key=lambda name: means[name])
    gains = drawn["network"].mean(axis=1) - drawn[best].mean(axis=1)
    by_horizon = {name: {horizon: float(whole[name][0, place]) for place, horizon in enumerate(names)} for name in models}
    best_of = {horizon: max(BASELINES, key=lambda name: by_horizon[name][horizon]) for horizon in names}
    ahead = {horizon: by_horizon["network"][horizon] - by_horizon[best_of[horizon]][horizon] for horizon in names}
    errors = {name: float(stack[name][:, reached].sum()) for name in ("network", best)}
    return {
        "pixels": count,
        "targets": int(stack["n"].sum()),
        "silent": int(sum(np.isnan(each["network"][:, place]).sum() for place in range(len(names)))),
        "horizons": names,
        "nnse": means,
        "nnse_interval": {name: interval(values.mean(axis=1)) for name, values in drawn.items()},
        "nnse_by_horizon": by_horizon,
        # The mean over pixels of the NNSE that each has about its own mean.
        "nnse_by_pixel": {name: float(np.nanmean(values)) for name, values in each.items()},
        "best_baseline": best,
        "margin": means["network"] - means[best],
        "margin_interval": interval(gains),
        "margin_simple": means["network"] - max(means["persistence"], means["climatology"]),
        "margin_by_horizon": ahead,
        "skill": 1 - errors["network"] / max(errors[best], 1e-9),
        "beaten": int(sum(gain > 0 for gain in ahead.values())),
        "in_window": int(LOW <= means["network"] <= HIGH),
        "verdict": verdict(means["network"] - means[best], interval(gains), best),
    }


def verdict(margin: float, ends: list[float], best: str) -> str:
    """The outcome in words, whichever it is."""
    if ends[0] > 0:
        return f"the network forecasts better than {best}, the best baseline"
    if margin > 0:
        return f"the network forecasts better than {best}, the best baseline, but no more than chance could make it"
    return f"the network does not forecast better than {best}, the best baseline"


def interval(values: Array) -> list[float]:
    """The middle 95 % of the values."""
    return [float(value) for value in np.nanpercentile(values, [2.5, 97.5])]


def summed(test: Windows, observed: Array, found: Mapping[str, Array]) -> dict[str, Any]:
    """The series summed over the pixels, by start of the window and horizon, and its NNSE: what the reference plots.

    Only starts at which every pixel of the split has a target.
    """
    starts = np.unique(test.index["start"])
    shape = (len(starts), -1, len(grid.WIDTHS))
    order = np.lexsort((test.index["row"], test.index["start"]))
    total = observed[order].reshape(shape).sum(axis=1)
    result: dict[str, Any] = {"starts": starts.tolist(), "observed": rounded(total), "nnse": {}}
    for name, values in found.items():
        said = values[order].reshape(shape).sum(axis=1)
        if name == "network":
            result["network"] = rounded(said)
        result["nnse"][name] = series_efficiency(total, said)
    return result


def series_efficiency(total: Array, said: Array) -> dict[str, float]:
    """NNSE by horizon of forecasts (starts, horizons) of a series; horizons without targets that vary are left out."""
    there = np.isfinite(total)
    spread = [
        float(((t := total[there[:, p], p]) - t.mean()) @ (t - t.mean())) if there[:, p].any() else 0.0
        for p in range(total.shape[1])
    ]
    errors = np.where(there, (said - total) ** 2, 0.0).sum(axis=0)
    of = efficiency(spread, errors)
    return {h: float(v) for h, v in zip(grid.HORIZONS, of, strict=True) if np.isfinite(v)}


def rounded(values: Array) -> list[list[float | None]]:
    return [[round(float(v), 4) if np.isfinite(v) else None for v in row] for row in values]


def score(data: Path, forecast: Path, out: Path, truth: Path | None) -> None:
    """Writes score.json; ValueError for forecasts that are not those of the test split."""
    test = Windows(data, "test")
    network = np.load(forecast / "forecasts.npy")
    if network.shape != (len(test), len(grid.WIDTHS)) or not np.isfinite(network).all():
        raise ValueError(
            f"{forecast / 'forecasts.npy'}: {network.shape} forecasts, not all of them finite or not those of the "
            f"{len(test)} windows of the test split; run infer again"
        )
    found = forecasts(data, network, test, truth)
    rows, starts = (test.index[name].astype(np.int64) for name in ("row", "start"))
    observed = test.observed(rows, starts).astype(float)
    pixels = pixel_sums(test, observed, found)
    result = {
        "split": test.facts["split"],
        "windows": len(test),
        "missing": test.split["missing"],
        **conclusions(pixels),
        "summed": summed(test, observed, found),
        "per_pixel": pixels,
    }
    partial = out / "score.partial"
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    partial.rename(out / "score.json")
    print(result["verdict"])
