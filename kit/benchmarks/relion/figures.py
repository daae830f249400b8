"""What people would rather look at than read: class averages, FSC curves, the map beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import score
from kit.benchmarks.relion.files import column
from kit.benchmarks.relion.score import Truth


def draw(directory: Path, result: dict[str, Any], aligned: Any, truth: Any, class2d: Path) -> None:
    """Writes figures/class2d.png of the job in the folder `class2d`, figures/fsc.png and figures/map.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    draw_class_averages(class2d, folder / "class2d.png", plt)

    curves = result["fsc"]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    names = {
        "corrected": "half maps, corrected",
        "masked": "half maps, masked",
        "unmasked": "half maps, unmasked",
        "truth": "map against truth",
    }
    for name, text in names.items():
        axes.plot(np.arange(len(curves[name])), curves[name], label=text, lw=2 if name in ("corrected", "truth") else 1)
    for level in (0.143, 0.5):
        axes.axhline(level, color="0.6", lw=0.8, ls="--")
        axes.annotate(f"{level}", (0.2, level + 0.015), color="0.4", fontsize=8)
    ticks = np.arange(2, len(curves["corrected"]), 2)
    axes.set_xticks(ticks, [f"{curves['resolution_unit'] / t:.0f}" for t in ticks])
    axes.set(xlabel="resolution (Å)", ylabel="Fourier shell correlation", ylim=(-0.1, 1.05), xlim=(0, ticks[-1]))
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / "fsc.png", dpi=120)
    plt.close(figure)

    middle = len(truth) // 2
    figure, panels = plt.subplots(2, 3, figsize=(6, 4.2), layout="constrained")
    for row, (density, text) in enumerate(((aligned, "this run"), (truth, "truth"))):
        for axis in range(3):
            panels[row, axis].imshow(np.take(density, middle, axis=axis), cmap="gray", origin="lower")
            panels[row, axis].set(xticks=[], yticks=[], title=f"{text}, {'zyx'[axis]} = 0")
    figure.savefig(folder / "map.png", dpi=120)
    plt.close(figure)


def draw_class_averages(class2d: Path, target: Path, plt: Any) -> None:
    """The averages of the last Class2D iteration, fullest first, each with its share of the particles."""
    import mrcfile

    last = sorted(class2d.glob("run_it*_model.star"))[-1]
    share = np.asarray(column(last, "model_classes", "rlnClassDistribution"), dtype=float)
    with mrcfile.open(str(last).replace("_model.star", "_classes.mrcs")) as file:
        averages = file.data.copy()
    columns = min(len(share), 8)
    rows = -(-len(share) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(columns * 1.1, rows * 1.3), squeeze=False, layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, index in zip(panels.flat, np.argsort(-share), strict=False):
        panel.imshow(averages[index], cmap="gray", origin="lower")
        panel.set_title(f"{share[index]:.0%}", fontsize=8)
    figure.savefig(target, dpi=120)
    plt.close(figure)


def draw_session(directory: Path, jobs: dict[str, str], truth: Truth) -> None:
    """Writes figures/picks.png, a micrograph with its picks and true particles, and figures/drift.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import mrcfile
    from scipy import ndimage

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    stem = truth.micrographs[0]
    (path,) = (directory / jobs["motioncorr"]).glob(f"**/{stem}.mrc")
    with mrcfile.open(path) as file:
        image = ndimage.gaussian_filter(file.data.astype(float), 4)
    picked = score.positions(directory, jobs["autopick"], stem)
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    low, high = np.percentile(image, (1, 99))
    axes.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=high)
    axes.scatter(*truth.positions(stem).T, marker="+", s=40, color="tab:orange", label="true position")
    style = {"facecolors": "none", "edgecolors": "tab:green", "linewidths": 1.5}
    axes.scatter(*picked.T, s=900, label="picked by class averages", **style)
    axes.set(xticks=[], yticks=[], title=f"{stem}, {truth.pixel_size * len(image) / 1e4:.2f} µm wide")
    axes.legend(loc="upper right", fontsize=8, markerscale=0.4)
    figure.savefig(folder / "picks.png", dpi=110)
    plt.close(figure)

    columns = min(len(truth.micrographs), 4)
    rows = -(-len(truth.micrographs) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(columns * 1.9, rows * 2), squeeze=False, layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, stem in zip(panels.flat, truth.micrographs, strict=False):
        true = truth.drift(stem).at(0.0, 0.0)
        found = -score.shifts(directory, jobs["motioncorr"], stem) * truth.pixel_size
        for course, text, line in ((true, "true", "-"), (found, "MotionCorr", "o--")):
            panel.plot(*(course - course.mean(0)).T, line, ms=3, lw=1, label=text)
        panel.axis("on")
        panel.set_aspect("equal", "datalim")
        panel.tick_params(labelsize=6)
        panel.set_title(stem, fontsize=7)
    panels[0, 0].legend(fontsize=6, frameon=False)
    figure.supxlabel("drift of the middle (Å)", fontsize=8)
    figure.savefig(folder / "drift.png", dpi=130)
    plt.close(figure)
