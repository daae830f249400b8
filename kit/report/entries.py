"""What a page shows of a result: its records as they lie on disk, and whether they may be ranked.

A folder is a run directory, or a submission of one run or several repeats. Of a stranger's folder only plain files of
bounded size are read, and no folder can stop a page from being made: what cannot be read is shown, with the reason.
"""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kit.benchmark import Benchmark
from kit.core.checksums import SUMS
from kit.core.errors import KitError
from kit.core.files import open_plain, read_json
from kit.core.schema import M, parse, shortened
from kit.runs.record import FILE, Run
from kit.site import Site
from kit.submissions.layout import MEGABYTE, is_trial

# In the order of what speaks against a result; only `valid` is held against others.
Status = Literal["valid", "oversubscribed", "trial", "invalid", "refused", "not checked"]
MEANING: dict[Status, str] = {
    "valid": "may be ranked, and is held against the others",
    "oversubscribed": "valid, with more threads than cores: it shows that the work can be done, and no speed",
    "trial": "made to try the kit, and handed in by nobody",
    "invalid": "the run is no valid result",
    "refused": "the check refuses the folder",
    "not checked": "nobody has checked the folder",
}
RECORD = 4 * MEGABYTE  # the most that run.json or benchmark.json may have
REASONS = 5  # of a status, that are shown


@dataclass(frozen=True)
class Entry:
    """A result, or a folder that claims to be one. Without `run` nothing in it could be read."""

    folder: Path
    place: tuple[str, ...]  # organisation, application, system, descriptor; empty for a run directory
    runs: tuple[Run, ...]
    benchmark: Benchmark | None
    cores: int  # of a node, that threads may use; 0: unknown
    status: Status
    reasons: tuple[str, ...] = ()

    @property
    def run(self) -> Run | None:
        return self.runs[0] if self.runs else None

    @property
    def title(self) -> str:
        return " / ".join(self.place) if self.place else self.folder.name

    @property
    def root(self) -> Path:
        """Where the files of its first run lie."""
        return self.folder / "run" if self.place else self.folder

    @property
    def work(self) -> tuple[str, str]:
        """Benchmark and size: what it can be held against."""
        return (self.run.benchmark, self.run.work) if self.run else ("", "")

    @property
    def nodes(self) -> int:
        return size.nodes if self.benchmark and self.run and (size := self.benchmark.sizes.get(self.run.size)) else 0

    @property
    def seconds(self) -> float | None:
        """The time to the result, in seconds: the median of its runs; None where one of them does not say."""
        found = [seconds(run) for run in self.runs]
        known = [value for value in found if value is not None]
        return statistics.median(known) if known and len(known) == len(found) else None

    @property
    def used_cores(self) -> int:
        """Cores that threads of the run had, on all nodes: what a time is drawn over."""
        if self.run is None:
            return 0
        threads = self.run.ranks * self.run.threads
        return min(threads, self.cores * self.nodes) if self.cores and self.nodes else threads

    def metric(self, name: str) -> float | None:
        """The median of a metric over the runs; None where a run has it not."""
        values = [metric.value for run in self.runs for metric in run.metrics if metric.name == name]
        return statistics.median(values) if values and len(values) == len(self.runs) else None


def seconds(run: Run) -> float | None:
    """The wall time of all attempts at the stages of a run, failed ones too; None where one was cut off and left no end."""
    spans = [stage.seconds for stage in run.stages if stage.timed]
    whole = [span for span in spans if span is not None]
    total = sum(whole)
    return total if whole and len(whole) == len(spans) and math.isfinite(total) and total > 0 else None


def record(folder: Path, name: str, model: type[M]) -> M:
    """A JSON file of a folder as a model; KitError where it is no plain file, too large, or something else."""
    with open_plain(folder, name) as file:
        if os.fstat(file.fileno()).st_size > RECORD:
            raise KitError(f"{folder / name}: has more than {RECORD} bytes, and is not read")
    return parse(model, read_json(folder / name), folder / name)


def is_submission(folder: Path) -> bool:
    return os.path.lexists(folder / SUMS)


