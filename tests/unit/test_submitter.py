"""Who submits, and on which system: asked for once, kept in the user file, and never nobody."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, forged, run_boxed

from kit.benchmark import Benchmark, Metric
from kit.cli import main
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import read_json, read_toml
from kit.core.schema import parse
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import load_run
from kit.site import load_site
from kit.submissions.check import check
from kit.submissions.pack import pack
from kit.submissions.rules import Finding
from kit.submissions.submitter import origin, person, remember
from kit.submissions.texts import derived

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KIT_ALLOW_TRIAL", raising=False)


@pytest.fixture
def run(toy: Path) -> Path:
    """A valid run of the toy on the site `local`, which says nothing of who submits, or on what."""
    site = paths.PACKAGE / "sites/local.toml"
    site.write_text(site.read_text().replace('"apptainer"', '"host"'))
    directory = launch.prepare(make_plan(Request("toy", site="local")), toy)
    run_boxed(directory)
    return directory


def never(question: str, checked: Callable[[str], str]) -> str:
    raise AssertionError(f"asked: {question}")


def levels(folder: Path) -> tuple[str, str]:
    return folder.parts[-4], folder.parts[-2]


def on_a_terminal(words: list[str], answers: list[str]) -> tuple[int, str]:
    """Runs the command, as it stands in this process, on a pseudo-terminal; its exit code and all that it printed."""
    child, terminal = pty.fork()
    if child == 0:
        code = 99
        os.environ["TERM"] = "dumb"  # so that readline sends no escape sequences behind a question
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
        try:
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["kit", *words]
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    said = b""
    waiting = list(answers)
    try:
        while True:
            ready, _, _ = select.select([terminal], [], [], 60)
            if not ready:
                os.kill(child, signal.SIGKILL)
                pytest.fail(f"waits for an answer that the test does not give: {said.decode()}")
            block = os.read(terminal, 4096)
            if not block:
                break
            said += block
            if waiting and re.search(rb": (\x1b\S*)?$", said):
                os.write(terminal, waiting.pop(0).encode() + b"\n")
    except OSError:  # its other end was closed
        pass
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.decode()


def test_asked_once_and_remembered(run: Path, tmp_path: Path) -> None:
    """What names nobody, marks a trial or is no folder's name is asked for again; the next time nothing is asked."""
    words = ["submission", "pack", str(run), "--to"]
    answers = [
        "",
        "unaffiliated",
        "Trial",
        "two words",
        "centre",
        "LOCAL",
        "my-workstation",
        "",
        "-",
        "no address",
        "a@b",
        "me",
    ]
    code, said = on_a_terminal([*words, str(tmp_path / "first")], answers)
    assert code == 0, said
    assert said.count("Your organisation") == 5
    assert said.count("The name of the system") == 2
    assert "organisation 'unaffiliated' says nothing" in said
    (folder,) = (tmp_path / "first").glob("*/*/*/*")
    assert levels(folder) == ("centre", "my-workstation")
    assert check(folder) == []
    system = json.loads((folder / "system.json").read_text())
    assert (system["submitter"], system["system_name"]) == ("centre", "my-workstation")
    assert "by centre on `my-workstation`" in (folder / "README.md").read_text()
    assert read_toml(paths.user_file()) == {
        "organisation": "centre",
        "systems": {"local": "my-workstation"},
        "submitter_name": "",
        "submitter_email": "a@b",
        "submitter_user": "me",
    }
    who = json.loads((folder / "submitter.json").read_text())
    assert (who["name"], who["email"], who["user"]) == ("", "a@b", "me")
    assert "Submitted by somebody whose name is not given (me), a@b." in (folder / "README.md").read_text()
    code, said = on_a_terminal([*words, str(tmp_path / "second")], [])
    assert code == 0, said
    assert "Your organisation" not in said
    assert levels(pack(run, tmp_path / "third", ask=never)) == ("centre", "my-workstation")
    paths.user_file().write_text('organisation = "centre"\n[systems]\nelsewhere = "my-workstation"\n')
    with pytest.raises(KitError, match=r"^system of the submission: not known"):
        pack(run, tmp_path / "fourth")


