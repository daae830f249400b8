"""kit tune on real RELION: a trial of three choices on two cores, and a run that uses what it found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import kit


def test_a_trial_of_relion_is_measured_kept_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long anything took is not judged here: only that it was measured, and that what was decided follows from it."""
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    words = ["relion", "--site", "local", "--size", "tiny", "--image", "relion-basic"]
    few = ["--particles", "20", "--repeat", "2", "--runs", str(tmp_path / "runs")]
    found = json.loads(kit("tune", *words, *few, "--json").stdout)
    default = {"ranks": 3, "threads": 1, "parameters": {"pool": 30}}
    tried = found["tried"]
    assert [one["problem"] for one in tried] == [""] * len(tried)
    assert tried[0]["choice"] == default == found["tuning"]["default"]
    if len(os.sched_getaffinity(0)) == 2:
        assert [one["choice"]["parameters"]["pool"] for one in tried] == [30, 3, 10]
    fastest = min(min(one["seconds"]) for one in tried)
    assert fastest > 0.5  # RELION worked: nothing that only started and ended
    assert all(len(one["seconds"]) == 2 or min(one["seconds"]) > 2 * fastest for one in tried)
    choice, gain = found["tuning"]["choice"], found["tuning"]["default_seconds"] - found["tuning"]["seconds"]
    assert choice == default or gain > found["tuning"]["spread"]
    (directory,) = (tmp_path / "runs/tune").iterdir()
    (log,) = directory.glob("logs/m001.out")
    assert "Auto-refine: Iteration= 2" in log.read_text()
    (kept,) = (tmp_path / "config/tuning/local").iterdir()
    assert json.loads(kept.read_text()) == found
    script = kit("run", *words, "--dry-run").stdout
    assert "\n# Tuning: " in script
    assert f"--pool {choice['parameters']['pool']} " in script
    assert "# Tuning" not in kit("run", *words, "--dry-run", "--no-tuning").stdout
