"""Dropout on real ranks: each draws masks of its own, and a training that goes on draws those that it would have drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from inside import stage

from kit.stages.ml import shards

RECORD = np.dtype([("values", "<f4", (6,)), ("wanted", "<f4")])

TRAIN = """
import sys
from pathlib import Path
import numpy as np
from kit.stages.ml import train as trainer
from kit.stages.ml.dropout import dropout
from kit.stages.ml.options import Options
from kit.stages.ml.shards import Shards
from kit.stages.ml.task import Tally, Target, Task

out, epochs, backend, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
out.mkdir(exist_ok=True)
RECORD = np.dtype([("values", "<f4", (6,)), ("wanted", "<f4")])

def network():
    import tensorflow as tf
    layers = tf.keras.layers
    inputs = layers.Input((6,))
    x = dropout(0.5)(layers.Dense(16, activation="relu")(inputs))
    return tf.keras.Model(inputs, layers.Dense(1)(dropout(0.1)(x)))

def tally(model, values, wanted, training):
    import tensorflow as tf
    loss = tf.reduce_sum((model(values, training=training)[:, 0] - wanted) ** 2)
    count = tf.cast(tf.size(wanted), tf.float32)
    return Tally(loss, count, tf.stack([loss, count]))

task = Task(
    unit="rows",
    target=Target("loss", -1.0, higher=False),  # never reached
    training=Shards([Path("training.npy")], [48], RECORD),
    validation=Shards([Path("validation.npy")], [13], RECORD),
    network=network,
    parameters=6 * 16 + 16 + 16 + 1,  # and not the two counters
    sums=2,
    tally=tally,
    summary=lambda sums: {"loss": sums[0] / sums[1]},
)
trainer.train(task, out, Options(epochs=epochs, batch_size=4, learning_rate=0.01, seed=seed), backend)
"""

MASKS = """
import os, sys
import numpy as np, tensorflow as tf
from kit.stages.ml.dropout import dropout, number, parameters
from kit.stages.ml.ranks import join
ranks = join(sys.argv[1])
layers = tf.keras.layers
inputs = layers.Input((1000,))
first, second = dropout(0.1), dropout(0.1)
model = tf.keras.Model(inputs, [first(inputs), second(inputs)])
x = tf.ones((64, 1000))
assert parameters(model) == 0
assert all(np.array_equal(y, x) for y in model(x, training=False)) and all(np.array_equal(y, x) for y in model(x))
try:
    model(x, training=True)
    raise SystemExit("drew masks that nobody numbered")
except ValueError as error:
    assert "nobody said which masks" in str(error), error
assert number(model, 7, ranks.rank) == 2

@tf.function
def drawn(x):
    return model(x, training=True)

def masks():
    return [(y.numpy() == 0) for y in drawn(x)]

def back(step):
    for layer in (first, second):
        layer.steps.assign(step)

one, two = masks(), masks()
assert [int(layer.steps.numpy()) for layer in (first, second)] == [2, 2]
kept = drawn(x)[0].numpy()
assert np.allclose(kept[kept > 0], 1 / 0.9)
for mask in (*one, *two):
    # 64,000 draws of 0.1: five standard deviations are 0.006.
    assert abs(mask.mean() - 0.1) < 0.006, mask.mean()
# Independent: two masks meet in 0.01 of the places, whatever two of step, layer, seed and rank.
def apart(a, b):
    return abs((a & b).mean() - 0.01) < 0.002
assert apart(one[0], one[1]) and apart(one[0], two[0]) and apart(one[1], two[0])
back(1)
assert np.array_equal(masks()[0], two[0])
back(0)
number(model, 8, ranks.rank)
del drawn
@tf.function
def drawn(x):
    return model(x, training=True)
assert apart(masks()[0], one[0])
everybody = ranks.gather(one[0])
assert all(apart(everybody[i], everybody[j]) for i in range(ranks.size) for j in range(i))
# What was dropped is zero and has no gradient, whatever it was.
back(0)
bad = tf.fill((64, 1000), np.inf)
with tf.GradientTape() as tape:
    tape.watch(x)
    total = tf.reduce_sum(model(x, training=True)[0])
slope = tape.gradient(total, x).numpy()
back(0)
left = model(bad, training=True)[0].numpy()
assert np.array_equal(left == 0, slope == 0) and np.isinf(left[slope > 0]).all() and np.allclose(slope[slope > 0], 1 / 0.9)
print("masks")
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dropout")
    generator = np.random.default_rng(1)
    for name, number in (("training", 48), ("validation", 13)):
        records = np.zeros(number, RECORD)
        records["values"] = generator.normal(size=(number, 6))
        records["wanted"] = np.abs(records["values"][:, 0]) + records["values"][:, 1]
        shards.write(folder / f"{name}.npy", records)
    return folder


def facts(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "train.json").read_text())
    return found


def test_masks_differ_by_step_layer_seed_and_rank_and_come_again(work: Path) -> None:
    assert stage(work, 2, "-c", MASKS, "horovod").count("masks\n") == 2


def test_a_training_with_dropout_goes_on_bit_for_bit(work: Path) -> None:
    """And the ranks, whose masks differ, end with one network: the trainer refuses any other."""
    for out, epochs in (("whole", "3"), ("cut", "2"), ("cut", "3")):
        stage(work, 2, "-c", TRAIN, out, epochs, "horovod", "3")
    whole, cut = facts(work / "whole"), facts(work / "cut")
    for key in ("last_weights_sha256", "loss", "val_loss", "parameters"):
        assert cut[key] == whole[key]
    assert whole["parameters"] == 129
