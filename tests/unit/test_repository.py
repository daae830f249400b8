"""`kit submission init-repository`: what it writes is whole, and its check works on a pull request in a real repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Installed, commands, files
from typer.testing import CliRunner

from kit.cli import app
from kit.cli.submission import app as submission_app
from kit.core.errors import KitError
from kit.submissions import repository
from kit.submissions.repository import FILES, SOURCE, contents, init_repository
from kit.submissions.together import organisations

GIVEN = ("https://localhost/kit.git", ["@group/maintainers", "person@localhost"])
WORKFLOWS = ("check", "comment", "rerun", "leaderboard")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "person@localhost")
    init_repository(tmp_path / "results", *GIVEN)
    return tmp_path / "results"


def workflow(folder: Path, name: str) -> dict[str, Any]:
    """A workflow; what YAML takes `on` for is its key, True."""
    found = yaml.safe_load((folder / f".github/workflows/{name}.yml").read_text())
    return {"on" if key is True else key: value for key, value in found.items()}


def steps(folder: Path, name: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Job, name and content of every step of a workflow."""
    jobs = workflow(folder, name)["jobs"]
    return [(job, step.get("name", ""), step) for job, content in jobs.items() for step in content["steps"]]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_what_is_written(made: Path) -> None:
    written = {path.relative_to(made).as_posix() for path in files(made) if ".git/" not in f"{path.relative_to(made)}"}
    assert written == {*FILES, SOURCE}
    assert (made / ".github/CODEOWNERS").read_text().endswith("\n* @group/maintainers person@localhost\n")
    assert (made / SOURCE).read_text() == "https://localhost/kit.git\n"
    assert organisations(made) == frozenset()
    git(made, "add", "-A")
    git(made, "commit", "-q", "-m", "Begin")
    assert git(made, "branch", "--show-current") == "main"
    assert git(made, "check-attr", "text", "submissions/o/a/s/d/run.json").endswith("text: unset")


def test_every_template_is_written() -> None:
    folder = ROOT / "templates/repository"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES.values())


def test_an_installed_kit_writes_the_same(installed: Installed, made: Path) -> None:
    words = ["submission", "init-repository", "again", "--kit-source", GIVEN[0]]
    installed.kit(*words, *(word for owner in GIVEN[1] for word in ("--owner", owner)), cwd=made.parent)
    for name in (*FILES, SOURCE):
        assert (made.parent / "again" / name).read_text() == (made / name).read_text()


def test_a_git_repository_without_submissions(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "LICENSE").write_text("x")
    assert init_repository(tmp_path, *GIVEN, "v1.0") == [*FILES, SOURCE]
    assert (tmp_path / SOURCE).read_text() == "https://localhost/kit.git v1.0\n"


def test_what_is_refused(tmp_path: Path) -> None:
    full, clone, link = tmp_path / "full", tmp_path / "clone", tmp_path / "link"
    (full / "x").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    link.symlink_to(full)
    git(tmp_path, "init", "-q", str(clone))
    (clone / ".github").symlink_to(full)
    (clone / "inner").mkdir()
    (clone / "inner/x").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for folder, problem in (
        (full, "not empty, and not the root of a git repository.*would be written: README.md"),
        (tmp_path / "file", "not a folder"),
        (link, "no link to it"),
        (clone, "holds .github already"),
        (clone / "inner", "not the root of a git repository"),
    ):
        with pytest.raises(KitError, match=problem):
            init_repository(folder, *GIVEN)
    assert sorted(tmp_path.rglob("*")) == before
    (clone / ".github").unlink()
    (clone / "submissions").symlink_to(full)
    with pytest.raises(KitError, match=r"holds submissions already, and nothing is overwritten$"):
        init_repository(clone, *GIVEN)
    (clone / "submissions").unlink()
    (clone / "submissions").mkdir()
    with pytest.raises(KitError, match="holds submissions already"):
        init_repository(clone, *GIVEN)


