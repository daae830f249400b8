"""The pull request of a submission: one commit on a branch of its own, pushed, and opened with `gh` where that is there.

The commit is made of the bytes that were checked, through an index of its own: neither the checkout nor the index of the
clone is touched, no filter or hook of the clone changes a byte, and an interrupted run leaves no worktree and no branch.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from kit import __version__
from kit.core.checksums import SUMS, read_sums
from kit.core.errors import KitError, plain, plain_lines
from kit.core.files import read_json
from kit.core.schema import parse
from kit.runs.record import FILE, Run
from kit.script.quoting import environment, words
from kit.submissions.check import check
from kit.submissions.git import commit_of, git, run_git, top
from kit.submissions.rules import Finding, refusing
from kit.submissions.texts import gate, number
from kit.submissions.together import SUBMISSIONS, code

NEW = ""  # what a branch is at that must not be there yet, for git update-ref
MOST_TITLE = 200  # characters


@dataclass(frozen=True)
class Opened:
    """A pull request, opened or ready to be."""

    branch: str
    commit: str
    title: str
    body: str
    url: str = ""  # where it is, once `gh` has opened it
    problem: str = ""  # why it was not opened
    command: str = ""  # that opens it
    failed: bool = False  # `gh` was there, and could not


def open_request(
    folder: Path,
    clone: Path,
    remote: str = "origin",
    branch: str = "",
    base: str = "main",
    push: bool = True,
    allow_dirty: bool | None = None,
    allow_trial: bool | None = None,
) -> Opened:
    """Commits a submission to a new branch of a clone of the results repository, pushes it, and opens the pull request.

    KitError, and nothing is changed, where the check refuses the folder, where the base holds it already, and where the
    branch exists in the clone or at the remote. Nothing is ever pushed by force.
    """
    folder = folder.resolve()
    place = "/".join(folder.parts[-4:])
    clone = top(clone.absolute())
    branch = branch or f"submission/{place.replace('/', '-')}"
    refuse_names(clone, remote, branch, base)
    with tempfile.TemporaryDirectory(prefix="kit-request-") as scratch:
        copy = Path(scratch, place)
        warnings = snapshot(folder, copy, place, allow_dirty, allow_trial)
        start = fetched(clone, remote, base) if push else known(clone, remote, base)
        refuse_existing(clone, remote, branch, place, start, push)
        run = parse(Run, read_json(copy / FILE), FILE)
        title = plain(f"{run.benchmark} {run.work} on {folder.parts[-2]}, by {folder.parts[-4]}")[:MOST_TITLE]
        commit = committed(clone, copy, f"{SUBMISSIONS}/{place}", start, title, Path(scratch, "index"))
        body = text(copy, run, place, commit, warnings)
    if push:
        git(clone, "push", "--quiet", remote, f"{commit}:refs/heads/{branch}")
    git(clone, "update-ref", "-m", "kit submission pr", f"refs/heads/{branch}", commit, NEW)
    opened = Opened(branch, commit, title, body)
    return asked(clone, remote, base, opened) if push else unasked(clone, remote, base, opened)


def refuse_names(clone: Path, remote: str, branch: str, base: str) -> None:
    """KitError for a name that git would refuse, or take for an option."""
    for kind, name in (("branch", branch), ("base", base)):
        if name.startswith("-") or run_git(clone, "check-ref-format", f"refs/heads/{name}").returncode:
            raise KitError(f"--{kind} {name!r}: not the name of a branch")
    if branch == base:
        raise KitError(f"--branch {branch}: is the branch that the request is for; give another, or leave it out")
    if remote not in git(clone, "remote").splitlines():
        raise KitError(f"--remote {remote!r}: not a remote of {clone}; git -C {words([str(clone)])} remote lists them")


def snapshot(folder: Path, copy: Path, place: str, allow_dirty: bool | None, allow_trial: bool | None) -> list[Finding]:
    """Copies a submission and checks the copy, so that nothing changes between check and commit; returns its warnings."""
    findings = check(folder, allow_dirty, allow_trial=allow_trial)
    if not refusing(findings):
        shutil.copytree(folder, copy, symlinks=True)
        findings = check(copy, allow_dirty, tuple(place.split("/")), allow_trial)
    if refusing(findings):
        raise KitError("\n".join([f"{folder}: is refused, and nothing was done:", *map(str, refusing(findings))]))
    return findings


def fetched(clone: Path, remote: str, base: str) -> str:
    """The commit of the base as the remote has it now."""
    git(clone, "fetch", "--quiet", "--no-tags", remote, f"refs/heads/{base}")
    return commit_of(clone, "FETCH_HEAD")


def known(clone: Path, remote: str, base: str) -> str:
    """The commit of the base as this clone knows it: nothing is asked of the remote."""
    for name in (f"refs/remotes/{remote}/{base}", f"refs/heads/{base}"):
        if run_git(clone, "rev-parse", "--verify", "--quiet", name).returncode == 0:
            return commit_of(clone, name)
    raise KitError(f"--base {base}: no such branch in {clone}, nor of its remote {remote}; git fetch may bring it")


def refuse_existing(clone: Path, remote: str, branch: str, place: str, start: str, push: bool) -> None:
    """KitError where the branch or the folder is there already."""
    if git(clone, "ls-tree", "--name-only", start, "--", f"{SUBMISSIONS}/{place}"):
        raise KitError(
            f"{SUBMISSIONS}/{place}: is in the base already, and a published result is not changed; nothing to do"
        )
    way_out = "--branch NAME takes another; if it is of an earlier attempt, remove it:"
    ours = ["git", "-C", str(clone)]
    if run_git(clone, "show-ref", "--verify", "--quiet", f"refs/heads/{branch}").returncode == 0:
        raise KitError(f"{branch}: exists in {clone}; {way_out} {words([*ours, 'branch', '-D', branch])}")
    if push and git(clone, "ls-remote", "--heads", remote, f"refs/heads/{branch}"):
        raise KitError(f"{branch}: exists at {remote}; {way_out} {words([*ours, 'push', remote, '--delete', branch])}")


def committed(clone: Path, folder: Path, place: str, start: str, message: str, index: Path) -> str:
    """The id of a commit on top of `start` that adds a folder, byte for byte; no branch is at it yet."""
    names = sorted([*read_sums(folder), *(path.name for path in folder.glob(f"{SUMS}*"))])  # with signatures
    paths = "".join(f"{folder / name}\n" for name in names)
    ids = git(clone, "hash-object", "-w", "--no-filters", "--stdin-paths", text=paths).split()
    entries = "".join(f"100644 {ident}\t{place}/{name}\n" for ident, name in zip(ids, names, strict=True))
    git(clone, "read-tree", start, index=index)
    git(clone, "update-index", "--add", "--index-info", text=entries, index=index)
    tree = git(clone, "write-tree", index=index).strip()
    signed = ["-S"] if run_git(clone, "config", "--type=bool", "commit.gpgsign").stdout.strip() == "true" else []
    return git(clone, "commit-tree", tree, "-p", start, *signed, text=f"Add {message}\n").strip()


def text(folder: Path, run: Run, place: str, commit: str, warnings: list[Finding]) -> str:
    """The body of the request, in Markdown. Pictures are those of the commit, by links relative to the request's page."""
    organisation, _, system, _ = place.split("/")
    shown = {
        "run": run,
        "number": number,
        "gate": gate,
        "organisation": organisation,
        "system": system,
        "place": place,
        "commit": commit,
        "figures": sorted(path.name for path in folder.glob("run/figures/*.png")),
        "seconds": sum(stage.seconds or 0.0 for stage in run.stages if stage.timed),
        "processor": run.system.get("host_processor_model_name", "unknown"),
        "runs": len(list(folder.glob("result-*.txt"))),
        "warnings": [code(str(warning)) for warning in warnings],
        "version": __version__,
    }
    return environment().get_template("pull_request.md.j2").render(shown)


