"""What the stages of a run printed: its log files, whole or as they grow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kit.core.errors import KitError, unknown
from kit.core.files import open_plain
from kit.runs.launch import poll_seconds
from kit.runs.record import load_run, read_stages, resolved, stage_names
from kit.runs.states import Unanswered, current_state

JOB = "job.out"
BLOCK = 1 << 16
GLANCE = 0.5  # seconds between two looks at a log that grows


def log_file(directory: Path, stage: str | None = None, err: bool = False) -> str:
    """The log of a stage by its name in the run directory; without one that of the stage that started last.

    Before any has started it is that of the job. KitError for a stage that the run does not have, or has not begun.
    """
    load_run(directory)  # says what is no run
    attempts = read_stages(directory)
    if stage is None:
        return f"logs/{attempts[-1].name}.{'err' if err else 'out'}" if attempts else JOB
    names = stage_names(directory)
    if stage not in names:
        stage = resolved(directory)[0].code.stage_named(directory, stage)
    if stage not in names:
        raise unknown(f"stage of {directory}", stage, names)
    if stage not in {attempt.name for attempt in attempts}:
        raise KitError(f"{directory}: stage {stage} has not started yet; kit status {directory} says why")
    return f"logs/{stage}.{'err' if err else 'out'}"


def printed(directory: Path, name: str) -> Iterator[str]:
    """The lines of a log. Of a progress bar, which overwrites its line, the last state stays."""
    if name == JOB and not os.path.lexists(directory / name):
        raise KitError(f"{directory / name}: not there: no job of this run has started yet")
    log = Growing(directory, name)
    while lines := log.lines():
        yield lines
    yield log.rest()


class Growing:
    """A log, read on from where the last reading ended."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.place = 0
        self.begun = b""  # of a line whose end is not there yet

    def lines(self) -> str:
        """The next whole lines; empty where there are none now."""
        if not os.path.lexists(self.directory / self.name):
            return ""
        text = b""
        with open_plain(self.directory, self.name) as file:
            file.seek(self.place)
            while b"\n" not in text:
                block = file.read(BLOCK)
                if not block:
                    break
                text += block
            self.place = file.tell()
        whole, newline, self.begun = (self.begun + text).rpartition(b"\n")
        return shown(whole + newline)

    def rest(self) -> str:
        rest, self.begun = self.begun, b""
        return f"{shown(rest)}\n" if rest else ""


def shown(text: bytes) -> str:
    lines = text.decode(errors="replace").split("\n")
    return "\n".join(line.removesuffix("\r").rpartition("\r")[2] for line in lines)


def followed(directory: Path, stage: str | None = None, err: bool = False) -> Iterator[str]:
    """What a run prints, until it has ended: of one stage, or of each in turn as they start."""
    run = load_run(directory)
    if stage is not None and stage not in stage_names(directory):
        log_file(directory, stage, err)
    pause, asked = poll_seconds(directory, run), 0.0
    name, log, ended = "", None, False
    while True:
        if log is None or not stage:
            now = log_file(directory, None, err) if stage is None else f"logs/{stage}.{'err' if err else 'out'}"
            if now != name:
                if log is not None:
                    yield from drained(log)
                name, log = now, Growing(directory, now)
                yield f"==> {name} <==\n"
        assert log is not None
        yield from drained(log, whole=ended)
        if ended:
            return
        if time.monotonic() - asked >= pause:
            asked = time.monotonic()
            with contextlib.suppress(Unanswered):  # it may answer the next time
                ended = current_state(directory, load_run(directory)).name not in ("submitted", "running")
        last = [attempt for attempt in read_stages(directory) if attempt.name == stage][-1:]
        ended = ended or any(attempt.end is not None for attempt in last)
        if not ended:
            time.sleep(GLANCE)


def drained(log: Growing, whole: bool = True) -> Iterator[str]:
    while lines := log.lines():
        yield lines
    if whole:
        yield log.rest()
