"""Checksums, all SHA-256, in the three forms that the kit has.

* `sha256(path)`: bare hexadecimal digits, as sha256sum and publishers write them.
* `digest(path)`: `sha256:` and those digits, as records of runs, images and SBOMs write them.
* Files of checksums: manifest.json beside data (every file with its size), and sha256sums.txt in what leaves this machine,
  submissions and exported images, which `sha256sum --check` reads as well.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from kit.core.errors import KitError
from kit.core.files import open_plain, read_json, write_atomic

MANIFEST = "manifest.json"
SUMS = "sha256sums.txt"


def sha256(path: Path) -> str:
    """The checksum of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return sha256_read(file)


def sha256_read(file: IO[bytes]) -> str:
    """The checksum of what is left to read of an open file."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def labelled(digits: str) -> str:
    """A checksum with its algorithm before it, `sha256:...`."""
    return f"sha256:{digits}"


def digest(path: Path) -> str:
    """`sha256:...` of a file."""
    return labelled(sha256(path))


def digest_of(content: bytes) -> str:
    """`sha256:...` of bytes."""
    return labelled(hashlib.sha256(content).hexdigest())


def text_digest(text: str) -> str:
    """`sha256:...` of text, which is that of the file that it is written to."""
    return digest_of(text.encode())


def plain_digest(folder: Path, name: str) -> str:
    """`sha256:...` of a regular file below a folder; KitError as `open_plain`, by which a link is not followed."""
    with open_plain(folder, name) as file:
        return labelled(sha256_read(file))


def manifest(folder: Path) -> dict[str, Any]:
    """Every file below a folder of data, by its path there: its size in bytes and its checksum, in bare digits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}


def verify(folder: Path, remedy: str, hashed: bool = True) -> None:
    """Checks every file of a data set against its manifest; KitError names the one that differs, and the remedy."""
    try:
        wanted = read_json(folder / MANIFEST)
    except KitError as error:
        raise KitError(f"{error}; {remedy}") from None
    if not isinstance(wanted, dict):
        raise KitError(f"{folder / MANIFEST}: not a manifest; {remedy}")
    for name, entry in wanted.items():
        path = folder / name
        if not isinstance(entry, dict) or entry.keys() != {"bytes", "sha256"}:
            raise KitError(f"{folder / MANIFEST}: key '{name}' needs bytes and sha256; {remedy}")
        if not os.path.lexists(path):
            raise KitError(f"{path}: missing from the data set; {remedy}")
        # The manifest may be a stranger's: what it names outside of the folder is not looked at.
        with open_plain(folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry["bytes"] or (hashed and sha256_read(file) != entry["sha256"]):
                raise KitError(f"{path}: differs from the manifest of the data set; {remedy}")


def sums_text(sums: Mapping[str, str]) -> str:
    """Checksums by file as the lines of sha256sum, in the order of the names."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def write_sums(folder: Path, sums: Mapping[str, str]) -> Path:
    """Writes sha256sums.txt of the files of a folder, {path below it: digits}, and returns its path."""
    write_atomic(folder / SUMS, sums_text(sums))
    return folder / SUMS


def read_sums(folder: Path) -> dict[str, str]:
    """What sha256sums.txt of a folder lists, {path below it: digits}; KitError names a line that is not one of sha256sum."""
    return parse_sums((folder / SUMS).read_text(errors="surrogateescape"), folder / SUMS)


def parse_sums(text: str, where: Path) -> dict[str, str]:
    """The same from the text of a file `where`, which was read already."""
    entries: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        if not match:
            raise KitError(f"{where}:{number}: not a line of sha256sum")
        if match[2] in entries:
            raise KitError(f"{where}:{number}: a second checksum of {match[2]}")
        entries[match[2]] = match[1]
    return entries
