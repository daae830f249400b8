"""Scenes as the network sees them: normalised channels, labels, and the patches they are cut into.

Geometry is that of the reference: training drops a border so that whole patches of 256 fit, without overlap; inference
pads, cuts patches of 256 every 176 pixels, keeps the middle 176 of each answer, and lays them side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

PATCH = 256
CROP = 40  # pixels of each side of an answer that are thrown away
STRIDE = PATCH - 2 * CROP


class Scene(NamedTuple):
    """One converted scene: channels (rows, columns, 9), label and seen (rows, columns) of 0 and 1."""

    name: str
    day: bool
    channels: Array
    label: NDArray[np.uint8]
    seen: NDArray[np.uint8]


def load(path: Path) -> Scene:
    """Reads a converted scene. Normalisation is the reference's: `(bt - 270) / 22`, `reflectance - 0.5`.

    Pixels without a value become 0 after normalisation; they are marked in `seen` and enter no loss and no metric.
    """
    import h5py

    with h5py.File(path) as file:
        bts = (file["bts"][:] - 270) / 22
        refs = file["refs"][:] - 0.5
        channels = np.nan_to_num(np.concatenate([refs, bts], axis=-1)).astype(np.float32)
        return Scene(
            str(file.attrs["product"]), bool(file.attrs["day"]), channels, file["bayes"][:, :, 0], file["seen"][:, :, 0]
        )


def training_patches(field: Array) -> Array:
    """Cuts (rows, columns, ...) into (n, 256, 256, ...) patches without overlap, dropping an even border."""
    rows, columns = field.shape[0] // PATCH, field.shape[1] // PATCH
    if rows == 0 or columns == 0:
        raise ValueError(f"a scene of {field.shape[:2]} pixels is smaller than one patch of {PATCH}")
    top, left = (field.shape[0] - rows * PATCH) // 2, (field.shape[1] - columns * PATCH) // 2
    inner = field[top : top + rows * PATCH, left : left + columns * PATCH]
    blocks = inner.reshape(rows, PATCH, columns, PATCH, *field.shape[2:])
    return blocks.swapaxes(1, 2).reshape(rows * columns, PATCH, PATCH, *field.shape[2:])


def inference_patches(field: Array) -> Array:
    """Cuts (rows, columns, ...) into overlapping (n, 256, 256, ...) patches whose middles tile the scene."""
    rows, columns = (-(-size // STRIDE) for size in field.shape[:2])
    padding = [(CROP, rows * STRIDE - field.shape[0] + CROP), (CROP, columns * STRIDE - field.shape[1] + CROP)]
    # Mirrored, since a border of zeros would be a cliff that no scene has.
    padded = np.pad(field, padding + [(0, 0)] * (field.ndim - 2), mode="symmetric")
    return np.stack(
        [
            padded[r * STRIDE : r * STRIDE + PATCH, c * STRIDE : c * STRIDE + PATCH]
            for r in range(rows)
            for c in range(columns)
        ]
    )


def assemble(patches: Array, shape: tuple[int, int]) -> Array:
    """The scene (rows, columns) whose `inference_patches` gave these answers (n, 256, 256)."""
    rows, columns = (-(-size // STRIDE) for size in shape)
    middles = patches[:, CROP:-CROP, CROP:-CROP]
    tiles = middles.reshape(rows, columns, STRIDE, STRIDE).swapaxes(1, 2)
    return tiles.reshape(rows * STRIDE, columns * STRIDE)[: shape[0], : shape[1]]
