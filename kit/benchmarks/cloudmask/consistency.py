"""Does what a submission carries of a CloudMask run agree with itself? What can be computed again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.model import read_table

SCORE, SST, TRAIN = "score/score.json", "sst/sst.json", "train/train.json"


def contradictions(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of files of a run by their names, of which some may be missing.

    Scores follow from the counts of each scene, sea-surface temperatures from the differences of each match-up (which are
    rounded to 0.001 K), and the share of waiting for input from the clocks of the training.
    """
    from kit.benchmarks.cloudmask.score import conclusions

    if SCORE in files:
        said = read_table(files[SCORE])
        for label, found, again in differing(said, conclusions(said["per_scene"])):
            yield SCORE, f"{label} is {found!r}, but the counts of its scenes say {again!r}"
    if SST in files:
        said = read_table(files[SST])
        for name, values in said.get("differences", {}).items():
            difference = np.asarray(values, dtype=float)
            if len(difference) < 3:
                continue
            median = float(np.median(difference))
            # The robust standard deviation of Gaussian values (sst.py).
            for key, again in (("median", median), ("rsd", float(1.4826 * np.median(np.abs(difference - median))))):
                if abs(said[name][key] - again) > 0.002:
                    yield SST, f"{name}.{key} is {said[name][key]!r}, but its differences say {again!r}"
    if TRAIN in files:
        said = read_table(files[TRAIN])
        share = said["warm_seconds"]["input"] / sum(said["warm_seconds"].values())
        if abs(said["input_share"] - share) > 1e-6:
            yield TRAIN, f"input_share is {said['input_share']!r}, but warm_seconds say {share!r}"


def differing(said: Any, again: Any, label: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(label, said, computed) of every value that differs.

    Ends of intervals may differ by a tenth of their width: versions of NumPy may draw other numbers from one seed.
    """
    if isinstance(again, dict):
        for key, value in again.items():
            there = said.get(key) if isinstance(said, dict) else None
            yield from differing(there, value, f"{label}.{key}" if label else key)
    elif label.endswith("interval") or label == "separation":
        ends, found = np.atleast_1d(again), np.atleast_1d(np.asarray(said, dtype=float))
        allowed = 0.1 * float(np.ptp(ends)) + 1e-9 if len(ends) > 1 else 0.01
        if found.shape != ends.shape or np.abs(found - ends).max() > allowed:
            yield label, said, again
    elif isinstance(again, float):
        if not isinstance(said, int | float) or abs(said - again) > 1e-9:
            yield label, said, again
    elif said != again:
        yield label, said, again
