"""Several runs in one submission: repeats of one thing, which differ by their seeds alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from kit.core.schema import shortened
from kit.runs.record import Run

MOST_RUNS = 100

# What repeats have alike, by its dotted path in run.json.
SAME = (
    "benchmark",
    "size",
    "isolated",
    "kit",
    "commit",
    "image.name",
    "image.digest",
    "image.recipe",
    "image.runtime",
    "data",
    "challenge.text",
    "rendering.parameters",
    "site",
    "partition",
    "ranks",
    "threads",
)


def in_order(runs: Sequence[Run]) -> list[int]:
    """The places of runs in the order in which they were asked for: whoever packs them gets the same folder."""
    return sorted(range(len(runs)), key=lambda place: (runs[place].created, runs[place].seed or 0, runs[place].script))


def differences(runs: Sequence[Run]) -> list[tuple[int, int, str]]:
    """Why runs are not repeats of one thing: the places of two of them, and the fact of run.json."""
    found = []
    for place, run in enumerate(runs[1:], start=1):
        for key in SAME:
            ours, theirs = fact(runs[0], key), fact(run, key)
            if ours != theirs:
                found.append((0, place, f"{key} is {shortened(ours)} and {shortened(theirs)}"))
    for (one, first), (other, second) in combinations(enumerate(runs), 2):
        if first.created == second.created:
            found.append((one, other, f"created is {first.created.isoformat()} in both: one run, given twice"))
        elif first.seed is not None and first.seed == second.seed:
            found.append((one, other, f"seed is {first.seed} in both; repeats need seeds of their own (kit run --repeat N)"))
    return found


def fact(run: Run, key: str) -> Any:
    """A fact of a run by its dotted path; None where a part of the way is missing."""
    found: Any = run
    for part in key.split("."):
        found = getattr(found, part, None)
    return found
