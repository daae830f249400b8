"""A small network with batch normalisation on real Horovod ranks: what CloudMask's, which has none, cannot show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from inside import stage

from kit.stages.ml import shards

RECORD = np.dtype([("values", "<f4", (6,)), ("label", "u1")])

TRAIN = """
import hashlib, os, sys
from pathlib import Path
import numpy as np
from kit.stages.ml import train as trainer
from kit.stages.ml.options import Options
from kit.stages.ml.shards import Shards
from kit.stages.ml.task import Tally, Target, Task

out, epochs, backend, averaged = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "averaged"
out.mkdir(exist_ok=True)
RECORD = np.dtype([("values", "<f4", (6,)), ("label", "u1")])

def network():
    import tensorflow as tf
    layers = tf.keras.layers
    built.append(tf.keras.Sequential([
        layers.Input((6,)), layers.Dense(8), layers.BatchNormalization(momentum=0.5), layers.ReLU(), layers.Dense(3)
    ]))
    return built[-1]

def tally(model, values, labels, training):
    import tensorflow as tf
    logits = model(values, training=training)
    loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), logits))
    right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == tf.cast(labels, tf.int64), tf.float32))
    count = tf.cast(tf.size(labels), tf.float32)
    return Tally(loss, count, tf.stack([loss, right, count]))

built = []
task = Task(
    unit="rows",
    target=Target("accuracy", 2.0),  # never reached
    training=Shards([Path("training.npy")], [48], RECORD),
    validation=Shards([Path("validation.npy")], [13], RECORD),
    network=network,
    sums=3,
    tally=tally,
    summary=lambda sums: {"loss": sums[0] / sums[2], "accuracy": sums[1] / sums[2]},
)
if not averaged:
    trainer.average = lambda variables, ranks: None
try:
    trainer.train(task, out, Options(epochs=epochs, batch_size=4, learning_rate=0.01), backend)
finally:
    digest = lambda of: hashlib.sha256(b"".join(v.numpy().tobytes() for v in of)).hexdigest()[:12]
    (model,) = built
    said = f"digests {digest(model.trainable_variables)} {digest(model.non_trainable_variables)}\\n"
    os.write(1, said.encode())  # at once, or the lines of two ranks run into each other
    if backend == "horovod":  # the first rank that ends with an error has the others killed
        import horovod.tensorflow as horovod
        horovod.broadcast_object("printed", root_rank=0)
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose class is the larger of three of their values, in a folder."""
    folder = tmp_path_factory.mktemp("batchnorm")
    generator = np.random.default_rng(1)
    for name, number in (("training", 48), ("validation", 13)):
        records = np.zeros(number, RECORD)
        records["values"] = generator.normal(2.0, 3.0, (number, 6))
        records["label"] = records["values"][:, :3].argmax(axis=1)
        shards.write(folder / f"{name}.npy", records)
    return folder


def trained(
    work: Path, ranks: int, out: str, epochs: int, how: str = "averaged", code: int = 0
) -> tuple[str, list[list[str]]]:
    """What was printed, and of each rank the digests of what gradients change and of the moving averages."""
    backend = "horovod" if ranks > 1 else "single"
    said = stage(work, ranks, "-c", TRAIN, out, str(epochs), backend, how, code=code)
    return said, [line.split("digests ")[1].split() for line in said.splitlines() if "digests " in line]


def facts(folder: Path) -> dict[str, object]:
    return json.loads((folder / "train.json").read_text())


def test_ranks_end_with_one_network(work: Path) -> None:
    """Gradients are exchanged in each step, moving averages at the end of each epoch; a training goes on bit for bit."""
    _, found = trained(work, 2, "whole", 3)
    assert len(found) == 2
    assert found[0] == found[1]
    assert (facts(work / "whole")["unit"], facts(work / "whole")["training_samples"]) == ("rows", 48)
    trained(work, 2, "cut", 2)
    assert facts(work / "cut")["last_weights_sha256"] != facts(work / "whole")["last_weights_sha256"]
    _, again = trained(work, 2, "cut", 3)
    assert again == found
    for key in ("last_weights_sha256", "loss", "val_loss", "val_accuracy"):
        assert facts(work / "cut")[key] == facts(work / "whole")[key]


def test_moving_averages_that_are_left_to_the_ranks_differ_and_are_refused(work: Path) -> None:
    said, found = trained(work, 2, "apart", 1, "left", code=1)
    assert "the weights of the ranks differ" in said
    assert len(found) == 2, said
    (one, averages), (other, others) = found
    assert one == other
    assert averages != others


def test_one_rank_averages_nothing_away(work: Path) -> None:
    _, averaged = trained(work, 0, "alone", 2)
    _, left = trained(work, 0, "left", 2, "left")
    assert averaged == left
