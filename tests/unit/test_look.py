"""The look at the ranks before the work: it ends a job whose ranks are not those of the plan, and is taken in every job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import boxed, forged

from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.plausibility import ranks_seen
from kit.runs.record import Run, load_run, read_stages, stage_lines
from kit.submissions.pack import pack

Start = Callable[[str], Path]

GOOD = """for rank in 0 1; do echo '{"rank": '$rank', "size": 2}'; done"""
ALONE = """
echo '{"rank": 0, "size": 1}'
echo 'kit-ranks: 2 ranks were asked for, and the "MPI" of this image formed a job of 1 \\ $(id)' >&2
exit 1
"""
SILENT = "exit 7"


@pytest.fixture
def start(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the toy on two ranks, where kit-ranks is the given shell; returns the run directory."""
    # On a host nothing is looked at; here the host passes for a container, as conftest has it for Apptainer.
    site = tmp_path / "package/sites/here.toml"
    site.write_text(site.read_text().replace('runtime = "host"', 'runtime = "apptainer"'))
    describe = launch.describe_image
    monkeypatch.setattr(launch, "describe_image", lambda image, runtime, arch: describe(image, "host", arch))
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def run(shell: str) -> Path:
        for name, text in (("mpirun", 'while [ "$1" != kit-ranks ]; do shift; done; "$@"'), ("kit-ranks", shell)):
            (programs / name).write_text(f"#!/bin/bash\n{text}\n")
            (programs / name).chmod(0o755)
        directory = launch.prepare(make_plan(Request("toy", site="here", ranks=2)), toy)
        return finished(directory)

    return run


def finished(directory: Path) -> Path:
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return directory


def judged(directory: Path) -> Run:
    return collect(directory)


def test_ranks_as_planned(start: Start) -> None:
    run = judged(start(GOOD))
    assert [stage.name for stage in run.stages] == ["ranks", "first", "second", "third"]
    assert run.stages[0].command == (
        "launch kit-ranks --ranks 2 --nodes 1 --ranks-per-node 2 --threads 1 --gpus 0 --bind cores >ranks.jsonl"
    )
    assert [stage.timed for stage in run.stages] == [False, True, True, True]
    assert "ranks.jsonl" in run.files


def test_the_look_goes_into_a_submission(start: Start, tmp_path: Path) -> None:
    """And one whose lines are not those of its ranks is refused, whatever its checksums say."""
    directory = start(GOOD)
    boxed(directory)
    assert judged(directory).state.name == "valid"
    folder = pack(directory, tmp_path / "submissions")
    assert (folder / "run/ranks.jsonl").read_text() == (directory / "ranks.jsonl").read_text()
    (folder / "run/ranks.jsonl").write_text('{"rank": 0, "size": 1}\n')
    assert "ranks are in it, and not each of the 2" in forged(folder)


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        (ALONE, "kit-ranks: 2 ranks were asked for, and the MPI of this image formed a job of 1  (id)"),
        (SILENT, "exit code 7"),
        ("true", "wrote no ranks.jsonl"),
    ],
)
def test_other_ranks_end_the_job_with_the_reason(start: Start, shell: str, reason: str) -> None:
    """Before any work, and in words that stand in the record of the run."""
    directory = start(shell)
    state = judged(directory).state
    assert (state.name, state.stage, state.reason) == ("failed", "ranks", reason)
    attempts = read_stages(directory)
    assert [attempt.name for attempt in attempts] == ["ranks"]
    assert stage_lines(attempts) == (directory / "stages.jsonl").read_text()
    assert not (directory / "first.txt").exists()


def test_a_resumed_run_is_looked_at_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job has other nodes; what was done is not done again."""
    monkeypatch.setenv("TOY", "[ -e again ] || { touch again; exit 3; }")
    directory = start(GOOD)
    assert load_run(directory).state.stage == "second"
    finished(directory)
    done = [(attempt.name, attempt.exit_code) for attempt in read_stages(directory)]
    assert done == [("ranks", 0), ("first", 0), ("second", 3), ("ranks", 0), ("second", 0), ("third", 0)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json\n",
        '{"rank": 0, "size": 1}\n{"rank": 0, "size": 1}\n',
        '{"rank": 0, "size": 2}\n',
        '{"rank": 0, "size": 2}\n{"rank": 1, "size": 2}\n{"rank": 2, "size": 2}\n',
        "[]\n[]\n",
    ],
)
def test_what_is_no_look_at_two_ranks(tmp_path: Path, text: str) -> None:
    (tmp_path / "ranks.jsonl").write_text('{"rank": 0, "size": 2}\n{"rank": 1, "size": 2}\n')
    ranks_seen(tmp_path, 2)
    (tmp_path / "ranks.jsonl").write_text(text)
    with pytest.raises(KitError, match=r"ranks\.jsonl"):
        ranks_seen(tmp_path, 2)


@pytest.mark.parametrize("ranks", [1, 2])
def test_one_rank_or_no_container_needs_no_look(toy: Path, ranks: int) -> None:
    directory = launch.prepare(make_plan(Request("toy", site="here", ranks=ranks)), toy)
    assert "run_stage ranks" not in (directory / "job.sh").read_text()
