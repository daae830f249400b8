"""From events to what is learned from: a series of every chosen pixel, what is to be forecast, and the splits.

For each pixel and fortnight there are inputs, which end with that fortnight, and for each fortnight at which a window begins
the targets: the magnitude of the summed energy of the window, for each horizon. A window without an event has 0, as an
empty bin has in the published files. A window that reaches beyond the data has no target: it counts nowhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.shards import write
from kit.stages.tevolop import catalogue, grid

Array = NDArray[np.float64]

SPLITS = ("training", "validation", "test")
RECORD = np.dtype([("row", "<i4"), ("start", "<i4")])  # of a window: place of its pixel in the series, and its fortnight
HELD_OUT = 0.2  # of the chosen pixels, as 100 of 500 are in the published split
CHOOSING = 0.1  # of the pixels for training, which choose the epoch and are not trained on
UNTIL = (0.7, 0.85)  # shares of the time at which training and validation end, where time is split
# The rate of triggering that a forecaster takes who knows earthquakes and not this region: Omori's law and productivity of
# about the values that are common in California (Reasenberg and Jones 1989, doi 10.1126/science.243.4895.1173: p 1.08,
# c 0.05 days), and half of all events triggered.
GENERIC_P, GENERIC_C, GENERIC_PRODUCTIVITY, GENERIC_SHARE = 1.08, 0.05, 0.9, 0.5
INPUTS = (
    *(f"energy_{name}" for name in grid.HORIZONS),  # of the last fortnight, quarter ... four years
    *("energy_all", "depth", "large", "events_1y", "events_all"),
    *("around_2w", "around_1y", "around_all"),  # energy, energy, events of the eight pixels around
    *(f"climatology_{name}" for name in grid.HORIZONS),  # mean target of the windows that are over
    "fault",  # 1 where the pixel is of one; where it lies is no input: the pixels kept apart lie elsewhere
)
PERSISTENCE, CLIMATOLOGY = INPUTS.index("energy_2w"), INPUTS.index("climatology_2w")


class Split(NamedTuple):
    """The places of its pixels in the series, its first start, and the fortnight by which its targets have ended."""

    rows: NDArray[np.int64]
    first: int
    until: int


def sums(values: Array) -> Array:
    """Cumulative sums over the first axis that begin with 0: those of a window are a difference of two."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])


def windows(energy: Array, events: Array, width: int) -> Array:
    """Magnitude of the energy of each window (fortnights - width + 1, pixels); 0 where no event was."""
    fallen, number = sums(energy), sums(events)
    some = number[width:] - number[:-width] > 0.5
    return np.where(some, grid.magnitude(fallen[width:] - fallen[:-width]), 0.0)


def targets(energy: Array, events: Array) -> Array:
    """(fortnights, pixels, horizons) by the first fortnight of the window; NaN where it reaches beyond the data."""
    found = np.full((*energy.shape, len(grid.WIDTHS)), np.nan)
    for number, width in enumerate(grid.WIDTHS):
        found[: len(energy) - width + 1, :, number] = windows(energy, events, width)
    return found


