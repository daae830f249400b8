"""Holds the two networks against the test split and against what needs no network.

Baselines of the space group: the class that is most frequent in training, and the kinematic one, the class of the
stack in training whose radial profile (the mean of each ring, of each projection; standardised) is nearest: what the
distances of reflections say without the symmetry of intensities. Of the density: the mean one of training, pixel by
pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.ranks import join
from kit.stages.stemdl.network import dense, resnet
from kit.stages.stemdl.shards import Shards, places
from kit.stages.stemdl.statistics import BASELINES, density_conclusions, group_conclusions
from kit.stages.stemdl.whole import write_json, write_npz

Array = NDArray[np.float32]
BATCH = 64
EXAMPLES = 12  # stacks whose densities are kept for the figures
NEAR = 256  # profiles that are compared at a time


def ring_numbers(side: int) -> NDArray[np.int64]:
    """The ring of each pixel: its distance from the middle of the pattern, in whole pixels."""
    axis = np.arange(side) - side // 2
    return np.asarray(np.rint(np.hypot(axis[:, None], axis[None, :])), np.int64)


def radial_profiles(images: NDArray[Any]) -> Array:
    """Means of rings within the pattern (n, 3 side/2) of images (n, side, side, 3)."""
    side = images.shape[1]
    rings = ring_numbers(side)
    inside = rings < side // 2
    members = (rings[inside][None, :] == np.arange(side // 2)[:, None]).astype(np.float32)
    members /= members.sum(axis=1, keepdims=True)
    flat = images[:, inside].astype(np.float32)
    return np.einsum("rp,npc->nrc", members, flat, optimize=True).reshape(len(images), -1)


def nearest(known: Array, classes: NDArray[np.int64], asked: Array) -> NDArray[np.int64]:
    """The class of the nearest of the known profiles, for each asked one; both standardised by those known."""
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
    one, other = (known - mean) / deviation, (asked - mean) / deviation
    lengths = (one**2).sum(axis=1)
    found = [(lengths - 2 * other[start : start + NEAR] @ one.T).argmin(axis=1) for start in range(0, len(other), NEAR)]
    return np.asarray(classes[np.concatenate(found)])


def in_batches(shards: Shards) -> Iterator[tuple[NDArray[Any], ...]]:
    for start in range(0, len(shards), BATCH):
        yield shards.read(np.arange(start, min(start + BATCH, len(shards))))


def profiles(data: Path, split: str) -> tuple[Array, NDArray[np.int64]]:
    """Radial profiles and space groups of a split."""
    parts = [(radial_profiles(images), groups) for images, groups in in_batches(Shards(data, split, "image", "space_group"))]
    return np.concatenate([part for part, _ in parts]), np.concatenate([groups for _, groups in parts]).astype(np.int64)


def baselines(data: Path) -> dict[str, NDArray[np.int64]]:
    """The space groups that each baseline calls, in the order of the test split."""
    known, groups = profiles(data, "training")
    asked, _ = profiles(data, "testing")
    numbers, counts = np.unique(groups, return_counts=True)
    return {"radial": nearest(known, groups, asked), "majority": np.full(len(asked), numbers[counts.argmax()])}


def groups_called(data: Path, weights: Path, facts: dict[str, Any]) -> NDArray[np.int64]:
    """The space groups that the network calls, in the order of the test split."""
    import tensorflow as tf

    shards = Shards(data, "testing", "image")
    labels = np.array(shards.listing["labels"])
    if facts["labels"] != labels.tolist():
        raise ValueError(f"{weights}: was trained on other labels than those of {data}; train it again")
    model = resnet(facts["depth"], facts["width"], len(labels), shards.listing["side"])
    model.load_weights(str(weights))
    run = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    found = []
    for (images,) in in_batches(shards):
        logits = run(tf.constant(images.astype(np.float32))).numpy()
        if not np.isfinite(logits).all():
            raise ValueError(f"{weights}: the network answers with what is not finite")
        found.append(labels[logits.argmax(axis=1)])
    return np.concatenate(found)


def count_units(
    units: list[str], actual: NDArray[np.int64], called: dict[str, NDArray[np.int64]]
) -> dict[str, dict[str, dict[str, int]]]:
    """{unit: {who: {"actual>called": stacks}}}"""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for number, unit in enumerate(units):
        of_unit = found.setdefault(unit, {who: {} for who in called})
        for who, numbers in called.items():
            key = f"{actual[number]}>{numbers[number]}"
            of_unit[who][key] = of_unit[who].get(key, 0) + 1
    return found


def mean_density(data: Path) -> NDArray[np.float64]:
    """The mean density of training, pixel by pixel: (m, m, 3)."""
    shards = Shards(data, "training", "density")
    total = sum(densities.astype(np.float64).sum(axis=0) for (densities,) in in_batches(shards))
    return np.asarray(total / len(shards))


def score_densities(data: Path, weights: Path, facts: dict[str, Any], units: list[str], out: Path) -> dict[str, Any]:
    """Sums of each unit and what follows from them; examples go into examples.npz."""
    import tensorflow as tf

    model = dense(facts["growth"], facts["blocks"], facts["side"])
    model.load_weights(str(weights))
    run = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    mean, middle, deviation = mean_density(data), facts["density_mean"], facts["density_deviation"]
    sums: dict[str, dict[str, float]] = {}
    kept: list[tuple[Any, ...]] = []
    every = max(1, len(units) // EXAMPLES)
    number = 0
    for images, densities, groups in in_batches(Shards(data, "testing", "image", "density", "space_group")):
        truth = densities.astype(np.float64)
        found = run(tf.constant(images.astype(np.float32))).numpy().astype(np.float64) * deviation + middle
        if not np.isfinite(found).all():
            raise ValueError(f"{weights}: the network answers with what is not finite")
        for image, one, other, group in zip(images, found, truth, groups, strict=True):
            of_unit = sums.setdefault(
                units[number], dict.fromkeys(("network", "mean", "spread", "correlation", "stacks"), 0.0)
            )
            of_unit["network"] += float(((one - other) ** 2).sum())
            of_unit["mean"] += float(((mean - other) ** 2).sum())
            of_unit["spread"] += float(((other - middle) ** 2).sum())
            spread = one.std() * other.std()
            of_unit["correlation"] += float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread else 0.0
            of_unit["stacks"] += 1
            if number % every == 0 and len(kept) < EXAMPLES:
                kept.append((image, one, other, group, units[number], number))
            number += 1
    keys = ("images", "found", "truth", "space_group", "unit", "number")
    write_npz(out / "densities.npz", {key: np.array([entry[place] for entry in kept]) for place, key in enumerate(keys)})
    return {**density_conclusions(sums), "per_unit": sums}


def score(data: Path, classifier: Path, reconstruction: Path, out: Path) -> None:
    """Writes score.json, and predictions.npz and densities.npz beside it, which the figures are drawn from."""
    join("single")
    shards = Shards(data, "testing", "space_group", "material")
    actual, materials = shards.read(np.arange(len(shards)))
    actual, units = actual.astype(np.int64), shards.units(materials)
    facts = json.loads((classifier / "train.json").read_text())
    labels = shards.listing["labels"]
    called = {"network": groups_called(data, classifier / "model.weights.h5", facts), **baselines(data)}
    for who in BASELINES:
        assert (places(labels)[called[who]] >= 0).all()
    per_unit = count_units(units, actual, called)
    redrawn = json.loads((reconstruction / "train.json").read_text())
    if "growth" in redrawn:
        density = score_densities(data, reconstruction / "model.weights.h5", redrawn, units, out)
    else:
        density = {"stacks": 0, "reason": redrawn["reason"]}
    write_npz(out / "predictions.npz", {"actual": actual, "unit": np.array(units), **called})
    result = {
        "labels": labels,
        "merged": shards.listing["merged"],
        "classes": shards.listing["classes"],
        "imbalance": shards.listing["imbalance"],
        "materials_known": shards.listing["materials_known"],
        "testing_materials": shards.listing["materials"]["testing"],
        "groups": {**group_conclusions(per_unit, labels), "per_unit": per_unit},
        "density": density,
    }
    write_json(out / "score.json", result, indent=1, allow_nan=False)
