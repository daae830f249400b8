"""What is said of a scaling run, from what its points left: no ranks, no image, and a benchmark that nobody has."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kit.benchmark import Scaling
from kit.core.errors import KitError
from kit.training import judge, report
from kit.training.scaling import FILE

SCALING = Scaling(stage="train", output="train.json", common=["crystal"])


@pytest.fixture
def scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run on 1 and 2 ranks whose two ranks are 1.8 times as fast."""
    run = SimpleNamespace(scaling=[1, 2], image=SimpleNamespace(name="image"))
    benchmark = SimpleNamespace(scaling=SCALING)
    for module in (report, judge):
        monkeypatch.setattr(module, "load_run", lambda directory: run)
    monkeypatch.setattr(report, "resolved", lambda directory: (benchmark, None))
    monkeypatch.setattr(judge, "load_image", lambda name: SimpleNamespace(device="cpu"))
    for name, ranks, samples, rate in (("strong_1", 1, 64, 10.0), ("strong_2", 2, 64, 18.0), ("weak_1", 1, 32, 9.0)):
        facts: dict[str, Any] = {"ranks": ranks, "devices": ["CPU"] * ranks, "precision": "float32", "threads": 1}
        facts |= {"tensorflow": "2", "epochs_run": 3, "global_batch": 8, "batch_size": 8 // ranks, "crystal": "cubic"}
        facts |= {"training_samples": samples, "samples_per_second": rate, "unit": "frames", "loss": 0.5}
        facts |= {"warm_seconds": {"input": 1.0, "compute": 8.0, "exchange": 1.0}, "oversubscribed": name == "strong_2"}
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text(json.dumps(facts))
    return tmp_path


def test_a_report_speaks_in_the_units_of_its_benchmark(scaled: Path) -> None:
    report.evaluate(scaled)
    curves = json.loads((scaled / FILE).read_text())
    assert curves["strong"]["2"]["speedup"] == 1.8
    assert curves["strong"]["2"]["efficiency"] == 0.9
    assert curves["weak"]["2"]["efficiency"] == 1.0
    assert (curves["strong"]["1"]["samples"], curves["weak"]["1"]["samples"]) == (64, 32)
    assert curves["strong"]["1"]["shares"] == {"input": 0.1, "compute": 0.8, "exchange": 0.1}
    text = (scaled / FILE.replace(".json", ".md")).read_text()
    assert "frames/s" in text
    assert "functional only" in text
    assert (scaled / "figures/scaling.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("point", "key", "value", "said"),
    [
        ("strong_2", "ranks", 1, "2 ranks were asked for, 1 formed one job"),
        ("weak_1", "crystal", "hexagonal", "crystal is hexagonal, but cubic with 1 ranks"),  # as the benchmark asks
        ("weak_1", "precision", "bfloat16", "precision is bfloat16, but float32"),
        ("strong_2", "training_samples", 7, "training_samples is 7, but 64"),
        ("strong_2", "global_batch", 4, "global_batch is 4, but 8"),
        ("strong_2", "devices", ["CPU", "GPU X"], "ranks computed on GPU X, but image is there for a CPU each"),
    ],
)
def test_points_that_did_other_work_are_refused(scaled: Path, point: str, key: str, value: object, said: str) -> None:
    path = scaled / point / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(KitError, match=said):
        report.evaluate(scaled)


def test_point_that_left_no_facts_is_refused(scaled: Path) -> None:
    (scaled / "strong_2/train.json").write_text("[]")
    with pytest.raises(KitError, match=r"strong_2/train\.json: a JSON object is needed, not list"):
        report.evaluate(scaled)
