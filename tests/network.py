"""The reference's network by hand: weights in its order, its forward pass in NumPy, and its files without Keras."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def reference_weights(seed: int) -> list[np.ndarray]:
    """Random weights of the reference's network, in the order of its layers, with biases that are not zero."""
    filters = [32, 32, 64, 64, 128, 128, 256, 256, 128, 128, 64, 64, 32, 32, 1]
    into = [9, 32, 32, 64, 64, 128, 128, 256, 256 + 128, 128, 128 + 64, 64, 64 + 32, 32, 32]
    draw = np.random.default_rng(seed)
    weights = []
    for number, (a, b) in enumerate(zip(into, filters, strict=True)):
        side = 1 if number == 14 else 3
        weights.append(draw.normal(0, np.sqrt(2 / (side * side * a)), (side, side, a, b)).astype(np.float32))
        weights.append(draw.normal(0, 0.1, b).astype(np.float32))
    return weights


def by_hand(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Probabilities (rows, columns) of the reference's network for one patch (rows, columns, 9), in double precision.

    Written from the description of mlcommons/science, benchmarks/cloudmask: it shares nothing with the kit's network.
    """
    layers = iter(zip(weights[::2], weights[1::2], strict=True))

    def convolve(x: np.ndarray, relu: bool = True) -> np.ndarray:
        kernel, bias = next(layers)
        rows, columns, border = *x.shape[:2], kernel.shape[0] // 2
        padded = np.pad(x, ((border, border), (border, border), (0, 0)))
        total = np.zeros((rows, columns, kernel.shape[3])) + bias
        for r in range(kernel.shape[0]):
            for c in range(kernel.shape[1]):
                total += padded[r : r + rows, c : c + columns] @ kernel[r, c].astype(np.float64)
        return np.maximum(total, 0) if relu else total

    x = x.astype(np.float64)
    skips = []
    for _ in range(3):
        x = convolve(convolve(x))
        skips.append(x)
        x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
    x = convolve(convolve(x))
    for skip in reversed(skips):
        x = np.concatenate([x.repeat(2, axis=0).repeat(2, axis=1), skip], axis=-1)
        x = convolve(convolve(x))
    logits = convolve(x, relu=False)[..., 0]
    assert next(layers, None) is None
    return 1 / (1 + np.exp(-logits))


def write_keras_file(path: Path, weights: list[np.ndarray], whole: bool) -> None:
    """HDF5 as Keras writes it of the reference's network: a whole model, or its weights alone. ReLU layers have none."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        names = ["input_1"]
        for number in range(15):
            name = f"conv2d_{number}" if number else "conv2d"
            names += [name, f"re_lu_{number}" if number else "re_lu"]
            layer = group.create_group(name)
            pair = [f"{name}/kernel:0", f"{name}/bias:0"]
            for key, array in zip(pair, weights[2 * number : 2 * number + 2], strict=True):
                layer[key] = array
            layer.attrs["weight_names"] = [key.encode() for key in pair]
        for name in names:
            if name not in group:
                group.create_group(name).attrs["weight_names"] = np.array([], "S1")
        group.attrs["layer_names"] = [name.encode() for name in names]
