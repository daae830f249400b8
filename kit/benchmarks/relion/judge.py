"""Is the answer right? Recomputes the FSC of this run's half maps, and holds map and classes against the truth."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import figures, maps
from kit.benchmarks.relion.files import column, read_map
from kit.errors import KitError
from kit.model import read_json, read_star, write_json
from kit.run import load_run, resolved

DIAMETER = 290.0  # angstrom; the sphere in which map and truth are compared, within the 310 that the stages mask


def formed_ranks(log: Path) -> int:
    """The number of MPI processes that RELION itself reports; strangers report 1 each."""
    found = re.findall(r"Number of MPI processes\s*=\s*(\d+)", log.read_text(errors="replace"))
    if not found:
        raise KitError(f"{log}: RELION reports no 'Number of MPI processes'; the ranks did not form one job")
    return int(found[-1])


def check_logs(directory: Path) -> None:
    """RELION only warns of an option it does not know, and runs without it."""
    for log in sorted((directory / "logs").glob("*.*")):
        match = re.search(r".*is not a valid RELION argument.*", log.read_text(errors="replace"))
        if match:
            raise KitError(f"{log}: {match[0].strip()}")


def identity(directory: Path) -> dict[str, str]:
    """What the binary says of itself, which must be what its image is there for; KitError otherwise."""
    path = directory / "version.txt"
    text = path.read_text(errors="replace")
    version = re.search(r"^RELION version: (\S+)", text, re.MULTILINE)
    precision = re.search(r"^Precision: (.*?)\s*$", text, re.MULTILINE)
    if not version or not precision:
        raise KitError(f"{path}: names no RELION version and precision")
    run, (benchmark, _) = load_run(directory), resolved(directory)
    wanted = benchmark.images[run.image.name]
    if version[1] != run.image.version or precision[1] != wanted["precision"]:
        raise KitError(
            f"{path}: RELION {version[1]} with {precision[1]} ran, but {run.image.name} is there for RELION "
            f"{run.image.version} with {wanted['precision']}"
        )
    facts = {"version": version[1], "precision": precision[1]}
    kernels = re.search(r"^ Accelerated kernels: (\S+)", (directory / "logs/class3d.out").read_text(errors="replace"), re.M)
    if (kernels is None) == (wanted["acceleration"] == "--cpu"):
        raise KitError(f"{directory / 'logs/class3d.out'}: {'no' if kernels is None else 'unasked'} accelerated kernels ran")
    return {**facts, **({"kernels": kernels[1]} if kernels else {})}


def postprocess(directory: Path) -> dict[str, Any]:
    """The FSC of the run's own half maps, recomputed, beside what RELION reports; KitError when they are not its own."""
    star = directory / "PostProcess/postprocess.star"
    for half in (1, 2):
        used = str(column(star, "general", f"rlnUnfilteredMapHalf{half}"))
        wanted = f"Refine3D/run_half{half}_class001_unfil.mrc"
        if used != wanted:
            raise KitError(f"{star}: _rlnUnfilteredMapHalf{half} is {used}, not this run's {wanted}")
    first, pixel = read_map(directory / "Refine3D/run_half1_class001_unfil.mrc")
    second, _ = read_map(directory / "Refine3D/run_half2_class001_unfil.mrc")
    mask, _ = read_map(directory / "MaskCreate/mask.mrc")
    curves = {
        "unmasked": maps.fsc(first, second),
        "masked": maps.fsc(first * mask, second * mask),
    }
    labels = {
        "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
        "masked": "rlnFourierShellCorrelationMaskedMaps",
        "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
        "corrected": "rlnFourierShellCorrelationCorrected",
    }
    reported = {name: np.asarray(column(star, "fsc", label), dtype=float) for name, label in labels.items()}
    difference = max(float(np.abs(curves[name] - reported[name]).max()) for name in curves)
    shell = maps.crossing(reported["corrected"], 0.143)
    final = float(column(star, "general", "rlnFinalResolution"))
    n = first.shape[0]
    if abs(n * pixel / shell - final) > 0.01:
        raise KitError(
            f"{star}: _rlnFinalResolution is {final:.3f}, but its own curve falls below 0.143 after shell {shell} "
            f"({n * pixel / shell:.3f} angstrom)"
        )
    # Of the corrected curve only the phase randomisation can not be repeated; the rest is this run's maps and its mask.
    randomised = reported["randomised"]
    own = np.where(
        np.arange(len(randomised)) < int(np.argmax(reported["corrected"] != reported["masked"])),
        curves["masked"],
        (curves["masked"] - randomised) / np.maximum(1 - randomised, 1e-6),
    )
    return {
        "shell": shell,
        "recomputed_shell": maps.crossing(own, 0.143),
        "fsc_difference": difference,
        "curves": {**{f"{name}": reported[name].tolist() for name in reported}, "resolution_unit": n * pixel},
    }


