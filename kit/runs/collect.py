"""From a run directory to the verdict: every number is read from a file of this run, by label, and compared with its
gate."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

from kit.benchmark import Benchmark, Metric
from kit.core.checksums import plain_digest
from kit.core.errors import KitError
from kit.core.files import kind, open_plain, read_json
from kit.core.tables import table
from kit.data.isolated import PACK
from kit.plan import plan_of
from kit.runs.record import (
    FILE,
    SBOM,
    MetricRecord,
    Run,
    StageRecord,
    State,
    directory_name,
    load_run,
    read_stages,
    resolved,
    save_run,
)
from kit.runs.states import become, current_state, too_fast
from kit.runs.system import describe
from kit.script.render import commands

# The files of a run that go into a submission, besides those that metrics were read from.
CARRIED = ("job.sh", "job.out", "stages.jsonl", "benchmark.json", "site.json", PACK, SBOM)
CLOCKS = 30.0  # seconds by which the clocks of a file system and a node may differ


def collect(directory: Path) -> Run:
    """Judges a run and writes run.json. The state is `valid` only if every check passes."""
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


def contained(directory: Path, run: Run) -> None:
    """KitError for anything in a run directory that belongs neither to the run nor to its data.

    That is a link that leads elsewhere, and a FIFO, socket or device, which could keep a reader waiting for ever. In a run
    that was moved or copied, RELION's links name the place where it ran.
    """
    homes = [directory.resolve(), (directory / "data").resolve()]
    if run.rendering and Path(run.rendering.directory).name == directory_name(run.work, run.site, run.created):
        homes.append(Path(run.rendering.directory))
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                try:
                    target = path.resolve()
                except (OSError, RuntimeError):
                    raise KitError(f"{path}: a link that leads back to itself") from None
                # Files in these two folders are packed, and the verdict writes pictures there.
                if path.relative_to(directory).parts[0] in ("logs", "figures"):
                    raise KitError(f"{path}: a link to {target}, where a file of this run is needed")
                if not any(home == target or home in target.parents for home in homes):
                    raise KitError(f"{path}: a link to {target}, which is neither of this run nor of its data")
            elif kind(mode) and not stat.S_ISDIR(mode):
                raise KitError(f"{path}: {kind(mode)}, where only files and folders of this run are expected")


def evidence(directory: Path, run: Run, benchmark: Benchmark, attempts: list[StageRecord], judged: float) -> None:
    """KitError if the files that a run left contradict each other.

    The SBOM is of the image that run.json names, and what a stage wrote is as old as the stage. `judged` is when the
    verdict began: what it writes itself is newer. Times of files come from the file system and those of stages from the
    node, so that they may differ by `CLOCKS`.
    """
    if run.image.digest:
        bill = directory / SBOM
        if plain_digest(directory, SBOM) != run.image.sbom:
            raise KitError(f"{bill}: differs from the one that was written when the run was rendered")
        stated = stated_digest(read_json(bill)).get("kit:digest")
        if stated != run.image.digest:
            raise KitError(f"{directory / FILE}: image.digest is {run.image.digest}, but {SBOM} is of {stated}")
    done = {attempt.name: attempt for attempt in attempts if attempt.exit_code == 0}
    last = max(attempt.end or 0.0 for attempt in attempts)
    windows: dict[str, tuple[float, float]] = {metric.file: (attempts[0].start, last) for metric in benchmark.metrics}
    texts = commands(plan_of(directory, run))
    for stage in benchmark.stages:
        for output in texts[stage.name][1]:
            windows[output] = done[stage.name].start, done[stage.name].end or last
    for name, (start, end) in windows.items():
        with open_plain(directory, name) as file:
            written = os.fstat(file.fileno()).st_mtime
        if written < start - CLOCKS:
            raise KitError(f"{directory / name}: older than the stage that has to write it")
        if end + CLOCKS < written < judged - CLOCKS:
            raise KitError(f"{directory / name}: changed {written - end:.0f} s after its stage had ended")


def stated_digest(bill: Any) -> dict[str, str]:
    """What an SBOM of the kit says of its image: `name`, `version`, and the properties `kit:digest`, `kit:label:...`."""
    try:
        component = bill["metadata"]["component"]
        stated = {entry["name"]: entry["value"] for entry in component["properties"]}
        if len(stated) != len(component["properties"]):
            return {}  # a property that is there twice proves nothing
        return {**stated, "name": component["name"], "version": component.get("version", "")}
    except (KeyError, TypeError):
        return {}


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
            benchmark.code.evaluate_scaling(directory)
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
        evidence(directory, run, benchmark, attempts, judged)
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
