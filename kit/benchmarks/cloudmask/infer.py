"""Masks whole scenes with a trained network; the scenes are shared out over the ranks."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from kit.benchmarks.cloudmask.model import unet
from kit.benchmarks.cloudmask.patches import assemble, inference_patches, load
from kit.benchmarks.cloudmask.ranks import join


def infer(data: Path, model_file: Path, out: Path, batch_size: int) -> None:
    """Writes one NetCDF mask (CF conventions) a scene of `data`/inference into `out`, and infer.json with the timing.

    The seconds of a scene hold reading, the network and assembling, not loading the model.
    """
    import tensorflow as tf
    import xarray as xr

    hvd, devices = join()
    rank, size = hvd.rank(), hvd.size()
    paths = sorted((data / "inference").glob("S3*.hdf"))
    if not paths:
        raise ValueError(f"{data / 'inference'}: no converted scenes")
    out.mkdir(parents=True, exist_ok=True)
    model = unet()
    model.load_weights(model_file)
    predict = tf.function(lambda images: tf.sigmoid(model(images, training=False)))
    predict(tf.zeros((batch_size, 256, 256, 9)))  # trace once, outside the timing

    seconds = []
    for path in paths[rank::size]:
        started = time.perf_counter()
        scene = load(path)
        patches = inference_patches(scene.channels)
        answers = []
        for start in range(0, len(patches), batch_size):
            part = patches[start : start + batch_size]
            full = np.zeros((batch_size, *part.shape[1:]), np.float32)
            full[: len(part)] = part
            answers.append(predict(tf.constant(full)).numpy()[: len(part), :, :, 0])
        probability = assemble(np.concatenate(answers), scene.label.shape)
        seconds.append(time.perf_counter() - started)
        mask = np.where(scene.seen > 0, probability > 0.5, 2).astype(np.uint8)
        dataset = xr.Dataset(
            {
                "cloud_probability": (("rows", "columns"), probability, {"units": "1", "long_name": "probability of cloud"}),
                "cloud_mask": (
                    ("rows", "columns"),
                    mask,
                    {"flag_values": np.array([0, 1, 2], "u1"), "flag_meanings": "clear cloud not_seen"},
                ),
            },
            attrs={"Conventions": "CF-1.8", "product": scene.name},
        )
        partial = out / f".{path.stem}.partial"
        dataset.to_netcdf(partial, engine="h5netcdf", encoding={"cloud_probability": {"zlib": True}})
        partial.rename(out / f"{path.stem}.nc")
        print(f"{scene.name}: {seconds[-1]:.2f} s", flush=True)

    everyone = [s for part in hvd.allgather_object(seconds) for s in part]
    if rank == 0:
        summary = {
            "ranks": size,
            "devices": devices,
            "scenes": len(everyone),
            "seconds_per_scene_median": float(np.median(everyone)),
            "seconds_per_scene_p95": float(np.percentile(everyone, 95)),
        }
        (out / "infer.json").write_text(json.dumps(summary, indent=2) + "\n")
