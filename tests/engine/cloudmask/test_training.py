"""Training and inference on real Horovod ranks in the image: what must hold whatever the numbers are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from inside import CODE, PYTHON, command, stage
from network import by_hand, reference_weights, write_keras_file

from kit.benchmarks.cloudmask import scenes
from kit.images.render import load_image
from kit.stages.cloudmask import convert, extract, shards
from kit.stages.cloudmask.__main__ import parser
from kit.stages.cloudmask.network import read_weights
from kit.stages.cloudmask.patches import WHOLE, Label
from kit.stages.ml.ranks import multiplies_tf32
from kit.stages.ml.task import Target
from kit.stages.ml.train import until_target

PARAMETERS = {
    "rows": 256,
    "columns": 256,
    "training_scenes": 9,
    "inference_scenes": 2,
    "label_error": 0.03,
    "matchups_per_scene": 20,
    "data_seed": 5,
}
TRAIN = (*CODE, "train", "--data", "patches", "--warmup-epochs", "1", "--reference-batch", "4")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    for name in ("data", "products", "scenes", "patches"):
        (folder / name).mkdir()
    scenes.generate(folder / "data", PARAMETERS)
    extract.extract(folder / "data", folder / "products", validation_scenes=3, seed=1)
    convert.run(folder / "products/scenes.json", folder / "scenes", skip=0.0)
    shards.cut_all(folder / "scenes", folder / "patches", Label())
    return folder


@pytest.fixture(scope="module")
def two(work: Path) -> Path:
    """Two epochs of three steps on two ranks."""
    stage(work, 2, *TRAIN, "--out", "two", "--epochs", "2", "--batch-size", "1", "--learning-rate", "0.0005")
    return work / "two"


def epochs(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def facts(folder: Path) -> dict[str, object]:
    return json.loads((folder / "train.json").read_text())


NETWORK = """
import numpy as np, tensorflow as tf
from kit.stages.cloudmask.network import unet
tf.keras.utils.set_random_seed(1)
tf.keras.backend.set_floatx("float64")  # so that no pixel of a ReLU changes sides by rounding
plain, fused = unet(fused=False), unet()
fused.set_weights(plain.get_weights())
x = np.random.default_rng(0).normal(size=(2, 64, 80, 9))
def grown(model):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(x) ** 2)
    return value, tape.gradient(value, model.trainable_variables)
(one, ones), (other, others) = grown(plain), grown(fused)
assert abs(one - other) < 1e-5 * abs(one), (one, other)
for a, b in zip(ones, others):
    assert np.abs(a - b).max() < 1e-5 * np.abs(a).max(), a.shape
print("parameters", plain.count_params(), fused.count_params())
"""


def test_network_is_the_reference_one_in_both_forms(work: Path) -> None:
    """As the reference writes it, and with less arithmetic: the same parameters, values and gradients."""
    assert "parameters 1948609 1948609" in stage(work, 0, "-c", NETWORK)


FORWARD = """
import numpy as np, tensorflow as tf
from pathlib import Path
from kit.stages.cloudmask.network import read_weights, trained, unet
from kit.stages.ml.weights import save
x = np.load("patch.npy")[None]
weights = read_weights(Path("reference.h5"))
plain = unet(fused=False)
plain.set_weights(weights)
fused = trained(Path("reference.h5"))
found = {name: tf.sigmoid(model(x))[0, ..., 0].numpy() for name, model in (("plain", plain), ("fused", fused))}
# What the kit writes it reads again, in both forms; and Keras itself reads it.
for name, model in (("plain", plain), ("fused", fused)):
    save(model, Path(f"{name}.weights.h5"))
    for a, b in zip(read_weights(Path(f"{name}.weights.h5")), weights): assert np.array_equal(a, b)
    model.load_weights(f"{name}.weights.h5")
# A network built and saved by Keras as another program would.
L = tf.keras.layers
def two(x, n):
    for _ in range(2): x = L.ReLU()(L.Conv2D(n, 3, padding="same", kernel_initializer="he_normal")(x))
    return x