def load(folder: Path, refused: Iterable[str] | None = ()) -> Entry:
    """The result in a folder. `refused` is why its check refuses it, empty if it accepts it, None if nobody has checked it.

    Never fails on what is in the folder: an entry without a run says what cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    place = folder.parts[-4:] if is_submission(folder) else ()
    try:
        runs = tuple(records(folder) if place else [record(folder, FILE, Run)])
        root = folder / "run" if place else folder
        benchmark, site = record(root, "benchmark.json", Benchmark), record(root, "site.json", Site)
    except KitError as error:
        text = str(error).replace(f"{folder}/", "")
        return Entry(folder, place, (), None, 0, "refused", shown([*(refused or ()), *text.splitlines()]))
    except Exception as error:  # a stranger may have written anything
        return Entry(folder, place, (), None, 0, "refused", (f"cannot be read: {shortened(error)}",))
    run = runs[0]
    partition = site.partitions.get(run.partition)
    cores = (partition.usable_cores if partition else 0) or (run.rendering.cores if run.rendering else 0)
    entry = Entry(folder, place, runs, benchmark, cores, "valid")
    status, reasons = judged(entry, None if refused is None else list(refused))
    return Entry(folder, place, runs, benchmark, cores, status, shown(reasons))


def records(folder: Path) -> list[Run]:
    """The runs of a submission: its first, and its repeats in the order of their numbers."""
    numbers = sorted(
        int(entry.name.removeprefix("repeat-"))
        for entry in os.scandir(folder)
        if re.fullmatch(r"repeat-[1-9][0-9]{0,2}", entry.name)
    )
    return [record(folder, FILE, Run), *(record(folder, f"repeat-{number}/{FILE}", Run) for number in numbers)]


def shown(reasons: Iterable[str]) -> tuple[str, ...]:
    """The first reasons, each cut short, and how many more there are."""
    found = [reason if len(reason) <= 300 else f"{reason[:300]}..." for reason in reasons]
    more = [f"and {len(found) - REASONS} more"] if len(found) > REASONS else []
    return (*found[:REASONS], *more)


def judged(entry: Entry, refused: list[str] | None) -> tuple[Status, list[str]]:
    """The status of a result whose records could be read, and the reasons where it is not ranked."""
    if refused:
        return "refused", refused
    bad = [f"{run.state}" for run in entry.runs if run.state.name != "valid"]
    bad += [f"measures how {run.benchmark} scales, and is no result of it" for run in entry.runs if run.scaling]
    if bad:
        return "invalid", bad
    if entry.place and is_trial(entry.place[0]):
        return "trial", [f"handed in under the name {entry.place[0]}"]
    if refused is None:
        return "not checked", ["kit submission check has given no verdict on it"]
    crowded = oversubscribed(entry)
    if crowded:
        return "oversubscribed", [crowded]
    if entry.seconds is None:
        return "invalid", ["a stage was cut off and left no end, so nobody knows how long the run took"]
    return "valid", []


def oversubscribed(entry: Entry) -> str:
    """How a run had more threads than cores, as a sentence; empty where it had not, or nobody knows.

    By its placement, and by what a training says of itself (kit/stages/ml/train.py), which knows of shared GPUs too.
    """
    run = entry.run
    if run is None:
        return ""
    ranks = entry.benchmark.working(run.ranks) if entry.benchmark else run.ranks
    threads = math.ceil(ranks / max(1, entry.nodes)) * run.threads
    if entry.cores and threads > entry.cores:
        return f"{threads} threads on a node of {entry.cores} cores"
    for name in sorted({metric.file for metric in run.metrics if Path(metric.file).name == "train.json"}):
        if said(entry.root, name).get("oversubscribed") is True:
            return f"{name} says that its ranks shared cores or GPUs"
    return ""


def said(root: Path, name: str) -> Mapping[str, Any]:
    """What a JSON file of a run says; nothing where it cannot be read."""
    try:
        with open_plain(root, name) as file:
            if os.fstat(file.fileno()).st_size > RECORD:
                return {}
        found = read_json(root / name)
    except KitError:
        return {}
    return found if isinstance(found, dict) else {}


def group(entries: Iterable[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Entries by benchmark and size, in the order of their names; what could not be read comes last, under empty names."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.work, []).append(entry)
    return dict(sorted(groups.items(), key=lambda one: (not one[0][0], one[0])))


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that may be ranked, the quickest first; equal times in the order of their names."""
    return sorted((entry for entry in entries if entry.status == "valid"), key=lambda e: (e.seconds or 0.0, e.place))
