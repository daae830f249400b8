"""The masks of a CloudMask run as bits, and the score that they have against data made again.

The stages of the run are walked again from the products to the score, but for the two that need a network: the masks are
those of the evidence. The probabilities of cloud take 32 times the room and are not kept, so that the calibration cannot be
computed again.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks import Parameters
from kit.benchmarks.cloudmask.consistency import SCORE, WITHIN
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import plain_file, read_table
from kit.training import judge

MASKS = "masks.npy"
# Share of the pixels of a scene by which counts may differ where the data made here are not, byte for byte, those of the
# run: another processor or library rounds otherwise, and then a few pixels at the edge of a threshold change sides.
ROUNDED = 1e-4


def write_masks(directory: Path, target: Path) -> None:
    """Writes where each scene's mask says cloud: bits, row by row, a scene after another in the order of their names."""
    from kit.stages.cloudmask.score import answers

    names = sorted(path.stem for path in (directory / "masks").glob("S3*.nc"))
    if not names:
        raise KitError(f"{directory / 'masks'}: no masks (S3*.nc)")
    bits = [np.packbits(answers(plain_file(directory, f"masks/{name}.nc"))[0]) for name in names]
    with target.open("wb") as file:
        np.save(file, np.concatenate(bits), allow_pickle=False)


def score_again(
    files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
) -> Iterator[tuple[str, str, str]]:
    """(rule, file, what is wrong) of a run's masks and of the score that is said to be theirs.

    On the bytes that the run had, everything but the calibration comes out the same: counts exactly, what follows from them
    to 1e-9 (`judge.differing`). On other bytes only the counts of each scene are compared, to `ROUNDED`.
    """
    name = f"evidence/{MASKS}"
    try:
        bits = np.load(files[name], mmap_mode="r", allow_pickle=False)
    except Exception:  # its header is read as Python, with all of its errors
        yield "evidence-form", name, "is no array of NumPy"
        return
    if bits.dtype != np.uint8 or bits.ndim != 1:
        yield "evidence-form", name, f"holds {bits.dtype} in {bits.ndim} dimensions, where a row of bytes is needed"
        return
    with tempfile.TemporaryDirectory(dir=paths.make_cached(paths.cache() / "scored-again")) as folder:
        scenes = converted(data, Path(folder), parameters)
        problem = laid_out(bits, scenes, Path(folder) / "masks")
        if problem:
            yield "evidence-form", name, problem
            return
        again = scored(data, Path(folder), parameters)
    said = read_table(files[SCORE])
    if not same_data:
        yield from (("evidence-score", SCORE, problem) for problem in roughly(said, again))
        return
    del again["calibration"]
    for label, found, wanted in judge.differing(said, again, within=WITHIN):
        yield "evidence-score", SCORE, f"{label} is {found!r}, but the masks of the evidence come to {wanted!r}"


def converted(data: Path, folder: Path, parameters: Parameters) -> list[Path]:
    """The scenes for inference, in the order of their names, after the stages extract and convert in `folder`."""
    from kit.stages.cloudmask import convert
    from kit.stages.cloudmask.extract import extract

    for name in ("products", "scenes", "masks", "score"):
        (folder / name).mkdir()
    with contextlib.redirect_stdout(io.StringIO()):  # a line for each scene
        extract(data, folder / "products", int(parameters["validation_scenes"]), int(parameters["data_seed"]))
        skip, unseen = float(parameters["unreadable"]), float(parameters["most_unseen"])
        convert.run(folder / "products/scenes.json", folder / "scenes", skip, unseen)
    return sorted((folder / "scenes/inference").glob("S3*.hdf"), key=lambda path: path.stem)


def laid_out(bits: NDArray[np.uint8], scenes: list[Path], folder: Path) -> str:
    """Writes the mask of each scene as the stage infer does; what is wrong with the bits, empty if nothing is."""
    from kit.stages.cloudmask.infer import write_netcdf
    from kit.stages.cloudmask.patches import load

    start = 0
    for path in scenes:
        scene = load(path, None)
        shape, pixels = scene.seen.shape, scene.seen.size
        part = np.unpackbits(bits[start : start + (pixels + 7) // 8])
        start += (pixels + 7) // 8
        if len(part) < pixels:
            break
        write_netcdf(folder / f"{path.stem}.nc", scene, part[:pixels].reshape(shape).astype(np.float32))
    return "" if start == len(bits) else f"has {len(bits)} bytes, which is not the size of the masks of {len(scenes)} scenes"


def scored(data: Path, folder: Path, parameters: Parameters) -> dict[str, Any]:
    """What the stage score makes of the masks."""
    from kit.stages.cloudmask.patches import Label
    from kit.stages.cloudmask.score import score

    label = Label(*(str(parameters[f"label_{key}"]) for key in ("source", "bits", "positive")))
    truth = str(parameters["truth"]).removeprefix("data/")
    masks, out = folder / "masks", folder / "score"
    score(folder / "scenes", masks, data / truth if truth else None, out, label, parameters["cosmetic"] == "left_out")
    found: dict[str, Any] = json.loads((out / "score.json").read_text())
    return found


def roughly(said: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    """Scenes whose counts differ by more than rounding can make them."""
    if said["per_scene"].keys() != again["per_scene"].keys():
        yield "per_scene has other scenes than the data"
        return
    for name, scene in again["per_scene"].items():
        for against in ("label", "truth"):
            for mask, counts in scene[against].items():
                found = np.asarray(said["per_scene"][name][against][mask])
                if found.shape != (2, 2) or np.abs(found - counts).sum() > 2 * ROUNDED * np.sum(counts):
                    yield f"per_scene.{name}.{against}.{mask} is {found.tolist()}, but the masks come to {counts}"
