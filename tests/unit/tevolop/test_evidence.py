"""The forecasts that a submission carries come to the score that it states, on data made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.tevolop import CODE
from kit.benchmarks.tevolop.evidence import FORECASTS, score_again, write_forecasts
from kit.benchmarks.tevolop.judge import PREPARED, SCORE
from kit.core.errors import KitError

PARAMETERS = {
    **load_benchmark("tevolop").size("tiny").parameters,
    **{"days": 6000, "background_per_year": 200, "pixels": 40, "data_seed": 3, "split_seed": 1, "stride": 3},
}


@pytest.fixture
def files(finished: Path, tmp_path: Path) -> dict[str, Path]:
    for name in (SCORE, PREPARED):
        (tmp_path / name).parent.mkdir()
        shutil.copy(finished / name, tmp_path / name)
    write_forecasts(finished, tmp_path / FORECASTS)
    return {f"evidence/{FORECASTS}": tmp_path / FORECASTS, **{name: tmp_path / name for name in (SCORE, PREPARED)}}


def test_the_evidence_comes_to_the_score(files: dict[str, Path], made_events: Path) -> None:
    for same in (True, False):
        assert not list(score_again(files, made_events, PARAMETERS, same))
    assert set(CODE.evidence(["prepare", "train", "infer", "score"])) == {FORECASTS}
    assert not CODE.evidence(["train"])


def test_scores_of_other_forecasts_are_found(files: dict[str, Path], made_events: Path) -> None:
    path = files[f"evidence/{FORECASTS}"]
    np.save(path, np.load(path) * np.float32(0.5))
    said = list(score_again(files, made_events, PARAMETERS, True))
    assert any(rule == "evidence-score" and "nnse.network is" in text for rule, _, text in said)
    (problem,) = score_again(files, made_events, PARAMETERS, False)
    assert problem[2].startswith("nnse.network is")


def test_scores_of_other_data_are_found(files: dict[str, Path], made_events: Path, tmp_path: Path) -> None:
    """The summed series too, which no sum of a pixel could contradict."""
    said = json.loads(files[SCORE].read_text())
    said["summed"]["nnse"]["network"]["1y"] = 0.95
    files[SCORE].write_text(json.dumps(said))
    (problem,) = score_again(files, made_events, PARAMETERS, True)
    assert "summed.nnse.network.1y is 0.95" in problem[2]


def test_what_is_no_evidence_is_refused(files: dict[str, Path], made_events: Path) -> None:
    path = files[f"evidence/{FORECASTS}"]
    whole = np.load(path)
    for values in (whole[:-1], whole.astype(np.float64), whole[:, :3]):
        np.save(path, values)
        assert [rule for rule, _, _ in score_again(files, made_events, PARAMETERS, True)] == ["evidence-form"]
    path.write_bytes(b"not an array")
    assert [rule for rule, _, _ in score_again(files, made_events, PARAMETERS, True)] == ["evidence-form"]
    np.save(path, np.full_like(whole, np.nan))
    assert [rule for rule, _, _ in score_again(files, made_events, PARAMETERS, True)] == ["evidence-score"]


def test_a_run_without_forecasts_has_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "forecast").mkdir()
    (tmp_path / "forecast/forecasts.npy").write_text("x")
    with pytest.raises(KitError, match="no array of NumPy"):
        write_forecasts(tmp_path, tmp_path / FORECASTS)
