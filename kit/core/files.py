"""Files: written whole or not at all, read with errors that name them, opened without following a link.

Only what lies in the directory of a run is ever read for it, hashed or packed.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
import tomllib
from io import BufferedReader
from pathlib import Path
from typing import Any

from kit.core.errors import KitError

KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind(mode: int) -> str:
    """The kind of a file that is not a regular one ("a link", ...); empty for a regular file."""
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no file")


def open_plain(folder: Path, name: str) -> BufferedReader:
    """The regular file `name` below `folder`, opened for reading.

    KitError for a name that leads out of the folder, for a link at any step of the way, and for what is no regular file;
    nothing of the kind is opened, so a FIFO cannot make anybody wait.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise KitError(f"{folder / name}: not a name of a file in {folder}")
    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        mode = os.lstat(parts[-1], dir_fd=handle).st_mode
        if kind(mode):
            raise KitError(f"{folder / name}: {kind(mode)}, where a file of this run is needed; it is not read")
        return os.fdopen(os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle), "rb")
    except NotADirectoryError:
        raise KitError(f"{folder / name}: a link or a file stands where a folder of this run is needed") from None
    except OSError as error:
        raise KitError(f"{folder / name}: cannot be read: {error.strerror}") from None
    finally:
        if handle >= 0:
            os.close(handle)


def plain_file(folder: Path, name: str) -> Path:
    """The path of a file that `open_plain` opens; KitError as there."""
    open_plain(folder, name).close()
    return folder / name


def read_text(path: Path) -> str:
    """The content of a text file; KitError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise KitError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KitError(f"{path}: not text (UTF-8)") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; KitError names file and line of a mistake."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise KitError(f"{path}: not TOML that can be read: nested too deeply") from None
    except ValueError as error:  # of TOML, of UTF-8, or a number of thousands of digits
        raise KitError(f"{path}: not TOML: {error}") from None


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    write_atomic(path, json_text(data))


def read_json(path: Path, finite: bool = False) -> Any:
    """The content of a JSON file; KitError names file and line of a mistake.

    Python also takes NaN and Infinity, which are no JSON, and numbers that are too large for a float; not with `finite`.
    """
    strict: dict[str, Any] = {"parse_constant": finite_number, "parse_float": finite_number} if finite else {}
    try:
        return json.loads(path.read_text(encoding="utf-8"), **strict)
    except OSError as error:
        raise KitError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise KitError(f"{path}: not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # of JSON, of UTF-8, or a number of thousands of digits
        raise KitError(f"{path}: not JSON: {error}") from None


def finite_number(text: str) -> float:
    """A number of JSON; ValueError for one that is none, or infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def read_table(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object; KitError for anything else."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise KitError(f"{path}: a JSON object is needed, not {type(found).__name__}")
    return found


def json_text(data: Any) -> str:
    """JSON as the kit writes it into files."""
    return json.dumps(data, indent=2) + "\n"
