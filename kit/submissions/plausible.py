"""Can a run have been as it says? Its state, its stages, its times, and what its machine can do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kit.benchmark import RANKS
from kit.core.errors import KitError
from kit.runs.plausibility import ranks_seen, too_fast
from kit.runs.record import FILE, State, read_stages, stage_lines
from kit.runs.states import judge
from kit.site import Site
from kit.submissions.rules import Finding
from kit.submissions.survey import SKEW, Submission, same_text

TICK = 5.0  # seconds that a clock may be set back
GRACE = 600.0  # seconds that a scheduler may be late to end a job


def verdict(sub: Submission) -> Iterator[Finding]:
    """The run is valid by its own record, and by what the record of its stages says when it is read again."""
    run = sub.run
    if run is None:
        return
    if run.state != State(name="valid"):
        yield Finding("state", FILE, f"state is {run.state}; only a valid run is a result")
    if not run.image.digest:
        yield Finding("no-container", FILE, "image.digest is missing; nothing proves what ran")
    if run.image.runtime == "host":
        yield Finding(
            "no-container", FILE, "image.runtime is 'host': it ran outside a container, so nothing proves what ran"
        )
    if run.scaling:
        yield Finding("scaling", FILE, "scaling is not empty: it measures how the benchmark scales, and is no result of it")
    if sub.benchmark and run.untuned(sub.benchmark):
        yield Finding("tuned", FILE, f"rendering.parameters: {run.untuned(sub.benchmark)}")
    if not sub.there("run/stages.jsonl"):
        return
    attempts = read_stages(sub.path / "run")
    if attempts != run.stages:
        yield Finding("stages-differ", "run/stages.jsonl", "its stages are not those of run.json")
    yield from same_text(sub, "form", "run/stages.jsonl", stage_lines(attempts), "of these stages")
    done: set[str] = set()
    for attempt in attempts:
        if attempt.name in done and attempt.timed:
            yield Finding("stage-again", "run/stages.jsonl", f"stage {attempt.name} ran again after it was done")
        if attempt.exit_code == 0:
            done.add(attempt.name)
            if attempt.reason:
                yield Finding(
                    "stage-reason",
                    "run/stages.jsonl",
                    f"stage {attempt.name} ended well, and gives a reason: {attempt.reason}",
                )
    if sub.benchmark is None or sub.answer is None:
        return
    state = judge([stage.name for stage in sub.benchmark.stages], attempts, job_gone=True)
    if state.name != "finished":
        yield Finding("stage-failed", "run/stages.jsonl", f"says {state}")
    fast = too_fast(sub.benchmark, run.size, attempts)
    if fast:
        yield Finding("too-fast", "run/stages.jsonl", str(fast))
    if RANKS in done and sub.there(f"run/{RANKS}.jsonl"):
        try:
            ranks_seen(sub.path / "run", run.ranks)
        except KitError as error:
            yield Finding("ranks", f"run/{RANKS}.jsonl", str(error))
    for attempt in attempts:
        if attempt.command != sub.answer.commands.get(attempt.name):
            yield Finding("stage-command", "run/stages.jsonl", f"stage {attempt.name} is not the command of run/job.sh")


def times(sub: Submission) -> Iterator[Finding]:
    """Stages end after they start, follow each other, and lie between the creation of the run and now."""
    run, now = sub.run, time.time()
    if run is None:
        return
    created = run.created.timestamp()
    if created > now + SKEW:
        yield Finding("time", FILE, f"created is {run.created:%Y-%m-%d}, which has not come yet")
    before, what, host = created - SKEW, "the run was asked for", ""
    for attempt in run.stages:
        if attempt.start < before - (TICK if attempt.host == host else SKEW):
            yield Finding("time", FILE, f"stage {attempt.name} started before {what}")
        if attempt.end is not None and attempt.end < attempt.start - TICK:
            yield Finding("time", FILE, f"stage {attempt.name} ended before it started")
        before, what, host = attempt.end or attempt.start, f"stage {attempt.name} ended", attempt.host
    if run.stages and max(attempt.end or attempt.start for attempt in run.stages) > now + SKEW:
        yield Finding("time", FILE, "a stage ended at a time that has not come yet")


def durations(sub: Submission) -> Iterator[Finding]:
    """No stage ran longer than the scheduler was asked for, which would have ended its job."""
    run, benchmark = sub.run, sub.benchmark
    if run is None or benchmark is None or run.scheduler in ("", "local"):
        return
    asked = (run.rendering.minutes if run.rendering else None) or benchmark.size(run.size).minutes
    for attempt in run.stages:
        if (attempt.seconds or 0.0) > asked * 60 + GRACE:
            took = f"stage {attempt.name} took {(attempt.seconds or 0.0) / 60:.0f} minutes"
            yield Finding("too-long", "run/stages.jsonl", f"{took}, and its job was asked for {asked}")


def crowded(sub: Submission) -> Iterator[Finding]:
    """The run had a core for each of its threads."""
    run, cores = sub.run, cores_of(sub)
    if run is None or not cores or not sub.benchmark:
        return
    threads = sub.benchmark.working(run.ranks) * run.threads
    if threads > cores:
        shown = f"{run.ranks} rank(s) of {run.threads} thread(s) on {cores} core(s)"
        yield Finding("crowded", FILE, f"{shown}: oversubscribed, so that its times compare with none")


def cores_of(sub: Submission) -> int:
    """Hardware threads of all nodes of a run that its ranks may use, as the site declares them; 0 where it does not."""
    run, site = sub.run, sub.parsed(Site, "run/site.json")
    if run is None or site is None or sub.benchmark is None or run.partition not in site.partitions:
        return 0
    partition = site.partitions[run.partition]
    cores = partition.cores or (run.rendering.cores if run.rendering else 0)
    nodes = (run.rendering.nodes if run.rendering else None) or sub.benchmark.size(run.size).nodes
    return nodes * cores * (partition.hardware_threads if partition.hyperthreads else 1)


# The most that a core is known to do in a cycle: 2048 operations on bfloat16, in tiles of Intel AMX (Intel 64 and IA-32
# Architectures Optimization Reference Manual). No server's core is as fast as 6.2 GHz.
FLOP_PER_CYCLE, HERTZ = 2048, 6.2e9


def throughput(sub: Submission) -> Iterator[Finding]:
    """No throughput is above what the cores of the run can compute at all. Where there are GPUs, nothing is said."""
    run, site = sub.run, sub.parsed(Site, "run/site.json")
    if run is None or site is None or sub.benchmark is None or run.partition not in site.partitions:
        return
    if site.partitions[run.partition].gpus or run.system.get("accelerators_per_node"):
        return
    most = cores_of(sub) * FLOP_PER_CYCLE * HERTZ
    for metric in run.metrics:
        work = sub.benchmark.code.FLOP.get(metric.name, 0.0)
        if most and metric.value * work > most:
            shown = f"metric {metric.name} is {metric.value:.4g} {metric.shown_unit}, and {most / work:.4g} are the most"
            yield Finding("throughput", FILE, f"{shown} that its {cores_of(sub)} core(s) could compute")


def copied(sub: Submission) -> Iterator[Finding]:
    """No measured number is, to the last digit, the one that it is compared with."""
    for metric in sub.run.metrics if sub.run else ():
        if metric.tolerance and metric.value == metric.reference and not metric.value.is_integer():
            yield Finding("reference", FILE, f"metric {metric.name} is {metric.value!r}, its reference to the last digit")
