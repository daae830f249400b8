"""Stacks that are changed each time they are trained on, so that a network does not know its few crystals by heart.

    mirror   each projection is mirrored across, down, both or not: patterns of the mirror image of the crystal, or of
             the crystal turned by 180 degrees. The class stays only where enantiomorphs are one.
    zoom     the stack is enlarged or made smaller by up to this share, about its middle: another lattice constant
    erase    with this chance a rectangle of a fiftieth to a third of the area is blank: random erasing (Zhong et al. 2017,
             arXiv 1708.04896), which the reference (at-aaims/stemdl-benchmark) does with a chance of 0.8

What is drawn follows from the seed and the numbers of the samples in the batch, which are others in each epoch: a
training that was cut off goes on with the same changes. Reading by `read`, as validation does, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.stemdl.shards import Shards

ERASED = (0.02, 0.33)  # share of the area


class Augment(NamedTuple):
    """How stacks are changed; nothing by default."""

    mirror: bool = False
    zoom: float = 0.0
    erase: float = 0.0

    def checked(self, merge: str) -> Augment:
        """Itself; ValueError for shares that are none, and for mirrors where the two hands are different classes."""
        if not 0 <= self.zoom < 0.5 or not 0 <= self.erase <= 1:
            raise ValueError(f"--zoom {self.zoom} --erase {self.erase}: shares are needed, of zoom below 0.5")
        if self.mirror and merge != "enantiomorphs":
            raise ValueError("--mirror makes the other hand of a crystal: prepare needs --merge enantiomorphs for it")
        return self


def changed(images: NDArray[Any], how: Augment, rng: np.random.Generator) -> NDArray[Any]:
    """Images (n, side, side, 3), each changed on its own."""
    number, side = images.shape[:2]
    middle = side // 2
    axis = np.arange(side) - middle
    # Where each row and column of each projection comes from: (n, 2, 3, side).
    factors = 1 + rng.uniform(-how.zoom, how.zoom, (number, 1))
    places = np.broadcast_to(np.rint(axis / factors).astype(int)[:, None, None], (number, 2, 3, side))
    if how.mirror:
        # About the middle pixel: the first row of an even number has no mirror image, and stays.
        turned = np.concatenate([places[..., :1], places[..., :0:-1]], axis=-1)
        places = np.where(rng.integers(2, size=(number, 2, 3, 1)) == 1, turned, places)
    places = places + middle
    # Where each value comes from, counted through all images. What lies outside of the pattern is dark: its place is beyond
    # the end, where a zero is. One projection at a time: with them as the innermost axis, adding takes five times as long.
    rows, columns = np.where((places >= 0) & (places < side), places, images.size).transpose(1, 2, 0, 3)  # (3, n, side)
    first = side**2 * np.arange(number)[:, None]
    values = np.append(images.reshape(-1), images.dtype.type(0))
    found = np.empty_like(images)
    for projection in range(3):
        row, column = 3 * (first + side * rows[projection]), 3 * columns[projection] + projection
        found[..., projection] = values.take(row[:, :, None] + column[:, None], mode="clip")
    for image in found:
        if rng.random() < how.erase:
            area = rng.uniform(*ERASED) * side**2
            high = int(np.clip(np.sqrt(area * np.exp(rng.uniform(-1, 1))), 1, side))
            wide = int(np.clip(area / high, 1, side))
            top, left = rng.integers(0, side - high + 1), rng.integers(0, side - wide + 1)
            image[top : top + high, left : left + wide] = 0
    return found


class Changing(Shards):
    """The samples of a split whose first field, the image, is changed wherever batches are trained on."""

    def __init__(self, folder: Path, split: str, *fields: str, how: Augment, seed: int) -> None:
        super().__init__(folder, split, *fields)
        self.how, self.seed = how.checked(self.listing["merge"]), seed

    def read_changed(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        images, *others = self.read(numbers)
        return (changed(images, self.how, np.random.default_rng([self.seed, *numbers.tolist()])), *others)

    def batches(self, numbers: NDArray[np.int64]) -> Iterator[tuple[Any, ...]]:
        return self.ahead(numbers, self.read_changed)
