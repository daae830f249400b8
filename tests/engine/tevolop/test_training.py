"""TEvolOp on real Horovod ranks in the image: one whole run to its submission, and what must hold of any training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import kit
from inside import stage

from kit.benchmarks.tevolop import etas
from kit.images.render import load_image
from kit.stages.tevolop.prepare import INPUTS, prepare
from kit.stages.tevolop.windows import Windows

CODE = ("-m", "kit.stages.tevolop")
TRAIN = (*CODE, "train", "--data", "series", "--batch-size", "64", "--reference-batch", "128", "--learning-rate", "0.001")
SMALL = ("--units", "8", "--epochs", "2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of size tiny, collected."""
    base = tmp_path_factory.mktemp("runs")
    directory = Path(kit("run", "tevolop", "--size", "tiny", "--wait", env={"KIT_RUNS": str(base)}).stdout.split()[-1])
    kit("collect", str(directory))
    return directory


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small catalogue as series/, split by location, and by time in series-time/."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    etas.generate(folder / "data", {"days": 6000, "background_per_year": 200, "pixels": 40, "data_seed": 3})
    for name, split in (("series", "location"), ("series-time", "time")):
        (folder / name).mkdir()
        prepare(folder / "data", folder / name, 6000, 40, split, seed=1, stride=3, smallest=2.5, most_outside=0.01)
    return folder


@pytest.fixture(scope="module")
def two(work: Path) -> Path:
    """Two epochs on two ranks, with dropout."""
    stage(work, 2, *TRAIN, *SMALL, "--out", "two", "--dropout", "0.2")
    return work / "two"


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "train.json").read_text())
    return found


def score(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "score/score.json").read_text())
    return found


def test_a_run_beats_its_baselines_below_the_ceiling(run: Path) -> None:
    """By the gates; and what generated events can be forecast at all is no 0.8, which the score says."""
    said = score(run)
    assert said["margin"] > 0
    assert max(said["nnse"][name] for name in ("persistence", "climatology", "etas")) < said["nnse"]["network"]
    assert said["nnse"]["network"] < said["nnse"]["intensity"] + 0.03
    assert said["in_window"] == 0
    assert facts(run / "train")["ranks"] == 2
    assert {path.stem for path in (run / "figures").glob("*.png")} == {"maps", "series", "horizons", "training"}


def test_a_submission_of_it_is_accepted_and_scored_again(run: Path, tmp_path: Path) -> None:
    words = ("--to", str(tmp_path), "--organisation", "trial", "--allow-trial")
    folder = kit("submission", "pack", str(run), *words).stdout.split()[-1]
    kit("submission", "check", folder, "--allow-trial")
    kit("submission", "check", folder, "--allow-trial", "--deep")


def leaked(directory: Path) -> None:
    """A pixel of the test among those of training, in every file that says so."""
    path = directory / "series/prepared.json"
    table = json.loads(path.read_text())
    table["splits"]["training"]["pixels"].append(table["splits"]["test"]["pixels"][0])
    path.write_text(json.dumps(table))
    path = directory / "train/train.json"
    path.write_text(json.dumps({**facts(path.parent), "training_pixels": table["splits"]["training"]["pixels"]}))


def stranger(directory: Path) -> None:
    """The same in the windows alone."""
    index = np.load(directory / "series/training.npy")
    index["row"][0] = np.load(directory / "series/test.npy")["row"][0]
    np.save(directory / "series/training.npy", index)


