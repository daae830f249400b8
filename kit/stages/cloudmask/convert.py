"""SLSTR products to the HDF5 layout of the reference: one file a scene, everything on the 1 km grid.

    bts (rows, columns, 3) K          S7-S9
    refs (rows, columns, 6) 1         S1-S6, 500 m pixels averaged 2 x 2
    rads (rows, columns, 6) mW m-2 sr-1 nm-1    the radiances of refs, where asked for: nothing here reads them
    bayes (rows, columns, 1)          bits of bayes_in, as the attributes flag_masks and flag_meanings name them
    summary (rows, columns, 1)        0 or 1
    probability (rows, columns, 1)    of cloud, where the product has it
    surface (rows, columns, 1)        0 sea, 1 land, 2 snow or ice, 3 where the product does not say
    flags (rows, columns, 1)          bits of `PIXEL`: day or night (neither where nobody knows), cosmetic copies, no label
    seen (rows, columns, 1)           1 where every channel that the time of day allows has a value

Reflectance is `pi L / (E0 cos(SZA))` with the solar irradiance of the detector that saw the pixel, tie-point zenith
angles, and the vicarious gain where the baseline lacks it. Where the sun is less than 5 degrees up (`DAY_LIMIT`) or down
it is 0, and nowhere is it beyond `REFLECTANCE_LIMIT`. A saturated pixel has a value: the largest that its channel has in
the scene, the least that it can be. Pixels without a value are 0 in `rads` and `refs` and NaN in `bts`. Each dataset says
in its attributes how it was made, and the file which radiometry it has (`patches.RADIOMETRY`) and how many pixels of each
channel, surface and time of day have no value (`unseen_counts`).

Files of this layout that others distribute are read too, and checked for a fault that is known of them: reflectances
that are radiances.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.hdf import of_the_system, read_hdf
from kit.stages.cloudmask.products import (
    SOLAR,
    THERMAL,
    Array,
    NoVariable,
    ProductError,
    detectors,
    flag_bits,
    gains,
    grid,
    irradiance,
    parse_name,
    read,
    saturated,
    solar_zenith,
)

SURFACES = ("sea", "land", "ice")
NO_SURFACE = len(SURFACES)
TIMES = ("day", "night")
CHANNELS = tuple(f"S{band}" for band in (*SOLAR, *THERMAL))
# Degrees of solar zenith angle from which on a pixel has no reflectance: the end of the day of the MODIS cloud mask (MOD35).
# Beyond it light comes through more than eleven atmospheres, and division by the cosine makes noise of what is left.
DAY_LIMIT = 85.0
# What a reflectance may be. Glint and the sides of clouds in low sun are brighter than a white plane, but not without end.
REFLECTANCE_LIMIT = 2.0
MOST_UNSEEN = 0.5  # share of the pixels of a scene that may have no value
# The bits of the dataset flags, lowest first.
PIXEL = ("day", "night", "cosmetic", "no_bayes", "no_summary")


def sun_factor(zenith: Array) -> Array:
    """What a radiance over its irradiance E0 is multiplied by to give reflectance: `pi / cos(SZA)`, 0 from `DAY_LIMIT` on,
    NaN where the angle is not known."""
    up = zenith < DAY_LIMIT
    factor = np.where(up, np.float32(np.pi) / np.where(up, np.cos(np.deg2rad(zenith)), np.float32(1)), np.float32(0))
    return np.where(np.isnan(zenith), np.float32(np.nan), factor)


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


def with_saturation(values: Array, product: Path, file: str, exception: str) -> tuple[Array, int]:
    """The values of a channel with the largest of them where it is saturated and has none; and how many pixels these are."""
    where = saturated(product, file, exception)
    if where is None or where.shape != values.shape:
        return values, 0
    where &= ~np.isfinite(values)
    if not where.any() or not np.isfinite(values).any():
        return values, 0
    return np.where(where, np.nanmax(values), values), int(where.sum())


def pixel_flags(**bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The dataset flags (rows, columns, 1) of the bits (rows, columns) that `PIXEL` names."""
    flags = sum(np.asarray(bits[name], np.uint8) << place for place, name in enumerate(PIXEL) if name in bits)
    return np.asarray(flags, np.uint8)[..., None]


