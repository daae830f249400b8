"""The commands of schedulers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kit.core.errors import KitError, plain

SECONDS = 120  # that a scheduler may take for an answer


def run_command(*words: str, cwd: Path | None = None, drop: tuple[str, ...] = (), stdin: Path | None = None) -> str:
    """Output of a scheduler's command; KitError with what it said.

    Variables that begin with one of `drop` do not reach it: those of the shell would override the directives of the script.
    """
    environment = {key: value for key, value in os.environ.items() if not drop or not key.startswith(drop)}
    try:
        with (stdin or Path(os.devnull)).open("rb") as source:
            result = subprocess.run(
                words,
                cwd=cwd,
                env=environment,
                stdin=source,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
            )
    except FileNotFoundError:
        raise KitError(f"{words[0]}: not on the PATH; run this on a login node of the site") from None
    except subprocess.TimeoutExpired:
        raise KitError(f"{words[0]}: no answer within {SECONDS} s; the scheduler may be down") from None
    if result.returncode:
        said = plain((result.stderr.strip() or result.stdout.strip())[:1000])
        raise KitError(f"{' '.join(words)[:300]}: {said}")
    return result.stdout
