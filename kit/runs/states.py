"""The states of a run: which follows which, and what the record and the scheduler say of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.benchmark import Benchmark
from kit.runs.record import Run, StageRecord, State, StateName, read_stages, resolved


def with_state(run: Run, name: StateName, **details: Any) -> Run:
    return run.model_copy(update={"state": State(name=name, **details)})


def judge(benchmark: Benchmark, attempts: list[StageRecord], job_gone: bool) -> State:
    """What the record of the stages says of a run; never more than `finished`, since metrics are judged elsewhere."""
    last = {attempt.name: attempt for attempt in attempts}
    for stage in benchmark.stages:
        attempt = last.get(stage.name)
        if attempt is not None and attempt.exit_code == 0:
            continue
        if not job_gone:  # a failed attempt may be about to be repeated
            return State(name="running", stage=stage.name)
        if attempt is None:
            return State(name="incomplete", stage=stage.name, reason="never started, and the job is gone")
        if attempt.end is None:
            reason = "killed: it started and never ended, and the job is gone"
            return State(name="failed", stage=stage.name, reason=reason)
        return State(name="failed", stage=stage.name, exit_code=attempt.exit_code, reason=attempt.reason)
    return State(name="finished")


def too_fast(benchmark: Benchmark, size_name: str, attempts: list[StageRecord]) -> State | None:
    """A failure for the first stage that took less, over all its attempts, than any honest run of it can."""
    for stage, floor in benchmark.size(size_name).floor_seconds.items():
        seconds = sum(attempt.seconds or 0.0 for attempt in attempts if attempt.name == stage)
        if seconds < floor:
            reason = f"implausibly fast: {seconds:.1f} s, where no honest run takes under {floor:g} s"
            return State(name="failed", stage=stage, exit_code=0, reason=reason)
    return None


def current_state(directory: Path, run: Run) -> State:
    """The state of a run now: from its own record, and from the scheduler where the record is silent."""
    if run.state.name in ("rendered", "valid") or not run.job:
        return run.state
    from kit.schedulers import SCHEDULERS

    benchmark, _ = resolved(directory)
    # The scheduler is asked first: a job that ends in between has then written its record before it is read.
    answer = SCHEDULERS[run.scheduler].state(run.job)
    attempts = read_stages(directory)
    if answer == "pending" and not attempts:
        return State(name="submitted")
    state = judge(benchmark, attempts, answer == "gone")
    if state.name == "incomplete" and not attempts:
        return State(name="incomplete", reason="the scheduler no longer knows the job, and no stage of it ever started")
    if state.name == "finished" and run.state.name in ("failed", "finished"):
        return run.state  # collect has judged it
    return state