def classes(directory: Path) -> dict[str, Any]:
    """Class3D against the known species: the fractions, and how many particles sit in the class of their own kind."""
    models = sorted((directory / "Class3D").glob("run_it*_model.star"))
    data = sorted((directory / "Class3D").glob("run_it*_data.star"))
    if not models or not data:
        raise KitError(f"{directory / 'Class3D'}: no run_it*_model.star and run_it*_data.star")
    fractions = np.asarray(column(models[-1], "model_classes", "rlnClassDistribution"), dtype=float)
    found = read_star(data[-1])["particles"]
    truth = read_star(directory / "data/truth.star")["particles"]
    merged = found.merge(truth, on="rlnImageName", suffixes=("", "True"))
    if len(merged) != len(truth):
        raise KitError(f"{data[-1]}: {len(merged)} of {len(truth)} particles are those of the data set")
    table = np.zeros((len(fractions), 2))
    np.add.at(table, (merged["rlnClassNumber"] - 1, merged["rlnClassNumberTrue"] - 1), 1)
    # Class numbers mean nothing: the matching of classes to species that places most particles is the one that counts.
    best = max(itertools.permutations(range(len(fractions)), 2), key=lambda p: table[p[0], 0] + table[p[1], 1])
    return {
        "major_fraction": float(fractions[best[0]]),
        "minor_fraction": float(fractions[best[1]]),
        "assignment_accuracy": float((table[best[0], 0] + table[best[1], 1]) / table.sum()),
        "counts": table.tolist(),
    }


def evaluate(directory: Path, ranks: int) -> None:
    """Writes evaluation.json and figures/ into a run directory; KitError for anything that can not be what it claims."""
    check_logs(directory)
    binary = identity(directory)
    formed = formed_ranks(directory / "logs/refine3d.out")
    if formed != ranks:
        raise KitError(f"logs/refine3d.out: {ranks} MPI ranks were asked for, {formed} formed one job")
    facts = read_json(directory / "data/truth.json")
    post = postprocess(directory)
    final, pixel = read_map(directory / "Refine3D/run_class001.mrc")
    truth, _ = read_map(directory / f"data/truth_{facts['species'][0]}.mrc")
    alignment = maps.align(final, maps.low_pass(truth, post["shell"]), DIAMETER / pixel)
    mask = maps.sphere(len(truth), DIAMETER / pixel)
    against = maps.fsc(alignment.aligned * mask, truth * mask)
    shell = maps.crossing(against, 0.5)
    result = {
        "ranks": formed,
        "binary": binary,
        "postprocess": {key: value for key, value in post.items() if key != "curves"},
        "class3d": classes(directory),
        "truth": {
            "correlation": alignment.correlation,
            "fsc05_shell": shell,
            "fsc05_resolution": len(truth) * pixel / max(shell, 1),
            "mirrored": alignment.mirrored,
            "rotation_degrees": alignment.rotation,
            "shift_angstrom": [s * pixel for s in alignment.shift],
        },
        "fsc": {**post["curves"], "truth": against.tolist()},
    }
    write_json(directory / "evaluation.json", result)
    figures.draw(directory, result, alignment.aligned, truth)


def pair(first: Path, second: Path) -> dict[str, float]:
    """How alike the refined maps of two runs are: their FSC, mean over shells 1 to the last that both resolve.

    Both runs start from one reference, so the maps lie alike and need no alignment.
    """
    shell = min(int(read_json(directory / "evaluation.json")["postprocess"]["shell"]) for directory in (first, second))
    one, two = (read_map(directory / "Refine3D/run_class001.mrc")[0] for directory in (first, second))
    return {"map_fsc": float(maps.fsc(one, two)[1 : shell + 1].mean())}
