"""From what a trial left in its directory to a choice: medians compared, the default kept in doubt."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from kit import __version__
from kit.core.errors import KitError, plain
from kit.core.files import open_plain, plain_file, read_json
from kit.core.schema import Model, parse
from kit.core.tables import table
from kit.runs.record import load_run, read_stages
from kit.runs.states import current_state
from kit.tune.job import FILE, NODE, Trial
from kit.tune.store import NAME, Seconds, Stored, Tried, Tuning

MOST = 1 << 16  # bytes of a file that are read


class Measured(Model):
    """trial/STAGE.json: both times are 0 where nothing was measured."""

    choice: int = Field(ge=0)
    exit: int = Field(ge=0, le=255)
    start: Seconds
    end: Seconds


def text(directory: Path, name: str) -> str:
    """The end of a file of the trial; empty where there is none."""
    try:
        with open_plain(directory, name) as file:
            return file.read()[-MOST:].decode(errors="replace")
    except KitError:
        return ""


def trial_of(directory: Path) -> Trial:
    run = load_run(directory)
    if run.benchmark != NAME:
        raise KitError(f"{directory}: a run of {run.benchmark}, and no trial of kit tune; kit collect judges it")
    return parse(Trial, read_json(plain_file(directory, FILE)), directory / FILE)


def tried(directory: Path, trial: Trial) -> list[Tried]:
    """What was measured of each choice, the default first."""
    seconds: list[list[float]] = [[] for _ in trial.choices]
    problems = [""] * len(trial.choices)
    for entry in trial.order:
        path = directory / "trial" / f"{entry.stage}.json"
        found = parse(Measured, read_json(plain_file(directory, f"trial/{path.name}")), path)
        if found.choice != entry.choice:
            raise KitError(f"{path}: is of choice {found.choice}, and {FILE} says {entry.choice}")
        if found.exit:
            problems[entry.choice] = problems[entry.choice] or why(directory, entry.stage, found)
        elif found.end > found.start > 0:
            seconds[entry.choice].append(round(found.end - found.start, 3))
    return [
        Tried(choice=choice, seconds=took, problem=problem)
        for choice, took, problem in zip(trial.choices, seconds, problems, strict=True)
    ]


def why(directory: Path, stage: str, found: Measured) -> str:
    """How a measurement failed, with the last words that it left."""
    if not found.end:
        return "the job ended while it ran, and said nothing: too little memory does that"
    lines = [line.strip() for line in text(directory, f"logs/{stage}.err").splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines
    code = f"killed by signal {found.exit - 128}" if 128 < found.exit <= 192 else f"exit code {found.exit}"
    return plain(f"{code}: {telling[-1][:200]}" if telling else code)


def median(one: Tried) -> float:
    return round(statistics.median(one.seconds), 3)


def spread(one: Tried) -> float:
    """The range of repeats."""
    return round(max(one.seconds) - min(one.seconds), 3)


def decide(found: Sequence[Tried], date: datetime, processor: str) -> Tuning:
    """The fastest choice by its median, or the default, the first, where that is not slower by more than repeats differ.

    What ran once beside others that were repeated was too slow to be repeated. KitError if nothing ran well.
    """
    well = [one for one in found if one.seconds and not one.problem]
    if not well:
        raise KitError(
            "\n".join(["no choice ran well:", *(f"  {one.choice}: {one.problem or 'not measured'}" for one in found)])
        )
    default = found[0]
    best = min(well, key=lambda one: statistics.median(one.seconds))
    was = median(default) if default in well else None
    took, differs = median(best), max(spread(best), 0.0 if was is None else spread(default))
    if was is not None and was - took <= differs:
        best, took = default, was
    return Tuning(
        date=date,
        processor=processor,
        choice=best.choice,
        seconds=took,
        default=default.choice,
        default_seconds=was,
        spread=differs,
    )


def judge(directory: Path) -> Stored:
    """What a trial that has ended came to; KitError while it has not, and if no choice ran well."""
    trial = trial_of(directory)
    run = load_run(directory)
    state = current_state(directory, run)
    if state.name != "finished":
        raise KitError(f"{directory}: {state}\nIts logs are in {directory}/logs; kit tune {directory} goes on with it")
    found = tried(directory, trial)
    node = text(directory, NODE.outputs[0]).partition("\n")[0]
    processor = plain(node.partition(":")[2].strip() or node.strip()) or "an unknown processor"
    ends = [attempt.end for attempt in read_stages(directory) if attempt.end]
    try:
        tuning = decide(found, datetime.fromtimestamp(max(ends), UTC), processor)
    except KitError as error:
        raise KitError(f"{directory}: {error}\nNothing was stored. Its logs are in {directory}/logs") from None
    return Stored(kit=__version__, key=trial.key, tuning=tuning, tried=found)


def report(stored: Stored) -> str:
    """The measurements as a table, and what came of them."""
    tuning = stored.tuning
    rows = []
    for one in stored.tried:
        slow = "not repeated: took more than twice as long as the fastest" if len(one.seconds) == 1 else ""
        notes = [
            *(["default"] if one.choice == tuning.default else []),
            *(["kept" if tuning.kept else "chosen"] if one.choice == tuning.choice else []),
            *([f"failed: {one.problem}"] if one.problem else [slow] if slow else []),
        ]
        took = " ".join(f"{seconds:.2f}" for seconds in one.seconds)
        rows.append((str(one.choice), took, f"{median(one):.2f}" if one.seconds else None, ", ".join(notes)))
    lines = [table(rows, "llrl", ("choice on a node", "seconds", "median", "")), ""]
    if tuning.kept:
        lines.append(
            f"The default stays: {tuning.default}. Nothing was faster by more than repeats differ, {tuning.spread:.2f} s."
        )
    elif tuning.default_seconds is None:
        lines.append(f"Chosen: {tuning.choice}. The default, {tuning.default}, failed.")
    else:
        gain = tuning.default_seconds / tuning.seconds
        lines.append(
            f"Chosen: {tuning.choice}, {gain:.2f} times as fast as the default, {tuning.default} "
            f"({tuning.seconds:.2f} s and {tuning.default_seconds:.2f} s; repeats differ by {tuning.spread:.2f} s at most)."
        )
    return "\n".join(lines)
