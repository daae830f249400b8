"""Do two runs differ by more than repeats of the same run?

The repeats stand beside the benchmark (repeats.json): the metrics of runs that differ in nothing but the random seed, and
what each pair of them has in common. Two results of one distribution with standard deviation s, known from n repeats,
differ by less than t(0.995, n - 1) s sqrt(2) in 99 of 100 cases (Student's t); a pair is held against the pairs alike.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from scipy import stats

from kit.benchmark import Benchmark
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import read_json, read_table, write_json
from kit.core.schema import Model, parse
from kit.core.tables import table
from kit.runs.record import Run, load_run, resolved

FILE = "repeats.json"
QUANTILE = 0.995


class Repeats(Model):
    """The spread of runs of one image on one machine that differ only in their seed. `pairs`: one value per pair of runs."""

    image: str
    version: str
    machine: str  # the model names of its processors
    seeds: list[int]
    metrics: dict[str, list[float]]
    steps: dict[str, float] = {}  # of metrics that are counted: no difference below one step means anything
    pairs: dict[str, list[float]]

    def allowed(self, name: str) -> float:
        """The difference in a metric that two further runs stay within."""
        return max(allowed_difference(self.metrics[name]), self.steps.get(name, 0.0))


class Row(Model):
    name: str
    first: float | None
    second: float | None
    difference: float
    allowed: float

    @property
    def same(self) -> bool:
        return self.difference <= self.allowed


class Comparison(Model):
    first: str
    second: str
    rows: list[Row]
    remarks: list[str]

    @property
    def same(self) -> bool:
        return all(row.same for row in self.rows)

    def __str__(self) -> str:
        rows = [
            (
                row.name,
                *(None if value is None else f"{value:.4g}" for value in (row.first, row.second)),
                f"{row.difference:.4g}",
                f"{row.allowed:.4g}",
                "" if row.same else "more than repeats differ",
            )
            for row in self.rows
        ]
        text = table(rows, "lrrrrl", ("", "first", "second", "difference", "of repeats", ""))
        more = [row.name for row in self.rows if not row.same]
        verdict = f"differ in {', '.join(more)} by more than repeats do" if more else "differ by no more than repeats do"
        return "\n".join([text, *self.remarks, f"{self.first} and {self.second} {verdict}."])


def allowed_difference(values: list[float]) -> float:
    """The difference that two further values of the same kind stay within in 99 of 100 cases."""
    return float(stats.t.ppf(QUANTILE, len(values) - 1)) * statistics.stdev(values) * math.sqrt(2)


def allowed_below_mean(values: list[float]) -> float:
    """The distance from the mean of `values` that one further value stays within in 99 of 100 cases."""
    return float(stats.t.ppf(QUANTILE, len(values) - 1)) * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))


def load_repeats(benchmark: str, size: str, path: Path | None = None) -> Repeats:
    """The repeats that a file holds for a size; by default the file shipped with the benchmark."""
    if path and not path.exists():
        raise KitError(f"{path}: missing; kit repeats --output FILE writes one")
    path = path or paths.PACKAGE / "benchmarks" / benchmark / FILE
    sizes = read_table(path) if path.exists() else {}
    if size not in sizes:
        raise KitError(f"{path}: has no repeats of size {size}, so nothing says how far two runs may differ")
    return parse(Repeats, sizes[size], path)


def described(run: Run) -> str:
    return f"{run.image.name} {run.image.version} (seed {run.seed})"


def processor(run: Run) -> str:
    return str(run.system.get("host_processor_model_name", "an unknown processor"))


def elsewhere(repeats: Repeats, runs: Sequence[Run]) -> list[str]:
    """What has to be said where runs were made on another processor than the repeats that they are held against."""
    strange = sorted({processor(run) for run in runs} - set(repeats.machine.split(", ")))
    if not strange:
        return []
    return [
        f"The repeats were not measured on {' and '.join(strange)}. This matters: the instruction set decides how "
        "floating-point results are rounded, so these two runs may differ by more than the repeats although nothing is "
        "wrong. kit repeats measures repeats on a processor of your own, and kit compare --repeats FILE judges by them."
    ]


def pair(benchmark: Benchmark, first: Path, second: Path) -> tuple[dict[str, float], list[str]]:
    """Comparisons that need both runs, from the benchmark's own code: numbers (higher is more alike) and sentences."""
    return benchmark.code.pair(first, second)


