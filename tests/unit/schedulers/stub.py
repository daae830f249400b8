"""What the stand-ins for schedulers share: jobs as files of one folder, and scripts that run when a test says so.

A job is a JSON file `$STUB_JOBS/ID.json`. The command that submits one writes it; `test_schedulers.py` starts and ends it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

JOBS = Path(os.environ["STUB_JOBS"])


def die(text: str, code: int = 1) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(code)


def load(job: str) -> dict[str, Any] | None:
    file = JOBS / f"{job}.json"
    return json.loads(file.read_text()) if file.exists() else None


def save(job: dict[str, Any]) -> None:
    (JOBS / f"{job['id']}.json").write_text(json.dumps(job))


def new_number() -> int:
    """The next number of a job; each command is also written down as it was called."""
    counter = JOBS / "counter"
    number = int(counter.read_text()) + 1 if counter.exists() else 101
    counter.write_text(str(number))
    return number


def record(arguments: list[str]) -> None:
    with (JOBS / "commands.jsonl").open("a") as log:
        log.write(json.dumps(arguments) + "\n")


def submit(job: str, script: str, options: dict[str, Any], tasks: dict[str, int] | None = None, **more: Any) -> None:
    """Writes down a job, or the tasks of an array as {id: index}; the script is copied, as real schedulers do."""
    for name, index in (tasks or {job: 0}).items():
        copy = JOBS / f"{name}.sh"
        copy.write_text(script)
        state = {"id": name, "of": job, "index": index, "state": "pending", "cwd": os.getcwd(), "exit": None, "reason": ""}
        save({**state, "script": str(copy), "options": options, **more})


def of(job: str) -> list[dict[str, Any]]:
    """The job of this id, or the tasks of the array of this id."""
    every = [json.loads(file.read_text()) for file in sorted(JOBS.glob("*.json"), key=lambda f: (len(f.name), f.name))]
    return [entry for entry in every if job in (entry["id"], entry["of"])]


def kill(job: dict[str, Any], number: int, whole: bool = True) -> None:
    """Ends a waiting job; signals a running one: all its processes, or its script alone."""
    if job["state"] == "pending":
        save({**job, "state": "gone", "reason": "cancelled"})
    elif job["state"] == "running":
        (os.killpg if whole else os.kill)(job["pid"], number)


SIGNALS = {name: getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "HUP", "KILL", "USR1", "USR2")}


def directives(text: str, prefix: str) -> list[str]:
    """What stands behind a prefix at the beginning of lines; a directive behind the first command is an error.

    The real ones leave such a line out without a word, which is why it is an error here.
    """
    found: list[str] = []
    command = ""
    for line in text.splitlines():
        if line.startswith(prefix):
            if command:
                die(f"directive after the first command ({command}): {line}")
            found.append(line.removeprefix(prefix))
        elif line.strip() and not line.startswith("#"):
            command = command or line
    return found


def once(options: dict[str, Any], name: str, value: Any) -> None:
    if name in options:
        die(f"option {name} is given twice: {options[name]} and {value}")
    options[name] = value


def number(text: str, what: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        die(f"{what}: a number is needed, not {text!r}")
    return int(text)


def clock(text: str, what: str) -> None:
    if not re.fullmatch(r"\d{2,}:[0-5]\d:[0-5]\d", text):
        die(f"{what}: HH:MM:SS is needed, not {text!r}")


def script_of(arguments: list[str]) -> str:
    if len(arguments) != 1:
        die(f"one script is needed, not {arguments}")
    if not Path(arguments[0]).is_file():
        die(f"script file: {arguments[0]}: No such file or directory")
    return Path(arguments[0]).read_text()
