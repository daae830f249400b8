"""IBM Spectrum LSF.

- The nodes are slots, `-n` with `span[ptile=...]`, and `-x` if exclusive: memory is then not asked for. A partition whose
  launcher is jsrun is one of Summit's kind, where `-nnodes` asks for whole nodes and `-alloc_flags` says how many hardware
  threads of a core are in use (`smt1`, ...), and, if ranks must share GPUs, that they may (`gpumps`). Nodes come with all
  they have there, and `constraint`, `memory_request` and `gpu_request` say nothing.
- bsub reads the script from its standard input, and the job starts in the folder from which it was submitted: no path stands
  in a directive, and any run directory will do.
- The account is the project (`-P`). A site that charges user groups takes `directives = ["-G guests"]`. `constraint` is
  what stands in `select[...]`.
- TERM comes a minute before the time limit (`-wa`, `-wt`; LSF counts whole minutes).
- The script appends to job.out itself, so that it can be read while the job runs; LSF's report of the job is appended to
  scheduler.out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.asking import of_known, one_line
from kit.schedulers.command import run_command
from kit.schedulers.job import Job, JobState

WORDS = frozenset(
    {
        "account",
        "queue",
        "constraint",
        "reservation",
        "exclusive",
        "memory_request",
        "mail",
        "gpu_request",
        "hyperthreads",
    }
)
VALUES = {"gpu_request": frozenset({"node", "none"})}
ARRAY = "LSB_JOBINDEX"
# BSUB_QUIET hides the id of the job; LSB_DEFAULTQUEUE and others would add to the directives of the script.
DROP = ("BSUB_", "LSB_DEFAULT", "LSB_JOB_")

STATES: dict[str, JobState] = {
    "RUN": "running",
    "UNKWN": "running",  # nobody reaches its node
    "ZOMBI": "running",
    "DONE": "gone",
    "EXIT": "gone",
}
FIELDS = "jobid jobindex stat exit_code exit_reason pend_reason"


def problem(directory: str) -> str:
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    words = ["bsub"]
    if after:
        words += ["-w", f"ended({after})"]
    if tasks:
        words += ["-J", f"kit[1-{tasks}]"]
    answer = run_command(*words, cwd=script.parent, stdin=script, drop=DROP)
    match = re.search(r"Job <(\d+)> is submitted", answer)
    if not match:
        raise KitError(f"bsub answered {answer.strip()!r}, which names no job")
    return match[1]


def task(job: str, index: int) -> str:
    return f"{job}[{index}]"


def states(jobs: Sequence[str]) -> dict[str, Job]:
    # Of an array all tasks are told, whoever asks for one.
    arrays = list(dict.fromkeys(job.partition("[")[0] for job in jobs))
    answer = of_known(ask, arrays, re.compile(r"Job <(\d+)> is not found"))
    try:
        rows = json.loads(answer, strict=False).get("RECORDS", []) if answer.strip() else []
    except json.JSONDecodeError as error:
        raise KitError(f"bjobs -json: its answer is not JSON: {error}") from None
    tasks: dict[str, list[Job]] = {}
    for row in rows:
        if row.get("STAT"):
            name, index = str(row["JOBID"]).partition("[")[0], str(row.get("JOBINDEX") or "0")
            tasks.setdefault(name, []).append(record(row))
            tasks.setdefault(f"{name}[{index}]", []).append(record(row))
    return {job: whole(tasks.get(job, [])) for job in jobs}


def ask(jobs: Sequence[str]) -> str:
    return run_command("bjobs", "-a", "-json", "-o", FIELDS, *jobs)


def record(row: dict[str, object]) -> Job:
    state = STATES.get(str(row["STAT"]), "pending")
    if state == "pending":
        return Job(state, one_line(row.get("PEND_REASON")))
    if row["STAT"] == "EXIT":
        return Job(state, one_line(row.get("EXIT_REASON")) or f"exit code {one_line(row.get('EXIT_CODE'))}".strip())
    return Job(state)


def whole(tasks: Sequence[Job]) -> Job:
    """The state of a job from those of its tasks: it runs while one runs, and is gone when all are."""
    for state in ("running", "pending"):
        for job in tasks:
            if job.state == state:
                return job
    return next((job for job in tasks if job.reason), Job("gone"))


def cancel(job: str) -> None:
    # Without a signal, bkill kills a parallel job at once (LSB_USE_SEQUENTIAL_SIGNAL); a waiting job takes none.
    running = states([job])[job].state == "running"
    try:
        run_command("bkill", *(["-s", "TERM"] if running else []), job)
    except KitError as error:
        if not re.search("already finished|[Nn]o matching job|is not found", str(error)):
            raise
