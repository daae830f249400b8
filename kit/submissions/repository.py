"""The repository that receives submissions, written by one command: layout, owners, and workflows for GitHub."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import read_text
from kit.submissions.git import git, top
from kit.submissions.together import ORGANISATIONS, SUBMISSIONS

# Each file of the repository, and where its text stands below templates/repository/. Names that git or GitHub would heed in the
# kit's own repository are others there.
FILES = {
    "README.md": "README.md",
    ".gitattributes": "gitattributes",
    ORGANISATIONS: "organisations.toml",
    "allowed_signers": "allowed_signers",
    f"{SUBMISSIONS}/README.md": "submissions.md",
    ".github/CODEOWNERS": "CODEOWNERS",
    ".github/pull_request_template.md": "pull_request_template.md",
    ".github/ISSUE_TEMPLATE/result.md": "issue_template.md",
    ".github/install-kit.sh": "install-kit.sh",
    ".github/workflows/check.yml": "check.yml",
    ".github/workflows/comment.yml": "comment.yml",
    ".github/workflows/rerun.yml": "rerun.yml",
    ".github/workflows/leaderboard.yml": "leaderboard.yml",
}
SOURCE = ".github/kit-source.txt"
OWNER = re.compile(r"@[A-Za-z0-9][\w-]*(/[\w.-]+)?|[\w.+-]+@[\w.-]+", re.ASCII)
WORD = re.compile(r"[\w.+@:~/%=?&-]+", re.ASCII)  # of a URL, a path or a revision; it is a word of a shell script


def init_repository(directory: Path, kit_source: str, owners: Sequence[str], kit_revision: str = "") -> list[str]:
    """Writes the files of a results repository and returns their names.

    `directory` is new, empty, or the root of a git repository that has none of these files; otherwise, and for a source or an
    owner that is none, KitError, and nothing is written. A new one becomes a git repository.
    """
    texts = contents(kit_source, owners, kit_revision)
    new = not directory.exists() or not any(refuse_foreign(directory, list(texts)))
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    # Written beside, and only then moved: an interrupted command leaves no half of a repository.
    scratch = Path(tempfile.mkdtemp(prefix=".kit-", dir=directory))
    placed: list[Path] = []
    try:
        if new:
            git(directory, "init", "--quiet", "--initial-branch", "main")
            placed.append(directory / ".git")
        for name, text in texts.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text(text, encoding="utf-8")
        for name in texts:
            folders = [folder for folder in (directory / name).parents if not folder.exists()]
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            placed += [*reversed(folders), directory / name]
            os.link(scratch / name, directory / name)  # unlike a rename, it replaces nothing
        shutil.rmtree(scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        for path in [*reversed(placed), *made]:
            remove(path)
        raise
    return list(texts)


def remove(path: Path) -> None:
    """Removes what was made here; a folder only if nothing else has come into it, but for that of git."""
    try:
        if path.name == ".git":
            shutil.rmtree(path)
        elif path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    except OSError:
        pass


def contents(kit_source: str, owners: Sequence[str], kit_revision: str) -> dict[str, str]:
    """{name: text} of every file; KitError for a value that cannot stand in them."""
    for option, value in (("--kit-source", kit_source), ("--kit-revision", kit_revision or "main")):
        if not WORD.fullmatch(value) or value.startswith("-"):
            raise KitError(f"{option} {value!r}: one word is needed, a URL, a path or a revision")
    if kit_revision and kit_source.endswith(".whl"):
        raise KitError("--kit-revision: a wheel has none; give the URL of a git repository, or leave the revision out")
    wrong = [owner for owner in owners if not OWNER.fullmatch(owner)]
    if wrong or not owners:
        raise KitError(f"--owner {wrong[0] if wrong else ''!r}: @name, @group/team or an e-mail address is needed")
    folder = paths.shipped("templates") / "repository"
    texts = {name: read_text(folder / template) for name, template in FILES.items()}
    texts[".github/CODEOWNERS"] += f"* {' '.join(owners)}\n"
    return {**texts, SOURCE: f"{kit_source} {kit_revision}".strip() + "\n"}


def refuse_foreign(directory: Path, names: list[str]) -> list[str]:
    """What lies in a folder to be written to; KitError where it is neither empty nor a git repository without these files."""
    if not directory.is_dir():
        raise KitError(f"{directory}: not a folder")
    there = sorted(entry.name for entry in directory.iterdir())
    would = f"would be written: {', '.join(names)}"
    if there and (".git" not in there or top(directory) != directory.resolve()):
        raise KitError(f"{directory}: not empty, and not the root of a git repository; give a new folder. {would}")
    taken = [name for name in [SUBMISSIONS, *names] if os.path.lexists(directory / name)]
    if taken:
        raise KitError(f"{directory}: holds {', '.join(taken)} already, and nothing is overwritten. {would}")
    return there
