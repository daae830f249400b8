"""Git in a clone of the receiving repository: commands that say what went wrong, and never ask a terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kit.core.errors import KitError, plain_lines

# What a caller's own environment says of another repository or index.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
Result = subprocess.CompletedProcess[str]


def run_git(clone: Path, *words: str, text: str | None = None, index: Path | None = None) -> Result:
    """A git command in a clone, with `text` on its stdin and another index than the clone's, if given."""
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    environment |= {"GIT_INDEX_FILE": str(index)} if index else {}
    try:
        return subprocess.run(
            ["git", "-C", str(clone), *words],
            env={**environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"},
            input="" if text is None else text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError:
        raise KitError("git: not found; install it (apt-get install git)") from None


def git(clone: Path, *words: str, text: str | None = None, index: Path | None = None) -> str:
    """What a git command prints; KitError with git's own words where it fails."""
    result = run_git(clone, *words, text=text, index=index)
    if result.returncode:
        raise KitError(f"{clone}: git {words[0]} failed: {plain_lines(result.stderr.strip()) or result.returncode}")
    return result.stdout


def top(path: Path) -> Path:
    """The root of the clone in which a folder lies; KitError where there is none."""
    result = run_git(path, "rev-parse", "--show-toplevel") if path.is_dir() else None
    if result is None or result.returncode:
        raise KitError(f"{path}: not in a git clone; clone the results repository, and give its folder")
    return Path(result.stdout.removesuffix("\n"))


def commit_of(clone: Path, name: str) -> str:
    """The id of the commit that a name stands for; KitError where it is none."""
    result = run_git(clone, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if result.returncode:
        raise KitError(f"{clone}: no commit {name!r} is here; git fetch may bring it")
    return result.stdout.strip()
