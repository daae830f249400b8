"""Slurm, through its own commands. sacct is not needed: the run directory records what a job did."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.command import run_command
from kit.schedulers.job import Job, JobState

WORDS = frozenset(
    {
        "account",
        "queue",
        "qos",
        "constraint",
        "reservation",
        "exclusive",
        "memory_request",
        "network",
        "mail",
        "gpu_type",
        "gpu_request",
        "hyperthreads",
        "scratch_gb",
    }
)
ARRAY = "SLURM_ARRAY_TASK_ID"
# SBATCH_* variables of the shell would silently override the directives of the script.
DROP = ("SBATCH_",)


def problem(directory: str) -> str:
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    words = ["sbatch", "--parsable"]
    if after:
        words.append(f"--dependency=afterany:{after}")
    if tasks:
        words.append(f"--array=1-{tasks}")
    answer = run_command(*words, script.name, cwd=script.parent, drop=DROP)
    match = re.match(r"\d+", answer.strip())
    if not match:
        raise KitError(f"sbatch answered {answer.strip()!r}, which is no job id")
    return match[0]


def task(job: str, index: int) -> str:
    return f"{job}_{index}"


def states(jobs: Sequence[str]) -> dict[str, Job]:
    return {job: state(job) for job in jobs}


def state(job: str) -> Job:
    try:
        answer = run_command("squeue", "--noheader", "--jobs", job, "--format=%T", "--states=all", drop=DROP).strip()
    except KitError as error:
        if "Invalid job id" in str(error):
            return Job("gone")
        raise
    now: JobState = "gone"
    if answer in ("PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED"):
        now = "pending"
    elif answer in ("RUNNING", "COMPLETING", "STAGE_OUT"):
        now = "running"
    return Job(now)


def cancel(job: str) -> None:
    # --batch signals the script only: its trap records the interruption and ends the stage.
    run_command("scancel", "--batch", "--signal=TERM", job, drop=DROP)
