"""The states of runs: which follows which, and what their records and the schedulers say of them."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kit.core.errors import KitError
from kit.runs.record import (
    FILE,
    STAGES,
    Attempt,
    Glance,
    Run,
    StageRecord,
    State,
    StateName,
    glance,
    read_stages,
    stage_names,
)
from kit.schedulers import SCHEDULERS, Job

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
# How the schedulers are called where people read it.
SPOKEN = {
    "slurm": "Slurm",
    "pbs": "PBS",
    "lsf": "LSF",
    "gridengine": "Grid Engine",
    "flux": "Flux",
    "pjm": "PJM",
    "cobalt": "Cobalt",
}


class Unanswered(KitError):
    """Nobody could be asked for the job of a run, and its record does not say that it has ended."""


def become(run: Run, state: State) -> Run:
    """The run in another state. A state that cannot follow is a defect of the kit, and never written."""
    if state.name != run.state.name and state.name not in NEXT[run.state.name]:
        raise AssertionError(f"a run that is {run.state.name} cannot become {state.name}")
    return run.model_copy(update={"state": state})


def judge(stages: Iterable[str], attempts: Sequence[StageRecord], job_gone: bool, said: str = "") -> State:
    """What the record of its stages says of a run; at most `finished`, because metrics are judged elsewhere.

    `said` is what its scheduler says of the end of the job, where the record does not tell all of it.
    """
    last = {attempt.name: attempt for attempt in attempts}
    for stage in stages:
        attempt = last.get(stage)
        if attempt is not None and attempt.exit_code == 0:
            continue
        if not job_gone:  # a failed attempt may be about to be repeated
            return State(name="running", stage=stage)
        if attempt is None:
            return State(name="incomplete", stage=stage, reason=f"never started, and the job is gone{said}")
        if attempt.end is None:
            reason = f"killed: it started and never ended, and the job is gone{said}"
            return State(name="failed", stage=stage, reason=reason)
        # An exit code speaks for itself. Who sent a signal does not stand in the record.
        cause = said if attempt.reason == "interrupted" or attempt.reason.startswith("killed") else ""
        return State(name="failed", stage=stage, exit_code=attempt.exit_code, reason=f"{attempt.reason}{cause}")
    return State(name="finished")


def complete(stages: Iterable[str], attempts: Sequence[StageRecord]) -> bool:
    """Whether every stage is done, after which a job changes nothing any more."""
    return judge(stages, attempts, job_gone=True).name == "finished"


def current_state(directory: Path, run: Run | Glance, ended: bool = False) -> State:
    """The state of a run now, from its own record; from the scheduler if the record does not say.

    With `ended` somebody vouches that the job is gone, and nobody is asked. `Unanswered` where the scheduler cannot be
    asked, and is needed.
    """
    if settled(run):
        return run.state
    stages = stage_names(directory)
    attempts = read_stages(directory)
    if complete(stages, attempts):
        return after(run, State(name="finished"))
    # The scheduler is asked first: a job that ends in between has then written its record before it is read.
    (answer,) = [Job("gone")] if ended else ask([run])
    attempts = read_stages(directory)
    if isinstance(answer, KitError):
        known = last_known(run, stages, attempts)
        raise Unanswered(
            f"{directory}: its job {run.job} ({run.scheduler}) cannot be asked for: {answer}\nIts record says: {known}"
        )
    return told(run, stages, attempts, answer)


def settled(run: Run | Glance) -> bool:
    """Whether run.json alone says the state: nothing was launched, or the verdict has been written."""
    return run.state.name in ("rendered", "valid") or not run.job


def told(run: Run | Glance, stages: Sequence[str], attempts: Sequence[StageRecord], job: Job) -> State:
    """The state of a run by its record and by what the scheduler says of its job."""
    if job.state == "pending" and not complete(stages, attempts):
        return State(name="submitted", reason=f"waits: {job.reason}" if job.reason else "")
    said = f"; {SPOKEN.get(run.scheduler, run.scheduler)} says {job.reason}" if job.reason else ""
    state = judge(stages, attempts, job.state == "gone", said)
    if state.name == "incomplete" and not attempts:
        reason = f"the scheduler no longer knows the job, and no stage of it ever started{said}"
        state = State(name="incomplete", reason=reason)
    return after(run, state)


def after(run: Run | Glance, state: State) -> State:
    """The state that was found, or the recorded one where that says the same and more.

    A verdict tells more than that all stages ended, and a scheduler forgets after a while what it said.
    """
    known = run.state
    if state.name == "finished" and known.name in ("failed", "finished"):
        return known
    return remembered(known, state)


def remembered(known: State, state: State) -> State:
    """`known` if it is `state` with what a scheduler said of it then."""
    same = (known.name, known.stage, known.exit_code) == (state.name, state.stage, state.exit_code)
    return known if same and known.reason.startswith(f"{state.reason};") else state


def last_known(run: Run | Glance, stages: Sequence[str], attempts: Sequence[StageRecord]) -> State:
    """What the record alone says of a run whose job nobody can be asked for."""
    if run.state.name in ENDED:
        return run.state
    if not attempts:
        return State(name="submitted")
    state = judge(stages, attempts, job_gone=False)
    last = attempts[-1]
    if last.exit_code:
        return State(name="failed", stage=last.name, exit_code=last.exit_code, reason=last.reason)
    return state


def ask(runs: Sequence[Run | Glance]) -> list[Job | KitError]:
    """What the schedulers say of the jobs of runs, in their order: one question to each scheduler.

    The answer for a run of several jobs, of which each waits for the one before, is that for the whole chain. It is a
    KitError where a scheduler cannot be asked.
    """
    wanted: dict[str, list[str]] = {}
    answers: dict[str, dict[str, Job] | KitError] = {}
    for run in runs:
        wanted.setdefault(run.scheduler, []).extend(run.jobs)
    for scheduler, jobs in wanted.items():
        if scheduler not in SCHEDULERS:
            answers[scheduler] = KitError("run.json: key 'scheduler' is empty, and nobody can be asked")
            continue
        try:
            answers[scheduler] = SCHEDULERS[scheduler].states(list(dict.fromkeys(jobs)))
        except KitError as error:
            answers[scheduler] = error
    found: list[Job | KitError] = []
    for run in runs:
        answer = answers[run.scheduler]
        if elsewhere(run):
            found.append(KitError(elsewhere(run)))
        elif isinstance(answer, KitError):
            found.append(answer)
        else:
            found.append(chained([answer[job] for job in run.jobs]))
    return found


def elsewhere(run: Run | Glance) -> str:
    """Why the job of a run is not of this machine, where there is no scheduler that would know; empty if it is."""
    if run.scheduler != "local" or run.host in ("", platform.node()):
        return ""
    return f"it was started on {run.host}, and this is {platform.node()}"


def chained(jobs: Sequence[Job]) -> Job:
    """The state of jobs of which each waits for the one before."""
    for state in ("running", "pending"):
        for job in jobs:
            if job.state == state:
                return job
    return next((job for job in reversed(jobs) if job.reason), jobs[-1])


@dataclass(frozen=True)
class Seen:
    """A run as `kit status` sees it."""

    run: Glance
    state: State
    seconds: float | None = None  # since its first stage started, until the last one ended or now
    problem: str = ""  # why its scheduler could not be asked; the state is then that of the record


def states_of(directories: Iterable[Path]) -> dict[Path, Seen | KitError]:
    """Runs as they are now, each scheduler asked once for all of them; a KitError for what is no run that can be read.

    It may be asked for a thousand runs, so that of each only what is needed is read.
    """
    found: dict[Path, Seen | KitError] = {}
    asked: list[tuple[Path, Glance, list[str], list[StageRecord], float]] = []
    for directory in directories:
        try:
            run, written = glance(directory), changed(directory)
            if settled(run) or (run.state.name in ENDED and written <= (directory / FILE).stat().st_mtime):
                spans = run.stages or read_stages(directory)
                found[directory] = Seen(run, run.state, elapsed(spans, ended=True))
                continue
            stages, attempts = stage_names(directory), read_stages(directory)
        except KitError as error:
            found[directory] = error
            continue
        if complete(stages, attempts):
            found[directory] = Seen(run, after(run, State(name="finished")), elapsed(attempts, ended=True))
        else:
            asked.append((directory, run, stages, attempts, written))
            found[directory] = Seen(run, run.state)  # for the order; it is known below
    for (directory, run, stages, before, written), answer in zip(asked, ask([run for _, run, *_ in asked]), strict=True):
        try:  # a job that ended in between wrote its record before the scheduler said so
            attempts = before if changed(directory) == written else read_stages(directory)
        except KitError as error:
            found[directory] = error
            continue
        if isinstance(answer, KitError):
            state, problem = last_known(run, stages, attempts), str(answer)
        else:
            state, problem = told(run, stages, attempts, answer), ""
        found[directory] = Seen(run, state, elapsed(attempts, state.name != "running" or bool(problem)), problem)
    return found


def changed(directory: Path) -> float:
    """When the record of a run's stages was written last; 0 where there is none."""
    try:
        return (directory / STAGES).stat().st_mtime
    except OSError:
        return 0.0


def elapsed(attempts: Sequence[Attempt], ended: bool) -> float | None:
    """Seconds from the first start of a stage to the last end, or until now while one is running."""
    if not attempts:
        return None
    last = max(attempt.end or attempt.start for attempt in attempts) if ended else time.time()
    return max(0.0, last - attempts[0].start)
