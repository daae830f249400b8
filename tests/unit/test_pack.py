"""What a packed folder holds: several runs of one thing, and every text that is written of them."""

from __future__ import annotations

import json
import logging
import resource
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from conftest import ROOT, files, forged, run_boxed
from mlperf_logging.compliance_checker import mlp_compliance
from mlperf_logging.repo_checker import repo_checker
from mlperf_logging.system_desc_checker import system_desc_checker

from kit.benchmark import Benchmark
from kit.challenge import Challenge
from kit.cli import app, main
from kit.core.errors import KitError
from kit.core.files import read_json
from kit.core.schema import parse
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import load_run
from kit.submissions.check import check
from kit.submissions.mlperf import export
from kit.submissions.pack import copy, pack
from kit.submissions.submitter import Submitter
from kit.submissions.texts import again

pytestmark = pytest.mark.usefixtures("toy")


def finished(runs: Path, seed: int, size: str = "noisy") -> Path:
    """A valid run of the toy with this seed."""
    directory = launch.prepare(make_plan(Request("toy", size, site="here", seed=seed)), runs)
    assert run_boxed(directory).state.name == "valid"
    return directory


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder)}


def test_several_runs_in_any_order_give_the_same_bytes(toy: Path, tmp_path: Path) -> None:
    runs = [finished(toy, seed) for seed in (3, 1, 2)]
    folder = pack(runs, tmp_path / "a")
    assert check(folder) == []
    again = pack([runs[2], runs[0], runs[1]], tmp_path / "b")
    assert contents(folder) == contents(again)
    for number, place, seed in ((1, "", 3), (2, "repeat-2/", 1), (3, "repeat-3/", 2)):
        assert json.loads((folder / place / "run.json").read_text())["seed"] == seed
        assert (folder / place / "run/job.sh").is_file()
        assert f'"key": "seed", "value": {number_of(folder, number)}' in (folder / f"result-{number}.txt").read_text()
    readme = (folder / "README.md").read_text()
    assert (
        "| Measurement | mean | median | olympic mean | 95 % interval | run 1 (seed 3) | run 2 (seed 1) | run 3 (seed 2) |"
        in readme
    )
    assert "| noise | 2 | 2 | 2 | -0.4841 to 4.484 | 3 | 1 | 2 |" in readme


def test_the_commands_that_make_a_run_again(submission: Path, tmp_path: Path) -> None:
    """They are commands of the kit, and what they ask for is what was asked for."""
    run = load_run(submission)
    benchmark = parse(Benchmark, read_json(submission / "run/benchmark.json"), "benchmark")
    assert run.rendering is not None
    odd = {"speed": 4, "mode": "two 'words' `x` $(y)"}
    rendering = run.rendering.model_copy(update={"parameters": odd, "nodes": 2, "threads": 3, "minutes": 7})
    changed = run.model_copy(update={"size": "tiny", "seed": 5, "rendering": rendering, "isolated": "first"})
    challenged = run.model_copy(update={"challenge": Challenge(text="a long enough text", repeat=3)})
    for runs in ([run], [changed, changed], [challenged]):
        lines = again(runs, benchmark, Submitter(repository="https://host.org/kit.git"))
        assert lines[0] == "git clone https://host.org/kit.git kit && cd kit"
        for line in lines[3:]:
            words = shlex.split(line, comments=True)
            context = typer.main.get_command(app)
            assert words[0] == "kit"
            known: Any = context
            rest = words[1:]
            while hasattr(known, "get_command"):
                known = known.get_command(known.make_context("kit", ["--help"], resilient_parsing=True), rest.pop(0))
            asked = known.make_context("kit", rest, resilient_parsing=False).params
            if words[1] == "run" and runs[0] is changed:
                assert asked["settings"] == ["speed=4", f"mode={odd['mode']}"]
                assert (asked["nodes"], asked["threads"], asked["minutes"], asked["seed"]) == (2, 3, 7, 5)
                assert asked["isolated"] == Path("PACK")
            if words[1] == "run" and runs[0] is challenged:
                assert (asked["challenge"], asked["repeat"], asked["seed"]) == ("a long enough text", 3, None)


def number_of(folder: Path, number: int) -> int:
    path = folder / ("run.json" if number == 1 else f"repeat-{number}/run.json")
    return int(json.loads(path.read_text())["seed"])


