"""What every noun shares: strict fields, and errors that name the file, the key and what was expected."""

from __future__ import annotations

import difflib
import json
import os
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from kit.errors import KitError, plain


class Model(BaseModel):
    """A noun of the kit: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("one line of printable characters is needed")
    return value


# Text that may stand in a script as a comment or a directive, and be shown on a terminal: it cannot begin a line of its own.
OneLine = Annotated[str, AfterValidator(one_line)]
# A word that stands in a script or a path as it is.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

MOST_PROBLEMS = 20  # that a message lists; a stranger's file could have any number

M = TypeVar("M", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; KitError names file and line of a mistake."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"{path}: can not be read: {error.strerror}") from None
    except RecursionError:
        raise KitError(f"{path}: not TOML that can be read: nested too deeply") from None
    except ValueError as error:  # of TOML, of UTF-8, or a number of thousands of digits
        raise KitError(f"{path}: not TOML: {error}") from None


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
                lines.append(f"{where}: key '{key}': {message}, got {shortened(problem['input'])}")
        if count > MOST_PROBLEMS:
            lines.append(f"{where}: {count - MOST_PROBLEMS} more problems")
        raise KitError("\n".join(lines)) from None


def shortened(value: Any) -> str:
    """What was given, for a message; a value may be a whole file."""
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
    return set(here.model_fields) if is_model(here) else set()


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def write_atomic(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    write_atomic(path, json_text(data))


def read_json(path: Path) -> Any:
    """The content of a JSON file; KitError names file and line of a mistake."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"{path}: can not be read: {error.strerror}") from None
    except RecursionError:
        raise KitError(f"{path}: not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # of JSON, of UTF-8, or a number of thousands of digits
        raise KitError(f"{path}: not JSON: {error}") from None


def read_table(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object; KitError for anything else."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise KitError(f"{path}: a JSON object is needed, not {type(found).__name__}")
    return found


def json_text(data: Any) -> str:
    """JSON as the kit writes it into files."""
    return json.dumps(data, indent=2) + "\n"


def read_star(path: Path, text: Sequence[str] = (), only: str | None = None) -> dict[str, Any]:
    """The blocks of a STAR file by name, each a table or a dict, or `only` one; KitError when it is missing or not STAR.

    Columns in `text` stay text, whatever they look like.
    """
    from kit.star import read

    return read(path, text, only)
