"""Who submits, and on which system: given, known, or asked for once and kept in the user file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import write_atomic
from kit.site import SYSTEMS, Site, user_settings, user_table
from kit.submissions.layout import is_trial, name_part, unnamed

QUESTIONS = {
    "organisation": "Your organisation, as the first folder of the submission's path",
    "system": "The name of the system that ran it, among those of your organisation",
}
# Asks a person: the question, and what turns an answer into a name or raises KitError, after which it asks again.
Ask = Callable[[str, Callable[[str], str]], str]


def submitter(site: Site, organisation: str | None, system: str | None, ask: Ask | None) -> tuple[str, str]:
    """Organisation and system of a submission. Each comes from the first of: what is given, KIT_ORGANISATION or KIT_SYSTEM,
    user file, site, and the answer to a question, which the user file keeps.

    The system of a site is its name. A trial needs no other, and is asked for none.
    KitError for what is no name, and where nobody can be asked.
    """
    known, _ = user_settings().get("organisation", (site.organisation, ""))
    chosen = {"organisation": known if organisation is None else organisation}
    trial = is_trial(chosen["organisation"])
    named = os.environ.get("KIT_SYSTEM") or user_table().get(SYSTEMS, {}).get(site.name, site.name)
    chosen["system"] = named if system is None else system
    given = {"organisation": organisation, "system": system}
    missing = [
        key for key, value in chosen.items() if given[key] is None and not trial and (not value or unnamed(key, value))
    ]
    names = {key: name(key, value, trial) for key, value in chosen.items() if key not in missing}
    if missing:
        if ask is None:
            raise KitError(
                f"{' and '.join(missing)} of the submission: not known, and there is no terminal to ask on; give "
                f"--organisation NAME and --system NAME, or write them into {paths.user_file()}:\n"
                f'  organisation = "NAME"\n  [{SYSTEMS}]\n  "{site.name}" = "NAME"'
            )
        answers = {key: ask(QUESTIONS[key], partial(name, key)) for key in missing}
        remember(answers, site.name)
        names |= answers
    return names["organisation"], names["system"]


def name(kind: str, value: str, trial: bool = False) -> str:
    """A value as the name of an organisation or a system; KitError where it is none."""
    if not trial and (unnamed(kind, value) or (kind == "organisation" and is_trial(value))):
        raise KitError(f"{kind} {value!r} says nothing; a name of your own is needed")
    return name_part(kind, value)


def remember(answers: dict[str, str], site: str) -> None:
    """Writes names into the user file, and leaves there what else it holds; KitError where it cannot be written."""
    import tomlkit

    # Of a link, its target: people keep such files elsewhere.
    file = Path(os.path.realpath(paths.user_file()))
    try:
        there = file.exists()
        if there and not file.is_file():
            raise KitError(f"{file}: no plain file; KIT_CONFIG can name another")
        document = tomlkit.parse(file.read_bytes().decode() if there else "")
        if "organisation" in answers:
            document["organisation"] = answers["organisation"]
        if "system" in answers:
            document.setdefault(SYSTEMS, tomlkit.table())[site] = answers["system"]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, tomlkit.dumps(document), stat.S_IMODE(file.stat().st_mode) if there else 0o644)
    except OSError as error:
        raise KitError(
            f"{file}: cannot be written: {error.strerror}; give --organisation NAME and --system NAME instead"
        ) from None