def test_interrupted_question_leaves_nothing(run: Path, tmp_path: Path) -> None:
    code, said = on_a_terminal(["submission", "pack", str(run), "--to", str(tmp_path / "to")], ["centre", "\x03"])
    assert code == 130, said
    assert not paths.user_file().exists()
    assert not (tmp_path / "to").exists()


def test_without_a_terminal_it_is_an_error(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KitError) as error:
        pack(run, tmp_path / "to")
    for part in (
        "organisation and system",
        "--organisation NAME",
        "--system NAME",
        str(paths.user_file()),
        '"local" = "NAME"',
    ):
        assert part in str(error.value)
    assert not paths.user_file().exists()
    with pytest.raises(KitError, match="system of the submission: not known"):
        pack(run, tmp_path / "to", organisation="centre")
    monkeypatch.setattr(sys, "argv", ["kit", "submission", "pack", str(run), "--to", str(tmp_path / "to")])
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 1
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"organisation": "unaffiliated", "system": "x"}, "organisation 'unaffiliated' says nothing"),
        ({"organisation": "Unaffiliated", "system": "x"}, "organisation 'Unaffiliated' says nothing"),
        ({"organisation": "x", "system": "local"}, "system 'local' says nothing"),
        ({"organisation": "", "system": "x"}, "organisation '' cannot be a folder"),
        ({"organisation": "../x", "system": "x"}, r"organisation '\.\./x' cannot be a folder"),
        ({"organisation": "x" * 201, "system": "x"}, r"organisation 'x+' cannot be a folder of a submission: up to 200"),
        ({"organisation": "x", "system": "a\nb"}, r"system 'a\\nb' cannot be a folder"),
        ({"organisation": "trial", "system": "a b"}, "system 'a b' cannot be a folder"),
    ],
)
def test_names_that_are_none(run: Path, tmp_path: Path, names: dict[str, str], problem: str) -> None:
    with pytest.raises(KitError, match=problem):
        pack(run, tmp_path / "to", **names, ask=never)


def test_flag_variable_user_file_site_in_this_order(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((run / "site.json").read_text())
    remember({"organisation": "of-file", "system": "file-system"}, "local")
    assert levels(pack(run, tmp_path / "a")) == ("of-file", "file-system")
    monkeypatch.setenv("KIT_ORGANISATION", "of-variable")
    monkeypatch.setenv("KIT_SYSTEM", "variable-system")
    assert levels(pack(run, tmp_path / "b")) == ("of-variable", "variable-system")
    assert levels(pack(run, tmp_path / "c", "of-flag", "flag-system")) == ("of-flag", "flag-system")
    assert json.loads((run / "site.json").read_text()) == record


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("submitter_name", "a\nb", "one line of printable characters"),
        ("submitter_name", "x" * 201, "at most 200"),
        (
            "submitter_email",
            "nobody",
            "^KIT_SUBMITTER_EMAIL: key 'submitter_email': an e-mail address is needed, got 'nobody'$",
        ),
        ("repository", "https://me:secret@host/kit", "^KIT_REPOSITORY: key 'repository': an https URL .* is needed"),
        ("repository", "--upload-pack=x", "key 'repository'"),
        ("repository", "https://host/kit; rm -r x", "key 'repository'"),
    ],
)
def test_what_cannot_be_published_of_a_submitter(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(f"KIT_{key.upper()}", value)
    with pytest.raises(KitError, match=problem):
        person(trial=False, ask=None)


def test_nobody_is_asked_for_a_trial_or_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert person(trial=True, ask=never).name == person(trial=False, ask=None).name == ""
    monkeypatch.setenv("KIT_REPOSITORY", "https://host.org/group/kit.git")
    assert person(trial=True, ask=None).repository == "https://host.org/group/kit.git"


@pytest.mark.parametrize(
    ("url", "known"),
    [("https://host/kit.git", True), ("git@host:kit", True), ("https://me:secret@host/kit", False), ("/home/me/kit", False)],
)
def test_origin_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, known: bool) -> None:
    """The URL of the clone is taken where anybody could use it, and never with a password."""
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    subprocess.run(["git", "-C", tmp_path / "clone", "remote", "add", "origin", url], check=True)
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path / "clone")
    assert origin() == (url if known else "")


