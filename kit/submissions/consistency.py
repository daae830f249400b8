"""One run against its record: it is rendered again (rerender.py), and every fact that is stated twice is compared."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kit.benchmark import RANKS, Benchmark
from kit.core.errors import KitError
from kit.core.files import json_text
from kit.core.schema import shortened
from kit.data.isolated import PACK, Pack
from kit.doctor.outcome import FILE as DOCTOR
from kit.doctor.outcome import Outcome
from kit.runs import evidence
from kit.runs.collect import CARRIED, metric_record
from kit.runs.plausibility import stated_digest
from kit.runs.record import DATA, FILE, SBOM, Run
from kit.runs.system import KEYS, declared
from kit.site import Site
from kit.submissions.layout import PLACEHOLDER, packed
from kit.submissions.rules import Finding, named
from kit.submissions.submitter import SUBMITTER, Submitter
from kit.submissions.survey import SKEW, Submission, same_text


def schema(sub: Submission) -> Iterator[Finding]:
    """Each record follows its schema and is formatted as the kit writes it: no key twice, nothing added."""
    for model, name in (
        (Run, FILE),
        (Site, "run/site.json"),
        (Pack, f"run/{PACK}"),
        (Outcome, f"run/{DOCTOR}"),
        (Submitter, SUBMITTER),
        (evidence.Kept, f"run/{evidence.KEPT}"),
    ):
        try:
            found = sub.parsed(model, name)
        except KitError as error:
            yield from (named("schema", line, name) for line in str(error).splitlines())
            continue
        if found is not None:
            yield from same_text(sub, "form", name, json_text(found.model_dump(mode="json")), "of what it says")


def rendering(sub: Submission) -> Iterator[Finding]:
    """Benchmark, script, texts and numbers are those that the kit at the run's commit renders."""
    if isinstance(sub.outcome, KitError):
        yield from (named("not-rendered", line, FILE) for line in str(sub.outcome).splitlines())
    answer, run = sub.answer, sub.run
    if answer is None or run is None:
        return
    yield from gates(sub)
    hint = f"; a submission is checked by the kit that made it, commit {run.commit}"
    yield from same_text(sub, "benchmark-differs", "run/benchmark.json", answer.benchmark, f"for size {run.size}{hint}")
    yield from same_text(sub, "script-differs", "run/job.sh", answer.script, "for this run")
    for name, text in answer.derived.items():
        yield from same_text(sub, "text-differs", name, text, "of this run")
    for name, recorded in answer.documents.items():
        if sub.there(name) and sub.digest(name) != recorded:
            yield Finding("document-differs", name, "is not the document that the kit writes of this run and its figures")
    for key, wanted in answer.facts.items():
        found: Any = run
        for part in key.split("."):
            found = getattr(found, part)
        if found != wanted:
            yield Finding(
                "fact-differs", FILE, f"{key} is {shortened(found)}, but {shortened(wanted)} is what the kit comes to"
            )


GATES = ("stage", "file", "label", "unit", "direction", "at_least", "at_most", "reference", "tolerance")


def gates(sub: Submission) -> Iterator[Finding]:
    """The run was judged by all gates of its benchmark here, and by no others."""
    run, benchmark = sub.run, sub.benchmark
    if run is None or benchmark is None:
        return
    try:
        own = sub.parsed(Benchmark, "run/benchmark.json")
    except KitError:
        return  # its text is compared as a whole, too
    if own is None:
        return
    found = {metric.name: metric for metric in own.metrics}
    hint = f"; a submission is checked by the kit that made it, commit {run.commit}"
    for metric in benchmark.metrics:
        if metric.name not in found:
            yield Finding(
                "benchmark-differs", "run/benchmark.json", f"has no metric {metric.name}, which size {run.size} has{hint}"
            )
            continue
        for gate in GATES:
            here, there = getattr(metric, gate), getattr(found[metric.name], gate)
            if here != there:
                yield Finding(
                    "benchmark-differs", "run/benchmark.json", f"metric {metric.name}: {gate} is {there}, not {here}{hint}"
                )


def carried(sub: Submission) -> Iterator[Finding]:
    """The files of the run are those of run.json: what every run has, what its metrics were read from, and figures."""
    run, benchmark = sub.run, sub.benchmark
    if run is None:
        return
    places: dict[str, str] = {}
    for name, recorded in run.files.items():
        if packed(name) in places:
            yield Finding("packed-twice", FILE, f"two of its files are packed as {packed(name)}")
        places[packed(name)] = recorded
    for name, recorded in places.items():
        if sub.there(name) and sub.digest(name) != recorded:
            yield Finding("file-differs", name, f"is not the file that run.json names, {shortened(recorded)}")
        elif not sub.there(name):
            yield Finding("file-missing", name, "missing, but run.json lists it among its files")
        if name.endswith(".png") and sub.there(name) and not is_png(sub.path / name):
            yield Finding("no-picture", name, "is no PNG")
    for name in sub.files:
        if name.startswith("run/") and name not in places:
            yield Finding("file-unlisted", name, "is not among the files of run.json")
    manifest = packed(DATA)
    if sub.there(manifest) and sub.digest(manifest) != run.data:
        yield Finding("file-differs", manifest, f"is not the manifest of the data that run.json names, {run.data}")
    if benchmark is None:
        return
    logs = {f"logs/{stage.name}.{end}" for stage in benchmark.stages for end in ("out", "err")}
    expected = {*CARRIED, *logs, *(metric.file for metric in benchmark.metrics)} - ({PACK} if not run.isolated else set())
    expected |= set(evidence.carried(benchmark, run.files))
    if not any(stage.name == RANKS for stage in benchmark.stages):
        expected.discard(f"{RANKS}.jsonl")
    for name in sorted(expected - {DOCTOR} - set(run.files)):
        yield Finding("log-missing", packed(name), "missing: every run of this size has it")
    for name in run.files:
        if name not in expected and not re.fullmatch(r"figures/[^/]+\.png", name):
            yield Finding("file-needless", packed(name), "is nothing that a run of this size leaves for a submission")


