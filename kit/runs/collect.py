"""From a run directory to the verdict: every number is read from a file of this run, by label, and compared with its
gate."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kit.benchmark import RANKS, Benchmark, Metric
from kit.core.checksums import plain_digest
from kit.core.errors import KitError
from kit.core.tables import table
from kit.data.isolated import PACK
from kit.plan import plan_of
from kit.runs.plausibility import CLOCKS, contained, evidence, too_fast
from kit.runs.record import (
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
from kit.runs.states import become, current_state
from kit.runs.system import describe
from kit.training.report import evaluate as evaluate_scaling

# The files of a run that go into a submission, besides those that metrics were read from.
CARRIED = ("job.sh", "job.out", "stages.jsonl", f"{RANKS}.jsonl", "benchmark.json", "site.json", PACK, SBOM)


def collect(directory: Path) -> Run:
    """Judges a run and writes run.json. The state is `valid` only if every check passes."""
    run = load_run(directory)
    benchmark, site = resolved(directory)
    attempts = read_stages(directory)
    launched = run.job and run.state.name != "rendered"
    state = current_state(directory, run.model_copy(update={"state": State(name="running")}) if launched else run)
    metrics: list[MetricRecord] = []
    if state.name == "rendered":
        raise KitError(f"{directory}: rendered, but never launched; start it with kit run --resume {directory}")
    if state.name in ("submitted", "running"):
        raise KitError(f"{directory}: its job {run.job} is {state}; collect it when it has ended")
    if state.name == "finished":
        state, metrics = judge_results(directory, run, benchmark, attempts)
    files: dict[str, str] = {}
    for name in carried_files(directory, metrics):
        try:
            files[name] = plain_digest(directory, name)
        except KitError as error:
            state = state if state.name == "failed" else State(name="failed", stage="collect", reason=str(error))
    run = become(run, state).model_copy(
        update={
            "stages": attempts,
            "metrics": metrics,
            "files": files,
            "system": describe(site, run.partition),
        }
    )
    save_run(directory, run)
    return run


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
    try:
        plan = plan_of(directory, run)
        if plan.lacks_gpus:
            reason = f"image {plan.image.name} computes on GPUs, and the site names none: a trial, not a result"
            return State(name="finished", reason=reason), metrics
        evidence(directory, plan, run, attempts, judged)
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
    verdict = f"{directory}: {run.state}"
    return f"{verdict}\n{table(rows, 'llrll')}" if rows else verdict
