"""What is drawn of a run, on the login node: masks, learning curve, calibration, sea-surface temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kit.core import pictures
from kit.core.files import read_json
from kit.training.figures import learning_curve


def draw(directory: Path) -> None:
    """Writes masks.png, training.png, calibration.png and, where there are match-ups, sst.png into figures/."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    score = read_json(directory / "score/score.json")
    pages: dict[str, Any] = {
        "masks": masks(plt, directory),
        "training": learning_curve(plt, directory / "train/epochs.jsonl", "accuracy", "accuracy against the label"),
        "calibration": calibration(plt, score["calibration"]["bins"]),
    }
    if read_json(directory / "sst/sst.json")["matchups"]:
        pages["sst"] = temperatures(plt, read_json(directory / "sst/sst.json"))
    for name, figure in pages.items():
        pictures.save(figure, folder / f"{name}.png", dpi=110)
        plt.close(figure)


def masks(plt: Any, directory: Path) -> Any:
    """Reflectance, temperature, label and mask of the first scenes."""
    import h5py

    paths = sorted((directory / "scenes/inference").glob("*.hdf"))[:4]
    with h5py.File(paths[0], locking=False) as scene:
        height = 2.0 * scene["seen"].shape[0] / scene["seen"].shape[1] + 0.05
    figure, panels = plt.subplots(len(paths), 4, figsize=(8, height * len(paths) + 0.2), squeeze=False, layout="constrained")
    for row, path in zip(panels, paths, strict=True):
        mask_file = directory / f"masks/{path.stem}.nc"
        with h5py.File(path, locking=False) as scene, h5py.File(mask_file, locking=False) as answer:
            temperature, label = scene["bts"][:, :, 1], (scene["bayes"][:, :, 0] > 0).astype(float)
            reflectance, unseen = scene["refs"][:, :, 2], scene["seen"][:, :, 0] == 0
            mask = np.where(unseen, np.nan, answer["cloud_mask"][:] == 1)
            label[unseen] = np.nan
        for panel, image, options in (
            (row[0], np.where(unseen, np.nan, reflectance), {"cmap": "gray", "vmin": 0, "vmax": 0.8}),
            (row[1], temperature, {"cmap": "gray_r", "vmin": 220, "vmax": 300}),
            (row[2], label, {"cmap": "Blues_r", "vmin": 0, "vmax": 1}),
            (row[3], mask, {"cmap": "Blues_r", "vmin": 0, "vmax": 1}),
        ):
            panel.imshow(image, interpolation="nearest", **options)
            panel.set(xticks=[], yticks=[])
    titles = ("reflectance 0.87 µm", "temperature 10.8 µm", "Bayesian mask", "mask of this run")
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=9)
    return figure


def calibration(plt: Any, bins: list[dict[str, Any]]) -> Any:
    """Reliability diagram: how often it is cloud where the network says so with a probability."""
    figure, (axes, counts) = plt.subplots(2, figsize=(4, 4.4), height_ratios=(3, 1), sharex=True, layout="constrained")
    said = [entry["said"] for entry in bins]
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot(said, [entry["found"] for entry in bins], marker="o", markersize=4)
    axes.set(ylabel="share of cloud by the label", xlim=(0, 1), ylim=(0, 1))
    counts.bar(said, [entry["pixels"] for entry in bins], width=0.06)
    counts.set(xlabel="probability of cloud", ylabel="pixels", yscale="log")
    return figure


def temperatures(plt: Any, sst: dict[str, Any]) -> Any:
    """Satellite minus buoy: all match-ups that pass the filters, and those that each mask calls clear."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    edges = np.linspace(-4, 2, 61)
    for name, text in (("none", "no mask"), ("bayes", "Bayesian mask"), ("network", "mask of this run")):
        values = np.array(sst["differences"][name])
        axes.hist(values, edges, histtype="step", label=f"{text}: {len(values)}, {(values < edges[0]).sum()} further left")
    axes.set(xlabel="satellite minus buoy / K", ylabel="match-ups")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
