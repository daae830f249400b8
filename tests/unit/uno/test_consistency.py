"""What a submission of Uno carries is computed again: each number edited alone contradicts what it was made of."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.benchmarks.uno.consistency import INFER, SCORE, TRAIN, contradictions
from kit.stages.uno.score import BASELINES, conclusions, sums_of

Table = dict[str, Any]


def scored() -> Table:
    rng = np.random.default_rng(1)
    groups = {}
    for number in range(6):
        y = rng.random(15)
        answers = {name: np.clip(y + rng.normal(0, 0.2, 15), 0, 1) for name in BASELINES}
        answers |= {"mean": np.full(15, 0.47), "drug_mean": np.full(15, 0.3 + 0.05 * number)}
        answers |= {name: np.clip(y + rng.normal(0, 0.05, 15), 0, 1) for name in ("network", "truth")}
        groups[f"GEN.{number}"] = {name: sums_of(said, y).tolist() for name, said in answers.items()}
    shared = {"cell": 1.0, "drug": 1.0, "pair": 0.0}
    return {"rows": 90, "split": "random", "group": "drug", "shared": shared, "per_group": groups, **conclusions(groups)}


def trained() -> Table:
    clocks = {"input": 1.0, "compute": 8.0, "exchange": 1.0}
    target = {"target": 0.0054, "target_reached": 0, "target_best": 0.006}
    values = {"loss": 0.007, "mae": 0.06, "r2": 0.7, "pearson": 0.85}
    held = {"val_loss": 0.006, "val_mae": 0.05, "val_r2": 0.75, "val_pearson": 0.88}
    facts = {"samples_per_second": 2.0, "peak_memory_gb": 0.7, "seconds": 10.0}
    used = {"training": {"cell": [0, 1], "drug": [0, 1]}, "validation": {"cell": [2], "drug": [0]}}
    return {"warm_seconds": clocks, "input_share": 0.1, **target, **values, **held, **facts, "split": "cell", "used": used}


def inferred() -> Table:
    return {"rows": 90, "ranks": 2, "backend": "horovod"}


WRITTEN = {TRAIN: trained, INFER: inferred, SCORE: scored}


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


def test_a_score_without_groups_is_refused_beside_its_training(tmp_path: Path) -> None:
    files = {TRAIN: tmp_path / "train.json", SCORE: tmp_path / "score.json"}
    files[TRAIN].write_text(json.dumps({**trained(), "split": "random", "first_answer": 0.47}))
    files[SCORE].write_text(json.dumps({**scored(), "per_group": {}}))
    assert list(contradictions(files)) == [(SCORE, "has 0 groups, where 1 to 100000 are expected")]


def sums(table: Table, answer: str = "network") -> list[float]:
    values: list[float] = table["per_group"]["GEN.0"][answer]
    return values


def forged(table: Table, answer: str, say: Callable[[Any], Any]) -> None:
    """Another set of answers, with all that follows from it."""
    rng = np.random.default_rng(2)
    measured = rng.random((len(table["per_group"]), 15))
    for group, y in zip(table["per_group"].values(), measured, strict=True):
        own = {name: sums_of(np.clip(y + 0.1, 0, 1), y).tolist() for name in group}
        own |= {name: sums_of(np.full(15, 0.47), y).tolist() for name in ("mean", "drug_mean")}
        group.update({**own, answer: sums_of(say(y), y).tolist()})
    table.update(conclusions(table["per_group"]))


def by_drug(table: Table) -> None:
    """As split by drug, where no drug has a mean of its own, but with drugs that are in training as well."""
    for group in table["per_group"].values():
        group["drug_mean"] = group["mean"]
    table.update(split="drug", **conclusions(table["per_group"]))


def covary(table: Table, answer: str, more: float) -> None:
    """The answers agree less with what was measured, and err more, than their own spread lets them."""
    for group in table["per_group"].values():
        t = group[answer]
        t[7] += more * t[2]
        t[0] = t[5] + t[6] - 2 * t[7]
    table.update(conclusions(table["per_group"]))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SCORE, lambda t: t["network"].update(r2=0.99), "network.r2 is 0.99"),
        (SCORE, lambda t: t["network"].update(r2=float("nan")), "network.r2 is nan"),
        (SCORE, lambda t: t["network"].update(loss=0.001), "network.loss is 0.001"),
        (SCORE, lambda t: t["network"].update(pearson=0.999), "network.pearson is 0.999"),
        (SCORE, lambda t: t["network"].update(r2_interval=[0.98, 0.99]), "network.r2_interval is"),
        (SCORE, lambda t: t["ridge"].update(r2=-3.0), "ridge.r2 is -3.0"),
        (SCORE, lambda t: t.update(margin=0.9), "margin is 0.9"),
        (SCORE, lambda t: t.update(margin_interval=[0.8, 0.9]), "margin_interval is"),
        (SCORE, lambda t: t.update(best_baseline="none"), "best_baseline is 'none'"),
        (SCORE, lambda t: t.update(ceiling=0.5), "ceiling is 0.5"),
        (SCORE, lambda t: t.update(ceiling_share=1.2), "ceiling_share is 1.2"),
        (SCORE, lambda t: t.update(rows=91), "rows is 91"),
        (SCORE, lambda t: t["shared"].update(pair=1.5), "shared.pair is 1.5"),
        (SCORE, lambda t: by_drug(t), "shared.drug is 1.0 in a split by drug"),
        (SCORE, lambda t: t.update(split="drug"), "drug_mean is not the mean of all"),
        (SCORE, lambda t: t.update(split="cell"), "group is 'drug', where a split by cell is scored by cell"),
        (SCORE, lambda t: forged(t, "mean", lambda y: np.full(15, y.mean())), "the answer of mean is"),
        (SCORE, lambda t: forged(t, "mean", lambda y: np.where(y > 0.5, 0.0, 1.0)), "are not those of one mean"),
        (SCORE, lambda t: forged(t, "mean", lambda y: np.full(15, -0.9)), "are not those of one mean"),
        (SCORE, lambda t: forged(t, "drug_mean", lambda y: 1 - y), "drug_mean: its sums are not those of one mean"),
        (SCORE, lambda t: covary(t, "ridge", -1.0), "ridge: its sums cannot be of one set of answers"),
        (SCORE, lambda t: covary(t, "mean", -1.0), "mean: its sums cannot be of one set of answers"),
        (SCORE, lambda t: sums(t).__setitem__(0, 0.0), "its sums cannot be of one set of answers"),
        (SCORE, lambda t: sums(t).__setitem__(1, 99.0), "its sums cannot be of one set of answers"),
        (SCORE, lambda t: sums(t).__setitem__(2, 14.0), "not held against the same measurements"),
        (SCORE, lambda t: sums(t, "ridge").__setitem__(6, 2.0), "not held against the same measurements"),
        (SCORE, lambda t: [one.__setitem__(6, 99.0) for one in t["per_group"]["GEN.0"].values()], "no sums of areas"),
        (SCORE, lambda t: t["per_group"]["GEN.0"].pop("ridge"), "lacks sums of the network or of a baseline"),
        (SCORE, lambda t: t["per_group"].pop("GEN.0"), "rows is 90, but the groups have 75"),
        (SCORE, lambda t: t.update(per_group={}), "has 0 groups"),
        (SCORE, lambda t: t.update(per_group={"a": 1}), "is not what a run leaves"),
        (SCORE, lambda t: t.pop("per_group"), "is not what a run leaves"),
        (TRAIN, lambda t: t.update(input_share=0.01), "input_share is 0.01"),
        (TRAIN, lambda t: t.update(target_reached=1), "target_reached is 1"),
        (TRAIN, lambda t: t.update(val_loss=0.005), "val_loss is 0.005, less than target_best"),
        (TRAIN, lambda t: t.update(val_r2=0.9), "val_r2 is 0.9, more than the square of val_pearson"),
        (TRAIN, lambda t: t.update(val_mae=0.2), "val_mae is 0.2, more than the root of val_loss"),
        (
            TRAIN,
            lambda t: t["used"]["validation"].update(cell=[1]),
            "split by cell, but 1 are in training and in validation",
        ),
        (TRAIN, lambda t: t.update(samples_per_second=-1), "samples_per_second is -1"),
        (TRAIN, lambda t: t.pop("used"), "is not what a run leaves"),
    ],
)
def test_number_that_was_edited(tmp_path: Path, name: str, change: Callable[[Table], object], said: str) -> None:
    problems = found(tmp_path, name, change)
    assert {file for file, _ in problems} == {name}
    assert any(said in problem for _, problem in problems), problems


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SCORE, lambda t: t.update(split="random"), f"split is 'random', but {TRAIN} has 'cell'"),
        (INFER, lambda t: t.update(rows=89), f"rows is 89, but {SCORE} has 90"),
        (INFER, lambda t: t.update(ranks=4), f"ranks is 4, but {TRAIN} has 2"),
        (INFER, lambda t: t.update(backend="single"), f"backend is 'single', but {TRAIN} has 'horovod'"),
        (SCORE, lambda t: t["per_group"].update(mean_of=1), "is not what a run leaves"),
        (SCORE, lambda t: another_mean(t), f"the baseline mean answers 0.05, but {TRAIN} has first_answer 0.47"),
        (INFER, lambda t: t.pop("ranks"), "is not what a run leaves"),
    ],
)
def test_files_that_do_not_go_together(tmp_path: Path, name: str, change: Callable[[Table], object], said: str) -> None:
    tables = {name: make() for name, make in WRITTEN.items()}
    tables[TRAIN].update(first_answer=0.47, ranks=2, backend="horovod")
    tables[SCORE].update(split="cell", group="cell", shared={"cell": 0.0, "drug": 1.0, "pair": 0.0})
    for group in tables[SCORE]["per_group"].values():
        group["cell_mean"] = group["mean"]
    tables[SCORE].update(conclusions(tables[SCORE]["per_group"]))
    files = {name: tmp_path / Path(name).name for name in tables}
    for one, path in files.items():
        path.write_text(json.dumps(tables[one]))
    assert list(contradictions(files)) == []
    change(tables[name])
    files[name].write_text(json.dumps(tables[name]))
    problems = list(contradictions(files))
    assert any(said in problem for _, problem in problems), problems


def another_mean(table: Table) -> None:
    """A mean far off what was measured, one and the same in all groups, with all that follows from it."""
    for group in table["per_group"].values():
        n, wanted, squares = group["mean"][2], group["mean"][4], group["mean"][6]
        said = -0.45
        errors = n * said**2 - 2 * said * wanted + squares
        group["mean"] = [errors, 0.0, n, n * said, wanted, n * said**2, squares, said * wanted]
        group["cell_mean"] = group["mean"]
    table.update(conclusions(table["per_group"]))
