"""Trains the U-Net with Horovod. One process a rank:

    mpirun -n 2 python -m kit.benchmarks.cloudmask train --data scenes --out train --epochs 8

Every rank takes the same number of steps by construction: patches are permuted with one seed for all, cut to a whole
number of global batches, and rank r takes every size-th of them. What is reported is summed over all ranks.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.cloudmask.model import PARAMETERS, unet
from kit.benchmarks.cloudmask.patches import load, training_patches
from kit.benchmarks.cloudmask.ranks import join


def load_patches(paths: list[Path]) -> tuple[Any, Any, Any]:
    """Channels (n, 256, 256, 9), labels and seen (n, 256, 256) of all patches of some scenes."""
    scenes = [load(path) for path in paths]
    channels, label, seen = (
        np.concatenate([training_patches(getattr(scene, name)) for scene in scenes])
        for name in ("channels", "label", "seen")
    )
    return channels, label, seen


def train(
    data: Path,
    out: Path,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    validation_scenes: int,
    warmup_epochs: int,
    seed: int,
) -> None:
    """Trains on `data`/training and writes model.h5, epochs.jsonl and train.json into `out`.

    `batch_size` is of one rank. The learning rate is that of the global batch; it rises over the first
    `warmup_epochs`. A checkpoint is written after every epoch; a run that finds one goes on from it.
    """
    import tensorflow as tf

    hvd, devices = join()
    rank, size = hvd.rank(), hvd.size()
    tf.keras.utils.set_random_seed(seed)

    paths = sorted((data / "training").glob("S3*.hdf"))
    if len(paths) <= validation_scenes:
        raise ValueError(f"{data / 'training'}: {len(paths)} scenes, of which {validation_scenes} are for validation")
    # Whole scenes are kept apart: patches of one scene look alike. The order is fixed by seed and name.
    order = np.random.default_rng(seed).permutation(len(paths))
    validation = [paths[i] for i in sorted(order[:validation_scenes])]
    training = [paths[i] for i in sorted(order[validation_scenes:])]
    x, y, seen = load_patches(training)
    vx, vy, vseen = (array[rank::size] for array in load_patches(validation))
    steps = len(x) // (batch_size * size)
    if steps == 0:
        raise ValueError(f"{len(x)} training patches do not fill one global batch of {batch_size} x {size} ranks")

    model = unet()
    if model.count_params() != PARAMETERS:
        raise ValueError(f"the network has {model.count_params()} parameters, not the reference's {PARAMETERS}")
    optimizer = tf.keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    epoch_done = tf.Variable(0, dtype=tf.int64)
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model, optimizer=optimizer, epoch=epoch_done), str(out / "checkpoints"), max_to_keep=2
    )
    if rank == 0 and manager.latest_checkpoint:
        manager.checkpoint.restore(manager.latest_checkpoint)
    hvd.broadcast_variables([*model.variables, *optimizer.variables, epoch_done], root_rank=0)

    def loss_sum(labels: Any, mask: Any, logits: Any) -> Any:
        """Binary cross-entropy summed over the pixels that were seen."""
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits[..., 0])
        return tf.reduce_sum(each * mask)

    def count_right(labels: Any, mask: Any, logits: Any) -> Any:
        right = tf.equal(logits[..., 0] > 0, labels > 0.5)
        return tf.reduce_sum(tf.cast(right, tf.float32) * mask)

    @tf.function
    def step(images: Any, labels: Any, mask: Any) -> Any:
        # The pixels of all ranks count alike: sums are exchanged, and divided once by the global number of pixels.
        pixels = hvd.allreduce(tf.reduce_sum(mask), op=hvd.Sum)
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = loss_sum(labels, mask, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        gradients = [hvd.allreduce(g, op=hvd.Sum) / tf.maximum(pixels, 1.0) for g in gradients]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return tf.stack([loss, count_right(labels, mask, logits), tf.reduce_sum(mask)])

    @tf.function
    def validate(images: Any, labels: Any, mask: Any) -> Any:
        logits = model(images, training=False)
        return tf.stack([loss_sum(labels, mask, logits), count_right(labels, mask, logits), tf.reduce_sum(mask)])

    def batch(arrays: tuple[Any, ...], index: Any) -> list[Any]:
        return [tf.constant(array[index], dtype=tf.float32) for array in arrays]

    def total(sums: Any) -> Any:
        """The sums (loss, right pixels, pixels) of all ranks."""
        return hvd.allreduce(tf.convert_to_tensor(sums), op=hvd.Sum, name="metrics").numpy()

    history = out / "epochs.jsonl"
    if rank == 0 and int(epoch_done) == 0:
        history.unlink(missing_ok=True)
    for epoch in range(int(epoch_done), epochs):
        optimizer.learning_rate.assign(learning_rate * min(1.0, (epoch + 1) / max(warmup_epochs, 1)))
        order = np.random.default_rng([seed, epoch]).permutation(len(x))[: steps * batch_size * size]
        mine = order[rank::size].reshape(steps, batch_size)
        started = time.perf_counter()
        sums: Any = np.zeros(3, np.float32)
        for index in mine:
            sums = sums + step(*batch((x, y, seen), index))
        trained = time.perf_counter() - started
        loss, right, pixels = total(sums)
        sums = np.zeros(3, np.float32)
        for start in range(0, len(vx), batch_size):
            sums = sums + validate(*batch((vx, vy, vseen), slice(start, start + batch_size)))
        val_loss, val_right, val_pixels = total(sums)
        if not np.isfinite([loss, val_loss]).all():
            raise ValueError(f"epoch {epoch + 1}: the loss is not finite (training {loss}, validation {val_loss})")
        epoch_done.assign(epoch + 1)
        if rank == 0:
            manager.save()
            record = {
                "epoch": epoch + 1,
                "loss": float(loss / pixels),
                "accuracy": float(right / pixels),
                "val_loss": float(val_loss / val_pixels),
                "val_accuracy": float(val_right / val_pixels),
                "seconds": trained,
                "patches": steps * batch_size * size,
            }
            with history.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(json.dumps(record), flush=True)

    # Ranks that have drifted apart have not trained one network.
    checksum = tf.constant(float(sum(np.abs(v.numpy()).sum(dtype=np.float64) for v in model.trainable_variables)))
    spread = float(hvd.allreduce(checksum, op=hvd.Max) - hvd.allreduce(checksum, op=hvd.Min))
    if spread:
        raise ValueError(f"the weights of the ranks differ (sum of magnitudes by {spread})")
    if rank == 0:
        model.save_weights(out / "model.h5")
        records = [json.loads(line) for line in history.read_text().splitlines()]
        warm = records[1:] or records  # the first epoch traces the graph
        summary = {
            **records[-1],
            "ranks": size,
            "devices": devices,
            "parameters": int(model.count_params()),
            "global_batch": batch_size * size,
            "learning_rate": learning_rate,
            "seed": seed,
            "training_scenes": [path.stem for path in training],
            "validation_scenes": [path.stem for path in validation],
            "patches_per_second": sum(r["patches"] for r in warm) / sum(r["seconds"] for r in warm),
        }
        (out / "train.json").write_text(json.dumps(summary, indent=2) + "\n")
