"""Does what a submission carries of a Uno run agree with itself? What can be computed again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.files import read_table
from kit.core.schema import shortened
from kit.training import judge

TRAIN, INFER, SCORE = "train/train.json", "answers/infer.json", "score/score.json"
MOST_GROUPS = 100_000
# By which what double precision sums up may differ from what follows exactly; its square, of squares.
ROUNDED = 1e-6


def contradictions(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of files of a run by their names, of which some may be missing.

    Scores follow from the sums of each drug or cell line; a loss and a correlation bind each other; and what two files say
    of one thing is one.
    """
    tables = {}
    for name in (TRAIN, INFER, SCORE):
        if name in files:
            try:
                tables[name] = read_table(files[name])
                yield from ((name, problem) for problem in CHECKS.get(name, nothing)(tables[name]))
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                tables.pop(name, None)
                yield name, f"is not what a run leaves: {shortened(error)}"
    try:
        yield from together(tables)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        yield SCORE, f"is not what a run leaves: {shortened(error)}"


def together(tables: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """What only two files together can say."""
    from kit.stages.uno.train import CENTRE

    for one, other, keys in ((SCORE, TRAIN, ["split"]), (INFER, SCORE, ["rows"]), (INFER, TRAIN, ["ranks", "backend"])):
        if one in tables and other in tables:
            for key in keys:
                if tables[one][key] != tables[other][key]:
                    yield one, f"{key} is {tables[one][key]!r}, but {other} has {tables[other][key]!r}"
    if TRAIN in tables and tables.get(SCORE, {}).get("per_group"):
        # The network starts at the mean of the training rows, which is the first of the baselines.
        first = tables[TRAIN]["first_answer"]
        mean = next(iter(tables[SCORE]["per_group"].values()))["mean"]
        if not abs(mean[3] / mean[2] + CENTRE - first) <= ROUNDED:
            yield (
                SCORE,
                f"the baseline mean answers {mean[3] / mean[2] + CENTRE:.9g}, but {TRAIN} has first_answer {first!r}",
            )


def nothing(said: dict[str, Any]) -> Iterator[str]:
    """Of a file that says nothing which follows from the rest of it."""
    return iter(())


def of_score(said: dict[str, Any]) -> Iterator[str]:
    from kit.stages.uno.score import BASELINES, conclusions
    from kit.stages.uno.train import CENTRE

    groups = said["per_group"]
    kind = "cell" if said["split"] == "cell" else "drug"
    if said["group"] != kind:
        yield f"group is {said['group']!r}, where a split by {said['split']} is scored by {kind}"
        return
    if not 0 < len(groups) <= MOST_GROUPS:
        yield f"has {len(groups)} groups, where 1 to {MOST_GROUPS} are expected"
        return
    rows = 0.0
    means = []
    for name, group in groups.items():
        tables = {answer: np.asarray(sums, dtype=float) for answer, sums in group.items()}
        if not {"network", *BASELINES} <= tables.keys() or any(t.shape != (8,) for t in tables.values()):
            yield f"per_group.{name} lacks sums of the network or of a baseline"
            return
        count = float(tables["network"][2])
        rows += count
        # All are held against the same measurements, which lie between 0 and 1.
        first = tables["network"][[2, 4, 6]]
        if any(np.abs(t[[2, 4, 6]] - first).max() > 1e-6 for t in tables.values()):
            yield f"per_group.{name}: its answers are not held against the same measurements"
            return
        if count < 1 or abs(first[1]) > CENTRE * count + 1e-6 or not 0 <= first[2] <= CENTRE**2 * count + 1e-6:
            yield f"per_group.{name} holds no sums of areas from 0 to 1"
            return
        # The sum of squared errors is made of the other sums, and no mean error is above its root.
        for answer, t in tables.items():
            squares = t[5] + t[6] - 2 * t[7]
            if abs(t[0] - squares) > 1e-6 * max(1.0, t[5]) or t[1] ** 2 > t[0] * count * (1 + 1e-6) + 1e-9:
                yield f"per_group.{name}.{answer}: its sums cannot be of one set of answers"
                return
            spread = t[5] / count - (t[3] / count) ** 2
            wanted = t[6] / count - (t[4] / count) ** 2
            both = t[7] / count - t[3] * t[4] / count**2
            least = ROUNDED**2 * max(1.0, t[5] / count)  # by which rounding moves a mean of squares
            # Cauchy and Schwarz: answers vary with what was measured no more than both vary.
            if spread < -least or wanted < -least or both**2 > (max(spread, 0) + least) * (max(wanted, 0) + least):
                yield f"per_group.{name}.{answer}: its sums cannot be of one set of answers"
                return
            # The mean of all, and that of the group's own drug or cell line, are one area each in a group.
            if answer in ("mean", f"{kind}_mean") and (spread > least or abs(t[3]) > (CENTRE + ROUNDED) * count):
                yield f"per_group.{name}.{answer}: its sums are not those of one mean of areas"
                return
        means.append(tables["mean"][3] / count)
        # No training row is of a drug (cell line) of the test in a split by them: the mean of all stands in.
        if said["split"] == kind and abs(tables[f"{kind}_mean"][3] / count - means[-1]) > ROUNDED:
            yield f"per_group.{name}.{kind}_mean is not the mean of all, but no {kind} of a test by {kind} has another"
            return
    if np.ptp(means) > ROUNDED:
        low, high = min(means) + CENTRE, max(means) + CENTRE
        yield f"per_group: the answer of mean is {low:.6g} to {high:.6g}, where it is one for all groups"
    if said["rows"] != rows:
        yield f"rows is {said['rows']!r}, but the groups have {rows:g}"
    for label, found, again in judge.differing(said, conclusions(groups)):
        yield f"{label} is {found!r}, but the sums of its groups say {again!r}"
    for kind, share in said["shared"].items():
        if not 0 <= share <= 1 or (kind == said["split"] and share > 0):
            yield f"shared.{kind} is {share!r} in a split by {said['split']}"


def of_train(said: dict[str, Any]) -> Iterator[str]:
    yield from judge.contradictions(said, metric="val_loss", higher=False)
    for prefix in ("", "val_"):
        r2, pearson = said[f"{prefix}r2"], said[f"{prefix}pearson"]
        # No answers explain more than the best line through them does.
        if prefix and not r2 <= pearson**2 + 1e-9:
            yield f"{prefix}r2 is {r2!r}, more than the square of {prefix}pearson, {pearson!r}"
        if prefix and not said[f"{prefix}mae"] ** 2 <= said[f"{prefix}loss"] * (1 + 1e-9):
            yield f"{prefix}mae is {said[f'{prefix}mae']!r}, more than the root of {prefix}loss, {said[f'{prefix}loss']!r}"
    for kind in ("cell", "drug"):
        both = set(said["used"]["training"][kind]) & set(said["used"]["validation"][kind])
        if said["split"] == kind and both:
            yield f"used: split by {kind}, but {len(both)} are in training and in validation"


CHECKS = {TRAIN: of_train, SCORE: of_score}