def is_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89PNG\r\n\x1a\n"


def bill(sub: Submission) -> Iterator[Finding]:
    """The SBOM is of the image that ran: same digest, same recipe, same name and version."""
    run, name = sub.run, f"run/{SBOM}"
    if run is None or not sub.there(name):
        return
    if sub.digest(name) != run.image.sbom:
        yield Finding("sbom", name, "is not the one that run.json names")
    found = stated_digest(sub.json(name))
    for key, wanted in (
        ("kit:digest", run.image.digest),
        ("kit:label:kit.recipe", run.image.recipe),
        ("name", run.image.name),
        ("version", run.image.version),
    ):
        if found.get(key) != wanted:
            yield Finding("sbom", name, f"{key} is {shortened(found.get(key))}, run.json says {shortened(wanted)}")


def metrics(sub: Submission) -> Iterator[Finding]:
    """Every metric of the benchmark, and no other, is there, was read from a file that is there, and passes its gate."""
    run, benchmark = sub.run, sub.benchmark
    if run is None or benchmark is None:
        return
    found = {metric.name: metric for metric in run.metrics}
    known: dict[Any, Any] = {}
    if [metric.name for metric in run.metrics] != [metric.name for metric in benchmark.metrics]:
        strangers = ", ".join(found.keys() - {metric.name for metric in benchmark.metrics})
        yield Finding(
            "metric-set", FILE, f"its metrics are not those of size {run.size}{': ' if strangers else ''}{strangers}"
        )
    for metric in benchmark.metrics:
        name = packed(metric.file)
        if metric.name not in found:
            yield Finding("metric-set", FILE, f"metric {metric.name} is missing")
            continue
        if not sub.there(name):
            yield Finding("metric-unread", name, f"missing, and with it {metric.label}, the metric {metric.name}")
            continue
        source = sub.path / name
        try:
            again = benchmark.read_value(source, metric.label, known)
        except KitError as error:
            yield Finding("metric-unread", name, str(error).removeprefix(f"{source}: "))
            continue
        value = found[metric.name].value
        if again != value:
            yield Finding("metric-differs", FILE, f"metric {metric.name} is {value!r}, but {name} says {again!r}")
        problem = metric.problem(again)
        if problem:
            yield Finding("metric-gate", name, problem)
        if metric.fact and again != getattr(run, metric.fact):
            yield Finding(
                "metric-fact",
                name,
                f"metric {metric.name} is {again:g}, but {metric.fact} of run.json is {getattr(run, metric.fact)}",
            )
        wanted = metric_record(metric, again, sub.digest(name))
        for key, expected in wanted.model_dump().items():
            said = getattr(found[metric.name], key)
            if key != "value" and said != expected:
                yield Finding(
                    "metric-record", FILE, f"metric {metric.name}: {key} is {shortened(said)}, not {shortened(expected)}"
                )


def contradictions(sub: Submission) -> Iterator[Finding]:
    """The files agree with each other: everything that can be computed from them again is."""
    if sub.run and sub.benchmark:
        names = {metric.file for metric in sub.benchmark.metrics}
        files = {name: sub.path / packed(name) for name in names if sub.there(packed(name))}
        for name, problem in sub.benchmark.code.contradictions(files):
            yield Finding("contradiction", f"run/{name}", problem)


def system(sub: Submission) -> Iterator[Finding]:
    """The description of the system has the keys that the kit writes, and says what the site declares of it."""
    run, site = sub.run, sub.parsed(Site, "run/site.json")
    if run is None or site is None or run.partition not in site.partitions:
        return
    wanted = declared(site, run.partition)
    for key, value in wanted.items():
        if run.system.get(key) != value:
            yield Finding(
                "system-differs", FILE, f"system.{key} is {shortened(run.system.get(key))}, run/site.json says {value!r}"
            )
    for key in sorted({*KEYS, *wanted} ^ run.system.keys()):
        yield Finding(
            "system-keys", FILE, f"system.{key} is {'missing' if key not in run.system else 'no key that the kit writes'}"
        )


def doctored(sub: Submission) -> Iterator[Finding]:
    """What a doctor's job found is of this site and partition, as the run knows them, and was found in the past."""
    name = f"run/{DOCTOR}"
    found, run, site = sub.parsed(Outcome, name), sub.run, sub.parsed(Site, "run/site.json")
    if found is None or run is None or site is None:
        return
    problem = found.foreign(site, run.partition)
    if problem:
        yield Finding("doctor", name, problem)
    if found.date.timestamp() > time.time() + SKEW:
        yield Finding("doctor", name, f"its date is {found.date:%Y-%m-%d}, which has not come yet")


def placeholders(sub: Submission) -> Iterator[Finding]:
    """No placeholder is left in text that people fill in."""
    site = sub.parsed(Site, "run/site.json")
    if site is None:
        return
    fields = {key: getattr(site, key) for key in ("description", "contact", "url", "organisation")}
    for key, value in {**fields, **{f"hardware.{key}": value for key, value in site.hardware.items()}}.items():
        match = PLACEHOLDER.search(str(value))
        if match:
            yield Finding("placeholder", "run/site.json", f"key '{key}' still holds '{match[0]}'")
