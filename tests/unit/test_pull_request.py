"""`kit submission pr`: one commit on a new branch, pushed to a repository on disk, opened by a stand-in of `gh`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import files

from kit.core.errors import KitError
from kit.submissions import pull_request
from kit.submissions.pull_request import open_request, request

pytestmark = pytest.mark.usefixtures("toy")

# It writes down its arguments and what it reads, and answers as gh does.
GH = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word" >>{log}; done
[ "$1" = auth ] && exit {auth}
cat >{log}.body
echo 'warning: gh is old' >&2
echo 'https://localhost/pull/1'
exit {create}
"""


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a bare repository on disk, of somebody who is in the middle of something else."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "person@localhost")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "results.git")
    git(tmp_path, "clone", "-q", str(tmp_path / "results.git"), "clone")
    clone = tmp_path / "clone"
    (clone / "README.md").write_text("results\n")
    (clone / ".gitattributes").write_text("* text=auto eol=crlf\n*.txt ident\n")
    (clone / ".gitignore").write_text("*.json\nrun/\n")
    git(clone, "checkout", "-q", "-b", "main")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "Begin")
    git(clone, "push", "-q", "origin", "main")
    (clone / "README.md").write_text("half a thought\n")
    (clone / "staged").write_text("staged")
    git(clone, "add", "staged")
    return clone


def program(tmp_path: Path, auth: int = 0, create: int = 0) -> Path:
    path, log = tmp_path / "bin/gh", tmp_path / "gh.log"
    path.write_text(GH.format(log=log, auth=auth, create=create))
    path.chmod(0o755)
    return log


def state(clone: Path) -> tuple[str, ...]:
    """All that a person sees of a clone, and its branches."""
    return (*(git(clone, *words.split()) for words in ("status --porcelain=v2 --branch", "for-each-ref", "worktree list")),)


def remote(clone: Path) -> str:
    return git(clone.parent / "results.git", "for-each-ref")


def test_it_is_committed_pushed_and_opened(submission: Path, clone: Path, tmp_path: Path) -> None:
    log, before = program(tmp_path), git(clone, "status", "--porcelain")
    opened = open_request(submission, clone)
    assert opened.url == "https://localhost/pull/1"
    place = "submissions/" + "/".join(submission.parts[-4:])
    bare = clone.parent / "results.git"
    changes = git(bare, "diff", "--name-status", "main", opened.branch).splitlines()
    assert changes == sorted(f"A\t{place}/{path.relative_to(submission)}" for path in files(submission))
    for path in files(submission):  # whatever the attributes of the repository say
        blob = subprocess.run(
            ["git", "-C", bare, "show", f"{opened.branch}:{place}/{path.relative_to(submission)}"], stdout=-1
        )
        assert blob.stdout == path.read_bytes(), path
    assert git(bare, "log", "-1", "--format=%an %s", opened.branch).startswith(
        "A Person Add toy tiny on here, by laboratory"
    )
    assert git(clone, "rev-parse", opened.branch) == opened.commit
    assert git(clone, "status", "--porcelain") == before
    assert git(clone, "worktree", "list").count("\n") == 0
    told = log.read_text().splitlines()
    assert told[:2] == ["auth", "status"]
    title = ["--title", "toy tiny on here, by laboratory"]
    assert told[2:] == ["pr", "create", "--base", "main", "--head", opened.branch, *title, "--body-file", "-"]
    assert (tmp_path / "gh.log.body").read_text() == opened.body


def test_the_body(submission: Path, clone: Path) -> None:
    opened = open_request(submission, clone)
    assert opened.problem == "gh is not installed"
    assert "| resolution | 7 | angstrom | none | at most 8 |" in opened.body
    assert "accepts this folder" in opened.body
    assert "- [ ] We may publish these results" in opened.body
    (submission / "run/figures").mkdir()
    (submission / "run/figures/fsc.png").write_bytes(b"")
    run = pull_request.parse(pull_request.Run, json.loads((submission / "run.json").read_text()), "run.json")
    exact = {"value": 1948608.0, "reference": 1948609.0, "tolerance": 0.0, "at_most": None}
    strict = run.model_copy(update={"metrics": [run.metrics[0].model_copy(update=exact)]})
    assert "| 1948608 | angstrom | 1948609 | 1948609 ± 0 |" in pull_request.text(submission, strict, "o/toy/s/d", "", [])
    hostile = run.model_copy(update={"system": {"host_processor_model_name": "<b>x</b> | [y](z) `"}})
    body = pull_request.text(submission, hostile, "o/toy/s/d", "0" * 40, [])
    assert f"![fsc.png](../blob/{'0' * 40}/submissions/o/toy/s/d/run/figures/fsc.png?raw=true)" in body
    assert "\\<b\\>x\\</b\\> \\| \\[y\\]\\(z\\) \\`" in body


