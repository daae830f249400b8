"""What is drawn of a run, on the login node: patterns, confusion of crystal systems, densities, learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kit.core import pictures
from kit.core.files import read_json
from kit.stages.stemdl.score import ring_numbers
from kit.stages.stemdl.shards import Shards
from kit.stages.stemdl.statistics import SYSTEMS, system
from kit.training.figures import learning_curve

ROWS = 4
ZONES = ("first projection", "second projection", "third projection")


def draw(directory: Path) -> None:
    """Writes patterns.png, systems.png, radial.png, training.png and, where there are densities, density.png and
    reconstruction.png into figures/."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    score = read_json(directory / "score/score.json")
    with np.load(directory / "score/predictions.npz", allow_pickle=False) as file:
        predictions = {key: file[key] for key in ("actual", "network", "unit")}
    pages: dict[str, Any] = {
        "patterns": patterns(plt, directory, predictions),
        "systems": systems(plt, predictions),
        "radial": radial(plt, directory, predictions),
        "training": learning_curve(plt, directory / "train/epochs.jsonl", "f1", "macro F1 over all labels"),
    }
    if score["density"]["stacks"]:
        pages["density"] = densities(plt, directory)
        history = directory / "reconstruct/epochs.jsonl"
        pages["reconstruction"] = learning_curve(plt, history, "correlation", "correlation with the true density")
    for name, figure in pages.items():
        pictures.save(figure, folder / f"{name}.png", dpi=110)
        plt.close(figure)


def spread(actual: Any, number: int) -> list[int]:
    """Places of some samples, one of each class as far as the number goes."""
    _, first = np.unique(actual, return_index=True)
    return [int(first[place]) for place in np.unique(np.linspace(0, len(first) - 1, min(number, len(first))).astype(int))]


def patterns(plt: Any, directory: Path, predictions: dict[str, Any]) -> Any:
    """Stacks of a few classes with their true space group and the one that the network calls."""
    chosen = spread(predictions["actual"], ROWS)
    (images,) = Shards(directory / "prepared", "testing", "image").read(np.array(chosen))
    figure, rows = plt.subplots(len(chosen), 3, figsize=(6, 2.1 * len(chosen)), squeeze=False, layout="constrained")
    for row, image, place in zip(rows, images, chosen, strict=True):
        for number, panel in enumerate(row):
            panel.imshow(image[..., number].astype(float), cmap="gray", interpolation="nearest")
            panel.set(xticks=[], yticks=[])
        unit, actual, called = (predictions[key][place] for key in ("unit", "actual", "network"))
        right = actual == called
        row[0].set_ylabel(f"{unit}\n{actual}, called {called}", fontsize=7, color="C2" if right else "C3")
    for panel, name in zip(rows[0], ZONES, strict=True):
        panel.set_title(name, fontsize=8)
    return figure


def systems(plt: Any, predictions: dict[str, Any]) -> Any:
    """Confusion of the crystal systems: share of the stacks of each true one."""
    names = list(SYSTEMS)
    table = np.zeros((len(names), len(names)))
    for actual, called in zip(predictions["actual"], predictions["network"], strict=True):
        table[names.index(system(int(actual))), names.index(system(int(called)))] += 1
    total = table.sum(axis=1, keepdims=True)
    share = np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0)
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(table > 0):
        value = share[row, column]
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if value > 0.5 else "black"
        )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(
        range(len(names)), [f"{name} ({int(n)})" for name, n in zip(names, total[:, 0], strict=True)], fontsize=8
    )
    axes.set(xlabel="system of the space group that the network calls", ylabel="true system (stacks)")
    return figure


def radial(plt: Any, directory: Path, predictions: dict[str, Any]) -> Any:
    """What the kinematic baseline sees: the radial profile of the first projection of a few stacks."""
    chosen = spread(predictions["actual"], ROWS)
    (images,) = Shards(directory / "prepared", "testing", "image").read(np.array(chosen))
    rings = ring_numbers(images.shape[1])
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for image, place in zip(images, chosen, strict=True):
        values = [image[..., 0].astype(float)[rings == ring].mean() for ring in range(images.shape[1] // 2)]
        axes.plot(values, linewidth=1, label=f"{predictions['unit'][place]}, {predictions['actual'][place]}")
    axes.set(xlabel="distance from the middle / pixel", ylabel="mean of 10 (ln I + 17)")
    axes.legend(frameon=False, fontsize=7)
    return figure


def densities(plt: Any, directory: Path) -> Any:
    """The true projected density of a few stacks beside the one that the network draws, first projection."""
    with np.load(directory / "score/densities.npz", allow_pickle=False) as file:
        kept = {key: file[key] for key in ("images", "found", "truth", "space_group", "unit")}
    number = min(ROWS, len(kept["unit"]))
    figure, rows = plt.subplots(number, 3, figsize=(5.6, 1.9 * number), squeeze=False, layout="constrained")
    for place, row in zip(np.linspace(0, len(kept["unit"]) - 1, number).astype(int), rows, strict=True):
        top = float(kept["truth"][place][..., 0].max())
        for panel, key, options in (
            (row[0], "images", {"cmap": "gray"}),
            (row[1], "truth", {"vmin": 0, "vmax": top}),
            (row[2], "found", {"vmin": 0, "vmax": top}),
        ):
            panel.imshow(kept[key][place][..., 0].astype(float), interpolation="nearest", **options)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{kept['unit'][place]}", fontsize=7)
    for panel, name in zip(rows[0], ("pattern", "true density", "density of this run"), strict=True):
        panel.set_title(name, fontsize=8)
    return figure
