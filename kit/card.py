"""Benchmark cards: the form "Specific Benchmark Targets" of the MLCommons Science working group, and entries of its list.

A benchmark has its card in benchmark.toml.
"""

from __future__ import annotations

from typing import Any

import yaml

from kit import __version__, history
from kit.benchmark import UNKNOWN, Benchmark, Entry, Form, Metric, benchmark_names, load_benchmark
from kit.core.errors import KitError
from kit.script.quoting import environment

SYSTEMS = ("Summit", "ThetaGPU", "RAL")  # that the form asks for


def form_of(found: Benchmark) -> Form:
    if found.card.form is None:
        raise KitError(f"benchmark {found.name}: benchmark.toml has no table [card.form], of which its card is made")
    return found.card.form


def entry_of(found: Benchmark) -> Entry:
    if found.card.entry is None:
        raise KitError(f"benchmark {found.name}: benchmark.toml has no table [card.entry], of which its entry is made")
    return found.card.entry


def markdown(name: str) -> str:
    """The card of one benchmark, as Markdown."""
    found = load_benchmark(name)
    form = form_of(found)
    times = history.references(name)
    return (
        environment()
        .get_template("card.md.j2")
        .render(
            title=found.title,
            card=found.card,
            form=form,
            systems={**dict.fromkeys(SYSTEMS, UNKNOWN), **form.systems},
            benchmark=found,
            metrics=[(metric, gates(found, metric)) for metric in found.metrics],
            times={
                source: [row for row in times if row.source == source] for source in dict.fromkeys(t.source for t in times)
            },
            classes=history.classes(name),
            sizes=history.data_sizes(name),
        )
    )


def gates(benchmark: Benchmark, metric: Metric) -> str:
    """What a metric must be, at the sizes that say so; empty where it is only reported."""
    texts = {}
    for size in benchmark.sizes:
        if metric.belongs(size):
            there = metric.at_size(size)
            bounds = [f"at least {there.at_least:g}" if there.at_least is not None else ""]
            bounds += [f"at most {there.at_most:g}" if there.at_most is not None else ""]
            bounds += [f"{there.reference:g} ± {there.tolerance:g}" if there.tolerance is not None else ""]
            texts[size] = ", ".join(filter(None, bounds))
    if len(texts) == len(benchmark.sizes) and len(set(texts.values())) == 1:
        return texts[next(iter(texts))]
    return "; ".join(f"{size}: {text}" for size, text in texts.items() if text)


def all_cards() -> str:
    """The page of all cards, docs/cards.md."""
    return environment().get_template("cards.md.j2").render(cards=[markdown(name) for name in benchmark_names()])


def entries(names: list[str]) -> str:
    """Entries of the list of benchmarks, one for each name, as its YAML."""
    return yaml.dump([entry(name) for name in names], Dumper=Quoting, sort_keys=False, allow_unicode=True, width=10_000)


def entry(name: str) -> dict[str, Any]:
    """The entry of a benchmark in the list of MLCommons Science.

    It has every field of the list's format (mlcommons-science/benchmark, source/benchmarks-format.yaml), none of them empty,
    and each of the type that it has there. The kit rates no benchmark: 0 is "not evaluated".
    """
    found = load_benchmark(name)
    said, form = entry_of(found), form_of(found)
    nobody = [{"name": UNKNOWN, "url": UNKNOWN}]
    aspects = ("software", "specification", "dataset", "metrics", "reference_solution", "documentation")
    return {
        "date": said.date,
        "version": __version__,
        "last_updated": said.date,
        "expired": "no",
        "valid": True,
        "valid_date": said.date,
        "name": said.name,
        "url": said.url,
        "doi": said.doi,
        "domain": said.domain,
        "focus": found.card.objective,
        "keywords": said.keywords,
        "summary": f"{form.about.strip()}\n",
        "licensing": said.licensing,
        "task_types": said.task_types,
        "ai_capability_measured": said.capabilities,
        "metrics": [metric.name for metric in found.metrics],
        "models": [found.card.baseline],
        "ml_motif": said.motif,
        "type": "Benchmark",
        "ml_task": said.ml_task,
        "solutions": str(len(said.results)),
        "notes": "".join(f"{remark}\n" for remark in form.remarks) or UNKNOWN,
        "contact": {"name": said.contact, "email": said.email},
        "cite": said.cite,
        "datasets": {"links": [link.model_dump() for link in said.datasets]},
        "results": {"links": [link.model_dump() for link in said.results] or nobody},
        "fair": dict.fromkeys(("reproducible", "benchmark_ready"), True),
        "ratings": {aspect: {"rating": 0, "reason": "Not yet evaluated"} for aspect in aspects},
    }


class Quoting(yaml.SafeDumper):
    """YAML as the list wants it: quotes around texts, a bar before those of several lines, indented lists, no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def quoted_text(dumper: Quoting, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else '"')


def mapping(dumper: Quoting, value: dict[str, Any]) -> yaml.Node:
    """A mapping whose keys stand without quotes."""
    pairs = [(yaml.ScalarNode("tag:yaml.org,2002:str", key), dumper.represent_data(inner)) for key, inner in value.items()]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)


Quoting.add_representer(str, quoted_text)
Quoting.add_representer(dict, mapping)
