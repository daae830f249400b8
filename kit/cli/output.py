"""Where a command prints: results go to stdout, messages to stderr."""

from __future__ import annotations

import math
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
    """A result for programs, on stdout. JSON knows no number that is none, and null stands for it."""
    import json

    out(json.dumps(finite(value), indent=2))


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
