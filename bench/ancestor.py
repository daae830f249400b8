"""The ancestor's scheme for CloudMask, plainly: what `make bench/cloudmask` holds the kit against. One process a rank.

Written anew after the description of the e2e and MLCommons codes: every scene is read from its HDF5 file by a generator,
interleaved two files at a time, and cached in memory as patches in single precision; the buffer that shuffles them is one
batch long; files are dealt out to ranks; a network with a sigmoid and a cross-entropy of probabilities. Products are
converted one after the other, with a spline for the zenith angle and skimage's resizing to 1 km.

    python bench/ancestor.py train FOLDER EPOCHS BATCH SEED   prints patches_per_second, peak_memory_gb, accuracy
    python bench/ancestor.py infer FOLDER BATCH               prints seconds_per_scene

FOLDER holds scenes/, converted, and patches/, whose validation patches judge the network: those that judge the kit's.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PATCH = 256


def convert(product: Path, target: Path) -> None:
    """One product to HDF5, with skimage's resizing."""
    import h5py
    import xarray as xr
    from scipy.interpolate import RectBivariateSpline
    from skimage.transform import resize

    def read(file: str, name: str) -> Any:
        with xr.open_dataset(product / file, engine="h5netcdf") as dataset:
            return dataset[name].values, dict(dataset.attrs)

    bts = [read(f"S{band}_BT_in.nc", f"S{band}_BT_in")[0] for band in (7, 8, 9)]
    shape = bts[0].shape
    tie, tie_facts = read("geometry_tn.nc", "solar_zenith_tn")
    rads, refs = [], []
    for band in range(1, 7):
        radiance, facts = read(f"S{band}_radiance_an.nc", f"S{band}_radiance_an")
        irradiance, _ = read(f"S{band}_quality_an.nc", f"S{band}_solar_irradiance_an")
        x = (np.arange(radiance.shape[1]) - int(facts["track_offset"])) * 0.5
        tie_x = (np.arange(tie.shape[1]) - int(tie_facts["track_offset"])) * 16.0
        spline = RectBivariateSpline(np.arange(tie.shape[0]), tie_x, tie, kx=1, ky=1)
        zenith = spline(np.arange(radiance.shape[0]) * 0.5, x)
        cosine = np.where(zenith < 90, np.cos(0.017453292 * zenith), 1.0)
        reflectance = radiance / (irradiance[0] * cosine) * np.pi
        rads.append(resize(np.nan_to_num(radiance), shape))
        refs.append(resize(np.nan_to_num(reflectance), shape))
    bayes, _ = read("flags_in.nc", "bayes_in")
    with h5py.File(target, "w") as file:
        file["bts"] = np.stack(bts, axis=-1)
        file["rads"] = np.stack(rads, axis=-1).astype(np.float32)
        file["refs"] = np.stack(refs, axis=-1).astype(np.float32)
        file["bayes"] = (np.nan_to_num(bayes) > 0)[..., None].astype(np.uint8)


def network() -> Any:
    from tensorflow.keras import Model, layers

    from kit.stages.cloudmask.network import unet

    plain = unet(fused=False)
    return Model(plain.input, layers.Activation("sigmoid")(plain.output))


def scenes(paths: list[Path]) -> Any:
    """Channels and mask of each scene, from its file."""
    import h5py

    for path in paths:
        with h5py.File(path) as file:
            channels = np.concatenate([file["refs"][:] - 0.5, (file["bts"][:] - 270) / 22], axis=-1)
            yield np.nan_to_num(channels).astype(np.float32), (file["bayes"][:] > 0).astype(np.float32)


def cut(field: Any, stride: int, padding: str) -> Any:
    import tensorflow as tf

    depth = field.shape[-1]
    size, steps = [1, PATCH, PATCH, 1], [1, stride, stride, 1]
    patches = tf.image.extract_patches(field[None], size, steps, [1, 1, 1, 1], padding)
    return tf.reshape(patches, (-1, PATCH, PATCH, depth))


def train(work: Path, epochs: int, batch: int, seed: int) -> None:
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    tf.keras.utils.set_random_seed(seed)
    mine = sorted((work / "scenes/training").glob("S3*.hdf"))[hvd.rank() :: hvd.size()]
    shapes = (tf.TensorSpec((None, None, 9), tf.float32), tf.TensorSpec((None, None, 1), tf.float32))

    def of_file(path: Any) -> Any:
        def read(name: bytes) -> Any:
            yield from scenes([Path(name.decode())])

        return tf.data.Dataset.from_generator(read, args=(path,), output_signature=shapes)

    def patches(channels: Any, mask: Any) -> Any:
        return tf.data.Dataset.from_tensor_slices((cut(channels, PATCH, "VALID"), cut(mask, PATCH, "VALID")))

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in mine])
    dataset = dataset.interleave(of_file, cycle_length=2).flat_map(patches).cache()
    dataset = dataset.shuffle(batch).batch(batch, drop_remainder=True).prefetch(1)
    model, optimizer = network(), tf.keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    hvd.broadcast_variables(model.variables, root_rank=0)

    @tf.function
    def step(channels: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.keras.losses.binary_crossentropy(mask, model(channels, training=True)))
        tape = hvd.DistributedGradientTape(tape)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    seconds, seen = 0.0, 0
    for epoch in range(epochs):
        started = time.perf_counter()
        count = 0
        for channels, mask in dataset:
            step(channels, mask)
            count += batch
        if epoch:  # the first reads and traces
            seconds += time.perf_counter() - started
            seen += count
    memory = max(hvd.allgather_object(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9))
    if hvd.rank() == 0:
        rate = seen * hvd.size() / seconds if seconds else None  # of one epoch nothing is warm
        print(json.dumps({"patches_per_second": rate, "peak_memory_gb": memory, "accuracy": accuracy(work, model)}))


def accuracy(work: Path, model: Any) -> float:
    """The share of the seen pixels of the validation patches that the network calls by their label."""
    from kit.stages.cloudmask.patches import UNSEEN
    from kit.stages.cloudmask.shards import Shards

    shards = Shards(work / "patches", "validation")
    right = pixels = 0
    for number in range(len(shards)):
        images, classes = shards.read(np.array([number]))
        called = model(images.astype(np.float32), training=False).numpy()[..., 0] > 0.5
        seen = classes != UNSEEN
        right += int((called == (classes == 1))[seen].sum())
        pixels += int(seen.sum())
    return right / pixels


def infer(work: Path, batch: int) -> None:
    import tensorflow as tf

    model = network()
    predict = tf.function(lambda channels: model(channels, training=False))
    paths = sorted((work / "scenes/inference").glob("S3*.hdf"))
    predict(tf.zeros((batch, PATCH, PATCH, 9)))
    times = []
    for path in paths:
        started = time.perf_counter()
        ((channels, _),) = scenes([path])
        parts = cut(tf.constant(channels), 176, "SAME")
        answers = [predict(parts[start : start + batch]).numpy() for start in range(0, len(parts), batch)]
        np.concatenate(answers)[:, 40:-40, 40:-40]
        times.append(time.perf_counter() - started)
    print(json.dumps({"seconds_per_scene": float(np.median(times))}))


if __name__ == "__main__":
    import tensorflow as tf

    threads = int(os.environ["OMP_NUM_THREADS"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads + 1)
    stage, folder, *numbers = sys.argv[1:]
    {"train": train, "infer": infer}[stage](Path(folder), *map(int, numbers))
