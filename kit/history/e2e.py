"""The results of the ancestor, github.com/stfc-sciml/e2e, read and judged: which of them can be what they say?

It kept a metrics.json a job (case1/runs/MACHINE/job_ID/), tables made from these (case1/runs/*.csv) and, of CloudMask,
tables of trainings and inferences (case2/runs/MACHINE/*_analysis.csv). None of them says whether its job ended well, so
that each is held here against what is known of the work: e2e.toml. None becomes a result of the kit.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kit.core.errors import KitError
from kit.core.files import open_plain, read_toml
from kit.core.schema import Model, parse
from kit.core.tables import table

MOST_BYTES = 16_000_000  # of one file; the largest of the ancestor's has 300 kB
OCCUPANCY = re.compile(r"class_\d+_occ")  # one number for each of a hundred classes, most of them 0
METRICS = "metrics.json"

# What a reason makes of a result: it cannot have been, or nothing shows that it was.
IMPOSSIBLE, UNPROVEN, PLAUSIBLE = "impossible", "unproven", "plausible"
RULES = {
    "too-fast": (IMPOSSIBLE, "finished too fast for its work"),
    "not-run": (IMPOSSIBLE, "a step that computes cannot have run"),
    "no-metric": (UNPROVEN, "a step left no measure of its result"),
    "same-value": (UNPROVEN, "a measured value equals that of another job to the last digit"),
    "copied-value": (UNPROVEN, "a step reports the values of the step before"),
    "path-as-id": (UNPROVEN, "the job has a path or nothing for its id"),
    "one-rank": (UNPROVEN, "the accuracy is that of one rank's share of the data"),
    "throughput": (UNPROVEN, "the throughput counts work that was not done in its time"),
    "other-machine": (UNPROVEN, "it says that it ran on another machine"),
}


class Floor(Model):
    floor: float


class Total(Floor):
    fastest: dict[str, float]


class Shared(Model):
    names: list[str]
    digits: int


class CloudMask(Model):
    patches: int
    inference_patches: int


class Known(Model):
    """What is known of the work; units and sources stand in e2e.toml."""

    total: Total
    steps: dict[str, Floor]
    metrics: dict[str, list[str]]
    classifications: dict[str, list[str]]
    shared: Shared
    cloudmask: CloudMask


class Written(BaseModel):
    """What the kit reads of a foreign table; all else is left."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class WrittenStep(Written):
    name: str = Field(max_length=1000)
    duration: float = Field(ge=0)


class WrittenMetrics(Written):
    pipeline_file: str = Field(max_length=1000)
    total_duration: float = Field(ge=0)
    steps: list[WrittenStep] = Field(max_length=1000)


@dataclass
class Step:
    name: str
    seconds: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """One job, in seconds, with the `reasons` that speak against it, as (rule, text)."""

    file: str
    machine: str
    job: str
    script: str  # class2d_0, refine3d_4, ...; train, infer of CloudMask
    seconds: float
    steps: list[Step] = field(default_factory=list)
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        found = {RULES[rule][0] for rule, _ in self.reasons}
        return next((verdict for verdict in (IMPOSSIBLE, UNPROVEN) if verdict in found), PLAUSIBLE)


@dataclass
class History:
    """All results below a folder. `repeated` rows of tables only repeat a metrics.json; `problems` are files not read."""

    results: list[Result] = field(default_factory=list)
    repeated: int = 0
    problems: list[str] = field(default_factory=list)


@functools.cache
def known() -> Known:
    path = Path(__file__).with_name("e2e.toml")
    return parse(Known, read_toml(path), path)


def read(root: Path) -> History:
    """Every result below a folder, judged. A file that cannot be read is a problem and hides none of the others; KitError
    where there is no result at all, and no folder."""
    if not root.is_dir():
        raise KitError(f"{root}: no folder; a clone of the ancestor's repository, or a part of it, is needed")
    history = History()
    seen: set[tuple[str, float]] = set()
    for name in sorted(names(root), key=lambda name: (not name.endswith(METRICS), name)):  # tables after what they repeat
        try:
            for result in results(root, name):
                if name.endswith(METRICS):
                    seen.add((result.machine, result.seconds))
                elif (result.machine, result.seconds) in seen:
                    history.repeated += 1
                    continue
                history.results.append(result)
        except KitError as error:
            history.problems.append(str(error))
    if not history.results and not history.problems:
        raise KitError(f"{root}: holds no {METRICS} and no table of results (*.csv)")
    for result in history.results:
        result.reasons += own_reasons(result)
    compare(history.results)
    return history


def names(root: Path) -> Iterator[str]:
    """Files below a folder that can hold results, by their path there; no link to a folder is followed."""
    for folder, _, files in os.walk(root):
        for name in files:
            if name == METRICS or name.endswith(".csv"):
                yield (Path(folder) / name).relative_to(root).as_posix()


