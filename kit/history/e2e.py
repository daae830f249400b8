"""The results of the ancestor, github.com/stfc-sciml/e2e, read and judged: which of them can be what they say?

It kept a metrics.json a job (case1/runs/MACHINE/job_ID/), tables made from these (case1/runs/*.csv) and, of CloudMask,
tables of trainings and inferences (case2/runs/MACHINE/*_analysis.csv). None of them says whether its job ended well, so
that each is held here against what is known of the work. None becomes a result of the kit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.tables import table
from kit.history.results import METRICS, Result, names, results
from kit.history.verdicts import IMPOSSIBLE, PLAUSIBLE, RULES, UNPROVEN, Reason, judge, verdict


@dataclass
class History:
    """All results below a folder, each with the `reasons` that speak against it.

    `repeated` rows of tables only repeat a metrics.json; `problems` are files that cannot be read.
    """

    results: list[Result] = field(default_factory=list)
    reasons: list[list[Reason]] = field(default_factory=list)
    repeated: int = 0
    problems: list[str] = field(default_factory=list)


def read(root: Path) -> History:
    """Every result below a folder, judged; a file that cannot be read hides none of the others.

    KitError where there is no folder, and where nothing in it can be a result.
    """
    if not root.is_dir():
        raise KitError(f"{root}: no folder; a clone of github.com/stfc-sciml/e2e, or a part of it, is needed")
    history = History()
    seen: set[tuple[str, float]] = set()
    found = sorted(names(root, history.problems))
    for name in [*filter(is_metrics, found), *(name for name in found if not is_metrics(name))]:
        try:
            for result in results(root, name):
                key = (result.machine, result.seconds)
                if not is_metrics(name) and key in seen:
                    history.repeated += 1
                else:
                    history.results.append(result)
                    seen |= {key} if is_metrics(name) else set()
        except KitError as error:
            history.problems.append(str(error))
    if not history.results and not history.problems:
        raise KitError(f"{root}: holds no {METRICS} and no table of results (*.csv)")
    history.reasons = judge(history.results)
    return history


def is_metrics(name: str) -> bool:
    return Path(name).name == METRICS


def counts(history: History) -> dict[str, int]:
    """How many results each rule speaks against."""
    return {rule: sum(any(rule == found for found, _ in reasons) for reasons in history.reasons) for rule in RULES}


def as_json(history: History) -> dict[str, Any]:
    def shown(result: Result, reasons: list[Reason]) -> dict[str, Any]:
        said = {key: value for key, value in asdict(result).items() if key != "cells"}
        return {**said, "verdict": verdict(reasons), "reasons": [{"rule": rule, "text": text} for rule, text in reasons]}

    count = counts(history)
    return {
        "results": [shown(*pair) for pair in zip(history.results, history.reasons, strict=True)],
        "rules": {rule: {"verdict": word, "what": what, "results": count[rule]} for rule, (word, what) in RULES.items()},
        "repeated": history.repeated,
        "problems": history.problems,
    }


def report(history: History) -> str:
    """A row a result with its reasons under each other, and how many results each rule speaks against."""
    rows: list[tuple[object, ...]] = []
    for result, reasons in zip(history.results, history.reasons, strict=True):
        first, *others = [text for _, text in reasons] or [""]
        rows.append((verdict(reasons), result.machine, result.job or "-", result.script, f"{result.seconds:,.0f}", first))
        rows += [("", "", "", "", "", text) for text in others]
    listed = table(rows, "llllrl", ["verdict", "machine", "job", "script", "seconds", "reason"])
    verdicts = [verdict(reasons) for reasons in history.reasons]
    summary = ", ".join(f"{verdicts.count(word)} {word}" for word in (IMPOSSIBLE, UNPROVEN, PLAUSIBLE))
    repeated = f"; {history.repeated} rows of tables repeat one of them" if history.repeated else ""
    count = counts(history)
    rules = [(count[rule], rule, word, what) for rule, (word, what) in RULES.items() if count[rule]]
    return f"{listed}\n\n{len(history.results)} results: {summary}{repeated}\n{table(rules, 'rlll')}".rstrip()
