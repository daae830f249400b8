"""Does what a submission carries of a CloudMask run agree with itself? What can be computed again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.files import read_table
from kit.core.schema import shortened
from kit.training import judge

SCORE, SST, TRAIN = "score/score.json", "sst/sst.json", "train/train.json"
MOST_SCENES = 10_000
# By which what follows from the ends of intervals may differ, which are drawn.
WITHIN = {"separation": 0.01}


def contradictions(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of files of a run by their names, of which some may be missing.

    Scores follow from the counts of each scene, sea-surface temperatures from the differences of each match-up (which are
    rounded to 0.001 K), the share of waiting for input from the clocks of the training, and whether a target was reached
    from the best accuracy.
    """
    for name, of in ((SCORE, of_score), (SST, of_sst), (TRAIN, of_train)):
        if name in files:
            try:
                yield from ((name, problem) for problem in of(read_table(files[name])))
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                yield name, f"is not what a run leaves: {shortened(error)}"


def of_score(said: dict[str, Any]) -> Iterator[str]:
    from kit.stages.cloudmask.score import conclusions

    scenes = said["per_scene"]
    if not 0 < len(scenes) <= MOST_SCENES:
        yield f"has {len(scenes)} scenes, where 1 to {MOST_SCENES} are expected"
        return
    for name, scene in scenes.items():
        for against in ("label", "truth"):
            counts = {mask: np.asarray(table) for mask, table in scene[against].items()}
            if any(table.shape != (2, 2) or table.min() < 0 for table in counts.values()):
                yield f"per_scene.{name}.{against} holds what is no count of pixels"
                return
            # Each mask is held against the same pixels; a product's own says nothing of some.
            pixels = {mask: table.sum(axis=1) for mask, table in counts.items()}
            if any((pixels[mask] > pixels["label"]).any() for mask in pixels) or any(
                (pixels[mask] != pixels["label"]).any() for mask in pixels if mask != "summary"
            ):
                yield f"per_scene.{name}.{against}: its masks are not of the same pixels"
                return
    for label, found, again in judge.differing(said, conclusions(scenes), within=WITHIN):
        yield f"{label} is {found!r}, but the counts of its scenes say {again!r}"
    bins = said["calibration"]["bins"]
    error = sum(part["pixels"] * abs(part["found"] - part["said"]) for part in bins) / sum(part["pixels"] for part in bins)
    if not abs(said["calibration"]["calibration_error"] - error) <= 1e-6:
        yield f"calibration.calibration_error is {said['calibration']['calibration_error']!r}, but its bins say {error!r}"


def of_sst(said: dict[str, Any]) -> Iterator[str]:
    if not said["matchups"]:
        return
    for name, values in said["differences"].items():
        stated, difference = said[name], np.asarray(values, dtype=float)
        if len(difference) != stated["matchups"]:
            yield f"{name}.matchups is {stated['matchups']!r}, but it has {len(difference)} differences"
        elif len(difference) >= 3:
            median = float(np.median(difference))
            # The robust standard deviation of Gaussian values (sst.py).
            for key, again in (("median", median), ("rsd", float(1.4826 * np.median(np.abs(difference - median))))):
                if not abs(stated[key] - again) <= 0.002:
                    yield f"{name}.{key} is {stated[key]!r}, but its differences say {again!r}"
        elif (stated["median"], stated["rsd"]) != (None, None):
            yield f"{name} has a median or deviation of {len(difference)} match-ups"
    for name in {"none", "bayes", "network"} - said["differences"].keys():
        yield f"differences.{name} is missing"


def of_train(said: dict[str, Any]) -> Iterator[str]:
    yield from judge.contradictions(said, metric="val_accuracy")
