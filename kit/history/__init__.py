"""What was measured before: the tables that the authors of the benchmarks published, and the results of the ancestor.

The tables stand beside each benchmark, in references/*.csv, with every cell as it was printed: an empty one was empty, and
what was unknown to its author stays unknown. Numbers are read out of the cells here.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from kit.benchmark import load_benchmark
from kit.core import paths
from kit.core.errors import KitError

# The times of the tables: "27:17" is hours and minutes, as their head says; the others name their units.
SHORT = re.compile(r"(\d+):(\d\d)")
LONG = re.compile(r"(?:(\d+)h:)?(?:(\d+)m:)?(\d+)s")


@dataclass(frozen=True)
class Reference:
    """One published time of one job; texts as printed."""

    job: str
    work: str  # what the job did: Class2D, Refine3D, ...
    binary: str  # basic or accelerated, the builds of RELION
    hardware: str  # processors, or names of nodes
    layout: str  # MPI tasks / threads / GPUs
    nodes: str
    pool: str  # particles that a rank takes at a time
    runtime: str
    change: str  # what differs from the row before
    produced: str  # data that the job wrote
    notes: str
    source: str

    @property
    def seconds(self) -> int | None:
        """The time as a number; None where none was measured to the end ("2 days (timeout)", "Est. 6 days")."""
        short, long = SHORT.fullmatch(self.runtime), LONG.fullmatch(self.runtime)
        if short:
            return int(short[1]) * 3600 + int(short[2]) * 60
        if long:
            return int(long[1] or 0) * 3600 + int(long[2] or 0) * 60 + int(long[3])
        return None

    @property
    def tasks(self) -> int | None:
        return self.part(0)

    @property
    def threads(self) -> int | None:
        return self.part(1)

    @property
    def gpus(self) -> int | None:
        return self.part(2)

    def part(self, index: int) -> int | None:
        """A number of the layout; None where it was not given."""
        numbers = re.findall(r"\d+", self.layout)
        return int(numbers[index]) if index < len(numbers) else None


@dataclass(frozen=True)
class Classes:
    """The shares of the particles in each class of one job."""

    job: str
    binary: str
    hardware: str
    class_1: str
    class_2: str
    class_3: str
    class_4: str
    source: str

    @property
    def shares(self) -> list[float]:
        return [float(text) for text in (self.class_1, self.class_2, self.class_3, self.class_4)]


@dataclass(frozen=True)
class DataSize:
    """How large a set of data is, with its unit."""

    dataset: str
    what: str
    size: str
    source: str


Row = TypeVar("Row", Reference, Classes, DataSize)


def references(benchmark: str) -> list[Reference]:
    """The published times of a benchmark's jobs, in the order of their tables; none for a benchmark without."""
    return rows(benchmark, "times", Reference)


def classes(benchmark: str) -> list[Classes]:
    """The published distributions of particles over classes."""
    return rows(benchmark, "classes", Classes)


def data_sizes(benchmark: str) -> list[DataSize]:
    """The published sizes of a benchmark's data."""
    return rows(benchmark, "sizes", DataSize)


def rows(benchmark: str, table: str, kind: type[Row]) -> list[Row]:
    """The rows of a table beside a benchmark; KitError for an unknown benchmark, and for a table of other columns."""
    path = paths.PACKAGE / "benchmarks" / load_benchmark(benchmark).name / "references" / f"{table}.csv"
    return read(path, kind) if path.is_file() else []


def read(path: Path, kind: type[Row]) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = [field.name for field in fields(kind)]
        if reader.fieldnames != names:
            raise KitError(f"{path}: the columns {','.join(names)} are needed, got {','.join(reader.fieldnames or [])}")
        return [kind(**row) for row in reader]
