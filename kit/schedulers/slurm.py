"""Slurm, through its own commands. sacct is not needed: the run directory records what a job did."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Literal

from kit.core.errors import KitError


def slurm(*words: str, cwd: Path | None = None) -> str:
    """Output of a Slurm command; KitError with what it said."""
    # SBATCH_* variables of the shell would silently override the directives of the script.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SBATCH_")}
    try:
        result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise KitError(f"{words[0]}: not on the PATH; run this on a login node of the Slurm site") from None
    except subprocess.TimeoutExpired:
        raise KitError(f"{words[0]}: no answer within 120 s; the Slurm controller may be down") from None
    if result.returncode:
        raise KitError(f"{' '.join(words)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def submit(script: Path) -> str:
    answer = slurm("sbatch", "--parsable", script.name, cwd=script.parent)
    match = re.match(r"\d+", answer.strip())
    if not match:
        raise KitError(f"sbatch answered {answer.strip()!r}, which is no job id")
    return match[0]


def state(job: str) -> Literal["pending", "running", "gone"]:
    try:
        answer = slurm("squeue", "--noheader", "--jobs", job, "--format=%T", "--states=all").strip()
    except KitError as error:
        if "Invalid job id" in str(error):
            return "gone"
        raise
    if answer in ("PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED"):
        return "pending"
    return "running" if answer in ("RUNNING", "COMPLETING", "STAGE_OUT") else "gone"


def cancel(job: str) -> None:
    # --batch signals the script only: its trap records the interruption and ends the stage.
    slurm("scancel", "--batch", "--signal=TERM", job)
