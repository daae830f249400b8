"""Submissions of the toy in any number, for the tests of pages: records that can be read, and that no check would accept."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A PNG of one pixel.
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def made(template: Path, root: Path, *place: str, seconds: float = 10.0, cores: int = 64, **keys: Any) -> Path:
    """A copy of a submission at another place below `root`, whose run took so long on nodes of so many cores.

    `keys` are keys of its run.json; `system` and `image` are added to what stands there.
    """
    folder = root.joinpath(*place)
    shutil.copytree(template, folder)
    run = json.loads((folder / "run.json").read_text())
    for name, value in keys.items():
        run[name] = {**run[name], **value} if isinstance(value, Mapping) else value
    run["rendering"]["cores"] = cores
    start = run["stages"][0]["start"]
    for number, stage in enumerate(run["stages"]):
        stage["start"] = start + number * seconds / len(run["stages"])
        stage["end"] = start + (number + 1) * seconds / len(run["stages"])
    (folder / "run.json").write_text(json.dumps(run))
    site = json.loads((folder / "run/site.json").read_text())
    for partition in site["partitions"].values():
        partition["cores"] = cores
    (folder / "run/site.json").write_text(json.dumps(site))
    return folder


def verdicts(path: Path, accepted: Mapping[Path, str]) -> Path:
    """A file of verdicts as `kit submission check --json` prints them: {folder: why it is refused, or nothing}."""
    found = [
        {"folder": str(folder), "accepted": not why, "findings": [{"file": "run.json", "problem": why}] if why else []}
        for folder, why in accepted.items()
    ]
    path.write_text(json.dumps({"submissions": found}))
    return path
