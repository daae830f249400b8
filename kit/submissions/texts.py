"""The texts of a submission that follow from its runs; a check writes them again and compares them byte by byte."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from kit import __version__
from kit.benchmark import Benchmark, Metric
from kit.core.errors import KitError
from kit.core.files import json_text
from kit.data.published import load_data_set
from kit.runs.record import FILE, MetricRecord, Run
from kit.runs.system import description
from kit.script.quoting import environment, words
from kit.submissions.averages import half_width, mean, olympic
from kit.submissions.document import NAMES, document
from kit.submissions.layout import ATTRIBUTES, is_trial, log_name
from kit.submissions.mllog import log
from kit.submissions.submitter import Submitter

UNKNOWN = "unknown"


def derived(
    runs: Sequence[Run], benchmark: Benchmark, organisation: str, system: str, submitter: Submitter | None = None
) -> dict[str, str]:
    """{name: text} of the files that follow from the runs, the first of which stands for what all have alike."""
    submitter = submitter or Submitter()
    shown = facts(runs, benchmark, organisation, system, submitter)
    env = environment()
    try:
        pages = {
            name: env.get_template(f"submission/{name}.j2").render(shown)
            for name in ("README.md", "scientific_contribution.md", "pull_request.md")
        }
    except jinja2.TemplateError as error:
        raise KitError(f"{FILE}: lacks what its pages say: {error}") from None
    framework = f"{benchmark.title.partition(':')[0]}, image {runs[0].image.name} {runs[0].image.version}"
    return {
        **pages,
        "config.yaml": yaml.safe_dump(config(runs, benchmark, organisation, system, submitter), sort_keys=False),
        "system.json": json_text(description(runs[0].system, organisation, system, framework)),
        **{log_name(number): log(run, organisation, system) for number, run in enumerate(runs, start=1)},
        ATTRIBUTES: "# Bytes as they are: checksums are over them.\n* -text\n",
    }


def documents(
    runs: Sequence[Run],
    benchmark: Benchmark,
    organisation: str,
    system: str,
    submitter: Submitter | None,
    pictures: Mapping[str, bytes],
) -> dict[str, bytes]:
    """{name: content} of what else follows from the runs: the document, under both of its names.

    `pictures` are the figures of the first run that it takes (document.chosen), by name.
    """
    content = document(facts(runs, benchmark, organisation, system, submitter or Submitter()), pictures)
    return dict.fromkeys(NAMES, content)


def facts(runs: Sequence[Run], benchmark: Benchmark, organisation: str, system: str, submitter: Submitter) -> dict[str, Any]:
    """What the pages say."""
    run = runs[0]
    return {
        "run": run,
        "runs": runs,
        "benchmark": benchmark,
        "size": benchmark.size(run.size),
        "organisation": organisation,
        "system": system,
        "submitter": submitter,
        "trial": is_trial(organisation),
        "stages": [stage for stage in run.stages if stage.exit_code == 0 and stage.timed],
        "attempts": len([stage for stage in run.stages if stage.timed]),
        "figures": sorted(Path(name).name for name in run.files if name.startswith("figures/")),
        "rows": rows(runs),
        "meanings": [(metric.name, meaning(metric)) for metric in benchmark.metrics],
        "again": again(runs, benchmark, submitter),
        "needs": needs(runs, benchmark),
        "version": __version__,
    }


@dataclass(frozen=True)
class Row:
    """One metric over all runs of a submission, as text. A value that there is not is empty."""

    name: str
    measurement: str  # with its unit
    unit: str
    reference: str
    submitted: str  # the value, or the mean of several
    difference: str  # of what is submitted from the reference, where that is a number
    must: str
    source: str
    values: list[str]
    median: str
    olympic: str
    interval: str


def rows(runs: Sequence[Run]) -> list[Row]:
    """The metrics of the runs, in the order of the benchmark; KitError where the runs do not have the same."""
    names = [metric.name for metric in runs[0].metrics]
    if any([metric.name for metric in run.metrics] != names for run in runs):
        raise KitError(f"{FILE}: the runs do not have the same metrics")
    return [row([run.metrics[place] for run in runs]) for place in range(len(names))]


def row(records: Sequence[MetricRecord]) -> Row:
    metric = records[0]
    values = [record.value for record in records]
    half, dropped = half_width(values), olympic(values)
    return Row(
        name=metric.name,
        measurement=f"{metric.name} ({metric.shown_unit})" if metric.shown_unit else metric.name,
        unit=metric.shown_unit,
        reference=reference(metric),
        submitted=number(mean(values)),
        difference="" if metric.reference is None else f"{mean(values) - metric.reference:+.3g}",
        must=gate(metric),
        source=metric.source,
        values=[number(value) for value in values],
        median=number(statistics.median(values)),
        olympic="" if dropped is None else number(dropped),
        interval="" if half is None else f"{number(mean(values) - half)} to {number(mean(values) + half)}",
    )


def number(value: float) -> str:
    """Four digits, or a whole number as it is."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def gate(metric: MetricRecord) -> str:
    if metric.at_least is not None:
        return f"at least {number(metric.at_least)}"
    if metric.at_most is not None:
        return f"at most {number(metric.at_most)}"
    if metric.reference is not None and metric.tolerance is not None:
        return f"{number(metric.reference)} ± {metric.tolerance:g}"
    return "reported"


