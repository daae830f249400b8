"""Where a command prints: results go to stdout, messages to stderr."""

from __future__ import annotations

import sys
from typing import Any

from kit.core.errors import plain_lines


def say(message: str) -> None:
    """A message, on stderr."""
    print(plain_lines(message), file=sys.stderr, flush=True)


def out(text: object = "", end: str = "\n") -> None:
    """A result, on stdout. What a run, a project or a stranger's folder wrote cannot act on the terminal."""
    print(plain_lines(str(text)), end=end)


def out_json(value: Any) -> None:
    """A result for programs, on stdout."""
    import json

    out(json.dumps(value, indent=2))
