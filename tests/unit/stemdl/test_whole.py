"""What a stage that is cut off leaves: no file under its own name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kit.stages.ml.options import Options
from kit.stages.stemdl import prepare as preparing
from kit.stages.stemdl import train as training
from kit.stages.stemdl.whole import write_json, write_npz


def cut_off(self: Path, target: Path) -> None:
    raise InterruptedError(str(self))


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"b": [1]}, indent=1)
    write_npz(tmp_path / "a.npz", {"b": np.arange(3)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1]}
    with np.load(tmp_path / "a.npz") as file:
        assert file["b"].tolist() == [0, 1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.npz"}
    monkeypatch.setattr(Path, "rename", cut_off)
    for name, write in (("b.json", write_json), ("b.npz", write_npz)):
        with pytest.raises(InterruptedError):
            write(tmp_path / name, {"b": 1})
        assert not (tmp_path / name).exists()


def test_what_was_prepared_is_listed_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "jobs", lambda *_: [])
    monkeypatch.setattr(preparing, "listing", lambda *_: {"side": 32})
    monkeypatch.setattr(Path, "rename", cut_off)
    with pytest.raises(InterruptedError, match=r"prepared\.partial"):
        preparing.prepare(tmp_path, tmp_path, side=32, values="log", merge="none", held_out=0.2, seed=1)
    assert not (tmp_path / "prepared.json").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_says_that_nothing_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    (tmp_path / "prepared.json").write_text(json.dumps({"density": 0}))
    monkeypatch.setattr(training, "join", lambda backend: SimpleNamespace(rank=rank))
    options: Any = Options
    training.reconstruct(tmp_path, tmp_path, options, "single", 8, 4)
    left = {"prepared.json"} | ({"train.json"} if rank == 0 else set())
    assert {path.name for path in tmp_path.iterdir()} == left
