"""Holds the masks against the label and, where it is known, the truth; beside baselines that a mask must beat.

Counts are kept scene by scene: intervals come from drawing scenes anew (bootstrap), since the pixels of one scene are
not independent of each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.convert import sum_unseen
from kit.stages.cloudmask.hdf import read_hdf, read_netcdf
from kit.stages.cloudmask.patches import Label, Scene, load, one_radiometry, pixel_bits, strata

Counts = NDArray[np.int64]
BASELINES = ("majority", "threshold", "summary")
DRAWS = 2000
# Optical thickness of pixels that are cloud, which begins at 0.3; the truth keeps it in half precision.
THICKNESS = {"thin": (0.0, 1.0), "medium": (1.0, 5.0), "thick": (5.0, np.inf)}
BINS = 10


def confusion(predicted: NDArray[Any], actual: NDArray[Any], valid: NDArray[Any]) -> Counts:
    """Counts [[clear as clear, clear as cloud], [cloud as clear, cloud as cloud]] of the valid pixels."""
    valid = valid.astype(bool)
    index = 2 * actual[valid].astype(np.int64) + predicted[valid].astype(np.int64)
    return np.bincount(index, minlength=4).reshape(2, 2)


def scores(counts: NDArray[Any]) -> dict[str, float]:
    """Accuracy, balanced accuracy, and intersection over union, F1 and Matthews' coefficient of the class cloud."""
    (tn, fp), (fn, tp) = counts.astype(float)
    margins = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "accuracy": (tp + tn) / max(counts.sum(), 1),
        "balanced_accuracy": 0.5 * (tp / max(tp + fn, 1) + tn / max(tn + fp, 1)),
        "iou": tp / max(tp + fp + fn, 1),
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "mcc": (tp * tn - fp * fn) / margins if margins else 0.0,
        "pixels": int(counts.sum()),
    }


def accuracies(counts: Counts, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """The accuracy of each draw (draws, scenes), times that each scene was drawn, from counts (scenes, 2, 2)."""
    right = counts[:, 0, 0] + counts[:, 1, 1]
    return (draws @ right) / np.maximum(draws @ counts.sum(axis=(1, 2)), 1)


def interval(values: NDArray[np.float64]) -> list[float]:
    """The middle 95 % of the values."""
    return [float(value) for value in np.percentile(values, [2.5, 97.5])]


def best_threshold(data: Path, label: Label) -> float:
    """The 10.8 um brightness temperature (normalised) below which a pixel of the training scenes is best called cloud."""
    candidates = np.linspace(-3, 2, 101)
    right = np.zeros(len(candidates))
    for path in sorted((data / "training").glob("S3*.hdf")):
        scene = load(path, label)
        edges = np.append(candidates, np.inf)
        cloud = np.histogram(scene.channels[..., 7][scene.seen & scene.cloud], edges)[0]
        clear = np.histogram(scene.channels[..., 7][scene.seen & ~scene.cloud], edges)[0]
        # Right at a threshold: cloud below it and clear at or above it; a constant for what lies below the first.
        right += clear[::-1].cumsum()[::-1] - cloud[::-1].cumsum()[::-1]
    return float(candidates[right.argmax()])


class Calibration:
    """How often a pixel is cloud where the network says so with a probability, and the losses of these probabilities."""

    def __init__(self) -> None:
        self.pixels, self.clouds, self.chances = (np.zeros(BINS) for _ in range(3))
        self.cross_entropy = self.brier = 0.0

    def add(self, chance: NDArray[Any], scene: Scene) -> None:
        p, cloud = chance[scene.seen].astype(np.float64), scene.cloud[scene.seen]
        place = np.minimum((p * BINS).astype(int), BINS - 1)
        self.pixels += np.bincount(place, minlength=BINS)
        self.clouds += np.bincount(place, weights=cloud, minlength=BINS)
        self.chances += np.bincount(place, weights=p, minlength=BINS)
        # Single precision can say 0 or 1, of which no logarithm is finite.
        safe = np.clip(p, 1e-7, 1 - 1e-7)
        self.cross_entropy -= float(np.log(np.where(cloud, safe, 1 - safe)).sum())
        self.brier += float(((p - cloud) ** 2).sum())

    def result(self) -> dict[str, Any]:
        total, each = self.pixels.sum(), np.maximum(self.pixels, 1)
        return {
            "cross_entropy": self.cross_entropy / total,
            "brier": self.brier / total,
            # Expected calibration error: the mean distance of said and found, by pixels.
            "calibration_error": float((self.pixels * np.abs(self.clouds - self.chances) / each).sum() / total),
            "bins": [
                {"pixels": int(n), "said": float(p / n), "found": float(c / n)}
                for n, p, c in zip(self.pixels, self.chances, self.clouds, strict=True)
                if n
            ],
        }


def answers(mask: Path) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.bool_]]:
    """Of a mask: where it says cloud, the probability of it, and where it says anything, (rows, columns) each."""

    def take(answer: Any) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.bool_]]:
        chance = answer["cloud_probability"].values
        return answer["cloud_mask"].values == 1, chance, np.isfinite(chance) & (answer["cloud_mask"].values <= 1)

    return read_netcdf(mask, take, mask_and_scale=False)


