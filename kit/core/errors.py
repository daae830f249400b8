"""The one exception the kit expects, suggestions for misspelt names, and foreign text made safe to print."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KitError(Exception):
    """Something the user can put right. The message says what happened, where, what was expected and what to do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> KitError:
    """An error for an unknown name that lists the nearest known names, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return KitError(f"unknown {kind} '{name}': {hint}known: {', '.join(names) or 'none'}")


def plain(text: str) -> str:
    """Foreign text made safe for a terminal: characters that are not printable are escaped, newlines too.

    Control characters would act on the terminal; direction marks would reorder the text.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def plain_lines(text: str) -> str:
    """The same for a text of several lines, which keeps its newlines."""
    return "\n".join(plain(line) for line in text.split("\n"))
