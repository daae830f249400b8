"""Why the check refuses a submission: asked once, and kept in the cache while neither the folder nor the kit changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import read_json, write_json


def verdict(folder: Path) -> list[str]:
    """The errors that `kit submission check` finds in a folder, as texts; none where it accepts it. A trial is accepted."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return [f"cannot be listed: {error.strerror}"]
    kept = place(folder)
    if kept and kept.is_file():
        found = read_json(kept)
        if isinstance(found, list):
            return [str(text) for text in found]
    from kit.submissions.check import check

    errors = [f for f in check(folder, allow_trial=True) if getattr(f, "severity", "error") == "error"]
    texts = [str(finding) for finding in errors]
    if kept:
        paths.make_cached(kept.parent)
        write_json(kept, texts)
    return texts


def place(folder: Path) -> Path | None:
    """Where the verdict on a folder is kept; None for a kit that nobody else has, whose check changes while it is worked on,
    and for a folder of which not all can be listed.

    By the kit's commit, by what the environment allows, and by name, size, mode and time of change of every file.
    """
    commit = paths.commit()
    if commit == "unknown" or commit.endswith("-dirty"):
        return None
    state = hashlib.sha256(f"{commit} {os.environ.get('KIT_ALLOW_DIRTY', '')}\0".encode())
    try:
        for line in listing(folder.resolve()):
            state.update(line.encode(errors="surrogateescape") + b"\0")
    except OSError:
        return None
    return paths.cache() / "verdicts" / f"{state.hexdigest()}.json"


def listing(folder: Path) -> Iterator[str]:
    """What lies in a folder, without opening any of it."""
    for at, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*files, *folders]):
            status = os.lstat(os.path.join(at, name))
            yield f"{at}/{name} {status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def handed(path: Path, folders: Sequence[Path]) -> dict[Path, list[str] | None]:
    """The errors that such a file has for each folder, None where it does not name it; KitError where it names none."""
    known = given(path)
    errors = {folder: known.get(folder.parts[-4:]) for folder in folders}
    if known and folders and all(found is None for found in errors.values()):
        named, other = "/".join(next(iter(known))), "/".join(folders[0].parts[-4:])
        raise KitError(
            f"{path}: has a verdict on {named}, and none on {other} or any other folder found; give kit submission check "
            "the folder that holds all organisations"
        )
    return errors


def given(path: Path) -> dict[tuple[str, ...], list[str]]:
    """The verdicts of a file that `kit submission check --json` printed: errors by the last four names of each folder.

    It holds one verdict, a list of them, or an object whose `submissions` is such a list. KitError for anything else.
    """
    found: Any = read_json(path)
    found = found.get("submissions", [found]) if isinstance(found, dict) else found
    verdicts: dict[tuple[str, ...], list[str]] = {}
    try:
        for one in found:
            accepted, findings = one["accepted"], one["findings"]
            texts = [f"{f['file']}: {f['problem']}" for f in findings if f.get("severity", "error") == "error"]
            verdicts[Path(one["folder"]).parts[-4:]] = [] if accepted is True else texts or ["refused, for no reason given"]
    except (TypeError, KeyError, AttributeError) as error:
        raise KitError(
            f"{path}: not what kit submission check --json prints ({type(error).__name__}: {error}); each verdict needs "
            "folder, accepted and findings"
        ) from None
    return verdicts
