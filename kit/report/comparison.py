"""`kit report RUN...`: one page that holds some results against each other."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.files import write_atomic
from kit.report.differences import change, differing
from kit.report.entries import MEANING, Entry, group, is_submission, load, said
from kit.report.figures import Figure, figures
from kit.report.page import Cell, Table, cell, duration, rendered, shown
from kit.report.plots import Plot, plots
from kit.report.verdicts import verdict
from kit.runs.record import FILE, need_run
from kit.training.scaling import FILE as POINTS

DOCTYPE = b"<!doctype html>"  # in lower case; the case does not matter in HTML


@dataclass(frozen=True)
class Section:
    """The results of one benchmark and size, held against each other."""

    title: str
    tables: list[Table]
    plots: list[Plot]
    results: list[Result]


@dataclass(frozen=True)
class Result:
    """All that is shown of one result."""

    title: str
    entry: Entry
    tables: list[Table]
    figures: list[Figure]

    @property
    def meaning(self) -> str:
        return MEANING[self.entry.status]


def report(folders: Sequence[Path], to: Path) -> Path:
    """Writes the page over run directories and submissions; KitError for a folder that is neither.

    In place of a page that was there; KitError where anything else is.
    """
    if to.is_dir():
        raise KitError(f"{to}: a folder; name a file, such as {to / 'report.html'}")
    if os.path.lexists(to) and not (to.is_file() and is_page(to)):
        raise KitError(f"{to}: exists, and is no HTML page; name another file, or remove this one first")
    for folder in folders:
        if not is_submission(folder):
            need_run(folder)
    entries = [load(folder, verdict(folder) if is_submission(folder) else ()) for folder in folders]
    for folder, entry in zip(folders, entries, strict=True):
        if not entry.place and entry.run is None:
            raise KitError(f"{folder / FILE}: {'; '.join(entry.reasons)}")
    sections = [section(f"g{number}", found) for number, found in enumerate(group(entries).values(), start=1)]
    if not to.parent.is_dir():
        raise KitError(f"{to}: cannot be written, {to.parent} is no folder")
    write_atomic(to, rendered("report.html.j2", title="Comparison of results", sections=sections))
    return to


def is_page(path: Path) -> bool:
    """Whether a file begins as the pages of the kit do."""
    with path.open("rb") as file:
        return file.read(len(DOCTYPE)).lower() == DOCTYPE


def section(name: str, entries: list[Entry]) -> Section:
    benchmark, work = entries[0].work
    if not benchmark:
        return Section("Folders that cannot be read", [], [], [result(entry.title, entry) for entry in entries])
    tables = [overview(entries)]
    if len(entries) > 1:
        tables += [table for table in (differences(entries), metrics(entries)) if table.rows]
    tables += [table for table in [references(benchmark)] if table.rows]
    results = [result(f"{number}: {entry.title}", entry) for number, entry in enumerate(entries, start=1)]
    return Section(f"{benchmark}, size {work}", tables, plots(name, entries), results)


def overview(entries: Sequence[Entry]) -> Table:
    """The results as the tables of benchmark reports have them: what ran where, how long, and what was changed."""
    first, rows = entries[0].seconds, []
    for number, entry in enumerate(entries, start=1):
        run = entry.run
        assert run
        ratio = first / entry.seconds if first and entry.seconds else None
        rows.append(
            [
                cell(number),
                cell(entry.title),
                status(entry),
                cell(f"{run.image.name} {run.image.version}"),
                cell(run.system.get("host_processor_model_name")),
                cell(entry.nodes or None),
                cell(run.ranks),
                cell(run.threads),
                duration(entry.seconds),
                cell(ratio),
                cell(change(entries[number - 2], entry) if number > 1 else None),
            ]
        )
    columns = ("no.#", "result", "status", "binary", "CPU", "nodes#", "ranks#", "threads#", "time#", "speed-up#", "change")
    return Table("Results, each with what it has otherwise than the one above it", columns, rows, filtered=True)


def status(entry: Entry) -> Cell:
    return cell(entry.status, kind=f"status {entry.status.replace(' ', '-')}")


def differences(entries: Sequence[Entry]) -> Table:
    heads = tuple(str(number) for number in range(1, len(entries) + 1))
    rows = [[cell(name), *map(cell, values)] for name, values in differing(entries).items()]
    return Table("What differs, parameter by parameter", ("parameter", *heads), rows)


def metrics(entries: Sequence[Entry]) -> Table:
    """Every metric that one of the results has."""
    found = {metric.name: metric for entry in entries for run in entry.runs for metric in run.metrics}
    heads = tuple(f"{number}#" for number in range(1, len(entries) + 1))
    rows = [
        [
            cell(name),
            cell(metric.shown_unit),
            cell(better(metric.direction)),
            *(cell(entry.metric(name)) for entry in entries),
        ]
        for name, metric in found.items()
    ]
    return Table("Metrics, the median where a result has several runs", ("metric", "unit", "better", *heads), rows)


def better(direction: str) -> str:
    return "" if direction == "none" else direction


# Of a published result (kit.history.Reference): the columns, and the fields that they show, as printed.
PUBLISHED = {
    "job": "job",
    "work": "work",
    "binary": "binary",
    "hardware": "hardware",
    "tasks / threads / GPUs": "layout",
    "nodes": "nodes",
    "pool": "pool",
    "runtime": "runtime",
    "change": "change",
    "source": "source",
}


def references(benchmark: str) -> Table:
    """Results that others have published, where the kit knows some of this benchmark."""
    try:
        known: list[Any] = importlib.import_module("kit.history").references(benchmark)
    except (ImportError, AttributeError, KitError):
        known = []
    rows = [[cell(getattr(row, field, None)) for field in PUBLISHED.values()] for row in known]
    return Table(
        "Published results, as their sources print them: of other data, and not to be ranked with these",
        tuple(PUBLISHED),
        rows,
    )


def result(title: str, entry: Entry) -> Result:
    """All that is shown of a result: its metrics with their limits, its stages, its setting and its pictures."""
    run = entry.run
    if run is None:
        return Result(title, entry, [], [])
    setting = [
        ("image", f"{run.image.name} {run.image.version}"),
        ("image digest", run.image.digest or "none: it ran outside a container"),
        ("processor", run.system.get("host_processor_model_name")),
        ("nodes", entry.nodes or None),
        ("cores of a node", entry.cores or None),
        ("ranks", run.ranks),
        ("threads of a rank", run.threads),
        ("seed", ", ".join(str(run.seed) for run in entry.runs if run.seed is not None)),
        ("changed parameters", run.changed or "none"),
        ("site", f"{run.site}, partition {run.partition}"),
        ("data", run.data),
        ("asked for", f"{run.created:%Y-%m-%d %H:%M} UTC"),
        ("kit", f"{run.kit}, commit {run.commit}"),
    ]
    tables = [judged(entry), stages(entry), Table("Setting", ("fact", "value"), [[cell(k), cell(v)] for k, v in setting])]
    if len(entry.runs) > 1:
        tables.insert(1, repeats(entry))
    if run.scaling:
        tables.insert(0, points(entry))
    return Result(title, entry, [table for table in tables if table.rows], figures(entry.root))


def judged(entry: Entry) -> Table:
    run = entry.run
    assert run
    rows = []
    for metric in run.metrics:
        limit = ""
        if metric.at_least is not None:
            limit = f"at least {shown(metric.at_least)}"
        elif metric.at_most is not None:
            limit = f"at most {shown(metric.at_most)}"
        elif metric.reference is not None:
            limit = shown(metric.reference) + (f" ± {shown(metric.tolerance)}" if metric.tolerance is not None else "")
        rows.append(
            [
                cell(metric.name),
                cell(metric.value),
                cell(metric.shown_unit),
                cell(better(metric.direction)),
                cell(limit),
                cell("missed" if metric.problem else limit and "passed", kind="status invalid" if metric.problem else ""),
                cell(metric.source),
            ]
        )
    columns = ("metric", "value#", "unit", "better", "must be", "verdict", "source of the limit")
    return Table("Metrics", columns, rows)


def stages(entry: Entry) -> Table:
    run = entry.run
    assert run
    rows = [
        [cell(stage.name), duration(stage.seconds), cell(stage.host), cell(stage.exit_code), cell(stage.reason)]
        for stage in run.stages
        if stage.timed
    ]
    return Table("Stages, every attempt", ("stage", "time#", "node", "exit code#", "reason"), rows)


def repeats(entry: Entry) -> Table:
    """Each run of a submission of several: its seed, its time and its first metric."""
    first = entry.runs[0].metrics[0].name if entry.runs[0].metrics else ""
    rows = []
    for number, run in enumerate(entry.runs, start=1):
        alone = Entry(entry.folder, entry.place, (run,), entry.benchmark, entry.cores, entry.status)
        rows.append([cell(number), cell(run.seed), duration(alone.seconds), cell(alone.metric(first))])
    return Table("Runs of this result", ("no.#", "seed#", "time#", f"{first}#"), rows)


def points(entry: Entry) -> Table:
    """The points of a scaling measurement, from what its report left."""
    rows = []
    found = said(entry.root, POINTS)
    for kind in ("strong", "weak"):
        curve = found.get(kind)
        for point in curve.values() if isinstance(curve, dict) else ():
            if isinstance(point, dict):
                numbers = [point.get(key) for key in ("ranks", "samples_per_second", "speedup", "efficiency")]
                crowded = point.get("oversubscribed") is True
                note = cell("oversubscribed", kind="status oversubscribed") if crowded else cell(None)
                rows.append([cell(kind), *(cell(n if isinstance(n, int | float) else None) for n in numbers), note])
    return Table("Scaling", ("scaling", "ranks#", "samples/s#", "speed-up#", "efficiency#", "status"), rows)
