"""The results of the ancestor as they were written: metrics.json and tables, whose every text is a stranger's.

Of a step, all that is a number is kept; nothing is run, and no link is followed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kit.core.errors import KitError
from kit.core.files import open_plain
from kit.core.schema import parse

MOST_BYTES = 16_000_000  # of one file; the ancestor's have a few kB each
MOST_COLUMNS = 1000
OCCUPANCY = re.compile(r"class_\d+_occ")  # one number for each of a hundred classes, most of them 0
METRICS = "metrics.json"
CLOUDMASK = {"train": "total_time", "infer": "total"}  # kinds of its tables, and the column that has the seconds


class Written(BaseModel):
    """What the kit reads of a foreign table; all else is left."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class WrittenStep(Written):
    name: str = Field(max_length=1000)
    duration: float = Field(ge=0)


class WrittenMetrics(Written):
    pipeline_file: str = Field(max_length=1000)
    total_duration: float = Field(ge=0)
    steps: list[WrittenStep] = Field(max_length=1000)


@dataclass
class Step:
    name: str
    seconds: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """One job; `file` is its path below the folder that was read."""

    file: str
    machine: str
    job: str
    script: str  # class2d_0, refine3d_4, ...; train, infer of CloudMask
    seconds: float
    steps: list[Step] = field(default_factory=list)
    cells: dict[str, str] = field(default_factory=dict)  # of a row of CloudMask


def names(root: Path, problems: list[str]) -> Iterator[str]:
    """Files below a folder that can hold results, by their path there; no link to a folder is followed."""

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read: {error.strerror}")

    for folder, _, files in os.walk(root, onerror=unreadable):
        for name in files:
            if name == METRICS or name.endswith(".csv"):
                yield (Path(folder) / name).relative_to(root).as_posix()


def results(root: Path, name: str) -> Iterator[Result]:
    """The results of one file. KitError where it is too large, no plain file, or not what its name says."""
    with open_plain(root, name) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise KitError(f"{root / name}: has more than {MOST_BYTES:,} bytes; no result of the ancestor is so large")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise KitError(f"{root / name}: not text (UTF-8)") from None
    if name.endswith(METRICS):
        yield of_json(root, name, text)
    else:
        yield from of_table(root, name, text)


def of_json(root: Path, name: str, text: str) -> Result:
    try:
        written = parse(WrittenMetrics, json.loads(text), root / name)
    except (ValueError, RecursionError) as error:
        raise KitError(f"{root / name}: not JSON that can be read: {error}") from None
    machine, job = place((root.absolute() / name).parent)
    steps = [Step(step.name, step.duration, numbers(step.model_extra or {})) for step in written.steps]
    return Result(name, machine, job, stem(written.pipeline_file), written.total_duration, steps)


def place(folder: Path) -> tuple[str, str]:
    """Machine and job of a folder runs/MACHINE/job_ID; the ancestor took a path for ID on one machine."""
    parts = folder.parts
    after = parts[len(parts) - parts[::-1].index("runs") :] if "runs" in parts else parts[-2:]
    machine, rest = (after[0] if after else "", "/".join(after[1:]))
    return machine, rest.partition("job_")[2] if "job_" in rest else rest


def stem(script: str) -> str:
    return Path(script).name.removesuffix(".sh").removeprefix("pipeline_")


def numbers(cells: dict[str, Any]) -> dict[str, float]:
    """The cells that are numbers, without the occupancies of classes."""
    return {key: float(cell) for key, cell in cells.items() if is_number(cell) and not OCCUPANCY.fullmatch(key)}


def is_number(cell: Any) -> bool:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return False
    try:
        return math.isfinite(cell)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def of_table(root: Path, name: str, text: str) -> Iterator[Result]:
    """The rows of a table of RELION or of CloudMask; none of another table."""
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise KitError(f"{root / name}: not CSV: {error}") from None
    head = rows[0] if rows else []
    if len(head) > MOST_COLUMNS:
        raise KitError(f"{root / name}: has {len(head)} columns; no table of the ancestor has more than {MOST_COLUMNS}")
    kind = next((kind for kind, column in CLOUDMASK.items() if column in head and "num_ranks" in head), None)
    for number, row in enumerate(rows[1:], 2):
        where = f"{root / name}: line {number}"
        if len(row) != len(head):
            raise KitError(f"{where}: has {len(row)} cells, where the head has {len(head)}")
        cells = dict(zip(reversed(head), reversed(row), strict=True))  # of columns with one name, the first
        if "total_duration" in cells:
            yield relion_row(name, head, row, cells, where)
        elif kind:
            seconds = seconds_of(cells, CLOUDMASK[kind], where)
            yield Result(name, (root.absolute() / name).parent.name, cells.get("index", ""), kind, seconds, cells=cells)


def relion_row(name: str, head: list[str], row: list[str], cells: dict[str, str], where: str) -> Result:
    """A row whose columns are `STEP duration` and `STEP VALUE`, in the order of the steps."""
    steps = []
    for column, cell in zip(head, row, strict=True):
        step, mark, _ = column.rpartition(" duration")
        seconds = as_number(cell)
        if mark and seconds is not None:
            found = {key.removeprefix(f"{step} "): as_number(cells[key]) for key in cells if key.startswith(f"{step} ")}
            steps.append(Step(step, seconds, numbers({key: value for key, value in found.items() if key != "duration"})))
    machine = cells.get("machine") or Path(name).name.partition("_")[0]
    script = stem(cells.get("pipeline_file", ""))
    return Result(name, machine, cells.get("job_id", ""), script, seconds_of(cells, "total_duration", where), steps)


def as_number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def seconds_of(cells: dict[str, str], column: str, where: str) -> float:
    value = as_number(cells.get(column, ""))
    if value is None or value < 0:
        raise KitError(f"{where}: column '{column}': a number of 0 or more is needed, got {cells.get(column, '')[:100]!r}")
    return value
