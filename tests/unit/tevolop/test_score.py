"""The scores: against scikit-learn's, what counts and what does not, and what the baselines are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import r2_score

from kit.stages.tevolop import grid
from kit.stages.tevolop.prepare import INPUTS
from kit.stages.tevolop.score import BASELINES, Curve, conclusions, efficiency, score
from kit.stages.tevolop.train import nnse, summary
from kit.stages.tevolop.windows import Windows

HORIZONS = len(grid.WIDTHS)


def made(rng: np.random.Generator, pixels: int = 12, windows: int = 50) -> tuple[Any, Any, Any]:
    """Observations and forecasts (pixels, windows, horizons), and their sums."""
    level = rng.normal(3, 0.5, (pixels, 1, HORIZONS))
    observed = level + rng.normal(0, 0.7, (pixels, windows, HORIZONS))
    told = {
        name: level + rng.normal(0, spread, observed.shape)
        for name, spread in (("network", 0.1), ("persistence", 0.9), ("climatology", 0.3), ("etas", 0.4))
    }
    return observed, told, sums(observed, told)


def sums(observed: Any, told: dict[str, Any]) -> dict[str, Any]:
    there = np.isfinite(observed)
    known = np.where(there, observed, 0.0)
    parts = {"n": there.astype(float), "sum": known, "squares": known**2}
    parts |= {name: np.where(there, (values - known) ** 2, 0.0) for name, values in told.items()}
    return {str(p): {name: values[p].sum(axis=0).tolist() for name, values in parts.items()} for p in range(len(observed))}


def test_nnse_is_that_of_scikit_learn() -> None:
    """1 / (2 - NSE), and NSE is its R2, over all windows of all pixels and by pixel."""
    observed, told, pixels = made(np.random.default_rng(1))
    found = conclusions(pixels)
    for name, values in told.items():
        for place, horizon in enumerate(grid.HORIZONS):
            r2 = r2_score(observed[:, :, place].ravel(), values[:, :, place].ravel())
            assert found["nnse_by_horizon"][name][horizon] == pytest.approx(1 / (2 - r2), abs=1e-9)
        each = [
            1 / (2 - r2_score(observed[p, :, place], values[p, :, place])) for p in range(12) for place in range(HORIZONS)
        ]
        assert found["nnse_by_pixel"][name] == pytest.approx(np.mean(each), abs=1e-9)
    assert found["best_baseline"] == "climatology"
    assert found["margin"] > 0
    assert found["margin_interval"][0] < found["margin"] < found["margin_interval"][1]
    assert found["verdict"].startswith("the network forecasts better than climatology")


def test_a_constant_has_a_half_and_a_perfect_forecast_one() -> None:
    observed, told, _ = made(np.random.default_rng(2))
    told["network"] = np.broadcast_to(observed.mean(axis=(0, 1)), observed.shape)
    told["etas"] = observed
    found = conclusions(sums(observed, told))
    assert found["nnse"]["network"] == pytest.approx(0.5)
    assert found["nnse"]["etas"] == pytest.approx(1.0)
    assert found["in_window"] == 0
    assert found["verdict"] == "the network does not forecast better than etas, the best baseline"
    assert found["margin"] == pytest.approx(-0.5)


def test_the_windows_upper_end_counts() -> None:
    observed, told, _ = made(np.random.default_rng(2))
    for noise, inside in ((0.3, 1), (0.01, 0), (2.0, 0)):
        told["network"] = observed + noise * np.random.default_rng(3).normal(size=observed.shape)
        assert conclusions(sums(observed, told))["in_window"] == inside


def test_what_was_not_observed_counts_nowhere() -> None:
    """A window without a target is not perfectly predicted, as in the reference: it is not there."""
    observed, told, _ = made(np.random.default_rng(4))
    observed[:, 30:, 5] = np.nan
    found = conclusions(sums(observed, told))
    assert found["targets"] == np.isfinite(observed).sum()
    r2 = r2_score(observed[:, :30, 5].ravel(), told["network"][:, :30, 5].ravel())
    assert found["nnse_by_horizon"]["network"]["4y"] == pytest.approx(1 / (2 - r2), abs=1e-9)
    observed[:, :, 5] = np.nan
    found = conclusions(sums(observed, told))
    assert found["horizons"] == ["2w", "3m", "6m", "1y", "2y"]
    assert all(np.isfinite(list(values)).all() for values in (found["nnse"].values(), found["margin_interval"]))


def test_silent_pixels_are_left_out_and_counted() -> None:
    observed, told, _ = made(np.random.default_rng(5))
    observed[3] = 0.0
    found = conclusions(sums(observed, told))
    assert found["silent"] == HORIZONS
    assert np.isfinite(found["nnse_by_pixel"]["network"])
    assert np.isnan(efficiency(0.0, 0.0))
    assert efficiency(1.0, 1.0) == 0.5


def test_the_trainers_nnse_is_the_scores() -> None:
    observed, told, pixels = made(np.random.default_rng(6))
    total = np.array([[of[name] for name in ("n", "sum", "squares", "network")] for of in pixels.values()]).sum(axis=0)
    found = summary(np.concatenate([[total[3].sum(), total[0].sum()], total.ravel()]))
    again = conclusions(pixels)
    assert found["nnse"] == pytest.approx(again["nnse"]["network"])
    assert found["nnse_1y"] == pytest.approx(again["nnse_by_horizon"]["network"]["1y"])
    assert found["loss"] == pytest.approx(((told["network"] - observed) ** 2).mean())
    assert nnse(0.0, 0.0) == 0.0


def test_baselines_are_what_they_are_called(finished: Path, made_events: Path) -> None:
    """Persistence is the last window's target; a calibrated number of events gives means of what followed."""
    test = Windows(finished / "series", "test")
    said = json.loads((finished / "score/score.json").read_text())
    rows, starts = (test.index[name].astype(np.int64) for name in ("row", "start"))
    observed = test.observed(rows, starts)
    there = np.isfinite(observed[:, 3])
    last = test.goals[rows, starts - 26, 3]
    errors = float(((last - observed[:, 3])[there] ** 2).sum())
    assert sum(of["persistence"][3] for of in said["per_pixel"].values()) == pytest.approx(errors, rel=1e-4)
    assert set(said["nnse"]) == {"network", *BASELINES, "intensity"}
    assert said["nnse"]["intensity"] > said["nnse"]["persistence"]
    assert len(INPUTS) == test.known.shape[2]
    curve = Curve(np.repeat([1.0, 10.0], 500), np.concatenate([np.full(500, 2.0), np.full(500, 3.0)]))
    assert curve(np.array([0.1, 1.0, 10.0, 99.0])) == pytest.approx([2.0, 2.0, 3.0, 3.0])


