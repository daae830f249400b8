"""Slurm, through its own commands. How a job ended is asked of sacct, where a site has accounting; what a run did stands in
its directory."""

from __future__ import annotations

import contextlib
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
# Variables of the shell that would silently override the directives of the script, or filter what squeue and sacct answer.
# Those of Slurm's own are there where kit runs inside a job; sbatch would hand them on, and srun in the new job obey them.
DROP = (
    "SACCT_",
    "SBATCH_",
    "SCANCEL_",
    "SQUEUE_",
    "SRUN_",
    "SLURM_CPUS_PER_",
    "SLURM_CPU_BIND",
    "SLURM_DISTRIBUTION",
    "SLURM_EXCLUSIVE",
    "SLURM_EXPORT_ENV",
    "SLURM_GPU",
    "SLURM_HINT",
    "SLURM_MEM_",
    "SLURM_MPI_TYPE",
    "SLURM_NNODES",
    "SLURM_NPROCS",
    "SLURM_NTASKS",
    "SLURM_OVERLAP",
    "SLURM_THREADS_PER_CORE",
    "SLURM_TRES_PER_",
)
AT_ONCE = 5000  # ids in one question: Linux lets one word of a command have 128 KiB

# What squeue and sacct say of a job.
PENDING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "SUSPENDED"}
)
RUNNING = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"})
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)


def problem(directory: str) -> str:
    return ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    words = ["sbatch", "--parsable"]
    if after:
        words.append(f"--dependency=afterany:{after}")
    if tasks:
        words.append(f"--array=1-{tasks}")
    answer = run_command(*words, script.name, cwd=script.parent, drop=DROP)
    # A line of its own: a site's submit plugin may have something to say beside it.
    match = re.search(r"^(\d+)(;\S+)?$", answer, re.MULTILINE)
    if not match:
        raise KitError(f"sbatch answered {answer.strip()!r}, which is no job id")
    return match[1]


def task(job: str, index: int) -> str:
    return f"{job}_{index}"


def states(jobs: Sequence[str]) -> dict[str, Job]:
    found: dict[str, Job] = {}
    unique = list(dict.fromkeys(jobs))
    for start in range(0, len(unique), AT_ONCE):
        found |= some_states(unique[start : start + AT_ONCE])
    return found


def some_states(jobs: list[str]) -> dict[str, Job]:
    """As many as one question can hold: one to squeue, and one to sacct for what squeue has forgotten."""
    if not jobs:
        return {}
    found = queued(jobs)
    # squeue does not say who cancelled a job.
    unclear = [job for job in jobs if job not in found or found[job].reason == "CANCELLED"]
    if unclear:
        found |= {job: Job("gone", reason) for job, reason in accounted(unclear).items()}
    return {job: found.get(job, Job("gone")) for job in jobs}


def queued(jobs: Sequence[str]) -> dict[str, Job]:
    """What squeue knows of these jobs. An array is running as long as one of its tasks is."""
    words = ("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}")
    try:
        answer = run_command(*words, drop=DROP)
    except KitError as error:
        if "Invalid job id" in str(error):  # of the only one that was asked for
            return {}
        raise
    wanted = set(jobs)
    tasks: dict[str, list[Job]] = {}
    for line in answer.splitlines():
        fields = line.strip().split("|", 2)
        if len(fields) != 3:  # a greeting of the site
            continue
        for job in wanted & {fields[0], fields[0].partition("_")[0]}:
            tasks.setdefault(job, []).append(seen(job, *fields[1:]))
    order: tuple[JobState, ...] = ("running", "pending", "gone")
    return {job: min(found, key=lambda one: order.index(one.state)) for job, found in tasks.items()}


def seen(job: str, state: str, reason: str) -> Job:
    if state in PENDING:
        why = "" if reason == "None" else reason
        return Job("pending", why if state == "PENDING" else why or state)
    if state in RUNNING:
        return Job("running")
    if state in ENDED:
        return Job("gone", state)
    # A job that may be alive is not called gone: its run would be resumed beside it.
    raise KitError(f"squeue says that job {job} is {state!r}, which is no state of a job that the kit knows")


def accounted(jobs: Sequence[str]) -> dict[str, str]:
    """How these jobs ended, by sacct; empty where there is no accounting, or it does not answer."""
    words = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={','.join(jobs)}")
    answer = ""
    with contextlib.suppress(KitError):
        answer = run_command(*words, drop=DROP)
    ends: dict[str, str] = {}
    for line in answer.splitlines():
        job, _, state = line.strip().partition("|")
        # Accounting that says RUNNING of a job that squeue does not know has missed its end.
        if job in jobs and state.partition(" ")[0] in ENDED:
            ends[job] = state
    return ends


def cancel(job: str) -> None:
    state = states([job])[job].state
    if state == "running":
        # --batch signals the script only: its trap records the interruption and ends the stage.
        run_command("scancel", "--batch", "--signal=TERM", job, drop=DROP)
    elif state == "pending":  # a script that has not started cannot be signalled
        run_command("scancel", job, drop=DROP)
