"""The reference U-Net of the CloudMask benchmark: 1,948,609 parameters, no normalisation layers, no dropout.

`unet(fused=True)`, what is trained, is the same function of the same weights with a fifth less arithmetic. Where the
reference convolves the concatenation of a skip and of an upsampled field, the convolution is taken apart in two: one of
the skip, and one of the upsampled half. A 3 x 3 convolution of a field whose pixels were doubled is a transposed 4 x 4
convolution of the field itself with stride 2, whose kernel is that of the first blurred by a box of 2 x 2: four products
for a pixel in place of nine, and no doubled field in memory. Works with Keras 2 (TensorFlow up to 2.15) and Keras 3.
"""

from __future__ import annotations

from typing import Any

PARAMETERS = 1_948_609  # mlcommons/science, benchmarks/cloudmask
CHANNELS = 9
DEPTH = 3  # times that the field is halved, and with it the sides of a patch must be divisible


def upsampling_convolution() -> Any:
    """The class of the fused layer; made here, since its base is TensorFlow's, which is not loaded before it is needed."""
    import tensorflow as tf

    class UpsamplingConvolution(tf.keras.layers.Layer):  # type: ignore[misc]
        """ReLU of a 3 x 3 convolution of a skip (batch, 2r, 2c, a) beside the doubled field (batch, r, c, b)."""

        def __init__(self, filters: int) -> None:
            super().__init__()
            self.filters = filters

        def build(self, shapes: Any) -> None:
            self.skip = int(shapes[0][-1])
            shape = (3, 3, self.skip + int(shapes[1][-1]), self.filters)
            self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

        def call(self, inputs: Any) -> Any:
            skip, field = inputs
            kernel = tf.cast(tf.convert_to_tensor(self.kernel), skip.dtype)
            # The transposed convolution turns its kernel round; the box is what doubling the pixels does.
            turned = tf.pad(kernel[::-1, ::-1, self.skip :], [[1, 1], [1, 1], [0, 0], [0, 0]])
            blurred = turned[:-1, :-1] + turned[1:, :-1] + turned[:-1, 1:] + turned[1:, 1:]
            size = tf.shape(skip)
            doubled = tf.nn.conv2d_transpose(
                field,
                tf.transpose(blurred, [0, 1, 3, 2]),
                output_shape=tf.stack([size[0], size[1], size[2], self.filters]),
                strides=2,
                padding="SAME",
            )
            bias = tf.cast(tf.convert_to_tensor(self.bias), skip.dtype)
            return tf.nn.relu(tf.nn.conv2d(skip, kernel[:, :, : self.skip], 1, "SAME") + doubled + bias)

    return UpsamplingConvolution


def unet(fused: bool = True) -> Any:
    """A Keras model from (batch, rows, columns, 9) to (batch, rows, columns, 1) logits of cloud.

    Rows and columns are multiples of 8. Both forms hold the same weights in the same order.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    fuse = upsampling_convolution() if fused else None

    def convolve(x: Any, filters: int) -> Any:
        return layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)

    inputs = x = layers.Input((None, None, CHANNELS))
    skips = []
    for filters in (32, 64, 128):
        x = convolve(convolve(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = convolve(convolve(x, 256), 256)
    for filters, skip in zip((128, 64, 32), reversed(skips), strict=True):
        if fuse:
            x = fuse(filters)([skip, x])
        else:
            x = convolve(layers.Concatenate()([skip, layers.UpSampling2D(2)(x)]), filters)
        x = convolve(x, filters)
    # The reference ends in a sigmoid; logits and a loss on logits are the same function, and stay finite. They are in
    # single precision, whatever is before them.
    return tf.keras.Model(inputs, layers.Conv2D(1, 1, dtype=tf.keras.backend.floatx())(x))
