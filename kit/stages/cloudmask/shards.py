"""Training patches on disk, one file (.npy) a scene.

A record holds the channels of a patch in half precision and the class of each pixel: 1.2 MB, a third of what the scene
takes in single precision. Half precision resolves 0.02 K and 0.0005 of reflectance, which is finer than the noise.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.convert import SURFACES, TIMES
from kit.stages.cloudmask.hdf import read_hdf
from kit.stages.cloudmask.patches import PATCH, UNSEEN, Label, Scene, load, one_radiometry, strata, training_patches
from kit.stages.ml.shards import Shards as Numbered
from kit.stages.ml.shards import write

RECORD = np.dtype([("channels", "<f2", (PATCH, PATCH, 9)), ("label", "u1", (PATCH, PATCH))])
SPLITS = ("training", "validation")
# Kelvin at which sea water freezes. Where nothing is warmer in the mean, what lies below the cloud is ice or frozen ground,
# and by night the colder of the two: air above it is warmer, and so is cloud.
FREEZING = 271.35


def cut(job: tuple[Path, Path, Label]) -> dict[str, Any]:
    """Cuts one scene into the records of a shard, which appears whole or not at all; returns what is in it.

    Patches without one pixel that was seen are left out.
    """
    path, target, label = job
    scene = load(path, label)
    classes = training_patches(np.where(scene.seen, scene.cloud, UNSEEN).astype(np.uint8))
    some = (classes != UNSEEN).any(axis=(1, 2))
    records = np.empty(int(some.sum()), RECORD)
    records["channels"] = training_patches(scene.channels)[some]
    records["label"] = classes[some]
    write(target, records)
    temperature = scene.channels[..., 7]
    cloud, clear = temperature[scene.seen & scene.cloud], temperature[scene.seen & ~scene.cloud]
    return {
        "scene": path.stem,
        "file": f"{target.parent.name}/{target.name}",
        "patches": len(records),
        "dropped": int((~some).sum()),
        "day": scene.day,
        "cloud_pixels": len(cloud),
        "clear_pixels": len(clear),
        "cloud_sum": float(cloud.sum(dtype=np.float64)),
        "clear_sum": float(clear.sum(dtype=np.float64)),
        "radiometry": scene.radiometry,
        "places": temperatures(scene, read_hdf(path, strata)),
    }


def temperatures(scene: Scene, groups: dict[str, NDArray[np.bool_]]) -> dict[str, list[float]]:
    """By surface and time of day ("sea by night"): pixels and summed 10.8 um temperature, normalised, of cloud and clear."""
    found = {}
    elsewhere = ~np.logical_or.reduce([groups[name] for name in SURFACES])
    for surface, ground in (*((name, groups[name]) for name in SURFACES), ("unknown surface", elsewhere)):
        for time in TIMES:
            place = scene.seen & ground & groups[time]
            if place.any():
                parts = [scene.channels[..., 7][place & cloud] for cloud in (scene.cloud, ~scene.cloud)]
                found[f"{surface} by {time}"] = [float(n) for part in parts for n in (len(part), part.sum(dtype=np.float64))]
    return found


def polarity(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the label is read the right way round, as cloud is colder than what it hides.

    That holds over open sea and over ground in the sun. Over ice, and over ground by night, it need not: those places are
    told, and warned of where cloud is the warmer, and decide nothing. Sea whose water would be frozen counts as ice.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    for shard in shards:
        for name, values in shard["places"].items():
            sums[name] = sums.get(name, np.zeros(4)) + np.array(values)
    places, evidence = [], np.zeros(3)
    for name, (clouds, cloud_sum, clears, clear_sum) in sorted(sums.items()):
        if not clouds or not clears:
            continue
        cloud, clear = 270 + 22 * cloud_sum / clouds, 270 + 22 * clear_sum / clears
        firm = name.startswith("sea") or name in ("land by day", "unknown surface by day")
        decides = firm and max(cloud, clear) > FREEZING
        # A place says as much as there is of both.
        evidence += decides * min(clouds, clears) * np.array([1, cloud, clear])
        places.append(
            {
                "place": name,
                "cloud_pixels": int(clouds),
                "clear_pixels": int(clears),
                "cloud_kelvin": cloud,
                "clear_kelvin": clear,
                "decides": bool(decides),
            }
        )
    weight, cloud, clear = (float(value) for value in evidence)
    kelvin = {"cloud_kelvin": cloud / weight, "clear_kelvin": clear / weight} if weight else {}
    return {"reversed": cloud > clear, "decided": weight > 0, **kelvin, "places": places}


def cut_all(data: Path, out: Path, label: Label, trust_label: bool = False) -> None:
    """Cuts the scenes of `data`/{training,validation} into shards and writes shards.json.

    ValueError for scenes of different radiometry, and for a label whose cloud is warmer than its clear sky where `polarity`
    can tell, unless `trust_label` overrules it: nothing else tells a mask that is read the wrong way round. Either way
    shards.json has what was found.
    """
    jobs = []
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
        jobs += [(path, out / split / f"{path.stem}.npy", label) for path in sorted((data / split).glob("*.hdf"))]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        shards = list(pool.map(cut, jobs))
    cloud, clear = (sum(shard[f"{name}_pixels"] for shard in shards) for name in ("cloud", "clear"))
    if not cloud or not clear:
        raise ValueError(f"{data}: label {label.source} marks {cloud} pixels cloud and {clear} clear: nothing to learn")
    kelvin = [
        270 + 22 * sum(shard[f"{name}_sum"] for shard in shards) / count
        for name, count in (("cloud", cloud), ("clear", clear))
    ]
    radiometry = one_radiometry((shard["scene"], shard["radiometry"]) for shard in shards)
    found = polarity(shards)
    warmer = [place for place in found["places"] if place["cloud_kelvin"] >= place["clear_kelvin"]]
    said = "; ".join(f"{p['place']} {p['cloud_kelvin']:.1f} K, and {p['clear_kelvin']:.1f} K" for p in warmer)
    if found["reversed"] and not trust_label:
        cloudy, cloudless = (f"{found[f'{name}_kelvin']:.1f} K" for name in ("cloud", "clear"))
        raise ValueError(
            f"{data}: what the label {label.source} ({label.bits}) marks as cloud is warmer, {cloudy}, than what it calls "
            f"clear, {cloudless} ({said}): it is read the wrong way round (positive: {label.positive}), or --trust-label "
            "says that it is not"
        )
    warnings = [f"cloud is warmer than clear sky: {said}; right over ice and by night, wrong elsewhere"] if warmer else []
    if not found["decided"]:
        warnings.append("no open sea and no land by day: nothing tells whether the label is read the right way round")
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    listing = {
        "label": label._asdict(),
        "radiometry": radiometry,
        "polarity": {**found, "trusted": trust_label, "warnings": warnings},
        "cloud_fraction": cloud / (cloud + clear),
        "cloud_kelvin": kelvin[0],
        "clear_kelvin": kelvin[1],
        "shards": shards,
    }
    for split in SPLITS:
        listing[f"{split}_patches"] = sum(shard["patches"] for shard in shards if shard["file"].startswith(split))
        if not listing[f"{split}_patches"]:
            raise ValueError(f"{data / split}: no patches")
    (out / "shards.json").write_text(json.dumps(listing, indent=1) + "\n")


class Shards(Numbered):
    """The patches of a split, numbered through: channels (n, 256, 256, 9) and classes (n, 256, 256)."""

    def __init__(self, folder: Path, split: str) -> None:
        listing = json.loads((folder / "shards.json").read_text())
        self.label = listing["label"]
        self.radiometry: str = listing.get("radiometry", "")
        self.trusted: bool = listing.get("polarity", {}).get("trusted", False)
        found = [shard for shard in listing["shards"] if shard["file"].startswith(f"{split}/")]
        self.scenes = [shard["scene"] for shard in found]
        super().__init__([folder / shard["file"] for shard in found], [shard["patches"] for shard in found], RECORD)
