"""The states of a run: which follows which, and what the record and the scheduler say of one."""

from __future__ import annotations

from pathlib import Path

from kit.benchmark import Benchmark
from kit.runs.record import Run, StageRecord, State, StateName, read_stages, resolved

ENDED: frozenset[StateName] = frozenset({"failed", "incomplete", "finished", "valid"})
# What run.json may say of a run after what it said before. It is written when a job is handed over, when somebody waited
# for its end, and by a verdict, so that what lies between may never stand in it; saying the same again is always allowed.
NEXT: dict[StateName, frozenset[StateName]] = {
    "rendered": frozenset({"submitted"}),
    "submitted": frozenset({"running", *ENDED}),
    "running": ENDED,
    "failed": frozenset({"submitted", *ENDED}),  # resumed; or judged again, from all of its files
    "incomplete": frozenset({"submitted", *ENDED}),
    "finished": ENDED,
    "valid": ENDED,
}


def become(run: Run, state: State) -> Run:
    """The run in another state. A state that cannot follow is a defect of the kit, and never written."""
    if state.name != run.state.name and state.name not in NEXT[run.state.name]:
        raise AssertionError(f"a run that is {run.state.name} cannot become {state.name}")
    return run.model_copy(update={"state": state})


def judge(benchmark: Benchmark, attempts: list[StageRecord], job_gone: bool) -> State:
    """What the record of the stages says of a run; at most `finished`, because metrics are judged elsewhere."""
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


def current_state(directory: Path, run: Run) -> State:
    """The state of a run now, from its own record; from the scheduler if the record does not say."""
    if run.state.name in ("rendered", "valid") or not run.job:
        return run.state
    from kit.schedulers import SCHEDULERS

    benchmark, _ = resolved(directory)
    # The scheduler is asked first: a job that ends in between has then written its record before it is read.
    answer = SCHEDULERS[run.scheduler].states([run.job])[run.job].state
    attempts = read_stages(directory)
    if answer == "pending" and not attempts:
        return State(name="submitted")
    state = judge(benchmark, attempts, answer == "gone")
    if state.name == "incomplete" and not attempts:
        return State(name="incomplete", reason="the scheduler no longer knows the job, and no stage of it ever started")
    if state.name == "finished" and run.state.name in ("failed", "finished"):
        return run.state  # collect has judged it
    return state