def count_unseen(
    missing: NDArray[np.bool_], surface: NDArray[Any], day: NDArray[np.bool_], night: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Pixels by surface (`SURFACES`, unknown), time (`TIMES`, unknown): without a value in each channel, in any, and all.

    `missing` is (rows, columns, 9) in the order of `CHANNELS`, the others (rows, columns); the result (4, 3, 11).
    """
    times, columns = len(TIMES) + 1, len(CHANNELS) + 2
    # Of each pixel the place in a row of surfaces times times.
    place = surface * np.uint8(times) + np.where(day, 0, np.where(night, 1, 2)).astype(np.uint8)
    lacking = [missing[..., channel] for channel in range(len(CHANNELS))]
    chosen = [*(place[where] for where in (*lacking, missing.any(axis=-1))), place.ravel()]
    counts = np.stack([np.bincount(part, minlength=(NO_SURFACE + 1) * times) for part in chosen], axis=-1)
    return counts.reshape(NO_SURFACE + 1, times, columns)


def unseen_shares(counts: NDArray[np.int64]) -> dict[str, Any]:
    """What `count_unseen` counted, summed over scenes, as shares of the pixels: of all, by surface, and by time of day."""

    def shares(part: NDArray[np.int64]) -> dict[str, Any]:
        pixels = int(part[-1])
        channels = dict(zip(CHANNELS, (part[:-2] / max(pixels, 1)).tolist(), strict=True))
        return {"pixels": pixels, "share": float(part[-2] / max(pixels, 1)), "channels": channels}

    surfaces = zip((*SURFACES, "unknown"), counts.sum(axis=1), strict=True)
    times = zip((*TIMES, "unknown"), counts.sum(axis=0), strict=True)
    return {
        **shares(counts.sum(axis=(0, 1))),
        "by_surface": {name: shares(part) for name, part in surfaces if part[-1]},
        "by_time": {name: shares(part) for name, part in times if part[-1]},
    }


def sum_unseen(paths: Iterable[Path]) -> dict[str, Any]:
    """`unseen_shares` of converted scenes together, as their attributes say; empty for files that do not say it."""
    total = np.zeros((NO_SURFACE + 1, len(TIMES) + 1, len(CHANNELS) + 2), np.int64)
    for path in paths:
        total += read_hdf(path, lambda file: file.attrs.get("unseen_counts", 0))
    return unseen_shares(total) if total.any() else {}


def read_product(
    product: Path, labelled: bool = True, rads: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
    """A `.SEN3` product as the datasets of the layout, and the attributes of each (of the file under an empty name).

    Not `labelled`, what flags_in.nc holds is left out, and the product needs none.
    """
    baseline = parse_name(product.name).baseline
    filled: dict[str, int] = {}
    temperatures: list[Array] = []
    for band in THERMAL:
        file, values = f"S{band}_BT_in.nc", read(product, f"S{band}_BT_in.nc", f"S{band}_BT_in")[0]
        values, filled[f"S{band}"] = with_saturation(values, product, file, f"S{band}_exception_in")
        temperatures.append(values)
    bts = np.stack(temperatures, axis=-1, dtype=np.float32)
    shape = bts.shape[:2]
    radiances: list[Array] = []
    refs: list[Array] = []
    irradiances: list[float] = []
    gain: dict[int, float] = gains(baseline)
    zenith = factor = np.zeros((0, 0), np.float32)
    seen_by = cache(lambda: detectors(product, (2 * shape[0], 2 * shape[1])))  # read once, and only where it matters
    for band in SOLAR:
        file = f"S{band}_radiance_an.nc"
        radiance, _, attributes = read(product, file, f"S{band}_radiance_an")
        if radiance.shape != (2 * shape[0], 2 * shape[1]):
            raise ProductError(
                f"{product}: S{band} has {radiance.shape} pixels, but twice those of S7, {shape}, are expected"
            )
        if zenith.shape != radiance.shape:  # one grid for all six
            image = grid(product / file, attributes)
            zenith = solar_zenith(product, *radiance.shape, image).astype(np.float32)
            factor = sun_factor(zenith)
        radiance, filled[f"S{band}"] = with_saturation(radiance, product, file, f"S{band}_exception_an")
        light = irradiance(product, band, seen_by)
        irradiances.append(float(np.nanmean(light)))
        radiance = np.asarray(radiance, np.float32) * np.float32(gain[band])
        (ref,) = halve(radiance * (factor / light))
        refs.append(np.clip(ref, -REFLECTANCE_LIMIT, REFLECTANCE_LIMIT))
        if rads:
            radiances.extend(halve(radiance))
    # An angle that is not known is of neither time. Where the sun is down a missing radiance is no loss.
    day, night = zenith[::2, ::2] < DAY_LIMIT, zenith[::2, ::2] >= DAY_LIMIT
    reflectance = np.stack(refs, axis=-1)
    reflectance[night] = 0
    missing = ~np.isfinite(np.concatenate([reflectance, bts], axis=-1))
    datasets: dict[str, NDArray[Any]] = {
        "bts": bts,
        "refs": np.nan_to_num(reflectance),
        "flags": pixel_flags(day=day, night=night),
        "seen": (~missing.any(axis=-1, keepdims=True)).astype(np.uint8),
    }
    averaged = "500 m pixels averaged 2 x 2, those without a value left out"
    gained = [gain[band] for band in SOLAR]
    made: dict[str, dict[str, Any]] = {
        "": {
            "day": bool(day.any() and not night.any()),
            "day_fraction": float(day.mean()),
            "baseline": baseline,
            "zenith": [float(np.nanmin(zenith)), float(np.nanmax(zenith))] if (day | night).any() else [np.nan, np.nan],
            "radiometry": "products",
            "saturated": [filled[name] for name in CHANNELS],
        },
        "bts": {"units": "K", "source": "S7-S9_BT_in"},
        "refs": {
            "units": "1",
            "formula": f"pi L gain / (E0 cos(SZA)), 0 where SZA >= {DAY_LIMIT:g}, at most {REFLECTANCE_LIMIT:g}",
            "solar_irradiance": irradiances,  # mean over the pixels
            "vicarious_gain": gained,
            "averaging": averaged,
        },
    }
    if rads:
        datasets["rads"] = np.nan_to_num(np.stack(radiances, axis=-1))
        made["rads"] = {
            "units": "mW m-2 sr-1 nm-1",
            "source": "S1-S6_radiance_an",
            "vicarious_gain": gained,
            "averaging": averaged,
        }
    surface = np.full(shape, NO_SURFACE, np.uint8)
    if labelled:
        bayes, confidence = flag_bits(product, "bayes_in"), flag_bits(product, "confidence_in")
        for name, flags in (("bayes_in", bayes), ("confidence_in", confidence)):
            if flags.values.shape != shape:
                raise ProductError(f"{product}/flags_in.nc: {name} has {flags.values.shape} pixels, but S7 has {shape}")
        for name in ("summary_cloud", "land", "snow"):
            if name not in confidence.bits:
                raise ProductError(
                    f"{product}/flags_in.nc: confidence_in has no flag {name}; it has {', '.join(confidence.bits)}"
                )
        unfilled, cosmetic = (
            confidence.set(name) if name in confidence.bits else np.zeros(shape, bool) for name in ("unfilled", "cosmetic")
        )
        known = confidence.known & ~unfilled
        ground = np.where(confidence.set("snow"), SURFACES.index("ice"), confidence.set("land") * SURFACES.index("land"))
        surface = np.where(known, ground, NO_SURFACE).astype(np.uint8)
        datasets |= {
            "bayes": np.where(bayes.known, bayes.values, 0)[..., None].astype(np.uint8),
            "summary": confidence.set("summary_cloud")[..., None].astype(np.uint8),
            "surface": surface[..., None],
            "flags": pixel_flags(day=day, night=night, cosmetic=cosmetic, no_bayes=~bayes.known, no_summary=~known),
        }
        made |= {
            "bayes": {
                "source": "bayes_in",
                "flag_masks": list(bayes.bits.values()),
                "flag_meanings": " ".join(bayes.bits),
            },
            "summary": {"source": "confidence_in: summary_cloud"},
            "surface": {
                "source": "confidence_in: land, snow",
                "flag_values": [0, 1, 2, NO_SURFACE],
                "flag_meanings": " ".join((*SURFACES, "unknown")),
            },
        }
        try:
            chance, _, _ = read(product, "flags_in.nc", "probability_cloud_single_in")
            datasets["probability"] = np.asarray(chance[..., None], np.float32)
            made["probability"] = {"source": "probability_cloud_single_in"}
        except NoVariable:
            pass  # old baselines have none
    made[""]["unseen_counts"] = count_unseen(missing, surface, day, night)
    return datasets, made


def read_layout(path: Path, rads: bool = False) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
    """A distributed HDF5 file, checked; returns what `read_product` does.

    Of the time of day such files say nothing. A scene is of the day where its visible channels see something in more than
    1 % of its pixels, and in such a scene the pixels where they see nothing are taken for night.

    ProductError for a file that cannot be read, a dataset that is missing or of another shape, and reflectances that
    are radiances (the script that made the first such files stored them twice). OSError where the file system fails.
    """
    names = {"bts": 3, "rads": 6, "refs": 6, "bayes": 1, "summary": 1}

    def take(file: Any) -> dict[str, NDArray[Any]]:
        missing = set(names) - set(file)
        if missing:
            raise ProductError(f"{path}: no dataset {', '.join(sorted(missing))}; it has {', '.join(sorted(file))}")
        return {name: file[name][:] for name in names}

    try:
        datasets = read_hdf(path, take)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and of_the_system(error):
            raise
        raise ProductError(f"{path}: not a readable HDF5 file: {error}") from None
    shape = datasets["bts"].shape[:2]
    for name, depth in names.items():
        if datasets[name].shape != (*shape, depth):
            raise ProductError(f"{path}: {name} has the shape {datasets[name].shape}, not {(*shape, depth)}")
    # At night S1-S3 see nothing, but S5 and S6 see fires and flares: their radiances are no daylight.
    lit = np.nan_to_num(datasets["rads"][..., :3]) > 0
    daylight = bool(lit.mean() > 0.01)
    if daylight and np.array_equal(datasets["refs"], datasets["rads"], equal_nan=True):
        raise ProductError(f"{path}: refs equals rads: its reflectances are radiances; convert the product (.SEN3) itself")
    day: NDArray[np.bool_] = np.asarray(lit.any(axis=-1) & daylight)
    bts, refs = datasets["bts"].astype(np.float32), datasets["refs"].astype(np.float32)
    refs = np.where(day[..., None] | np.isfinite(refs), refs, np.float32(0))  # at night a missing reflectance is no loss
    valued = np.concatenate([np.isfinite(refs), np.isfinite(bts) & (bts > 0)], axis=-1)
    seen: NDArray[np.bool_] = np.asarray(valued.all(axis=-1))
    # What no channel sees, beyond the edge of the swath, is of neither time in a scene of the day.
    night = ~day & (valued[..., len(SOLAR) :].any(axis=-1) | (not daylight))
    datasets["refs"] = np.clip(np.nan_to_num(refs), -REFLECTANCE_LIMIT, REFLECTANCE_LIMIT)
    datasets["rads"] = np.nan_to_num(datasets["rads"]).astype(np.float32)
    unknown = {}
    for name in ("bayes", "summary"):
        unknown[f"no_{name}"] = ~np.isfinite(datasets[name][..., 0])
        datasets[name] = np.nan_to_num(datasets[name]).astype(np.uint8)
    if not rads:
        del datasets["rads"]
    datasets |= {
        "bts": np.where(seen[..., None], bts, np.nan),
        "flags": pixel_flags(day=day, night=night, **unknown),
        "seen": seen[..., None].astype(np.uint8),
    }
    nowhere = np.full(shape, NO_SURFACE, np.uint8)
    known: dict[str, dict[str, Any]] = {
        **{name: {"source": path.name} for name in datasets},
        "": {
            "day": daylight,
            "day_fraction": float(day.mean()),
            "distributed": True,
            "radiometry": "distributed",
            "unseen_counts": count_unseen(~valued, nowhere, day, night),
        },
    }
    return datasets, known


def convert(source: Path, target: Path, labelled: bool = True, unseen: float = MOST_UNSEEN, rads: bool = False) -> None:
    """Converts one scene into one HDF5 file, which appears whole or not at all.

    Not `labelled`, a product needs no flags, and no label is in the file.

    ProductError for what cannot be read, and where more than the share `unseen` of the pixels have no value; OSError where
    the file system fails.
    """
    import h5py

    if source.is_dir() or source.suffix == ".SEN3":
        datasets, made = read_product(source, labelled, rads)
    else:
        datasets, made = read_layout(source, rads)
    seen = float(datasets["seen"].mean())
    if not seen:
        raise ProductError(f"{source}: not one pixel has a value in every channel")
    if 1 - seen > unseen:
        shares = unseen_shares(made[""]["unseen_counts"])["channels"]
        worst = ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items(), key=lambda item: -item[1])[:3])
        raise ProductError(
            f"{source}: {1 - seen:.1%} of the pixels have no value in some channel (most in {worst}), and {unseen:.1%} may "
            "have none (--unseen)"
        )
    partial = target.with_suffix(".partial")
    try:
        with h5py.File(partial, "w", locking=False) as file:
            for name, data in datasets.items():
                file.create_dataset(name, data=data).attrs.update(made.get(name, {}))
            file["flags"].attrs.update(
                {"flag_masks": [1 << bit for bit in range(len(PIXEL))], "flag_meanings": " ".join(PIXEL)}
            )
            file.attrs.update({"product": source.name, **made[""]})
        partial.rename(target)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{target}: cannot be written: {error}") from None


def attempt(job: tuple[Path, Path], unseen: float = MOST_UNSEEN, rads: bool = False) -> str:
    """Converts a scene unless it is converted; returns what is wrong with it, nothing when all is well.

    OSError where the file system fails: of that no scene is the worse.
    """
    source, target = job
    try:
        if not target.is_file():
            convert(source, target, unseen=unseen, rads=rads)
        return ""
    except ProductError as error:
        return str(error)


def run(listing: Path, out: Path, skip: float, unseen: float = MOST_UNSEEN, rads: bool = False) -> None:
    """Converts the scenes of scenes.json into `out`/{training,validation,inference}, in parallel; writes converted.json.

    A scene that cannot be read, or of which more than the share `unseen` has no value, is an error, unless `skip`, the
    share of training and of validation scenes that may be, allows for it; what is skipped stands in converted.json with its
    reason. Scenes for inference are never skipped: a score without one would be of another set. What is converted already
    is left as it is.

    ProductError as said; OSError where the file system fails, which no `skip` allows for.
    """
    scenes = json.loads(listing.read_text())["scenes"]
    jobs = [(Path(scene["path"]), out / scene["split"] / f"{scene['name']}.hdf") for scene in scenes]
    sizes = Counter(scene["split"] for scene in scenes)
    for _, target in jobs:
        target.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    skipped: list[dict[str, str]] = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            for (source, target), problem in zip(jobs, pool.map(attempt, jobs, repeat(unseen), repeat(rads)), strict=True):
                split = target.parent.name
                print(f"{split}: {source.name}{': ' + problem if problem else ''}", flush=True)
                if not problem:
                    continue
                skipped.append({"name": source.name, "split": split, "reason": problem})
                reasons = [entry["reason"] for entry in skipped if entry["split"] == split]
                allowed = 0.0 if split == "inference" else skip * sizes[split]
                if len(reasons) > allowed:
                    said = f"{len(reasons)} of {sizes[split]} {split} scenes cannot be read, and {allowed:g} may be: "
                    raise ProductError(said + "; ".join(reasons))
        except (ProductError, OSError):
            pool.shutdown(cancel_futures=True)
            raise
    seconds = time.perf_counter() - started
    unread = {}
    for split in ("training", "validation", "inference"):
        paths = sorted((out / split).glob("*.hdf"))
        if not paths:
            raise ProductError(f"{out / split}: not one scene could be converted")
        unread[split] = sum_unseen(paths)
    record = {"scenes": len(jobs) - len(skipped), "skipped": skipped, "seconds": seconds, "unseen": unread}
    (out / "converted.json").write_text(json.dumps(record, indent=1) + "\n")
