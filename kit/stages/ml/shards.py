"""Samples on disk: numbered records of one shape in a few files (.npy), which ranks read anywhere at any time.

What a record holds is the matter of the benchmark, which gives its NumPy type; memory stays bounded by the batches that
are under way, however large the files are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write(path: Path, records: NDArray[Any]) -> None:
    """Writes the records of one file, which appears whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, records)
    partial.rename(path)


class Shards:
    """The records of several files, numbered through in the order of the files.

    `counts` says how many records each file has, and `record` is their structured type: a named field for each thing that
    the network or its loss needs of a sample, with the shape of that thing.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int], record: np.dtype[Any]) -> None:
        self.paths, self.record = list(paths), record
        self.ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def fields(self) -> list[np.dtype[Any]]:
        """The type of each field, in the order of the record; its shape is `.shape`, its scalar `.base`."""
        return [self.record[name] for name in self.record.names or ()]

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Each field (n, ...) of some records, in the order of their numbers."""
        found = tuple(np.empty((len(numbers), *field.shape), field.base) for field in self.fields())
        files = np.searchsorted(self.ends, numbers, side="right")
        for number in np.unique(files):
            places = np.flatnonzero(files == number)
            first = int(self.ends[number - 1]) if number else 0
            # Mapped and let go: what was read does not pile up in the memory of the rank.
            mapped = np.load(self.paths[number], mmap_mode="r")
            for values, name in zip(found, self.record.names or (), strict=True):
                values[places] = mapped[name][numbers[places] - first]
        return found

    def batches(self, numbers: NDArray[np.int64]) -> Any:
        """A tf.data pipeline over numbers (steps, batch) that reads ahead of the step that is computed."""
        import tensorflow as tf

        def read(row: Any) -> tuple[Any, ...]:
            values = tf.numpy_function(self.read, [row], [tf.as_dtype(field.base) for field in self.fields()])
            for value, field in zip(values, self.fields(), strict=True):
                value.set_shape((None, *field.shape))
            return tuple(values)

        return tf.data.Dataset.from_tensor_slices(numbers).map(read, num_parallel_calls=1).prefetch(2)


def shares(samples: int, batch_size: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers of the samples of an epoch (ranks, steps, batch): all ranks take as many steps, no sample comes twice."""
    steps = samples // (batch_size * size)
    order = np.random.default_rng([seed, epoch]).permutation(samples)[: steps * batch_size * size]
    # A step takes the same samples, however many ranks share them.
    return order.reshape(steps, batch_size, size).transpose(2, 0, 1)