def one_rank(directory: Path) -> None:
    path = directory / "train/train.json"
    path.write_text(json.dumps({**facts(path.parent), "ranks": 1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (leaked, "test pixels were seen in training"),
        (stranger, "series/training.npy: has windows of pixels that are not of it"),
        (one_rank, "2 ranks were asked for, 1 formed one job"),
    ],
)
def test_a_leak_is_refused(run: Path, tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    change(tmp_path / "run")
    assert message in " ".join(kit("collect", str(tmp_path / "run"), code=1).stdout.split())


NETWORKS = """
from kit.stages.ml.dropout import parameters
from kit.stages.tevolop.network import network
for model in ("lstm", "transformer"):
    print("parameters", parameters(network(model, {inputs}, 8, 0.1)))
"""


def by_hand(inputs: int, units: int) -> list[int]:
    """Parameters of the two networks, layer by layer: weights and biases."""

    def dense(into: int, out: int) -> int:
        return into * out + out

    def lstm(into: int, out: int) -> int:
        return 4 * ((into + out) * out + out)

    ends = dense(units, units) + dense(units, 6) + dense(inputs, 6)
    recurrent = dense(inputs, units) + 2 * lstm(units, units)
    block = 4 * dense(units, units) + 3 * 2 * units + dense(units, 2 * units) + dense(2 * units, units)
    return [recurrent + ends, dense(inputs, units) + 26 * units + 2 * block + 2 * units + lstm(units, units) + ends]


def test_networks_have_the_parameters_that_their_layers_say(work: Path) -> None:
    said = stage(work, 0, "-c", NETWORKS.format(inputs=len(INPUTS)))
    found = [int(line.split()[1]) for line in said.splitlines() if line.startswith("parameters")]
    assert found == by_hand(len(INPUTS), 8)


GRADIENTS = """
import numpy as np, tensorflow as tf
from pathlib import Path
from kit.stages.ml.ranks import join
from kit.stages.ml.train import Step
from kit.stages.tevolop.train import task
ranks = join("horovod")
tf.config.experimental.enable_op_determinism()
tf.keras.backend.set_floatx("float64")
for model in ("lstm", "transformer"):
    of = task(Path("series"), model, 8)
    inputs, targets = (values.astype(float) for values in of.training.read(np.arange(0, 2400, 207)))
    assert np.isnan(targets).any()
    tf.keras.utils.set_random_seed(1)
    network = of.network()
    for variable in network.trainable_variables:  # the last layers begin with zeros, behind which no gradient is
        variable.assign(variable + 0.1 * np.random.default_rng(2).normal(size=variable.shape))
    step = Step(of, network)
    part = slice(6 * ranks.rank, 6 * ranks.rank + 6)
    mine, number, tallies = step.gradients(tf.constant(inputs[part]), tf.constant(targets[part]))
    shared = [ranks.sum([value])[0].numpy() for value in (*mine, number, tallies)]
    whole, count, sums = step.gradients(tf.constant(inputs), tf.constant(targets))
    alone = [value.numpy() for value in (*whole, count, sums)]
    # The bias of an attention's keys changes nothing, and its gradient is rounding alone.
    worst = max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6) for a, b in zip(alone, shared))
    assert worst < 1e-9, worst
    assert count.numpy() == np.isfinite(targets).sum() == sums.numpy()[2:8].sum()
    print(model, "agrees")
"""


def test_gradient_of_two_ranks_is_that_of_one(work: Path) -> None:
    """A target that does not exist is in no gradient and no count, on one rank or on two."""
    said = stage(work, 2, "-c", GRADIENTS)
    assert "lstm agrees" in said
    assert "transformer agrees" in said


def test_two_ranks_train_as_one_does(work: Path) -> None:
    """The same windows a step, without dropout, whose masks are of each rank; the trainer compares weights of ranks."""
    for name, ranks, batch in (("alone", 1, "128"), ("both", 2, "64")):
        stage(work, ranks, *TRAIN, *SMALL, "--out", name, "--dropout", "0", "--batch-size", batch)
    for key in ("loss", "val_loss", "val_nnse"):
        assert facts(work / "both")[key] == pytest.approx(facts(work / "alone")[key], rel=1e-3)
    assert facts(work / "both")["global_batch"] == facts(work / "alone")["global_batch"] == 128


def test_a_training_goes_on_bit_for_bit(work: Path, two: Path) -> None:
    """Cut off behind an epoch and begun again, with dropout, it ends with the same weights."""
    words = (*TRAIN, "--units", "8", "--out", "cut", "--dropout", "0.2")
    stage(work, 2, *words, "--epochs", "1")
    assert facts(work / "cut")["last_weights_sha256"] != facts(two)["last_weights_sha256"]
    stage(work, 2, *words, "--epochs", "2")
    for key in ("last_weights_sha256", "loss", "val_loss"):
        assert facts(work / "cut")[key] == facts(two)[key]


def test_permuted_targets_end_at_chance(work: Path) -> None:
    """What follows nothing is forecast no better than by its mean, whose NNSE is a half."""
    shutil.copytree(work / "series", work / "permuted")
    targets = np.load(work / "permuted/targets.npy")
    flat = targets.reshape(-1, targets.shape[2])
    there = np.isfinite(flat).all(axis=1)
    flat[there] = np.random.default_rng(0).permutation(flat[there])
    np.save(work / "permuted/targets.npy", targets)
    words = ("--data", "permuted", "--units", "8", "--epochs", "4", "--out", "chance", "--dropout", "0.2")
    stage(work, 1, *TRAIN, *words)
    assert facts(work / "chance")["val_nnse"] == pytest.approx(0.5, abs=0.01)


def test_the_transformer_trains_and_forecasts_by_time(work: Path) -> None:
    words = ("--data", "series-time", "--model", "transformer", *SMALL, "--out", "transformer")
    stage(work, 2, *TRAIN, *words)
    assert (facts(work / "transformer")["split"], facts(work / "transformer")["model"]) == ("time", "transformer")
    stage(work, 0, *CODE, "infer", "--data", "series-time", "--trained", "transformer", "--out", "forecast")
    stage(work, 0, *CODE, "score", "--data", "series-time", "--forecast", "forecast", "--out", "score")
    found = np.load(work / "forecast/forecasts.npy")
    assert found.shape == (len(Windows(work / "series-time", "test")), 6)
    assert score(work)["horizons"] == ["2w", "3m", "6m", "1y", "2y"]  # 64 fortnights of test have no four years


def test_weights_of_another_network_are_refused(work: Path, two: Path) -> None:
    shutil.copytree(two, work / "other")
    path = work / "other/train.json"
    path.write_text(json.dumps({**facts(path.parent), "units": 12}))
    said = stage(work, 0, *CODE, "infer", "--data", "series", "--trained", "other", "--out", "none", code=1)
    assert "not the weights of this lstm; train it again" in said
    assert not (work / "none/infer.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "rnn"), "--model rnn: unknown; there are lstm and transformer"),
        (("--model", "transformer", "--units", "10"), "--units 10: a multiple of 4 is needed"),
        (("--batch-size", "999999"), "training windows do not fill one global batch"),
    ],
)
def test_what_can_not_be_trained_is_said(work: Path, words: tuple[str, ...], message: str) -> None:
    said = stage(work, 0, *TRAIN, *SMALL, "--backend", "single", "--out", "refused", *words, code=1)
    assert message in said
    assert not (work / "refused/train.json").exists()


def test_without_horovod_the_network_trains_alike(work: Path) -> None:
    """On today's TensorFlow and Keras 3, in one process; each version draws other first weights from a seed."""
    if not load_image("keras").sif.is_file():
        pytest.skip("not built here: make image/keras")
    for name in ("horovod", "keras"):
        words = ("--backend", "single", "--out", f"on-{name}", *SMALL)
        stage(work, 0, *TRAIN, *words, name=name)
        told = ("--trained", f"on-{name}", "--out", f"told-{name}")
        stage(work, 0, *CODE, "infer", "--data", "series", *told, name=name)
    assert facts(work / "on-keras")["parameters"] == facts(work / "on-horovod")["parameters"]
    assert facts(work / "on-keras")["val_loss"] == pytest.approx(facts(work / "on-horovod")["val_loss"], rel=0.1)
    assert os.path.getsize(work / "told-keras/forecasts.npy") == os.path.getsize(work / "told-horovod/forecasts.npy")
