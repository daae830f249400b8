"""Which scenes there are, and which of them are for what: the split, settled before anything is read.

Scenes for inference are those that the data set keeps apart. Of the others whole orbits go to validation, in an order
that only seed and orbit decide: granules of one orbit lie side by side, and a network that has seen one knows the next.
For the same reason scenes of an orbit that inference has scenes of are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from kit.benchmarks.cloudmask.products import SOLAR, THERMAL, ProductError, parse_name

# What is read of a product; the other 80 files stay in the archive.
FILES = (
    *(f"S{band}_radiance_an.nc" for band in SOLAR),
    *(f"S{band}_quality_an.nc" for band in SOLAR),
    *(f"S{band}_BT_in.nc" for band in THERMAL),
    "flags_in.nc",
    "geometry_tn.nc",
)


def unpack(archive: Path, folder: Path) -> Path:
    """Takes what is read of a product out of a zip archive of it; returns the product's folder."""
    product = folder / archive.name.removesuffix(".zip")
    if product.is_dir():
        return product
    partial = product.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.namelist():
                name = member.rpartition("/")[2]
                if name in FILES:
                    (partial / name).write_bytes(file.read(member))
    except (zipfile.BadZipFile, OSError) as error:
        raise ProductError(f"{archive}: not a whole zip archive: {error}") from None
    partial.rename(product)
    return product


def fingerprint(path: Path) -> str:
    """SHA-256 of a scene: of the 10.8 um channel of a product, of the whole of an HDF5 file; empty without one."""
    file = path / "S8_BT_in.nc" if path.is_dir() else path
    if not file.is_file():
        return ""  # converting says what is missing
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_scenes(folder: Path, unpacked: Path) -> list[Path]:
    """The scenes of both satellites below a folder, by name: products, archives of products, HDF5 files."""
    found = [
        unpack(path, unpacked) if path.suffix == ".zip" else path
        for path in sorted(folder.rglob("S3[AB]*"))
        if path.suffix in (".SEN3", ".hdf", ".zip")
    ]
    if not found:
        raise ProductError(f"{folder}: no scenes (S3A*.SEN3 or S3B*.SEN3 folders, their .zip archives, or .hdf files)")
    return found


def validation_orbits(orbits: dict[str, int], wanted: int, seed: int) -> set[str]:
    """Orbits with at least `wanted` scenes between them: the first in the order of the SHA-256 of seed and orbit."""
    chosen: set[str] = set()
    for orbit in sorted(orbits, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest()):
        if sum(orbits[name] for name in chosen) >= wanted:
            break
        chosen.add(orbit)
    return chosen


def extract(data: Path, out: Path, validation_scenes: int, seed: int) -> None:
    """Writes scenes.json into `out`: every scene of `data`/training and `data`/inference with path, orbit and split.

    ProductError for a name that is none, for a scene that is there twice, and for a split that is left empty. Training
    scenes of an orbit that inference has scenes of are left out, and stand in scenes.json as such.
    """
    scenes: list[dict[str, Any]] = []
    for split in ("training", "inference"):
        for path in list_scenes(data / split, out / "unpacked"):
            name = parse_name(path.name)
            scenes.append({"name": path.stem, "path": str(path.absolute()), "split": split, **name._asdict()})
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        prints = pool.map(fingerprint, [Path(scene["path"]) for scene in scenes], chunksize=8)
        for scene, value in zip(scenes, prints, strict=True):
            scene["sha256"] = value
    for what, key in (("content", "sha256"), ("satellite and time", "start")):
        seen: dict[str, str] = {}
        for scene in scenes:
            mark = scene[key] if key == "sha256" else f"{scene['platform']} {scene['start']}"
            if mark in seen:
                raise ProductError(f"{scene['path']}: the same {what} as {seen[mark]}; a scene counts once, remove one")
            if mark:
                seen[mark] = scene["path"]
    kept_apart = {scene["orbit"] for scene in scenes if scene["split"] == "inference"}
    left_out = [scene["name"] for scene in scenes if scene["split"] == "training" and scene["orbit"] in kept_apart]
    scenes = [scene for scene in scenes if scene["name"] not in left_out]
    orbits = Counter(scene["orbit"] for scene in scenes if scene["split"] == "training")
    chosen = validation_orbits(orbits, validation_scenes, seed)
    for scene in scenes:
        if scene["orbit"] in chosen:
            scene["split"] = "validation"
    counts = {split: sum(scene["split"] == split for scene in scenes) for split in ("training", "validation", "inference")}
    for split, count in counts.items():
        if not count:
            raise ProductError(
                f"{data}: {sum(orbits.values())} scenes of {len(orbits)} orbits, {validation_scenes} of them for "
                f"validation, leave none for {split}"
                + (f"; {len(left_out)} more are of orbits that inference has scenes of" if left_out else "")
            )
    rule = "whole orbits, by SHA-256 of seed and orbit"
    listing = {"rule": rule, "seed": seed, **counts, "left_out": left_out, "scenes": scenes}
    partial = out / ".scenes.partial"
    partial.write_text(json.dumps(listing, indent=1) + "\n")
    partial.rename(out / "scenes.json")
    said = {**counts, "left out, of orbits that inference has scenes of": len(left_out)}
    print(", ".join(f"{count} {what}" for what, count in said.items() if count), flush=True)
