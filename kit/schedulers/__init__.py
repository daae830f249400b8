"""Schedulers: submit a job script, ask for the state of jobs, cancel one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kit.schedulers import cobalt, flux, gridengine, local, lsf, pbs, pjm, slurm
from kit.schedulers.job import Job, JobState

__all__ = ["OPTIONAL", "SCHEDULERS", "Job", "JobState", "Scheduler"]

# Keys of a partition that not every scheduler can be told.
OPTIONAL = frozenset(
    {
        "account",
        "queue",
        "qos",
        "constraint",
        "reservation",
        "exclusive",
        "memory_request",
        "memory_resource",
        "parallel_environment",
        "network",
        "mail",
        "gpu_type",
        "gpu_request",
        "hyperthreads",
        "scratch_gb",
    }
)


class Scheduler(Protocol):
    """What a scheduler module offers. Its directives stand in templates/<name>.sh.j2."""

    # The keys of OPTIONAL that its directives say. A site that needs another one is refused.
    WORDS: frozenset[str]
    # The variable that holds the number of a task of an array; empty where the kit submits no arrays.
    ARRAY: str

    def problem(self, directory: str) -> str:
        """Why a run directory of this path cannot stand in a directive; empty if it can."""

    def submit(self, script: Path, after: str = "", tasks: int = 0) -> str:
        """Submits a script from its folder; returns the id of the job.

        It starts when the job `after` has ended, however that ended. With `tasks` it is an array of that many.
        """

    def task(self, job: str, index: int) -> str:
        """The id of one task of an array, counted from 1."""

    def states(self, jobs: Sequence[str]) -> dict[str, Job]:
        """All of these jobs as they are now, by one question to the scheduler."""

    def cancel(self, job: str) -> None:
        """Ends a job; the script is signalled first where that can be done, and writes down that it was interrupted."""


SCHEDULERS: dict[str, Scheduler] = {
    "local": local,
    "slurm": slurm,
    "pbs": pbs,
    "lsf": lsf,
    "gridengine": gridengine,
    "flux": flux,
    "pjm": pjm,
    "cobalt": cobalt,
}
