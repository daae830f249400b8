"""Scores against scikit-learn's, baselines, and what a submission carries: each edited number contradicts its counts."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics, neighbors

from kit.benchmarks.stemdl import consistency
from kit.benchmarks.stemdl.consistency import RECONSTRUCT, SCORE, TRAIN, contradictions
from kit.stages.stemdl.network import dense_parameters, resnet_parameters
from kit.stages.stemdl.score import count_units, nearest, radial_profiles
from kit.stages.stemdl.statistics import (
    CLASSIFIERS,
    DRAWS,
    classification,
    density_conclusions,
    draws,
    group_conclusions,
    strata,
    system,
    tables,
)

Table = dict[str, Any]
LABELS = [122, 167, 216, 225]


def called(rng: np.random.Generator, actual: np.ndarray[Any, Any], right: float) -> np.ndarray[Any, Any]:
    return np.where(rng.random(len(actual)) < right, actual, rng.choice(LABELS, len(actual)))


def predictions() -> tuple[list[str], np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    """Eight materials of three of four classes: no stack of 122 is in the test split."""
    rng = np.random.default_rng(1)
    units = [f"material {number // 10}" for number in range(90)]
    actual = np.array([LABELS[1 + (number // 10) % 3] for number in range(90)])
    who = {"network": called(rng, actual, 0.7), "radial": called(rng, actual, 0.3), "majority": np.full(90, 225)}
    return units, actual, who


def test_scores_are_scikit_learns() -> None:
    units, actual, who = predictions()
    found = group_conclusions(count_units(units, actual, who), LABELS)
    for name in CLASSIFIERS:
        f1 = metrics.f1_score(actual, who[name], labels=LABELS, average="macro", zero_division=0)
        assert found[name]["f1"] == pytest.approx(f1)
        assert found[name]["accuracy"] == pytest.approx(metrics.accuracy_score(actual, who[name]))
        low, high = found[name]["f1_interval"]
        assert low <= found[name]["f1"] + 0.02
        assert high >= found[name]["f1"] - 0.02
    each = metrics.f1_score(actual, who["network"], labels=LABELS, average=None, zero_division=0)
    assert [entry["f1"] for entry in found["per_class"].values()] == pytest.approx(each)
    assert found["per_class"]["122"]["stacks"] == 0
    wanted = metrics.accuracy_score([system(a) for a in actual], [system(c) for c in who["network"]])
    assert found["system_accuracy"] == pytest.approx(wanted)
    assert found["margin"] == pytest.approx(found["network"]["f1"] - found["radial"]["f1"])
    table = metrics.confusion_matrix(actual, who["network"], labels=LABELS)
    assert classification(table.astype(float))["f1"] == pytest.approx(found["network"]["f1"])


def test_memory_grows_with_units_times_classes_not_with_matrices() -> None:
    """4,000 units of 230 classes: their matrices would be 1.7 GB for each classifier."""
    labels = list(range(1, 231))
    units = {f"m{n}": {who: {f"{1 + n % 230}>{1 + n % 7}": 1} for who in CLASSIFIERS} for n in range(4000)}
    table, sums = tables(units, labels, "network")
    assert table.sum() == 4000
    assert all(each.shape == (4000, 230) for each in sums)
    right, actual, of_called = (each.sum(axis=0) for each in sums)
    assert (np.diagonal(table) == right).all()
    assert (table.sum(axis=1) == actual).all()
    assert (table.sum(axis=0) == of_called).all()


def forged(table: Table, materials: int, classes: int) -> None:
    unit = {who: {"1>1": 1} for who in CLASSIFIERS}
    table.update(labels=list(range(1, classes + 1)))
    table["groups"].update(per_unit=dict.fromkeys(map(str, range(materials)), unit))


def test_more_than_fits_into_memory_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "tables", None)  # what would be called to count
    for materials, classes, said in ((25_001, 1, "has 25001 materials"), (20_000, 230, "20000 materials of 230 classes")):
        ((_, problem),) = found(tmp_path, SCORE, functools.partial(forged, materials=materials, classes=classes))
        assert said in problem


def test_a_class_that_is_never_seen_counts_in_the_mean() -> None:
    """The list of labels is fixed: an F1 over the classes that happen to occur would be higher."""
    units, actual, who = predictions()
    found = group_conclusions(count_units(units, actual, {**who, "network": actual}), LABELS)
    assert found["network"]["accuracy"] == 1.0
    assert found["network"]["f1"] == 0.75


def test_draws_are_within_strata_and_narrow_with_more_materials() -> None:
    taken = draws(["a"] * 3 + ["b"] * 5)
    assert taken.shape == (DRAWS, 8)
    assert (taken[:, :3].sum(axis=1) == 3).all()
    assert (taken[:, 3:].sum(axis=1) == 5).all()
    assert taken[:, 0].mean() == pytest.approx(1, abs=0.1)

    def width(materials: int) -> float:
        rng = np.random.default_rng(5)
        units = [f"m{number // 4}" for number in range(4 * materials)]
        actual = np.array([LABELS[(number // 4) % 4] for number in range(4 * materials)])
        who = {"network": called(rng, actual, 0.6), "radial": actual, "majority": actual}
        low, high = group_conclusions(count_units(units, actual, who), LABELS)["network"]["f1_interval"]
        return float(high - low)

    assert width(160) < 0.6 * width(20)


def test_units_that_are_alone_in_their_stratum_are_drawn_together() -> None:
    """The only material of a class, and those of several, would else be in each draw, and intervals have no width."""
    assert strata(np.array([[4, 0], [4, 0], [0, 2], [0, 2]])) == ["0", "0", "1", "1"]
    found = strata(np.array([[4, 0, 0], [0, 3, 0], [4, 0, 0], [2, 0, 2], [0, 0, 1]]))
    assert found == ["0", "pooled", "0", "pooled", "pooled"]
    for actual in (np.arange(16) // 4, np.arange(16) % 4):
        labels = np.array(LABELS)
        who = {"network": labels[(actual + (np.arange(16) < 5)) % 4], "radial": labels[actual], "majority": labels[actual]}
        units = count_units([f"m{number // 4}" for number in range(16)], labels[actual], who)
        low, high = group_conclusions(units, LABELS)["network"]["f1_interval"]
        assert high - low > 0.1


def test_systems_of_the_space_groups() -> None:
    found = [system(number) for number in (1, 3, 16, 75, 143, 168, 195, 230)]
    assert found == ["triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic", "cubic"]


def test_radial_profiles_are_means_of_rings_and_do_not_see_turns() -> None:
    images = np.random.default_rng(1).random((4, 17, 17, 3))
    found = radial_profiles(images)
    assert found.shape == (4, 8 * 3)
    axis = np.arange(17) - 8
    ring = np.rint(np.hypot(axis[:, None], axis[None, :])) == 3
    assert found.reshape(4, 8, 3)[2, 3, 1] == pytest.approx(images[2, ..., 1][ring].mean())
    assert radial_profiles(np.rot90(images, axes=(1, 2)).copy()) == pytest.approx(found, rel=1e-5)


def test_nearest_is_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    known, asked = rng.normal(size=(300, 12)).astype(np.float32), rng.normal(size=(600, 12)).astype(np.float32)
    classes = rng.choice(LABELS, 300)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    one = neighbors.KNeighborsClassifier(1).fit((known - mean) / deviation, classes)
    assert (nearest(known, classes, asked) == one.predict((asked - mean) / deviation)).mean() > 0.995


def test_density_errors_are_of_the_spread_about_the_mean() -> None:
    """The truth has error 0, the mean of training about 1, and margin and correlation follow."""
    units = {f"m{n}": {"network": 0.0, "mean": 10.0, "spread": 10.0, "correlation": 4.0, "stacks": 4.0} for n in range(5)}
    found = density_conclusions(units)
    assert (found["error"], found["error_mean"], found["margin"], found["correlation"]) == (0.0, 1.0, 1.0, 1.0)
    rng = np.random.default_rng(3)
    truth, drawn = rng.normal(2, 1, (8, 500)), rng.normal(2, 1, (8, 500))
    sums = {
        f"m{n}": {
            "network": float(((a - b) ** 2).sum()),
            "mean": float(((a - 2) ** 2).sum()),
            "spread": float(((a - 2) ** 2).sum()),
            "correlation": float(np.corrcoef(a, b)[0, 1]),
            "stacks": 1.0,
        }
        for n, (a, b) in enumerate(zip(truth, drawn, strict=True))
    }
    found = density_conclusions(sums)
    r2 = metrics.r2_score(truth.ravel(), drawn.ravel())
    assert 1 - found["error"] ** 2 == pytest.approx(r2, abs=1e-3)
    assert found["margin"] < 0


def test_parameters_of_the_published_network() -> None:
    """ResNet-50 for 1000 classes has 25,557,032 (He et al.; torchvision's), and 53,120 moving averages."""
    assert resnet_parameters(50, 64, 1000) == 25_557_032 + 53_120
    assert resnet_parameters(26, 64, 1000) < resnet_parameters(50, 64, 1000)


def scored() -> Table:
    units, actual, who = predictions()
    per_unit = count_units(units, actual, who)
    sums = {"network": 3.0, "mean": 9.0, "spread": 10.0, "correlation": 7.0, "stacks": 10.0}
    densities = {name: {**sums, "network": 3.0 + number} for number, name in enumerate(per_unit)}
    testing = {str(label): int((actual == label).sum()) for label in LABELS}
    training = {"122": 40, "167": 20, "216": 30, "225": 80}
    return {
        "labels": LABELS,
        "classes": {"training": training, "testing": testing},
        "imbalance": 4.0,
        "materials_known": True,
        "testing_materials": list(per_unit),
        "groups": {**group_conclusions(per_unit, LABELS), "per_unit": per_unit},
        "density": {**density_conclusions(densities), "per_unit": densities},
    }


def trained(metric: str, **facts: Any) -> Table:
    clocks = {"input": 1.0, "compute": 8.0, "exchange": 1.0}
    target = {"target": 0.9, "target_reached": 0, "target_best": 0.87, f"val_{metric}": 0.86}
    measured = {"samples_per_second": 2.0, "peak_memory_gb": 0.7, "seconds": 10.0}
    materials = {"training_materials": ["other", "another"], "validation_materials": ["third"]}
    return {"warm_seconds": clocks, "input_share": 0.1, **target, **measured, **materials, **facts}


WRITTEN: dict[str, Callable[[], Table]] = {
    SCORE: scored,
    TRAIN: lambda: trained("f1", depth=14, width=16, labels=LABELS, parameters=resnet_parameters(14, 16, 4)),
    RECONSTRUCT: lambda: trained("correlation", growth=8, blocks=4, parameters=dense_parameters(8, 4)),
}


def found(tmp_path: Path, name: str, change: Callable[[Table], object] | None = None) -> list[tuple[str, str]]:
    table = copy.deepcopy(WRITTEN[name]())
    if change:
        change(table)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(table))
    return list(contradictions({name: path}))


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_run_leaves_agrees(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, name) == []


