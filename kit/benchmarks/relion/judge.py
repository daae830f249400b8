"""Is the answer right? Recomputes the FSC of this run's half maps, and holds map and classes against the truth."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import figures, maps, phantom, score
from kit.benchmarks.relion.files import column, read_map
from kit.benchmarks.relion.project import IGNORED, settle
from kit.errors import KitError
from kit.model import read_json, read_star, write_json
from kit.run import load_run, resolved

DIAMETER = 290.0  # angstrom; the sphere in which map and truth are compared, within the 310 that the stages mask
# The folders of the stages where no workflow gave them a job's.
FOLDERS = {
    "class2d": "Class2D/",
    "class3d": "Class3D/",
    "refine3d": "Refine3D/",
    "maskcreate": "MaskCreate/",
    "postprocess": "PostProcess/",
}


def formed_ranks(log: Path) -> int:
    """The number of MPI processes that RELION itself reports; strangers report 1 each."""
    found = re.findall(r"Number of MPI processes\s*=\s*(\d+)", log.read_text(errors="replace"))
    if not found:
        raise KitError(f"{log}: RELION reports no 'Number of MPI processes'; the ranks did not form one job")
    return int(found[-1])


def check_logs(directory: Path) -> None:
    """RELION only warns of an option it does not know, and runs without it."""
    for log in sorted((directory / "logs").glob("*.*")):
        match = IGNORED.search(log.read_text(errors="replace"))
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


def postprocess(directory: Path, refine: str, mask_create: str, post: str) -> dict[str, Any]:
    """The FSC of the run's own half maps, recomputed, beside what RELION reports; KitError when they are not its own.

    `refine`, `mask_create` and `post` are the folders of the three jobs.
    """
    star = directory / post / "postprocess.star"
    halves = [f"{refine}run_half{half}_class001_unfil.mrc" for half in (1, 2)]
    wanted = {"UnfilteredMapHalf1": halves[0], "UnfilteredMapHalf2": halves[1], "MaskName": f"{mask_create}mask.mrc"}
    for label, name in wanted.items():
        used = str(column(star, "general", f"rln{label}"))
        if used != name:
            raise KitError(f"{star}: _rln{label} is {used}, not this run's {name}")
    (first, pixel), (second, _) = (read_map(directory / name) for name in halves)
    mask, _ = read_map(directory / wanted["MaskName"])
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


def by_image(star: Path, truth: Path) -> Any:
    """The particles of a STAR file beside the truth of the images that they are."""
    found, true = (read_star(path)["particles"] for path in (star, truth))
    merged = found.merge(true, on="rlnImageName", suffixes=("", "True"))
    if len(merged) != len(true):
        raise KitError(f"{star}: {len(merged)} of {len(true)} particles are those of the data set")
    return merged


def classes(folder: Path, match: Callable[[Path], Any]) -> dict[str, Any]:
    """Class3D against the known species: the fractions, and how many particles sit in the class of their own kind.

    `match` gives the particles of a STAR file beside their truth, whose columns end in `True`.
    """
    models, data = sorted(folder.glob("run_it*_model.star")), sorted(folder.glob("run_it*_data.star"))
    if not models or not data:
        raise KitError(f"{folder}: no run_it*_model.star and run_it*_data.star")
    fractions = np.asarray(column(models[-1], "model_classes", "rlnClassDistribution"), dtype=float)
    merged = match(data[-1])
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


def against_truth(density: maps.Array, pixel: float, truth: maps.Array, shell: int) -> tuple[dict[str, Any], maps.Alignment]:
    """A map held against the truth, to which it is aligned up to the shell that it resolves."""
    alignment = maps.align(density, maps.low_pass(truth, shell), DIAMETER / pixel)
    mask = maps.sphere(len(truth), DIAMETER / pixel)
    curve = maps.fsc(alignment.aligned * mask, truth * mask)
    crossing = maps.crossing(curve, 0.5)
    facts = {
        "correlation": alignment.correlation,
        "fsc05_shell": crossing,
        "fsc05_resolution": len(truth) * pixel / max(crossing, 1),
        "mirrored": alignment.mirrored,
        "rotation_degrees": alignment.rotation,
        "shift_angstrom": [s * pixel for s in alignment.shift],
        "curve": curve.tolist(),
    }
    return facts, alignment


def evaluate(directory: Path, ranks: int) -> None:
    """Writes evaluation.json and figures/ into a run directory; KitError for anything that can not be what it claims."""
    if (directory / "default_pipeline.star").is_file():
        settle(directory)
    check_logs(directory)
    binary = identity(directory)
    jobs = folders(directory)
    for log in sorted((directory / "logs").glob("refine3d*.out")):
        formed = formed_ranks(log)
        if formed != ranks:
            raise KitError(f"{log}: {ranks} MPI ranks were asked for, {formed} formed one job")
    facts = read_json(directory / "data/truth.json")
    species = facts["species"][0]
    result: dict[str, Any] = {"ranks": ranks, "binary": binary}
    if "drifts" in facts:
        truth = score.Truth.read(directory / "data")
        result |= session(directory, jobs, truth)
        figures.draw_session(directory, jobs, truth)
        match: Callable[[Path], Any] = truth.match
    else:
        match = functools.partial(by_image, truth=directory / "data/truth.star")
    result["class3d"] = classes(directory / jobs["class3d"], match)
    # The last refinement is the result.
    refine, post = ([name for name in jobs if name.startswith(kind)][-1] for kind in ("refine3d", "postprocess"))
    judged = postprocess(directory, jobs[refine], jobs["maskcreate"], jobs[post])
    curves = judged.pop("curves")
    final, pixel = read_map(directory / jobs[refine] / "run_class001.mrc")
    path = directory / f"data/truth_{species}.mrc"
    true = read_map(path)[0] if path.is_file() else truth_map(species, len(final), pixel, facts["bfactor"])
    held, alignment = against_truth(final, pixel, true, judged["shell"])
    curves["truth"] = held.pop("curve")
    result |= {"postprocess": judged, "truth": held, "fsc": curves}
    write_json(directory / "evaluation.json", result)
    figures.draw(directory, result, alignment.aligned, true, directory / jobs["class2d"])


def folders(directory: Path) -> dict[str, str]:
    """The folder of each job of a run, by the name of its stage."""
    path = directory / "workflow.json"
    return dict(read_json(path)["jobs"]) if path.is_file() else FOLDERS


def truth_map(species: str, box: int, pixel: float, bfactor: float) -> maps.Array:
    return phantom.density(phantom.load_species()[species], box, pixel, bfactor).astype(np.float64)


def session(directory: Path, jobs: dict[str, str], truth: score.Truth) -> dict[str, Any]:
    """Every stage from movies to the first refinement, against what the movies were made with."""
    refined = directory / jobs["refine3d"] / "run_data.star"
    matched = truth.match(refined)
    fitted = directory / jobs["ctfrefine"] / "particles_ctf_refine.star"
    return {
        "motioncorr": score.drifts(directory, jobs["motioncorr"], truth),
        "ctffind": score.defocus(directory, jobs["ctffind"], truth),
        "autopick_log": score.picks(directory, jobs["autopick_log"], truth),
        "autopick": score.picks(directory, jobs["autopick"], truth),
        "refine3d": {"particles": len(matched), "pose": score.pose_error(matched), "purity": purity(matched)},
        "ctfrefine": {
            "defocus_error_before": score.particle_defocus(matched),
            "defocus_error": score.particle_defocus(truth.match(fitted)),
            "beam_tilt": score.beam_tilt(directory / jobs["ctfrefine_tilt"] / "particles_ctf_refine.star", truth),
        },
    }


def purity(matched: Any) -> float:
    """The fraction of the particles of a refinement that are of the kind of most of them."""
    return float(matched["rlnClassNumberTrue"].value_counts(normalize=True).iloc[0])


def last_map(directory: Path) -> Path:
    """The map of the last refinement of a run."""
    jobs = folders(directory)
    return directory / [folder for name, folder in jobs.items() if name.startswith("refine3d")][-1] / "run_class001.mrc"


def pair(first: Path, second: Path) -> dict[str, float]:
    """How alike the refined maps of two runs are: their FSC, mean over shells 1 to the last that both resolve.

    Maps of one reference lie alike. Those that began with an initial model of their own are aligned first: its
    orientation and its hand are chance.
    """
    shell = min(int(read_json(directory / "evaluation.json")["postprocess"]["shell"]) for directory in (first, second))
    (one, pixel), (two, _) = (read_map(last_map(directory)) for directory in (first, second))
    if (first / "workflow.json").is_file():
        two = maps.align(two, maps.low_pass(one, shell), DIAMETER / pixel).aligned
        mask = maps.sphere(len(one), DIAMETER / pixel)
        one, two = one * mask, two * mask
    return {"map_fsc": float(maps.fsc(one, two)[1 : shell + 1].mean())}
