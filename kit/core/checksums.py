"""The manifest of a folder of data: every file with its size and checksum."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.files import open_plain, read_json

MANIFEST = "manifest.json"


def manifest(folder: Path) -> dict[str, Any]:
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
            if size != entry["bytes"] or (hashed and hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]):
                raise KitError(f"{path}: differs from the manifest of the data set; {remedy}")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