@pytest.mark.parametrize(
    ("source", "owners", "revision", "problem"),
    [
        ("", ["@x"], "", "--kit-source ''"),
        ("-x", ["@x"], "", "--kit-source '-x'"),
        ("a b", ["@x"], "", "one word"),
        ("a\nb", ["@x"], "", "one word"),
        ("$(x)", ["@x"], "", "one word"),
        ("https://user:pass@localhost/kit", ["@x"], "", "--kit-source: the URL holds a user or a password"),
        ("https://token@localhost/kit.whl", ["@x"], "", "--kit-source: the URL holds a user or a password"),
        ("ssh://git:pass@localhost/kit", ["@x"], "", "--kit-source: the URL holds a user or a password"),
        ("not-a-url", ["@x"], "", "--kit-source 'not-a-url': the URL of a git repository, or a wheel"),
        ("https://localhost/kit", ["@x"], "--x", "--kit-revision '--x'"),
        ("https://localhost/kit", ["@x"], "a b", "--kit-revision 'a b'"),
        ("kit.whl", ["@x"], "v1", "a wheel has none"),
        ("https://localhost/kit", [], "", "--owner ''"),
        ("https://localhost/kit", ["@x", "x"], "", "--owner 'x'"),
        ("https://localhost/kit", ["@x\n* @y"], "", "--owner"),
    ],
)
def test_values_that_cannot_stand_there(tmp_path: Path, source: str, owners: list[str], revision: str, problem: str) -> None:
    with pytest.raises(KitError, match=re.escape(problem)):
        init_repository(tmp_path / "results", source, owners, revision)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "source",
    ["ssh://git@localhost/kit", "git@localhost:kit.git", "file:///srv/kit.git", "/", "https://localhost/a@b/kit.whl"],
)
def test_sources_that_can(source: str) -> None:
    assert contents(source, ["@x"], "")[SOURCE] == f"{source}\n"


