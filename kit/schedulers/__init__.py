"""Schedulers: submit a job script, ask for the state of the job, cancel it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from kit.schedulers import local, slurm

# `gone`: the scheduler no longer knows the job; the run directory says how it ended.
JobState = Literal["pending", "running", "gone"]


class Scheduler(Protocol):
    """What a scheduler module offers. The directives stand in templates/<name>.sh.j2."""

    def submit(self, script: Path) -> str:
        """Submits the script from its run directory; returns the id of the job."""

    def state(self, job: str) -> JobState:
        """The state of a job now."""

    def cancel(self, job: str) -> None:
        """Ends a job."""


SCHEDULERS: dict[str, Scheduler] = {"local": local, "slurm": slurm}
