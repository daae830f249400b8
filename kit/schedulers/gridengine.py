"""Grid Engine (Sun, Son of, Univa, Altair), through its own commands."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

from kit.core.errors import KitError
from kit.schedulers.command import run_command
from kit.schedulers.job import Job

WORDS = frozenset(
    {
        "account",
        "queue",
        "reservation",
        "exclusive",
        "memory_request",
        "memory_resource",
        "parallel_environment",
        "mail",
        "gpu_request",
    }
)
VALUES = {"gpu_request": frozenset({"node", "none"})}
ARRAY = "SGE_TASK_ID"
# qacct reads the accounting of the whole cluster once for every job: of more jobs than these, none is asked for.
ACCOUNTED = 10


def problem(directory: str) -> str:
    return "Grid Engine puts a variable in the place of the $ in a path" if "$" in directory else ""


def submit(script: Path, after: str = "", tasks: int = 0) -> str:
    words = ["qsub", "-terse"]
    if after:
        words += ["-hold_jid", after.partition(".")[0]]  # it waits for all of an array, never for one task
    if tasks:
        words += ["-t", f"1-{tasks}"]
    answer = run_command(*words, script.name, cwd=script.parent)
    # Sites print their own lines before it.
    match = re.search(r"^(\d+)(\.\d+-\d+:\d+)?\s*\Z", answer, re.MULTILINE)
    if not match:
        raise KitError(f"qsub answered {answer.strip()[:300]!r}, which is no job id")
    return match[1]


def task(job: str, index: int) -> str:
    return f"{job}.{index}"


def states(jobs: Sequence[str]) -> dict[str, Job]:
    """All of these jobs as they are now; another question only where one is in error or gone."""
    asked = set(jobs)
    known: dict[str, Job] = {}
    answer = run_command("qstat", "-u", "*", "-xml")  # of everyone: a run may be somebody else's
    try:
        listed = list(ET.fromstring(answer).iter("job_list"))
    except ET.ParseError as error:
        raise KitError(f"qstat answered no XML: {error}") from None
    for entry in listed:
        number, letters = entry.findtext("JB_job_number", ""), entry.findtext("state", "")
        now = Job("running") if entry.get("state") == "running" else Job("pending", waits(letters))
        names = {number, *(f"{number}.{index}" for index in indices(entry.findtext("tasks") or ""))}
        for name in names & asked:
            if name not in known or now.state == "running":  # an array runs when one of its tasks does
                known[name] = now
    wrong = sorted({name.partition(".")[0] for name, job in known.items() if job.reason == ERROR})
    if wrong:
        told = errors(wrong)
        for name, job in known.items():
            if job.reason == ERROR:
                known[name] = Job("pending", told.get(name.partition(".")[0], ERROR))
    gone = [job for job in jobs if job not in known]
    return known | accounted(gone)


ERROR = "in error; qmod -cj lets Grid Engine try again"


def waits(letters: str) -> str:
    """Why a job with these letters of state waits, where they say it."""
    return ERROR if "E" in letters else "held until another job ends" if "h" in letters else ""


def indices(tasks: str) -> Iterator[int]:
    """The tasks that a line of qstat speaks of: `3`, `5-9:1`, `2,5-9:2`; none for a job that is no array."""
    for first, last, step in re.findall(r"(\d+)(?:-(\d+)(?::(\d+))?)?", tasks):
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def errors(numbers: Sequence[str]) -> dict[str, str]:
    """What put these jobs in error; nothing if Grid Engine does not say."""
    try:
        answer = run_command("qstat", "-j", ",".join(numbers))
    except KitError:  # it may have ended by now
        return {}
    told = {}
    for block in re.split(r"^=+$", answer, flags=re.MULTILINE):
        number = re.search(r"^job_number:\s+(\d+)", block, re.MULTILINE)
        reason = re.search(r"^error reason\s+\d+:\s+(.+)", block, re.MULTILINE)
        if number and reason:
            told[number[1]] = re.sub(r"^\S+ \S+ \[\S+\]: ", "", reason[1]).strip()
    return told


def accounted(jobs: Sequence[str]) -> dict[str, Job]:
    """Jobs that qstat no longer lists, and how they ended where the accounting answers; it does so seconds later."""
    found = dict.fromkeys(jobs, Job("gone"))
    numbers = {job.partition(".")[0] for job in jobs}
    if len(numbers) > ACCOUNTED:
        return found
    for number in numbers:
        try:
            answer = run_command("qacct", "-j", number)
        except KitError:  # not yet written, or not for this user or machine
            continue
        for block in re.split(r"^=+$", answer, flags=re.MULTILINE):  # one for each task, and for each time it was started
            fields = dict(re.findall(r"^(\w+) +(.*\S)", block, re.MULTILINE))
            for name in {number, f"{number}.{fields.get('taskid', '')}"} & found.keys():
                found[name] = Job("gone", ended(fields))
    return found


def ended(fields: dict[str, str]) -> str:
    """How a job ended, of the fields that the accounting has of it; nothing for one that ended well."""
    failed = re.sub(r"\s*:\s*", ": ", fields.get("failed", "0"), count=1)
    status = re.sub(r"\s+", " ", fields.get("exit_status", "0"))
    said = [] if failed == "0" else [f"failed {failed}"]
    if status != "0":
        said.append(f"exit status {status}")
    return ", ".join(said)


def cancel(job: str) -> None:
    # Asked for with -notify, it sends the script USR2 before it kills it: the trap records the interruption.
    try:
        run_command("qdel", job)
    except KitError as error:
        if "does not exist" not in str(error):
            raise
