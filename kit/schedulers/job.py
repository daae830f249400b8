"""A job as its scheduler sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# `gone`: it has ended, or the scheduler no longer knows it; the run directory says what it did.
JobState = Literal["pending", "running", "gone"]


@dataclass(frozen=True)
class Job:
    """The state of a job, and why it waits or how it ended, in one line and in the scheduler's own words."""

    state: JobState
    reason: str = ""
