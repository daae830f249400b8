"""Mends of a submission what can be mended without deciding anything: what changes is no evidence of the run.

Modes of files, what editors and file managers leave behind, texts that follow from the run, and the form of the checksums.
Where any other file differs from its checksum, texts and checksums stay as they are: new checksums would hide the change.
So they do in a folder that was packed under other names: nobody but the submitter says whose result it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from kit.core.checksums import SUMS, labelled, sums_text
from kit.core.errors import KitError
from kit.core.files import open_plain, write_atomic
from kit.submissions.folder import path_names
from kit.submissions.rules import Finding
from kit.submissions.survey import Submission, survey

# What Finder, Explorer, Emacs and Vim leave in a folder that somebody has looked at.
STRAY = re.compile(r"\.DS_Store|\._.+|Thumbs\.db|desktop\.ini|.+~|\..+\.sw[a-p]|#.+#")
SUM = re.compile(r"\s*([0-9a-fA-F]{64})\s+\*?(\S.*?)\s*")


def fix(folder: Path, place: tuple[str, ...], allow_dirty: bool, allow_trial: bool) -> list[str]:
    """Mends a submission, and returns what was done, a line each. Arguments are those of the survey.

    KitError for a folder that is signed, which is not touched, and for a file that cannot be written.
    """
    sub = survey(folder, place, allow_dirty, allow_trial)
    if any(re.fullmatch(rf"{re.escape(SUMS)}\..+", name) for name in os.listdir(folder)):
        raise KitError(f"{folder}: is signed, and what is mended would no longer be what was signed; nothing was changed")
    try:
        done = [line for finding in sub.strange for line in of_entry(sub, finding)]
        if done:  # a file that may be read now was no part of the first look
            sub = survey(folder, place, allow_dirty, allow_trial)
        return done + list(of_texts(sub))
    except OSError as error:
        raise KitError(f"{error.filename or folder}: cannot be mended: {error.strerror}") from None


def of_entry(sub: Submission, finding: Finding) -> Iterator[str]:
    """Takes bits from the mode of a plain file, or removes a file that no one has packed."""
    path = sub.path / finding.file
    if finding.rule == "mode":
        with open_plain(sub.path, finding.file) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            os.fchmod(file.fileno(), mode & 0o666)
        yield f"{finding.file}: its mode is {mode & 0o666:04o}, and was {mode:04o}"
        return
    stray = finding.rule in ("unknown-file", "file-name") and STRAY.fullmatch(path.name)
    if stray and stat.S_ISREG(path.lstat().st_mode) and finding.file not in listed(sub):
        path.unlink()
        yield f"{finding.file}: removed; an editor or a file manager had left it"


def listed(sub: Submission) -> dict[str, str]:
    """The checksums, {name: digits}, however their lines are written; empty where a line is none, or a name stands twice."""
    if not sub.there(SUMS):
        return {}
    lines = (sub.path / SUMS).read_bytes().decode(errors="replace").lstrip("\ufeff").splitlines()
    found = [SUM.fullmatch(line) for line in lines if line.strip()]
    sums = {match[2]: match[1].lower() for match in found if match}
    return sums if len(sums) == len(found) else {}


def under_its_names(sub: Submission) -> bool:
    """Whether system.json was written for the organisation and the system of the path."""
    try:
        system = sub.json("system.json") if sub.there("system.json") else None
    except KitError:
        return False
    return isinstance(system, dict) and (system.get("submitter"), system.get("system_name")) == sub.place[0::2]


def of_texts(sub: Submission) -> Iterator[str]:
    """Writes texts that follow from the run, and the checksums, if every other file is the one that was packed."""
    sums = listed(sub)
    if any(path_names(sub)) or not under_its_names(sub):
        return
    texts = sub.answer.derived if sub.answer else {}
    packed = {name for name in sums if name not in texts}
    here = {name for name in sub.files if name not in texts and name != SUMS}
    if not sums or sub.strange or packed != here or any(sub.digest(name) != labelled(sums[name]) for name in packed):
        return
    for name, text in texts.items():
        sums[name] = hashlib.sha256(text.encode()).hexdigest()
        if not sub.there(name) or sub.digest(name) != labelled(sums[name]):
            write_atomic(sub.path / name, text)
            yield f"{name}: written anew, as it follows from the run"
    if (sub.path / SUMS).read_bytes() != sums_text(sums).encode():
        write_atomic(sub.path / SUMS, sums_text(sums))
        yield f"{SUMS}: written anew; every other file agrees with its checksum"
