"""Flux, as the scheduler of a machine (El Capitan) or inside another one's job.

- A slot is a node: `-N` and `-n` with its cores and GPUs, or whole nodes (`-x`). Flux gives a core with all its hardware
  threads, and does not share out memory.
- The account is the bank of flux-accounting (`system.bank`); `constraint` is what `--requires` reads.
- USR1 comes 60 s before the time limit. Flux hands it to the batch script since 2025 (flux-core issue 6729), before that to
  the ranks alone. What would end the script, as `flux cancel` does, reaches it as HUP: it is made the TERM that the
  script records.
- `flux batch` submits no arrays.
- The script appends to job.out itself; `output.mode=append` is too new to count on. What Flux says is in scheduler.out. No
  path stands in a directive, and any run directory will do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.asking import of_known, one_line
from kit.schedulers.command import run_command
from kit.schedulers.job import Job, JobState

WORDS = frozenset({"account", "queue", "constraint", "exclusive", "gpu_request", "hyperthreads"})
VALUES = {"gpu_request": frozenset({"node", "none"})}
ARRAY = ""

STATES: dict[str, JobState] = {"RUN": "running", "CLEANUP": "running", "INACTIVE": "gone"}
# The last may hold anything.
FIELDS = ("{id.f58}", "{state}", "{result}", "{annotations.sched.reason_pending}", "{exception.type}", "{exception.note}")


def problem(directory: str) -> str:
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    if tasks:
        raise KitError("flux batch submits no arrays: set key 'max_jobs_in_array' of the partition to 0")
    words = [f"--dependency=afterany:{after}"] if after else []
    answer = run_command("flux", "batch", *words, script.name, cwd=script.parent)
    match = re.search(r"^[ƒf]([0-9A-Za-z]+)$", answer.strip(), re.MULTILINE)
    if not match:
        raise KitError(f"flux batch answered {answer.strip()!r}, which is no job id")
    return f"f{match[1]}"  # Flux reads this where the locale has no ƒ


def task(job: str, index: int) -> str:
    raise KitError("Flux has no arrays of jobs here")


def states(jobs: Sequence[str]) -> dict[str, Job]:
    answer = of_known(ask, jobs, re.compile(r"[Jj]ob\S* (\S+) unknown"))
    rows = [line.split("|", len(FIELDS) - 1) for line in answer.splitlines()]
    found = {f"f{row[0].strip()[1:]}": record(row) for row in rows if len(row) == len(FIELDS)}
    return {job: found.get(job, Job("gone")) for job in jobs}


def ask(jobs: Sequence[str]) -> str:
    return run_command("flux", "jobs", "--suppress-header", "--color=never", f"--format={'|'.join(FIELDS)}", *jobs)


def record(row: Sequence[str]) -> Job:
    _, now, result, pending, kind, note = (one_line(field) for field in row)
    state = STATES.get(now, "pending")
    if state == "pending":
        return Job(state, pending)
    if state == "running" or result == "COMPLETED":
        return Job(state)
    return Job(state, ": ".join(word for word in (result, kind, note) if word))


def cancel(job: str) -> None:
    try:
        run_command("flux", "cancel", job)
    except KitError as error:
        if not re.search("inactive|unknown|not found", str(error)):
            raise
