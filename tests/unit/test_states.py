"""Run states on the failures that matter: none of them may be packed, and each says why."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import boxed

from kit.core.errors import KitError
from kit.images.recipes import RECIPES
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.record import Run, State, load_run, read_stages, save_run
from kit.runs.states import current_state
from kit.schedulers import Job
from kit.submissions.pack import pack


def prepared(runs: Path, size: str = "tiny") -> Path:
    return launch.prepare(make_plan(Request("toy", size, "here")), runs)


def ended(directory: Path) -> Run:
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return collect(directory)


def refused(directory: Path, tmp_path: Path) -> str:
    with pytest.raises(KitError) as error:
        pack(directory, tmp_path / "submissions")
    assert not list((tmp_path / "submissions").rglob("*.md"))
    return str(error.value)


def test_good_run_is_valid_and_packed(toy: Path, tmp_path: Path) -> None:
    directory = prepared(toy)
    assert load_run(directory).state.name == "rendered"
    boxed(directory)
    run = ended(directory)
    assert run.state == State(name="valid")
    assert [stage.name for stage in run.stages] == ["first", "second", "third"]
    assert [(m.name, m.value) for m in run.metrics] == [("resolution", 7.0)]
    assert (pack(directory, tmp_path / "submissions") / "result-1.txt").is_file()


def test_without_a_container_it_is_never_valid(toy: Path, tmp_path: Path) -> None:
    directory = prepared(toy)
    run = ended(directory)
    assert run.state.name == "finished"
    assert "outside a container" in refused(directory, tmp_path)


def test_on_no_gpus_it_is_never_valid(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --allow-cpu an image for GPUs runs where there are none, whatever the benchmark says of what came out."""
    directory = prepared(toy)
    boxed(directory)
    monkeypatch.setattr(RECIPES["relion-basic"], "DEVICE", "cuda")
    run = ended(directory)
    assert run.state.name == "finished"
    assert "computes on GPUs, and the site names none" in refused(directory, tmp_path)


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("exit 3", State(name="failed", stage="second", exit_code=3, reason="exit code 3")),
        ("kill -9 $BASHPID", State(name="failed", stage="second", exit_code=137, reason="killed by signal 9")),
        ("exit 0", State(name="failed", stage="second", exit_code=65, reason="wrote no second.star")),
    ],
)
def test_stage_that_fails(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, state: State) -> None:
    monkeypatch.setenv("TOY", command)
    directory = prepared(toy)
    boxed(directory)
    assert ended(directory).state == state
    assert state.reason in refused(directory, tmp_path)
    assert read_stages(directory)[-1].name == "second"  # nothing ran after it


def test_output_of_an_earlier_attempt_does_not_count(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "exit 0")
    directory = prepared(toy)
    (directory / "second.star").write_text("data_general\n\n_rlnFinalResolution 1\n")
    os.utime(directory / "second.star", (1, 1))
    assert ended(directory).state.reason == "wrote no second.star"


