"""Forecasts of a trained network for all windows of the test split."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.ranks import join
from kit.stages.ml.shards import write
from kit.stages.ml.weights import ORDER
from kit.stages.tevolop import grid
from kit.stages.tevolop.network import network
from kit.stages.tevolop.windows import Windows, facts_of


def trained_weights(path: Path) -> list[NDArray[Any]]:
    """The weights of a training in the order of the network's own; ValueError for a file that has none."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return [file[name][()] for name in json.loads(file.attrs[ORDER])]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: holds no weights of a training ({error}); train it again") from None


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """A table that appears whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1) + "\n")
    partial.rename(path)


def infer(data: Path, trained: Path, out: Path, batch_size: int) -> None:
    """Writes forecasts.npy, (windows, horizons) magnitudes in the order of the split, and infer.json with the timing.

    ValueError for weights of another network, and for a forecast that is not finite.
    """
    import tensorflow as tf

    join("single")
    said = facts_of(trained / "train.json", "train it again", "model", "units")
    windows = Windows(data, "test")
    model = network(said["model"], windows.known.shape[2], said["units"])
    weights = trained_weights(trained / "model.weights.h5")
    if [array.shape for array in weights] != [tuple(variable.shape) for variable in model.get_weights()]:
        raise ValueError(f"{trained / 'model.weights.h5'}: not the weights of this {said['model']}; train it again")
    model.set_weights(weights)
    forecast = tf.function(lambda values: model(values, training=False), reduce_retracing=True)
    forecast(tf.zeros((1, grid.STEPS, windows.known.shape[2])))  # traced once, outside the timing
    found = np.empty((len(windows), len(grid.WIDTHS)), np.float32)
    began = time.perf_counter()
    for first in range(0, len(windows), batch_size):
        part = np.arange(first, min(first + batch_size, len(windows)))
        found[part] = forecast(tf.constant(windows.read(part)[0])).numpy()
    seconds = time.perf_counter() - began
    found = found * windows.target_deviation + windows.target_mean
    if not np.isfinite(found).all():
        raise ValueError(
            f"{trained / 'model.weights.h5'}: {int((~np.isfinite(found)).sum())} forecasts of it are not finite; "
            "train it again, at a lower --learning-rate"
        )
    write(out / "forecasts.npy", found)
    facts = {
        "windows": len(windows),
        "model": said["model"],
        "seconds": seconds,
        "windows_per_second": len(windows) / seconds,
    }
    write_facts(out / "infer.json", facts)
