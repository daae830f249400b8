"""A small generated catalogue and its series, both splits, and a run of stand-in forecasts: no TensorFlow is here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.benchmarks.tevolop import etas
from kit.stages.tevolop import grid
from kit.stages.tevolop.prepare import CLIMATOLOGY, prepare
from kit.stages.tevolop.score import score
from kit.stages.tevolop.windows import Windows

PARAMETERS = {"days": 6000, "background_per_year": 200, "pixels": 40, "data_seed": 3}
HOW: dict[str, Any] = {"days": 6000, "pixels": 40, "seed": 1, "stride": 3, "smallest": 2.5, "most_outside": 0.01}


@pytest.fixture(scope="session")
def made_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a size: catalogue, faults, truth."""
    folder = tmp_path_factory.mktemp("events")
    etas.generate(folder, PARAMETERS)
    return folder


@pytest.fixture(scope="session")
def prepared(made_events: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{split: folder of series}; read only."""
    found = {}
    for split in ("location", "time"):
        found[split] = tmp_path_factory.mktemp(split)
        prepare(made_events, found[split], split=split, **HOW)
    return found


def train_table(facts: dict[str, Any]) -> dict[str, Any]:
    """A train.json that a training of these series could have left."""
    values = {f"val_nnse_{name}": 0.5 + 0.01 * place for place, name in enumerate(grid.HORIZONS)}
    return {
        "ranks": 2,
        "devices": ["CPU", "CPU"],
        "model": "lstm",
        "split": facts["split"],
        **{
            f"{name}_{key}": facts["splits"][name][key]
            for name in ("training", "validation")
            for key in ("pixels", "first", "until")
        },
        "warm_seconds": {"input": 1.0, "compute": 8.0, "exchange": 1.0},
        "input_share": 0.1,
        "samples_per_second": 1000.0,
        "peak_memory_gb": 0.6,
        "seconds": 10.0,
        "target": 0.8,
        "target_reached": 0,
        "target_best": 0.53,
        **values,
        "val_nnse": 0.525,
    }


@pytest.fixture(scope="session")
def finished(prepared: dict[str, Path], made_events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by location whose network says what climatology does, drawn towards the mean of training; read only."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(prepared["location"], folder / "series")
    test = Windows(folder / "series", "test")
    known = test.known[test.index["row"], test.index["start"] - 1][:, CLIMATOLOGY : CLIMATOLOGY + len(grid.WIDTHS)]
    for name in ("train", "forecast", "score"):
        (folder / name).mkdir()
    np.save(folder / "forecast/forecasts.npy", (0.7 * known + 0.3 * test.target_mean).astype(np.float32))
    said = {"windows": len(test), "model": "lstm", "seconds": 2.0, "windows_per_second": len(test) / 2.0}
    (folder / "forecast/infer.json").write_text(json.dumps(said))
    (folder / "train/train.json").write_text(json.dumps(train_table(test.facts)))
    lines = [json.dumps({"epoch": n, "nnse": 0.5 + n / 100, "val_nnse": 0.5}) for n in (1, 2, 3)]
    (folder / "train/epochs.jsonl").write_text("\n".join(lines) + "\n")
    score(folder / "series", folder / "forecast", folder / "score", made_events / "truth.npz")
    return folder
