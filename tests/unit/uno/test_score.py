"""Scores and baselines are those of scikit-learn, sums are those of a whole split, and nothing is scored in part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge as Reference
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from kit.benchmarks.uno import responses
from kit.stages.uno.baselines import PENALTIES, Ridge, coordinates, of_means
from kit.stages.uno.rows import SPLITS, Rows
from kit.stages.uno.score import BASELINES, conclusions, score, sums_of
from kit.stages.uno.train import SUMS, TARGET, summary


@pytest.fixture(scope="module")
def scored(prepared: dict[str, Path], generated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of answers that are the truth with noise, against the random split; with the answers."""
    folder = tmp_path_factory.mktemp("score")
    rows = Rows(prepared["random"], "test").records
    said = (rows["auc"] + np.random.default_rng(1).normal(0, 0.05, len(rows))).astype(np.float32)
    np.save(folder / "predictions.npy", said)
    score(prepared["random"], folder, folder, generated / responses.TRUTH)
    return {**json.loads((folder / "score.json").read_text()), "said": said, "wanted": rows["auc"], "folder": folder}


def test_scores_are_those_of_scikit_learn(scored: dict[str, Any]) -> None:
    found, y, p = scored["network"], scored["wanted"].astype(float), scored["said"].astype(float)
    assert found["r2"] == pytest.approx(r2_score(y, p), abs=1e-12)
    assert found["loss"] == pytest.approx(mean_squared_error(y, p), rel=1e-12)
    assert found["mae"] == pytest.approx(mean_absolute_error(y, p), rel=1e-12)
    assert found["pearson"] == pytest.approx(pearsonr(y, p)[0], abs=1e-12)
    assert scored["rows"] == len(y)


def test_sums_of_batches_make_the_scores_of_the_whole() -> None:
    """However a split is cut in batches and shared among ranks; the mean of the batches' R2 is another number."""
    rng = np.random.default_rng(2)
    y = rng.random(1003)
    p = np.clip(0.7 * y + 0.1 + rng.normal(0, 0.05, 1003), 0, 1)
    for size in (32, 100, 1003):
        parts = [sums_of(p[start : start + size], y[start : start + size]) for start in range(0, 1003, size)]
        found = summary(np.sum(parts, axis=0))
        assert found["r2"] == pytest.approx(r2_score(y, p), abs=1e-12)
        assert found["pearson"] == pytest.approx(pearsonr(y, p)[0], abs=1e-12)
    batches = np.mean([r2_score(y[start : start + 32], p[start : start + 32]) for start in range(0, 992, 32)])
    assert abs(batches - r2_score(y, p)) > 0.002


