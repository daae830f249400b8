"""Holds the masks against the Bayesian label and, where it is known, the truth; beside baselines that a mask must beat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.cloudmask.patches import load


def confusion(predicted: NDArray[Any], actual: NDArray[Any], seen: NDArray[Any]) -> NDArray[np.int64]:
    """Counts [[clear as clear, clear as cloud], [cloud as clear, cloud as cloud]] of the pixels that were seen."""
    valid = seen.astype(bool)
    index = 2 * actual[valid].astype(np.int64) + predicted[valid].astype(np.int64)
    return np.bincount(index, minlength=4).reshape(2, 2)


def scores(counts: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, balanced accuracy, and intersection over union, F1 and Matthews' coefficient of the class cloud."""
    (tn, fp), (fn, tp) = counts.astype(float)
    margins = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "accuracy": (tp + tn) / counts.sum(),
        "balanced_accuracy": 0.5 * (tp / max(tp + fn, 1) + tn / max(tn + fp, 1)),
        "iou": tp / max(tp + fp + fn, 1),
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "mcc": (tp * tn - fp * fn) / margins if margins else 0.0,
    }


def best_threshold(data: Path) -> float:
    """The 10.8 um brightness temperature (normalised) below which a training pixel is best called cloud."""
    candidates = np.linspace(-3, 2, 101)
    right = np.zeros(len(candidates))
    for path in sorted((data / "training").glob("S3*.hdf")):
        scene = load(path)
        valid = scene.seen.astype(bool)
        cloud = np.histogram(scene.channels[..., 7][valid & (scene.label > 0)], np.append(candidates, np.inf))[0]
        clear = np.histogram(scene.channels[..., 7][valid & (scene.label == 0)], np.append(candidates, np.inf))[0]
        # Right at a threshold: cloud below it and clear at or above it; a constant for what lies below the first.
        right += clear[::-1].cumsum()[::-1] - cloud[::-1].cumsum()[::-1]
    return float(candidates[right.argmax()])


def score(data: Path, masks: Path, truth_file: Path, out: Path) -> None:
    """Writes score.json: the network and the baselines against label and truth, over all scenes and scene by scene."""
    import h5py
    import xarray as xr

    threshold = best_threshold(data)
    names = ("network", "threshold", "summary", "label")
    against_label = {name: np.zeros((2, 2), np.int64) for name in names}
    against_truth = {name: np.zeros((2, 2), np.int64) for name in names}
    scenes: dict[str, Any] = {}
    paths = sorted((data / "inference").glob("S3*.hdf"))
    with h5py.File(truth_file) as truth:
        for path in paths:
            scene = load(path)
            with xr.open_dataset(masks / f"{path.stem}.nc", engine="h5netcdf") as answer:
                network = answer["cloud_mask"].values == 1
            with h5py.File(path) as file:
                summary = file["summary"][:, :, 0]
            predictions = {
                "network": network,
                "threshold": scene.channels[..., 7] < threshold,
                "summary": summary,
                "label": scene.label,
            }
            actual = truth[scene.name]["truth"][:]
            for name, predicted in predictions.items():
                against_label[name] += confusion(predicted, scene.label, scene.seen)
                against_truth[name] += confusion(predicted, actual, scene.seen)
            scenes[scene.name] = {
                "day": scene.day,
                "accuracy": scores(confusion(network, scene.label, scene.seen))["accuracy"],
                "cloud_fraction": float(scene.label[scene.seen > 0].mean()),
            }
    cloud = against_label["label"][1, 1] / against_label["label"].sum()
    accuracies = [entry["accuracy"] for entry in scenes.values()]
    result = {
        "scenes": len(paths),
        "pixels": int(against_label["network"].sum()),
        "cloud_fraction": float(cloud),
        "confusion": {name: counts.tolist() for name, counts in against_label.items()},
        "label": {name: scores(counts) for name, counts in against_label.items()},
        "truth": {name: scores(counts) for name, counts in against_truth.items()},
        "majority": float(max(cloud, 1 - cloud)),
        # What the network must beat: the best of the baselines, against the same label.
        "margin": scores(against_label["network"])["accuracy"]
        - max(float(max(cloud, 1 - cloud)), *(scores(against_label[b])["accuracy"] for b in ("threshold", "summary"))),
        "worst_scene": min(accuracies),
        "per_scene": scenes,
    }
    (out / "score.json").write_text(json.dumps(result, indent=2) + "\n")
