"""Sea-surface temperature by buoys and by the satellite, where a mask says that the sky is clear.

The quality filters, and what is reported, are the ancestor's: median of satellite minus buoy, and robust standard
deviation, 1.4826 times the median absolute deviation (the factor makes it the standard deviation of a normal one). What
stands for a run is of one retrieval, D2 (dual view, two channels) as there; the others stand beside it.

Intervals come from drawing scenes anew (bootstrap): match-ups of one scene lie under one sky.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.hdf import read_netcdf
from kit.stages.cloudmask.matchups import RANGES, RETRIEVALS, ZERO, read_matchups
from kit.stages.cloudmask.patches import Label, load

DRAWS = 1000


def apart(one: Any, other: Any) -> Any:
    """Degrees between longitudes, either way round: 359.995 and -179.995 are near 0 and 180."""
    return ((one - other + 180) % 360 - 180).abs()


# Each: its name, and which match-ups it keeps. Degrees, kelvin. What has no value passes none.
FILTERS: dict[str, Any] = {
    "buoy within 0.005 degrees of latitude": lambda t: (t["buoy_latitude"] - t["latitude"]).abs() < 0.005,
    "buoy within 0.01 degrees of longitude": lambda t: apart(t["buoy_longitude"], t["longitude"]) < 0.01,
    "buoy above 273.15 K": lambda t: t["sst_insitu"] > ZERO,
    "satellite above 273.15 K": lambda t: t["sst_satellite"] > ZERO,
    "nadir zenith angle up to 55": lambda t: t["satellite_zenith_nadir"] <= 55,
    "oblique zenith angle up to 55": lambda t: t["satellite_zenith_oblique"] <= 55,
    "quality level 5": lambda t: t["quality_level"] == 5,
}
NEEDED = tuple(name for name in RANGES if not name.startswith(("sst_satellite", "quality", "probability")))
BAYES_CLEAR = 0.9  # probability of cloud in either view below which the ancestor takes a match-up for clear
MASKS = ("none", "bayes", "network")


def medians(values: NDArray[np.float64], scenes: NDArray[Any]) -> NDArray[np.float64]:
    """The median of the values of scenes drawn anew, of each of `DRAWS` draws; `scenes` names that of each value."""
    names, place = np.unique(scenes, return_inverse=True)
    rng = np.random.default_rng(0)
    order = np.argsort(values, kind="stable")
    ordered, place = values[order], place[order]
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        # Each value counts as often as its scene was drawn; the median is the middle of them, or of the middle two.
        total = np.cumsum(np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[place])
        middle = np.searchsorted(total, [(total[-1] + 1) // 2, total[-1] // 2 + 1])
        found[draw] = ordered[middle].mean()
    return found


def statistics(difference: NDArray[np.float64], scenes: NDArray[Any] | None = None) -> dict[str, Any]:
    """Median and robust standard deviation (K) with the number behind them; an interval of the median by bootstrap over
    scenes, None of fewer than two. Without `scenes` each difference is of one of its own."""
    scenes = np.arange(len(difference)) if scenes is None else scenes
    number = len(np.unique(scenes))
    if len(difference) < 3:
        return {"matchups": len(difference), "scenes": number, "median": None, "rsd": None, "median_interval": None}
    median = float(np.median(difference))
    ends = [float(end) for end in np.percentile(medians(difference, scenes), [2.5, 97.5])] if number > 1 else None
    return {
        "matchups": len(difference),
        "scenes": number,
        "median": median,
        "rsd": float(1.4826 * np.median(np.abs(difference - median))),
        "median_interval": ends,
    }


def stem(product: object) -> str:
    """The name of a scene without what its file or archive ends in."""
    return str(product).removesuffix(".zip").removesuffix(".SEN3").removesuffix(".hdf")


def compare(matchups: Path | None, data: Path, masks: Path, out: Path, label: Label, retrieval: str = "D2") -> None:
    """Writes sst.json: the differences that pass the filters, without a mask, with the Bayesian one, and with ours; those
    of `retrieval` (N2, N3, D2 or D3), and in by_retrieval of each.

    Without a table it says so. Of the ancestor's table match-ups of scenes that are not here are left out, and counted.

    ValueError for a table that cannot be read, for a match-up outside its scene, and for one whose scene has no mask.
    """
    import pandas as pd

    if matchups is None:
        (out / "sst.json").write_text(json.dumps({"matchups": 0, "reason": "the data set has no match-ups"}) + "\n")
        return
    if retrieval not in RETRIEVALS:
        raise ValueError(f"retrieval {retrieval}: {', '.join(RETRIEVALS)} are known")
    table = read_matchups(matchups)
    filters = {name: keeps for name, keeps in FILTERS.items() if name != "quality level 5" or "quality_level" in table}
    if table.attrs["ancestor"]:
        here = {path.stem for path in (data / "inference").glob("*.hdf")}
        filters = {"of a scene that is here": lambda t: t["product"].map(stem).isin(here), **filters}
    # Fill is no place, no angle and no cold sea: it is counted for what it is.
    filters = {
        "every value that a filter asks for": lambda t: t[list(NEEDED)].notna().all(axis=1),
        "a temperature of its retrieval": lambda t: t["sst_satellite"].notna(),
        **filters,
    }
    rejected = {}
    kept = table
    for name, keeps in filters.items():
        keep = keeps(kept)
        rejected[name] = int((~keep).sum())
        kept = kept[keep]
    chance, bayes = (pd.Series(np.nan, index=kept.index) for _ in range(2))
    for product, group in kept.groupby("product"):
        mask_file, scene_file = masks / f"{stem(product)}.nc", data / "inference" / f"{stem(product)}.hdf"
        if not mask_file.is_file() or not scene_file.is_file():
            raise ValueError(f"{matchups}: {product} is not among the scenes of inference")
        probability = read_netcdf(mask_file, lambda answer: answer["cloud_probability"].values)
        rows, columns = group["row"].to_numpy().astype(int), group["column"].to_numpy().astype(int)
        if rows.max() >= probability.shape[0] or columns.max() >= probability.shape[1]:
            raise ValueError(f"{matchups}: {product} has {probability.shape} pixels, and a match-up outside of them")
        chance[group.index] = probability[rows, columns]
        scene = load(scene_file, label)
        bayes[group.index] = np.where(scene.seen, scene.cloud, np.nan)[rows, columns]
    difference = (kept["sst_satellite"] - kept["sst_insitu"]).to_numpy()
    scenes = kept["product"].map(stem).to_numpy()
    known = chance.notna().to_numpy()  # a pixel that was not seen has no mask
    clear = {
        "none": known,
        "bayes": known
        & ((kept["probability_nadir"] < BAYES_CLEAR) & (kept["probability_oblique"] < BAYES_CLEAR)).to_numpy(),
        "network": known & (chance < 0.5).to_numpy(),
    }
    of_type = {name: (kept["algorithm_type"] == kind).to_numpy() for name, kind in RETRIEVALS.items()}
    chosen = of_type[retrieval]
    rejected[f"retrieval {retrieval} (type {RETRIEVALS[retrieval]})"] = int((~chosen).sum())
    both = known & bayes.notna().to_numpy() & chosen
    result = {
        "matchups": len(table),
        "kept": int(chosen.sum()),
        "rejected": rejected,
        "retrieval": retrieval,
        "celsius": table.attrs["celsius"],  # columns that were in degrees Celsius
        **{name: statistics(difference[clear[name] & chosen], scenes[clear[name] & chosen]) for name in MASKS},
        "by_retrieval": {
            name: {mask: statistics(difference[clear[mask] & rows], scenes[clear[mask] & rows]) for mask in MASKS}
            for name, rows in of_type.items()
            if rows.any()
        },
        "agreement": float(((chance > 0.5) == (bayes > 0.5)).to_numpy()[both].mean()) if both.any() else None,
        "differences": {name: np.round(difference[clear[name] & chosen], 3).tolist() for name in MASKS},
    }
    if not (clear["network"] & chosen).any():
        counts = ", ".join(f"{name} {number}" for name, number in rejected.items() if number)
        raise ValueError(
            f"{matchups}: of {len(table)} match-ups none is left that the mask calls clear"
            + (f" (rejected: {counts})" if counts else "")
        )
    (out / "sst.json").write_text(json.dumps(result, indent=1) + "\n")
