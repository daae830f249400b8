"""Scenes as the network sees them: normalised channels, labels, and the patches they are cut into.

Geometry is that of the reference: training drops a border so that whole patches of 256 fit, without overlap; inference
pads, cuts patches of 256 every 176 pixels, keeps the middle 176 of each answer, and lays them side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

PATCH = 256
CROP = 40  # pixels of each side of an answer that are thrown away
UNSEEN = 2  # beside the classes 0 (clear) and 1 (cloud)


class Label(NamedTuple):
    """Which mask is taken for right, and how it is read. The product's own words do not say it: it is a choice."""

    source: str = "bayes"  # bayes, summary or probability
    bits: str = "any"  # of bayes: their names, with commas between them, or any
    positive: str = "cloud"  # what a set bit means: cloud or clear

    def read(self, file: Any) -> NDArray[np.bool_]:
        """True (rows, columns) where an open converted scene is cloud; ValueError for a source or bit it does not have."""
        if self.source not in ("bayes", "summary", "probability") or self.positive not in ("cloud", "clear"):
            raise ValueError(
                f"label source {self.source}, positive {self.positive}: bayes, summary or probability; cloud or clear"
            )
        if self.source not in file:
            raise ValueError(f"{file.filename}: no dataset {self.source} to take the label from")
        values = file[self.source]
        if self.source == "probability":
            marked = values[:, :, 0] > 0.5
        elif self.source == "bayes" and self.bits != "any":
            if "flag_meanings" not in values.attrs:
                raise ValueError(f"{file.filename}: bayes does not name its bits; only the label bits 'any' can be taken")
            known = dict(zip(str(values.attrs["flag_meanings"]).split(), values.attrs["flag_masks"], strict=True))
            wanted = self.bits.split(",")
            for bit in wanted:
                if bit not in known:
                    raise ValueError(f"{file.filename}: bayes has no bit {bit}; it has {', '.join(known)}")
            marked = values[:, :, 0] & int(sum(known[bit] for bit in set(wanted))) > 0
        else:
            marked = values[:, :, 0] > 0
        return marked if self.positive == "cloud" else ~marked


class Scene(NamedTuple):
    """One converted scene: channels (rows, columns, 9), cloud and seen (rows, columns)."""

    name: str
    day: bool
    channels: Array
    cloud: NDArray[np.bool_]
    seen: NDArray[np.bool_]


def load(path: Path, label: Label) -> Scene:
    """Reads a converted scene. Normalisation is the reference's: `(bt - 270) / 22`, `reflectance - 0.5`.

    Pixels without a value have a temperature of 0 after normalisation and a reflectance of 0 before; they are not in
    `seen` and enter no loss and no metric.
    """
    import h5py

    with h5py.File(path) as file:
        bts, refs = file["bts"], file["refs"]
        channels = np.empty((*bts.shape[:2], 9), np.float32)
        channels[..., :6] = refs[:]
        channels[..., :6] -= 0.5
        channels[..., 6:] = bts[:]
        channels[..., 6:] -= 270
        channels[..., 6:] /= 22
        np.nan_to_num(channels, copy=False, posinf=0, neginf=0)
        seen = file["seen"][:, :, 0] > 0
        return Scene(str(file.attrs["product"]), bool(file.attrs["day"]), channels, label.read(file), seen)


def training_patches(field: Array) -> Array:
    """Cuts (rows, columns, ...) into (n, 256, 256, ...) patches without overlap, dropping an even border."""
    rows, columns = field.shape[0] // PATCH, field.shape[1] // PATCH
    if rows == 0 or columns == 0:
        raise ValueError(f"a scene of {field.shape[:2]} pixels is smaller than one patch of {PATCH}")
    top, left = (field.shape[0] - rows * PATCH) // 2, (field.shape[1] - columns * PATCH) // 2
    inner = field[top : top + rows * PATCH, left : left + columns * PATCH]
    blocks = inner.reshape(rows, PATCH, columns, PATCH, *field.shape[2:])
    return blocks.swapaxes(1, 2).reshape(rows * columns, PATCH, PATCH, *field.shape[2:])


def tiles(size: int, patch: int) -> int:
    """How many patches cover `size` pixels, each by its middle."""
    return -(-size // (patch - 2 * CROP))


def inference_patches(field: Array, patch: int = PATCH) -> Array:
    """Cuts (rows, columns, ...) into overlapping (n, patch, patch, ...) patches whose middles tile the scene."""
    stride = patch - 2 * CROP
    rows, columns = (tiles(size, patch) for size in field.shape[:2])
    # The scene lies in the middle, as it does in the reference.
    spare = [rows * stride - field.shape[0], columns * stride - field.shape[1]]
    padding = [(CROP + extra // 2, CROP + extra - extra // 2) for extra in spare]
    # Mirrored, since a border of zeros would be a cliff that no scene has.
    padded = np.pad(field, padding + [(0, 0)] * (field.ndim - 2), mode="symmetric")
    return np.stack(
        [
            padded[r * stride : r * stride + patch, c * stride : c * stride + patch]
            for r in range(rows)
            for c in range(columns)
        ]
    )


def assemble(patches: Array, shape: tuple[int, int]) -> Array:
    """The scene (rows, columns) whose `inference_patches` gave these answers (n, patch, patch)."""
    patch = patches.shape[1]
    stride = patch - 2 * CROP
    rows, columns = (tiles(size, patch) for size in shape)
    top, left = ((count * stride - size) // 2 for count, size in zip((rows, columns), shape, strict=True))
    middles = patches[:, CROP:-CROP, CROP:-CROP].reshape(rows, columns, stride, stride).swapaxes(1, 2)
    return middles.reshape(rows * stride, columns * stride)[top : top + shape[0], left : left + shape[1]]
