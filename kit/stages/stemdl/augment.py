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
    found = images.copy()
    side = images.shape[1]
    axis = np.arange(side) - side // 2
    for image in found:
        if how.zoom:
            places = np.rint(axis / (1 + rng.uniform(-how.zoom, how.zoom))).astype(int) + side // 2
            inside = (places >= 0) & (places < side)
            places = np.clip(places, 0, side - 1)
            # What lies outside of the pattern is dark.
            image[...] = np.where(np.outer(inside, inside)[..., None], image[places][:, places], 0)
        if how.mirror:
            for projection in range(3):
                for turned in (image[..., projection], image[..., projection].T):
                    if rng.integers(2):
                        # About the middle pixel: the first row of an even number has no mirror image, and stays.
                        turned[1:] = turned[:0:-1].copy()
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

    def batches(self, numbers: NDArray[np.int64]) -> Any:
        import tensorflow as tf

        def read(row: Any) -> tuple[Any, ...]:
            values = tf.numpy_function(self.read_changed, [row], [tf.as_dtype(field.base) for field in self.fields()])
            for value, field in zip(values, self.fields(), strict=True):
                value.set_shape((None, *field.shape))
            return tuple(values)

        return tf.data.Dataset.from_tensor_slices(numbers).map(read, num_parallel_calls=1).prefetch(2)