def besides(file: Any) -> dict[str, NDArray[np.bool_]]:
    """Of an open converted scene, (rows, columns) each: the product's summary mask and where it has one, what was seen, and
    which pixels are copies of a neighbour."""
    return {
        "summary": file["summary"][:, :, 0] > 0,
        "has_summary": ~pixel_bits(file, "no_summary"),
        "seen": file["seen"][:, :, 0] > 0,
        "cosmetic": pixel_bits(file, "cosmetic"),
    }


def conclusions(scenes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What follows from the counts of each scene: scores with intervals, and what the network gains over the baselines.

    A scene has under `label` and, where the truth is known, `truth` the counts (2, 2) of each mask, as `confusion` gives
    them. A submission carries them, so that whoever checks it comes to the same.
    """

    def counted(against: str) -> dict[str, Counts]:
        """Counts (scenes, 2, 2) of each mask, and of the one class for all that most pixels have."""
        names = next(iter(scenes.values()))[against]
        stacks = {name: np.array([scene[against][name] for scene in scenes.values()]) for name in names}
        if stacks:
            actual = stacks["label"].sum(axis=2)
            stacks["majority"] = np.stack([actual * (cloud <= 0.5), actual * (cloud > 0.5)], axis=2)
        return stacks

    total = np.sum([scene["label"]["label"] for scene in scenes.values()], axis=0)
    cloud = float(total[1, 1] / total.sum())
    number = len(scenes)
    draws = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    label, truth = counted("label"), counted("truth")
    found = {
        against: {
            name: {
                **scores(stack.sum(axis=0)),
                "accuracy_interval": interval(accuracies(stack, draws)),
                "confusion": stack.sum(axis=0).tolist(),
            }
            for name, stack in stacks.items()
        }
        for against, stacks in (("label", label), ("truth", truth))
    }
    best = max(BASELINES, key=lambda name: found["label"][name]["accuracy"])
    highest = max(found["label"][name]["accuracy_interval"][1] for name in BASELINES)
    each = [scores(counts)["accuracy"] for counts in label["network"]]
    return {
        "pixels": found["label"]["network"]["pixels"],
        "cloud_fraction": cloud,
        **found,
        # What the network must beat: the best of the baselines, against the same label, over the same draws of scenes.
        "best_baseline": best,
        "margin": found["label"]["network"]["accuracy"] - found["label"][best]["accuracy"],
        "margin_interval": interval(accuracies(label["network"], draws) - accuracies(label[best], draws)),
        "separation": found["label"]["network"]["accuracy_interval"][0] - highest,
        "scene_accuracy": dict(
            zip(("min", "p10", "median", "max"), np.percentile(each, [0, 10, 50, 100]).tolist(), strict=True)
        ),
    }


def score(data: Path, masks: Path, truth_file: Path | None, out: Path, label: Label, without_cosmetic: bool = False) -> None:
    """Writes score.json: the network and the baselines against label and truth, over all scenes, scene by scene and by
    time of day, surface and thickness of the cloud; and how many pixels it is not about.

    `without_cosmetic` leaves out pixels that the processor copied from a neighbour, which count that one twice. ValueError
    for a scene without a mask, with a mask that says nothing where the scene was seen, and without a pixel to score.
    """
    import h5py

    threshold = best_threshold(data, label)
    names = ("network", "threshold", "summary", "label")
    against_label: dict[str, list[Counts]] = {name: [] for name in names}
    against_truth: dict[str, list[Counts]] = {name: [] for name in names}
    by_stratum: dict[str, Counts] = {}
    thickness: dict[str, Counts] = {}
    calibration = Calibration()
    scenes: dict[str, Any] = {}
    paths = sorted((data / "inference").glob("S3*.hdf"))
    truth = h5py.File(truth_file, "r", locking=False) if truth_file else None  # closed with the process
    radiometry: list[tuple[str, str]] = []
    copies = labelled = unlabelled = 0
    for path in paths:
        scene = load(path, label)
        answer_file = masks / f"{path.stem}.nc"
        if not answer_file.is_file():
            raise ValueError(f"{answer_file}: missing; a score without every scene would be of another set")
        network, chance, told = answers(answer_file)
        groups, beside = read_hdf(path, lambda file: (strata(file), besides(file)))
        radiometry.append((scene.name, scene.radiometry))
        labelled += int(scene.seen.sum())
        unlabelled += int(beside["seen"].sum()) - int(scene.seen.sum())
        copies += int((scene.seen & beside["cosmetic"]).sum())
        if not told[scene.seen].all():
            silent = 1 - float(told[scene.seen].mean())
            raise ValueError(f"{answer_file}: says nothing of {silent:.1%} of the pixels that the scene was seen at")
        if without_cosmetic:
            scene = scene._replace(seen=scene.seen & ~beside["cosmetic"])
        if not scene.seen.any():
            raise ValueError(f"{path}: has no pixel with a value in every channel and a label {label.source} to score")
        predictions = {
            "network": network,
            "threshold": scene.channels[..., 7] < threshold,
            "summary": beside["summary"],
            "label": scene.cloud,
        }
        # A baseline is held against what it says: the summary mask says nothing in fill.
        valid = {name: scene.seen & beside["has_summary"] if name == "summary" else scene.seen for name in names}
        for name, predicted in predictions.items():
            against_label[name].append(confusion(predicted, scene.cloud, valid[name]))
        if truth:
            known = truth[scene.name]
            actual, tau = known["truth"][:], known["tau"][:].astype(np.float32)
            for name, predicted in predictions.items():
                against_truth[name].append(confusion(predicted, actual, valid[name]))
            layers = {name: actual & (tau > low) & (tau <= high) for name, (low, high) in THICKNESS.items()}
            # Against the truth: the label errs most where cloud is thin.
            for name, layer in {**layers, "clear": ~actual}.items():
                thickness[name] = thickness.get(name, 0) + confusion(network, actual, scene.seen & layer)
        for name, group in groups.items():
            stratum = confusion(network, scene.cloud, scene.seen & group)
            by_stratum[name] = by_stratum.get(name, 0) + stratum
        calibration.add(chance, scene)
        scenes[scene.name] = {
            "day": scene.day,
            "cloud_fraction": float(scene.cloud[scene.seen].mean()),
            "label": {name: counts[-1].tolist() for name, counts in against_label.items()},
            "truth": {name: counts[-1].tolist() for name, counts in against_truth.items() if counts},
        }
    one_radiometry(radiometry)
    result = {
        "scenes": len(paths),
        "label_choice": label._asdict(),
        **conclusions(scenes),
        "strata": {name: scores(counts) for name, counts in by_stratum.items() if counts.sum()},
        # What the score is not about: pixels without a value in some channel, and seen ones without a label.
        "unseen": sum_unseen(paths),
        "unlabelled": unlabelled / max(unlabelled + labelled, 1),
        "cosmetic": {"share": copies / max(labelled, 1), "left_out": without_cosmetic},
        "truth_by_thickness": {name: scores(counts) for name, counts in thickness.items() if counts.sum()},
        "calibration": calibration.result(),
        "per_scene": scenes,
    }
    (out / "score.json").write_text(json.dumps(result, indent=1) + "\n")
