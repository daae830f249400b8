"""The last word on a run, on the login node: did the ranks form one job, and what do the masks look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kit.errors import KitError
from kit.model import read_json
from kit.run import load_run, resolved


def evaluate(directory: Path, ranks: int) -> None:
    """Checks ranks and devices of training and inference and writes figures/; KitError for what can not be."""
    run, (benchmark, _) = load_run(directory), resolved(directory)
    device = benchmark.images[run.image.name]["device"]
    for name in ("train/train.json", "masks/infer.json"):
        facts = read_json(directory / name)
        if facts.get("ranks") != ranks:
            raise KitError(f"{directory / name}: {ranks} ranks were asked for, {facts.get('ranks')} formed one job")
        strangers = {kind for kind in facts["devices"] if (kind == "CPU") != (device == "CPU")}
        if strangers:
            raise KitError(
                f"{directory / name}: ranks computed on {', '.join(sorted(strangers))}, but {run.image.name} is there "
                f"for a {device} each; see container.args of the site (--nv), or take another image"
            )
    split = read_json(directory / "data/split.json")
    trained = read_json(directory / "train/train.json")
    stems = {Path(name).stem for name in split["inference"]}
    seen = stems & {*trained["training_scenes"], *trained["validation_scenes"]}
    if seen:
        raise KitError(f"train/train.json: test scenes were seen in training: {', '.join(sorted(seen))}")
    draw(directory)


def draw(directory: Path) -> None:
    """Writes figures/masks.png: channel, label and mask of each inference scene; figures/training.png: the epochs."""
    import h5py
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    paths = sorted((directory / "scenes/inference").glob("*.hdf"))[:4]
    figure, panels = plt.subplots(len(paths), 4, figsize=(8, 2.05 * len(paths)), squeeze=False, layout="constrained")
    for row, path in zip(panels, paths, strict=True):
        with h5py.File(path) as scene, h5py.File(directory / f"masks/{path.stem}.nc") as answer:
            temperature, label = scene["bts"][:, :, 1], scene["bayes"][:, :, 0].astype(float)
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
    figure.savefig(folder / "masks.png", dpi=110)
    plt.close(figure)

    import json

    epochs = [json.loads(line) for line in (directory / "train/epochs.jsonl").read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for key, text in (("accuracy", "training"), ("val_accuracy", "validation")):
        axes.plot([e["epoch"] for e in epochs], [e[key] for e in epochs], marker="o", label=text)
    axes.set(xlabel="epoch", ylabel="accuracy against the Bayesian mask")
    axes.legend(frameon=False)
    figure.savefig(folder / "training.png", dpi=110)
    plt.close(figure)