def test_a_constant_answer_correlates_with_nothing() -> None:
    y = np.random.default_rng(2).random(100)
    found = summary(sums_of(np.full(100, y.mean()), y))
    assert found["pearson"] == 0
    assert found["r2"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(summary(sums_of(y, np.full(100, 0.3)))["r2"])  # a split that says nothing is no number, and refused
    assert len(SUMS) == 8
    assert TARGET == ("loss", 0.0054, False)


def features(folder: Path, split: str) -> tuple[Any, Any]:
    rows = Rows(folder, split)
    cells, drugs, auc = rows.read(np.arange(len(rows)))
    return np.hstack([cells, drugs]).astype(float), auc.astype(float)


def test_the_ridge_is_scikit_learns(prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On all 6,212 features, though it solves for a hundred times fewer; in blocks that do not divide the rows."""
    monkeypatch.setattr("kit.stages.uno.baselines.BLOCK", 13)
    folder = prepared["random"]
    ours = Ridge(folder)
    records = [Rows(folder, split).records for split in SPLITS]
    ours.fit(records[0], records[1])
    x, y = features(folder, "training")
    errors = {}
    for share in PENALTIES:
        theirs = Reference(alpha=ours.penalty * share).fit(x, y)
        errors[share] = mean_squared_error(
            features(folder, "validation")[1], theirs.predict(features(folder, "validation")[0])
        )
    theirs = Reference(alpha=ours.penalty).fit(x, y)
    assert ours.predict(records[2]) == pytest.approx(theirs.predict(features(folder, "test")[0]), abs=1e-6)
    assert errors[1.0] <= min(errors.values()) * 1.05  # the penalty is about the best of them in validation


def test_coordinates_keep_products() -> None:
    table = np.random.default_rng(1).normal(size=(7, 50)).astype(np.float32)
    table[3] = table[2]
    found = coordinates(table)
    assert found.shape == (7, 6)
    assert found @ found.T == pytest.approx(table.astype(float) @ table.T.astype(float), abs=1e-9)
    assert coordinates(table.T).shape == (50, 7)


def test_means_of_drugs_and_of_strangers() -> None:
    record = np.dtype([("drug", "<u4"), ("auc", "<f4")])
    training = np.array([(0, 0.2), (0, 0.4), (2, 1.0)], record)
    test = np.array([(0, 0), (1, 0), (2, 0), (7, 0)], record)
    assert of_means(training, test, "drug") == pytest.approx([0.3, 1.6 / 3, 1.0, 1.6 / 3])


def test_what_follows(scored: dict[str, Any]) -> None:
    best = max(BASELINES, key=lambda name: scored[name]["r2"])
    assert scored["best_baseline"] == best
    assert scored["margin"] == pytest.approx(scored["network"]["r2"] - scored[best]["r2"])
    low, high = scored["margin_interval"]
    assert low < scored["margin"] < high
    assert scored["ceiling"] == scored["truth"]["r2"]
    assert scored["ceiling"] > 0.8
    assert scored["mean"]["pearson"] == pytest.approx(0, abs=1e-6)
    assert scored["group"] == "drug"
    again = conclusions(scored["per_group"])
    assert again["margin_interval"] == scored["margin_interval"]


def test_a_split_by_cell_line_is_judged_by_cell_lines(prepared: dict[str, Path], tmp_path: Path) -> None:
    rows = Rows(prepared["cell"], "test").records
    np.save(tmp_path / "predictions.npy", rows["auc"])
    score(prepared["cell"], tmp_path, tmp_path)
    found = json.loads((tmp_path / "score.json").read_text())
    assert found["group"] == "cell"
    assert len(found["per_group"]) == len(set(rows["cell"].tolist()))
    assert "ceiling" not in found
    assert found["network"]["r2"] == 1
    assert found["cell_mean"]["r2"] == pytest.approx(found["mean"]["r2"])  # nobody knows a cell line of the test


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (np.zeros(19, "f4"), r"predictions\.npy: has \(19,\) predictions for 20 test rows"),
        (np.zeros((20, 1), "f4"), r"has \(20, 1\) predictions"),
        (np.array([0.5] * 4 + [np.nan] * 16, "f4"), "row 4 is not finite"),
        (None, "missing; the stage infer writes it"),
    ],
)
def test_answers_that_cannot_be_scored(prepared: dict[str, Path], tmp_path: Path, answers: Any, message: str) -> None:
    if answers is not None:
        np.save(tmp_path / "predictions.npy", answers)
    with pytest.raises(ValueError, match=message):
        score(prepared["random"], tmp_path, tmp_path)
    assert not (tmp_path / "score.json").exists()


def test_a_split_without_spread_is_no_score(prepared: dict[str, Path], tmp_path: Path) -> None:
    """R2 is not defined: no file that says NaN is left."""
    folder = tmp_path / "rows"
    shutil.copytree(prepared["random"], folder)
    rows = np.load(folder / "test.npy")
    rows["auc"] = 0.5
    np.save(folder / "test.npy", rows)
    np.save(tmp_path / "predictions.npy", np.full(20, 0.4, "f4"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        score(folder, tmp_path, tmp_path)
    assert not (tmp_path / "score.json").exists()