def reference(metric: MetricRecord) -> str:
    """The value to compare with; where there is only a limit, that limit."""
    if metric.reference is not None:
        return f"{number(metric.reference)}"
    if metric.at_least is not None:
        return f"≥ {number(metric.at_least)}"
    return "none" if metric.at_most is None else f"≤ {number(metric.at_most)}"


def meaning(metric: Metric) -> str:
    """What a number is, over which part of the data and how it was put together."""
    details = [metric.description, metric.split and f"over the {metric.split}", metric.aggregation]
    return "; ".join(filter(None, details))


def config(
    runs: Sequence[Run], benchmark: Benchmark, organisation: str, system: str, submitter: Submitter
) -> dict[str, Any]:
    """config.yaml: where code and data come from, and every parameter, in the keys of the working group's submit.adoc."""
    run, size = runs[0], benchmark.size(runs[0].size)
    return {
        "submission": {
            "organisation": organisation,
            "system": system,
            "division": "open",
            "name": submitter.name or "not given",
            "user": submitter.user or "not given",
            "email": submitter.email or "not given",
            "runs": len(runs),
        },
        "github": {
            "description": benchmark.title,
            "repo": submitter.repository or f"{UNKNOWN}: the submitter has named no repository of the kit",
            "branch": f"{UNKNOWN}: a run knows its commit, which is the tag",
            "version": __version__,
            "tag": run.commit,
        },
        "data": data(run, benchmark),
        "size": run.size,
        "ranks": run.ranks,
        "threads": run.threads,
        "image": {
            "name": run.image.name,
            "version": run.image.version,
            "digest": run.image.digest,
            "recipe": run.image.recipe,
            "sbom": run.image.sbom,
        },
        "hyperparameters": size.parameters,
        "seeds": [run.seed for run in runs],
        "changed": run.rendering.parameters if run.rendering else {},
        # What each key of `result` in the logs means.
        "result": {
            metric.name: {
                "meaning": meaning(metric),
                "unit": metric.unit,
                "better": metric.direction,
                "file": metric.file,
                "label": metric.label,
            }
            for metric in benchmark.metrics
        },
    }


def data(run: Run, benchmark: Benchmark) -> list[dict[str, Any]]:
    """Where the data of a run come from, and the commands that bring them. `manifest` is the digest of all their hashes."""
    size = benchmark.size(run.size)
    if not size.dataset:
        made = f"generated by the kit at commit {run.commit}"
        command = data_command(run, benchmark)
        if run.challenge:
            made, command = f"{made}, from the challenge {run.challenge.text}", "kit run, with --challenge"
        return [{"location": made, "retrieve": command, "manifest": run.data}]
    found = load_data_set(f"{run.benchmark}/{size.dataset}")
    return [
        {
            "location": source.url,
            **({"endpoint": source.endpoint} if source.endpoint else {}),
            "gigabytes": source.part(found.count).gigabytes,
            **({"sha256": source.sha256} if source.sha256 else {}),
            "title": found.title,
            "origin": found.origin,
            "licence": found.licence,
            "retrieve": data_command(run, benchmark),
            "manifest": run.data,
        }
        for source in found.sources
    ]


