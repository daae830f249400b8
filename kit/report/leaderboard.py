"""`kit report --leaderboard FOLDER`: a static site over all submissions below a folder.

The same submissions give the same bytes: nothing on it says when it was built. Within one benchmark and size the quickest
valid result is the first; what is not valid, oversubscribed or a trial stands apart, with the reason, and has no rank.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.core.checksums import SUMS
from kit.core.errors import KitError, plain
from kit.core.files import json_text
from kit.report.comparison import Section, result, status
from kit.report.entries import Entry, group, load, ranked
from kit.report.page import Table, cell, duration, rendered
from kit.report.plots import plots
from kit.report.verdicts import handed, verdict
from kit.runs.record import FILE
from kit.submissions.layout import LEVELS
from kit.submissions.together import across

INDEX, DATA, ROWS, RESULTS = "index.html", "leaderboard.json", "leaderboard.csv", "results"
LAST = ("runs#", "date")
DRAWN = 40  # results of a group in one plot, the first of the ranking
NAMED = 5  # files in the way that are named


def build(submissions: Path, to: Path, verdicts: Path | None = None) -> Path:
    """Writes the site into the folder `to`, and returns its first page.

    Each submission is checked, by itself and against all others, or takes its verdict from the file `verdicts`; one that is
    not in it is not ranked. The folder appears whole, in place of a leaderboard that was there; KitError where anything else
    is, or lies in it.
    """
    if not submissions.is_dir():
        raise KitError(f"{submissions}: not a folder")
    if os.path.lexists(to) and not (to / DATA).is_file() and (not to.is_dir() or any(to.iterdir())):
        raise KitError(f"{to}: exists, and is no leaderboard; name a folder that is empty or new")
    foreign = sorted(set(os.listdir(to)) - {INDEX, DATA, ROWS, RESULTS}) if to.is_dir() else []
    if foreign:
        names = ", ".join(plain(name) for name in foreign[:NAMED]) + (", ..." if len(foreign) > NAMED else "")
        raise KitError(
            f"{to}: holds {names} beside a leaderboard, and would lose it; name a new folder, and copy it from there"
        )
    root = submissions.resolve()
    folders = found(root)
    errors = checked(root, folders) if verdicts is None else handed(verdicts, folders)
    entries = [load(folder, errors[folder]) for folder in folders]
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        partial.chmod(0o755)
        write(partial, entries)
        exchange(partial, to)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return to / INDEX


def checked(root: Path, folders: Sequence[Path]) -> dict[Path, list[str]]:
    """The errors of each folder, by itself and against the others; what they have in common is asked anew each time."""
    errors = {folder: verdict(folder) for folder in folders}
    for name, match in across(root, [folder.relative_to(root).as_posix() for folder in folders]):
        if match.severity == "error":
            errors[root / name].append(str(match))
    return errors


def exchange(new: Path, to: Path) -> None:
    """Puts a folder in the place of another, which comes back where that fails."""
    old, replaced = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent)), to.exists()
    try:
        if replaced:
            os.rename(to, old)
        os.rename(new, to)
    except BaseException:
        if replaced and not os.path.lexists(to):
            os.rename(old, to)
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def found(root: Path) -> list[Path]:
    """The folders below a root that are, or claim to be, submissions, in the order of their names. No link is followed.

    One that cannot be listed is among them, for nobody knows what it holds; KitError where the root cannot.
    """
    here, todo = [], [(root.resolve(), 0)]
    while todo:
        folder, depth = todo.pop()
        if depth == len(LEVELS) or any(os.path.lexists(folder / name) for name in (FILE, SUMS)):
            here.append(folder)
            continue
        try:
            inner = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if not depth:
                raise KitError(f"{root}: cannot be listed: {error.strerror}") from None
            here.append(folder)
            continue
        todo += [(Path(entry.path), depth + 1) for entry in inner if not entry.name.startswith(".")]
    return sorted(here)


def write(folder: Path, entries: Sequence[Entry]) -> None:
    """The pages and the data of a leaderboard."""
    groups = group(entries)
    sections = [board(f"g{number}", *one) for number, one in enumerate(groups.items(), start=1)]
    counts = {"ranked": sum(entry.status == "valid" for entry in entries), "all": len(entries)}
    (folder / INDEX).write_text(
        rendered("leaderboard.html.j2", title="Leaderboard", sections=sections, counts=counts), encoding="utf-8"
    )
    (folder / DATA).write_text(json_text([record(entry, rank) for entry, rank in in_order(groups)]), encoding="utf-8")
    (folder / ROWS).write_text(table(record(entry, rank) for entry, rank in in_order(groups)), encoding="utf-8")
    (folder / RESULTS).mkdir()
    for entry in entries:
        page = rendered("result.html.j2", title=entry.title, result=result(entry.title, entry))
        (folder / link(entry)).write_text(page, encoding="utf-8")


def in_order(groups: Mapping[tuple[str, str], Sequence[Entry]]) -> list[tuple[Entry, int | None]]:
    """All entries with their ranks, those without a rank behind those of their group that have one."""
    found: list[tuple[Entry, int | None]] = []
    for entries in groups.values():
        first = ranked(entries)
        found += [(entry, rank) for rank, entry in enumerate(first, start=1)]
        found += [(entry, None) for entry in entries if entry.status != "valid"]
    return found


def link(entry: Entry) -> str:
    """The page of a result, below the first one: its names, and a hash of them, for some file systems know no case."""
    name = "-".join(re.sub(r"[^A-Za-z0-9._-]", "_", part)[:40] for part in entry.place or entry.folder.parts[-4:])
    text = "\0".join(entry.folder.parts[-4:]).encode(errors="surrogateescape")
    return f"{RESULTS}/{name}-{hashlib.sha256(text).hexdigest()[:8]}.html"


def board(name: str, work: tuple[str, str], entries: Sequence[Entry]) -> Section:
    """The ranking of one benchmark and size, its plots, and what is not ranked."""
    first, rest = ranked(entries), [entry for entry in entries if entry.status != "valid"]
    title = f"{work[0]}, size {work[1]}" if work[0] else "Folders that cannot be read"
    metric = headline(entries)
    rows, others = [], []
    for rank, entry in enumerate(first, start=1):
        run = entry.run
        assert run
        rows.append(
            [
                cell(rank),
                cell(entry.place[0]),
                cell(entry.place[2], link=link(entry)),
                duration(entry.seconds),
                cell(entry.metric(metric)),
                cell(run.system.get("host_processor_model_name")),
                cell(entry.nodes or None),
                cell(run.ranks),
                cell(run.threads),
                cell(f"{run.image.name} {run.image.version}"),
                cell(len(entry.runs)),
                cell(f"{run.created:%Y-%m-%d}", kind="date"),
            ]
        )
    for entry in rest:
        others.append([cell(entry.title, link=link(entry)), status(entry), cell("; ".join(entry.reasons))])
    what = f"{metric.replace('_', ' ')}#"
    columns = ("rank#", "organisation", "system", "time#", what, "processor", "nodes#", "ranks#", "threads#", "image", *LAST)
    tables = [Table(f"Ranking: {title}", columns, rows, filtered=True)] if rows else []
    tables += [Table(f"Not ranked: {title}", ("result", "status", "reason"), others, filtered=True)] if others else []
    return Section(title, tables, plots(name, first[:DRAWN], base=-1) if len(first) > 1 else [], [])


def headline(entries: Iterable[Entry]) -> str:
    """The first metric of a benchmark, which its table shows beside the time; the page of a result has all."""
    return next((entry.run.metrics[0].name for entry in entries if entry.run and entry.run.metrics), "")


def record(entry: Entry, rank: int | None) -> dict[str, Any]:
    """A result for programs. Times are in seconds; metrics are medians over its runs."""
    from kit.cli.output import finite

    run = entry.run
    names = [plain(part) for part in entry.place or entry.folder.parts[-4:]]
    found = {
        **dict(zip(LEVELS, names, strict=False)),
        "benchmark": run.benchmark if run else "",
        "size": run.work if run else "",
        "rank": rank,
        "status": entry.status,
        "reasons": [plain(reason) for reason in entry.reasons],
        "page": link(entry),
    }
    if run is None:
        return found
    return finite(
        {
            **found,
            "seconds": entry.seconds,
            "runs": len(entry.runs),
            "seeds": [run.seed for run in entry.runs],
            "processor": run.system.get("host_processor_model_name"),
            "accelerators": run.system.get("accelerators_per_node"),
            "nodes": entry.nodes or None,
            "ranks": run.ranks,
            "threads": run.threads,
            "image": f"{run.image.name} {run.image.version}",
            "digest": run.image.digest,
            "created": f"{run.created:%Y-%m-%dT%H:%M:%SZ}",
            "commit": run.commit,
            "metrics": {metric.name: entry.metric(metric.name) for metric in run.metrics},
        }
    )


COLUMNS = (
    *("benchmark", "size", "rank", "status", *LEVELS, "seconds", "runs", "processor", "accelerators", "nodes", "ranks"),
    *("threads", "image", "digest", "created", "commit", "page", "reasons"),
)


def table(records: Iterable[dict[str, Any]]) -> str:
    """The results as CSV, without their metrics, of which each benchmark has others."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for found in records:
        writer.writerow([field(found.get(name)) for name in COLUMNS])
    return text.getvalue()


def field(value: Any) -> Any:
    """A field that no spreadsheet takes for a formula."""
    text = "; ".join(value) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
