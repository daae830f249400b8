"""The repository that receives submissions, written by one command: layout, owners, and workflows for GitHub."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import read_text
from kit.submissions.git import git, top
from kit.submissions.together import ORGANISATIONS, SUBMISSIONS

# Each file of the repository, and where its text stands below templates/repository/. What git or GitHub would heed in the
# kit's own repository has another name there.
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
SECRET = re.compile(r"(?!ssh://[^/:@]*@)\w+://[^/]*@", re.ASCII)  # a user with ssh is the name of an account, no more
SOURCES = re.compile(r"\w+://.+|git@.+|.+\.whl", re.ASCII)
WORD = re.compile(r"[\w.+@:~/%=?&-]+", re.ASCII)  # of a URL, a path or a revision; it is a word of a shell script


def init_repository(directory: Path, kit_source: str, owners: Sequence[str], kit_revision: str = "") -> list[str]:
    """Writes the files of a results repository and returns their names.

    `directory` is new, empty, or the root of a git repository that has none of these files. KitError otherwise, and for a
    source or an owner that is none; then nothing is written. A new one becomes a git repository.
    """
    texts = contents(kit_source, owners, kit_revision)
    new = not os.path.lexists(directory) or not refuse_foreign(directory, list(texts))
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()][::-1]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if new:
            made.append(directory / ".git")
            git(directory, "init", "--quiet", "--initial-branch", "main")
        for name, text in texts.items():
            path = directory / name
            made += [folder for folder in path.parents if not folder.exists()][::-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:  # it replaces nothing
                made.append(path)
                file.write(text)
    except BaseException:
        for path in reversed(made):
            remove(path)
        raise
    return list(texts)


def remove(path: Path) -> None:
    """Removes what was made here; a folder only if nothing else has come into it, but for that of git."""
    with contextlib.suppress(OSError):
        if path.name == ".git":
            shutil.rmtree(path)
        elif path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def contents(kit_source: str, owners: Sequence[str], kit_revision: str) -> dict[str, str]:
    """{name: text} of every file; KitError for a value that cannot stand in them."""
    if SECRET.match(kit_source):
        raise KitError("--kit-source: the URL holds a user or a password, and would be published; give one without")
    for option, value in (("--kit-source", kit_source), ("--kit-revision", kit_revision or "main")):
        if not WORD.fullmatch(value) or value.startswith("-"):
            raise KitError(f"{option} {value!r}: one word is needed, a URL, a path or a revision")
    if not SOURCES.fullmatch(kit_source) and not Path(kit_source).exists():
        raise KitError(f"--kit-source {kit_source!r}: the URL of a git repository, or a wheel, is needed")
    if kit_revision and kit_source.endswith(".whl"):
        raise KitError("--kit-revision: a wheel has none; give the URL of a git repository, or leave the revision out")
    wrong = [owner for owner in owners if not OWNER.fullmatch(owner)]
    if wrong or not owners:
        raise KitError(f"--owner {wrong[0] if wrong else ''!r}: @name, @group/team or an e-mail address is needed")
    folder = paths.shipped("templates") / "repository"
    texts = {name: read_text(folder / template) for name, template in FILES.items()}
    texts[".github/CODEOWNERS"] += f"* {' '.join(owners)}\n"
    return {**texts, SOURCE: f"{kit_source} {kit_revision}".strip() + "\n"}


def refuse_foreign(directory: Path, names: list[str]) -> bool:
    """Whether anything is in a folder that can be written to.

    KitError where it is neither empty nor a git repository without these files, or where a link would lead out of it.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise KitError(f"{directory}: not a folder; give one, and no link to it")
    there = [entry.name for entry in directory.iterdir()]
    if there and (".git" not in there or top(directory) != directory.resolve()):
        raise KitError(
            f"{directory}: not empty, and not the root of a git repository; give a new folder; "
            f"would be written: {', '.join(names)}"
        )
    taken = [name for name in (SUBMISSIONS, *names) if os.path.lexists(directory / name)]
    taken += sorted({str(folder) for name in names for folder in Path(name).parents if (directory / folder).is_symlink()})
    if taken:
        raise KitError(f"{directory}: holds {', '.join(dict.fromkeys(taken))} already, and nothing is overwritten")
    return bool(there)