def test_a_site_that_has_names_is_not_asked(submission: Path) -> None:
    assert levels(submission) == ("laboratory", "here")


def test_a_trial_is_marked_and_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="organisation 'trial' marks a trial, which is no submission"):
        pack(run, tmp_path / "to", "trial", ask=never)
    assert not (tmp_path / "to").exists()
    folder = pack(run, tmp_path / "to", "trial", allow_trial=True, ask=never)
    assert levels(folder) == ("trial", "local")
    assert check(folder, allow_trial=True) == []
    (finding,) = check(folder)
    assert "pack the run under your own: kit submission pack RUN --organisation NAME --system NAME" in finding.problem
    assert "This is a trial" in (folder / "README.md").read_text()
    assert "cannot be handed in" in (folder / "pull_request.md").read_text()
    assert "`kit submission check` accepts" not in (folder / "pull_request.md").read_text()


@pytest.mark.parametrize("organisation", ["centre", "Trial", "unaffiliated"])
def test_a_trial_that_was_renamed(run: Path, tmp_path: Path, organisation: str) -> None:
    folder = pack(run, tmp_path / "to", "trial", allow_trial=True)
    copy = tmp_path.joinpath("to", organisation, *folder.parts[-3:])
    shutil.copytree(folder, copy)
    found = forged(copy)
    assert "README.md: line" in found
    assert (f"organisation '{organisation}'" in found) == (organisation != "centre")
    assert ("system 'local' in the path says nothing" in found) == (organisation != "Trial")


def test_two_kits_that_pack_one_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_slowly(*arguments: object) -> list[Finding]:
        patch.undo()
        pack(run, tmp_path / "to", "centre", "box")
        return []

    with monkeypatch.context() as patch:
        patch.setattr("kit.submissions.check.check", check_slowly)
        with pytest.raises(KitError, match="exists; another kit has packed it meanwhile"):
            pack(run, tmp_path / "to", "centre", "box")
    (folder,) = (tmp_path / "to").glob("*/*/*/*")  # and nothing half-written beside it
    assert check(folder) == []


def test_an_image_under_its_old_name_is_not_of_this_kit(toy: Path, tmp_path: Path) -> None:
    path = paths.PACKAGE / "benchmarks/toy/benchmark.toml"
    path.write_text(path.read_text().replace("[images.relion-basic]", "[images.horovod]"))
    directory = launch.prepare(make_plan(Request("toy", site="here", image="cloudmask")), toy)
    assert run_boxed(directory).image.name == "horovod"
    folder = pack(directory, tmp_path / "to")
    bill = folder / "run/sbom.cdx.json"
    bill.write_text(bill.read_text().replace('"name": "horovod"', '"name": "cloudmask"'))
    assert "image.name is 'cloudmask', but 'horovod'" in forged(folder, lambda run: run["image"].update(name="cloudmask"))


FILES = [
    "",
    "# mine\nqueue = 'short'   # not the long one\n",
    'account = "a"\n\n[systems] # by site\n"big.site" = "x"\n',
    'systems = {other = "x"}\r\naccount = "a"\r\n',
    'organisation = "old" # was\nsystems.local = "old"\n',
]


