"""The windows of a split as samples: a year of inputs, and the targets, cut out of the series when they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.shards import Shards
from kit.stages.tevolop import grid


def facts_of(path: Path, way_out: str, *keys: str) -> dict[str, Any]:
    """What a stage before this one has written; ValueError for a damaged file and for one without the keys."""
    try:
        found = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f"{path}: damaged ({error}); {way_out}") from None
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            raise ValueError(f"{path}: {key} is missing; {way_out}")
    return dict(found)


class Windows(Shards):
    """Samples of two fields: `inputs` (STEPS, inputs), scaled, that end with the fortnight before the window begins, and
    `targets` (horizons,), scaled, NaN where there is none.

    The series are mapped, so that a rank holds the pages that it reads, and the system takes them back.
    """

    def __init__(self, folder: Path, split: str) -> None:
        scales = ("input_mean", "input_deviation", "target_mean", "target_deviation")
        self.facts = facts_of(folder / "prepared.json", "run prepare again", "splits", "pixels", *scales)
        self.split: dict[str, Any] = self.facts["splits"][split]
        self.index = np.load(folder / f"{split}.npy")
        self.known, self.goals = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("inputs", "targets"))
        width = self.known.shape[2]
        record = np.dtype([("inputs", "<f4", (grid.STEPS, width)), ("targets", "<f4", (len(grid.WIDTHS),))])
        super().__init__([folder / f"{split}.npy"], [len(self.index)], record)
        self.mean, self.deviation, self.target_mean, self.target_deviation = (
            np.array(self.facts[name], np.float32) for name in scales
        )

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        part = self.index[numbers]
        rows, starts = part["row"].astype(np.int64), part["start"].astype(np.int64)
        steps = starts[:, None] + np.arange(-grid.STEPS, 0)
        known = (self.known[rows[:, None], steps] - self.mean) / self.deviation
        goals = (self.observed(rows, starts) - self.target_mean) / self.target_deviation
        return known.astype(np.float32), goals.astype(np.float32)

    def observed(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """The targets (n, horizons) as magnitudes; NaN where the window ends after the split does."""
        found: NDArray[np.float32] = np.array(self.goals[rows, starts])
        found[starts[:, None] + np.array(grid.WIDTHS) > self.split["until"]] = np.nan
        return found
