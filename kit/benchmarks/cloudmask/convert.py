"""SLSTR products to the HDF5 layout of the reference: one file a scene, everything on the 1 km grid.

    bts (rows, columns, 3) K          S7-S9
    rads (rows, columns, 6) mW m-2 sr-1 nm-1, refs (rows, columns, 6) 1    S1-S6, 500 m pixels averaged 2 x 2
    bayes (rows, columns, 1)          bits of bayes_in, as the attributes flag_masks and flag_meanings name them
    summary (rows, columns, 1)        0 or 1
    probability (rows, columns, 1)    of cloud, where the product has it
    surface (rows, columns, 1)        0 sea, 1 land, 2 snow or ice
    seen (rows, columns, 1)           1 where every channel that the time of day allows has a value

Reflectance is `pi L / (E0 cos(SZA))` with the product's own solar irradiance and its tie-point zenith angles, and the
vicarious gain where the baseline lacks it; where the sun is down (SZA >= 90) it is 0. Pixels without a value are 0 in
`rads` and `refs` and NaN in `bts`. Each dataset says in its attributes how it was made.

Files of this layout that others distribute are read too, and checked for a fault that is known of them: reflectances
that are radiances.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.cloudmask.products import (
    SOLAR,
    THERMAL,
    Array,
    ProductError,
    flag,
    flag_bits,
    gains,
    grid,
    parse_name,
    read,
    solar_zenith,
)

SURFACES = ("sea", "land", "ice")


def sun_factor(zenith: Array) -> Array:
    """What a radiance over its irradiance E0 is multiplied by to give reflectance: `pi / cos(SZA)`, 0 where the sun is
    down."""
    up = zenith < 90
    return np.where(up, np.float32(np.pi) / np.where(up, np.cos(np.deg2rad(zenith)), np.float32(1)), np.float32(0))


def blocks(field: NDArray[Any]) -> NDArray[Any]:
    """The sums of blocks of 2 x 2 pixels."""
    rows, columns = field.shape[0] // 2, field.shape[1] // 2
    lines = field[: 2 * rows : 2] + field[1 : 2 * rows : 2]
    return lines[:, : 2 * columns : 2] + lines[:, 1 : 2 * columns : 2]


def halve(*fields: Array) -> list[Array]:
    """Each field of the 500 m grid on the 1 km grid: the mean of the pixels that have a value, NaN where none has.

    The fields are of one channel: what has no value has none in all of them.
    """
    known = np.isfinite(fields[0])
    count = blocks(known.astype(np.uint8)).astype(np.float32)
    count[count == 0] = np.nan
    return [blocks(np.where(known, field, np.float32(0))) / count for field in fields]


def read_product(product: Path) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
    """A `.SEN3` product as the datasets of the layout, and the attributes of each (of the file under an empty name)."""
    baseline = parse_name(product.name).baseline
    bts = np.stack([read(product, f"S{band}_BT_in.nc", f"S{band}_BT_in")[0] for band in THERMAL], axis=-1, dtype=np.float32)
    shape = bts.shape[:2]
    rads: list[Array] = []
    refs: list[Array] = []
    irradiances: list[float] = []
    gain: dict[int, float] = gains(baseline)
    zenith = factor = np.zeros((0, 0), np.float32)
    for band in SOLAR:
        radiance, _, attributes = read(product, f"S{band}_radiance_an.nc", f"S{band}_radiance_an")
        if radiance.shape != (2 * shape[0], 2 * shape[1]):
            raise ProductError(
                f"{product}: S{band} has {radiance.shape} pixels, but twice those of S7, {shape}, are expected"
            )
        if zenith.shape != radiance.shape:  # one grid for all six
            image = grid(product / f"S{band}_radiance_an.nc", attributes)
            zenith = solar_zenith(product, *radiance.shape, image).astype(np.float32)
            factor = sun_factor(zenith)
        values, _, _ = read(product, f"S{band}_quality_an.nc", f"S{band}_solar_irradiance_an")
        if not (values.size and np.isfinite(values[0]) and values[0] > 0):
            raise ProductError(
                f"{product}/S{band}_quality_an.nc: S{band}_solar_irradiance_an is no irradiance: {values[:1]}"
            )
        irradiances.append(float(values[0]))
        radiance = np.asarray(radiance, np.float32) * np.float32(gain[band])
        # The factor is that of all channels, and rads and refs have their values at the same pixels.
        rad, ref = halve(radiance, radiance * (factor / np.float32(irradiances[-1])))
        rads.append(rad)
        refs.append(ref)
    # Where the sun is down a missing radiance is no loss.
    down = ~(zenith[::2, ::2] < 90)
    reflectance = np.stack(refs, axis=-1)
    reflectance[down] = np.where(np.isfinite(reflectance[down]), reflectance[down], 0)
    bits, names = flag_bits(product, "bayes_in")
    summary = flag(product, "confidence_in", ["summary_cloud"])
    for name, flags in (("bayes_in", bits), ("confidence_in", summary)):
        if flags.shape != shape:
            raise ProductError(f"{product}/flags_in.nc: {name} has {flags.shape} pixels, but S7 has {shape}")
    surface = flag(product, "confidence_in", ["land"]) * 1
    surface[flag(product, "confidence_in", ["snow"])] = 2
    datasets: dict[str, NDArray[Any]] = {
        "bts": bts,
        "rads": np.nan_to_num(np.stack(rads, axis=-1)),
        "refs": np.nan_to_num(reflectance),
        "bayes": bits[..., None].astype(np.uint8),
        "summary": summary[..., None].astype(np.uint8),
        "surface": surface[..., None].astype(np.uint8),
        "seen": (np.isfinite(np.concatenate([bts, reflectance], axis=-1)).all(axis=-1, keepdims=True)).astype(np.uint8),
    }
    averaged = "500 m pixels averaged 2 x 2, those without a value left out"
    made: dict[str, dict[str, Any]] = {
        "": {"day": bool((~down).all()), "baseline": baseline, "zenith": [float(zenith.min()), float(zenith.max())]},
        "bts": {"units": "K", "source": "S7-S9_BT_in"},
        "rads": {
            "units": "mW m-2 sr-1 nm-1",
            "source": "S1-S6_radiance_an",
            "vicarious_gain": [gain[band] for band in SOLAR],
            "averaging": averaged,
        },
        "refs": {
            "units": "1",
            "formula": "pi L gain / (E0 cos(SZA)), 0 where SZA >= 90",
            "solar_irradiance": irradiances,
            "vicarious_gain": [gain[band] for band in SOLAR],
            "averaging": averaged,
        },
        "bayes": {"source": "bayes_in", "flag_masks": list(names.values()), "flag_meanings": " ".join(names)},
        "summary": {"source": "confidence_in: summary_cloud"},
        "surface": {"source": "confidence_in: land, snow", "flag_values": [0, 1, 2], "flag_meanings": " ".join(SURFACES)},
    }
    try:
        chance, _, _ = read(product, "flags_in.nc", "probability_cloud_single_in")
        datasets["probability"] = np.asarray(chance[..., None], np.float32)
        made["probability"] = {"source": "probability_cloud_single_in"}
    except ProductError:
        pass  # old baselines have none
    return datasets, made


def read_layout(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
    """A distributed HDF5 file, checked; returns what `read_product` does.

    ProductError for a file that can not be read, a dataset that is missing or of another shape, and reflectances that
    are radiances (the script that made the first such files stored them twice).
    """
    import h5py

    try:
        with h5py.File(path) as file:
            missing = {"bts", "rads", "refs", "bayes", "summary"} - set(file)
            if missing:
                raise ProductError(f"{path}: no dataset {', '.join(sorted(missing))}; it has {', '.join(sorted(file))}")
            datasets = {name: file[name][:] for name in ("bts", "rads", "refs", "bayes", "summary")}
    except (OSError, RuntimeError) as error:
        raise ProductError(f"{path}: not a readable HDF5 file: {error}") from None
    shape = datasets["bts"].shape[:2]
    for name, depth in (("bts", 3), ("rads", 6), ("refs", 6), ("bayes", 1), ("summary", 1)):
        if datasets[name].shape != (*shape, depth):
            raise ProductError(f"{path}: {name} has the shape {datasets[name].shape}, not {(*shape, depth)}")
    # At night S1-S3 see nothing, but S5 and S6 see fires and flares: their radiances are no daylight.
    day = bool((np.nan_to_num(datasets["rads"][..., :3]) > 0).mean() > 0.01)
    if day and np.array_equal(datasets["refs"], datasets["rads"], equal_nan=True):
        raise ProductError(f"{path}: refs equals rads: its reflectances are radiances; convert the product (.SEN3) itself")
    if not day:
        datasets["refs"] = np.nan_to_num(datasets["refs"])
    bts = datasets["bts"].astype(np.float32)
    seen = np.isfinite(bts).all(axis=-1) & (bts > 0).all(axis=-1) & np.isfinite(datasets["refs"]).all(axis=-1)
    for name in ("rads", "refs"):
        datasets[name] = np.nan_to_num(datasets[name]).astype(np.float32)
    for name in ("bayes", "summary"):
        datasets[name] = np.nan_to_num(datasets[name]).astype(np.uint8)
    datasets |= {"bts": np.where(seen[..., None], bts, np.nan), "seen": seen[..., None].astype(np.uint8)}
    known: dict[str, dict[str, Any]] = {
        "": {"day": day, "distributed": True},
        **{name: {"source": path.name} for name in datasets},
    }
    return datasets, known


def convert(source: Path, target: Path) -> None:
    """Converts one scene into one HDF5 file, which appears whole or not at all. ProductError for what can not be read."""
    import h5py

    datasets, made = read_product(source) if source.is_dir() or source.suffix == ".SEN3" else read_layout(source)
    if not datasets["seen"].any():
        raise ProductError(f"{source}: not one pixel has a value in every channel")
    partial = target.with_suffix(".partial")
    try:
        with h5py.File(partial, "w") as file:
            for name, data in datasets.items():
                file.create_dataset(name, data=data).attrs.update(made.get(name, {}))
            file.attrs.update({"product": source.name, **made[""]})
        partial.rename(target)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{target}: can not be written: {error}") from None


def attempt(job: tuple[Path, Path]) -> str:
    """Converts a scene unless it is converted; returns what is wrong with it, nothing when all is well."""
    source, target = job
    try:
        if not target.is_file():
            convert(source, target)
        return ""
    except ProductError as error:
        return str(error)


def run(listing: Path, out: Path, skip: float) -> None:
    """Converts the scenes of scenes.json into `out`/{training,validation,inference}, in parallel; writes converted.json.

    A scene that can not be read is an error, unless `skip`, the share of training and of validation scenes that may be,
    allows for it; what is skipped stands in converted.json with its reason. Scenes for inference are never skipped: a
    score without one would be of another set. What is converted already is left as it is.
    """
    scenes = json.loads(listing.read_text())["scenes"]
    jobs = [(Path(scene["path"]), out / scene["split"] / f"{scene['name']}.hdf") for scene in scenes]
    sizes = Counter(scene["split"] for scene in scenes)
    for _, target in jobs:
        target.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    skipped: list[dict[str, str]] = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for (source, target), problem in zip(jobs, pool.map(attempt, jobs), strict=True):
            split = target.parent.name
            print(f"{split}: {source.name}{': ' + problem if problem else ''}", flush=True)
            if not problem:
                continue
            skipped.append({"name": source.name, "split": split, "reason": problem})
            reasons = [entry["reason"] for entry in skipped if entry["split"] == split]
            allowed = 0.0 if split == "inference" else skip * sizes[split]
            if len(reasons) > allowed:
                pool.shutdown(cancel_futures=True)
                said = f"{len(reasons)} of {sizes[split]} {split} scenes can not be read, and {allowed:g} may be: "
                raise ProductError(said + "; ".join(reasons))
    for split in ("training", "validation", "inference"):
        if not any((out / split).glob("*.hdf")):
            raise ProductError(f"{out / split}: not one scene could be converted")
    seconds = time.perf_counter() - started
    record = {"scenes": len(jobs) - len(skipped), "skipped": skipped, "seconds": seconds}
    (out / "converted.json").write_text(json.dumps(record, indent=1) + "\n")
