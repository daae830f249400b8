"""Scenes as the network sees them: normalised channels, labels, and the patches they are cut into.

Geometry is that of the reference: training drops a border so that whole patches of 256 fit, without overlap; inference
pads, cuts patches of 256 every 176 pixels, keeps the middle 176 of each answer, and lays them side by side. It does the
same with larger patches, up to one that holds the whole scene, for less work.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.convert import NO_SURFACE, SURFACES, TIMES
from kit.stages.cloudmask.hdf import read_hdf
from kit.stages.cloudmask.products import SPARE

Array = NDArray[np.floating]

PATCH = 256
WHOLE = 1600  # the side of an inference patch that holds a scene of SLSTR whole, and takes less than 2 GB
CROP = 40  # pixels of each side of an answer that are thrown away
UNSEEN = 2  # beside the classes 0 (clear) and 1 (cloud)
# How reflectances came about: a network of one sort does not know the other.
RADIOMETRY = {
    "products": "vicarious gain where the baseline lacks it, 0 where the sun is less than 5 degrees up",
    "distributed": "no vicarious gain, cosine of the zenith angle 1 where the sun is down",
}


class Label(NamedTuple):
    """Which mask is taken for right, and how it is read. The product's own words do not say it: it is a choice."""

    source: str = "bayes"  # bayes, summary or probability
    bits: str = "any"  # of bayes: their names, with commas between them, or any
    positive: str = "cloud"  # what a set bit means: cloud or clear

    def read(self, file: Any) -> NDArray[np.bool_]:
        """True (rows, columns) where an open converted scene is cloud; ValueError for a source or bit it does not have.

        What it says of pixels that are not `known` means nothing.
        """
        if self.source not in ("bayes", "summary", "probability") or self.positive not in ("cloud", "clear"):
            raise ValueError(
                f"label source {self.source}, positive {self.positive}: bayes, summary or probability; cloud or clear"
            )
        if self.source not in file:
            raise ValueError(f"{file.filename}: no dataset {self.source} to take the label from")
        values = file[self.source]
        if self.source == "probability":
            marked = values[:, :, 0] > 0.5
        elif self.source == "bayes":
            known, meaning = bits(values)
            wanted = meaning
            if self.bits != "any":
                if not known:
                    raise ValueError(
                        f"{file.filename}: bayes does not name its bits; only the label bits 'any' can be taken"
                    )
                for bit in self.bits.split(","):
                    if bit not in known:
                        raise ValueError(f"{file.filename}: bayes has no bit {bit}; it has {', '.join(known)}")
                wanted = sum(known[bit] for bit in set(self.bits.split(",")))
            marked = values[:, :, 0] & wanted > 0
        else:
            marked = values[:, :, 0] > 0
        return marked if self.positive == "cloud" else ~marked

    def known(self, file: Any) -> NDArray[np.bool_]:
        """True (rows, columns) where an open converted scene has this label: not in fill, nor where all that is set are
        bits without a meaning."""
        values = file[self.source]
        if self.source == "probability":
            return np.isfinite(values[:, :, 0])
        said = ~pixel_bits(file, f"no_{self.source}")
        if self.source == "bayes":
            bayes = values[:, :, 0]
            said &= (bayes == 0) | (bayes & bits(values)[1] > 0)
        return said


def bits(values: Any) -> tuple[dict[str, int], int]:
    """The bits of an open dataset by name, and those of them that mean something together.

    Files of others name none; the lowest four are those of bayes (Sentinel-3 SLSTR product data format specification).
    """
    names = str(values.attrs.get("flag_meanings", "")).split()
    known = dict(zip(names, map(int, values.attrs.get("flag_masks", [])), strict=True))
    return known, sum(mask for name, mask in known.items() if name != SPARE) if known else 0b1111


