"""Both trainings of STEMDL on real Horovod ranks in the image, and one whole run to its checked submission."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import kit
from inside import stage

from kit.benchmarks.stemdl.patterns import generate
from kit.stages.ml import shards
from kit.stages.stemdl.network import dense_parameters, resnet_parameters
from kit.stages.stemdl.prepare import prepare

CODE = ("-m", "kit.stages.stemdl")
NUMBERS = {
    "space_groups": "136,167,216,225",
    "materials": 5,
    "orientations": 2,
    "thicknesses": 2,
    "raw_side": 32,
    "data_seed": 5,
}
COMMON = ("--data", "prepared", "--learning-rate", "0.002", "--reference-batch", "4")
CLASSIFY = (*CODE, "train", *COMMON, "--depth", "14", "--width", "8")
CHANGED = ("--mirror", "--zoom", "0.1", "--erase", "0.3")
REDRAW = (*CODE, "reconstruct", *COMMON, "--growth", "4", "--blocks", "3")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stemdl")
    for name in ("data", "prepared"):
        (folder / name).mkdir()
    generate(folder / "data", NUMBERS)
    prepare(folder / "data", folder / "prepared", side=32, values="log", merge="enantiomorphs", held_out=0.2, seed=1)
    return folder


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "train.json").read_text())
    return found


NETWORKS = """
import numpy as np, tensorflow as tf
from kit.stages.stemdl.network import BLOCKS, dense, dense_parameters, resnet, resnet_parameters
for depth in BLOCKS:
    assert resnet(depth, 8, 5, 32).count_params() == resnet_parameters(depth, 8, 5), depth
published = resnet(50, 64, 200, 128)
assert published.count_params() == resnet_parameters(50, 64, 200)
assert published(np.zeros((2, 128, 128, 3), np.float32)).shape == (2, 200)
for growth, blocks in ((4, 3), (8, 4)):
    model = dense(growth, blocks, 32)
    assert model.count_params() == dense_parameters(growth, blocks)
    assert model(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 16, 16, 3)
print("parameters", published.count_params())
"""


def test_networks_have_the_parameters_that_are_said(work: Path) -> None:
    assert f"parameters {resnet_parameters(50, 64, 200)}" in stage(work, 0, "-c", NETWORKS)


GRADIENTS = """
import numpy as np, tensorflow as tf
from pathlib import Path
from kit.stages.ml.ranks import join
from kit.stages.ml.train import Step
from kit.stages.stemdl.train import classify, redraw
ranks = join("horovod")
tf.config.experimental.enable_op_determinism()
for task in (classify(Path("prepared"), 14, 8, 0.1), redraw(Path("prepared"), 4, 3)):
    fields = task.training.read(np.arange(8))
    tf.keras.utils.set_random_seed(1)
    model = task.network()
    # Normalisation uses the statistics of a rank's own batch; without it, what ranks sum is what one finds.
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.trainable = False
    step = Step(task, model)
    def found(part):
        gradients, count, sums = step.gradients(*(tf.constant(field[part]) for field in fields))
        return [*gradients, count, sums]
    alone = [value.numpy() for value in found(slice(0, 8))]
    both = [ranks.sum([value])[0].numpy() for value in found(slice(4 * ranks.rank, 4 * ranks.rank + 4))]
    worst = max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6) for a, b in zip(alone, both))
    assert worst < 1e-3, worst