def results(root: Path, name: str) -> Iterator[Result]:
    """The results of one file. KitError where it is too large, no plain file, or not what its name says."""
    with open_plain(root, name) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise KitError(f"{root / name}: has more than {MOST_BYTES:,} bytes; no result of the ancestor is so large")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise KitError(f"{root / name}: not text (UTF-8)") from None
    if name.endswith(METRICS):
        yield of_json(root, name, text)
    else:
        yield from of_table(root, name, text)


def of_json(root: Path, name: str, text: str) -> Result:
    try:
        written = parse(WrittenMetrics, json.loads(text), root / name)
    except (ValueError, RecursionError) as error:
        raise KitError(f"{root / name}: not JSON that can be read: {error}") from None
    machine, job = place((root.absolute() / name).parent)
    steps = [Step(step.name, step.duration, numbers(step.model_extra or {})) for step in written.steps]
    return Result(name, machine, job, stem(written.pipeline_file), written.total_duration, steps)


def place(folder: Path) -> tuple[str, str]:
    """Machine and job of a folder runs/MACHINE/job_ID; the ancestor took a path for ID on one machine."""
    parts = folder.parts
    after = parts[len(parts) - parts[::-1].index("runs") :] if "runs" in parts else parts[-2:]
    machine, rest = (after[0] if after else "", "/".join(after[1:]))
    return machine, rest.partition("job_")[2] if "job_" in rest else rest


def stem(script: str) -> str:
    return Path(script).name.removesuffix(".sh").removeprefix("pipeline_")


def numbers(cells: dict[str, Any]) -> dict[str, float]:
    """The cells that are numbers, without the occupancies of classes."""
    return {key: float(cell) for key, cell in cells.items() if is_number(cell) and not OCCUPANCY.fullmatch(key)}


def is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell)


def of_table(root: Path, name: str, text: str) -> Iterator[Result]:
    """The rows of a table, of RELION (total_duration) or of CloudMask (total_time, total); no others."""
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise KitError(f"{root / name}: not CSV: {error}") from None
    head = rows[0] if rows else []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise KitError(f"{root / name}: line {number} has {len(row)} cells, its head has {len(head)}")
        cells = dict(zip(reversed(head), reversed(row), strict=True))  # of columns with one name, the first
        where = f"{root / name}: line {number}"
        if "total_duration" in cells:
            seconds = number_of(cells, "total_duration", where)
            machine = cells.get("machine") or Path(name).name.partition("_")[0]
            steps = [
                Step(column.removesuffix(" duration"), float(cell))
                for column, cell in zip(head, row, strict=True)
                if column.endswith(" duration") and as_number(cell) is not None
            ]
            for step in steps:
                begin = f"{step.name} "
                found = {key.removeprefix(begin): as_number(cell) for key, cell in cells.items() if key.startswith(begin)}
                step.values = numbers({key: value for key, value in found.items() if key != "duration"})
            yield Result(name, machine, cells.get("job_id", ""), stem(cells.get("pipeline_file", "")), seconds, steps)
        elif "num_ranks" in cells and ("total_time" in cells or "total" in cells):
            key, script = ("total_time", "train") if "total_time" in cells else ("total", "infer")
            machine = (root.absolute() / name).parent.name
            result = Result(name, machine, cells.get("index", ""), script, number_of(cells, key, where))
            result.reasons = cloudmask_reasons(result, cells, where)
            yield result


def as_number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number_of(cells: dict[str, str], column: str, where: str) -> float:
    value = as_number(cells.get(column, ""))
    if value is None or value < 0:
        raise KitError(f"{where}: column '{column}': a number of 0 or more is needed, got {cells.get(column, '')[:100]!r}")
    return value


def own_reasons(result: Result) -> Iterator[tuple[str, str]]:
    """What speaks against a result of RELION by itself."""
    if not result.job or "/" in result.job:
        named = f"the path {result.job}" if result.job else "no id"
        yield "path-as-id", f"the job has {named}: which job of the machine it was cannot be told"
    if result.script in ("train", "infer"):
        return
    if result.seconds < known().total.floor:
        best = known().total.fastest.get(result.script)
        record = f"; the fastest on record took {best:,.0f} s" if best else ""
        yield "too-fast", f"{result.seconds:,.1f} s in all, where no such job takes under {known().total.floor:g} s{record}"
    heavy = [step for step in result.steps if step.name in known().steps]
    if not heavy:
        yield "not-run", "no step that computes is in it"
    for step in heavy:
        floor = known().steps[step.name].floor
        if step.seconds < floor:
            yield "not-run", f"{step.name} took {step.seconds:,.1f} s, where it needs {floor:g} s at least"
    earlier: list[Step] = []
    for step in result.steps:
        missing = [name for name in expected(result.script, step.name) if name not in step.values]
        if missing:
            yield "no-metric", f"{step.name} left no {', '.join(missing)}"
        same = next((other for other in earlier if step.values and other.values == step.values), None)
        if same:
            yield "copied-value", f"{step.name} reports the values of {same.name}"
        earlier.append(step)


