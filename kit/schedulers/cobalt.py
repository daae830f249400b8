"""Cobalt, of Argonne (Theta and its forebears).

- Nodes are given whole. The account is the project (`-A`), `constraint` the attributes (`--attrs mcdram=cache:numa=quad`).
- Directives must follow the first line of the script with nothing between; they are split at blanks, and cannot be quoted.
  No path stands in one: Cobalt takes them from the folder in which qsub runs.
- The script must be executable.
- A job can be made to wait for the success of another one, and not for its end, so none is submitted after another; there
  are no arrays. An ended job is forgotten at once, and nobody can tell how it ended.
- There is no directive for a warning before the time limit; TERM comes first then, as with qdel.
- The script appends to job.out itself; Cobalt's own files are scheduler.out and scheduler.log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.asking import one_line
from kit.schedulers.command import run_command
from kit.schedulers.job import Job, JobState

WORDS = frozenset({"account", "queue", "constraint", "reservation", "mail", "hyperthreads"})
ARRAY = ""
# Variables of the shell that would change the columns of qstat.
DROP = ("QSTAT_", "CQSTAT_")

RUNNING = frozenset({"starting", "running", "exiting", "killing", "terminating"})


def problem(directory: str) -> str:
    if re.search(r"\s", directory):
        return "Cobalt takes blanks out of the path of a script and then does not find it"
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    if after:
        raise KitError(
            f"Cobalt lets a job wait for the success of job {after}, and not for its end; submit it when it has ended"
        )
    if tasks:
        raise KitError("Cobalt has no arrays of jobs: set key 'max_jobs_in_array' of the partition to 0")
    script.chmod(script.stat().st_mode | 0o100)
    answer = run_command("qsub", script.name, cwd=script.parent)
    match = re.search(r"^\d+$", answer.strip(), re.MULTILINE)
    if not match:
        raise KitError(f"qsub answered {answer.strip()!r}, which is no job id")
    return match[0]


def task(job: str, index: int) -> str:
    raise KitError("Cobalt has no arrays of jobs")


def states(jobs: Sequence[str]) -> dict[str, Job]:
    if not jobs:
        return {}
    try:
        answer = run_command("qstat", "--header", "JobID:State", *dict.fromkeys(jobs), drop=DROP)
    except KitError as error:
        if not str(error).rstrip().endswith(":"):  # it knows none of them, and says nothing
            raise
        answer = ""
    found = {}
    for line in answer.splitlines():
        match = re.fullmatch(r"\s*(\d+)\s+(\S.*)", line)
        if match:
            found[match[1]] = record(one_line(match[2]))
    return {job: found.get(job, Job("gone")) for job in jobs}


def record(state: str) -> Job:
    now: JobState = "running" if state in RUNNING else "pending"
    return Job(now, "" if state in (*RUNNING, "queued") else state)


def cancel(job: str) -> None:
    if states([job])[job].state != "gone":
        run_command("qdel", job)