print("worst", worst)
"""


def test_gradient_of_two_ranks_is_that_of_one(work: Path) -> None:
    """Of both tasks, with the averages of normalisation held still, to what single precision rounds."""
    assert "worst" in stage(work, 2, "-c", GRADIENTS)


@pytest.fixture(scope="module")
def two(work: Path) -> Path:
    """Two epochs on two ranks, with stacks that are changed."""
    stage(work, 2, *CLASSIFY, *CHANGED, "--out", "two", "--epochs", "2", "--batch-size", "2", "--schedule", "constant")
    return work / "two"


def test_ranks_end_with_one_network_and_a_cut_training_goes_on_bit_for_bit(work: Path, two: Path) -> None:
    """The trainer refuses ranks whose weights differ. Weights and numbers are those of a training in one piece."""
    found = facts(two)
    labels = json.loads((work / "prepared/prepared.json").read_text())["labels"]
    assert (found["ranks"], found["parameters"]) == (2, resnet_parameters(14, 8, len(labels)))
    assert found["labels"] == labels == [136, 167, 216, 225]
    assert not set(found["training_materials"]) & set(found["validation_materials"])
    words = (*CLASSIFY, *CHANGED, "--out", "cut", "--batch-size", "2", "--schedule", "constant")
    stage(work, 2, *words, "--epochs", "1")
    assert facts(work / "cut")["last_weights_sha256"] != found["last_weights_sha256"]
    stage(work, 2, *words, "--epochs", "2")
    for key in ("last_weights_sha256", "loss", "f1", "val_loss", "val_f1"):
        assert facts(work / "cut")[key] == found[key]


def test_reconstruction_trains_and_both_are_scored(work: Path, two: Path) -> None:
    stage(work, 2, *REDRAW, "--out", "reconstruct", "--epochs", "2", "--batch-size", "2")
    found = facts(work / "reconstruct")
    assert found["parameters"] == dense_parameters(4, 3)
    assert found["density_mean"] == pytest.approx(1.0, abs=1e-2)
    words = ("score", "--data", "prepared", "--classifier", two.name, "--reconstruction", "reconstruct", "--out", "score")
    stage(work, 0, *CODE, *words)
    score = json.loads((work / "score/score.json").read_text())
    from sklearn import metrics

    with np.load(work / "score/predictions.npz") as file:
        f1 = metrics.f1_score(file["actual"], file["network"], labels=score["labels"], average="macro", zero_division=0)
    assert score["groups"]["network"]["f1"] == pytest.approx(f1)
    assert 0 < score["density"]["error"] < 3
    # Weights of other labels are refused.
    listing = json.loads((two / "train.json").read_text())
    (work / "other").mkdir()
    (work / "other/train.json").write_text(json.dumps({**listing, "labels": [1, 2, 3, 4]}))
    words = ("score", "--data", "prepared", "--classifier", "other", "--reconstruction", "reconstruct", "--out", "none")
    assert "was trained on other labels" in stage(work, 0, *CODE, *words, code=1)
    assert not (work / "none/score.json").exists()


def test_permuted_labels_end_at_chance(work: Path) -> None:
    """What the validation says of a network that learned nothing true: near a quarter, of four classes."""
    from shutil import copytree

    copytree(work / "prepared", work / "permuted")
    rng = np.random.default_rng(1)
    listing = json.loads((work / "permuted/prepared.json").read_text())
    for shard in listing["shards"]:
        records = np.load(work / "permuted" / shard["file"])
        records["space_group"] = rng.choice(listing["labels"], len(records))
        shards.write(work / "permuted" / shard["file"], records)
    words = (*CLASSIFY, "--out", "chance", "--epochs", "3", "--batch-size", "2")
    stage(work, 2, *("permuted" if word == "prepared" else word for word in words))
    found = facts(work / "chance")
    assert found["target_best"] < 0.65
    assert found["validation_samples"] >= 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One real run at size tiny, and the submission that is made of it."""
    base = tmp_path_factory.mktemp("run")
    environment = {"KIT_RUNS": str(base / "runs")}
    directory = Path(kit("run", "stemdl", "--size", "tiny", "--wait", env=environment).stdout.split()[-1])
    kit("collect", str(directory), env=environment)
    words = ("--to", str(base / "submissions"), "--organisation", "trial", "--allow-trial")
    folder = Path(kit("submission", "pack", str(directory), *words, env=environment).stdout.split()[-1])
    return directory, folder


def test_a_run_at_tiny_is_valid_and_its_submission_accepted(run: tuple[Path, Path]) -> None:
    directory, folder = run
    kit("submission", "check", str(folder), "--allow-trial")
    recorded = json.loads((directory / "run.json").read_text())
    assert recorded["state"]["name"] == "valid"
    found = {metric["name"]: metric["value"] for metric in recorded["metrics"]}
    assert found["margin"] >= 0
    assert found["density_margin"] >= 0
    assert found["mpi_ranks"] == 2
    assert {path.stem for path in (directory / "figures").glob("*.png")} >= {"patterns", "systems", "density", "training"}


def test_a_leak_of_a_real_run_is_refused(run: tuple[Path, Path], tmp_path: Path) -> None:
    directory, _ = run
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(directory), str(copy)], check=True)
    listing = json.loads((copy / "prepared/prepared.json").read_text())
    path = copy / "train/train.json"
    trained = json.loads(path.read_text())
    leaked = [*trained["training_materials"], listing["materials"]["testing"][0]]
    path.write_text(json.dumps({**trained, "training_materials": leaked}))
    said = " ".join(kit("collect", str(copy), code=1).stdout.split())
    assert "test materials were seen in training" in said
