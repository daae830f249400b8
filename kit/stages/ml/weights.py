"""The file of weights that a training leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

ORDER = "kit_weights"  # attribute of a file: the names of its arrays, in the order of the network's own weights


def save(model: Any, path: Path, **attributes: str) -> None:
    """Writes the weights of a network into `path` (its name ends in .weights.h5), whole or not at all, with attributes.

    The file is Keras' own, and says in an attribute in which order its arrays are the weights of the network: the versions
    of Keras name and sort them differently.
    """
    import h5py

    partial = path.with_name("partial.weights.h5")
    model.save_weights(partial)
    with h5py.File(partial, "r+", locking=False) as file:
        datasets: dict[str, NDArray[Any]] = {}
        file.visititems(lambda name, item: datasets.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        order = []
        for array in model.get_weights():
            # Arrays that are equal may be taken for each other.
            same = (
                name for name, data in datasets.items() if data.shape == array.shape and data.tobytes() == array.tobytes()
            )
            order.append(next(same))
        file.attrs.update({ORDER: json.dumps(order), **attributes})
    partial.rename(path)
