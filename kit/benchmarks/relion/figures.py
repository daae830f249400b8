"""What people would rather look at than read: class averages, FSC curves, the map beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion.files import column


def draw(directory: Path, result: dict[str, Any], aligned: Any, truth: Any) -> None:
    """Writes figures/class2d.png, figures/fsc.png and figures/map.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    draw_class_averages(directory, folder / "class2d.png", plt)

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


def draw_class_averages(directory: Path, target: Path, plt: Any) -> None:
    """The averages of the last Class2D iteration, fullest first, each with its share of the particles."""
    import mrcfile

    last = sorted((directory / "Class2D").glob("run_it*_model.star"))[-1]
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
