"""Many runs at a glance: which there are, and a table of their states."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.tables import table
from kit.runs.record import FILE
from kit.runs.states import Seen

DEEPEST = 4  # folders below the runs folder in which runs are looked for


def find(folders: Iterable[Path], named: bool = True) -> list[Path]:
    """The run directories at and below some folders, each once.

    A run is not looked into. A folder without runs stands for itself if it was `named`: what is wrong with it is said later.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        below = list(run_directories(folder, DEEPEST))
        found |= dict.fromkeys(below or ([folder] if named else []))
    return list(found)


def run_directories(folder: Path, depth: int) -> Iterable[Path]:
    if os.path.lexists(folder / FILE):
        yield folder
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if depth else []
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from run_directories(folder / entry.name, depth - 1)


HEADER = ("run", "state", "stage", "elapsed", "job", "reason")


def rows(seen: Mapping[Path, Seen | KitError]) -> list[tuple[str | None, ...]]:
    """The cells of the table of runs."""
    return [
        (str(directory), "unreadable", None, None, None, str(run).replace("\n", "; "))
        if isinstance(run, KitError)
        else (
            f"{directory}{f' ({run.run.changed})' if run.run.changed else ''}",
            run.state.name,
            run.state.stage,
            shown(run.seconds),
            jobs(run),
            reason(run),
        )
        for directory, run in seen.items()
    ]


def shown(seconds: float | None) -> str | None:
    return None if seconds is None else str(timedelta(seconds=round(seconds)))


def jobs(seen: Seen) -> str:
    more = f" +{len(seen.run.further)}" if seen.run.further else ""
    return f"{seen.run.job}{more}"


def reason(seen: Seen) -> str:
    """Why the state is what it is; of a state that is only known from the record, why nobody could be asked."""
    unsure = f"by its record alone: {seen.problem}" if seen.problem else ""
    return "; ".join(text.replace("\n", "; ") for text in (seen.state.reason, unsure) if text)


def as_table(seen: Mapping[Path, Seen | KitError]) -> str:
    return table(rows(seen), "lllrll", HEADER)


def records(seen: Mapping[Path, Seen | KitError]) -> dict[str, Any]:
    """The same for programs, by the run directory."""
    return {
        str(directory): {"name": "unreadable", "stage": "", "exit_code": None, "reason": str(run)}
        if isinstance(run, KitError)
        else {
            **run.state.model_dump(),
            "problem": run.problem,
            "seconds": run.seconds,
            "job": run.run.job,
            "further": run.run.further,
            "scheduler": run.run.scheduler,
            "parameters": dict(run.run.rendering.parameters) if run.run.rendering else {},
        }
        for directory, run in seen.items()
    }
