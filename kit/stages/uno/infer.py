"""What the trained network says of the test rows, in their order; the ranks share them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.ranks import agreed_precision, crowded, join
from kit.stages.ml.shards import write
from kit.stages.ml.weights import ORDER
from kit.stages.uno.network import PARAMETERS, uno
from kit.stages.uno.rows import Rows

AGAIN = "the stage train writes such a file: run it again, or name its model.weights.h5 with --model-file"


def trained(path: Path) -> Any:
    """The network with the weights of a training; ValueError for a file of another one."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            arrays = [file[name][()] for name in json.loads(file.attrs[ORDER])]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: holds no weights of a training ({error}); {AGAIN}") from None
    model = uno()
    weights = [array for array in arrays if array.dtype.kind == "f"]  # without the counters of dropout
    own = [weight for weight in model.weights if str(weight.dtype).find("float") >= 0]
    if [array.shape for array in weights] != [tuple(weight.shape) for weight in own]:
        total = sum(array.size for array in weights)
        raise ValueError(f"{path}: has weights of another network: {total} numbers, not {PARAMETERS}; {AGAIN}")
    for weight, array in zip(own, weights, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: has weights that are not finite; train again, at a lower learning_rate")
        weight.assign(array)
    return model


def infer(data: Path, model_file: Path, out: Path, batch_size: int, backend: str, precision: str, tf32: bool) -> None:
    """Writes predictions.npy, the area that the network says of each test row, float32, and infer.json."""
    import tensorflow as tf

    ranks = join(backend, tf32)
    precision = agreed_precision(precision, ranks)
    if precision == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = trained(model_file)
    rows = Rows(data, "test")

    @tf.function(reduce_retracing=True)
    def say(cells: Any, drugs: Any) -> Any:
        return tf.cast(model([cells, drugs], training=False)[:, 0], tf.float32)

    mine = np.arange(len(rows))[ranks.rank :: ranks.size]
    said: list[NDArray[np.float32]] = []
    took = []
    for start in range(0, len(mine), batch_size):
        began = time.perf_counter()
        cells, drugs, _ = rows.read(mine[start : start + batch_size])
        said.append(say(tf.constant(cells), tf.constant(drugs)).numpy())
        took.append(time.perf_counter() - began)
    found = np.concatenate(said) if said else np.empty(0, np.float32)
    everything = ranks.gather(found)
    # The first batch traces the graph; with one batch there is no other.
    warm = (sum(took[1:]), len(mine) - batch_size) if len(took) > 1 else (sum(took), len(mine))
    speeds = ranks.gather(warm)
    oversubscribed = crowded(ranks)
    if ranks.rank == 0:
        predictions = np.empty(len(rows), np.float32)
        for place, part in enumerate(everything):
            predictions[place :: ranks.size] = part
        if not np.isfinite(predictions).all():
            raise ValueError(
                f"{model_file}: the network says what is not finite of {int((~np.isfinite(predictions)).sum())} rows"
            )
        write(out / "predictions.npy", predictions)
        facts = {
            "rows": len(rows),
            "ranks": ranks.size,
            "devices": ranks.devices,
            "backend": backend,
            "precision": precision,
            "batch_size": batch_size,
            "oversubscribed": oversubscribed,
            "samples_per_second": sum(count / max(seconds, 1e-9) for seconds, count in speeds),
        }
        write_facts(out / "infer.json", facts)


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all: a file that was cut off would pass for a stage that ended."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1) + "\n")
    partial.rename(path)