def test_a_perfect_forecast_is_scored_as_one(finished: Path, tmp_path: Path) -> None:
    test = Windows(finished / "series", "test")
    rows, starts = (test.index[name].astype(np.int64) for name in ("row", "start"))
    (tmp_path / "forecast").mkdir()
    (tmp_path / "score").mkdir()
    np.save(tmp_path / "forecast/forecasts.npy", np.nan_to_num(test.observed(rows, starts)))
    score(finished / "series", tmp_path / "forecast", tmp_path / "score", None)
    said = json.loads((tmp_path / "score/score.json").read_text())
    assert said["nnse"]["network"] == pytest.approx(1.0)
    assert said["summed"]["nnse"]["network"]["1y"] == pytest.approx(1.0)
    assert "intensity" not in said["nnse"]


def test_forecasts_that_are_not_of_the_test_are_refused(finished: Path, made_events: Path, tmp_path: Path) -> None:
    found = np.load(finished / "forecast/forecasts.npy")
    wrong = found.copy()
    wrong[3, 2] = np.nan
    for values in (found[:-1], found[:, :4], wrong):
        np.save(tmp_path / "forecasts.npy", values)
        with pytest.raises(ValueError, match=r"forecasts\.npy: .* run infer again"):
            score(finished / "series", tmp_path, tmp_path, None)
    np.save(tmp_path / "forecasts.npy", found)
    with np.load(made_events / "truth.npz") as truth:
        np.savez(tmp_path / "truth.npz", pixels=truth["pixels"][:10], expected=truth["expected"][:10])
    with pytest.raises(ValueError, match=r"truth\.npz: says nothing of pixel \d+; .*make them anew"):
        score(finished / "series", tmp_path, tmp_path, tmp_path / "truth.npz")
    assert not (tmp_path / "score.json").exists()
