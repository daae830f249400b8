"""What every noun shares: strict fields, and errors that name the file, the key and what was expected."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from kit.core.errors import KitError, plain


class Model(BaseModel):
    """A noun of the kit: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def known_keys(cls) -> set[str]:
        """The keys that it may be written with."""
        return set(cls.model_fields)


def one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("one line of printable characters is needed")
    return value


# Text that is safe as a comment or directive in a script and on a terminal: it cannot begin a new line.
OneLine = Annotated[str, AfterValidator(one_line)]
# A word that stands in a script or a path as it is.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

MOST_PROBLEMS = 20  # that a message lists; a stranger's file could have any number

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], data: Any, where: Path | str) -> M:
    """`data` as `model`; KitError lists every wrong key with what was expected, and the nearest known key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        count = error.error_count()
        for problem in error.errors(include_url=False, include_context=False)[:MOST_PROBLEMS]:
            key = plain(".".join(str(part) for part in problem["loc"]))
            if problem["type"] == "extra_forbidden":
                known = sorted(known_keys(model, problem["loc"][:-1]))
                near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
                lines.append(f"{where}: key '{key}' is not known; {hint}")
            elif problem["type"] == "missing":
                lines.append(f"{where}: key '{key}' is missing")
            else:
                message = problem["msg"].removeprefix("Value error, ")
                got = "" if isinstance(problem["input"], dict) else f", got {shortened(problem['input'])}"
                lines.append(f"{where}: {f'key {key!r}: ' if key else ''}{message}{got}")
        if count > MOST_PROBLEMS:
            lines.append(f"{where}: {count - MOST_PROBLEMS} more problems")
        raise KitError("\n".join(lines)) from None


def shortened(value: Any) -> str:
    """A value for an error message, cut short: it may be a whole file."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The keys a model knows at a place inside it."""
    here: Any = model
    for part in location:
        if is_model(here):
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        else:  # a key of dict[str, X], an index of list[X]
            here = next((inner for inner in reversed(get_args(here)) if inner is not type(None)), None)
    if isinstance(here, UnionType):  # a model that may be left out
        here = next((inner for inner in get_args(here) if is_model(inner)), None)
    if not is_model(here):
        return set()
    return here.known_keys() if issubclass(here, Model) else set(here.model_fields)


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
