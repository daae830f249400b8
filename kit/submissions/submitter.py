"""Who submits, and on which system: given, known, or asked for once and kept in the user file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import write_atomic
from kit.core.schema import Model, OneLine, parse
from kit.site import SYSTEMS, Site, user_settings, user_table
from kit.submissions.layout import is_trial, name_part, unnamed

SUBMITTER = "submitter.json"
Answer = Annotated[OneLine, StringConstraints(max_length=200)]
REPOSITORY = r"https://[\w.-]+(:\d+)?/[\w./~+-]+|git@[\w.-]+:[\w./~+-]+"


def of_form(pattern: str, needed: str) -> AfterValidator:
    """A text of a form, or none at all; what is needed is said otherwise."""

    def checked(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise ValueError(f"{needed} is needed")
        return text

    return AfterValidator(checked)


class Submitter(Model):
    """submitter.json: who answers for a submission, and where others get the kit from. An empty text: not given."""

    name: Answer = ""
    email: Annotated[Answer, of_form(r"[^@\s]+@[^@\s]+", "an e-mail address")] = ""
    user: Answer = ""  # where the pull request is opened
    # Of the kit. No URL with a name or a password before its host: it would be published.
    repository: Annotated[Answer, of_form(REPOSITORY, "an https URL without a name or a password")] = ""


QUESTIONS = {
    "organisation": "Your organisation, as the first folder of the submission's path",
    "system": "The name of the system that ran it, among those of your organisation",
}
# Of the person; each is optional, and kept as the key submitter_... of the user file.
PERSON = {
    "name": "Your name, to be published with the submission (- for none)",
    "email": "Your e-mail address, to be published (- for none)",
    "user": "Your account where the pull request is opened, to be published (- for none)",
}
NONE = "-"
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


def person(trial: bool, ask: Ask | None) -> Submitter:
    """Who answers for a submission, from KIT_SUBMITTER_..., the user file, or the answers to questions, which it keeps.

    A trial asks nothing, and nothing is needed: what nobody says stays empty. KitError for what cannot be published.
    """
    settings = user_settings()
    found = {}
    for key, setting in (*((key, f"submitter_{key}") for key in PERSON), ("repository", "repository")):
        if setting in settings:
            found[key] = publishable(key, setting, *settings[setting])
    found.setdefault("repository", origin())
    missing = [] if trial or ask is None else [key for key in PERSON if key not in found]
    if ask is not None and missing:
        answers = {key: ask(PERSON[key], partial(personal, key)) for key in missing}
        remember({f"submitter_{key}": value for key, value in answers.items()}, "")
        found |= answers
    return parse(Submitter, found, paths.user_file())


def publishable(key: str, setting: str, value: str, source: str) -> str:
    """A value of submitter.json; KitError names the setting, and the file or variable that it comes from."""
    try:
        return str(getattr(parse(Submitter, {key: value}, source), key))
    except KitError as error:
        raise KitError(str(error).replace(f"key '{key}'", f"key '{setting}'", 1)) from None


def personal(key: str, value: str) -> str:
    """An answer to a question about the person; empty for none. KitError for no answer, or one of another form."""
    if not value:
        raise KitError(f"an answer is needed; {NONE} for none")
    if value == NONE:
        return ""
    return str(getattr(parse(Submitter, {key: value}, "the answer"), key))


def origin() -> str:
    """The URL that this checkout of the kit was cloned from; empty where there is none that anybody could use."""
    if paths.CHECKOUT is None:
        return ""
    url = paths.git("remote", "get-url", "origin").stdout.decode(errors="replace").strip()
    return url if re.fullmatch(REPOSITORY, url) else ""


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
        for key, value in answers.items():
            if key != "system":
                document[key] = value
        if "system" in answers:
            document.setdefault(SYSTEMS, tomlkit.table())[site] = answers["system"]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, tomlkit.dumps(document), stat.S_IMODE(file.stat().st_mode) if there else 0o644)
    except OSError as error:
        raise KitError(
            f"{file}: cannot be written: {error.strerror}; give --organisation NAME and --system NAME instead"
        ) from None
