"""PJM, the job manager of Fujitsu's Technical Computing Suite (Fugaku, and other machines of Fujitsu).

- `-L node=` gives whole nodes; the queue is the resource group (`rscgrp`), the account the group (`-g`), `network` the shape
  of the allocation (torus, mesh, noncont). `directives` say the rest (`-x PJM_LLIO_GFSCACHE=/vol0004`).
- Arrays are bulk jobs. PJM has no dependency between two jobs, only between the steps of a step job: a job can be submitted
  after another one if the site file says `directives = ["--step"]`, which makes every job the first step of a step job.
- There is no directive for a warning before the time limit.
- The script appends to job.out itself; PJM's own file is scheduler.out. No path stands in a directive: how PJM quotes one is
  not written down, and it replaces `%` and what follows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.asking import one_line
from kit.schedulers.command import run_command
from kit.schedulers.job import Job, JobState

WORDS = frozenset({"account", "queue", "network", "mail"})
VALUES = {"network": frozenset({"", "torus", "mesh", "noncont"})}
ARRAY = "PJM_BULKNUM"

STATES: dict[str, JobState] = {"RNP": "running", "RUN": "running", "RNE": "running", "RNO": "running"}
STATES |= {"EXT": "gone", "CCL": "gone", "RJT": "gone"}
FIELDS = ("jid", "st", "ec", "sn", "pc", "ermsg")
# What ended a job, by the code that PJM gives it.
ENDS = {
    "1": "deleted with pjdel",
    "6": "step job: its condition was not met",
    "7": "deadline",
    "11": "elapsed time limit",
    "12": "memory limit",
    "13": "disk limit",
    "16": "folder or output file not accessible",
    "20": "node down",
    "21": "the shell could not be started",
    "23": "killed for want of memory",
}


def problem(directory: str) -> str:
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    words = ["pjsub"]
    if tasks:
        words += ["--bulk", "--sparam", f"1-{tasks}"]
    if after and states([after])[after].state != "gone":
        step, _, number = after.partition("_")
        if not number or tasks:
            raise KitError(
                f"PJM cannot let a job wait for job {after}: it orders the steps of a step job only; with "
                'directives = ["--step"] in the site file every later job can be followed by another one'
            )
        words += ["--step", "--sparam", f"jid={step}"]
    answer = run_command(*words, script.name, cwd=script.parent)
    match = re.search(r"Job (\d+(?:_\d+)?) submitted", answer)
    if not match:
        raise KitError(f"pjsub answered {answer.strip()!r}, which names no job")
    return match[1]


def task(job: str, index: int) -> str:
    return f"{job}[{index}]"


def states(jobs: Sequence[str]) -> dict[str, Job]:
    """One question for those that have not ended, and another one, of the history, for those that have."""
    found = ask(jobs) if jobs else {}
    ended = [job for job in jobs if job not in found]
    if ended:
        found |= ask(ended, "-H", "day=30")
    return {job: found.get(job, Job("gone")) for job in jobs}


def ask(jobs: Sequence[str], *options: str) -> dict[str, Job]:
    names = list(dict.fromkeys(jobs))
    answer = run_command("pjstat", "-s", "-E", "--data", f"--choose={','.join(FIELDS)}", *options, *names)
    # A row begins with `H` if it names the fields, and with nothing if it tells of a job.
    rows = [row[1:] for row in csv.reader(answer.splitlines()) if len(row) > len(FIELDS) and not row[0]]
    return {row[0]: record(row) for row in rows}


def record(row: Sequence[str]) -> Job:
    _, now, exit_code, signal, code, message = (one_line(field) for field in row[: len(FIELDS)])
    state = STATES.get(now, "pending")
    if state == "pending":
        return Job(state, message or (now if now in ("HLD", "ERR") else ""))
    if state == "running" or (code in ("", "0") and exit_code in ("", "0") and signal in ("", "0")):
        return Job(state)
    reason = f"PJM code {code}" + (f" ({ENDS[code]})" if code in ENDS else "") if code not in ("", "0") else ""
    exits = f"exit code {exit_code}" if exit_code not in ("", "0") else ""
    signals = f"signal {signal}" if signal not in ("", "0") else ""
    return Job(state, ", ".join(word for word in (reason, exits, signals, message) if word))


def cancel(job: str) -> None:
    if states([job])[job].state != "gone":
        run_command("pjdel", job)