def pixel_bits(file: Any, name: str) -> NDArray[np.bool_]:
    """True (rows, columns) where the dataset flags of an open converted scene has a bit set, by its name; nowhere in a file
    without such a bit."""
    if "flags" not in file:
        return np.zeros(file["seen"].shape[:2] if "seen" in file else file["bayes"].shape[:2], bool)
    masks = bits(file["flags"])[0]
    return file["flags"][:, :, 0] & masks.get(name, 0) > 0


def strata(file: Any) -> dict[str, NDArray[np.bool_]]:
    """The pixels (rows, columns) of each time of day and each surface of an open converted scene, by name. A pixel of which
    nobody knows it is in none; where the file tells no pixels apart, the whole scene is of day or of night."""
    shape = file["seen"].shape[:2]
    day = np.full(shape, bool(file.attrs["day"]))
    times = (
        {name: pixel_bits(file, name) for name in TIMES} if "flags" in file else dict(zip(TIMES, (day, ~day), strict=True))
    )
    surface = file["surface"][:, :, 0] if "surface" in file else np.full(shape, NO_SURFACE, np.uint8)
    return {**times, **{name: surface == value for value, name in enumerate(SURFACES)}}


class Scene(NamedTuple):
    """One converted scene: channels (rows, columns, 9), cloud and seen (rows, columns)."""

    name: str
    day: bool
    channels: Array
    cloud: NDArray[np.bool_]
    seen: NDArray[np.bool_]  # has every channel and, where a label was asked for, a label
    radiometry: str = ""  # how its reflectances came about (`RADIOMETRY`); empty where the file does not say


MOST_UNLABELLED = 0.5  # share of the seen pixels of a scene that may have no label


def load(path: Path, label: Label | None) -> Scene:
    """Reads a converted scene. Normalisation is the reference's: `(bt - 270) / 22`, `reflectance - 0.5`.

    Pixels without a value have a temperature of 0 after normalisation and a reflectance of 0 before; they are not in
    `seen` and enter no loss and no metric, and neither do pixels without a label. Without a `label` nothing is cloud, and
    all that has a value is seen.

    ValueError where more than half of what was seen has no label; OSError where the file system fails.
    """

    def take(file: Any) -> Scene:
        channels = np.concatenate([file["refs"][:], file["bts"][:]], axis=-1, dtype=np.float32)
        # Row by row over all pixels and channels: nine values at a time would take three times as long.
        rows = channels.reshape(len(channels), -1)
        rows -= np.tile(np.array([0.5] * 6 + [270] * 3, np.float32), channels.shape[1])
        rows /= np.tile(np.array([1] * 6 + [22] * 3, np.float32), channels.shape[1])
        np.copyto(rows, 0, where=~np.isfinite(rows))
        seen = file["seen"][:, :, 0] > 0
        cloud = np.zeros(seen.shape, bool)
        if label:
            cloud, known = label.read(file), label.known(file)
            unknown = float((seen & ~known).sum() / max(seen.sum(), 1))
            if unknown > MOST_UNLABELLED:
                raise ValueError(
                    f"{path}: {unknown:.1%} of the pixels that were seen have no label {label.source}, and "
                    f"{MOST_UNLABELLED:.0%} may have none; take another label, or the scene out of the data"
                )
            seen &= known
        radiometry = str(file.attrs.get("radiometry", ""))
        return Scene(str(file.attrs["product"]), bool(file.attrs["day"]), channels, cloud, seen, radiometry)

    return read_hdf(path, take)


def trained_on(model_file: Path) -> str:
    """The radiometry of the scenes that a file of weights was trained on; empty where it does not say."""
    return read_hdf(model_file, lambda file: str(file.attrs.get("radiometry", "")))


def one_radiometry(scenes: Iterable[tuple[str, str]], model: str = "") -> str:
    """The radiometry that all scenes (name, radiometry) have, and a model (if it is known) was trained on.

    ValueError for a mixture, which names both sorts, and a scene of each.
    """
    found = {model: "the model"} if model else {}
    for name, radiometry in scenes:
        if radiometry:
            found.setdefault(radiometry, name)
    if len(found) > 1:
        said = "; ".join(f"{name} has {sort} ({RADIOMETRY.get(sort, 'unknown')})" for sort, name in sorted(found.items()))
        raise ValueError(f"reflectances of different radiometry, which one network cannot tell from cloud: {said}")
    return next(iter(found), "")


