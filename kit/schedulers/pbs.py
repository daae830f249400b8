"""PBS Professional and OpenPBS.

- The nodes are chunks, `select=NODES:ncpus=...`, each on a node of its own (`place=scatter`, with `:excl` if exclusive).
- The account is said as `-A` and, unless it has a character that PBS forbids there, as `-P`: PBS itself interprets neither;
  Polaris and Derecho charge the first, Gadi the second.
- A reservation is a queue, and takes the place of `queue`. `constraint` is written behind the chunk
  (`system=polaris`, `gpu_type=a100`). `directives` say what a site has invented (`-l filesystems=home:eagle`,
  `-l storage=scratch/ab12`).
- Where a site refuses `select`, as Gadi does, `parallel_environment = "ncpus"` asks for the totals of the job instead, with
  no word for `constraint` and `exclusive`: such a site gives whole nodes to whoever asks for all their cores.
- There is no warning before the time limit. At the limit, as with qdel, the job gets TERM, and KILL when `kill_delay` of its
  queue has passed (10 s unless the site says otherwise).
- PBS copies its own file over an older one when a job ends, so the script appends to job.out itself; what PBS says of the
  job (`walltime ... exceeded limit`) is in scheduler.out. Both need no path in a directive, and any run directory will do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.asking import number, of_known, one_line
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
        "parallel_environment",
        "mail",
        "gpu_request",
        "hyperthreads",
    }
)
# The values it can say of a key for which other schedulers have more.
VALUES = {
    "memory_request": frozenset({"", "node"}),
    "parallel_environment": frozenset({"", "ncpus"}),
    "gpu_request": frozenset({"node", "none"}),
}
ARRAY = "PBS_ARRAY_INDEX"
# PBS_DPREFIX would make qsub look for other directives, PBS_SHELL run the script with another shell.
DROP = ("PBS_DPREFIX", "PBS_SHELL")

STATES: dict[str, JobState] = {"R": "running", "E": "running", "B": "running", "F": "gone", "X": "gone"}
# Exit statuses that PBS itself gives (pbs_job.h).
ENDS = {-24: "ncpus exceeded", -25: "ncpus exceeded", -26: "vmem exceeded", -27: "mem exceeded", -28: "cput exceeded"}
ENDS |= {-29: "walltime exceeded"}


def problem(directory: str) -> str:
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    words = ["qsub"]
    if after:
        words += ["-W", f"depend=afterany:{after}"]
    if tasks:
        # A range must rise: an array of one task is every second number of 1 to 2. PBS takes only arrays that it may start
        # again; a script by itself says that it may not, since the old one may still write.
        words += ["-r", "y", "-J", f"1-{tasks}" if tasks > 1 else "1-2:2"]
    answer = run_command(*words, script.name, cwd=script.parent, drop=DROP)
    match = re.search(r"^\d+(\[\])?(\.\S+)?$", answer.strip(), re.MULTILINE)
    if not match:
        raise KitError(f"qsub answered {answer.strip()!r}, which is no job id")
    return match[0]


def task(job: str, index: int) -> str:
    return job.replace("[]", f"[{index}]")


def states(jobs: Sequence[str]) -> dict[str, Job]:
    answer = of_known(ask, jobs, re.compile(r"Unknown Job Id (\S+)"))
    try:
        # strict: values may hold bare tabs and line ends.
        known = json.loads(answer, strict=False).get("Jobs", {}) if answer.strip() else {}
    except json.JSONDecodeError as error:
        raise KitError(f"qstat -F json: its answer is not JSON: {error}") from None
    found = {number(name): record(values) for name, values in known.items()}
    return {job: found.get(number(job), Job("gone")) for job in jobs}


def ask(jobs: Sequence[str]) -> str:
    try:
        return run_command("qstat", "-x", "-f", "-F", "json", *jobs)
    except KitError as error:
        if "not configured to maintain job history" not in str(error):
            raise
        return run_command("qstat", "-f", "-F", "json", *jobs)


def record(values: dict[str, object]) -> Job:
    state = STATES.get(str(values.get("job_state")), "pending")
    if state == "pending":
        return Job(state, one_line(values.get("comment")))
    status = int(str(values.get("Exit_status", 0)))
    if state == "running" or status == 0:
        return Job(state)
    name = f" ({ENDS[status]})" if status in ENDS else ""
    return Job(state, f"Exit_status = {status}{name}")


def cancel(job: str) -> None:
    # TERM first, to all processes of the job: the trap of the script records it.
    try:
        run_command("qdel", job)
    except KitError as error:
        if not re.search("has finished|Unknown Job Id", str(error)):
            raise
