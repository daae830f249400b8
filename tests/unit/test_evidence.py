"""Evidence of a run: taken when it is collected, carried by a submission, and scored again by a deep check."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import boxed, rewritten

from kit import cli
from kit.benchmark import Benchmark
from kit.core.checksums import digest
from kit.core.files import write_json
from kit.plan import Request, make_plan
from kit.runs import evidence, launch
from kit.runs.collect import collect
from kit.runs.record import load_run
from kit.submissions.check import check
from kit.submissions.deep import answers, deep_check
from kit.submissions.pack import pack
from kit.submissions.rules import AREAS

NAME = "evidence/number.json"


@pytest.fixture
def proven(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy, with evidence: the number that its resolution is."""
    code: Any = Benchmark.code

    def write(directory: Path, target: Path) -> None:
        target.write_text((directory / "first.txt").read_text())

    def score_again(files: Any, data: Path, parameters: Any, same_data: bool) -> Iterator[tuple[str, str, str]]:
        if json.loads(files[NAME].read_text()) != int((data / "input.txt").read_text()):
            yield "evidence-score", "second.star", "is not the number of the data"

    monkeypatch.setattr(code, "evidence", lambda stages: {"number.json": write}, raising=False)
    monkeypatch.setattr(code, "score_again", score_again, raising=False)


@pytest.fixture
def ended(proven: None, toy: Path) -> Path:
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    boxed(directory)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return directory


@pytest.fixture
def packed_run(ended: Path, tmp_path: Path) -> Path:
    assert collect(ended).state.name == "valid"
    return pack([ended], tmp_path / "submissions")


def rules(folder: Path, elsewhere: Path | None = None) -> list[str]:
    return [finding.rule for finding in deep_check(folder, elsewhere=elsewhere)]


def relisted(folder: Path) -> None:
    """What a forger does after changing evidence: run.json and the checksums fit again."""
    run = json.loads((folder / "run.json").read_text())
    run["files"] = {
        name: digest(folder / "run" / name) if name.startswith("evidence/") else was for name, was in run["files"].items()
    }
    write_json(folder / "run.json", run)
    rewritten(folder)


def test_collecting_takes_it_and_takes_the_same_again(ended: Path) -> None:
    first = collect(ended).files[NAME]
    assert first == digest(ended / NAME) == collect(ended).files[NAME]
    assert [path.name for path in (ended / "evidence").iterdir()] == ["number.json"]


def test_a_submission_carries_it_and_is_scored_again(packed_run: Path) -> None:
    assert (packed_run / "run" / NAME).read_text() == "7"
    assert check(packed_run) == []
    assert rules(packed_run) == []


def test_forged_evidence(packed_run: Path) -> None:
    (packed_run / "run" / NAME).write_text("6")
    relisted(packed_run)
    assert rules(packed_run) == ["evidence-score"]


def test_evidence_that_stops_the_scoring(packed_run: Path) -> None:
    (packed_run / "run" / NAME).write_text("{")
    relisted(packed_run)
    assert rules(packed_run) == ["evidence-unread"]


def test_missing_evidence(packed_run: Path) -> None:
    (packed_run / "run" / NAME).unlink()
    run = json.loads((packed_run / "run.json").read_text())
    del run["files"][NAME]
    write_json(packed_run / "run.json", run)
    rewritten(packed_run)
    assert f"run/{NAME}: missing: every run of this size has it" in "\n".join(map(str, check(packed_run)))
    assert rules(packed_run) == ["evidence-missing"]


def test_other_data_are_said(packed_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = json.loads((packed_run / "run.json").read_text())
    write_json(packed_run / "run.json", {**run, "data": "sha256:" + "1" * 64})
    assert rules(packed_run) == ["evidence-other-data"]


def test_nothing_to_score(submission: Path) -> None:
    assert rules(submission) == ["evidence-none"]


def test_a_link_is_not_followed(ended: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (ended / "evidence").symlink_to(outside)
    run = collect(ended)
    assert run.state.name == "failed"
    assert "a link to" in run.state.reason
    assert list(outside.iterdir()) == []


def test_an_output_that_is_gone_fails_the_run(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(directory: Path, target: Path) -> None:
        (directory / "nowhere").read_bytes()

    monkeypatch.setattr(Benchmark.code, "evidence", lambda stages: {"number.json": write})
    run = collect(ended)
    assert run.state.name == "failed"
    assert "number.json: cannot be written" in run.state.reason
    assert list((ended / "evidence").iterdir()) == []


@pytest.fixture
def large(ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A submission whose evidence is too large to carry."""
    monkeypatch.setattr(evidence, "MOST_BYTES", 0)
    collect(ended, store="https://archive.test/42")
    return pack([ended], tmp_path / "submissions")


def test_what_is_too_large_is_kept_elsewhere(large: Path, ended: Path) -> None:
    kept = json.loads((large / "run" / evidence.KEPT).read_text())
    assert kept == {
        "store": "https://archive.test/42",
        "files": {"number.json": {"bytes": 1, "sha256": digest(ended / NAME)}},
    }
    assert not (large / "run" / NAME).exists()
    assert check(large) == []
    (finding,) = deep_check(large)
    assert (finding.rule, finding.severity) == ("evidence-elsewhere", "warning")
    assert "https://archive.test/42" in finding.problem
    assert rules(large, elsewhere=ended / "evidence") == []


def test_what_was_fetched_is_held_against_its_checksum(large: Path, tmp_path: Path) -> None:
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    (fetched / "number.json").write_text("6")
    assert rules(large, elsewhere=fetched) == ["evidence-changed"]
    (fetched / "number.json").unlink()
    (fetched / "number.json").symlink_to(large / "run.json")
    assert rules(large, elsewhere=fetched) == ["evidence-unread"]


def test_record_that_leaves_a_file_out(large: Path, ended: Path) -> None:
    write_json(large / "run" / evidence.KEPT, {"store": "not kept", "files": {}})
    relisted(large)
    assert rules(large, elsewhere=ended / "evidence") == ["evidence-missing"]


def test_record_with_a_name_that_leads_away(large: Path) -> None:
    entry = {"bytes": 1, "sha256": "sha256:" + "0" * 64}
    write_json(large / "run" / evidence.KEPT, {"store": "x", "files": {"../number.json": entry}})
    relisted(large)
    assert "schema" in [finding.rule for finding in check(large)]
    assert rules(large) == ["evidence-unread"]


def test_without_a_challenge_none_was_met(packed_run: Path) -> None:
    (finding,) = answers(packed_run, "spring 2027")
    assert finding.rule == "challenge"
    assert "has no challenge" in finding.problem


def test_rules_say_how_to_mend() -> None:
    assert all(rule.why and rule.mend for rule in AREAS["The evidence"])


def test_a_run_that_is_not_valid_has_none(ended: Path) -> None:
    (ended / "second.star").unlink()
    assert not any(name.startswith("evidence/") for name in collect(ended).files)
    assert load_run(ended).state.name == "failed"


def test_command(packed_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["kit", "submission", "check", str(packed_run), *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().out

    assert said("--deep") == (0, f"{packed_run}: accepted\n")
    code, text = said("--deep", "--challenge", "spring 2027")
    assert code == 1
    assert "run.json: has no challenge, and 'spring 2027' was given for it [challenge]" in text
    (packed_run / "run" / NAME).write_text("6")
    relisted(packed_run)
    code, text = said("--deep")
    assert code == 1
    assert "run/second.star: is not the number of the data [evidence-score]" in text
    assert said() == (0, f"{packed_run}: accepted\n")