def test_a_reconstruction_that_was_not_trained_agrees(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"trained": False, "reason": "the data have no densities"}))
    assert list(contradictions({RECONSTRUCT: path})) == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SCORE, lambda t: t["groups"]["network"].update(f1=0.99), "groups.network.f1 is 0.99"),
        (SCORE, lambda t: t["groups"]["network"].update(f1=float("nan")), "groups.network.f1 is nan"),
        (SCORE, lambda t: t["groups"]["network"].update(accuracy=0.99), "groups.network.accuracy is 0.99"),
        (SCORE, lambda t: t["groups"]["radial"].update(f1=0.01), "groups.radial.f1 is 0.01"),
        (SCORE, lambda t: t["groups"]["network"].update(f1_interval=[0.9, 0.95]), "groups.network.f1_interval is"),
        (SCORE, lambda t: t["groups"].update(margin=0.5), "groups.margin is 0.5"),
        (SCORE, lambda t: t["groups"].update(margin_interval=[0.5, 0.6]), "groups.margin_interval is"),
        (SCORE, lambda t: t["groups"].update(separation=0.5), "groups.separation is 0.5"),
        (SCORE, lambda t: t["groups"].update(separation=t["groups"]["separation"] + 1e-6), "groups.separation is"),
        (SCORE, lambda t: t["groups"].update(best_baseline="majority"), "groups.best_baseline is 'majority'"),
        (SCORE, lambda t: t["groups"].update(system_accuracy=1.0), "groups.system_accuracy is 1.0"),
        (SCORE, lambda t: t["groups"]["per_class"]["225"].update(f1=1.0), "groups.per_class.225.f1 is 1.0"),
        (SCORE, lambda t: t["groups"].update(stacks=900), "groups.stacks is 900"),
        (SCORE, lambda t: t["testing_materials"].pop(), "testing_materials are not those of groups.per_unit"),
        (SCORE, lambda t: t.update(imbalance=1.0), "imbalance is 1.0"),
        (SCORE, lambda t: t["classes"]["testing"].update({"225": 1}), "classes.testing is"),
        (SCORE, lambda t: t.update(labels=LABELS[1:]), "is not what a run leaves"),
        (SCORE, lambda t: t.update(labels=[*LABELS, 400]), "labels are no list of space groups"),
        (SCORE, lambda t: t["groups"].update(per_unit={}), "has 0 materials"),
        (SCORE, lambda t: t["groups"].pop("per_unit"), "is not what a run leaves"),
        (SCORE, lambda t: t["groups"]["per_unit"]["material 0"]["network"].update({"167>167": -3}), "no count of stacks"),
        (
            SCORE,
            lambda t: t["groups"]["per_unit"]["material 0"]["network"].update({"167>167": 30}),
            "not of the same stacks",
        ),
        (SCORE, lambda t: t["density"].update(error=0.1), "density.error is 0.1"),
        (SCORE, lambda t: t["density"].update(correlation=0.99), "density.correlation is 0.99"),
        (SCORE, lambda t: t["density"].update(margin=0.9), "density.margin is 0.9"),
        (SCORE, lambda t: t["density"].update(margin_interval=[0.9, 1.0]), "density.margin_interval is"),
        (SCORE, lambda t: t["density"]["per_unit"].pop("material 3"), "density.per_unit is not of the stacks"),
        (SCORE, lambda t: t["density"]["per_unit"]["material 3"].update(stacks=11), "density.per_unit is not of the stacks"),
        (SCORE, lambda t: t["density"]["per_unit"]["material 3"].update(correlation=11), "no sum of squares"),
        (SCORE, lambda t: t["density"]["per_unit"]["material 3"].update(network=-1), "no sum of squares"),
        (TRAIN, lambda t: t.update(parameters=1), "parameters is 1, but depth, width and labels say"),
        (TRAIN, lambda t: t.update(depth=13), "is not what a run leaves"),
        (TRAIN, lambda t: t.update(input_share=0.01), "input_share is 0.01"),
        (TRAIN, lambda t: t.update(target_reached=1), "target_reached is 1"),
        (TRAIN, lambda t: t.update(val_f1=0.95), "val_f1 is 0.95"),
        (RECONSTRUCT, lambda t: t.update(parameters=1), "parameters is 1, but growth and blocks say"),
        (RECONSTRUCT, lambda t: t.update(val_correlation=0.95), "val_correlation is 0.95"),
        (RECONSTRUCT, lambda t: t.update(samples_per_second=-1), "samples_per_second is -1"),
    ],
)
def test_number_that_was_edited(tmp_path: Path, name: str, change: Callable[[Table], object], said: str) -> None:
    problems = found(tmp_path, name, change)
    assert {file for file, _ in problems} == {name}
    assert any(said in problem for _, problem in problems), problems


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (TRAIN, lambda _: None, ""),
        (TRAIN, lambda t: t.update(labels=[1, *LABELS[1:]]), "labels is [1, 167, 216, 225], but score/score.json has"),
        (TRAIN, lambda t: t["training_materials"].append("material 3"), "training_materials has test materials"),
        (RECONSTRUCT, lambda t: t["validation_materials"].append("material 3"), "score/score.json: material 3"),
        (RECONSTRUCT, lambda t: t.pop("training_materials"), "is not what a run leaves"),
    ],
)
def test_trainings_are_of_the_classes_of_the_score_and_of_other_materials(
    tmp_path: Path, name: str, change: Callable[[Table], object], said: str
) -> None:
    files = {}
    for number, (file, make) in enumerate(WRITTEN.items()):
        table = copy.deepcopy(make())
        if file == name:
            change(table)
        files[file] = tmp_path / f"{number}.json"
        files[file].write_text(json.dumps(table))
    problems = list(contradictions(files))
    assert [file for file, _ in problems] == ([name] if said else [])
    assert all(said in problem for _, problem in problems), problems