def asked(clone: Path, remote: str, base: str, opened: Opened) -> Opened:
    """The request, opened with `gh`; where that is not there, not logged in, or fails, the reason and what to do."""
    command = request(clone, remote, base, opened)
    ready = replace(opened, command=typed(clone, command))
    if not shutil.which("gh"):
        return replace(ready, problem="gh is not installed")
    if gh(clone, "gh", "auth", "status").returncode:
        return replace(ready, problem="gh is not logged in (gh auth login)")
    result = gh(clone, *command, "--body-file", "-", body=opened.body)
    if result.returncode:
        said = plain_lines(result.stderr.strip()) or f"exit code {result.returncode}"
        return replace(ready, problem=f"gh could not open it: {said}", failed=True)
    return replace(opened, url=plain((result.stdout.strip() or "opened").splitlines()[-1]))


def unasked(clone: Path, remote: str, base: str, opened: Opened) -> Opened:
    """The request that is not pushed, with the commands that push and open it."""
    push = words(["git", "-C", str(clone), "push", remote, opened.branch])
    command = typed(clone, request(clone, remote, base, opened))
    return replace(opened, command=f"{push} && {command}", problem="nothing was pushed")


def typed(clone: Path, command: list[str]) -> str:
    """A command of gh as a person types it, anywhere: gh learns the repository from its folder. BODY is read before `cd`."""
    return f"({words(['cd', str(clone)])} && {words([*command, '--body-file', '-'])}) <BODY"


def request(clone: Path, remote: str, base: str, opened: Opened) -> list[str]:
    """The command that opens a request. Of a fork, the branch has its owner before it."""
    url = git(clone, "remote", "get-url", "--push", remote).strip()
    fork = re.fullmatch(r"(?:\w+://[^/]+/|[\w.-]+@[\w.-]+:)([\w.-]+)/[\w.-]+", url)
    head = f"{fork[1]}:{opened.branch}" if fork else opened.branch
    return ["gh", "pr", "create", "--base", base, "--head", head, "--title", opened.title]


def gh(clone: Path, *command: str, body: str = "") -> subprocess.CompletedProcess[str]:
    """GitHub's own program, which must not ask anybody."""
    environment = {**os.environ, "GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=clone, env=environment, input=body, capture_output=True, text=True, errors="replace")
