"""Ranks and the devices they compute on."""

from __future__ import annotations

from typing import Any


def join() -> tuple[Any, list[str]]:
    """Makes this process a rank; returns Horovod and what the ranks compute on, in their order (`CPU`, or a GPU's name).

    A rank takes the GPU of its number on the node, and only the memory of it that it needs. Schedulers that give each
    rank one GPU show it that one alone, so the number is taken modulo those that are seen.
    """
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    gpus = tf.config.list_physical_devices("GPU")
    name = "CPU"
    if gpus:
        gpu = gpus[hvd.local_rank() % len(gpus)]
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
        name = tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
    return hvd, hvd.allgather_object(name)
