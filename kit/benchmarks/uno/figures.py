"""What is drawn of a run, on the login node: answers against measurements, residuals by drug, and the learning curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from kit.core import pictures
from kit.core.files import read_json

SHOWN = {"mean": "0.75", "drug_mean": "C2", "ridge": "C1"}  # baselines, and their colours
MOST_DRUGS = 60


def draw(directory: Path) -> None:
    """Writes responses.png, residuals.png and training.png into figures/."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    rows, said = np.load(directory / "rows/test.npy"), np.load(directory / "answers/predictions.npy")
    score, prepared = (read_json(directory / name) for name in ("score/score.json", "rows/prepared.json"))
    pages = {
        "responses": density(plt, rows["auc"], said, score["network"]),
        "residuals": residuals(plt, rows["drug"], said - rows["auc"], prepared["drugs"]),
        "training": learning(plt, directory / "train/epochs.jsonl", score),
    }
    for name, figure in pages.items():
        pictures.save(figure, folder / f"{name}.png", dpi=110)
        plt.close(figure)


def density(plt: Any, measured: Any, said: Any, scores: dict[str, Any]) -> Any:
    """How many samples lie where, of what was measured and what the network says."""
    from matplotlib.colors import LogNorm

    figure, axes = plt.subplots(figsize=(4.6, 4), layout="constrained")
    bins = np.linspace(0, 1, 61)
    counts, *_ = np.histogram2d(measured, np.clip(said, 0, 1), bins)
    shown = axes.pcolormesh(bins, bins, np.ma.masked_equal(counts.T, 0), norm=LogNorm(1, max(counts.max(), 2)))
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1)
    text = f"R² {scores['r2']:.3f}, r {scores['pearson']:.3f}, mean squared error {scores['loss']:.4f}"
    axes.set(xlabel="area under the curve, measured", ylabel="the same, said by the network", aspect="equal")
    axes.set_title(text, fontsize=8)
    figure.colorbar(shown, label="samples")
    return figure


def residuals(plt: Any, drugs: Any, errors: Any, names: list[list[str]]) -> Any:
    """The spread of said minus measured for each drug, those with most test samples, by their median."""
    found, counts = np.unique(drugs, return_counts=True)
    most = found[np.argsort(-counts, kind="stable")[:MOST_DRUGS]]
    each = sorted(((errors[drugs == number], "/".join(names[number])) for number in most), key=lambda one: np.median(one[0]))
    figure, axes = plt.subplots(figsize=(max(4.0, 0.14 * len(each) + 1), 3.4), layout="constrained")
    axes.axhline(0, color="0.7", linewidth=1)
    axes.boxplot([values for values, _ in each], widths=0.7, flierprops={"markersize": 1.5}, medianprops={"color": "C1"})
    axes.set_xticks(range(1, len(each) + 1), [name[:12] for _, name in each], rotation=90, fontsize=5)
    axes.set(ylabel="said minus measured area", xlabel=f"drug ({len(each)} of {len(found)}, those with most test samples)")
    return figure


def learning(plt: Any, history: Path, score: dict[str, Any]) -> Any:
    """R2 in training and validation by epoch, with what baselines and the noiseless response have on the test samples."""
    epochs = [json.loads(line) for line in history.read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for key, text in (("r2", "training, with dropout"), ("val_r2", "validation")):
        axes.plot([e["epoch"] for e in epochs], [e[key] for e in epochs], marker="o", markersize=3, label=text)
    for name, colour in SHOWN.items():
        label = f"{'mean of the drug' if name == 'drug_mean' else name} (test)"
        axes.axhline(score[name]["r2"], color=colour, linestyle="--", linewidth=1, label=label)
    if "ceiling" in score:
        axes.axhline(score["ceiling"], color="k", linestyle=":", linewidth=1, label="ceiling (test)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    lowest = min([score[name]["r2"] for name in SHOWN] + [e["val_r2"] for e in epochs])
    axes.set(xlabel="epoch", ylabel="R²", ylim=(max(-0.5, lowest) - 0.05, 1.02))
    axes.legend(frameon=False, fontsize=7)
    return figure
