"""Samples on disk: numbered records of one shape in a few files (.npy), which ranks read anywhere at any time.

What a record holds is the matter of the benchmark, which gives its NumPy type; memory stays bounded by the batches that
are under way, however large the files are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AHEAD = 4  # batches


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
        self.headers: dict[int, tuple[np.dtype[Any], int]] = {}

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def fields(self) -> list[np.dtype[Any]]:
        """The type of each field, in the order of the record; its shape is `.shape`, its scalar `.base`."""
        return [self.record[name] for name in self.record.names or ()]

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Each field (n, ...) of some records, in the order of their numbers.

        Raises ValueError for a file that is shorter than its head says, or whose records lack a field of `record` or have
        it in another type.
        """
        found = tuple(np.empty((len(numbers), *field.shape), field.base) for field in self.fields())
        files = np.searchsorted(self.ends, numbers, side="right")
        for number in np.unique(files):
            path, (kind, start) = self.paths[number], self.header(int(number))
            first = int(self.ends[number - 1]) if number else 0
            # Read and not mapped: nothing piles up in the memory of the rank, and mapping takes longer than some records.
            with path.open("rb", buffering=0) as file:
                for place in np.flatnonzero(files == number).tolist():
                    row = int(numbers[place]) - first
                    for values, name in zip(found, self.record.names or (), strict=True):
                        wanted = values[place : place + 1]
                        there = start + row * kind.itemsize + int(kind.fields[name][1])  # type: ignore[index]
                        if os.preadv(file.fileno(), [wanted.data], there) < wanted.nbytes:
                            raise ValueError(f"{path}: ends in record {row}; run the stage prepare again")
        return found

    def header(self, number: int) -> tuple[np.dtype[Any], int]:
        """What the head of a file says of its records: their type, and where the first one begins. Read once."""
        if number not in self.headers:
            try:
                mapped = np.load(self.paths[number], mmap_mode="r")
            except (ValueError, EOFError) as error:  # cut off, or no array
                raise ValueError(f"{self.paths[number]}: {error}; run the stage prepare again") from error
            kind = mapped.dtype
            if any(name not in (kind.names or ()) or kind[name] != self.record[name] for name in self.record.names or ()):
                raise ValueError(f"{self.paths[number]}: holds {kind}, not {self.record}; run the stage prepare again")
            self.headers[number] = kind, mapped.offset
        return self.headers[number]

    def batches(self, numbers: NDArray[np.int64]) -> Iterator[tuple[Any, ...]]:
        """The records of each row of numbers (steps, batch) as tensors, read ahead of the step that is computed."""
        return self.ahead(numbers, self.read)

    def ahead(
        self, numbers: NDArray[np.int64], read: Callable[[NDArray[np.int64]], tuple[NDArray[Any], ...]]
    ) -> Iterator[tuple[Any, ...]]:
        """What `read` makes of each row of numbers, as tensors, in order; a thread reads from now on, a few rows ahead.

        A pipeline of tf.data does the same, but hands a batch over through threads that the step keeps busy: each step
        waited 1 to 2 ms for it, however small the batch was.
        """
        import tensorflow as tf

        def tensors(row: NDArray[np.int64]) -> tuple[Any, ...]:
            return tuple(map(tf.constant, read(row)))

        pool = ThreadPoolExecutor(1)
        rows = iter(numbers)
        coming = deque(pool.submit(tensors, row) for row in islice(rows, AHEAD))

        def batches() -> Iterator[tuple[Any, ...]]:
            try:
                while coming:
                    batch = coming.popleft().result()
                    coming.extend(pool.submit(tensors, row) for row in islice(rows, 1))
                    yield batch
            finally:
                pool.shutdown(cancel_futures=True)

        return batches()


def shares(samples: int, batch_size: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers of the samples of an epoch (ranks, steps, batch): all ranks take as many steps, no sample comes twice."""
    steps = samples // (batch_size * size)
    order = np.random.default_rng([seed, epoch]).permutation(samples)[: steps * batch_size * size]
    # A step takes the same samples, however many ranks share them.
    return order.reshape(steps, batch_size, size).transpose(2, 0, 1)
