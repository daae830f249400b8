"""Checks of any training: its ranks formed one job, its splits were kept, its facts agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.errors import KitError
from kit.core.files import read_table
from kit.images.render import load_image
from kit.runs.record import load_run


def one_job(directory: Path, name: str, ranks: int) -> dict[str, Any]:
    """What a stage wrote into the file `name`; KitError unless its ranks formed one job on devices of the image's kind."""
    run = load_run(directory)
    device = "CPU" if load_image(run.image.name).device == "cpu" else "GPU"
    facts = read_table(directory / name)
    if facts.get("ranks") != ranks:
        raise KitError(f"{directory / name}: {ranks} ranks were asked for, {facts.get('ranks')} formed one job")
    strangers = {kind for kind in facts["devices"] if (kind == "CPU") != (device == "CPU")}
    if strangers:
        raise KitError(
            f"{directory / name}: ranks computed on {', '.join(sorted(strangers))}, but {run.image.name} is there "
            f"for a {device} each; see what the site says of its partition (gpus, or container.args), or take another image"
        )
    return facts


def splits_kept(
    name: str, used: Mapping[str, list[str]], listed: Mapping[str, Mapping[str, str]], test: str, what: str
) -> None:
    """KitError unless a training used samples of its own splits alone, and none that lies beside a test sample.

    `used` has for each split what the file `name` says was used, of `what` samples are cut from (scenes), `listed` for each
    split, `test` among them, all that there are, with the group that each is of (an orbit): those of one group are so near
    to each other that a group on both sides is a leak, too.
    """
    everything = {one for split in used.values() for one in split}
    met = everything & set(listed[test])
    groups = {listed[split][one] for split in used for one in everything & set(listed[split])}
    near = groups & set(listed[test].values())
    if met or near:
        raise KitError(f"{name}: test {what} were seen in training: {', '.join(sorted(met or near))}")
    for split, found in used.items():
        strangers = set(found) - set(listed[split])
        if strangers or not found:
            raise KitError(f"{name}: {split} used {what} that are not of it: {', '.join(sorted(strangers)) or 'none'}")


def contradictions(said: Mapping[str, Any], metric: str, higher: bool = True) -> Iterator[str]:
    """Contradictions within a train.json: its clocks, its target, and impossible numbers.

    `metric` is the target's, and `higher` whether more of it is better: the benchmark says so, not the file.
    Raises what a file that no training wrote makes a reader of it raise (LookupError, TypeError, ValueError, ...).
    """
    clocks = said["warm_seconds"]
    share = clocks["input"] / sum(clocks.values())
    if not abs(said["input_share"] - share) <= 1e-6:
        yield f"input_share is {said['input_share']!r}, but warm_seconds say {share!r}"
    best, sign = said["target_best"], 1 if higher else -1
    if bool(said["target_reached"]) != (sign * best >= sign * said["target"]):
        yield f"target_reached is {said['target_reached']!r}, but target_best is {best!r}"
    if not sign * said[metric] <= sign * best + 1e-9:
        yield f"{metric} is {said[metric]!r}, {'more' if sign > 0 else 'less'} than target_best, {best!r}"
    for key in ("samples_per_second", "peak_memory_gb", "seconds"):
        if not said[key] > 0:
            yield f"{key} is {said[key]!r}, where more than 0 is needed"


def differing(
    said: Any, again: Any, label: str = "", close: float = 1e-9, within: Mapping[str, float] = {}
) -> Iterator[tuple[str, Any, Any]]:
    """(label, said, computed) of every value that differs: numbers by more than `close`, or `within` of their label.

    Ends of intervals may differ by a tenth of their width more: versions of NumPy may draw other numbers from one seed.
    Raises TypeError and ValueError for an interval that is none.
    """
    if isinstance(again, dict):
        for key, value in again.items():
            there = said.get(key) if isinstance(said, dict) else None
            yield from differing(there, value, f"{label}.{key}" if label else key, close, within)
    elif "interval" in label:
        ends, found = np.asarray(again, dtype=float), np.asarray(said, dtype=float)
        if found.shape != ends.shape or not np.abs(found - ends).max() <= 0.1 * float(np.ptp(ends)) + close:
            yield label, said, again
    elif isinstance(again, float):
        if not isinstance(said, int | float) or not abs(said - again) <= within.get(label, close):
            yield label, said, again
    elif said != again:
        yield label, said, again
