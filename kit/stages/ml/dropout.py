"""Dropout whose masks follow from numbers that a checkpoint has, so that a training goes on bit for bit.

Keras' own layer draws from a generator whose state lies outside the network: what is cut off and goes on draws other masks.
Here a mask is a function of four whole numbers: the seed of the training, the rank, the number of the layer in its network,
and the steps that the layer has taken, which it counts in a variable of its own. The generator is Philox, which has no state
(Salmon et al., SC 2011, doi:10.1145/2063384.2063405), and gives the same numbers on CPUs and GPUs. Works with Keras 2 and 3.
"""

from __future__ import annotations

from typing import Any

MOST_RANKS = 2**20  # more than a size may have (kit/benchmark.py)


def key(seed: int, rank: int, number: int) -> tuple[int, int]:
    """Two whole numbers below 2^63 that no other seed (< 2^31), rank and layer have; to the second the step is added."""
    if not (0 <= seed < 2**31 and 0 <= rank < MOST_RANKS and 0 <= number < 2**20):
        raise ValueError(f"dropout: seed {seed}, rank {rank} or layer {number} is out of range")
    return seed * MOST_RANKS + rank, number * 2**40


def dropout(rate: float) -> Any:
    """A layer that sets a share `rate` of what passes it to zero in training, and divides the rest by 1 - `rate`.

    Otherwise, and where it is not told that it trains, it does nothing. The trainer tells it its numbers (`number`).
    """
    return layer_class()(rate)


def layer_class() -> Any:
    """The class of the layer; made here, since its base is TensorFlow's, which is not loaded before it is needed."""
    if CLASSES:
        return CLASSES[0]
    import tensorflow as tf

    class Dropout(tf.keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, rate: float) -> None:
            super().__init__()
            if not 0 <= rate < 1:
                raise ValueError(f"dropout: a rate from 0 to below 1 is needed, got {rate}")
            self.rate = rate
            self.first = self.second = -1  # see `key`; -1: nobody said

        def build(self, shape: Any) -> None:
            # 64 bits: whole numbers of 32 live on no GPU.
            self.steps = self.add_weight(name="steps", shape=(), dtype="int64", initializer="zeros", trainable=False)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

        def call(self, values: Any, training: bool | None = None) -> Any:
            if not training or not self.rate:
                return values
            if self.first < 0:
                raise ValueError("dropout: nobody said which masks are to be drawn (kit.stages.ml.dropout.number)")
            taken = tf.convert_to_tensor(self.steps)
            seed = tf.stack([tf.constant(self.first, tf.int64), tf.constant(self.second, tf.int64) + taken])
            drawn = tf.random.stateless_uniform(tf.shape(values), seed, alg="philox")
            self.steps.assign(taken + 1)
            # Not a product: what is dropped is zero, whatever it was.
            return tf.where(drawn >= self.rate, values / (1 - self.rate), tf.zeros_like(values))

    CLASSES.append(Dropout)
    return Dropout


CLASSES: list[Any] = []  # one class for all layers of a process, or none could be told from others


def number(model: Any, seed: int, rank: int) -> int:
    """Tells each dropout layer of a network which masks it draws; how many layers there are."""
    if not CLASSES:
        return 0
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, CLASSES[0])]
    for place, layer in enumerate(layers):
        layer.first, layer.second = key(seed, rank, place)
    return len(layers)


def parameters(model: Any) -> int:
    """The parameters of a network: all weights that are floating-point numbers, and so not the counters of dropout."""
    import tensorflow as tf

    return sum(
        tf.TensorShape(weight.shape).num_elements() for weight in model.weights if tf.as_dtype(weight.dtype).is_floating
    )
