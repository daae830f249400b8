"""Masks whole scenes with a trained network; the scenes are shared out over the ranks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.cloudmask.model import trained
from kit.benchmarks.cloudmask.patches import (
    PATCH,
    UNSEEN,
    Array,
    Scene,
    assemble,
    inference_patches,
    load_for,
    trained_on,
)
from kit.benchmarks.cloudmask.ranks import agreed_precision, join


def predictor(model: Any) -> Any:
    """A function from channels (n, rows, columns, 9) to the probability of cloud (n, rows, columns)."""
    import tensorflow as tf

    return tf.function(
        lambda images: tf.sigmoid(model(images, training=False)[..., 0]),
        input_signature=[tf.TensorSpec((None, None, None, 9), tf.float32)],
    )


def probability(predict: Any, scene: Scene, patch: int, batch_size: int) -> Array:
    """The probability of cloud (rows, columns) of a whole scene, from overlapping patches."""
    import tensorflow as tf

    parts = inference_patches(scene.channels, patch)
    answers = [predict(tf.constant(parts[start : start + batch_size])).numpy() for start in range(0, len(parts), batch_size)]
    return assemble(np.concatenate(answers), scene.seen.shape, patch)


def write_mask(path: Path, scene: Scene, chance: Array) -> None:
    """Writes a mask as NetCDF after the CF conventions, whole or not at all, and a picture of it beside."""
    import matplotlib.image
    import xarray as xr

    mask = np.where(scene.seen, chance > 0.5, UNSEEN).astype(np.uint8)
    dataset = xr.Dataset(
        {
            "cloud_probability": (
                ("rows", "columns"),
                np.where(scene.seen, chance, np.nan).astype(np.float32),
                {"units": "1", "long_name": "probability of cloud"},
            ),
            "cloud_mask": (
                ("rows", "columns"),
                mask,
                {
                    "long_name": "cloud mask",
                    "flag_values": np.array([0, 1, UNSEEN], "u1"),
                    "flag_meanings": "clear cloud not_seen",
                },
            ),
        },
        attrs={"Conventions": "CF-1.8", "title": "cloud mask of a Sentinel-3 SLSTR scene", "source": scene.name},
    )
    partial = path.with_suffix(".partial")
    # Probabilities hardly shrink, and packing them takes as long as reading the scene.
    dataset.to_netcdf(partial, engine="h5netcdf", encoding={"cloud_mask": {"zlib": True, "complevel": 1}})
    partial.rename(path)
    # White cloud on dark sky, as from above; what was not seen is grey. Every other pixel is enough for a look.
    shades = np.array([[20, 40, 90], [255, 255, 255], [128, 128, 128]], np.uint8)
    matplotlib.image.imsave(path.with_suffix(".png"), shades[mask[::2, ::2]])


def ahead(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """What a function makes of each item, in a thread and while the caller works on the item before."""
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            made, coming = coming, thread.submit(function, item)
            if made:
                yield made.result()
        if coming:
            yield coming.result()


def infer(data: Path, model_file: Path, out: Path, patch: int, batch_size: int, precision: str, backend: str) -> None:
    """Writes one mask a scene of `data`/inference into `out`, and infer.json with the timing.

    While the network masks a scene, the next is read and the last one's mask is written. The seconds of a scene are those
    from one finished mask of a rank to the next, of its first from the beginning; loading the model is not in them.
    """
    import matplotlib.image  # noqa: F401 - loaded before the clock runs, as the network is
    import tensorflow as tf
    import xarray  # noqa: F401

    ranks = join(backend)
    paths = sorted((data / "inference").glob("S3*.hdf"))
    if not paths:
        raise ValueError(f"{data / 'inference'}: no converted scenes")
    precision = agreed_precision(precision, ranks)
    if precision == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    radiometry = trained_on(model_file)
    predict = predictor(trained(model_file))
    predict(tf.zeros((1, PATCH, PATCH, 9)))  # traced once, outside the timing
    seconds = []

    def read(path: Path) -> tuple[Path, Scene]:
        return path, load_for(radiometry, path)

    def write(answer: tuple[Path, Scene, Array]) -> tuple[str, float]:
        path, scene, chance = answer
        write_mask(out / f"{path.stem}.nc", scene, chance)
        return scene.name, time.perf_counter()

    scenes = ahead(read, paths[ranks.rank :: ranks.size])
    answers = ((path, scene, probability(predict, scene, patch, batch_size)) for path, scene in scenes)
    last = time.perf_counter()
    for name, now in ahead(write, answers):
        seconds.append(now - last)
        print(f"{name}: {seconds[-1]:.2f} s", flush=True)
        last = now

    of_ranks = ranks.gather(seconds)
    everyone = [value for part in of_ranks for value in part]
    if ranks.rank == 0:
        result = {
            "ranks": ranks.size,
            "devices": ranks.devices,
            "precision": precision,
            "patch": patch,
            "radiometry": radiometry or "unknown",  # that the network was trained on
            "scenes": len(everyone),
            "seconds_per_scene_median": float(np.median(everyone)),
            "seconds_per_scene_p95": float(np.percentile(everyone, 95)),
            "scenes_per_second": len(everyone) / max(map(sum, of_ranks)),
        }
        (out / "infer.json").write_text(json.dumps(result, indent=1) + "\n")