def test_a_signature_goes_with_it(submission: Path, clone: Path) -> None:
    (submission / "sha256sums.txt.sig").write_text("-----BEGIN SSH SIGNATURE-----\n")
    opened = open_request(submission, clone)
    assert "sha256sums.txt.sig" in git(clone, "diff", "--name-only", "main", opened.branch)


def test_a_clone_that_holds_the_folder(submission: Path, clone: Path) -> None:
    place = clone / "submissions" / "/".join(submission.parts[-4:])
    place.parent.mkdir(parents=True)
    submission.rename(place)
    opened = open_request(place, place)  # any folder of a clone names it
    assert git(clone, "diff", "--name-only", "main", opened.branch).count("\n") + 1 == len(files(place))


def test_nothing_is_pushed(submission: Path, clone: Path, tmp_path: Path) -> None:
    log, before = program(tmp_path), remote(clone)
    git(clone, "remote", "set-url", "origin", "/nowhere")  # of a place without a network
    opened = open_request(submission, clone, push=False)
    assert remote(clone) == before
    assert not log.exists()
    assert git(clone, "rev-parse", opened.branch) == opened.commit
    assert opened.command.startswith(
        f"git -C {clone} push origin {opened.branch} && (cd {clone} && gh pr create --base main"
    )


def test_what_is_printed_can_be_typed_anywhere(submission: Path, clone: Path, tmp_path: Path) -> None:
    """In the folder of BODY, for a clone elsewhere whose name the shell would take apart."""
    there, here = clone.rename(clone.with_name("a clone; $x")), tmp_path / "here"
    here.mkdir()
    (here / "BODY").write_text("the text")
    opened = open_request(submission, there)
    gh = tmp_path / "bin/gh"
    gh.write_text("#!/bin/sh\npwd\ncat\n")
    gh.chmod(0o755)
    said = subprocess.run(["bash", "-c", opened.command], cwd=here, check=True, capture_output=True, text=True).stdout
    assert said == f"{there}\nthe text"


@pytest.mark.parametrize(
    ("auth", "create", "problem", "failed"),
    [(1, 0, "gh is not logged in", False), (0, 1, "gh could not open it: warning: gh is old", True)],
)
def test_what_gh_cannot(
    submission: Path, clone: Path, tmp_path: Path, auth: int, create: int, problem: str, failed: bool
) -> None:
    program(tmp_path, auth, create)
    opened = open_request(submission, clone)
    assert (opened.url, opened.failed) == ("", failed)
    assert problem in opened.problem
    assert opened.branch in remote(clone)


def broken(submission: Path, clone: Path) -> None:
    (submission / "run.json").write_text("{}")


def local_branch(submission: Path, clone: Path) -> None:
    git(clone, "branch", f"submission/{'-'.join(submission.parts[-4:])}")


def remote_branch(submission: Path, clone: Path) -> None:
    git(clone, "push", "-q", "origin", f"main:refs/heads/submission/{'-'.join(submission.parts[-4:])}")


def published(submission: Path, clone: Path) -> None:
    git(clone, "push", "-q", "origin", f"{open_request(submission, clone, branch='first').commit}:main")


def no_remote(submission: Path, clone: Path) -> None:
    git(clone, "remote", "set-url", "origin", "/nowhere")


def hook(submission: Path, clone: Path) -> None:
    """The remote takes no push."""
    path = clone.parent / "results.git/hooks/pre-receive"
    path.write_text("#!/bin/sh\necho 'closed for today' >&2\nexit 1\n")
    path.chmod(0o755)


