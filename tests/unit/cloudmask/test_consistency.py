"""What a submission of CloudMask carries is computed again: each number edited alone contradicts what it was made of."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.benchmarks.cloudmask.consistency import SCORE, SST, TRAIN, contradictions
from kit.stages.cloudmask.score import conclusions

Table = dict[str, Any]


def scored() -> Table:
    rng = np.random.default_rng(1)
    scenes = {}
    for number in range(6):
        actual = rng.integers(1000, 2000, 2)
        wrong = {name: rng.integers(1, share, 2) for name, share in (("network", 200), ("threshold", 600), ("summary", 500))}
        tables = {n: [[int(actual[0] - w[0]), int(w[0])], [int(w[1]), int(actual[1] - w[1])]] for n, w in wrong.items()}
        tables["label"] = [[int(actual[0]), 0], [0, int(actual[1])]]
        scenes[f"S3A_{number}"] = {"day": True, "cloud_fraction": 0.5, "label": tables, "truth": tables}
    bins = [{"pixels": 10, "said": 0.1, "found": 0.2}, {"pixels": 30, "said": 0.9, "found": 0.8}]
    return {"per_scene": scenes, **conclusions(scenes), "calibration": {"bins": bins, "calibration_error": 0.1}}


def temperatures() -> Table:
    values = {name: [-0.3, -0.2, -0.1, 0.0, 0.5] for name in ("none", "bayes", "network")}
    stated = {name: {"matchups": 5, "median": -0.1, "rsd": 1.4826 * 0.1} for name in values}
    return {"matchups": 9, **stated, "differences": values}


def trained() -> Table:
    clocks = {"input": 1.0, "compute": 8.0, "exchange": 1.0}
    target = {"target": 0.9, "target_reached": 0, "target_best": 0.87, "val_accuracy": 0.86}
    facts = {"samples_per_second": 2.0, "peak_memory_gb": 0.7, "seconds": 10.0}
    return {"warm_seconds": clocks, "input_share": 0.1, **target, **facts}


WRITTEN = {SCORE: scored, SST: temperatures, TRAIN: trained}


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


def first(table: Table) -> Table:
    scene: Table = table["per_scene"]["S3A_0"]["label"]
    return scene


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SCORE, lambda t: t["label"]["network"].update(accuracy=0.99), "label.network.accuracy is 0.99"),
        (SCORE, lambda t: t["truth"]["label"].update(mcc=0.1), "truth.label.mcc is 0.1"),
        (SCORE, lambda t: t["label"]["network"].update(accuracy=float("nan")), "label.network.accuracy is nan"),
        (SCORE, lambda t: t.update(margin=0.3), "margin is 0.3"),
        (SCORE, lambda t: t.update(margin_interval=[0.3, 0.4]), "margin_interval is"),
        (SCORE, lambda t: t.update(separation=0.3), "separation is 0.3"),
        (SCORE, lambda t: t.update(best_baseline="summary2"), "best_baseline is 'summary2'"),
        (SCORE, lambda t: t["scene_accuracy"].update(min=0.1), "scene_accuracy.min is 0.1"),
        (SCORE, lambda t: t.update(cloud_fraction=0.1), "cloud_fraction is 0.1"),
        (SCORE, lambda t: t["calibration"].update(calibration_error=0.0), "calibration.calibration_error is 0.0"),
        (SCORE, lambda t: first(t).update(network=[[-5, 0], [0, 1000]]), "holds what is no count of pixels"),
        (SCORE, lambda t: first(t).update(network=[[9, 0], [0, 9]]), "its masks are not of the same pixels"),
        (SCORE, lambda t: first(t)["summary"][0].__setitem__(0, 10**6), "its masks are not of the same pixels"),
        (SCORE, lambda t: t.update(per_scene={}), "has 0 scenes"),
        (SCORE, lambda t: t.update(per_scene=[]), "has 0 scenes"),
        (SCORE, lambda t: t.update(per_scene=[1]), "is not what a run leaves"),
        (SCORE, lambda t: t.pop("per_scene"), "is not what a run leaves"),
        (SST, lambda t: t["network"].update(median=0.01), "network.median is 0.01"),
        (SST, lambda t: t["bayes"].update(rsd=0.01), "bayes.rsd is 0.01"),
        (SST, lambda t: t["network"].update(median=float("nan")), "network.median is nan"),
        (SST, lambda t: t["differences"].pop("network"), "differences.network is missing"),
        (SST, lambda t: t.pop("differences"), "is not what a run leaves"),
        (SST, lambda t: t["differences"].update(network=[]), "network.matchups is 5, but it has 0 differences"),
        (SST, lambda t: t.update(differences=[]), "is not what a run leaves"),
        (TRAIN, lambda t: t.update(input_share=0.01), "input_share is 0.01"),
        (TRAIN, lambda t: t.update(input_share=float("nan")), "input_share is nan"),
        (TRAIN, lambda t: t.update(target_reached=1), "target_reached is 1"),
        (TRAIN, lambda t: t.update(val_accuracy=0.95), "val_accuracy is 0.95"),
        (TRAIN, lambda t: t.update(peak_memory_gb=-3), "peak_memory_gb is -3"),
        (TRAIN, lambda t: t.update(samples_per_second=-1), "samples_per_second is -1"),
        (TRAIN, lambda t: t.update(warm_seconds={"input": 0, "compute": 0}), "is not what a run leaves"),
    ],
)
def test_number_that_was_edited(tmp_path: Path, name: str, change: Callable[[Table], object], said: str) -> None:
    problems = found(tmp_path, name, change)
    assert {file for file, _ in problems} == {name}
    assert any(said in problem for _, problem in problems), problems
