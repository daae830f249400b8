"""From a run directory to the verdict: every number read from a file of this run, by label, and held against its gate."""

from __future__ import annotations

from pathlib import Path

from kit.benchmark import Benchmark, Metric, read_value
from kit.errors import KitError
from kit.image import sha256
from kit.run import (
    SBOM,
    MetricRecord,
    Run,
    StageRecord,
    State,
    current_state,
    load_run,
    read_stages,
    resolved,
    save_run,
    too_fast,
)
from kit.system import describe

# What a submission carries of a run beside the files that its metrics were read from.
CARRIED = ("job.sh", "job.out", "stages.jsonl", "benchmark.json", "site.json", SBOM)


def collect(directory: Path) -> Run:
    """Judges a run and writes run.json. The state is `valid` only where nothing at all speaks against it."""
    run = load_run(directory)
    benchmark, site = resolved(directory)
    attempts = read_stages(directory)
    state = current_state(directory, run.model_copy(update={"state": State(name="running")}) if run.job else run)
    metrics: list[MetricRecord] = []
    if state.name == "rendered":
        raise KitError(f"{directory}: rendered, but never launched; start it with kit run --resume {directory}")
    if state.name in ("submitted", "running"):
        raise KitError(f"{directory}: its job {run.job} is {state}; collect it when it has ended")
    if state.name == "finished":
        state, metrics = judge_results(directory, run, benchmark, attempts)
    files = {name: f"sha256:{sha256(directory / name)}" for name in carried_files(directory, metrics)}
    run = run.model_copy(
        update={
            "state": state,
            "stages": attempts,
            "metrics": metrics,
            "files": files,
            "system": describe(site),
        }
    )
    save_run(directory, run)
    return run


def carried_files(directory: Path, metrics: list[MetricRecord]) -> list[str]:
    names = {name for name in CARRIED if (directory / name).is_file()}
    names |= {metric.file for metric in metrics}
    names |= {
        p.relative_to(directory).as_posix() for folder in ("logs", "figures") for p in (directory / folder).glob("*.*")
    }
    return sorted(name for name in names if not name.endswith(".started"))


def judge_results(
    directory: Path, run: Run, benchmark: Benchmark, attempts: list[StageRecord]
) -> tuple[State, list[MetricRecord]]:
    """The state of a run whose stages all ended well, and its metrics."""
    if f"sha256:{sha256(directory / 'job.sh')}" != run.script:
        return State(name="failed", reason="job.sh differs from the script that was rendered"), []
    fast = too_fast(benchmark, run.size, attempts)
    if fast:
        return fast, []
    try:
        if run.scaling:
            benchmark.code.evaluate_scaling(directory)
        else:
            benchmark.code.evaluate(directory, benchmark.size(run.size).parameters, run.ranks)
    except KitError as error:
        return State(name="failed", stage="collect", reason=str(error)), []
    except (OSError, ValueError, KeyError, IndexError) as error:  # an output of a stage is not what it should be
        return State(name="failed", stage="collect", reason=f"an output can not be read: {error!r}"), []
    metrics = []
    for metric in benchmark.metrics:
        try:
            metrics.append(read_metric(directory, metric, attempts))
        except KitError as error:
            return State(name="failed", stage=metric.stage, reason=f"metric {metric.name}: {error}"), metrics
    problems = [metric.problem for metric in metrics if metric.problem]
    if problems:
        return State(name="finished", reason="; ".join(problems)), metrics
    if not run.image.digest:
        return State(name="finished", reason="it ran outside a container, so nothing proves what ran"), metrics
    return State(name="valid"), metrics


def read_metric(directory: Path, metric: Metric, attempts: list[StageRecord]) -> MetricRecord:
    """A metric of a run; KitError when its file or label is missing or was there before the run."""
    path = directory / metric.file
    value = read_value(path, metric.label)
    if attempts and path.stat().st_mtime < min(attempt.start for attempt in attempts) - 1:
        raise KitError(f"{path}: older than the run; this run did not write it")
    if path.is_symlink() or directory.resolve() not in path.resolve().parents:
        raise KitError(f"{path}: lies outside the run directory; this run did not write it")
    return MetricRecord(
        name=metric.name,
        value=value,
        unit=metric.unit,
        direction=metric.direction,
        file=metric.file,
        label=metric.label,
        sha256=f"sha256:{sha256(path)}",
        at_least=metric.at_least,
        at_most=metric.at_most,
        reference=metric.reference,
        tolerance=metric.tolerance,
        source=metric.source,
        problem=metric.problem(value),
    )