def nobody(submission: Path, clone: Path) -> None:
    git(clone, "config", "user.useConfigOnly", "true")
    for who in ("AUTHOR", "COMMITTER"):
        del os.environ[f"GIT_{who}_NAME"], os.environ[f"GIT_{who}_EMAIL"]


@pytest.mark.parametrize(
    ("change", "options", "problem"),
    [
        (broken, {}, "is refused, and nothing was done"),
        (local_branch, {}, "exists in .*--branch NAME takes another"),
        (remote_branch, {}, "exists at origin; --branch NAME takes another"),
        (published, {}, "is in the base already"),
        (no_remote, {}, "git fetch failed"),
        (hook, {}, "closed for today"),
        (nobody, {}, "git commit-tree failed"),
        (None, {"base": "nothing"}, "git fetch failed"),
        (None, {"base": "nothing", "push": False}, "no such branch"),
        (None, {"base": "--upload-pack=x"}, "not the name of a branch"),
        (None, {"branch": "main"}, "--branch main: is the branch that the request is for"),
        (None, {"branch": "next", "base": "next"}, "--branch next: is the branch that the request is for"),
        (None, {"branch": "-f"}, "not the name of a branch"),
        (None, {"branch": "a..b"}, "not the name of a branch"),
        (None, {"branch": "a\nb"}, "not the name of a branch"),
        (None, {"branch": "+main:main"}, "not the name of a branch"),
        (None, {"remote": "--mirror"}, "not a remote"),
        (None, {"remote": "ext::sh -c x"}, "not a remote"),
    ],
)
def test_what_is_refused_changes_nothing(
    submission: Path,
    clone: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, Path], None] | None,
    options: dict[str, str | bool],
    problem: str,
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    if change:
        change(submission, clone)
    before = (state(clone), remote(clone))
    with pytest.raises(KitError, match=problem):
        open_request(submission, clone, **options)
    assert (state(clone), remote(clone)) == before


def test_what_is_no_clone(submission: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "nothing", Path("/")):
        with pytest.raises(KitError, match="not in a git clone"):
            open_request(submission, folder)


@pytest.mark.parametrize("command", ["fetch", "hash-object", "commit-tree", "push"])
def test_interrupted(submission: Path, clone: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Nothing is left but objects that git will collect, and the next attempt works."""
    real, before = pull_request.git, (state(clone), remote(clone))

    def interrupted(clone: Path, *words: str, **options: str) -> str:
        if words[0] == command:
            raise KeyboardInterrupt
        return real(clone, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pull_request, "git", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_request(submission, clone)
    assert (state(clone), remote(clone)) == before
    monkeypatch.setattr(pull_request, "git", real)
    assert open_request(submission, clone).branch in remote(clone)


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("https://localhost/owner/results.git", "owner:x"),
        ("ssh://git@localhost:22/owner/results", "owner:x"),
        ("git@localhost:owner/results.git", "owner:x"),
        ("/home/owner/results.git", "x"),
        ("file:///home/owner/results.git", "x"),
        ("../results.git", "x"),
    ],
)
def test_the_branch_of_a_fork_has_its_owner(clone: Path, url: str, head: str) -> None:
    git(clone, "remote", "set-url", "origin", url)
    command = request(clone, "origin", "main", pull_request.Opened("x", "", "", ""))
    assert command[command.index("--head") + 1] == head


def test_the_command(submission: Path, clone: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from kit.cli import app

    words = ["submission", "pr", str(submission), "--repository", str(clone)]
    result = CliRunner().invoke(app, [*words, "--no-push", "--branch", "trial"])
    assert result.exit_code == 0
    assert "toy tiny on here, by laboratory\n\nSize `tiny` of `toy`" in result.output
    assert "Not opened: nothing was pushed" in result.output
    program(tmp_path, create=1)
    assert CliRunner().invoke(app, [*words, "--branch", "second"]).exit_code == 1
    program(tmp_path)
    result = CliRunner().invoke(app, [*words, "--branch", "third"])
    assert (result.exit_code, result.stdout) == (0, "https://localhost/pull/1\n")
