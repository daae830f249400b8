"""Masks whole scenes with a trained network: those of a run, shared out over its ranks, or a product on its own."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import __version__
from kit.stages.cloudmask.convert import convert
from kit.stages.cloudmask.network import trained
from kit.stages.cloudmask.patches import (
    PATCH,
    UNSEEN,
    WHOLE,
    Array,
    Scene,
    assemble,
    inference_patches,
    load_for,
    trained_on,
)
from kit.stages.cloudmask.products import ProductError, parse_name, read
from kit.stages.ml.ranks import agreed_precision, join


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


def write_netcdf(
    path: Path, scene: Scene, chance: Array, more: Mapping[str, Any] | None = None, **attributes: str
) -> NDArray[np.uint8]:
    """Writes a mask as NetCDF after the CF conventions, whole or not at all, with `more` coordinates and attributes; returns
    it (rows, columns): 0 clear, 1 cloud, `UNSEEN`."""
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
        coords=more,
        attrs={
            "Conventions": "CF-1.8",
            "title": "cloud mask of a Sentinel-3 SLSTR scene",
            "source": scene.name,
            **attributes,
        },
    )
    partial = path.with_suffix(".partial")
    # Probabilities hardly shrink, and packing them takes as long as reading the scene.
    packed: dict[str, dict[str, Any]] = {
        "cloud_probability": {"_FillValue": np.float32(np.nan)},
        # No pixel has this: one that was not seen is said to be so.
        "cloud_mask": {"_FillValue": np.uint8(255), "zlib": True, "complevel": 1},
    }
    for name in more or {}:  # as the products have them: to 0.1 m
        packed[name] = {"dtype": "i4", "scale_factor": 1e-6, "_FillValue": np.int32(-(2**31)), "zlib": True}
    try:
        dataset.to_netcdf(partial, engine="h5netcdf", encoding=packed)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return mask


def write_mask(path: Path, scene: Scene, chance: Array) -> None:
    """Writes a mask as NetCDF, and a picture of it beside: white cloud on dark sky, as from above; grey was not seen."""
    import matplotlib.image

    mask = write_netcdf(path, scene, chance)
    shades = np.array([[20, 40, 90], [255, 255, 255], [128, 128, 128]], np.uint8)
    matplotlib.image.imsave(path.with_suffix(".png"), shades[mask[::2, ::2]])  # every other pixel is enough for a look


def mask(product: Path, model_file: Path, out: Path) -> None:
    """Masks a product, which needs no label, with a trained network: `out` is NetCDF with the product's own coordinates.

    The scene takes the way of the stages convert and infer, in single precision. ProductError for what is no product.
    """
    parse_name(product.name)
    if not product.is_dir():
        raise ProductError(f"{product}: no folder; a product is unpacked before it is masked")
    where = {name: position(product, name, way) for name, way in (("latitude", "north"), ("longitude", "east"))}
    ranks = join("single")
    predict = predictor(trained(model_file))
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / f"{product.stem}.hdf"
        convert(product, converted, labelled=False, unseen=1.0)  # a mask says what was not seen
        scene = load_for(trained_on(model_file), converted)
    for name, (_, values, _) in where.items():
        if values.shape != scene.seen.shape:
            raise ProductError(f"{product}/geodetic_in.nc: {name}_in has {values.shape} pixels, but S7 {scene.seen.shape}")
    chance = probability(predict, scene, WHOLE, 1)
    with model_file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"model": model_file.name, "model_sha256": digest, "kit_version": __version__, "device": ranks.devices[0]}
    facts["arithmetic"] = "TF32" if ranks.tf32[0] else "float32"
    write_netcdf(out, scene, chance, where, **facts)
    unseen = 1 - float(scene.seen.mean())
    cloudy = float((chance > 0.5)[scene.seen].mean())
    print(f"{out}: {cloudy:.1%} of the pixels that were seen are cloud, {unseen:.1%} were not seen", flush=True)


def position(product: Path, name: str, way: str) -> tuple[Any, ...]:
    """Latitude or longitude of a product's 1 km pixels, as a coordinate after the CF conventions."""
    values, _, _ = read(product, "geodetic_in.nc", f"{name}_in")
    return ("rows", "columns"), values, {"units": f"degrees_{way}", "standard_name": name, "long_name": name}


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


def infer(
    data: Path, model_file: Path, out: Path, patch: int, batch_size: int, precision: str, tf32: bool, backend: str
) -> None:
    """Writes one mask a scene of `data`/inference into `out`, and infer.json with the timing.

    While the network masks a scene, the next is read and the last one's mask is written. The seconds of a scene are those
    from one finished mask of a rank to the next, of its first from the beginning; loading the model is not in them.
    """
    import matplotlib.image  # noqa: F401 - loaded before the clock runs, as the network is
    import tensorflow as tf
    import xarray  # noqa: F401

    ranks = join(backend, tf32)
    paths = sorted((data / "inference").glob("S3*.hdf"))
    if not paths:
        raise ValueError(f"{data / 'inference'}: no converted scenes")
    precision = agreed_precision(precision, ranks)
    if precision == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    predict = predictor(trained(model_file))
    radiometry = trained_on(model_file)
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
            "tf32": ranks.tf32,
            "precision": precision,
            "patch": patch,
            "radiometry": radiometry or "unknown",  # that the network was trained on
            "scenes": len(everyone),
            "seconds_per_scene_median": float(np.median(everyone)),
            "seconds_per_scene_p95": float(np.percentile(everyone, 95)),
            "scenes_per_second": len(everyone) / max(map(sum, of_ranks)),
        }
        (out / "infer.json").write_text(json.dumps(result, indent=1) + "\n")