def test_folders_of_mlperf(toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Several runs, and MLPerf's own checkers on what comes out."""
    runs, to = [finished(toy, seed) for seed in (1, 2)], tmp_path / "to"
    results = export(runs, to)
    assert results == to / "laboratory/results/here/toy"
    assert sorted(path.name for path in results.iterdir()) == ["result_0.txt", "result_1.txt"]
    assert '"key": "seed", "value": 2' in (results / "result_1.txt").read_text()
    (code,) = (to / "laboratory/benchmarks/toy/implementations").iterdir()
    assert (code / "run/job.sh").is_file()
    assert (code / "repeat-2/run/job.sh").is_file()
    described = to / "laboratory/systems/here.json"
    assert system_desc_checker.check_system_desc(described, "hpc", "3.0.0")[0]
    checker = mlp_compliance.make_checker("hpc", "3.0.0", quiet=False, werror=True)
    ruleset = ROOT / "kit/submissions/science_ruleset.yaml"
    assert mlp_compliance.main(str(results / "result_0.txt"), str(ruleset), checker)[0]
    with caplog.at_level(logging.INFO):
        repo_checker.run_checks(to)
    assert "ALL CHECKS PASSED" in caplog.text
    assert [path.name for path in to.iterdir()] == ["laboratory"]
    before = contents(to)
    with pytest.raises(KitError, match="results/here/toy: exists; a result is never overwritten"):
        export([finished(toy, 3)], to)
    (to / "laboratory/results/here").rename(tmp_path / "elsewhere")
    described.write_text("{}")
    with pytest.raises(KitError, match=r"systems/here\.json: describes another system"):
        export([finished(toy, 4)], to)
    assert set(contents(to)) == {name for name in before if not name.startswith("laboratory/results/")}


def test_runs_that_are_not_repeats(toy: Path, tmp_path: Path) -> None:
    one, same, other = finished(toy, 1), finished(toy, 1), finished(toy, 2)
    with pytest.raises(KitError, match=f"{one} and {same}: seed is 1 in both; repeats need seeds of their own"):
        pack([one, same], tmp_path / "to")
    with pytest.raises(KitError, match=f"{other} and {other}: created is .* one run, given twice"):
        pack([other, other], tmp_path / "to")
    with pytest.raises(KitError, match="no run to pack"):
        pack([], tmp_path / "to")
    record = other / "run.json"
    run = json.loads(record.read_text())
    for key, value in (("ranks", 2), ("site", "there"), ("size", "tiny"), ("commit", "2" * 40)):
        record.write_text(json.dumps({**run, key: value}))
        with pytest.raises(KitError, match=f"{one} and {other}: {key} is .* and {value!r}"):
            pack([one, other], tmp_path / "to")
    record.write_text(json.dumps({**run, "state": {"name": "failed", "reason": "x"}}))
    with pytest.raises(KitError, match="only a valid run can be submitted"):
        pack([one, other], tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_layout_of_the_command(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["kit", "submission", "pack", str(finished(toy, 1)), "--to", str(tmp_path / "to"), "--layout"]
    monkeypatch.setattr(sys, "argv", [*words, "mlperf"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None), capsys.readouterr()
    assert capsys.readouterr().out == f"{tmp_path}/to/laboratory/results/here/toy\n"
    monkeypatch.setattr(sys, "argv", [*words, "other"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2


def test_export_that_is_refused_leaves_nothing(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="organisation '' cannot be a folder"):
        export([finished(toy, 1)], tmp_path / "deep/er/to", "")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("most", [0, 500, 5000])
def test_a_disk_that_is_full_leaves_nothing(toy: Path, tmp_path: Path, most: int) -> None:
    """Files cannot grow beyond so many bytes: the first, one of the run, and the document are cut off."""
    run = finished(toy, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            pack(run, tmp_path / "to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("when", ["copy", "derived", "documents", "write_sums"])
def test_interrupted_at_any_step_leaves_nothing(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    run = finished(toy, 1)
    monkeypatch.setattr(f"kit.submissions.pack.{when}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(run, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_file_that_changes_while_it_is_packed(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is copied is held against what was collected."""
    run = finished(toy, 1)

    def changing(directory: Path, name: str, target: Path) -> str:
        if name == "stages.jsonl":
            with (directory / name).open("a") as file:
                file.write("{}\n")
        return copy(directory, name, target)

    monkeypatch.setattr("kit.submissions.pack.copy", changing)
    with pytest.raises(KitError, match=r"stages\.jsonl: missing or changed since the run was collected"):
        pack(run, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_what_a_forger_may_do_to_repeats(toy: Path, tmp_path: Path) -> None:
    """Repeats that are exchanged, taken away or hidden are found."""
    folder = pack([finished(toy, seed) for seed in (1, 2, 3)], tmp_path / "to")
    assert forged(folder) == ""

    def tried(change: Callable[[Path], object]) -> str:
        copied = tmp_path.joinpath("tried", *folder.parts[-4:])
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(folder, copied)
        change(copied)
        return forged(copied)

    def exchange(copied: Path) -> None:
        (copied / "repeat-2").rename(copied / "x")
        (copied / "repeat-3").rename(copied / "repeat-2")
        (copied / "x").rename(copied / "repeat-3")

    def leave_out(copied: Path) -> None:
        shutil.rmtree(copied / "repeat-3")
        (copied / "result-3.txt").unlink()

    def another_person(copied: Path) -> None:
        path = copied / "submitter.json"
        path.write_text(path.read_text().replace('"name": ""', '"name": "Somebody Else"'))

    assert "README.md: line" in tried(exchange)
    assert "README.md: line" in tried(leave_out)
    assert "scientific_contribution.pdf: is not the document" in tried(leave_out)
    assert "README.md: line" in tried(another_person)

    def another_manifest(copied: Path) -> None:
        path = copied / "run/data.json"
        path.write_text(path.read_text().replace('"bytes": 1', '"bytes": 2'))

    assert "run/data.json: is not the manifest of the data that run.json names" in tried(another_manifest)