inputs = L.Input((64, 40, 9))
a = two(inputs, 32)
b = two(L.MaxPool2D(2)(a), 64)
c = two(L.MaxPool2D(2)(b), 128)
y = two(L.MaxPool2D(2)(c), 256)
for skip, n in ((c, 128), (b, 64), (a, 32)): y = two(L.Concatenate(axis=-1)([L.UpSampling2D(2)(y), skip]), n)
other = tf.keras.Model(inputs, L.Conv2D(1, 1, padding="same", activation="sigmoid")(y))
assert len(other.layers) == 39
other.set_weights(weights)
other.save("whole.h5")
other.save_weights("alone.h5")
for name in ("whole", "alone"):
    for a, b in zip(read_weights(Path(f"{name}.h5")), weights): assert np.array_equal(a, b)
np.savez("forward.npz", other=other(x)[0, ..., 0].numpy(), **found)
# The first weights: He's normal ones, of the last layer too, and no bias.
tf.keras.utils.set_random_seed(1)
for model in (unet(fused=False), unet()):
    for array in model.get_weights():
        if array.ndim == 1:
            assert not array.any()
        else:
            spread = np.sqrt(2 / np.prod(array.shape[:3]))
            assert np.abs(array).max() < 2.3 * spread  # Keras cuts the normal distribution off at two deviations
            assert abs(array.std() - spread) < (0.3 if array.size < 100 else 0.1) * spread, array.shape
# As the kit wrote it before: Keras' own file, without the order.
plain.save_weights("old.weights.h5")
print("done")
"""


def test_network_is_the_references_by_hand(work: Path) -> None:
    """A weight file in the reference's layout gives, in both forms, what NumPy computes from it: order of layers and of
    the channels that the decoder joins, borders, and what pooling and doubling do."""
    weights = reference_weights(7)
    assert sum(array.size for array in weights) == 1948609
    patch = np.random.default_rng(8).normal(size=(64, 40, 9)).astype(np.float32)
    np.save(work / "patch.npy", patch)
    write_keras_file(work / "reference.h5", weights, whole=True)
    assert "done" in stage(work, 0, "-c", FORWARD)
    expected = by_hand(weights, patch)
    assert expected.std() > 0.05
    found = np.load(work / "forward.npz")
    for name in ("plain", "fused", "other"):
        assert found[name] == pytest.approx(expected, abs=2e-5), name
    with pytest.raises(ValueError, match=r"does not say in which order its weights are.*Train it again"):
        read_weights(work / "old.weights.h5")


TF32 = """
import tensorflow as tf
from kit.stages.ml.ranks import join
for wanted in (True, False):
    tf.config.experimental.enable_tensor_float_32_execution(not wanted)  # whatever the version does unasked
    join("single", wanted)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == wanted
print("set")
"""


def test_tf32_is_set_and_told_from_what_the_gpus_can(work: Path) -> None:
    """Either way and not left to the version; on GPUs themselves nobody has tried it here."""
    assert "set" in stage(work, 0, "-c", TF32)
    ampere, volta = (8, 0), (7, 0)
    assert multiplies_tf32(True, [ampere], {})
    assert multiplies_tf32(True, [(9, 0)], {"NVIDIA_TF32_OVERRIDE": "1"})
    assert not multiplies_tf32(False, [ampere], {})
    assert not multiplies_tf32(True, [ampere], {"NVIDIA_TF32_OVERRIDE": "0"})
    assert not multiplies_tf32(True, [volta], {})
    assert not multiplies_tf32(True, [ampere, volta], {})
    assert not multiplies_tf32(True, [None], {})
    assert not multiplies_tf32(True, [], {})
    assert vars(parser().parse_args(["train", "--data", "d", "--out", "o", "--epochs", "1", "--no-tf32"]))["tf32"] is False


GRADIENTS = """
import numpy as np, tensorflow as tf
from pathlib import Path
from kit.stages.cloudmask.network import unet
from kit.stages.cloudmask.patches import UNSEEN
from kit.stages.ml.ranks import join
from kit.stages.cloudmask.train import task
from kit.stages.ml.train import Step
ranks = join("horovod")
tf.config.experimental.enable_op_determinism()
of = task(Path("patches"), positive_weight=0.5)
images, classes = of.training.read(np.arange(4))

def halves(precision):
    tf.keras.utils.set_random_seed(1)
    tf.keras.backend.set_floatx(precision)
    step = Step(of, unet())
    def total(place):
        part = slice(2 * place, 2 * place + 2)
        gradients, _, tallies = step.gradients(tf.constant(images[part]), tf.constant(classes[part]))
        return [ranks.sum([value])[0].numpy() for value in (*gradients, tallies)]
    return step, total(ranks.rank), total(1 - ranks.rank)

