"""From a run directory to the verdict: every number is read from a file of this run, by label, and compared with its
gate."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from kit.benchmark import RANKS, Benchmark, Metric
from kit.core.checksums import plain_digest
from kit.core.errors import KitError
from kit.core.tables import table
from kit.data.isolated import PACK
from kit.doctor.outcome import FILE as DOCTOR
from kit.doctor.outcome import NAME, carry
from kit.runs import evidence
from kit.runs.plausibility import CLOCKS, contained, too_fast
from kit.runs.plausibility import evidence as in_order
from kit.runs.record import (
    DATA,
    FILE,
    SBOM,
    MetricRecord,
    Run,
    StageRecord,
    State,
    load_run,
    read_stages,
    resolved,
    save_run,
)
from kit.runs.states import Unanswered, become, current_state, remembered
from kit.runs.system import describe
from kit.schedulers import SCHEDULERS
from kit.tune.store import NAME as TRIAL

# The files of a run that go into a submission, besides those that metrics were read from.
CARRIED = ("job.sh", "job.out", "stages.jsonl", f"{RANKS}.jsonl", "benchmark.json", "site.json", DATA, PACK, SBOM, DOCTOR)


def collect(directory: Path, ended: bool = False, store: str = "") -> Run:
    """Judges a run and writes run.json. The state is `valid` only if every check passes.

    `store` says where evidence that is too large for a submission will be kept (kit/runs/evidence.py).

    The directory alone says it all where every stage is done, whoever ran it and wherever. Otherwise the scheduler has to
    say that the job is gone, or, with `ended`, the user.
    """
    run = load_run(directory)
    if not os.access(directory, os.W_OK):
        raise KitError(
            f"{directory / FILE}: cannot be written, and with it the verdict: {directory} is not writable for you"
        )
    if run.benchmark == NAME:
        raise KitError(f"{directory}: tries a site, and is no run of a benchmark; its outcome: kit doctor {directory}")
    if run.benchmark == TRIAL:
        raise KitError(f"{directory}: a trial, and no run of a benchmark; what it came to: kit tune {directory}")
    benchmark, site = resolved(directory)
    attempts = read_stages(directory)
    launched = run.job and run.state.name != "rendered"
    try:
        state = current_state(directory, run.model_copy(update={"state": State(name="running")}) if launched else run, ended)
    except Unanswered as error:
        raise KitError(
            f"{error}\nCollect it where its scheduler is, or, if you know that the job has ended: "
            f"kit collect --ended {directory}"
        ) from None
    state = remembered(run.state, state)
    metrics: list[MetricRecord] = []
    if state.name == "rendered":
        raise KitError(f"{directory}: rendered, but never launched; start it with kit resume {directory}")
    if state.name in ("submitted", "running"):
        raise KitError(f"{directory}: its job {run.job} is {state}; collect it when it has ended")
    if run.further:
        end_rest(run)
    if state.name == "finished":
        state, metrics = judge_results(directory, run, benchmark, attempts)
    carry(directory, site, run.partition)
    proofs: list[str] = []
    if state.name == "valid":
        try:
            proofs = evidence.take(directory, benchmark, store)
        except (KitError, OSError, ValueError, KeyError) as error:
            state = State(name="failed", stage="collect", reason=f"its evidence cannot be taken: {error}")
    files: dict[str, str] = {}
    for name in [*carried_files(directory, metrics), *proofs]:
        try:
            files[name] = plain_digest(directory, name)
        except KitError as error:
            state = state if state.name == "failed" else State(name="failed", stage="collect", reason=str(error))
    run = become(run, state).model_copy(
        update={
            "stages": attempts,
            "metrics": metrics,
            "files": files,
            "system": describe(site, run.partition, directory),
        }
    )
    save_run(directory, run)
    return run


def end_rest(run: Run) -> None:
    """Ends jobs of a chain that still wait although all is done: they would write into the log that is now judged."""
    with contextlib.suppress(KitError):  # of a scheduler that is not here
        states = SCHEDULERS[run.scheduler].states(run.further)
        for job in reversed(run.further):
            if states[job].state == "pending":
                SCHEDULERS[run.scheduler].cancel(job)


def carried_files(directory: Path, metrics: list[MetricRecord]) -> list[str]:
    """What a submission carries of a run, by name; nothing of it has been opened."""
    names = {name for name in CARRIED if os.path.lexists(directory / name)}
    names |= {metric.file for metric in metrics}
    for folder, pattern in (("logs", "*.out"), ("logs", "*.err"), ("figures", "*.png")):
        names |= {path.relative_to(directory).as_posix() for path in (directory / folder).glob(pattern)}
    return sorted(names)


def judge_results(
    directory: Path, run: Run, benchmark: Benchmark, attempts: list[StageRecord]
) -> tuple[State, list[MetricRecord]]:
    """The state of a run whose stages all ended well, and its metrics."""
    judged = time.time()
    try:
        contained(directory, run)
    except KitError as error:
        return State(name="failed", stage="collect", reason=str(error)), []
    if plain_digest(directory, "job.sh") != run.script:
        return State(name="failed", reason="job.sh differs from the script that was rendered"), []
    fast = too_fast(benchmark, run.size, attempts)
    if fast:
        return fast, []
    try:
        if run.scaling:
            from kit.training.report import evaluate as evaluate_scaling

            evaluate_scaling(directory)
        else:
            benchmark.code.evaluate(directory, run.ranks)
    except KitError as error:
        return State(name="failed", stage="collect", reason=str(error)), []
    except (OSError, ValueError, KeyError, IndexError) as error:  # an output of a stage is not what it should be
        return State(name="failed", stage="collect", reason=f"an output cannot be read: {error!r}"), []
    metrics = []
    for metric in benchmark.metrics:
        try:
            metrics.append(read_metric(directory, benchmark, metric, attempts))
        except KitError as error:
            return State(name="failed", stage=metric.stage, reason=f"metric {metric.name}: {error}"), metrics
    problems = [metric.problem for metric in metrics if metric.problem]
    if problems:
        return State(name="finished", reason="; ".join(problems)), metrics
    if not run.image.digest:
        return State(name="finished", reason="it ran outside a container, so nothing proves what ran"), metrics
    trial = run.untuned(benchmark)
    if trial:
        return State(name="finished", reason=trial), metrics
    try:
        from kit.plan import plan_of

        plan = plan_of(directory, run)
        if plan.lacks_gpus:
            reason = f"image {plan.image.name} computes on GPUs, and the site names none: a trial, not a result"
            return State(name="finished", reason=reason), metrics
        in_order(directory, plan, run, attempts, judged)
    except KitError as error:
        return State(name="failed", stage="collect", reason=str(error)), metrics
    return State(name="valid"), metrics


def read_metric(directory: Path, benchmark: Benchmark, metric: Metric, attempts: list[StageRecord]) -> MetricRecord:
    """A metric of a run; KitError when its file or label is missing, is no file of the run, or was there before it."""
    path = directory / metric.file
    digest = plain_digest(directory, metric.file) if os.path.lexists(path) else ""
    value = benchmark.read_value(path, metric.label)
    if attempts and path.stat().st_mtime < min(attempt.start for attempt in attempts) - CLOCKS:
        raise KitError(f"{path}: older than the run; this run did not write it")
    return metric_record(metric, value, digest)


def metric_record(metric: Metric, value: float, digest: str) -> MetricRecord:
    """What run.json says of a metric that was read from a file with this digest (`sha256:...`)."""
    return MetricRecord(
        name=metric.name,
        value=value,
        unit=metric.unit,
        direction=metric.direction,
        file=metric.file,
        label=metric.label,
        sha256=digest,
        at_least=metric.at_least,
        at_most=metric.at_most,
        reference=metric.reference,
        tolerance=metric.tolerance,
        source=metric.source,
        problem=metric.problem(value),
    )


def report(directory: Path, run: Run) -> str:
    """The verdict and every metric as text, with what is wrong with it."""
    rows = [("", metric.name, f"{metric.value:.4g}", metric.shown_unit, metric.problem) for metric in run.metrics]
    verdict = f"{directory}{f' ({run.changed})' if run.changed else ''}: {run.state}"
    return f"{verdict}\n{table(rows, 'llrll')}" if rows else verdict
