"""The reference U-Net of the CloudMask benchmark: 1,948,609 parameters, no normalisation layers, no dropout."""

from __future__ import annotations

from typing import Any

PARAMETERS = 1_948_609  # mlcommons/science, benchmarks/cloudmask
CHANNELS = 9


def unet(patch: int = 256) -> Any:
    """A Keras model from (batch, patch, patch, 9) to (batch, patch, patch, 1) logits of cloud."""
    from tensorflow.keras import Model, layers

    def convolve(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        return x

    inputs = x = layers.Input((patch, patch, CHANNELS))
    skips = []
    for filters in (32, 64, 128):
        x = convolve(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = convolve(x, 256)
    for filters, skip in zip((128, 64, 32), reversed(skips), strict=True):
        x = layers.Concatenate()([skip, layers.UpSampling2D(2)(x)])
        x = convolve(x, filters)
    # The reference ends in a sigmoid; logits and a loss on logits are the same function, and stay finite.
    return Model(inputs, layers.Conv2D(1, 1, dtype="float32")(x))
