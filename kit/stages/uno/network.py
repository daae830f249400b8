"""The network of the AUC benchmark of Uno: 16,224,001 parameters.

Two towers of three layers of 1,000 units, one for the 942 features of genes, one for the 5,270 of a drug; their outputs
side by side go through a trunk of five such layers and a linear one. Each hidden layer has ReLU and then dropout of 0.1
(ECP-CANDLE/Benchmarks, Pilot1/Uno: uno_auc_model.txt, uno_baseline_keras2.py). A dose is no input: the area under the curve
has it in it. 942 and 5,270 give the published number exactly, and a dose beside them would give 1,000 more:

    towers  (942 + 1) 1000 + 2 (1000 + 1) 1000 = 2,945,000 and (5270 + 1) 1000 + 2 (1000 + 1) 1000 = 7,273,000
    trunk   (2000 + 1) 1000 + 4 (1000 + 1) 1000 + (1000 + 1) = 6,006,001

First weights are Glorot's uniform ones, Keras' default, and biases zero, but for that of the output, which begins at the
mean response of the training samples where the reference's begins at zero. The reference draws masks of dropout in
validation and in inference as well (its PermanentDropout); here they are drawn in training alone. A network that makes the
mean of its answers out of hidden layers under dropout says less without it, eight layers of ReLU on (the shift of variance
of Li et al., CVPR 2019, arXiv:1801.05134): on the generated data by 0.1 of 0.7 in the first epochs. A bias is
under no dropout.

Works with Keras 2 and Keras 3.
"""

from __future__ import annotations

from typing import Any

from kit.stages.ml.dropout import dropout

GENES, DESCRIPTORS = 942, 5270
UNITS, TOWER, TRUNK, DROPOUT = 1000, 3, 5, 0.1
PARAMETERS = 16_224_001


def uno(mean: float = 0.0) -> Any:
    """A Keras model from [(batch, 942), (batch, 5270)] to (batch, 1), the area under the dose-response curve.

    `mean` is the response that it begins at.
    """
    import tensorflow as tf

    layers = tf.keras.layers

    def stack(x: Any, number: int) -> Any:
        for _ in range(number):
            x = dropout(DROPOUT)(layers.Dense(UNITS, activation="relu")(x))
        return x

    inputs = [layers.Input((columns,)) for columns in (GENES, DESCRIPTORS)]
    joined = layers.Concatenate()([stack(x, TOWER) for x in inputs])
    # The last is in single precision, whatever is before it.
    first = tf.keras.initializers.Constant(mean)
    last = layers.Dense(1, bias_initializer=first, dtype=tf.keras.backend.floatx())
    return tf.keras.Model(inputs, last(stack(joined, TRUNK)))
