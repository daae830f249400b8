"""Training and inference on real Horovod ranks in the image: what must hold whatever the numbers are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import kit

from kit.benchmarks.cloudmask import scenes
from kit.image import built_sif, load_image

PARAMETERS = {"rows": 256, "columns": 256, "training_scenes": 5, "inference_scenes": 2, "label_error": 0.03, "seed": 5}
PYTHON = "/opt/venv/bin/python3"


def stage(folder: Path, ranks: int, *words: str, code: int = 0, name: str = "cloudmask") -> str:
    image = ["apptainer", "exec", "--no-privs", "--no-home", "--bind", str(folder), "--pwd", str(folder)]
    launcher = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks else []
    result = subprocess.run(
        [*image, "--env", "OMP_NUM_THREADS=1", str(built_sif(load_image(name))), *launcher, PYTHON, *words],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (result.returncode == 0) == (code == 0), result.stdout + result.stderr
    return result.stdout + result.stderr


TRAIN = ("-m", "kit.benchmarks.cloudmask", "train", "--data", "scenes", "--validation-scenes", "1", "--warmup-epochs", "1")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    scenes.generate(folder / "data", PARAMETERS)
    stage(folder, 0, "-m", "kit.benchmarks.cloudmask", "convert", "--data", "data", "--out", "scenes")
    return folder


def epochs(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def test_network_is_the_reference_one(work: Path) -> None:
    assert "1948609" in stage(work, 0, "-c", "from kit.benchmarks.cloudmask.model import unet; print(unet().count_params())")


def test_two_ranks_train_as_one_does_and_resume_goes_on(work: Path) -> None:
    """The same four patches a step: two ranks of two, or one of four. Sums are exchanged, so the losses agree."""
    stage(work, 2, *TRAIN, "--out", "two", "--epochs", "2", "--batch-size", "2")
    stage(work, 1, *TRAIN, "--out", "one", "--epochs", "2", "--batch-size", "4")
    two, one = epochs(work / "two"), epochs(work / "one")
    for key in ("loss", "val_loss"):
        assert [e[key] for e in two] == pytest.approx([e[key] for e in one], rel=1e-3)
    facts = json.loads((work / "two/train.json").read_text())
    assert (facts["ranks"], facts["devices"]) == (2, ["CPU", "CPU"])
    # Cut off after the first epoch and started again, it ends where the uninterrupted run ended.
    stage(work, 2, *TRAIN, "--out", "cut", "--epochs", "1", "--batch-size", "2")
    stage(work, 2, *TRAIN, "--out", "cut", "--epochs", "2", "--batch-size", "2")
    assert [e["epoch"] for e in epochs(work / "cut")] == [1, 2]
    assert epochs(work / "cut")[1]["val_loss"] == pytest.approx(two[1]["val_loss"], rel=1e-4)


def test_too_little_data_is_said(work: Path) -> None:
    said = stage(work, 2, *TRAIN, "--out", "none", "--epochs", "1", "--batch-size", "16", code=1)
    assert "4 training patches do not fill one global batch of 16 x 2 ranks" in said
    assert not (work / "none/train.json").exists()


def test_cuda_image_trains_alike(work: Path) -> None:
    """On the GPUs where there are any, with --nv; without, its Horovod and TensorFlow compute on the processor."""
    if not load_image("cloudmask-cuda").sif.is_file():
        pytest.skip("not built here: make image/cloudmask-cuda")
    for name in ("cloudmask", "cloudmask-cuda"):
        stage(work, 2, *TRAIN, "--out", name, "--epochs", "1", "--batch-size", "2", name=name)
    losses = [[e["loss"] for e in epochs(work / name)] for name in ("cloudmask", "cloudmask-cuda")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_rank_on_another_device_is_refused(made_runs: Path, tmp_path: Path) -> None:
    """What a CUDA image does without --nv, and what nobody would notice in a table of times."""
    (directory,) = (made_runs / "cloudmask").iterdir()
    shutil.copytree(directory, tmp_path / "run")
    path = tmp_path / "run/train/train.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "devices": ["CPU", "NVIDIA H100"]}))
    said = kit("collect", str(tmp_path / "run"), code=1).stdout
    assert "ranks computed on NVIDIA H100, but cloudmask is there for a CPU each" in said
