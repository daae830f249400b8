"""Can a run have been as it says? Its state, its stages, its times, and what its machine can do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kit.benchmark import RANKS
from kit.core.errors import KitError
from kit.runs.plausibility import ranks_seen, too_fast
from kit.runs.record import FILE, State, read_stages, stage_lines
from kit.runs.states import judge
from kit.submissions.rules import Finding
from kit.submissions.survey import SKEW, Submission, same_text

TICK = 5.0  # seconds that a clock may be set back


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
