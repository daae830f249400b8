"""Sea-surface temperatures: a perfect mask finds the bias that was put in, and no mask does not."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from kit.benchmarks.cloudmask import infer, scenes, sst
from kit.benchmarks.cloudmask.patches import Label, load


@pytest.fixture(scope="module")
def true_masks(data: Path, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    with h5py.File(data / "truth.h5") as truth:
        for path in sorted((converted / "scenes/inference").glob("*.hdf")):
            scene = load(path, Label())
            infer.write_mask(folder / f"{path.stem}.nc", scene, truth[scene.name]["truth"][:].astype(float))
    return folder


def test_a_true_mask_finds_the_known_bias(data: Path, converted: Path, true_masks: Path, tmp_path: Path) -> None:
    sst.compare(data / "matchups.csv", converted / "scenes", true_masks, tmp_path, Label())
    found = json.loads((tmp_path / "sst.json").read_text())
    assert found["matchups"] > 100
    assert found["kept"] + sum(found["rejected"].values()) == found["matchups"]
    low, high = found["network"]["median_interval"]
    assert low - 0.05 < scenes.SST_BIAS < high + 0.05
    noise = np.hypot(scenes.BUOY_NOISE, scenes.RETRIEVAL_NOISE)
    assert found["network"]["rsd"] == pytest.approx(noise, rel=0.35)
    # Cloud that nobody takes out makes the sea cold.
    assert found["none"]["median"] < found["network"]["median"]
    assert found["none"]["rsd"] > 1.5 * found["network"]["rsd"]
    assert 0.9 < found["agreement"] < 1


def test_statistics() -> None:
    values = np.random.default_rng(0).normal(-0.2, 0.3, 20000)
    values[:1000] -= 10  # outliers, which a robust deviation does not see
    found = sst.statistics(values)
    assert found["median"] == pytest.approx(-0.2, abs=0.03)
    assert found["rsd"] == pytest.approx(0.3, rel=0.1)
    assert sst.statistics(values[:2])["median"] is None


@pytest.mark.parametrize("name", list(sst.FILTERS))
def test_each_filter_takes_something_out(data: Path, name: str) -> None:
    """A sixth of the match-ups is spoilt in one way each: a filter that is forgotten, or that keeps all, is found out."""
    table = pd.read_csv(data / "matchups.csv")
    keep = sst.FILTERS[name](table)
    assert 0 < (~keep).sum() < len(table) / 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("product,row\nx,1\n", "no column column, latitude"),
        ("", "not a table of comma-separated values"),
    ],
)
def test_tables_that_are_none(converted: Path, true_masks: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        sst.compare(tmp_path / "m.csv", converted / "scenes", true_masks, tmp_path, Label())


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("product", "S3A_elsewhere.SEN3", "S3A_elsewhere.SEN3 is not among the scenes of inference"),
        ("row", 5000, "a match-up outside of them"),
    ],
)
def test_match_ups_of_another_place(
    data: Path, converted: Path, true_masks: Path, tmp_path: Path, column: str, value: object, message: str
) -> None:
    table = pd.read_csv(data / "matchups.csv")
    pd.concat([table.assign(**{column: value}).head(50), table]).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(ValueError, match=message):
        sst.compare(tmp_path / "m.csv", converted / "scenes", true_masks, tmp_path, Label())
    assert not (tmp_path / "sst.json").exists()


def test_no_table_is_said(converted: Path, true_masks: Path, tmp_path: Path) -> None:
    sst.compare(None, converted / "scenes", true_masks, tmp_path, Label())
    assert json.loads((tmp_path / "sst.json").read_text()) == {"matchups": 0, "reason": "the data set has no match-ups"}
