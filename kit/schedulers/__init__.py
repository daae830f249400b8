"""How a job script is handed over and asked after."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from kit.schedulers import local, slurm

# `gone` is all a scheduler can say of a job it no longer has: what became of it stands in the run directory.
JobState = Literal["pending", "running", "gone"]


class Scheduler(Protocol):
    """What a scheduler module offers. The directives stand in templates/<name>.sh.j2."""

    def submit(self, script: Path) -> str:
        """Hands the script over, from the run directory it lies in; returns the job's id."""

    def state(self, job: str) -> JobState:
        """What the scheduler says of a job now."""

    def cancel(self, job: str) -> None:
        """Asks the scheduler to end a job."""


SCHEDULERS: dict[str, Scheduler] = {"local": local, "slurm": slurm}
