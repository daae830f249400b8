"""The two networks: a residual network that tells the space group, and a dense encoder-decoder that draws the density.

ResNet-50 (He et al. 2016, arXiv 1512.03385, table 1): a 7 x 7 convolution and four stages of bottleneck blocks, with
the stride in the 3 x 3 convolution, as common since (Goyal et al. 2017, arXiv 1706.02677). Convolutions before a
normalisation have no bias. Depths 26 and 14 have two and one block a stage where 50 has 3, 4, 6 and 3; `width` is 64
in the published one.

The second follows the fully convolutional DenseNet (Jegou et al. 2017, arXiv 1611.09326): dense blocks with pooling
on the way down, dense blocks and skips on the way up. Its first convolution halves the side of the pattern, and it
ends there. Works with Keras 2 (TensorFlow up to 2.15) and Keras 3.
"""

from __future__ import annotations

from typing import Any

BLOCKS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
GROWN = 4  # times as many channels leave a block as its 3 x 3 convolution has
# Of the weights that TensorFlow counts, those of normalisations are four a channel, two of them moving averages.
NORMALISED = 4
LAYERS_OF_BLOCK = 3  # of a dense block


def resnet_parameters(depth: int, width: int, classes: int) -> int:
    """Weights of `resnet`, with the moving averages of its normalisations."""
    total, into = 7 * 7 * 3 * width + NORMALISED * width, width
    for stage, blocks in enumerate(BLOCKS[depth]):
        narrow = width * 2**stage
        wide = GROWN * narrow
        for block in range(blocks):
            total += into * narrow + 9 * narrow * narrow + narrow * wide + NORMALISED * (2 * narrow + wide)
            total += into * wide + NORMALISED * wide if block == 0 else 0
            into = wide
    return total + (into + 1) * classes


def resnet(depth: int, width: int, classes: int, side: int) -> Any:
    """A Keras model from (batch, side, side, 3) on the scale 0 to 255 to (batch, classes) logits."""
    import tensorflow as tf

    layers = tf.keras.layers

    def convolve(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        options = {"use_bias": False, "padding": "same", "kernel_initializer": "he_normal"}
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layers.Conv2D(filters, size, stride, **options)(x))

    inputs = layers.Input((side, side, 3))
    x = layers.Rescaling(1 / 128, -1.0)(inputs)
    x = layers.ReLU()(convolve(x, width, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, blocks in enumerate(BLOCKS[depth]):
        narrow = width * 2**stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage else 1
            y = layers.ReLU()(convolve(x, narrow, 1))
            y = layers.ReLU()(convolve(y, narrow, 3, stride))
            y = convolve(y, GROWN * narrow, 1)
            x = convolve(x, GROWN * narrow, 1, stride) if block == 0 else x
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, layers.Dense(classes, dtype="float32")(x))


def dense_parameters(growth: int, blocks: int) -> int:
    """Weights of `dense`, with the moving averages of its normalisations."""
    channels = 2 * growth
    total, added = 25 * 3 * channels + channels, LAYERS_OF_BLOCK * growth

    def block(into: int) -> int:
        widths = [into + layer * growth for layer in range(LAYERS_OF_BLOCK)]
        return sum(NORMALISED * width + 9 * width * growth + growth for width in widths)

    skips = []
    for _ in range(blocks):
        total += block(channels)
        channels += added
        skips.append(channels)
    for skip in reversed(skips[:-1]):
        total += 9 * channels * added + added + block(added + skip)
        channels = 2 * added + skip
    return total + (channels + 1) * 3


def dense(growth: int, blocks: int, side: int) -> Any:
    """A Keras model from (batch, side, side, 3) on the scale 0 to 255 to (batch, side/2, side/2, 3): densities,
    standardised.

    `blocks` dense blocks on the way down, each at half the side of the one before, and one less on the way up. The first
    convolution halves the side, which is then that of the density.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    convolution = {"padding": "same", "kernel_initializer": "he_normal"}

    def block(x: Any) -> Any:
        for _ in range(LAYERS_OF_BLOCK):
            y = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
            x = layers.Concatenate()([x, layers.Conv2D(growth, 3, **convolution)(y)])
        return x

    inputs = layers.Input((side, side, 3))
    x = layers.Conv2D(2 * growth, 5, 2, **convolution)(layers.Rescaling(1 / 128, -1.0)(inputs))
    skips = []
    for level in range(blocks):
        x = block(layers.AveragePooling2D(2)(x) if level else x)
        skips.append(x)
    for skip in reversed(skips[:-1]):
        x = layers.Conv2DTranspose(LAYERS_OF_BLOCK * growth, 3, 2, **convolution)(x)
        x = block(layers.Concatenate()([x, skip]))
    return tf.keras.Model(inputs, layers.Conv2D(3, 1, kernel_initializer="he_normal", dtype="float32")(x))
