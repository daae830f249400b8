"""The two networks: a recurrent one, and a transformer whose encoder is read by a recurrent decoder.

They stand for the working group's reference models "LSTM" and "science transformer" and are written anew: the reference is
a notebook whose layers depend on dozens of settings. Both begin from a linear map of the last fortnight's inputs, to
which the deep part adds, so that a training begins near what a regression gives. Works with Keras 2 and Keras 3.
"""

from __future__ import annotations

from typing import Any

from kit.stages.ml.dropout import dropout
from kit.stages.tevolop import grid

MODELS = ("lstm", "transformer")
HEADS, BLOCKS = 4, 2


def network(model: str, inputs: int, units: int, rate: float = 0.0) -> Any:
    """A Keras model from (batch, STEPS, inputs) to (batch, horizons), scaled magnitudes; ValueError for an unknown one.

    `rate` is the share of the values that dropout sets to zero in training.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    given = layers.Input((grid.STEPS, inputs))
    if model == "lstm":
        x = layers.Dense(units, activation="selu")(given)
        x = dropout(rate)(layers.LSTM(units, return_sequences=True)(x))
        x = layers.LSTM(units)(x)
    elif model == "transformer":
        if units % HEADS:
            raise ValueError(f"--units {units}: a multiple of {HEADS} is needed, one part for each head")
        x = place(layers.Dense(units)(given))
        for _ in range(BLOCKS):
            attended = layers.MultiHeadAttention(HEADS, units // HEADS)(normal(x), normal(x))
            x = layers.Add()([x, dropout(rate)(attended)])
            fed = layers.Dense(units)(layers.Dense(2 * units, activation="gelu")(normal(x)))
            x = layers.Add()([x, dropout(rate)(fed)])
        x = layers.LSTM(units)(normal(x))
    else:
        raise ValueError(f"--model {model}: unknown; there are {' and '.join(MODELS)}")
    x = dropout(rate)(layers.Dense(units, activation="selu")(dropout(rate)(x)))
    single = tf.keras.backend.floatx()  # whatever the precision of the rest
    deep = layers.Dense(len(grid.WIDTHS), kernel_initializer="zeros", dtype=single)(x)
    newest = layers.Flatten()(layers.Cropping1D((grid.STEPS - 1, 0))(given))
    last = layers.Dense(len(grid.WIDTHS), kernel_initializer="zeros", dtype=single)(newest)
    return tf.keras.Model(given, layers.Add(dtype=single)([deep, last]))


def normal(x: Any) -> Any:
    import tensorflow as tf

    return tf.keras.layers.LayerNormalization(epsilon=1e-6)(x)


def place(x: Any) -> Any:
    """The steps with a learned vector for each place added."""
    import tensorflow as tf

    class Place(tf.keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.vectors = self.add_weight(name="vectors", shape=(int(shape[1]), int(shape[2])), initializer="zeros")

        def call(self, steps: Any) -> Any:
            return steps + tf.cast(tf.convert_to_tensor(self.vectors), steps.dtype)

    return Place()(x)
