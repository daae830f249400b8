"""`kit submission check submissions/`: each submission by itself, and all against each other."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import rewritten

from kit.core.errors import KitError
from kit.core.files import json_text
from kit.submissions import together
from kit.submissions.together import RULES, check_all, folders

METRIC = {"name": "accuracy", "value": 0.912345678, "unit": "1"}
TIMED = {"name": "duration", "value": 61.25, "unit": "s"}
NUMBERS = itertools.count(1)


def run(**changes: Any) -> dict[str, Any]:
    """A run.json with what is held against others, each of it a run's own."""
    number = next(NUMBERS)
    stage = {"name": "train", "host": "node", "start": 1000.0 + number, "end": 2000.0 + number}
    made = {
        "benchmark": "toy",
        "size": "tiny",
        "seed": number,
        "script": f"sha256:{number:064x}",
        "image": {"digest": "sha256:" + "0" * 64},
        "stages": [stage],
        "metrics": [METRIC | {"value": 0.5 + number / 1000}],
        "files": {"evidence/masks.npz": f"sha256:{number + 10**6:064x}", "figures/fsc.png": f"sha256:{number + 10**7:064x}"},
    }
    return made | changes


def add(root: Path, name: str, record: dict[str, Any], logs: str = "") -> Path:
    """A folder with the records of a submission, of which only those are read."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json_text(record))
    (folder / "result-1.txt").write_text(logs or name)
    rewritten(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """submissions/ with two of them, where the check of each by itself finds nothing."""
    monkeypatch.setattr(together, "check", lambda path, allow_dirty, allow_trial: [])
    folder = tmp_path / "submissions"
    add(folder, "centre/toy/one/tiny-1", run())
    add(folder, "other/toy/two/tiny-1", run())
    return folder


def rules(root: Path, **options: Any) -> set[str]:
    judgement = check_all(root, **options)
    findings = [finding for found in judgement.verdicts.values() for finding in found]
    return {finding.rule for finding in findings + judgement.outside}


def test_good_ones_are_accepted(root: Path) -> None:
    judgement = check_all(root)
    assert judgement.accepted
    assert list(judgement.verdicts) == ["centre/toy/one/tiny-1", "other/toy/two/tiny-1"]
    assert not rules(root)
    assert together.report(judgement).endswith("2 accepted, 0 refused")


def pair(first: dict[str, Any], second: dict[str, Any], name: str = "third/toy/three/tiny-1") -> Callable[[Path], object]:
    def change(root: Path) -> None:
        add(root, "fourth/toy/four/tiny-1", first)
        add(root, name, second)

    return change


def equal(key: str, **common: Any) -> Callable[[Path], object]:
    """Two submissions that share one part of their run, and what else is given."""
    first = run()
    return pair({**first, **common}, {**run(), key: first[key], **common})


def listed(root: Path) -> None:
    (root.parent / "organisations.toml").write_text('[organisation.centre]\nname = "The centre"\n')


def same_log(root: Path) -> None:
    add(root, "third/toy/three/tiny-1", run(), "a log")
    add(root, "third/toy/three/tiny-2", run(), "a log")


def kept(root: Path) -> None:
    """One map, carried by one submission and said by another to be kept elsewhere."""
    mrc = "sha256:" + "b" * 64
    add(root, "third/toy/three/tiny-1", run(files={"evidence/map.mrc": mrc}))
    folder = add(root, "fourth/toy/four/tiny-1", run(files={"evidence/kept.json": "sha256:" + "c" * 64}))
    (folder / "run/evidence").mkdir(parents=True)
    (folder / "run/evidence/kept.json").write_text(
        json_text({"store": "x", "files": {"map.mrc": {"bytes": 1, "sha256": mrc}}})
    )


def repeats(root: Path) -> None:
    """The second run of one submission is the first of another."""
    again = run()
    folder = add(root, "third/toy/three/tiny-1", run())
    (folder / "repeat-2").mkdir()
    (folder / "repeat-2/run.json").write_text(json_text(again))
    rewritten(folder)
    add(root, "fourth/toy/four/tiny-1", again)


def link(root: Path) -> None:
    (root / "centre/toy/elsewhere").symlink_to("one")


CASES: list[tuple[str, Callable[[Path], object], set[str]]] = [
    ("the same script", equal("script"), {"same-script"}),
    ("the same times on the same node", equal("stages"), {"same-times"}),
    ("one run under two names", pair(run(seed=1), run(seed=1)), set()),
    ("a log twice", same_log, {"same-log"}),
    ("a run that is a repeat elsewhere", repeats, {"same-script", "same-times", "equal-on-systems", "same-picture"}),
    ("a map that is kept elsewhere", kept, {"same-evidence"}),
    ("evidence of another seed", equal("files"), {"same-evidence", "same-picture"}),
    ("evidence of the same seed", equal("files", seed=1), {"same-picture"}),
    ("metrics of another seed", equal("metrics"), {"equal-metrics"}),
    ("metrics of the same seed", equal("metrics", seed=1), {"equal-on-systems"}),
    ("a time of the same seed", equal("seed", metrics=[METRIC, TIMED]), {"equal-metrics"}),
    ("whole numbers alone", equal("seed", metrics=[METRIC | {"value": 2.0}]), set()),
    ("no numbers", equal("seed", metrics=[METRIC | {"value": float("nan")}]), set()),
    ("an organisation that nobody knows", listed, {"unknown-organisation"}),
    ("organisations alike", lambda root: add(root, "Centre/toy/one/tiny-2", run()), {"similar-name"}),
    ("systems alike", lambda root: add(root, "centre/toy/ONE/tiny-2", run()), {"similar-name"}),
    ("a file beside", lambda root: (root / "centre/notes.txt").write_text("x"), {"outside"}),
    ("a link beside", link, {"outside"}),
    ("an empty package", lambda root: (root / "centre/toy/one/tiny-2").mkdir(), {"outside"}),
    ("a package too deep", lambda root: add(root, "centre/toy/one/more/tiny-2", run()), {"outside"}),
    ("a submission in a hidden folder's place", lambda root: (root / ".hidden").mkdir(), {"outside"}),
    ("a README", lambda root: (root / "README.md").write_text("x"), set()),
]


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_they_show_together(root: Path, change: Callable[[Path], object], expected: set[str]) -> None:
    change(root)
    assert rules(root) == expected
    assert check_all(root).accepted == all(RULES[rule].severity == "warning" for rule in expected)


def test_every_rule_has_a_case() -> None:
    assert {rule for _, _, found in CASES for rule in found} | {"changed-later"} == set(RULES)


def test_the_same_machine_and_seed_may_come_to_the_same(root: Path) -> None:
    again = {"seed": 1, "metrics": [METRIC]}
    add(root, "third/toy/three/tiny-1", run(**again))
    add(root, "third/toy/three/tiny-2", run(**again))
    assert not rules(root)


def test_the_gravest_is_told(root: Path) -> None:
    """Of metrics that are those of another system with the same seed, and of one with another seed."""
    for system, seed in (("three", 1), ("four", 1), ("five", 2)):
        add(root, f"third/toy/{system}/tiny-1", run(seed=seed, metrics=[METRIC]))
    verdicts = check_all(root).verdicts
    for system in ("three", "four", "five"):
        assert [finding.rule for finding in verdicts[f"third/toy/{system}/tiny-1"]] == ["equal-metrics"]


def test_the_last_of_many_is_told(root: Path) -> None:
    for number in range(30):
        add(root, f"third/toy/three/tiny-{number:02}", run(script="sha256:" + "a" * 64))
    assert len(check_all(root).refused) == 30


def test_no_more_findings_of_a_rule_than_one_can_read(root: Path) -> None:
    many = {f"figures/{number}.png": f"sha256:{number:064x}" for number in range(100)}
    pair(run(files=many), run(files=many))(root)
    assert len(check_all(root).verdicts["third/toy/three/tiny-1"]) == together.MOST_SHOWN


def test_every_folder_of_a_pair_is_told(root: Path) -> None:
    equal("script")(root)
    verdicts = check_all(root).verdicts
    assert "has the job script of fourth/toy/four/tiny-1/run.json" in str(verdicts["third/toy/three/tiny-1"])
    assert "has the job script of third/toy/three/tiny-1/run.json" in str(verdicts["fourth/toy/four/tiny-1"])
    assert verdicts["centre/toy/one/tiny-1"] == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"benchmark": 1}', None])
@pytest.mark.parametrize("name", ["run.json", "sha256sums.txt"])
def test_a_record_that_cannot_be_read_is_left_to_its_own_check(root: Path, name: str, content: bytes | None) -> None:
    path = root / "centre/toy/one/tiny-1" / name
    path.unlink()
    path.write_bytes(content) if content is not None else os.mkfifo(path)
    assert not rules(root)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    with pytest.raises(KitError, match="holds no submission"):
        check_all(tmp_path / "submissions")
    with pytest.raises(KitError, match="not a folder"):
        check_all(tmp_path / "nothing")
    (tmp_path / "link").symlink_to("submissions")
    with pytest.raises(KitError, match="no link to it"):
        check_all(tmp_path / "link")


def test_folders_follow_no_link(root: Path) -> None:
    link(root)
    (root / "centre/loop").symlink_to("..")
    assert [folder.relative_to(root).parts[0] for folder in folders(root)] == ["centre", "other"]
    assert [folder.name for folder in folders(root / "centre/toy")] == ["tiny-1"]
    assert together.several(root / "centre")
    assert not together.several(root / "centre/toy/one/tiny-1")
    with pytest.raises(KitError, match=f"give {root}, or the folder of one"):
        together.several(root.parent)


def test_a_link_to_several_is_refused_once(root: Path) -> None:
    (root.parent / "link").symlink_to("submissions")
    (root.parent / "one").symlink_to("submissions/centre/toy/one/tiny-1")
    with pytest.raises(KitError, match=f"link: a link to a folder of submissions; give that folder, {root}"):
        together.several(root.parent / "link")
    assert not together.several(root.parent / "one")


@pytest.mark.parametrize("place", ["centre", "centre/toy/one/tiny-1"])
def test_a_folder_that_cannot_be_listed_is_told(root: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def denied(folder: Path) -> list[os.DirEntry[str]]:
        if folder == root / place:
            raise KitError(f"{folder}: cannot be listed: Permission denied")
        return listed(folder)

    listed = together.listed
    monkeypatch.setattr(together, "listed", denied)
    judgement = check_all(root)
    assert f"{place}: cannot be listed: Permission denied [outside]" in together.report(judgement)
    assert list(judgement.verdicts) == ["other/toy/two/tiny-1"]
    assert not judgement.accepted


def test_a_warning_names_the_whole_path(root: Path) -> None:
    equal("files", seed=1)(root)
    lines = together.report(check_all(root)).splitlines()
    assert any(line.startswith("warning: third/toy/three/tiny-1/run/evidence/masks.npz: ") for line in lines)


def test_a_list_of_organisations_that_is_none(root: Path) -> None:
    (root.parent / "organisations.toml").write_text("[organisation.centre]\nnome = 1\n")
    with pytest.raises(KitError, match=r"organisations.toml: key 'organisation.centre.nome' is not known"):
        check_all(root)


def hostile(root: Path) -> None:
    """Names and texts that would act on a terminal or a page."""
    add(root, "forged/toy/two/x: accepted\nforged/toy/two/y", run())
    add(root, "<img src=x>/toy/@team `|x/tiny\x1b[2J", run())
    (root / "<b>|`x`\n@team").write_text("")
    (root / os.fsdecode(b"\xff")).write_text("")


def test_hostile_names_are_text(root: Path) -> None:
    hostile(root)
    equal("script")(root)
    judgement = check_all(root)
    page = together.as_markdown(judgement)
    assert "\x1b" not in page + together.report(judgement)
    assert "\nforged/toy/two/y: accepted" not in together.report(judgement)
    for line in page.splitlines():
        assert "<" not in "".join(line.split("`")[::2])
        assert "@" not in "".join(line.split("`")[::2])
        if line.startswith("| "):
            assert line.count("|") == 6
    assert json.loads(together.as_json(judgement))["accepted"] is False


def test_a_comment_is_not_too_long(root: Path) -> None:
    for number in range(800):
        add(root, f"other/toy/two/tiny-{'x' * 90}-{number}", run())
    page = together.as_markdown(check_all(root))
    assert len(page) < 65_536
    assert page.endswith("The rest is left out; `kit submission check` tells all of it.\n")


def commit(folder: Path) -> str:
    words = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-C", str(folder)]
    subprocess.run([*words, "add", "-A"], check=True)
    subprocess.run([*words, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    return subprocess.run([*words, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def published(root: Path) -> tuple[Path, str]:
    subprocess.run(["git", "init", "-q", root.parent], check=True)
    return root, commit(root.parent)


def test_only_what_has_changed_is_judged(published: tuple[Path, str]) -> None:
    root, before = published
    (root / "old.txt").write_text("x")
    before = commit(root)
    assert check_all(root, since=before).accepted  # whatever lay there before
    (root / "new.txt").write_text("x")
    assert [finding.file for finding in check_all(root, since=before).outside] == ["new.txt"]
    (root / "new.txt").unlink()
    assert check_all(root, since=before).verdicts == {}
    assert "No submission is changed." in together.as_markdown(check_all(root, since=before))
    first = json.loads((root / "centre/toy/one/tiny-1/run.json").read_text())
    add(root, "third/toy/three/tiny-1", run(script=first["script"]))
    for judgement in (check_all(root, since=before), check_all(root, since=before) if commit(root) else None):
        assert judgement
        assert list(judgement.verdicts) == ["third/toy/three/tiny-1"]
        assert [finding.rule for finding in judgement.verdicts["third/toy/three/tiny-1"]] == ["same-script"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / "result-1.txt").unlink(),
        lambda folder: (folder / "result-1.txt").write_text("y"),
        lambda folder: (folder / "result-2.txt").write_text("y"),
    ],
)
def test_what_is_published_stays(published: tuple[Path, str], change: Callable[[Path], object]) -> None:
    root, before = published
    change(root / "centre/toy/one/tiny-1")
    judgement = check_all(root, since=before)
    assert [finding.rule for finding in judgement.verdicts["centre/toy/one/tiny-1"]] == ["changed-later"]
    assert not judgement.accepted


def test_since_what_is_no_commit(published: tuple[Path, str]) -> None:
    root, before = published
    for name in ("nothing", "--help", "HEAD:submissions"):
        with pytest.raises(KitError, match="no commit"):
            check_all(root, since=name)
    with pytest.raises(KitError, match="give that folder"):
        check_all(root / "centre", since=before)


@pytest.mark.usefixtures("toy")
class TestReal:
    """With the check of each submission by itself."""

    def test_copies_under_another_name(self, submission: Path) -> None:
        root = submission.parents[3]
        assert check_all(root).accepted
        other = root / "else" / Path(*submission.parts[-3:])
        shutil.copytree(submission, other)
        judgement = check_all(root, jobs=2)
        found = {finding.rule for finding in judgement.verdicts[f"else/{'/'.join(submission.parts[-3:])}"]}
        assert {"same-script", "same-times", "same-log", "text-differs"} <= found

    def test_the_command(self, submission: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from typer.testing import CliRunner

        from kit.cli import app

        root = submission.parents[3]
        result = CliRunner().invoke(app, ["submission", "check", str(root), "--jobs", "2"])
        assert (result.exit_code, result.output.endswith("1 accepted, 0 refused\n")) == (0, True)
        (submission / "result-1.txt").write_text("")
        for words in ([], ["--json"], ["--markdown"]):
            result = CliRunner().invoke(app, ["submission", "check", str(root), *words])
            assert result.exit_code == 1
            assert "result-1.txt" in result.output
        (root / "x").mkdir()
        shutil.rmtree(submission)
        assert CliRunner().invoke(app, ["submission", "check", str(root)]).exit_code == 1
