"""Judges a run on the login node: the ranks formed one job, the split is the one asked for, and it leaks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.errors import KitError
from kit.core.files import plain_file, read_table
from kit.runs.record import resolved
from kit.training.judge import one_job

PREPARED, TRAIN, INFER, SCORE = "series/prepared.json", "train/train.json", "forecast/infer.json", "score/score.json"
SPLITS = ("training", "validation", "test")


def judge(directory: Path, ranks: int) -> None:
    """KitError for ranks that formed no job, for a split that leaks or is another, and for windows that were left out."""
    trained, prepared = one_job(directory, TRAIN, ranks), read_table(directory / PREPARED)
    inferred, scored = (read_table(directory / name) for name in (INFER, SCORE))
    benchmark, _ = resolved(directory)
    (size,) = benchmark.sizes.values()
    problems = [
        *leaks(prepared, str(size.parameters["split"])),
        *otherwise_trained(prepared, trained),
        *(problem for split in SPLITS for problem in of_windows(directory, prepared, split)),
    ]
    windows = prepared["splits"]["test"]["windows"]
    for name, found in ((INFER, inferred["windows"]), (SCORE, scored["windows"])):
        if found != windows:
            problems.append(f"{name}: {found} windows, but {PREPARED} has {windows} for the test")
    if problems:
        raise KitError(f"{directory}: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))


def leaks(prepared: Mapping[str, Any], wanted: str) -> Iterator[str]:
    """What is wrong with the splits: of another kind than asked for, empty, or with something of one in another.

    By location no pixel is in two splits. By time the targets of a split end before the first window of the next begins.
    """
    if prepared["split"] != wanted:
        yield f"{PREPARED}: the split is by {prepared['split']}, and the size asks for {wanted}"
    parts = {name: prepared["splits"][name] for name in SPLITS}
    for name, part in parts.items():
        if not part["pixels"] or not part["windows"]:
            yield f"{PREPARED}: the split {name} is empty"
        if part["until"] > prepared["fortnights"]:
            yield f"{PREPARED}: {name} reaches to fortnight {part['until']} of {prepared['fortnights']}"
    for first, second in (("training", "validation"), ("validation", "test"), ("training", "test")):
        met = set(parts[first]["pixels"]) & set(parts[second]["pixels"])
        if wanted == "location" and met:
            yield f"{PREPARED}: {second} pixels were seen in {first}: {', '.join(map(str, sorted(met)))}"
        if wanted == "time" and parts[first]["until"] > parts[second]["first"]:
            yield (
                f"{PREPARED}: {first} has targets until fortnight {parts[first]['until']}, and {second} begins with "
                f"{parts[second]['first']}"
            )


def otherwise_trained(prepared: Mapping[str, Any], trained: Mapping[str, Any]) -> Iterator[str]:
    """Where the training says that it used another split than was prepared."""
    if trained["split"] != prepared["split"]:
        yield f"{TRAIN}: trained on a split by {trained['split']}, but {PREPARED} has one by {prepared['split']}"
    for name in ("training", "validation"):
        for key in ("pixels", "first", "until"):
            if trained[f"{name}_{key}"] != prepared["splits"][name][key]:
                yield f"{TRAIN}: {name}_{key} is not that of {PREPARED}"


def of_windows(directory: Path, prepared: Mapping[str, Any], split: str) -> Iterator[str]:
    """Where the windows themselves are not of the pixels and dates that prepared.json gives their split."""
    name = f"series/{split}.npy"
    index, of = np.load(plain_file(directory, name), allow_pickle=False), prepared["splits"][split]
    if len(index) != of["windows"]:
        yield f"{name}: {len(index)} windows, but {PREPARED} says {of['windows']}"
        return
    strangers = set(np.array(prepared["pixels"])[np.unique(index["row"])].tolist()) - set(of["pixels"])
    if strangers:
        yield f"{name}: has windows of pixels that are not of it: {', '.join(map(str, sorted(strangers)))}"
    if index["start"].min() < of["first"] or index["start"].max() >= of["until"]:
        yield (
            f"{name}: its windows begin with fortnights {index['start'].min()} to {index['start'].max()}, which are not "
            f"those of the split, {of['first']} to {of['until']}"
        )
