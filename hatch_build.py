"""Writes the commit that a wheel is built from into it, as kit/commit.txt: kit.core.paths reads it there."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def commit(root: Path) -> str:
    """The commit of a checkout, with `-dirty` behind it when files differ; `unknown` where `root` is no checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> str:
        command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
        try:
            return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()
        except OSError:  # git is not installed
            return ""

    top = git("rev-parse", "--show-toplevel")  # an unpacked sdist may lie in the repository of something else
    if not top or Path(top).resolve() != root.resolve():
        return "unknown"
    found = git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") or "unknown"
    # What git does not track and does not ignore goes into the wheel, too.
    added = git("ls-files", "--others", "--exclude-standard", "--", "kit", "templates")
    return f"{found}-dirty" if added and not found.endswith(("-dirty", "unknown")) else found


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # it stays a checkout, which is asked anew each time
            return
        handle, self.written = tempfile.mkstemp(suffix=".txt")
        with os.fdopen(handle, "w") as file:
            file.write(commit(Path(self.root)) + "\n")
        os.chmod(self.written, 0o644)
        build_data["force_include"][self.written] = "kit/commit.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            os.unlink(self.written)
