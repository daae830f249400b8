"""The reference U-Net of the CloudMask benchmark: 1,948,609 parameters, no normalisation layers, no dropout.

Its layers, their order, their first weights (He's normal ones, biases of zero) and the order of the channels that its
decoder joins, the upsampled field before the skip, are those of mlcommons/science, benchmarks/cloudmask/model.py. The one
difference is that it ends in logits where the reference ends in their sigmoid.

`unet(fused=True)`, what is trained, is the same function of the same weights with a fifth less arithmetic. Where the
reference convolves the concatenation of an upsampled field and of a skip, the convolution is taken apart in two: one of
the upsampled half, and one of the skip. A 3 x 3 convolution of a field whose pixels were doubled is a transposed 4 x 4
convolution of the field itself with stride 2, whose kernel is that of the first blurred by a box of 2 x 2: four products
for a pixel in place of nine, and no doubled field in memory. Works with Keras 2 (TensorFlow up to 2.15) and Keras 3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.hdf import TRANSIENT
from kit.stages.ml.weights import ORDER

PARAMETERS = 1_948_609  # mlcommons/science, benchmarks/cloudmask
CHANNELS = 9
# Channels into and out of each 3 x 3 convolution, first to last; the decoder's first of each pair joins two fields.
CONVOLUTIONS = (
    *((9, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)),
    *((256 + 128, 128), (128, 128), (128 + 64, 64), (64, 64), (64 + 32, 32), (32, 32)),
)
# Shapes of the weights in the order of the reference's layers: a kernel (rows, columns, in, out), its bias (out,), the next.
SHAPES = [
    *(shape for into, out in CONVOLUTIONS for shape in ((3, 3, into, out), (out,))),
    *((1, 1, 32, 1), (1,)),
]


def upsampling_convolution() -> Any:
    """The class of the fused layer; made here, since its base is TensorFlow's, which is not loaded before it is needed."""
    import tensorflow as tf

    class UpsamplingConvolution(tf.keras.layers.Layer):  # type: ignore[misc]
        """ReLU of a 3 x 3 convolution of the doubled field (batch, r, c, a) beside a skip (batch, 2r, 2c, b)."""

        def __init__(self, filters: int) -> None:
            super().__init__()
            self.filters = filters

        def build(self, shapes: Any) -> None:
            self.field = int(shapes[0][-1])
            shape = (3, 3, self.field + int(shapes[1][-1]), self.filters)
            self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

        def call(self, inputs: Any) -> Any:
            field, skip = inputs
            kernel = tf.cast(tf.convert_to_tensor(self.kernel), skip.dtype)
            # The transposed convolution turns its kernel round; the box is what doubling the pixels does.
            turned = tf.pad(kernel[::-1, ::-1, : self.field], [[1, 1], [1, 1], [0, 0], [0, 0]])
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
            return tf.nn.relu(tf.nn.conv2d(skip, kernel[:, :, self.field :], 1, "SAME") + doubled + bias)

    return UpsamplingConvolution


def unet(fused: bool = True) -> Any:
    """A Keras model from (batch, rows, columns, 9) to (batch, rows, columns, 1) logits of cloud.

    Rows and columns are multiples of 8. Both forms hold the same weights in the same order, that of `SHAPES`.
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
            x = fuse(filters)([x, skip])
        else:
            x = convolve(layers.Concatenate()([layers.UpSampling2D(2)(x), skip]), filters)
        x = convolve(x, filters)
    # The reference ends in a sigmoid; logits and a loss on logits are the same function, and stay finite. They are in
    # single precision, whatever is before them.
    last = layers.Conv2D(1, 1, kernel_initializer="he_normal", dtype=tf.keras.backend.floatx())
    return tf.keras.Model(inputs, last(x))


def read_weights(path: Path) -> list[NDArray[np.float32]]:
    """The weights in a file, in the order of `SHAPES`. Needs no TensorFlow.

    Read are files of a training (kit.stages.ml.weights), and HDF5 files as the reference writes them: of Keras'
    model.save("x.h5") or model.save_weights("x.h5"), in which layers and weights have an order. ValueError for a file of
    another kind, of another network, or of this one before its channels had the reference's order, whose weights have the
    same shapes.
    """
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            groups = file.get("model_weights", file)
            if ORDER in file.attrs:
                arrays = [file[name][()] for name in json.loads(file.attrs[ORDER])]
            elif "layer_names" in groups.attrs:
                layers = [groups[text(name)] for name in groups.attrs["layer_names"]]
                arrays = [layer[text(name)][()] for layer in layers for name in layer.attrs.get("weight_names", [])]
            elif {"layers", "_layer_checkpoint_dependencies"} & set(file):
                raise ValueError(
                    f"{path}: does not say in which order its weights are; networks that were trained before the channels "
                    "were joined in the reference's order look like that, and would give wrong masks. Train it again, or, "
                    "if it is of the reference's own code, save it there by model.save('model.h5')"
                )
            else:
                raise ValueError(f"{path}: holds no weights of a Keras network; train/model.weights.h5 of a run does")
    except (OSError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable HDF5 file of weights: {reason}") from None
    found = [array.shape for array in arrays]
    if found != SHAPES:
        at = next((n for n, (a, b) in enumerate(zip(found, SHAPES, strict=False)) if a != b), min(len(found), len(SHAPES)))
        raise ValueError(
            f"{path}: not the weights of the reference U-Net: it has {len(found)} arrays for {len(SHAPES)}, and number "
            f"{at + 1} is {found[at] if at < len(found) else 'missing'}, not {SHAPES[at] if at < len(SHAPES) else 'there'}"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{path}: has weights that are not finite")
    return [np.asarray(array, np.float32) for array in arrays]


def text(name: Any) -> str:
    """A name in an attribute of an HDF5 file, which is bytes or a text."""
    return name.decode() if isinstance(name, bytes) else str(name)


def trained(path: Path) -> Any:
    """The network with the weights of a file; ValueError for what `read_weights` refuses."""
    weights = read_weights(path)
    model = unet()
    model.set_weights(weights)
    return model
