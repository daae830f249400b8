"""The one exception the kit expects, and how names that are almost right are answered."""

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
