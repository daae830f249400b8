"""The prepared samples, as the trainer and the score read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.shards import Shards as Numbered
from kit.stages.stemdl.prepare import record


class Shards(Numbered):
    """Some fields of the samples of a split, numbered through; `listing` is what prepared.json says."""

    def __init__(self, folder: Path, split: str, *fields: str) -> None:
        self.listing: dict[str, Any] = json.loads((folder / "prepared.json").read_text())
        self.found = [shard for shard in self.listing["shards"] if shard["split"] == split]
        whole = record(self.listing["side"], self.listing["density"])
        kinds: list[Any] = [(name, whole[name].base, whole[name].shape) for name in fields]
        super().__init__(
            [folder / shard["file"] for shard in self.found], [shard["samples"] for shard in self.found], np.dtype(kinds)
        )

    def units(self, materials: NDArray[np.int32]) -> list[str]:
        """What each sample, in the order of all, stands and falls with: its material. `materials` is that field of all.

        Where no file says materials, neighbours of a file are taken together: they may be of one material.
        """
        names = []
        start = 0
        for shard in self.found:
            for place, number in enumerate(materials[start : start + shard["samples"]]):
                known = number >= 0
                names.append(shard["materials"][number] if known else f"{shard['file']} {place // UNKNOWN_TOGETHER}")
            start += shard["samples"]
        return names


UNKNOWN_TOGETHER = 32  # samples without a material that are drawn together


def places(labels: list[int]) -> NDArray[np.int32]:
    """The class (place in the list of labels) of each space group's number; -1 for one that is not in the list."""
    found = np.full(max(labels) + 1, -1, np.int32)
    found[labels] = np.arange(len(labels))
    return found
