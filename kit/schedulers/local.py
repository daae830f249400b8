"""No scheduler: the script runs on this machine, in a process group of its own. Its id is `pid:start time`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Literal


def start_time(pid: int) -> str:
    """Start of a process in clock ticks since boot, '' when it has ended: a process id alone may be used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def submit(script: Path) -> str:
    with (script.parent / "job.out").open("ab") as out:
        process = subprocess.Popen(
            ["bash", script.name],
            cwd=script.parent,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return f"{process.pid}:{start_time(process.pid)}"


def state(job: str) -> Literal["running", "gone"]:
    pid, _, started = job.partition(":")
    with contextlib.suppress(ChildProcessError):  # a job that another process of the kit started
        os.waitpid(int(pid), os.WNOHANG)  # a child of ours that has ended is only then forgotten
    return "running" if started and start_time(int(pid)) == started else "gone"


def cancel(job: str) -> None:
    # The script alone is told: its trap writes down what was interrupted and ends its stage.
    if state(job) == "running":
        os.kill(int(job.partition(":")[0]), signal.SIGTERM)