def expected(script: str, step: str) -> list[str]:
    """The measures that a step has to leave."""
    of_script = next((names for part, names in known().classifications.items() if script.lower().startswith(part)), None)
    return of_script if of_script and step.startswith("relion_refine") else known().metrics.get(step, [])


def compare(found: list[Result]) -> None:
    """Adds a reason to each result with a value that another has to the last digit."""
    where: dict[tuple[str, str, float], set[int]] = {}
    for index, result in enumerate(found):
        for step, (name, value) in itertools.chain.from_iterable(
            zip(itertools.repeat(s), s.values.items()) for s in result.steps
        ):
            if name not in known().shared.names and digits(value) >= known().shared.digits:
                where.setdefault((step.name, name, value), set()).add(index)
    for (step_name, name, value), indices in where.items():
        jobs = {(found[index].machine, found[index].job) for index in indices}
        if len(jobs) > 1:
            machines = len({machine for machine, _ in jobs})
            text = f"{step_name}: {name} is {value!r} in {len(jobs)} jobs on {machines} machine{'s' * (machines > 1)}"
            for index in indices:
                found[index].reasons.append(("same-value", text))


def digits(value: float) -> int:
    """The significant digits of a number as it is written."""
    return len(re.sub(r"e.*|[^0-9]", "", repr(value)).strip("0"))


def cloudmask_reasons(result: Result, cells: dict[str, str], where: str) -> list[tuple[str, str]]:
    """What speaks against a training or an inference of CloudMask."""
    reasons = []
    ranks = number_of(cells, "num_ranks", where)
    if result.script == "infer":
        reasons.append(("no-metric", "inference left no accuracy"))
    elif ranks > 1:
        reasons.append(("one-rank", f"test_accuracy is that of rank 0, which scored 1/{ranks:g} of the test set"))
    pairs = {
        "train": ("imgs_per_s_second_epoch", "second_epoch_train_time", known().cloudmask.patches),
        "infer": ("imgs_per_s", "total", known().cloudmask.inference_patches),
    }
    rate, time, count = pairs[result.script]
    speed, seconds = as_number(cells.get(rate, "")), as_number(cells.get(time, ""))
    if speed is not None and seconds is not None and math.isclose(speed * seconds, count, rel_tol=1e-6):
        reasons.append(("throughput", f"{rate} is {count:,} over {time}: patches, and not those that were worked on then"))
    said = cells.get("system", "").lower()
    if said in MACHINES and result.machine in MACHINES and said != result.machine:
        reasons.append(("other-machine", f"it says {cells['system']}, and lies among the results of {result.machine}"))
    return reasons


MACHINES = ("pearl", "scarf", "clx", "icx")  # the folders below runs/


def counts(found: Iterable[Result]) -> dict[str, int]:
    """How many results each rule speaks against."""
    count = dict.fromkeys(RULES, 0)
    for result in found:
        for rule in {rule for rule, _ in result.reasons}:
            count[rule] += 1
    return count


def as_json(history: History) -> dict[str, Any]:
    shown = [
        {**asdict(result), "verdict": result.verdict, "reasons": [{"rule": r, "text": text} for r, text in result.reasons]}
        for result in history.results
    ]
    return {
        "results": shown,
        "repeated": history.repeated,
        "rules": {
            rule: {"verdict": RULES[rule][0], "what": RULES[rule][1], "results": n}
            for rule, n in counts(history.results).items()
        },
        "problems": history.problems,
    }


def report(history: History) -> str:
    """A row a result with its reasons under it, and how many results each rule speaks against."""
    rows: list[tuple[object, ...]] = []
    for result in history.results:
        first = (result.verdict, result.machine, result.job or "-", result.script, f"{result.seconds:,.0f}")
        texts = [text for _, text in result.reasons] or [""]
        rows += [(*(first if text is texts[0] else [""] * 5), text) for text in texts]
    listed = table(rows, "llllrl", ["verdict", "machine", "job", "script", "seconds", "reason"])
    count = counts(history.results)
    rules = table([(count[rule], rule, what, verdict) for rule, (verdict, what) in RULES.items() if count[rule]], "rlll")
    verdicts = [result.verdict for result in history.results]
    summary = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (IMPOSSIBLE, UNPROVEN, PLAUSIBLE))
    repeated = f"; {history.repeated} rows of tables repeat one of them" if history.repeated else ""
    return f"{listed}\n\n{len(history.results)} results: {summary}{repeated}\n{rules}".rstrip()
