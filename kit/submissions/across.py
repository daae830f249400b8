"""The runs of one submission against each other: repeats of one thing, each with a seed of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kit.benchmark import Benchmark
from kit.runs.record import FILE, Run
from kit.submissions.layout import NUMBER, room
from kit.submissions.repeats import MOST_RUNS, differences
from kit.submissions.rules import Finding
from kit.submissions.survey import Submission

RESULT = re.compile(rf"result-({NUMBER})\.txt")


def repeated(sub: Submission) -> Iterator[Finding]:
    """Repeats are numbered from 2, each has its log, and they differ in nothing but the seed, which shows in what they
    measured."""
    rooms = [part.room for part in (sub, *sub.repeats)]
    logs = sorted(int(match[1]) for match in map(RESULT.fullmatch, sub.files) if match)
    if rooms != [room(number + 1) for number in range(len(rooms))]:
        yield Finding(
            "repeat-number", ".", f"its repeats lie in {', '.join(rooms[1:])}; they are numbered from 2, without a gap"
        )
    if len(rooms) > MOST_RUNS:
        yield Finding("repeat-number", ".", f"holds {len(rooms)} runs, and {MOST_RUNS} are the most")
    if logs != [*range(1, len(rooms) + 1)]:
        yield Finding("repeat-logs", ".", f"holds {len(logs)} of result-N.txt, and {len(rooms)} run(s)")
    if len(sub.runs) != len(rooms) or len(rooms) > MOST_RUNS:
        return  # what cannot be read is a finding already
    for first, second, text in differences(sub.runs):
        rule = "repeat-twice" if text.startswith(("created", "seed")) else "repeat-differs"
        yield Finding(rule, f"{room(second + 1)}{FILE}", f"is no repeat of {room(first + 1)}{FILE}: {text}")
    if sub.benchmark and unvaried(sub.runs, sub.benchmark):
        names = ", ".join(unvaried(sub.runs, sub.benchmark))
        yield Finding("no-variance", ".", f"{len(rooms)} runs of different seeds agree to the last digit in {names}")


def unvaried(runs: Sequence[Run], benchmark: Benchmark) -> list[str]:
    """The metrics that differ between repeats by nature, if not one of them does; empty where that proves nothing.

    These are the metrics that the benchmark compares between runs, or, where it names none, those that are no whole numbers.
    Counts are left out: they may well be the same.
    """
    if len(runs) < 2 or len({run.seed for run in runs}) < len(runs):
        return []
    compared = {metric.name for metric in benchmark.metrics if metric.compared and not metric.step}
    values: dict[str, list[float]] = {}
    for metric in (metric for run in runs for metric in run.metrics):
        values.setdefault(metric.name, []).append(metric.value)
    names = [name for name, found in values.items() if name in compared or (not compared and not found[0].is_integer())]
    return names if all(len(set(values[name])) == 1 for name in names) else []
