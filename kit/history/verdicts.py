"""What speaks against a result of the ancestor, by what is known of the work (e2e.toml)."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path

from kit.core.files import read_toml
from kit.core.schema import Model, parse
from kit.history.results import Result, Step, as_number

MACHINES = ("pearl", "scarf", "clx", "icx")  # folders below runs/

# Columns of a throughput of CloudMask and of the time that it was divided by, and what is wrong with the patches in it.
RATES = {
    "train": ("imgs_per_s_second_epoch", "second_epoch_train_time", "those of the test set too, which took other time"),
    "infer": ("imgs_per_s", "total", "20 a scene, of 63 that are worked on"),
}

# What a reason makes of a result: it cannot have been, or nothing shows that it was.
IMPOSSIBLE, UNPROVEN, PLAUSIBLE = "impossible", "unproven", "plausible"
RULES = {
    "too-fast": (IMPOSSIBLE, "finished too fast for its work"),
    "not-run": (IMPOSSIBLE, "a step that computes cannot have run"),
    "bad-value": (IMPOSSIBLE, "a value lies outside of what it can be"),
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


class Known(Model):
    """What is known of the work; units and sources stand in e2e.toml."""

    total: Total
    steps: dict[str, Floor]
    metrics: dict[str, list[str]]
    classifications: dict[str, list[str]]
    bounds: dict[str, tuple[float, float]]
    shared: Shared
    patches: dict[str, int]


@functools.cache
def known() -> Known:
    path = Path(__file__).with_name("e2e.toml")
    return parse(Known, read_toml(path), path)


Reason = tuple[str, str]  # a rule, and what it found


def judge(results: list[Result]) -> list[list[Reason]]:
    """The reasons that speak against each result."""
    reasons = [[*of_one(result)] for result in results]
    for index, reason in of_all(results):
        reasons[index].append(reason)
    return reasons


def verdict(reasons: list[Reason]) -> str:
    found = {RULES[rule][0] for rule, _ in reasons}
    return next((word for word in (IMPOSSIBLE, UNPROVEN) if word in found), PLAUSIBLE)


def of_one(result: Result) -> Iterator[Reason]:
    """What speaks against a result by itself."""
    if not result.job or "/" in result.job:
        named = f"the path {result.job}" if result.job else "no id"
        yield "path-as-id", f"the job has {named}: which job of the machine it was cannot be told"
    if result.cells:
        yield from of_cloudmask(result)
        return
    total = known().total
    if result.seconds < total.floor:
        best = total.fastest.get(result.script)
        record = f"; the fastest on record took {best:,.0f} s" if best else ""
        yield "too-fast", f"{result.seconds:,.1f} s in all, where no such job takes under {total.floor:g} s{record}"
    if not any(step.name in known().steps for step in result.steps):
        yield "not-run", "no step that computes is in it"
    for index, step in enumerate(result.steps):
        yield from of_step(result, step, result.steps[:index])


def of_step(result: Result, step: Step, earlier: list[Step]) -> Iterator[Reason]:
    if step.name in known().steps and step.seconds < (floor := known().steps[step.name].floor):
        yield "not-run", f"{step.name} took {step.seconds:,.1f} s, where it needs {floor:g} s at least"
    for name, (least, most) in known().bounds.items():
        value = step.values.get(name, least)
        if not least <= value <= most:
            yield "bad-value", f"{step.name}: {name} is {value:,.6g}, where it lies from {least:g} to {most:g}"
    missing = [name for name in expected(result.script, step.name) if name not in step.values]
    if missing:
        yield "no-metric", f"{step.name} left no {', '.join(missing)}"
    same = next((other for other in earlier if step.values and other.values == step.values), None)
    if same:
        yield "copied-value", f"{step.name} reports the values of {same.name}"


def expected(script: str, step: str) -> list[str]:
    """The measures that a step has to leave."""
    of_script = next((names for part, names in known().classifications.items() if script.lower().startswith(part)), None)
    return of_script if of_script and step.startswith("relion_refine") else known().metrics.get(step, [])


def of_all(results: list[Result]) -> Iterator[tuple[int, Reason]]:
    """For each result with a value that another has to the last digit, its index and the reason."""
    where: dict[tuple[str, str, float], set[int]] = {}
    for index, result in enumerate(results):
        for step in result.steps:
            for name, value in step.values.items():
                if name not in known().shared.names and digits(value) >= known().shared.digits:
                    where.setdefault((step.name, name, value), set()).add(index)
    for (step_name, name, value), indices in where.items():
        machines = len({results[index].machine for index in indices})
        on = "one machine" if machines == 1 else f"{machines} machines"
        if len(indices) > 1:
            for index in sorted(indices):
                yield index, ("same-value", f"{step_name}: {name} is {value!r} in {len(indices)} results of {on}")


def digits(value: float) -> int:
    """The significant digits of a number as it is written."""
    return len(re.sub(r"e.*|[^0-9]", "", repr(value)).strip("0"))


def of_cloudmask(result: Result) -> Iterator[Reason]:
    """What speaks against a training or an inference of CloudMask."""
    cells = result.cells
    ranks = as_number(cells["num_ranks"])
    if result.script == "infer":
        yield "no-metric", "inference left no accuracy"
    elif ranks != 1:
        share = f"1/{ranks:g}" if ranks else "an unknown share"
        yield "one-rank", f"test_accuracy is that of the first rank, which scored {share} of the test set"
    rate, time, wrong = RATES[result.script]
    speed, seconds, patches = as_number(cells.get(rate, "")), as_number(cells.get(time, "")), known().patches[result.script]
    if speed is not None and seconds is not None and math.isclose(speed * seconds, patches, rel_tol=1e-6):
        yield "throughput", f"{rate} counts {patches:,} patches in {time}: {wrong}"
    said = cells.get("system", "").lower()
    if said in MACHINES and result.machine in MACHINES and said != result.machine:
        yield "other-machine", f"it says {cells['system']}, and lies among the results of {result.machine}"
