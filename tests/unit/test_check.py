"""`kit submission check` on a good submission, on each file of it broken, and on anything at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import files, kit, rewritten

from kit.core import paths
from kit.core.checksums import digest
from kit.core.errors import KitError
from kit.submissions import rerender, survey
from kit.submissions.check import check, report
from kit.submissions.layout import REQUIRED

pytestmark = pytest.mark.usefixtures("toy")


def test_good_submission_is_accepted(submission: Path) -> None:
    assert check(submission) == []
    assert submission.parts[-4:-1] == ("laboratory", "toy", "here")


def test_every_file_broken_or_missing_is_named(submission: Path) -> None:
    """Each file in turn: one byte added, emptied, removed."""
    names = [path.relative_to(submission).as_posix() for path in files(submission)]
    assert set(REQUIRED) <= set(names)
    for name in names:
        path = submission / name
        content = path.read_bytes()
        for broken in (content + b"x", b"", None):
            if broken == content:
                continue
            if broken is None:
                path.unlink()
            else:
                path.write_bytes(broken)
            named = {finding.file for finding in check(submission)} | {
                word for finding in check(submission) for word in finding.problem.replace(":", " ").split()
            }
            assert any(part.endswith(name) for part in named), (name, broken, check(submission))
            path.write_bytes(content)
    assert check(submission) == []


def forgotten() -> None:
    """As a process that starts anew: only the cache is left."""
    rerender.in_process.cache_clear()
    rerender.script_of.cache_clear()


def kept() -> list[Path]:
    return files(paths.cache() / "answers")


def unrendered(question: rerender.Question) -> rerender.Answer:
    raise KitError("rendered")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever somebody is writing in this checkout meanwhile."""
    monkeypatch.setattr(paths, "untracked", lambda: False)


