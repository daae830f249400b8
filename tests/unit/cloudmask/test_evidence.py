"""The masks of a run as bits: scored again they have the score of the run, and nobody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.cloudmask import evidence, scenes
from kit.core import paths
from kit.core.errors import KitError
from kit.stages.cloudmask.infer import write_netcdf
from kit.stages.cloudmask.patches import load

PARAMETERS = load_benchmark("cloudmask").size("tiny").parameters | {"validation_scenes": 2, "data_seed": 5}
Files = dict[str, Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small scenes: nothing is trained on them."""
    folder = tmp_path_factory.mktemp("small")
    size = {"rows": 64, "columns": 72, "training_scenes": 6, "inference_scenes": 2, "matchups_per_scene": 5}
    scenes.generate(folder, PARAMETERS | size)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of its masks, which are noise here, and their score."""
    work = tmp_path_factory.mktemp("run")
    for path in evidence.converted(data, work, PARAMETERS):
        scene, rng = load(path, None), np.random.default_rng(1)
        write_netcdf(work / "masks" / f"{path.stem}.nc", scene, rng.random(scene.seen.shape).astype(np.float32))
    evidence.scored(data, work, PARAMETERS)
    (work / "evidence").mkdir()
    evidence.write_masks(work, work / "evidence/masks.npy")
    return work


@pytest.fixture
def files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    names = ("evidence/masks.npy", "score/score.json")
    for name in names:
        (tmp_path / name).parent.mkdir()
        shutil.copyfile(run / name, tmp_path / name)
    return {name: tmp_path / name for name in names}


def found(files: Files, data: Path, same_data: bool = True) -> list[str]:
    return [rule for rule, _, _ in evidence.score_again(files, data, PARAMETERS, same_data)]


def forge(files: Files, change: Callable[[Any], None]) -> None:
    said = json.loads(files["score/score.json"].read_text())
    change(said)
    files["score/score.json"].write_text(json.dumps(said))


def test_honest_masks_have_the_score(files: Files, data: Path, tmp_path: Path) -> None:
    assert found(files, data) == []
    assert list((tmp_path / "cache/scored-again").iterdir()) == []  # nothing is left behind


def test_same_bytes_every_time(run: Path, tmp_path: Path) -> None:
    evidence.write_masks(run, tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_bytes() == (run / "evidence/masks.npy").read_bytes()


def test_one_forged_pixel(files: Files, data: Path) -> None:
    bits = np.load(files["evidence/masks.npy"])
    bits[len(bits) // 2] ^= 0b00010000
    np.save(files["evidence/masks.npy"], bits)
    assert "evidence-score" in found(files, data)


def test_forged_count(files: Files, data: Path) -> None:
    def change(said: Any) -> None:
        counts = next(iter(said["per_scene"].values()))["truth"]["network"]
        counts[0][0] += 1
        counts[0][1] -= 1

    forge(files, change)
    assert found(files, data) == ["evidence-score"]


def test_other_data_have_a_tolerance() -> None:
    """A pixel in ten thousand is rounding, where the data made again have other bytes; more is forged."""

    def score(wrong: int, name: str = "scene") -> dict[str, Any]:
        return {"per_scene": {name: {"label": {}, "truth": {"network": [[50_000 - wrong, wrong], [0, 50_000]]}}}}

    assert list(evidence.roughly(score(0), score(10))) == []
    assert len(list(evidence.roughly(score(0), score(11)))) == 1
    assert list(evidence.roughly(score(0, "another"), score(0))) == ["per_scene has other scenes than the data"]


def test_forged_stratum(files: Files, data: Path) -> None:
    forge(files, lambda said: said["strata"]["day"].update(accuracy=0.99))
    assert found(files, data) == ["evidence-score"]


@pytest.mark.parametrize("short", [1, -1])
def test_masks_of_another_size(files: Files, data: Path, short: int) -> None:
    bits = np.load(files["evidence/masks.npy"])
    np.save(files["evidence/masks.npy"], np.resize(bits, len(bits) - short))
    assert found(files, data) == ["evidence-form"]


def header(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        header("(10,)"),
        header("(10**18,)") + b"1234567890",
        header("(1000000000000000000,)") + b"1234567890",
        header("(10,)", "<f8") + bytes(80),
        header("(2, 5)") + bytes(10),
        header("(1,)", "|O") + b"\x80\x04N.",
        header("("),
    ],
)
def test_hostile_arrays(files: Files, data: Path, content: bytes) -> None:
    files["evidence/masks.npy"].write_bytes(content)
    assert found(files, data) == ["evidence-form"]


def test_run_without_masks(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with pytest.raises(KitError, match="no masks"):
        evidence.write_masks(tmp_path, tmp_path / "masks.npy")


def test_only_runs_with_a_score_have_evidence() -> None:
    code = load_benchmark("cloudmask").code
    assert list(code.evidence(["infer", "score"])) == ["masks.npy"]
    assert not code.evidence(["train"])
