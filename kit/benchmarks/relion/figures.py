"""Pictures of a run: one function each, written to figures/ of the run directory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from kit.benchmarks.relion import accuracy, maps
from kit.benchmarks.relion.accuracy import Truth
from kit.benchmarks.relion.results import last, results
from kit.benchmarks.relion.star import column
from kit.core import pictures
from kit.runs.record import StageRecord

matplotlib.use("Agg")

import matplotlib.pyplot as plt

COLORS = ("tab:cyan", "tab:green", "tab:pink", "tab:olive", "tab:purple", "tab:red")


def save(figure: Any, directory: Path, name: str) -> None:
    (directory / "figures").mkdir(exist_ok=True)
    pictures.save(figure, directory / "figures" / name, dpi=120)
    plt.close(figure)


def draw_fsc(directory: Path, curves: Mapping[str, Any]) -> None:
    """fsc.png: the curves that there are, by shell; `resolution_unit` is the resolution of shell 1 in angstrom."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    names = {
        "corrected": "half maps, corrected",
        "masked": "half maps, masked",
        "unmasked": "half maps, unmasked",
        "randomised": "half maps, phases randomised",
        "truth": "map against truth",
    }
    for name, text in names.items():
        if name in curves:
            line = {"lw": 2} if name in ("corrected", "truth") else {"lw": 1, "ls": ":" if name == "randomised" else "-"}
            axes.plot(np.arange(len(curves[name])), curves[name], label=text, **line)
    for level in (maps.HALF_MAPS, maps.AGAINST_TRUTH):
        axes.axhline(level, color="0.6", lw=0.8, ls="--")
        axes.annotate(f"{level}", (0.2, level + 0.015), color="0.4", fontsize=8)
    ticks = np.arange(0, len(curves["unmasked"]), max(2, len(curves["unmasked"]) // 12))[1:]
    resolutions = curves["resolution_unit"] / ticks
    axes.set_xticks(ticks, [f"{value:.{0 if value > 10 else 1}f}" for value in resolutions], fontsize=8)
    axes.set(xlabel="resolution (Å)", ylabel="Fourier shell correlation", ylim=(-0.1, 1.05), xlim=(0, ticks[-1]))
    axes.legend(frameon=False, fontsize=8)
    save(figure, directory, "fsc.png")


def draw_map(directory: Path, aligned: Any, truth: Any, name: str) -> None:
    """map.png: the middle slices of the map, as it was aligned to the truth or a published map, above those of that."""
    middle = len(truth) // 2
    figure, panels = plt.subplots(2, 3, figsize=(6, 4.2), layout="constrained")
    for row, (density, text) in enumerate(((aligned, "this run"), (truth, name))):
        for axis in range(3):
            panels[row, axis].imshow(np.take(density, middle, axis=axis), cmap="gray", origin="lower")
            panels[row, axis].set(xticks=[], yticks=[], title=f"{text}, {'zyx'[axis]} = 0")
    save(figure, directory, "map.png")


def draw_class_averages(directory: Path, class2d: Path) -> None:
    """class2d.png: the averages of the last Class2D iteration, fullest first, each with its share of the particles."""
    import mrcfile

    ended = last(class2d, "model")
    share = np.asarray(column(ended.files["model"], "model_classes", "rlnClassDistribution"), dtype=float)
    with mrcfile.open(ended.beside("classes.mrcs")) as file:
        averages = file.data.copy()
    columns = min(len(share), 8)
    rows = -(-len(share) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(columns * 1.1, rows * 1.3), squeeze=False, layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, index in zip(panels.flat, np.argsort(-share), strict=False):
        panel.imshow(averages[index], cmap="gray", origin="lower")
        panel.set_title(f"{share[index]:.0%}", fontsize=8)
    save(figure, directory, "class2d.png")


def draw_angles(directory: Path, star: Path) -> None:
    """angles.png: how many particles look from each direction (rot, tilt), on a map of the sphere of equal areas."""
    rot, tilt = (np.deg2rad(column(star, "particles", f"rlnAngle{name}")).astype(float) for name in ("Rot", "Tilt"))
    longitude = (rot + np.pi) % (2 * np.pi) - np.pi
    # Bins of equal area: equal steps of longitude, and of the sine of latitude.
    columns = int(np.clip(np.sqrt(len(rot)), 8, 72))
    edges = np.linspace(-np.pi, np.pi, columns + 1), np.arcsin(np.linspace(-1, 1, columns // 2 + 1))
    counts, *_ = np.histogram2d(longitude, np.pi / 2 - tilt, bins=edges)
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained", subplot_kw={"projection": "mollweide"})
    shown = axes.pcolormesh(*edges, counts.T, cmap="viridis")
    axes.grid(alpha=0.2)
    axes.tick_params(labelsize=6, colors="0.5")
    figure.colorbar(shown, ax=axes, shrink=0.7, label=f"particles a bin, {len(rot)} in all")
    save(figure, directory, "angles.png")


def draw_iterations(directory: Path, jobs: Mapping[str, str]) -> None:
    """iterations.png: the resolution of each job of `jobs` by iteration, and the class distribution of each Class3D."""
    classes = [name for name, folder in jobs.items() if folder.startswith("Class3D/")]
    figure, panels = plt.subplots(
        1, 1 + len(classes), figsize=(4 + 3 * len(classes), 3.6), squeeze=False, layout="constrained"
    )
    for name, folder in jobs.items():
        # Of the halves of a refinement the first stands for both; its last iteration is that of all particles.
        models: dict[int, Path] = {}
        for result in results(directory / folder):
            if "model" in result.files:
                number = max(models, default=-1) + 1 if result.number is None else result.number
                models[number] = result.files["model"]
        numbers = sorted(models)
        resolution = [float(column(models[n], "model_general", "rlnCurrentResolution")) for n in numbers]
        panels[0, 0].plot(numbers, resolution, "o-", ms=3, lw=1, label=name)
        if name in classes:
            panel = panels[0, 1 + classes.index(name)]
            shares = [np.ravel(column(models[n], "model_classes", "rlnClassDistribution")).astype(float) for n in numbers]
            panel.stackplot(numbers, np.transpose(shares), labels=[f"class {i + 1}" for i in range(len(shares[0]))])
            panel.set(xlabel="iteration", ylabel="class distribution", ylim=(0, 1), title=name)
            panel.legend(fontsize=7, loc="lower right")
    panels[0, 0].set(xlabel="iteration", ylabel="resolution (Å)", yscale="log")
    panels[0, 0].yaxis.set_major_formatter("{x:.0f}")
    panels[0, 0].yaxis.set_minor_formatter("{x:.0f}")
    panels[0, 0].tick_params(axis="y", which="both", labelsize=7)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=7)
    for panel in panels.flat:
        panel.xaxis.get_major_locator().set_params(integer=True)
    save(figure, directory, "iterations.png")


def draw_times(directory: Path, attempts: Iterable[StageRecord]) -> None:
    """times.png: the wall time of every stage, over all its attempts."""
    seconds: dict[str, float] = {}
    for attempt in attempts:
        seconds[attempt.name] = seconds.get(attempt.name, 0.0) + (attempt.seconds or 0.0)
    figure, axes = plt.subplots(figsize=(6, 0.22 * len(seconds) + 0.8), layout="constrained")
    bars = axes.barh(list(seconds), list(seconds.values()), color="tab:blue", height=0.7)
    axes.bar_label(bars, fmt="{:.1f}", fontsize=7, padding=2)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel=f"seconds, {sum(seconds.values()):.0f} in all")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, directory, "times.png")


def draw_ctf(directory: Path, ctffind: str, truth: Truth) -> None:
    """ctf.png: CTFFIND's rotational averages and fits of the first micrographs, with the true defocus in the titles.

    Of its table (_avrot.txt) row 0 is the spatial frequency (1/angstrom), row 2 the average of the spectrum along the
    astigmatism, row 3 the fit, row 4 how well both agree.
    """
    fits = accuracy.fitted(directory, ctffind)
    stems = truth.micrographs[:4]
    figure, panels = plt.subplots(len(stems), 1, figsize=(6, 1.5 * len(stems) + 0.4), squeeze=False, layout="constrained")
    for panel, stem in zip(panels[:, 0], stems, strict=True):
        table = np.loadtxt(next((directory / ctffind).glob(f"**/{stem}*_avrot.txt")))
        for row, text, color in ((2, "spectrum", "0.4"), (3, "fit", "tab:orange"), (4, "agreement", "tab:blue")):
            panel.plot(table[0], table[row], color=color, lw=1, label=text)
        found, true = fits[stem], truth.astigmatism(stem)
        panel.set_title(f"{stem}: defocus {found.mean:.0f} Å, true {true.mean:.0f} Å", fontsize=8)
        panel.set(ylim=(-0.1, 1.2), xlim=(0, None))
        panel.tick_params(labelsize=7)
    panels[0, 0].legend(fontsize=7, frameon=False, ncols=3, loc="upper right")
    panels[-1, 0].set_xlabel("spatial frequency (1/Å)")
    save(figure, directory, "ctf.png")


def draw_picks(
    directory: Path,
    name: str,
    micrograph: Path,
    pixel_size: float,
    true: Any | None,
    sets: Mapping[str, Any],
    diameter: float,
) -> None:
    """A micrograph with the circles of each set of picks, each a little larger than the one before, and the true positions.

    Positions (n, 2) in pixels; `diameter` of a particle in angstrom.
    """
    import mrcfile
    from scipy import ndimage

    with mrcfile.open(micrograph) as file:
        image = ndimage.gaussian_filter(file.data.astype(float), diameter / pixel_size / 22)
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    low, high = np.percentile(image, (1, 99))
    axes.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=high)
    if true is not None:
        axes.scatter(*true.T, marker="+", s=40, color="tab:orange", label="true position")
    for number, ((text, picked), color) in enumerate(zip(sets.items(), itertools.cycle(COLORS), strict=False)):
        radius = diameter / pixel_size * (0.3 + 0.03 * number)
        for place, (x, y) in enumerate(picked):
            axes.add_patch(plt.Circle((x, y), radius, fill=False, ec=color, lw=1.3, label=text if place == 0 else None))
    axes.set(xticks=[], yticks=[], title=f"{micrograph.stem}, {pixel_size * len(image) / 1e4:.2f} µm wide")
    axes.legend(loc="upper right", fontsize=8, handlelength=1, handleheight=1)
    save(figure, directory, name)


def draw_drift(directory: Path, motioncorr: str, truth: Truth) -> None:
    """drift.png: the true drift of the middle of each micrograph, and what MotionCorr found."""
    columns = min(len(truth.micrographs), 4)
    rows = -(-len(truth.micrographs) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(columns * 1.9, rows * 2), squeeze=False, layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, stem in zip(panels.flat, truth.micrographs, strict=False):
        true = truth.drift(stem).at(0.0, 0.0)
        found = -accuracy.shifts(directory, motioncorr, stem) * truth.pixel_size
        for course, text, line in ((true, "true", "-"), (found, "MotionCorr", "o--")):
            panel.plot(*(course - course.mean(0)).T, line, ms=3, lw=1, label=text)
        panel.axis("on")
        panel.set_aspect("equal", "datalim")
        panel.tick_params(labelsize=6)
        panel.set_title(stem, fontsize=7)
    panels[0, 0].legend(fontsize=6, frameon=False)
    figure.supxlabel("drift of the middle (Å)", fontsize=8)
    save(figure, directory, "drift.png")