_, shared, permuted = halves("float32")
assert all(np.array_equal(a, b) for a, b in zip(shared, permuted))

step, shared, permuted = halves("float64")
gradients, count, tallies = step.gradients(tf.constant(images), tf.constant(classes))
alone = [value.numpy() for value in (*gradients, tallies)]
worst = max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(alone, shared))
assert worst < 1e-5, worst
# What nobody saw is in no loss, no gradient and no count, whatever stands there.
images[2:] = np.nan
masked, zero, none = step.gradients(tf.constant(images[:2]), tf.constant(np.full_like(classes[:2], UNSEEN)))
assert not none.numpy().any() and zero.numpy() == 0 and not any(value.numpy().any() for value in masked)
assert tallies.numpy()[2:].sum() == count.numpy() == (classes != UNSEEN).sum()
print("worst", worst)
"""


def test_gradient_of_two_ranks_is_that_of_one(work: Path) -> None:
    """To 1e-5 of the largest element, in double precision, since single alone rounds by as much; and in the precision of
    the training, which rank has which half changes not one bit."""
    assert "worst" in stage(work, 2, "-c", GRADIENTS)


def test_two_ranks_train_as_one_does(work: Path, two: Path) -> None:
    """The same two patches a step: two ranks of one, or one of two. Sums are exchanged, so the losses agree."""
    stage(work, 1, *TRAIN, "--out", "one", "--epochs", "2", "--batch-size", "2", "--learning-rate", "0.0005")
    for key in ("loss", "val_loss", "val_accuracy"):
        assert [e[key] for e in epochs(two)] == pytest.approx([e[key] for e in epochs(work / "one")], rel=1e-3)
    found = facts(two)
    assert (found["ranks"], found["devices"], found["parameters"]) == (2, ["CPU", "CPU"], 1948609)
    assert found["threads"] == 1
    assert found["tf32"] == [False, False]  # a processor has none, whatever is asked of it
    assert found["label"] == {"source": "bayes", "bits": "any", "positive": "cloud"}
    assert set(found["training_scenes"]).isdisjoint(found["validation_scenes"])
    assert 0 < found["input_share"] < 1
    assert found["seconds_to_target"] is None  # two epochs do not reach 0.9, and that is a result


def test_time_to_the_target_has_the_validation_in_it(two: Path) -> None:
    """From the first step to the validation that found it, in whichever epoch; and honest where none did."""
    records = [
        {"epoch": epoch, "val_accuracy": accuracy, "seconds": 10.0, "elapsed": elapsed}
        for epoch, accuracy, elapsed in ((1, 0.85, 15.0), (2, 0.9, 32.5), (3, 0.88, 50.0))
    ]
    found = until_target(records, Target("accuracy", 0.9))
    assert (found["target_reached"], found["target_epoch"]) == (1, 2)
    assert found["seconds_to_target"] == found["target_seconds"] == 32.5  # not 20, what the steps alone took
    assert found["target_best"] == 0.9
    found = until_target(records, Target("accuracy", 0.91))
    assert (found["target_reached"], found["seconds_to_target"]) == (0, None)
    assert (found["target_epoch"], found["target_seconds"], found["target_best"]) == (3, 50.0, 0.9)
    # In a real training every epoch has steps and validation in its time.
    history = epochs(two)
    for before, after in zip([0.0, *(e["elapsed"] for e in history)], history, strict=False):
        assert after["elapsed"] - before > after["seconds"]
    assert facts(two)["target_seconds"] == facts(two)["elapsed"] == history[-1]["elapsed"]


def test_a_rank_that_is_killed_ends_the_job_which_goes_on_bit_for_bit(work: Path, two: Path) -> None:
    """A rank dies in the middle of the second epoch: no hang, a reason, and the rest gives the bytes of a whole run."""
    words = (*TRAIN, "--out", "cut", "--epochs", "2", "--batch-size", "1", "--learning-rate", "0.0005")
    with subprocess.Popen(
        command(work, 2, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as job:
        try:
            history = work / "cut/epochs.jsonl"
            while not (history.is_file() and history.read_text().endswith("\n")):
                assert job.poll() is None, job.communicate()[0]
                time.sleep(0.02)
            listed = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
            rows = [line.split(None, 1) for line in listed.splitlines()]
            ranks = [int(pid) for pid, args in rows if args.startswith(PYTHON) and "--out cut" in args]
            assert len(ranks) == 2
            killed = time.monotonic()
            os.kill(ranks[1], signal.SIGKILL)
            said, _ = job.communicate(timeout=60)
            assert job.returncode != 0
            assert time.monotonic() - killed < 60
            assert "exited on signal 9" in said
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
    assert len(epochs(work / "cut")) == 1
    assert not (work / "cut/train.json").exists()
    with (work / "cut/epochs.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')  # what a full disk leaves
    stage(work, 2, *words)
    assert facts(work / "cut")["last_weights_sha256"] == facts(two)["last_weights_sha256"]
    for before, after in zip(epochs(two), epochs(work / "cut"), strict=True):
        assert {k: v for k, v in before.items() if k.endswith(("loss", "accuracy"))} == {
            k: v for k, v in after.items() if k.endswith(("loss", "accuracy"))
        }


STALE = """
import tensorflow as tf
parts = tf.train.Checkpoint(done=tf.Variable(1), best=tf.Variable(0.5), best_epoch=tf.Variable(1))
tf.train.CheckpointManager(parts, "stale/checkpoints", max_to_keep=2).save()
"""


def test_a_checkpoint_of_a_network_in_another_order_is_not_gone_on_with(work: Path) -> None:
    """Its weights have the same shapes, and nothing else would tell."""
    (work / "stale").mkdir()
    stage(work, 0, "-c", STALE)
    words = ("--out", "stale", "--epochs", "2", "--batch-size", "1", "--backend", "single")
    said = stage(work, 0, *TRAIN, *words, code=1)
    assert "is of a network whose channels are joined in another order than the reference's" in said
    assert not (work / "stale/train.json").exists()


PREDICT = """
import sys, numpy as np, tensorflow as tf
from pathlib import Path
from kit.stages.cloudmask.network import unet
from kit.stages.cloudmask.shards import Shards
model = unet()
model.load_weights("two/model.weights.h5")
shards = Shards(Path("patches"), "validation")
images, classes = shards.read(np.arange(len(shards)))
logits = np.concatenate([model(images[i:i + 1].astype("float32")).numpy()[..., 0] for i in range(len(images))])
np.savez("predicted.npz", logits=logits, classes=classes)
"""


def test_metrics_of_two_ranks_are_scikit_learns(work: Path, two: Path) -> None:
    """What the ranks summed, against what another library says of all masks gathered in one place."""
    from sklearn import metrics

    stage(work, 0, "-c", PREDICT)
    found = np.load(work / "predicted.npz")
    seen = found["classes"] != 2
    cloud, logits = found["classes"][seen] == 1, found["logits"][seen].astype(np.float64)
    assert facts(two)["val_accuracy"] == pytest.approx(metrics.accuracy_score(cloud, logits > 0), abs=2e-5)
    chance = 1 / (1 + np.exp(-logits))
    assert facts(two)["val_cross_entropy"] == pytest.approx(metrics.log_loss(cloud, chance), rel=1e-4)


def test_options_change_the_arithmetic_and_not_the_answer(work: Path, two: Path) -> None:
    """bfloat16, XLA and the network as the reference writes it all go the same way, to the precision they have."""
    common = ("--epochs", "1", "--batch-size", "1", "--learning-rate", "0.0005")
    for name, words in (("bf16", ("--precision", "bfloat16")), ("xla", ("--xla",)), ("plain", ("--plain",))):
        stage(work, 2, *TRAIN, "--out", name, *common, *words)
    loss = epochs(two)[0]["loss"]
    for name, tolerance in (("bf16", 0.03), ("xla", 1e-3), ("plain", 1e-3)):
        assert epochs(work / name)[0]["loss"] == pytest.approx(loss, rel=tolerance)
    assert facts(work / "bf16")["precision"] == "bfloat16"


def test_early_stopping_ends_and_keeps_the_best(work: Path) -> None:
    """A learning rate that throws the network about: the epoch that is kept is the one with the lowest loss."""
    words = ("--epochs", "9", "--batch-size", "2", "--learning-rate", "0.004", "--patience", "1", "--warmup-epochs", "0")
    stage(work, 1, *TRAIN, "--out", "early", *words)
    found, history = facts(work / "early"), epochs(work / "early")
    assert found["epochs_run"] == len(history) < 9
    losses = [epoch["val_loss"] for epoch in history]
    assert found["best_epoch"] == 1 + losses.index(min(losses)) == len(history) - 1
    assert found["val_loss"] == min(losses)


@pytest.mark.parametrize(
    ("ranks", "words", "message"),
    [
        (2, ("--batch-size", "16"), "6 training patches do not fill one global batch of 16 x 2 ranks"),
        (2, ("--backend", "single"), "backend single is one process, but 2 were started"),
        (1, ("--patience", "1"), "--patience 1 never acts in --epochs 1"),
    ],
)
def test_what_can_not_be_trained_is_said(work: Path, ranks: int, words: tuple[str, ...], message: str) -> None:
    assert message in stage(work, ranks, *TRAIN, "--out", "none", "--epochs", "1", *words, code=1)
    assert not (work / "none/train.json").exists()


def test_whole_scenes_are_masked_as_the_references_patches_are(work: Path, two: Path) -> None:
    """In single precision, on two ranks and on one: what differs is what the network sees beyond 40 pixels."""
    found = {}
    for name, ranks, options in (("whole", 2, ()), ("cut", 1, ("--patch", "256", "--batch-size", "3"))):
        words = ("--data", "scenes", "--model-file", "two/model.weights.h5", "--out", name, *options)
        stage(work, ranks, *CODE, "infer", *words)
        timing = json.loads((work / name / "infer.json").read_text())
        assert timing["scenes"] == PARAMETERS["inference_scenes"]
        assert timing["patch"] == (256 if options else WHOLE)
        masks = [xr.load_dataset(path, engine="h5netcdf") for path in sorted((work / name).glob("*.nc"))]
        assert len(masks) == PARAMETERS["inference_scenes"]
        found[name] = np.stack([mask["cloud_probability"].values for mask in masks])
    seen = np.isfinite(found["cut"])
    assert np.array_equal(seen, np.isfinite(found["whole"]))
    assert seen.mean() > 0.9
    assert found["cut"][seen].std() > 0.01  # not one value for all
    cut, whole = found["cut"], found["whole"]
    apart = np.nanmean(np.abs(cut - whole))
    for by_one_pixel in (cut[:, 1:] - whole[:, :-1], cut[:, :, 1:] - whole[:, :, :-1]):
        assert apart < 0.01 * np.nanmean(np.abs(by_one_pixel))


def test_cuda_image_trains_alike(work: Path) -> None:
    """On the GPUs where there are any, with --nv; without, its Horovod and TensorFlow compute on the processor."""
    if not load_image("horovod-cuda").sif.is_file():
        pytest.skip("not built here: make image/horovod-cuda")
    for name in ("horovod", "horovod-cuda"):
        stage(work, 2, *TRAIN, "--out", name, "--epochs", "1", "--batch-size", "2", name=name)
    losses = [[e["loss"] for e in epochs(work / name)] for name in ("horovod", "horovod-cuda")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_without_horovod_the_network_trains_alike(work: Path) -> None:
    """On today's TensorFlow and Keras 3, in one process: the same patches, the same steps, and masks from its weights."""
    if not load_image("keras").sif.is_file():
        pytest.skip("not built here: make image/keras")
    single = ("--backend", "single")
    for name, words in (("horovod", ()), ("keras", single)):
        common = ("--epochs", "2", "--batch-size", "2", "--learning-rate", "0.0005")
        stage(work, 0, *TRAIN, "--out", f"on-{name}", *common, *words, name=name)
    found = [facts(work / f"on-{name}") for name in ("horovod", "keras")]
    assert [of["tensorflow"].split(".")[:2] for of in found] == [["2", "15"], ["2", "21"]]
    # Each version draws other first weights from a seed, so that the losses are near each other and not the same.
    assert found[1]["parameters"] == 1948609
    assert found[1]["loss"] == pytest.approx(found[0]["loss"], rel=0.3)
    words = ("infer", "--data", "scenes", "--model-file", "on-keras/model.weights.h5", "--out", "keras-masks")
    stage(work, 0, *CODE, *words, *single, name="keras")
    assert len(list((work / "keras-masks").glob("*.nc"))) == PARAMETERS["inference_scenes"]
