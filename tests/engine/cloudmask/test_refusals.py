"""A real run of CloudMask whose records were changed: ranks on another device, scenes in a split that is not theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from conftest import kit


def facts(folder: Path) -> dict[str, object]:
    return json.loads((folder / "train.json").read_text())


def test_a_rank_on_another_device_is_refused(made_runs: Path, tmp_path: Path) -> None:
    """What a CUDA image does without --nv, and what nobody would notice in a table of times."""
    (directory,) = (made_runs / "cloudmask").iterdir()
    shutil.copytree(directory, tmp_path / "run")
    path = tmp_path / "run/train/train.json"
    path.write_text(json.dumps({**facts(path.parent), "devices": ["CPU", "NVIDIA H100"]}))
    said = kit("collect", str(tmp_path / "run"), code=1).stdout
    assert "ranks computed on NVIDIA H100, but horovod is there for a CPU each" in said


def test_a_test_scene_in_training_is_refused(made_runs: Path, tmp_path: Path) -> None:
    """By its name, or by an orbit whose granules lie on both sides."""
    (directory,) = (made_runs / "cloudmask").iterdir()
    shutil.copytree(directory, tmp_path / "run")
    path = tmp_path / "run/train/train.json"
    listing = tmp_path / "run/products/scenes.json"
    tested = next(s for s in json.loads(listing.read_text())["scenes"] if s["split"] == "inference")
    trained = facts(path.parent)
    path.write_text(json.dumps({**trained, "training_scenes": [*trained["training_scenes"], tested["name"]]}))
    said = kit("collect", str(tmp_path / "run"), code=1).stdout
    assert f"test scenes were seen in training: {tested['name']}" in " ".join(said.split())
    trained_on, held_out = trained["training_scenes"], trained["validation_scenes"]
    for changes, message in (
        ({"training_scenes": [*trained_on, held_out[0]]}, f"training used scenes that are not of it: {held_out[0]}"),
        ({"validation_scenes": [*held_out, trained_on[0]]}, f"validation used scenes that are not of it: {trained_on[0]}"),
        ({"validation_scenes": []}, "validation used scenes that are not of it: none"),
    ):
        path.write_text(json.dumps({**trained, **changes}))
        assert message in " ".join(kit("collect", str(tmp_path / "run"), code=1).stdout.split())
    path.write_text(json.dumps(trained))
    scenes_there = json.loads(listing.read_text())
    for scene in scenes_there["scenes"]:
        if scene["name"] == trained["training_scenes"][0]:
            scene["orbit"] = tested["orbit"]
    listing.write_text(json.dumps(scenes_there))
    said = kit("collect", str(tmp_path / "run"), code=1).stdout
    assert f"test scenes were seen in training: {tested['orbit']}" in " ".join(said.split())