def inputs(whole: catalogue.Gathered, chosen: NDArray[np.int64], faults: NDArray[np.int64]) -> Array:
    """(fortnights, pixels, INPUTS); those of a fortnight are known at its end."""
    energy, events = whole.energy[:, chosen], whole.events[:, chosen]
    fortnights = len(energy)
    passed = np.arange(1, fortnights + 1)[:, None]
    past = []
    for width in grid.WIDTHS:  # at the beginning of the data of what there is
        padded = [np.concatenate([np.zeros((width - 1, len(chosen))), values]) for values in (energy, events)]
        past.append(windows(padded[0], padded[1], width))
    around_energy, around_events = (grid.neighbours(values)[:, chosen] for values in (whole.energy, whole.events))
    year = np.maximum(np.arange(fortnights) - 25, 0)
    sum_events, sum_around = sums(events), sums(around_energy)
    around_year = np.where(around_energy.cumsum(0) > 0, sum_around[1:] - sum_around[year], 0.0)
    climatology = []
    target = targets(energy, events)
    for number, width in enumerate(grid.WIDTHS):
        # At the end of fortnight s, windows that began by s - width + 1 are over.
        over = np.maximum(np.arange(fortnights) - width + 2, 0)
        total = sums(np.nan_to_num(target[:, :, number]))
        climatology.append(total[over] / np.maximum(over, 1)[:, None])
    return np.stack(
        [
            *past,
            grid.magnitude(np.cumsum(energy, axis=0) / passed),
            whole.depth[:, chosen],
            np.log1p(whole.large[:, chosen]),
            np.log1p(sum_events[1:] - sum_events[year]),
            np.log1p(26 * sum_events[1:] / passed),
            grid.magnitude(around_energy),
            grid.magnitude(around_year),
            np.log1p(26 * np.cumsum(around_events, axis=0) / passed),
            *climatology,
            np.broadcast_to(faults[chosen] > 0, (fortnights, len(chosen))),
        ],
        axis=2,
    )


def rates(whole: catalogue.Gathered, chosen: NDArray[np.int64]) -> Array:
    """Events that a generic ETAS model expects in each window, (fortnights, pixels, horizons) by its first fortnight.

    The background is what the pixel had so far, but for the triggered share; a fortnight triggers as one event of its
    energy would, half a fortnight before its end, a quarter of it in the eight pixels around.
    """
    fortnights = len(whole.energy)
    size = grid.magnitude(whole.energy)
    force = np.where(whole.events > 0, 10 ** (GENERIC_PRODUCTIVITY * (size - grid.SMALLEST_OF_NOTE)), 0.0)
    force = (0.75 * force + 0.25 / 8 * grid.neighbours(force))[:, chosen]
    number = sums(whole.events[:, chosen])[:-1]  # before each fortnight
    steady = (1 - GENERIC_SHARE) * (number + 0.5) / (np.arange(fortnights)[:, None] + 1.0)
    lag = (np.arange(fortnights + grid.WIDTHS[-1] + 1) + 0.5) * grid.FORTNIGHT
    had = 1 - (1 + lag / GENERIC_C) ** (1 - GENERIC_P)
    length = 1 << (2 * fortnights).bit_length()
    transformed = np.fft.rfft(force, length, axis=0)
    found = np.empty((fortnights, len(chosen), len(grid.WIDTHS)))
    for place, width in enumerate(grid.WIDTHS):
        kernel = np.concatenate([[0.0], had[width : width + fortnights - 1] - had[: fortnights - 1]])
        triggered = np.fft.irfft(transformed * np.fft.rfft(kernel, length)[:, None], length, axis=0)[:fortnights]
        found[:, :, place] = steady * width + GENERIC_SHARE * np.maximum(triggered, 0.0)
    return found


def divide(split: str, events: Array, pixels: int, seed: int) -> tuple[NDArray[np.int64], dict[str, Split]]:
    """The most active pixels, by number of events, and the splits of them; ValueError where there are too few.

    `location`: a fifth of the pixels is kept apart, on the same dates as the others (the published split, which fills in
    places and forecasts nothing). `time`: all pixels, and dates one after the other; which pixels are the most active is
    decided on the time for training.
    """
    fortnights = len(events)
    known = int(UNTIL[0] * fortnights) if split == "time" else fortnights
    activity = events[:known].sum(axis=0)
    if (activity > 0).sum() < pixels:
        raise ValueError(f"--pixels {pixels}: only {int((activity > 0).sum())} pixels have an event; take fewer")
    chosen = np.sort(np.argsort(-activity, kind="stable")[:pixels])
    if split == "time":
        ends = [int(share * fortnights) for share in UNTIL]
        bounds = [(grid.WARM_UP, ends[0]), (ends[0], ends[1]), (ends[1], fortnights)]
        everywhere = np.arange(pixels)
        return chosen, {name: Split(everywhere, *of) for name, of in zip(SPLITS, bounds, strict=True)}
    order = np.random.default_rng(seed).permutation(pixels)
    held, choosing = round(HELD_OUT * pixels), round((1 - HELD_OUT) * CHOOSING * pixels)
    parts = (order[held + choosing :], order[held : held + choosing], order[:held])
    if min(map(len, parts)) == 0:
        raise ValueError(f"--pixels {pixels}: leaves a split without a pixel; 15 or more are needed")
    return chosen, {name: Split(np.sort(of), grid.WARM_UP, fortnights) for name, of in zip(SPLITS, parts, strict=True)}


