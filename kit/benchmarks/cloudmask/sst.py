"""Sea-surface temperature by buoys and by the satellite, where a mask says that the sky is clear.

The quality filters, and what is reported, are the ancestor's: median of satellite minus buoy, and robust standard
deviation, 1.4826 times the median absolute deviation (the factor makes it the standard deviation of a normal one).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.cloudmask.patches import Label, load

# Each: its name, and which match-ups it keeps. Degrees, kelvin; algorithm 4, method 2 is dual view with three channels.
FILTERS: dict[str, Any] = {
    "buoy within 0.005 degrees of latitude": lambda t: (t["buoy_latitude"] - t["latitude"]).abs() < 0.005,
    "buoy within 0.01 degrees of longitude": lambda t: (t["buoy_longitude"] - t["longitude"]).abs() < 0.01,
    "satellite above 273.15 K": lambda t: t["sst_satellite"] > 273.15,
    "nadir zenith angle up to 55": lambda t: t["satellite_zenith_nadir"] <= 55,
    "oblique zenith angle up to 55": lambda t: t["satellite_zenith_oblique"] <= 55,
    "quality level 5": lambda t: t["quality_level"] == 5,
    "algorithm type 4": lambda t: t["algorithm_type"] == 4,
    "algorithm method 2": lambda t: t["algorithm_method"] == 2,
}
# Of the table of match-ups: where in which scene, temperatures (K), angles (degrees), and what the retrieval says of itself.
COLUMNS = (
    *("product", "row", "column", "latitude", "longitude", "buoy_latitude", "buoy_longitude", "sst_insitu", "sst_satellite"),
    *("satellite_zenith_nadir", "satellite_zenith_oblique", "quality_level", "algorithm_type", "algorithm_method"),
    *("probability_nadir", "probability_oblique"),
)
BAYES_CLEAR = 0.9  # probability of cloud in either view below which the ancestor takes a match-up for clear


def statistics(difference: NDArray[np.float64]) -> dict[str, Any]:
    """Median and robust standard deviation (K) with the number behind them; an interval of the median by bootstrap."""
    if len(difference) < 3:
        return {"matchups": len(difference), "median": None, "rsd": None, "median_interval": None}
    median = float(np.median(difference))
    draws = np.random.default_rng(0).choice(difference, (1000, len(difference)))
    return {
        "matchups": len(difference),
        "median": median,
        "rsd": float(1.4826 * np.median(np.abs(difference - median))),
        "median_interval": [float(value) for value in np.percentile(np.median(draws, axis=1), [2.5, 97.5])],
    }


def compare(matchups: Path | None, data: Path, masks: Path, out: Path, label: Label) -> None:
    """Writes sst.json: the differences that pass the filters, without a mask, with the Bayesian one, and with ours.

    Without a table it says so.

    ValueError for a table that lacks a column, for a match-up outside its scene, and for one whose scene has no mask.
    """
    import pandas as pd
    import xarray as xr

    if matchups is None:
        (out / "sst.json").write_text(json.dumps({"matchups": 0, "reason": "the data set has no match-ups"}) + "\n")
        return
    try:
        table = pd.read_csv(matchups)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{matchups}: not a table of comma-separated values: {error}") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{matchups}: no column {', '.join(missing)}; it has {', '.join(table)}")
    rejected = {}
    kept = table
    for name, keeps in FILTERS.items():
        keep = keeps(kept)
        rejected[name] = int((~keep).sum())
        kept = kept[keep]
    chance, bayes = (pd.Series(np.nan, index=kept.index) for _ in range(2))
    for product, group in kept.groupby("product"):
        stem = Path(str(product)).stem
        mask_file, scene_file = masks / f"{stem}.nc", data / "inference" / f"{stem}.hdf"
        if not mask_file.is_file() or not scene_file.is_file():
            raise ValueError(f"{matchups}: {product} is not among the scenes of inference")
        with xr.open_dataset(mask_file, engine="h5netcdf") as answer:
            probability = answer["cloud_probability"].values
        rows, columns = group["row"].to_numpy(), group["column"].to_numpy()
        if (
            rows.min() < 0
            or columns.min() < 0
            or rows.max() >= probability.shape[0]
            or columns.max() >= probability.shape[1]
        ):
            raise ValueError(f"{matchups}: {product} has {probability.shape} pixels, and a match-up outside of them")
        chance[group.index] = probability[rows, columns]
        bayes[group.index] = load(scene_file, label).cloud[rows, columns].astype(float)
    difference = (kept["sst_satellite"] - kept["sst_insitu"]).to_numpy()
    known = chance.notna().to_numpy()  # a pixel that was not seen has no mask
    clear = {
        "none": known,
        "bayes": known
        & ((kept["probability_nadir"] < BAYES_CLEAR) & (kept["probability_oblique"] < BAYES_CLEAR)).to_numpy(),
        "network": known & (chance < 0.5).to_numpy(),
    }
    result = {
        "matchups": len(table),
        "kept": len(kept),
        "rejected": rejected,
        **{name: statistics(difference[keep]) for name, keep in clear.items()},
        "agreement": float(((chance > 0.5) == (bayes > 0.5)).to_numpy()[known].mean()) if known.any() else None,
        "differences": {name: np.round(difference[keep], 3).tolist() for name, keep in clear.items()},
    }
    if not clear["network"].any():
        raise ValueError(f"{matchups}: of {len(table)} match-ups none is left that the mask calls clear")
    (out / "sst.json").write_text(json.dumps(result, indent=1) + "\n")