def test_star_without_the_label(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", r"printf 'data_general\n\n_rlnOther 1\n' >second.star; exit 0")
    directory = prepared(toy)
    boxed(directory)
    run = ended(directory)
    assert run.state.name == "failed"
    assert "second.star: no label 'rlnFinalResolution'" in refused(directory, tmp_path)


def test_gate_that_is_missed(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", r"printf 'data_general\n\n_rlnFinalResolution 15.104\n' >second.star; exit 0")
    directory = prepared(toy)
    boxed(directory)
    assert ended(directory).state.name == "finished"
    assert "resolution = 15.1 angstrom, but at most 8 is allowed" in refused(directory, tmp_path)


def test_metric_that_is_not_a_number(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", r"printf 'data_general\n\n_rlnFinalResolution nan\n' >second.star; exit 0")
    directory = prepared(toy)
    boxed(directory)
    assert ended(directory).state.name != "valid"
    assert "not a number" in refused(directory, tmp_path)


def test_implausibly_fast(toy: Path, tmp_path: Path) -> None:
    directory = prepared(toy, "slow")
    boxed(directory)
    assert ended(directory).state.name == "failed"
    assert "implausibly fast" in refused(directory, tmp_path)


def test_killed_job_leaves_no_result(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "sleep 60")
    directory = prepared(toy)
    run = launch.submit(directory)
    wait_for_stage(directory, "second")
    assert current_state(directory, run) == State(name="running", stage="second")
    with pytest.raises(KitError, match="is running"):
        collect(directory)
    os.killpg(int(run.job.partition(":")[0]), signal.SIGKILL)
    time.sleep(0.2)
    state = launch.wait(directory, lambda state: None)
    assert state.name == "failed"
    assert "it started and never ended" in state.reason
    collect(directory)
    assert "only a valid run" in refused(directory, tmp_path)


def wait_for_stage(directory: Path, name: str) -> None:
    for _ in range(200):
        if any(stage.name == name for stage in read_stages(directory)):
            return
        time.sleep(0.05)
    raise AssertionError(f"stage {name} never started")


def test_interrupted_run_can_be_continued(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "sleep 60")
    directory = prepared(toy)
    boxed(directory)
    launch.submit(directory)
    wait_for_stage(directory, "second")
    assert launch.cancel(directory) == State(name="failed", stage="second", exit_code=130, reason="interrupted")
    monkeypatch.setenv("TOY", "true")
    run = ended(directory)
    assert run.state.name == "valid"
    # The stage that was done is not done again.
    assert [stage.name for stage in run.stages] == ["first", "second", "second", "third"]


def test_job_that_outlived_its_cancelling_is_resumed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run.json then says running, and the job ended with nobody watching."""
    monkeypatch.setenv("TOY", "sleep 60")
    directory = prepared(toy)
    boxed(directory)
    run = launch.submit(directory)
    wait_for_stage(directory, "second")
    save_run(directory, run.model_copy(update={"state": current_state(directory, run)}))
    assert load_run(directory).state.name == "running"
    os.killpg(int(run.job.partition(":")[0]), signal.SIGKILL)
    time.sleep(0.2)
    monkeypatch.setenv("TOY", "true")
    assert ended(directory).state.name == "valid"


def test_scheduler_that_forgets_the_job(toy: Path, tmp_path: Path) -> None:
    directory = prepared(toy)
    run = load_run(directory).model_copy(update={"job": "1:1", "state": State(name="submitted")})
    save_run(directory, run)
    run = collect(directory)
    assert run.state.name == "incomplete"
    assert "no longer knows the job" in refused(directory, tmp_path)


def test_job_that_ends_between_stages_is_incomplete(toy: Path) -> None:
    directory = prepared(toy)
    ended(directory)
    lines = (directory / "stages.jsonl").read_text().splitlines(keepends=True)
    (directory / "stages.jsonl").write_text("".join(lines[:4]))
    assert collect(directory).state == State(name="incomplete", stage="third", reason="never started, and the job is gone")


def test_script_changed_after_rendering(toy: Path) -> None:
    directory = prepared(toy)
    (directory / "job.sh").write_text("echo result\n")
    with pytest.raises(KitError, match="changed since it was rendered"):
        launch.submit(directory)


def test_run_that_was_never_launched_has_nothing_to_cancel(toy: Path) -> None:
    with pytest.raises(KitError, match="never launched"):
        launch.cancel(prepared(toy))


def test_run_is_not_started_twice(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", "sleep 60")
    directory = prepared(toy)
    launch.submit(directory)
    with pytest.raises(KitError, match="still running"):
        launch.submit(directory)
    launch.cancel(directory)


def test_result_changed_after_collection(toy: Path, tmp_path: Path) -> None:
    directory = prepared(toy)
    boxed(directory)
    assert ended(directory).state.name == "valid"
    (directory / "second.star").write_text("data_general\n\n_rlnFinalResolution 1\n")
    assert "second.star: missing or changed" in refused(directory, tmp_path)


def test_records_of_the_stages_are_read_strictly(toy: Path) -> None:
    directory = prepared(toy)
    ended(directory)
    lines = (directory / "stages.jsonl").read_text().splitlines(keepends=True)
    (directory / "stages.jsonl").write_text("".join([lines[0], "{}\n", *lines[1:]]))
    with pytest.raises(KitError, match=r"stages\.jsonl:2: not a record"):
        read_stages(directory)
    # A last line cut short is what a crash leaves; the rest counts.
    (directory / "stages.jsonl").write_text("".join([*lines[:3], lines[3][:20]]))
    assert [stage.end is None for stage in read_stages(directory)] == [False, True]


def test_run_that_finished_is_not_resumed_even_without_its_stages(toy: Path) -> None:
    """Who removes stages.jsonl to run it all again starts no job, whose results the record would not be of."""
    directory = prepared(toy)
    job = ended(directory).job
    (directory / "stages.jsonl").unlink()
    with pytest.raises(KitError, match="the run has finished"):
        launch.submit(directory)
    assert (load_run(directory).state.name, load_run(directory).job) == ("finished", job)
    assert not (directory / "stages.jsonl").exists()


def test_waiting_keeps_what_another_kit_wrote_meanwhile(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict, and the job of a run that was cancelled and resumed."""
    monkeypatch.setenv("TOY", "sleep 1")
    directory = prepared(toy)
    boxed(directory)
    launch.submit(directory)
    told: list[str] = []

    def meddle(state: State) -> None:
        told.append(state.name)
        if len(told) == 1:
            wait_for_stage(directory, "second")
            launch.cancel(directory)
            launch.submit(directory)
        while len(told) == 2 and current_state(directory, load_run(directory)).name == "running":
            time.sleep(0.05)
        if len(told) == 2:
            assert collect(directory).state.name == "valid"

    assert launch.wait(directory, meddle).name == "valid"
    run = load_run(directory)
    assert run.state.name == "valid"
    assert run.metrics
    assert [stage.name for stage in run.stages] == ["first", "second", "second", "third"]


@pytest.mark.parametrize("name", ["submitted", "running", "failed"])
def test_job_that_does_not_end_when_asked(toy: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One that a scheduler put back into its queue, too: the record says no more than before, and the kit goes on."""
    directory = prepared(toy)
    run = load_run(directory).model_copy(
        update={"job": "1", "scheduler": "slurm", "state": State.model_validate({"name": name})}
    )
    save_run(directory, run)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for answer, state in (("running", "running"), ("pending", "submitted")):
        answers = {"1": Job(answer)}  # type: ignore[arg-type]
        monkeypatch.setattr("kit.schedulers.slurm.states", lambda jobs, answers=answers: answers)
        monkeypatch.setattr("kit.schedulers.slurm.cancel", lambda job: None)
        assert launch.cancel(directory).name == state
        assert load_run(directory) == run


def test_record_of_a_run_that_says_rendered_and_names_a_job(toy: Path) -> None:
    directory = prepared(toy)
    save_run(directory, load_run(directory).model_copy(update={"job": "1:1"}))
    with pytest.raises(KitError, match="never launched"):
        collect(directory)
