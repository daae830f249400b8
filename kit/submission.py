"""Submissions: what the folder of one result holds, in the layout of the MLCommons Science working group."""

from __future__ import annotations

import re
from pathlib import Path

from kit.errors import KitError

# {organisation}/{application}/{system}/{descriptor}/ below submissions/
LEVELS = ("organisation", "application", "system", "descriptor")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

MANIFEST = "sha256sums.txt"
REQUIRED = {
    "README.md": "the result for a person: what ran, where, and what came out",
    "scientific_contribution.md": "what the result says of the science",
    "config.yaml": "where code and data come from, and every parameter",
    "result-1.txt": "the log in MLPerf's form",
    "run.json": "what ran, proof and verdict",
    "system.json": "the machine, in MLPerf's names",
    "pull_request.md": "the text of the pull request",
    "run/job.sh": "the script that ran",
    "run/sbom.cdx.json": "what the image holds, as CycloneDX",
    "run/stages.jsonl": "when each stage started and how it ended",
    MANIFEST: "the checksum of every other file",
}

# What nobody means to send.
PLACEHOLDER = re.compile(r"TODO|FIXME|XXX+|PLACEHOLDER|<your[ _-]|CHANGE[ _]?ME|example\.org|lorem ipsum", re.IGNORECASE)


def name_part(kind: str, value: str) -> str:
    """A name that can stand in the path of a submission; KitError otherwise."""
    if not NAME.match(value):
        raise KitError(
            f"{kind} {value!r} can not be a folder of a submission: letters, digits, dot, dash and underscore, "
            "beginning with a letter or digit"
        )
    return value


def read_manifest(folder: Path) -> dict[str, str]:
    """The checksums of a submission as {file: sha256}, from lines as sha256sum writes them."""
    entries = {}
    for number, line in enumerate((folder / MANIFEST).read_text().splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        if not match:
            raise KitError(f"{folder / MANIFEST}:{number}: not a line of sha256sum")
        entries[match[2]] = match[1]
    return entries
