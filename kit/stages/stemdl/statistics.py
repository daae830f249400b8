"""Scores from counts and sums, of which everything that is reported follows. NumPy alone.

A unit is what stands and falls together: a material. Intervals come from drawing units anew (bootstrap), within each
class, since patterns of one crystal are near to each other. Units that cannot be drawn so are drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DRAWS = 1000
CLASSIFIERS = ("network", "radial", "majority")
BASELINES = CLASSIFIERS[1:]
# The last space group of each crystal system (International Tables A).
SYSTEMS = {
    **{"triclinic": 2, "monoclinic": 15, "orthorhombic": 74, "tetragonal": 142},
    **{"trigonal": 167, "hexagonal": 194, "cubic": 230},
}


def system(space_group: int) -> str:
    """The crystal system of a space group."""
    return next(name for name, last in SYSTEMS.items() if space_group <= last)


def f1_scores(table: Array) -> Array:
    """F1 of each class, of confusion matrices (..., actual, called); 0 of a class that nobody was and nobody was called."""
    return f1_of_sums(np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-1), table.sum(axis=-2))


def f1_of_sums(right: Array, actual: Array, called: Array) -> Array:
    """F1 of each class, of the diagonal of a confusion matrix and the sums of its rows and columns."""
    both = actual + called
    return np.asarray(np.divide(2 * right, both, out=np.zeros_like(both, dtype=float), where=both > 0))


def classification(table: Array) -> dict[str, float]:
    """Macro F1 over all labels, and top-1 accuracy, of a confusion matrix."""
    return {"f1": float(f1_scores(table).mean()), "accuracy": float(np.trace(table) / table.sum())}


def tables(
    units: Mapping[str, Mapping[str, Mapping[str, int]]], labels: Sequence[int], who: str
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The confusion matrix (actual, called) of counts such as {"Si": {"network": {"227>225": 3}}}, and its diagonal and the
    sums of its rows and columns for each unit (units, classes): a matrix for each would be 42 GB of 230 classes and
    100,000 units.
    """
    place = {str(label): number for number, label in enumerate(labels)}
    whole = np.zeros((len(labels), len(labels)))
    sums = tuple(np.zeros((len(units), len(labels))) for _ in range(3))
    right, of_actual, of_called = sums
    for number, unit in enumerate(units.values()):
        for key, count in unit[who].items():
            actual, called = (place[text] for text in key.split(">"))
            whole[actual, called] += count
            right[number, actual] += count if actual == called else 0
            of_actual[number, actual] += count
            of_called[number, called] += count
    return whole, (right, of_actual, of_called)


def strata(actual: Array) -> list[str]:
    """The stratum of each unit, of its stacks of each class (units, classes): its class.

    Units of several classes, and the only one of a class, are one stratum: alone in its stratum, a unit is in every draw
    exactly once, and an interval of such units has no width.
    """
    several = (actual > 0).sum(axis=1) != 1
    classes = actual.argmax(axis=1)
    alone = np.bincount(classes[~several], minlength=actual.shape[1])[classes] < 2
    return ["pooled" if apart else str(number) for number, apart in zip(classes, several | alone, strict=True)]


def draws(strata: Sequence[Any], seed: int = 0) -> NDArray[np.int64]:
    """How often each unit is taken (draws, units), where units are drawn anew within each stratum."""
    rng = np.random.default_rng(seed)
    found = np.zeros((DRAWS, len(strata)), np.int64)
    names = np.array([str(stratum) for stratum in strata])
    for stratum in sorted(set(names.tolist())):
        where = np.flatnonzero(names == stratum)
        found[:, where] = rng.multinomial(len(where), np.full(len(where), 1 / len(where)), size=DRAWS)
    return found


def interval(values: Array) -> list[float]:
    """The 95 % interval of the values of all draws."""
    return [float(end) for end in np.percentile(values, [2.5, 97.5])]


def group_conclusions(units: Mapping[str, Mapping[str, Any]], labels: Sequence[int]) -> dict[str, Any]:
    """All that follows of the space groups from the counts of each unit."""
    by_unit = {who: tables(units, labels, who) for who in CLASSIFIERS}
    _, (_, actual, _) = by_unit["network"]
    taken = draws(strata(actual))
    drawn = {}
    for who, (_, sums) in by_unit.items():
        # In parts: the product makes the draws floating-point numbers, a copy of them.
        parts = [f1_of_sums(*(part @ each for each in sums)).mean(axis=-1) for part in np.array_split(taken, 50)]
        drawn[who] = np.concatenate(parts)
    whole = {who: table for who, (table, _) in by_unit.items()}
    found: dict[str, Any] = {
        who: {**classification(table), "f1_interval": interval(drawn[who])} for who, table in whole.items()
    }
    best = max(BASELINES, key=lambda name: found[name]["f1"])
    table = whole["network"]
    systems = np.array([system(label) for label in labels])
    same = systems[:, None] == systems[None, :]
    return {
        **found,
        "best_baseline": best,
        "margin": found["network"]["f1"] - found[best]["f1"],
        "margin_interval": interval(drawn["network"] - drawn[best]),
        "separation": found["network"]["f1_interval"][0] - max(found[name]["f1_interval"][1] for name in BASELINES),
        "system_accuracy": float((table * same).sum() / table.sum()),
        "per_class": {
            str(label): {"f1": float(f1), "stacks": int(number)}
            for label, f1, number in zip(labels, f1_scores(table), table.sum(axis=1), strict=True)
        },
        "stacks": int(table.sum()),
    }


def density_conclusions(units: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All that follows of the densities from the sums of each unit: error (squared, of network and mean), spread (of the
    truth about the mean of training), correlation (summed over stacks), and stacks.

    The error is sqrt(sum (found - true)^2 / sum (true - mean of training)^2): 0 of the truth, 1 of that constant.
    """
    rows = [[unit[key] for key in ("network", "mean", "spread", "correlation", "stacks")] for unit in units.values()]
    sums = np.asarray(rows, float)
    drawn = draws(["all"] * len(sums)) @ sums
    total = sums.sum(axis=0)
    margins = np.sqrt(drawn[:, 1] / drawn[:, 2]) - np.sqrt(drawn[:, 0] / drawn[:, 2])
    error, of_mean = (float(np.sqrt(total[place] / total[2])) for place in (0, 1))
    return {
        "error": error,
        "error_mean": of_mean,
        "margin": of_mean - error,
        "margin_interval": interval(margins),
        "correlation": float(total[3] / total[4]),
        "stacks": int(total[4]),
    }