def data_command(run: Run, benchmark: Benchmark) -> str:
    dataset = benchmark.size(run.size).dataset
    if dataset:
        return f"kit data get {run.benchmark}/{dataset}"
    return f"kit data make {run.benchmark} --size {run.size}"


def again(runs: Sequence[Run], benchmark: Benchmark, submitter: Submitter) -> list[str]:
    """The commands that make the runs again, from nothing."""
    run = runs[0]
    arguments = [word for key, value in run.image.arguments.items() for word in ("--arg", f"{key}={value}")]
    lines = [
        f"git clone {submitter.repository or 'REPOSITORY'} kit && cd kit",
        f"git checkout {run.commit.removesuffix('-dirty')}",
        "make setup && export PATH=$PWD/.venv/bin:$PATH",
        words(["kit", "image", "build", run.image.name, *arguments]),
        *([] if run.challenge else [data_command(run, benchmark)]),  # kit run makes those of a challenge
    ]
    if run.isolated:
        lines.append(f"{words(['kit', 'data', 'pack', 'RUN', '--stage', run.isolated, '--to', 'PACK'])}  # of a valid run")
    if run.challenge:  # it decides the seed of each repeat
        lines.append(words(["kit", *command(run, arguments), *repeated(runs)]))
    else:
        lines += [words(["kit", *command(one, arguments)]) for one in runs]
    each, many = ("; each of them", "...") if len(runs) > 1 else ("", "")
    return [*lines, f"kit collect RUN  # as kit run printed it{each}", f"kit submission pack RUN{many}"]


def command(run: Run, arguments: Sequence[str]) -> list[str]:
    """The words of `kit` that ask for a run like this one."""
    source = run.rendering
    asked = {
        "--nodes": source and source.nodes,
        "--ranks": source and source.ranks,
        "--threads": source and source.threads,
        "--gpus": source and source.gpus,
        "--minutes": source and source.minutes,
        "--seed": None if run.challenge else run.seed,
        "--challenge": run.challenge and run.challenge.text,
    }
    changed = source.parameters if source else {}
    return [
        "run",
        run.benchmark,
        *("--size", run.size),
        *("--site", run.site),
        *("--partition", run.partition),
        *("--image", run.image.name),
        *arguments,
        *(word for flag, value in asked.items() if value is not None for word in (flag, str(value))),
        *(word for key, value in changed.items() for word in ("--set", f"{key}={value}")),
        *(("--isolated", "PACK") if run.isolated else ()),
    ]


def repeated(runs: Sequence[Run]) -> list[str]:
    """The words that make all repeats of a challenge, of which each has a number."""
    most = max(run.challenge.repeat if run.challenge else 1 for run in runs)
    return ["--repeat", str(most)] if most > 1 else []


def needs(runs: Sequence[Run], benchmark: Benchmark) -> list[str]:
    """What it takes to make the runs again: time, cores, memory, disk."""
    run, size = runs[0], benchmark.size(runs[0].size)
    seconds = [sum(stage.seconds or 0.0 for stage in one.stages if stage.timed) for one in runs]
    memory = max((stage.memory_gb for stage in benchmark.stages), default=0.0)
    if memory:
        needed = f"about {memory:.3g} GB on a node"
    else:
        needed = f"not known; this node had {run.system.get('host_memory_capacity', UNKNOWN)}"
    if size.dataset:
        room = f"{load_data_set(f'{run.benchmark}/{size.dataset}').gigabytes:g} GB of data, and what the run writes"
    else:
        room = "generated data, and what the run writes; nobody has recorded how much"
    return [
        f"time: {mean(seconds):.0f} s of stages a run here; a scheduler is asked for {size.minutes} minutes",
        f"cores: {run.ranks} ranks of {run.threads} thread(s)",
        f"memory: {needed}",
        f"disk: {room}",
    ]
