"""Which scenes there are, and which of them are for what: the split, settled before anything is read.

Scenes for inference are those that the data set keeps apart. Of the others whole orbits go to validation, in an order
that only seed and orbit decide: granules of one orbit lie side by side, and a network that has seen one knows the next.
For the same reason scenes of an orbit that inference has scenes of are left out, and so are those that begin less than
`APART` minutes before or after one of another split on the same track: the last granule of an orbit and the first of the
next touch, and in 2018 Sentinel-3B flew half a minute ahead of Sentinel-3A.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from bisect import bisect_left
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit.stages.cloudmask.hdf import steadily
from kit.stages.cloudmask.products import SOLAR, THERMAL, ProductError, parse_name

# What is read of a product; the other 80 files stay in the archive.
FILES = (
    *(f"S{band}_radiance_an.nc" for band in SOLAR),
    *(f"S{band}_quality_an.nc" for band in SOLAR),
    *(f"S{band}_BT_in.nc" for band in THERMAL),
    "flags_in.nc",
    "geometry_tn.nc",
    "indices_an.nc",
)


# Minutes between the starts of two scenes of different splits: a granule takes three, so two whole ones lie between them,
# 2,400 km along the track.
APART = 10


def unpack(archive: Path, folder: Path) -> Path:
    """Takes what is read of a product out of a zip archive of it; returns the product's folder.

    ProductError for an archive that is none or is cut off; OSError where the file system fails.
    """
    product = folder / archive.name.removesuffix(".zip")
    if product.is_dir():
        return product
    partial = product.with_suffix(".partial")

    def take() -> None:
        partial.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as file:
            for member in file.namelist():
                name = member.rpartition("/")[2]
                if name in FILES:
                    (partial / name).write_bytes(file.read(member))

    try:
        steadily(archive, take)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ProductError(f"{archive}: not a whole zip archive: {error}") from None
    partial.rename(product)
    return product


def fingerprint(path: Path) -> str:
    """SHA-256 of a scene: of the 10.8 um channel of a product, of the whole of an HDF5 file; empty without one."""

    def digest() -> str:
        file = path / "S8_BT_in.nc" if path.is_dir() else path
        if not file.is_file():
            return ""  # converting says what is missing
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return steadily(path, digest)


def list_scenes(folder: Path, unpacked: Path) -> tuple[list[Path], list[str]]:
    """The scenes of all satellites below a folder, by name: products, archives of products, HDF5 files; and the names of
    what begins as the name of one does and is none (a product that is not whole yet, .SEN3.tmp).

    ProductError for a folder without scenes, and for a name with the end of a scene that is none.
    """
    found, strange = [], []
    for path in sorted(folder.rglob("S3*")):
        if path.suffix in (".SEN3", ".hdf", ".zip"):
            parse_name(path.name)
            found.append(unpack(path, unpacked) if path.suffix == ".zip" else path)
        elif "_SL_" in path.name:
            strange.append(path.name)
    if not found:
        raise ProductError(f"{folder}: no scenes (S3*.SEN3 folders, their .zip archives, or .hdf files)")
    return found, strange


def tracks(scene: dict[str, Any]) -> tuple[str, str]:
    """What a scene flies along: the way of its satellite, and the relative orbit, which another one may follow."""
    return scene["platform"], f"orbit {scene['orbit'].rpartition('_')[2]}"


def minutes(scene: dict[str, Any]) -> float:
    """The start of a scene in minutes since 1970."""
    return datetime.strptime(scene["start"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp() / 60


def beside(scenes: list[dict[str, Any]], others: list[dict[str, Any]]) -> set[str]:
    """The names of the scenes that begin less than `APART` minutes before or after one of the others on the same track."""
    starts: dict[str, list[float]] = defaultdict(list)
    for other in sorted(others, key=minutes):
        for track in tracks(other):
            starts[track].append(minutes(other))
    near = set()
    for scene in scenes:
        start = minutes(scene)
        for track in tracks(scene):
            times = starts[track]
            place = bisect_left(times, start)
            if any(abs(time - start) < APART for time in times[max(place - 1, 0) : place + 1]):
                near.add(scene["name"])
    return near


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
    scenes of an orbit that inference has scenes of, or that touch one of another split, are left out, and stand in
    scenes.json as such; so does what was passed over because its name only begins as that of a scene does.
    """
    scenes: list[dict[str, Any]] = []
    passed: list[str] = []
    for split in ("training", "inference"):
        found, strange = list_scenes(data / split, out / "unpacked")
        passed += strange
        for path in found:
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

    def of(split: str) -> list[dict[str, Any]]:
        return [scene for scene in scenes if scene["split"] == split]

    kept_apart = {scene["orbit"] for scene in of("inference")}
    touching = beside(of("training"), of("inference"))
    left_out = [scene["name"] for scene in of("training") if scene["orbit"] in kept_apart or scene["name"] in touching]
    scenes = [scene for scene in scenes if scene["name"] not in set(left_out)]
    orbits = Counter(scene["orbit"] for scene in of("training"))
    chosen = validation_orbits(orbits, validation_scenes, seed)
    for scene in scenes:
        if scene["orbit"] in chosen:
            scene["split"] = "validation"
    touching = beside(of("training"), of("validation"))
    left_out += [scene["name"] for scene in of("training") if scene["name"] in touching]
    scenes = [scene for scene in scenes if scene["name"] not in touching]
    counts = {split: len(of(split)) for split in ("training", "validation", "inference")}
    for split, count in counts.items():
        if not count:
            raise ProductError(
                f"{data}: {sum(orbits.values())} scenes of {len(orbits)} orbits, {validation_scenes} of them for "
                f"validation, leave none for {split}"
                + (f"; {len(left_out)} more lie beside scenes of another split" if left_out else "")
            )
    listing = {
        "rule": f"whole orbits, by SHA-256 of seed and orbit, {APART} minutes apart on one track",
        "seed": seed,
        **counts,
        "left_out": left_out,
        "passed_over": passed,
        "scenes": scenes,
    }
    partial = out / ".scenes.partial"
    partial.write_text(json.dumps(listing, indent=1) + "\n")
    partial.rename(out / "scenes.json")
    said = {**counts, "left out, beside scenes of another split": len(left_out), "passed over, no scenes": len(passed)}
    print(", ".join(f"{count} {what}" for what, count in said.items() if count), flush=True)
