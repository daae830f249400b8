"""Scaling on real Horovod ranks: points in one job, the same work at each, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import kit


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the README says, but for one epoch a point."""
    runs = tmp_path_factory.mktemp("scaling")
    words = ("--ranks", "1,2", "--epochs", "1", "--runs", str(runs))
    result = kit("scaling", "cloudmask", *words)
    directory = Path(result.stdout.strip())
    assert (directory / "scaling/scaling.md").read_text() in result.stderr
    return directory


def test_the_report_says_what_was_measured(scaled: Path) -> None:
    run = json.loads((scaled / "run.json").read_text())
    assert (run["state"]["name"], run["scaling"], run["ranks"]) == ("valid", [1, 2], 2)
    curves = json.loads((scaled / "scaling/scaling.json").read_text())
    values = {metric["name"]: metric["value"] for metric in run["metrics"]}
    for kind, name in (("strong", "strong_1"), ("weak", "weak_1")):
        facts = [json.loads((scaled / folder / "train.json").read_text()) for folder in (name, "strong_2")]
        assert [of["ranks"] for of in facts] == [1, 2]
        first, second = curves[kind]["1"], curves[kind]["2"]
        assert (first["speedup"], first["efficiency"]) == (1, 1)
        assert second["speedup"] == facts[1]["samples_per_second"] / facts[0]["samples_per_second"]
        assert values[f"{kind}_2_efficiency"] == second["efficiency"] == second["speedup"] / 2
        for entry in (first, second):
            assert sum(entry["shares"].values()) == pytest.approx(1)
            assert entry["shares"]["compute"] > entry["shares"]["input"]
    strong, weak = curves["strong"], curves["weak"]
    # The same patches in the same global batches; and half of them for half of the ranks.
    assert strong["1"]["batch_size"] == 2 * strong["2"]["batch_size"] == 2 * weak["1"]["batch_size"]
    assert strong["1"]["samples"] == strong["2"]["samples"]
    assert weak["1"]["samples"] == round(0.5 * weak["2"]["samples"])
    assert strong["1"]["loss"] == pytest.approx(strong["2"]["loss"], rel=0.05)  # in bfloat16, summed in another order
    assert {curve["system"] for curve in curves["published"]} >= {"PEARL, V100", "EPCC, Ice Lake"}
    assert (scaled / "figures/scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ranks", 1, "2 ranks were asked for, 1 formed one job"),
        ("precision", "float64", "precision is float64, but"),
        ("training_samples", 7, "training_samples is 7, but"),
        ("devices", ["CPU", "NVIDIA H100"], "ranks computed on NVIDIA H100"),
    ],
)
def test_points_that_can_not_be_compared_are_refused(
    scaled: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(scaled, run, symlinks=True)
    path = run / "strong_2/train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert message in " ".join(kit("collect", str(run), code=1).stdout.split())


def test_oversubscribed_points_are_marked(scaled: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(scaled, run, symlinks=True)
    path = run / "strong_2/train.json"
    assert "functional only" not in (run / "scaling/scaling.md").read_text()
    path.write_text(json.dumps({**json.loads(path.read_text()), "oversubscribed": True}))
    kit("collect", str(run))
    table = (run / "scaling/scaling.md").read_text()
    assert re.search(r"^\| strong +\| +2 \* \|", table, re.MULTILINE)
    assert re.search(r"^\| strong +\| +1 \|", table, re.MULTILINE)
    assert "functional only" in table


def test_it_is_no_submission(scaled: Path, tmp_path: Path) -> None:
    said = kit("submission", "pack", str(scaled), "--to", str(tmp_path), code=1).stderr
    assert "is a scaling measurement, not a result of cloudmask" in said
