"""Does what a submission carries of a STEMDL run agree with itself? What can be computed again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.files import read_table
from kit.core.schema import shortened
from kit.stages.stemdl.network import dense_parameters, resnet_parameters
from kit.stages.stemdl.statistics import BASELINES, CLASSIFIERS, density_conclusions, group_conclusions, tables
from kit.training import judge

SCORE, TRAIN, RECONSTRUCT = "score/score.json", "train/train.json", "reconstruct/train.json"
# Of a file that somebody sends: draws and sums of so many take less than a gigabyte. STFC's test split has about 300.
MOST_UNITS = 25_000
MOST_SUMS = 2_500_000  # units times classes
SUMS = ("network", "mean", "spread", "correlation", "stacks")


def contradictions(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of files of a run by their names, of which some may be missing.

    All scores of the space groups follow from the counts of each material, those of the densities from its sums; the
    parameters of a network from its depth and width. Trainings and score are of the same classes, and of other materials.
    """
    tables = {}
    for name, of in ((SCORE, of_score), (TRAIN, of_train), (RECONSTRUCT, of_reconstruct)):
        if name in files:
            try:
                tables[name] = read_table(files[name])
                yield from ((name, problem) for problem in of(tables[name]))
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                tables.pop(name, None)
                yield name, f"is not what a run leaves: {shortened(error)}"
    if SCORE in tables:
        for name in (TRAIN, RECONSTRUCT):
            try:
                yield from ((name, problem) for problem in together(tables.get(name, {}), tables[SCORE]))
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                yield name, f"is not what a run leaves: {shortened(error)}"


def together(trained: dict[str, Any], score: dict[str, Any]) -> Iterator[str]:
    """What a training and the score can only say together. A training that did not take place says nothing."""
    if trained and trained.get("trained") is not False:
        if "labels" in trained and trained["labels"] != score["labels"]:
            yield f"labels is {trained['labels']!r}, but {SCORE} has {score['labels']!r}"
        for split in ("training", "validation"):
            met = sorted(set(trained[f"{split}_materials"]) & set(score["testing_materials"]))
            if met:
                yield f"{split}_materials has test materials of {SCORE}: {', '.join(met[:5])}"


def of_score(said: dict[str, Any]) -> Iterator[str]:
    groups, labels = said["groups"], said["labels"]
    units = groups["per_unit"]
    if not 0 < len(units) <= MOST_UNITS:
        yield f"has {len(units)} materials, where 1 to {MOST_UNITS} are expected"
        return
    if labels != sorted(set(labels)) or not all(isinstance(label, int) and 1 <= label <= 230 for label in labels):
        yield "labels are no list of space groups, each once, in their order"
        return
    if len(units) * len(labels) > MOST_SUMS:
        yield f"has {len(units)} materials of {len(labels)} classes, more than {MOST_SUMS} sums"
        return
    counts = [count for unit in units.values() for who in CLASSIFIERS for count in unit[who].values()]
    if any(not isinstance(count, int) or count < 1 for count in counts):
        yield "groups.per_unit holds what is no count of stacks"
        return
    actual = {who: tables(units, labels, who)[1][1] for who in CLASSIFIERS}
    if any((actual[who] != actual["network"]).any() for who in CLASSIFIERS):
        yield "groups.per_unit: network and baselines are not of the same stacks"
        return
    of_classes = {str(label): int(number) for label, number in zip(labels, actual["network"].sum(axis=0), strict=True)}
    if said["classes"]["testing"] != of_classes:
        yield f"classes.testing is {said['classes']['testing']}, but groups.per_unit come to {of_classes}"
    present = [number for number in said["classes"]["training"].values() if number]
    if said["imbalance"] != max(present) / min(present):
        yield f"imbalance is {said['imbalance']!r}, but the classes of training say {max(present) / min(present)!r}"
    if said["materials_known"] and set(said["testing_materials"]) != set(units):
        yield "testing_materials are not those of groups.per_unit"
    for label, found, again in judge.differing(
        groups, {**group_conclusions(units, labels), **own_separation(groups)}, "groups"
    ):
        yield f"{label} is {found!r}, but the counts of its materials say {again!r}"
    if said["density"]["stacks"]:
        yield from of_density(said["density"], actual["network"].sum(axis=1), list(units))


def own_separation(groups: dict[str, Any]) -> dict[str, float]:
    """The separation that the intervals of the file itself say: other draws move it with them, and a gate is on it."""
    high = max(groups[name]["f1_interval"][1] for name in BASELINES)
    return {"separation": groups["network"]["f1_interval"][0] - high}


def of_density(said: dict[str, Any], stacks: np.ndarray[Any, Any], names: list[str]) -> Iterator[str]:
    """Of the densities, whose materials and numbers of stacks are those of the space groups."""
    units = said["per_unit"]
    if list(units) != names or [unit["stacks"] for unit in units.values()] != stacks.tolist():
        yield "density.per_unit is not of the stacks of groups.per_unit"
        return
    sums = np.array([[unit[key] for key in SUMS] for unit in units.values()], float)
    if not np.isfinite(sums).all() or (sums[:, :3] < 0).any() or (np.abs(sums[:, 3]) > sums[:, 4] + 1e-9).any():
        yield "density.per_unit holds what is no sum of squares or of correlations"
        return
    for label, found, again in judge.differing(said, density_conclusions(units), "density"):
        yield f"{label} is {found!r}, but the sums of its materials say {again!r}"


def of_train(said: dict[str, Any]) -> Iterator[str]:
    yield from judge.contradictions(said, metric="val_f1")
    if said["parameters"] != (wanted := resnet_parameters(said["depth"], said["width"], len(said["labels"]))):
        yield f"parameters is {said['parameters']!r}, but depth, width and labels say {wanted}"


def of_reconstruct(said: dict[str, Any]) -> Iterator[str]:
    if said.get("trained") is False:
        return
    yield from judge.contradictions(said, metric="val_correlation")
    if said["parameters"] != (wanted := dense_parameters(said["growth"], said["blocks"])):
        yield f"parameters is {said['parameters']!r}, but growth and blocks say {wanted}"
