"""No scheduler: the script runs on this machine, in a process group of its own. Its id is `pid:start time`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.job import Job

WORDS: frozenset[str] = frozenset()
ARRAY = ""


def problem(directory: str) -> str:
    return ""


def status(pid: int) -> tuple[str, str]:
    """State of a process, `Z` for one that has ended and was not waited for, and its start in clock ticks since boot.

    A process id alone may be used again. Both are empty when there is no such process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    if after or tasks:
        raise KitError("without a scheduler a job starts at once: it can wait for no other, and is no array")
    with (script.parent / "job.out").open("ab") as out:
        process = subprocess.Popen(
            ["bash", script.name],
            cwd=script.parent,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return f"{process.pid}:{status(process.pid)[1]}"  # also of a job that has ended already


def task(job: str, index: int) -> str:
    raise KitError("without a scheduler there are no arrays of jobs")


def states(jobs: Sequence[str]) -> dict[str, Job]:
    return {job: state(job) for job in jobs}


def state(job: str) -> Job:
    pid, _, started = job.partition(":")
    with contextlib.suppress(ChildProcessError, OverflowError):  # of another process of the kit, or no number of one
        os.waitpid(int(pid), os.WNOHANG)  # reaps our own child, which otherwise stays as a zombie
    now, start = status(int(pid))
    return Job("running" if started and start == started and now != "Z" else "gone")


def cancel(job: str) -> None:
    # Signals the script only: its trap records the interruption and ends the stage.
    if state(job).state == "running":
        os.kill(int(job.partition(":")[0]), signal.SIGTERM)