@pytest.mark.parametrize("text", FILES)
def test_user_file_keeps_what_is_in_it(tmp_path: Path, text: str) -> None:
    """Values, comments, the ends of lines, its mode, and a link to it."""
    kept = tmp_path / "dotfiles"
    kept.mkdir()
    (kept / "kit.toml").write_bytes(text.encode())
    (kept / "kit.toml").chmod(0o600)
    file = paths.user_file()
    file.parent.mkdir()
    file.symlink_to(kept / "kit.toml")
    before = read_toml(file)
    remember({"organisation": "centre", "system": "box"}, "local")
    assert file.is_symlink()
    assert stat.S_IMODE((kept / "kit.toml").stat().st_mode) == 0o600
    assert read_toml(file) == {
        **before,
        "organisation": "centre",
        "systems": {**before.get("systems", {}), "local": "box"},
    }
    written = (kept / "kit.toml").read_bytes().decode()
    for line in text.splitlines():
        assert line.partition("#")[2] in written
    assert [path.name for path in kept.iterdir()] == ["kit.toml"]
    assert load_site("local").organisation == "centre"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"organisation = ", "not TOML"),
        (b"\xff", "not TOML"),
        (b'colour = "red"\n', "key 'colour' is not known"),
        (b"organisation = 5\n", "key 'organisation': expected text"),
        (b'systems = "x"\n', "key 'systems': a table is needed"),
        (b"[systems]\nlocal = 5\n", "key 'systems': a table is needed"),
        (b"[systems.local]\nname = 'x'\n", "key 'systems': a table is needed"),
        (b'[systems]\nlocal = "a b"\n', "system 'a b' cannot be a folder"),
    ],
)
def test_bad_user_file_is_an_error_and_stays(run: Path, tmp_path: Path, content: bytes, problem: str) -> None:
    file = paths.user_file()
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(KitError, match=problem):
        pack(run, tmp_path / "to", ask=never)
    assert file.read_bytes() == content


def test_user_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "file/kit.toml"))
    with pytest.raises(KitError, match=r"cannot be written: .*; give --organisation NAME and --system NAME instead"):
        remember({"organisation": "centre"}, "local")
    monkeypatch.setenv("KIT_CONFIG", os.devnull)
    with pytest.raises(KitError, match="/dev/null: no plain file"):
        remember({"organisation": "centre"}, "local")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_units_of_ratios_and_names_are_as_people_write_them(submission: Path) -> None:
    """A ratio has no unit, and the first letter of a sentence is the only one that becomes large."""
    run, benchmark = load_run(submission), parse(Benchmark, read_json(submission / "run/benchmark.json"), "benchmark")
    ratio = run.metrics[0].model_copy(update={"name": "ratio", "value": 0.5, "unit": "1"})
    run = run.model_copy(update={"metrics": [ratio, *run.metrics]})
    benchmark = benchmark.model_copy(update={"target": "as MLCommons Science has it"})
    pages = derived([run], benchmark, "laboratory", "here")
    assert "\n| ratio | " in pages["README.md"]
    assert "\n| resolution (angstrom) | ≤ 8 | 7 | at most 8 | " in pages["README.md"]
    assert "| ratio | " in pages["scientific_contribution.md"]
    assert "| resolution (angstrom) | " in pages["scientific_contribution.md"]
    assert pages["scientific_contribution.md"].endswith("As MLCommons Science has it.\n")
    assert "- ratio: 0.5\n- resolution: 7 angstrom\n" in pages["pull_request.md"]
    metric = {"name": "ratio", "description": "x", "unit": "1", "direction": "higher", "stage": "x", "file": "x.json"}
    assert Metric(**metric, label="x", at_least=0.9, source="x").problem(0.5) == "ratio = 0.5, but at least 0.9 is needed"


def test_make_submission_says_how_to_hand_in() -> None:
    """What it packs is marked a trial, and nothing else in the checkout passes one."""
    text = (ROOT / "Makefile").read_text()
    assert "--organisation trial --allow-trial" in text
    for path in (ROOT / ".github").rglob("*.yml"):
        assert "allow-trial" not in path.read_text().lower()