def records(split: Split, stride: int) -> NDArray[Any]:
    """The windows of a split with at least the shortest horizon, every `stride` fortnights."""
    starts = np.arange(split.first, split.until - grid.WIDTHS[0] + 1, stride)
    found = np.empty(len(split.rows) * len(starts), RECORD)
    found["row"], found["start"] = np.repeat(split.rows, len(starts)), np.tile(starts, len(split.rows))
    return found


def prepare(
    data: Path, out: Path, days: int, pixels: int, split: str, seed: int, stride: int, smallest: float, most_outside: float
) -> None:
    """Writes the series and the windows of each split into `out`, and prepared.json; ValueError for data that do not do."""
    whole = catalogue.gather(data, days, smallest, most_outside)
    chosen, splits = divide(split, whole.events, pixels, seed)
    target = targets(whole.energy[:, chosen], whole.events[:, chosen])
    known = inputs(whole, chosen, catalogue.read_faults(data))
    parts = {name: records(of, stride) for name, of in splits.items()}
    for name, part in parts.items():
        if not len(part):
            raise ValueError(f"split {name} of {split} is empty: --days {days} and --stride {stride} leave it no window")
    first = splits["training"]
    # Of what training may see, so that nothing of the other splits is in the numbers that scale them.
    seen = known[first.first - grid.STEPS : first.until, first.rows].reshape(-1, len(INPUTS))
    goals = np.stack([until(target[:, first.rows], first, number) for number in range(len(grid.WIDTHS))])
    mean, deviation = (function(goals, axis=1) for function in (np.nanmean, np.nanstd))
    if not (np.isfinite(deviation).all() and deviation.min() > 0):
        raise ValueError("the targets of training do not vary: nothing to learn; take other pixels or more days")
    for name, values in (("inputs", known), ("targets", target), ("rates", rates(whole, chosen))):
        write(out / f"{name}.npy", np.ascontiguousarray(values.transpose(1, 0, 2), np.float32))
    for name, part in parts.items():
        write(out / f"{name}.npy", part)
    facts = {
        "split": split,
        "days": days,
        "fortnights": len(whole.energy),
        "stride": stride,
        "inputs": list(INPUTS),
        "pixels": chosen.tolist(),
        "splits": {
            name: {
                "pixels": chosen[of.rows].tolist(),
                "first": of.first,
                "until": of.until,
                "windows": len(parts[name]),
                # Targets that do not exist, since the data or the split end before the window does.
                "missing": {
                    horizon: int((parts[name]["start"] + width > of.until).sum()) for horizon, width in grid.HORIZONS.items()
                },
            }
            for name, of in splits.items()
        },
        "input_mean": seen.mean(axis=0).tolist(),
        "input_deviation": np.where(seen.std(axis=0) > 1e-9, seen.std(axis=0), 1.0).tolist(),
        "target_mean": mean.tolist(),
        "target_deviation": deviation.tolist(),
        "counts": whole.counts,
        "largest": whole.largest,
    }
    partial = out / "prepared.partial"
    partial.write_text(json.dumps(facts, indent=1) + "\n")
    partial.rename(out / "prepared.json")
    print(f"{whole.counts['used']} events, {len(chosen)} pixels, " + ", ".join(f"{n} {len(p)}" for n, p in parts.items()))


def until(values: Array, split: Split, number: int) -> Array:
    """The targets of one horizon, flat, that a split may see: the others are NaN."""
    found = np.full(values.shape[:2], np.nan)
    last = split.until - grid.WIDTHS[number] + 1
    found[split.first : last] = values[split.first : last, :, number]
    return found.ravel()