@pytest.mark.usefixtures("clean")
def test_a_question_is_answered_once(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a commit rendered for a run is kept; every file is still held against it."""
    forgotten()
    assert check(submission) == []
    (answer,) = kept()
    assert answer.name.startswith("1" * 40)
    forgotten()
    monkeypatch.setattr(rerender, "again", unrendered)
    assert check(submission) == []
    script = submission / "run/job.sh"
    script.write_text(script.read_text() + "true\n")
    assert "[script-differs]" in problems(submission)


@pytest.mark.usefixtures("clean")
def test_an_answer_of_a_commit_that_left_the_history_counts_for_nothing(
    submission: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten()
    assert check(submission) == []
    assert len(kept()) == 1
    forgotten()
    monkeypatch.setattr(paths, "commit", lambda: "2" * 40)
    assert "is not in the history of" in problems(submission)


def test_no_answer_is_kept_beside_files_of_no_commit(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten()
    monkeypatch.setattr(paths, "untracked", lambda: True)
    assert check(submission) == []
    assert kept() == []


@pytest.mark.parametrize("folder", ["kit", "templates", "docs"])
def test_files_of_no_commit_are_noticed(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the documentation take no part in what is rendered."""
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    for name in ("kit", "templates", "docs"):
        (tmp_path / name).mkdir()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert not paths.untracked()
    (tmp_path / folder / "new").write_text("text")
    assert paths.untracked() == (folder != "docs")


def test_a_run_without_a_tuning_says_nothing_of_tunings(submission: Path) -> None:
    """Kits that know of none refuse the key, and are asked to render their runs again."""
    assert "tuning" not in json.loads((submission / "run.json").read_text())["rendering"]


def test_another_question_is_asked_anew(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten()
    assert check(submission) == []
    run = json.loads((submission / "run.json").read_text())
    edited(submission, ranks=run["ranks"] + 1)
    monkeypatch.setattr(rerender, "again", unrendered)
    assert "run.json: rendered [not-rendered]" in problems(submission)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_damaged_answer_is_rendered_anew(submission: Path, content: str) -> None:
    forgotten()
    assert check(submission) == []
    (answer,) = kept()
    whole = answer.read_bytes()
    answer.write_text(content)
    forgotten()
    assert check(submission) == []
    assert answer.read_bytes() == whole


def test_no_answer_of_changed_files_is_kept(submission: Path) -> None:
    forgotten()
    edited(submission, commit="1" * 40 + "-dirty")
    check(submission, allow_dirty=True)
    assert kept() == []


def test_a_cache_that_cannot_be_written_stops_no_check(submission: Path) -> None:
    forgotten()
    paths.cache().mkdir(exist_ok=True)
    (paths.cache() / "answers").write_text("no folder")
    assert check(submission) == []


def edited(submission: Path, **changes: object) -> None:
    run = json.loads((submission / "run.json").read_text())
    run.update(changes)
    (submission / "run.json").write_text(json.dumps(run))
    rewritten(submission)


def problems(submission: Path) -> str:
    return "\n".join(str(finding) for finding in check(submission))


def test_forged_metric(submission: Path) -> None:
    run = json.loads((submission / "run.json").read_text())
    run["metrics"][0]["value"] = 3.0
    edited(submission, metrics=run["metrics"])
    assert "metric resolution is 3.0, but run/second.star says 7.0" in problems(submission)


def test_metric_left_out(submission: Path) -> None:
    edited(submission, metrics=[])
    assert "metric resolution is missing" in problems(submission)


def test_gate_that_was_loosened(submission: Path) -> None:
    """The run's own copy of the benchmark says what it was held against; so it must be that of record."""
    path = submission / "run/benchmark.json"
    benchmark = json.loads(path.read_text())
    (metric,) = [entry for entry in benchmark["metrics"] if entry["name"] == "resolution"]
    assert metric["at_most"] is not None
    metric["at_most"] = 1e9
    path.write_text(json.dumps(benchmark))
    rewritten(submission)
    said = problems(submission)
    assert "run/benchmark.json: metric resolution: at_most is 1000000000.0, not " in said
    assert "checked by the kit that made it, commit " in said
    metric["name"] = "another"
    path.write_text(json.dumps(benchmark))
    rewritten(submission)
    assert "run/benchmark.json: has no metric resolution, which size tiny has" in problems(submission)


def test_failed_run_called_valid(submission: Path) -> None:
    record = submission / "run/stages.jsonl"
    record.write_text(record.read_text().replace('"exit": 0', '"exit": 1'))
    rewritten(submission)
    assert "run/stages.jsonl: says failed" in problems(submission)


@pytest.mark.parametrize("state", ["rendered", "running", "failed", "incomplete", "finished"])
def test_state_that_is_not_valid(submission: Path, state: str) -> None:
    edited(submission, state={"name": state})
    assert f"state is {state}" in problems(submission)


def test_digest_and_commit_are_needed(submission: Path) -> None:
    run = json.loads((submission / "run.json").read_text())
    run["image"]["digest"] = ""
    edited(submission, image=run["image"], commit="unknown")
    assert "image.digest is missing" in problems(submission)
    assert "commit is unknown" in problems(submission)


def test_schema(submission: Path) -> None:
    edited(submission, colour="red", ranks="many")
    assert "key 'colour' is not known" in problems(submission)
    assert "key 'ranks'" in problems(submission)


def test_placeholder(submission: Path) -> None:
    path = submission / "scientific_contribution.md"
    path.write_text(path.read_text() + "\nTODO: say something\n")
    rewritten(submission)
    assert "scientific_contribution.md: line" in problems(submission)


def test_added_file_and_link(submission: Path) -> None:
    (submission / "extra.bin").write_bytes(b"\0")
    (submission / "link").symlink_to("/etc/passwd")
    assert "extra.bin: not listed" in problems(submission)
    assert "link: a link" in problems(submission)


def test_wrong_place(submission: Path, tmp_path: Path) -> None:
    moved = tmp_path / "submissions/laboratory/relion/here/x"
    moved.parent.mkdir(parents=True)
    shutil.copytree(submission, moved)
    assert "the path says application 'relion', run.json says 'toy'" in problems(moved)


@pytest.mark.parametrize("content", [b"", b"\0\xff" * 50, b"[]", b"{}", b"null", b'{"state": 5}', b"[" * 5000])
def test_any_input_gives_findings(submission: Path, content: bytes) -> None:
    for path in files(submission):
        path.write_bytes(content)
    assert check(submission)


def test_empty_missing_and_odd_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert {finding.file for finding in check(tmp_path / "empty")} >= set(REQUIRED)
    assert check(tmp_path / "nothing")[0].problem == "not a folder"
    for name in REQUIRED:  # folders where files should be
        (tmp_path / "odd" / name).mkdir(parents=True)
    assert check(tmp_path / "odd")
    loop = tmp_path / "loop"
    loop.mkdir()
    os.symlink(loop, loop / "run")
    assert check(loop)


def test_command(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = kit("submission", "check", str(tmp_path / "empty"), code=1)
    assert "README.md: missing" in result.stdout
    answer = json.loads(kit("submission", "check", str(tmp_path / "empty"), "--json", code=1).stdout)
    assert answer["accepted"] is False
    assert {"rule", "severity", "file", "problem", "why", "mend"} == set(answer["findings"][0])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--challenge", ""], 1, "--challenge: is empty"),
        (["--evidence", "x"], 1, "--evidence goes with --deep"),
        (["--json", "--markdown"], 2, "only one of them"),
    ],
)
def test_options_that_would_say_nothing(submission: Path, words: list[str], code: int, said: str) -> None:
    """They are refused for one submission, and for several."""
    for folder in (submission, submission.parents[3]):
        assert said in kit("submission", "check", str(folder), *words, code=code).stderr


def test_file_that_cannot_be_read_is_named(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        if path.name == "first.stdout.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return digest(path)

    monkeypatch.setattr(survey, "digest", denied)
    named = [str(finding) for finding in check(submission)]
    assert "run/stages/first.stdout.txt: cannot be read: Permission denied [unreadable]" in named
    assert not any("[unchecked]" in line for line in named)


def test_line_of_the_checksums_is_named(submission: Path) -> None:
    (submission / "sha256sums.txt").write_text("x\n")
    assert "sha256sums.txt: line 1: not a line of sha256sum [unreadable]" in problems(submission)


def test_name_of_a_folder_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb: accepted"
    folder.mkdir()
    assert "\nb: accepted" not in report(folder, check(folder))
    (folder / "README.md~").write_text("x")
    assert "\nb: accepted" not in kit("submission", "check", str(folder), "--fix", code=1).stderr