def load_for(model_radiometry: str, path: Path) -> Scene:
    """A scene to be masked, without a label, by a network that was trained on scenes of a radiometry (empty: not known).

    ValueError for a scene of another one.
    """
    scene = load(path, None)
    one_radiometry([(scene.name, scene.radiometry)], model_radiometry)
    return scene


def training_patches(field: Array) -> Array:
    """Cuts (rows, columns, ...) into (n, 256, 256, ...) patches without overlap, dropping an even border."""
    rows, columns = field.shape[0] // PATCH, field.shape[1] // PATCH
    if rows == 0 or columns == 0:
        raise ValueError(f"a scene of {field.shape[:2]} pixels is smaller than one patch of {PATCH}")
    top, left = (field.shape[0] - rows * PATCH) // 2, (field.shape[1] - columns * PATCH) // 2
    inner = field[top : top + rows * PATCH, left : left + columns * PATCH]
    blocks = inner.reshape(rows, PATCH, columns, PATCH, *field.shape[2:])
    return blocks.swapaxes(1, 2).reshape(rows * columns, PATCH, PATCH, *field.shape[2:])


def covers(shape: tuple[int, int], largest: int) -> list[tuple[int, int]]:
    """For rows and for columns: the side of the patches, and how many of them cover the scene with their middles.

    No side is larger than `largest`, and none than it has to be where one patch covers everything.
    """
    if largest % 8 or largest <= 2 * CROP:
        raise ValueError(f"patches of {largest} pixels: a multiple of 8 above {2 * CROP} is needed")
    sides = (min(largest, -(-(size + 2 * CROP) // 8) * 8) for size in shape)
    return [(side, -(-size // (side - 2 * CROP))) for side, size in zip(sides, shape, strict=True)]


def spare(size: int, side: int, count: int) -> tuple[int, int]:
    """Pixels before and after a scene that the middles of its patches cover beyond it: it lies in the middle, as it does
    in the reference."""
    extra = count * (side - 2 * CROP) - size
    return extra // 2, extra - extra // 2


def inference_patches(field: Array, largest: int = PATCH) -> Array:
    """Cuts (rows, columns, ...) into overlapping (n, side, side, ...) patches whose middles tile the scene.

    With the reference's 256 these are its 63 patches of a scene of 1200 x 1500. Larger ones overlap less, and differ only
    by what the network sees of pixels more than 40 beyond those it answers for. ValueError for sides it cannot halve.
    """
    cover = covers(field.shape[:2], largest)
    borders = [spare(size, *each) for size, each in zip(field.shape[:2], cover, strict=True)]
    padding = [(CROP + before, CROP + after) for before, after in borders]
    # Mirrored, since a border of zeros would be a cliff that no scene has.
    padded = np.pad(field, padding + [(0, 0)] * (field.ndim - 2), mode="symmetric")
    (height, rows), (width, columns) = cover
    starts = [(r * (height - 2 * CROP), c * (width - 2 * CROP)) for r in range(rows) for c in range(columns)]
    return np.stack([padded[top : top + height, left : left + width] for top, left in starts])


def assemble(patches: Array, shape: tuple[int, int], largest: int = PATCH) -> Array:
    """The scene (rows, columns) whose `inference_patches` gave these answers (n, side, side)."""
    (height, rows), (width, columns) = covers(shape, largest)
    (top, _), (left, _) = spare(shape[0], height, rows), spare(shape[1], width, columns)
    middles = patches[:, CROP:-CROP, CROP:-CROP].reshape(rows, columns, height - 2 * CROP, width - 2 * CROP)
    whole = middles.swapaxes(1, 2).reshape(rows * (height - 2 * CROP), columns * (width - 2 * CROP))
    return whole[top : top + shape[0], left : left + shape[1]]