@pytest.mark.parametrize("number", range(len(FILES) + 1))
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """At each file in turn: nothing is left, in a new folder and in a repository that was there."""
    git(tmp_path, "init", "-q", "there")
    (tmp_path / "there/.github").mkdir()
    before = sorted(tmp_path.rglob("*"))
    real, count = Path.open, [0]

    def interrupted(path: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "x":
            count[0] += 1
            if count[0] == number + 1:
                raise KeyboardInterrupt
        return real(path, mode, **options)

    for folder in ("there", "deep/new"):
        count[0] = 0
        monkeypatch.setattr(repository.Path, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            init_repository(tmp_path / folder, *GIVEN)
        monkeypatch.setattr(repository.Path, "open", real)
        assert sorted(tmp_path.rglob("*")) == before


def test_the_command(tmp_path: Path) -> None:
    words = ["submission", "init-repository", str(tmp_path / "results"), "--kit-source", "kit.whl"]
    result = CliRunner().invoke(app, [*words, "--owner", "@x"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == str(tmp_path / "results/README.md")
    assert CliRunner().invoke(app, words).exit_code == 2  # nobody would approve


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_are_what_they_say(made: Path, name: str) -> None:
    """Nothing foreign runs, no token is where a stranger's text is read, and no foreign text is put into a script."""
    found = workflow(made, name)
    assert found["permissions"] == {}
    assert found["defaults"]["run"]["shell"] == "bash"  # with pipefail, which the default of GitHub lacks
    assert "pull_request_target" not in found["on"]
    reads = {job for job, _, step in steps(made, name) if "kit" in step.get("run", "").split()}
    for job, content in found["jobs"].items():
        assert content["timeout-minutes"]
        if job in reads:
            assert "permissions" not in content
            assert "github.token" not in str(content)
            assert "secrets" not in str(content)
    for _, _, step in steps(made, name):
        assert step.get("uses", "actions/upload-artifact@v4") == "actions/upload-artifact@v4"
        assert "${{" not in step.get("run", "")
    written = {job: content["permissions"] for job, content in found["jobs"].items() if "permissions" in content}
    assert written == {
        "comment": {"comment": {"actions": "read", "pull-requests": "write"}},
        "leaderboard": {"publish": {"actions": "read", "contents": "write"}},
    }.get(name, {})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_shell_of_the_workflows(made: Path, tmp_path: Path, name: str) -> None:
    scripts = [made / ".github/install-kit.sh"]
    for number, (_, _, step) in enumerate(steps(made, name)):
        if "run" in step:
            path = tmp_path / f"{name}-{number}.sh"
            path.write_text(f"#!/bin/bash\nset -eo pipefail\n{step['run']}")
            scripts.append(path)
    result = subprocess.run([Path(sys.executable).with_name("shellcheck"), *scripts], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_no_public_host_is_named(made: Path) -> None:
    """Where the kit, its images or packages lie is for those to say who keep the repository."""
    for path in files(made / ".github") + [made / name for name in FILES]:
        assert not re.search(r"\b[\w-]+\.(com|io|org|net)\b", path.read_text()), path


class Runner:
    """What GitHub does with a pull request: a merge commit, a fresh folder for each job, steps by bash."""

    def __init__(self, made: Path, bin: Path) -> None:
        self.made, self.bin, self.bare = made, bin, made.parent / "results.git"
        git(made, "add", "-A")
        git(made, "commit", "-q", "-m", "Begin")
        git(made.parent, "clone", "-q", "--bare", str(made), str(self.bare))
        self.count = 0

    def request(self) -> str:
        """The ref of the merge of everything that is in the clone now."""
        self.count += 1
        git(self.made, "add", "-A", "--force")
        tree = git(self.made, "write-tree")
        head = git(self.made, "commit-tree", tree, "-p", "main", "-m", "A request")
        merge = git(self.made, "commit-tree", tree, "-p", "main", "-p", head, "-m", "Merge")
        git(self.made, "push", "-q", str(self.bare), f"{merge}:refs/pull/{self.count}/merge")
        return f"refs/pull/{self.count}/merge"

    def run(self, ref: str, name: str, only: tuple[str, ...], **given: str) -> subprocess.CompletedProcess[str]:
        """The steps of these names, in one folder."""
        folder = self.made.parent / f"job-{len(list(self.made.parent.glob('job-*')))}"
        folder.mkdir()
        script = "".join(f"(\n{step['run']}\n)\n" for _, title, step in steps(self.made, name) if title in only)
        assert script
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "GITHUB_SERVER_URL": f"file://{self.bare.parent}",
            "GITHUB_REPOSITORY": self.bare.name,
            "GITHUB_REF": ref,
            "GITHUB_SHA": "0" * 40,
            "GITHUB_RUN_ID": "7",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            **given,
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    def report(self) -> str:
        return (max(self.made.parent.glob("job-*")) / "report/check.md").read_text()


BASE, CHECK = "the base, with submissions/ of the request", "check"


@pytest.fixture
def runner(made: Path, tmp_path: Path, submission: Path) -> Runner:
    """With a kit that knows the toy benchmark, and a repository that knows the submitter's organisation."""
    (made / "organisations.toml").write_text('[organisation.laboratory]\nname = "The laboratory"\n')
    bin = tmp_path / "bin"
    bin.mkdir()
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(root=str(ROOT), package=str(tmp_path / "package"), cache=str(tmp_path / "cache")))
    (bin / "kit").write_text(f'#!/bin/sh\nexec {sys.executable} {driver} "$@"\n')
    (bin / "kit").chmod(0o755)
    return Runner(made, bin)


# As the fixture `toy` does in this process.
DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import pytest
from kit import benchmark, cli
from kit.benchmarks import Code
from kit.benchmarks.relion.star import read_star
from kit.core import paths
from kit.runtimes import RUNTIMES, host
class Toy(Code):
    def data_parameters(self, parameters):
        return {{"number": parameters["number"]}}
    def generate(self, folder, parameters):
        (folder / "input.txt").write_text(str(parameters["number"]))
    def evaluate(self, directory, ranks):
        pass
    def read_table(self, path, block):
        return read_star(path, only=block) if path.suffix == ".star" else None
benchmark.Benchmark.code = Toy()
paths.PACKAGE = Path({package!r})
paths.cache = lambda: Path({cache!r})
paths.commit = lambda: "1" * 40
RUNTIMES["apptainer"] = host
cli.main()
"""


@pytest.mark.usefixtures("toy")
def test_the_check_of_a_pull_request(runner: Runner, submission: Path) -> None:
    place = runner.made / "submissions" / Path(*submission.parts[-4:])
    shutil.copytree(submission, place)
    result = runner.run(runner.request(), "check", (BASE, CHECK))
    assert result.returncode == 0, result.stderr + runner.report()
    name = "/".join(submission.parts[-4:])
    assert f"`{name}`: accepted" in runner.report()

    (place / "result-1.txt").write_text("x")
    result = runner.run(runner.request(), "check", (BASE, CHECK))
    assert result.returncode == 1
    assert f"`{name}`: refused" in runner.report()
    assert "| error | sum-differs | `result-1.txt` |" in runner.report()


@pytest.mark.usefixtures("toy")
def test_what_a_request_cannot_do(runner: Runner, submission: Path) -> None:
    """It makes no organisation known, brings no link for submissions/, no file beside them, and no program of its own."""
    foreign = runner.made / "submissions" / Path("stranger", *submission.parts[-3:])
    shutil.copytree(submission, foreign)
    (runner.made / "organisations.toml").write_text('[organisation.stranger]\nname = "x"\n')
    (runner.made / "submissions/notes.txt").write_text("@team <b>")
    (runner.made / ".github/install-kit.sh").write_text("exit 1\n")
    result = runner.run(runner.request(), "check", (BASE, CHECK))
    assert result.returncode == 1
    assert "unknown-organisation" in runner.report()
    assert "| error | outside | `notes.txt` |" in runner.report()
    (job,) = runner.made.parent.glob("job-*")
    assert (job / ".github/install-kit.sh").read_text() == (ROOT / "templates/repository/install-kit.sh").read_text()

    shutil.rmtree(runner.made / "submissions")
    (runner.made / "submissions").symlink_to("/etc")
    result = runner.run(runner.request(), "check", (BASE, CHECK))
    assert result.returncode == 1
    assert "The check came to no end" in runner.report()
    assert "no link to it" in runner.report()


def test_a_request_without_submissions(runner: Runner) -> None:
    (runner.made / "README.md").write_text("x")
    result = runner.run(runner.request(), "check", (BASE, CHECK))
    assert result.returncode == 0, result.stderr
    assert "No submission is changed." in runner.report()


# It answers as gh does, and writes down what it was asked.
GH = r"""#!/bin/bash
printf '%s\n' "$*" >>{log}
case "$1 $2" in
    'api --method') printf '%s\n' {pulls} ;;
    'api --paginate') printf '%s\n' {changed} ;;
    'run download') mkdir -p report; {report} ;;
    'pr comment') cp comment.md {log}.comment ;;
