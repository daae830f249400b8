"""The one exception the kit expects, how names that are almost right are answered, and how foreign text is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KitError(Exception):
    """Something the user can put right. The message says what happened, where, what was expected and what to do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> KitError:
    """An error for a name that is not known, with the nearest of those that are, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return KitError(f"unknown {kind} '{name}': {hint}known: {', '.join(names) or 'none'}")


def plain(text: str) -> str:
    """Foreign text as it may reach a terminal: what is no printable character stands there as its escape, newlines too.

    Control characters would act on the terminal, marks of direction would reorder what is read.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def plain_lines(text: str) -> str:
    """The same for a text of several lines, which keeps its newlines."""
    return "\n".join(plain(line) for line in text.split("\n"))
