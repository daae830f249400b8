"""Samples on disk: numbered records of one shape in a few files (.npy), which ranks read anywhere at any time.

What a record holds is the matter of the benchmark, which gives its NumPy type; memory stays bounded by the batches that
are under way, however large the files are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        self.headers: dict[int, dict[str, Any]] = {}

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
            rows = numbers[places] - (int(self.ends[number - 1]) if number else 0)
            path, head = self.paths[number], self.header(int(number))
            kind, offset = head["dtype"], head["offset"]
            if len(rows) == 1:  # as in most batches; a fifth of what mapping the file takes
                chosen = np.fromfile(path, kind, 1, offset=offset + int(rows[0]) * kind.itemsize)
            else:
                # Mapped and let go: what was read does not pile up in the memory of the rank.
                chosen = np.memmap(path, mode="r", **head)
            for values, name in zip(found, self.record.names or (), strict=True):
                values[places] = chosen[name] if len(rows) == 1 else chosen[name][rows]
        return found

    def header(self, number: int) -> dict[str, Any]:
        """What the head of a file says of its records. Read once: it takes longer than a record."""
        if number not in self.headers:
            mapped = np.load(self.paths[number], mmap_mode="r")
            self.headers[number] = {"dtype": mapped.dtype, "shape": mapped.shape, "offset": mapped.offset}
        return self.headers[number]

    def batches(self, numbers: NDArray[np.int64]) -> Any:
        """A tf.data pipeline over numbers (steps, batch) that reads ahead of the step that is computed."""
        return self.ahead(numbers, self.read)

    def ahead(self, numbers: NDArray[np.int64], read: Callable[[NDArray[np.int64]], tuple[NDArray[Any], ...]]) -> Any:
        """A pipeline over what `read` makes of each row of numbers.

        What is read depends on the numbers alone, which TensorFlow is told: of what it takes for a function with a state it
        reads nothing ahead where operations are to be deterministic. The threads are the pipeline's own, since those of the
        process may all be busy with the step.
        """
        import tensorflow as tf

        def fields(row: Any) -> tuple[Any, ...]:
            kinds = [tf.as_dtype(field.base) for field in self.fields()]
            values = tf.numpy_function(read, [row], kinds, stateful=False)
            for value, field in zip(values, self.fields(), strict=True):
                value.set_shape((None, *field.shape))
            return tuple(values)

        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.experimental_warm_start = True  # reads from when it is made, not from the first batch that is asked for
        return (
            tf.data.Dataset.from_tensor_slices(numbers).map(fields, num_parallel_calls=1).prefetch(4).with_options(options)
        )


def shares(samples: int, batch_size: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers of the samples of an epoch (ranks, steps, batch): all ranks take as many steps, no sample comes twice."""
    steps = samples // (batch_size * size)
    order = np.random.default_rng([seed, epoch]).permutation(samples)[: steps * batch_size * size]
    # A step takes the same samples, however many ranks share them.
    return order.reshape(steps, batch_size, size).transpose(2, 0, 1)
