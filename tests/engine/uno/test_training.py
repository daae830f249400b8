"""Uno on real Horovod ranks in the image: a run from its data to an accepted submission, and what holds of a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import kit
from inside import stage

from kit.benchmarks.uno import responses
from kit.stages.uno.prepare import prepare

CODE = ("-m", "kit.stages.uno")
TRAIN = (*CODE, "train", "--data", "rows", "--batch-size", "8", "--learning-rate", "0.0005", "--reference-batch", "16")


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of size tiny, collected, and the submission that was packed of it."""
    base = tmp_path_factory.mktemp("walked")
    env = {"KIT_RUNS": str(base / "runs")}
    kit("run", "uno", "--size", "tiny", "--wait", env=env)
    (run,) = (base / "runs/uno").iterdir()
    kit("collect", str(run), env=env)
    words = ("--to", str(base / "submissions"), "--organisation", "trial", "--allow-trial")
    kit("submission", "pack", str(run), *words, env=env)
    (submission,) = (base / "submissions").glob("*/*/*/*")
    return {"run": run, "submission": submission}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for a few steps of the whole network."""
    folder = tmp_path_factory.mktemp("train")
    counts = {"cells": 12, "drugs": 9, "training_rows": 64, "validation_rows": 16, "test_rows": 21}
    data = {**counts, "interaction": 0.8, "noise": 0.06, "replicates": 3, "data_seed": 5}
    (folder / "rows").mkdir()
    responses.generate(folder, data)
    prepare(folder / responses.FILE, folder / "rows", "random", 1)
    return folder


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def epochs(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def test_a_run_is_accepted(walked: dict[str, Path]) -> None:
    result = kit("submission", "check", str(walked["submission"]), "--allow-trial", "--deep")
    assert f"{walked['submission']}: accepted" in result.stdout
    for name in ("responses", "residuals", "training"):
        assert (walked["run"] / f"figures/{name}.png").is_file()


def test_the_network_learned_what_adding_cannot(walked: dict[str, Path]) -> None:
    """Better than the ridge on the same features by far more than chance, and below what the noise allows."""
    score, trained = facts(walked["run"] / "score/score.json"), facts(walked["run"] / "train/train.json")
    assert trained["parameters"] == 16_224_001
    assert (trained["ranks"], trained["devices"]) == (2, ["CPU", "CPU"])
    assert score["margin_interval"][0] > 0
    assert score["network"]["r2"] < score["ceiling"] + 0.01
    assert trained["peak_memory_gb"] < 2
    # Counted once each: what the trainer says of the split is what NumPy says of it.
    assert trained["val_loss"] == min(epoch["val_loss"] for epoch in epochs(walked["run"] / "train"))


def test_labels_that_are_shuffled_end_at_chance(walked: dict[str, Path], tmp_path: Path) -> None:
    """The same training, of areas that belong to other rows: it explains nothing of the test. Not a correlation of zero:
    what is said is a function of 100 cell lines and 60 drugs, and so few may happen to agree, or not: r was -0.17."""
    shutil.copytree(walked["run"] / "rows", tmp_path / "rows")
    for name in ("training", "validation"):
        rows = np.load(tmp_path / f"rows/{name}.npy")
        rows["auc"] = np.random.default_rng(1).permutation(rows["auc"])
        np.save(tmp_path / f"rows/{name}.npy", rows)
    words = ("--batch-size", "128", "--learning-rate", "0.001", "--reference-batch", "64", "--epochs", "2")
    stage(tmp_path, 2, *CODE, "train", "--data", "rows", "--out", "train", "--warmup-epochs", "0.5", *words)
    stage(tmp_path, 2, *CODE, "infer", "--data", "rows", "--model-file", "train/model.weights.h5", "--out", "answers")
    said, test = np.load(tmp_path / "answers/predictions.npy"), np.load(tmp_path / "rows/test.npy")
    assert 1 - ((said - test["auc"]) ** 2).mean() / test["auc"].var() < 0.1
    assert epochs(walked["run"] / "train")[1]["val_r2"] > 0.3


NETWORK = """
import tensorflow as tf
from kit.stages.ml.dropout import layer_class, number, parameters
from kit.stages.uno.network import uno
model = uno(0.7)
dense = [layer for layer in model._flatten_layers() if isinstance(layer, tf.keras.layers.Dense)]
assert [layer.units for layer in dense].count(1000) == 11 and len(dense) == 12
assert number(model, 1, 0) == 11 and all(l.rate == 0.1 for l in model._flatten_layers() if isinstance(l, layer_class()))
zero = model([tf.zeros((2, 942)), tf.zeros((2, 5270))]).numpy()
assert abs(zero - 0.7).max() < 1e-6, zero
print("parameters", parameters(model))
"""


def test_the_network_is_the_references(work: Path) -> None:
    """Towers of three, a trunk of five, dropout behind each; no dose, which would be a thousand parameters more."""
    assert "parameters 16224001" in stage(work, 0, "-c", NETWORK)


GRADIENTS = """
import numpy as np, tensorflow as tf
from pathlib import Path
from kit.stages.uno import network
network.DROPOUT = 0.0  # masks differ between ranks
from kit.stages.ml.ranks import join
from kit.stages.uno.train import task
from kit.stages.ml.train import Step
ranks = join("horovod")
tf.config.experimental.enable_op_determinism()
of = task(Path("rows"))
fields = of.training.read(np.arange(8))
tf.keras.utils.set_random_seed(1)
step = Step(of, of.network())
half = slice(4 * ranks.rank, 4 * ranks.rank + 4)
gradients, count, sums = step.gradients(*(tf.constant(field[half]) for field in fields))
shared = [ranks.sum([value])[0].numpy() for value in (*gradients, count, sums)]
gradients, count, sums = step.gradients(*map(tf.constant, fields))
alone = [value.numpy() for value in (*gradients, count, sums)]
assert shared[-2] == alone[-2] == 8 and np.allclose(shared[-1], alone[-1], atol=1e-5)
worst = max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12) for a, b in zip(alone[:-2], shared[:-2]))
assert worst < 1e-3, worst
print("worst", worst)
"""


def test_gradient_of_two_ranks_is_that_of_one(work: Path) -> None:
    """To a thousandth of the largest element, in single precision, in which a ReLU at zero may change sides."""
    assert stage(work, 2, "-c", GRADIENTS).count("worst") == 2


def test_a_training_that_was_cut_off_goes_on_bit_for_bit(work: Path) -> None:
    """With dropout, whose masks differ between the ranks; the trainer refuses ranks whose weights differ."""
    for out, number in (("whole", "2"), ("cut", "1"), ("cut", "2")):
        stage(work, 2, *TRAIN, "--out", out, "--epochs", number)
    whole, cut = facts(work / "whole/train.json"), facts(work / "cut/train.json")
    for key in ("last_weights_sha256", "loss", "val_loss", "val_r2"):
        assert whole[key] == cut[key]
    assert len(epochs(work / "cut")) == 2


def test_answers_do_not_depend_on_ranks_and_batches(work: Path) -> None:
    if not (work / "whole/model.weights.h5").is_file():
        stage(work, 2, *TRAIN, "--out", "whole", "--epochs", "2")
    words = (*CODE, "infer", "--data", "rows", "--model-file", "whole/model.weights.h5")
    stage(work, 2, *words, "--out", "two", "--batch-size", "4")
    stage(work, 0, *words, "--out", "one", "--backend", "single")
    found = [np.load(work / f"{name}/predictions.npy") for name in ("one", "two")]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(found[0]) == 21
    (work / "wrong.h5").write_bytes(b"no weights")
    said = stage(work, 0, *words[:-1], "wrong.h5", "--out", "none", "--backend", "single", code=1)
    assert "wrong.h5: holds no weights of a training" in said
    assert not (work / "none/predictions.npy").exists()
