"""What is drawn of a run, on the login node: maps, series, NNSE by horizon, learning curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.core import pictures
from kit.core.files import read_json
from kit.stages.tevolop import grid
from kit.training.figures import learning_curve

YEARS = grid.FORTNIGHT / 365.25
SHOWN = "1y"  # the horizon of maps and series
COLOURS = {"network": "C0", "persistence": "C1", "climatology": "C2", "etas": "C3", "intensity": "0.4"}
TEXTS = {"network": "network of this run", "etas": "generic ETAS rate", "intensity": "true intensity (ceiling)"}


def draw(directory: Path) -> None:
    """Writes maps.png, series.png, horizons.png and training.png into figures/."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from kit.stages.tevolop.windows import Windows

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    score, test = read_json(directory / "score/score.json"), Windows(directory / "series", "test")
    forecasts = np.load(directory / "forecast/forecasts.npy", allow_pickle=False)
    observed = test.observed(*(test.index[name].astype(np.int64) for name in ("row", "start")))
    pages: dict[str, Any] = {
        "maps": maps(plt, test, observed, forecasts),
        "series": series(plt, test, observed, forecasts, score),
        "horizons": horizons(plt, score),
        "training": learning_curve(plt, directory / "train/epochs.jsonl", "nnse", "NNSE, mean of the horizons"),
    }
    for name, figure in pages.items():
        pictures.save(figure, folder / f"{name}.png", dpi=110)
        plt.close(figure)


def maps(plt: Any, test: Any, observed: NDArray[Any], forecasts: NDArray[Any]) -> Any:
    """The mean magnitude of a year ahead that was observed and that was forecast in each pixel of the test."""
    place = list(grid.HORIZONS).index(SHOWN)
    there = np.isfinite(observed[:, place])
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    fields = []
    for values in (observed, forecasts):
        field = np.full(grid.PIXELS, np.nan)
        for row in np.unique(test.index["row"]):
            part = there & (test.index["row"] == row)
            if part.any():
                field[test.facts["pixels"][row]] = values[part, place].mean()
        fields.append(field)
    low, high = np.nanmin(fields), np.nanmax(fields)
    for axes, field, title in zip(panels, fields, ("observed", "forecast"), strict=True):
        shape = (grid.ROWS, grid.COLUMNS)
        extent = (grid.WEST, grid.EAST, grid.SOUTH, grid.NORTH)
        image = axes.imshow(
            field.reshape(shape), extent=extent, vmin=low, vmax=high, cmap="inferno", interpolation="nearest"
        )
        axes.set_facecolor("0.9")
        axes.set(title=title, xlabel="longitude / degrees")
    panels[0].set_ylabel("latitude / degrees")
    figure.colorbar(image, ax=panels, label=f"magnitude of {SHOWN} ahead, mean")
    return figure


def series(plt: Any, test: Any, observed: NDArray[Any], forecasts: NDArray[Any], score: dict[str, Any]) -> Any:
    """A year ahead: the sum over the pixels with the largest events marked, and the three most active pixels."""
    place = list(grid.HORIZONS).index(SHOWN)
    sums = {row: np.nansum(observed[test.index["row"] == row, place]) for row in np.unique(test.index["row"]).tolist()}
    busiest = sorted(sums, key=lambda row: -sums[row])[:3]
    figure, panels = plt.subplots(1 + len(busiest), 1, figsize=(8, 7), sharex=True, layout="constrained")
    summed = score["summed"]
    years = 1950 + np.array(summed["starts"]) * YEARS
    for name, text in (("observed", "observed"), ("network", "forecast")):
        values = np.array([[np.nan if v is None else v for v in row] for row in summed[name]], dtype=float)[:, place]
        panels[0].plot(years, np.where(np.isfinite(values), values, np.nan), label=text, linewidth=1)
    for event in test.facts["largest"][:8]:
        when = 1950 + event["fortnight"] * YEARS
        if years[0] <= when <= years[-1]:
            panels[0].axvline(when, color="0.7", linewidth=0.8, zorder=0)
            panels[0].annotate(
                f"{event['magnitude']:.1f}", (when, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top"
            )
    panels[0].set(ylabel=f"sum of {len(sums)} pixels")
    panels[0].legend(frameon=False, fontsize=8, loc="lower right")
    for axes, row in zip(panels[1:], busiest, strict=True):
        part = test.index["row"] == row
        when = 1950 + test.index["start"][part] * YEARS
        axes.plot(when, observed[part, place], linewidth=1)
        axes.plot(when, forecasts[part, place], linewidth=1)
        latitude, longitude = grid.centre(test.facts["pixels"][row])
        axes.set(ylabel=f"{latitude:.2f} N\n{-longitude:.2f} W")
    panels[-1].set(xlabel="beginning of the window")
    figure.suptitle(f"magnitude of the energy of {SHOWN} ahead; lines: the largest events of the region", fontsize=9)
    return figure


def horizons(plt: Any, score: dict[str, Any]) -> Any:
    """NNSE over all windows by horizon: network, baselines and, where it is known, what can be reached."""
    figure, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    axes.axhline(0.5, color="0.8", linewidth=1)
    for name, values in score["nnse_by_horizon"].items():
        style = {"linestyle": "--"} if name == "intensity" else {"marker": "o", "markersize": 4}
        axes.plot(list(values), list(values.values()), color=COLOURS[name], label=TEXTS.get(name, name), **style)
    axes.set(xlabel="horizon", ylabel="NNSE (0.5: a constant mean)")
    axes.legend(frameon=False, fontsize=8)
    return figure