def measure(directories: Sequence[Path]) -> Repeats:
    """What valid runs have in common that differ in their random seed only; KitError for any that differ otherwise."""
    if len(directories) < 3:
        raise KitError(f"{len(directories)} runs: at least three are needed to say how far repeats differ")
    runs = [load_run(directory) for directory in directories]
    seeds: dict[int, Path] = {}
    for directory, run in zip(directories, runs, strict=True):
        if run.state.name != "valid":
            raise KitError(f"{directory}: {run.state}: only valid runs say how far results differ")
        for what in ("benchmark", "work", "data", "image.digest", "changed"):
            same = attrgetter(what)
            if same(run) != same(runs[0]):
                raise KitError(f"{directory} and {directories[0]}: differ in {what}; repeats differ in their seed only")
        if run.seed is None or run.seed in seeds:
            other = "" if run.seed is None else f", as has {seeds[run.seed]}"
            raise KitError(f"{directory}: has the seed {run.seed}{other}; every repeat needs a seed of its own")
        seeds[run.seed] = directory
    benchmark, _ = resolved(directories[0])
    chosen = [metric for metric in benchmark.metrics if metric.compared]
    if not chosen:
        raise KitError(f"benchmark {benchmark.name}: none of its metrics is marked `compared`")
    values = [{metric.name: metric.value for metric in run.metrics} for run in runs]
    pairs: dict[str, list[float]] = {}
    for first, second in itertools.combinations(directories, 2):
        for name, value in pair(benchmark, first, second)[0].items():
            pairs.setdefault(name, []).append(value)
    return Repeats(
        image=runs[0].image.name,
        version=runs[0].image.version,
        machine=", ".join(sorted({processor(run) for run in runs})),
        seeds=list(seeds),
        metrics={metric.name: [found[metric.name] for found in values] for metric in chosen},
        steps={metric.name: metric.step for metric in chosen if metric.step},
        pairs=pairs,
    )


def add_repeats(path: Path, directory: Path, repeats: Repeats) -> None:
    """Adds repeats to a file of them, which may not be there yet, under the work of one of their runs."""
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, load_run(directory).work: repeats.model_dump(mode="json")})


def spread(repeats: Repeats) -> str:
    """Mean and standard deviation of what repeats gave, as text."""
    allowed = {name: f"{repeats.allowed(name):.2g}" for name in repeats.metrics}
    allowed |= dict.fromkeys(repeats.pairs, "of pairs")
    rows = [
        (name, f"{statistics.mean(values):.4g}", f"{statistics.stdev(values):.2g}", allowed[name])
        for name, values in (*repeats.metrics.items(), *repeats.pairs.items())
    ]
    return table(rows, "lrrr", ("", "mean", "deviation", "allowed difference"))


def compare(first: Path, second: Path, known: Path | None = None) -> Comparison:
    """Compares every metric and pair that the repeats contain; KitError for runs that cannot be compared.

    The repeats are those beside the benchmark, or of the file `known`.
    """
    runs = [load_run(directory) for directory in (first, second)]
    for directory, run in zip((first, second), runs, strict=True):
        if not run.metrics:
            raise KitError(f"{directory}: has no metrics; collect it first: kit collect {directory}")
    a, b = runs
    for what in ("benchmark", "work", "data"):
        if getattr(a, what) != getattr(b, what):
            raise KitError(f"{first} and {second}: differ in {what}; only runs of the same work can be compared")
    repeats = load_repeats(a.benchmark, a.work, known)
    values = [{metric.name: metric.value for metric in run.metrics} for run in runs]
    rows = []
    for name in repeats.metrics:
        one, two = values[0][name], values[1][name]
        rows.append(Row(name=name, first=one, second=two, difference=abs(one - two), allowed=repeats.allowed(name)))
    benchmark, _ = resolved(first)
    numbers, sentences = pair(benchmark, first, second)
    for name, value in numbers.items():
        if name in repeats.pairs:
            alike = repeats.pairs[name]
            below = statistics.mean(alike) - value
            rows.append(Row(name=name, first=None, second=value, difference=below, allowed=allowed_below_mean(alike)))
    remarks = [
        f"Repeats: {len(repeats.seeds)} seeds of {repeats.image} {repeats.version} on {repeats.machine}; "
        f"differences of 99 in 100 pairs of them are smaller than the last column.",
        *elsewhere(repeats, runs),
    ]
    if a.changed != b.changed:
        remarks.append(
            f"Their parameters differ: {a.changed or 'those of the size'}, and {b.changed or 'those of the size'}."
        )
    if a.image.version != b.image.version:
        remarks.append(f"These are two versions, {a.image.version} and {b.image.version}: more than the binary differs.")
    return Comparison(first=described(a), second=described(b), rows=rows, remarks=[*remarks, *sentences])