esac
"""
COMMIT = "a" * 40


def commented(runner: Runner, pulls: str, changed: str, report: str) -> tuple[int, str]:
    """Exit code of the step that comments, and the comment."""
    log = runner.made.parent / "gh.log"
    (runner.bin / "gh").write_text(GH.format(log=log, pulls=pulls, changed=changed, report=report))
    (runner.bin / "gh").chmod(0o755)
    given = {"GH_TOKEN": "x", "GH_REPO": "o/r", "RUN": "7", "COMMIT": COMMIT, "HEAD": "stranger:$(touch bad)"}
    result = runner.run("", "comment", ("comment",), **given)
    assert not list(runner.made.parent.glob("job-*/bad"))
    comment = Path(f"{log}.comment")
    return result.returncode, comment.read_text() if comment.exists() else ""


GOOD = f"'{'b' * 40} 3' '{COMMIT} 12'"


def test_the_comment(runner: Runner) -> None:
    code, comment = commented(runner, GOOD, "submissions/x/run.json", "echo accepted >report/check.md")
    assert (code, comment.splitlines()[0]) == (0, "accepted")
    assert f"Of commit {COMMIT}, by [this run]" in comment
    assert "outside" not in comment
    assert "pr comment 12 --edit-last" in (runner.made.parent / "gh.log").read_text()


@pytest.mark.parametrize(
    ("pulls", "changed", "report", "code", "comment"),
    [
        (GOOD, "README.md", "echo accepted >report/check.md", 0, "also changes files outside of submissions/"),
        (GOOD, "submissions/x .github/workflows/check.yml", "echo accepted >report/check.md", 0, "changes the check itself"),
        (GOOD, "submissions/x", "ln -s /etc/passwd report/check.md", 1, ""),
        (GOOD, "submissions/x", ":", 1, ""),
        (GOOD, "submissions/x", "head -c 1000000 /dev/zero | tr '\\0' x >report/check.md", 0, "Of commit"),
        (f"'{'b' * 40} 3'", "submissions/x", "echo accepted >report/check.md", 0, ""),
        (f"'{COMMIT} 3; touch bad'", "submissions/x", "echo accepted >report/check.md", 0, ""),
    ],
)
def test_a_comment_that_is_no_report(runner: Runner, pulls: str, changed: str, report: str, code: int, comment: str) -> None:
    found = commented(runner, pulls, changed, report)
    assert found[0] == code
    assert comment in found[1] if comment else found[1] == ""
    assert len(found[1]) < 65_536
    assert "accepted" not in found[1] or "outside" in found[1]


def test_the_pages_are_pushed_on_top_of_those_before(runner: Runner) -> None:
    (runner.bin / "gh").write_text('#!/bin/sh\n[ "$1" = run ] && echo page >site/index.html\nexit 0\n')
    (runner.bin / "gh").chmod(0o755)
    for number in (1, 2):
        result = runner.run("refs/heads/main", "leaderboard", ("push",))
        assert result.returncode == 0, result.stderr
        assert git(runner.bare, "rev-list", "--count", "pages") == str(number)
    assert git(runner.bare, "ls-tree", "--name-only", "pages") == "index.html"


def test_the_kit_is_installed_from_its_source(made: Path, tmp_path: Path) -> None:
    """A clone of the repository that the file names, at its revision; or the wheel. Only pip is a stand-in."""
    source = tmp_path / "kit.git"
    git(tmp_path, "init", "-q", str(source))
    (source / "file").write_text("x")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "x")
    git(source, "tag", "v1")
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "python3").write_text(
        '#!/bin/sh\nmkdir -p "$3/bin"\nprintf \'#!/bin/sh\\necho pip "$@"\\n\' >"$3/bin/pip"\nchmod +x "$3/bin/pip"\n'
    )
    (bin / "python3").chmod(0o755)
    for line, said in ((f"{source} v1", f"pip install -q -e {tmp_path}/1/kit-source"), ("x.whl", "pip install -q -- x.whl")):
        (made / SOURCE).write_text(f"{line}\n")
        temporary = tmp_path / str(said.count("-e"))
        temporary.mkdir()
        environment = {
            "RUNNER_TEMP": str(temporary),
            "GITHUB_PATH": str(temporary / "path"),
            "PATH": f"{bin}:{os.environ['PATH']}",
        }
        command = ["bash", made / ".github/install-kit.sh"]
        result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        assert (result.returncode, result.stdout.strip()) == (0, said), result.stderr
        assert (temporary / "path").read_text() == f"{temporary}/kit/bin\n"


def submitted(runner: Runner, *places: str) -> str:
    """A request that brings these submissions, of which nobody reads more than their names."""
    for place in places:
        (runner.made / "submissions" / place).mkdir(parents=True)
        (runner.made / "submissions" / place / "run.json").write_text(place)
    return runner.request()


def test_signatures_and_runs_of_new_submissions_alone(runner: Runner) -> None:
    """Which folders the steps hand to the kit, and that one failure fails the job; a name is never shell."""
    (runner.bin / "kit").write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*" >>../kit.log\necho "ran $2"\ncase $* in *bad*) exit 1 ;; esac\n'
    )
    log = runner.made.parent / "kit.log"
    hostile = "o/toy/$(touch x)/tiny-1"
    ref = submitted(runner, "o/toy/s/tiny-1", "o/toy/s/paper-1", hostile)
    result = runner.run(ref, "check", (BASE, "signatures, where there are any"))
    assert result.returncode == 0, result.stderr
    places = [f"submissions/{place}" for place in (hostile, "o/toy/s/paper-1", "o/toy/s/tiny-1")]
    verify = "submission verify {} --allowed-signers allowed_signers"
    assert sorted(log.read_text().splitlines()) == sorted(verify.format(place) for place in places)
    log.unlink()
    result = runner.run(ref, "rerun", (BASE, "run again"))
    assert result.returncode == 0, result.stderr
    again = [place for place in places if "paper" not in place]
    assert sorted(log.read_text().splitlines()) == sorted(f"reproduce {place} --site local" for place in again)
    assert not list(runner.made.parent.glob("job-*/x"))
    ref = submitted(runner, "o/toy/s/tiny-bad", "o/toy/s/tiny-good")
    for name, step in (("check", "signatures, where there are any"), ("rerun", "run again")):
        assert runner.run(ref, name, (BASE, step)).returncode == 1


def test_images_are_built_where_a_check_needs_them(runner: Runner) -> None:
    (runner.bin / "kit").write_text('#!/bin/sh\nprintf "%s\\n" "$*" >>../kit.log\n')
    log, step = runner.made.parent / "kit.log", "the image that writes RELION's commands"
    assert runner.run(submitted(runner, "o/toy/s/tiny-1"), "check", (BASE, step)).returncode == 0
    assert not log.exists()
    assert runner.run(submitted(runner, "o/relion/s/tiny-1"), "check", (BASE, step)).returncode == 0
    assert log.read_text() == "image build relion-basic\n"


@pytest.mark.parametrize("verdicts", ["", '{"submissions": []}'])
def test_the_leaderboard_takes_verdicts_of_all_submissions_together(runner: Runner, verdicts: str) -> None:
    """Also where there is none yet, and where some are refused."""
    (runner.bin / "kit").write_text(f"#!/bin/sh\n[ $1 = report ] && echo \"$*\" && exit\nprintf '%s' '{verdicts}'\nexit 1\n")
    (runner.bin / "kit").chmod(0o755)
    result = runner.run("refs/heads/main", "leaderboard", ("main", "the pages"))
    words = "report --leaderboard submissions --verdicts build/verdicts.json --to build/site\n"
    assert (result.returncode, result.stdout) == (0, words), result.stderr
    (job,) = runner.made.parent.glob("job-*")
    assert (job / "build/verdicts.json").read_text() == (verdicts or "[]\n")


def test_the_readme_shows_commands_that_there_are(made: Path) -> None:
    known = {command.name or getattr(command.callback, "__name__", "") for command in submission_app.registered_commands}
    for command in commands(made / "README.md"):
        program, noun, verb, *_ = command.split()
        assert (program, noun) == ("kit", "submission")
        assert verb in known
