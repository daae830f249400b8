"""Is the answer right? Recomputes the FSC of this run's half maps, and holds map and classes against the truth."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import accuracy, figures, maps, phantom
from kit.benchmarks.relion.maps import read_map
from kit.benchmarks.relion.project import IGNORED, settle
from kit.benchmarks.relion.resources import ALIGNING
from kit.benchmarks.relion.results import last
from kit.benchmarks.relion.star import column, read_star
from kit.benchmarks.relion.workflow import folders, reference
from kit.core.checksums import MANIFEST, sha256
from kit.core.errors import KitError, plain
from kit.core.files import read_json, write_json
from kit.runs.record import load_run, read_stages, resolved

SMALL = 64  # voxels of the grid on which a map and a published one are aligned
DIAMETER = 290.0  # angstrom; the sphere in which map and truth are compared, within the 310 that the stages mask


def formed_ranks(log: Path) -> int:
    """The number of MPI processes that RELION itself reports; ranks that did not find each other report 1 each."""
    found = re.findall(r"Number of MPI processes\s*=\s*(\d+)", log.read_text(errors="replace"))
    if not found:
        raise KitError(f"{log}: RELION reports no 'Number of MPI processes'; the ranks did not form one job")
    return int(found[-1])


def check_logs(directory: Path) -> None:
    """RELION only warns about an unknown option, and runs without it."""
    for log in sorted((directory / "logs").glob("*.*")):
        match = IGNORED.search(log.read_text(errors="replace"))
        if match:
            raise KitError(f"{log}: {plain(match[0].strip())}")


def identity(directory: Path) -> dict[str, str]:
    """Version and precision as the binary reports them; KitError if they are not those of its image."""
    path = directory / "version.txt"
    text = path.read_text(errors="replace")
    version = re.search(r"^RELION version: (\S+)", text, re.MULTILINE)
    precision = re.search(r"^Precision: (.*?)\s*$", text, re.MULTILINE)
    if not version or not precision:
        raise KitError(f"{path}: names no RELION version and precision")
    run, (benchmark, _) = load_run(directory), resolved(directory)
    wanted = benchmark.variant(run.image.name).words
    if version[1] != run.image.version or precision[1] != wanted["precision"]:
        raise KitError(
            f"{path}: RELION {version[1]} with {precision[1]} ran, but {run.image.name} holds RELION "
            f"{run.image.version} with {wanted['precision']}"
        )
    facts = {"version": version[1], "precision": precision[1]}
    for stage in aligning(directory):
        log = directory / "logs" / f"{stage}.out"
        kernels = re.search(r"^ Accelerated kernels: (\S+)", log.read_text(errors="replace"), re.M)
        if (kernels is None) == (wanted["acceleration"] == "--cpu"):
            raise KitError(f"{log}: {'no' if kernels is None else 'unasked'} accelerated kernels ran")
        if kernels:
            facts["kernels"] = kernels[1]
    return facts


def aligning(directory: Path) -> list[str]:
    """The stages of a run that align particles."""
    return [name for name, folder in folders(directory).items() if folder.split("/")[0].lower() in ALIGNING]


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
    return recomputed(star, first, second, mask, pixel)


def recomputed(star: Path, first: maps.Array, second: maps.Array, mask: maps.Array, pixel: float) -> dict[str, Any]:
    """The FSC of two half maps with a mask, beside what a postprocess.star reports of them; `pixel` is in angstrom.

    KitError where the file contradicts itself.
    """
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
    shell = maps.crossing(reported["corrected"], maps.HALF_MAPS)
    final = float(column(star, "general", "rlnFinalResolution"))
    n = first.shape[0]
    if abs(n * pixel / shell - final) > maps.SAME:
        raise KitError(
            f"{star}: _rlnFinalResolution is {final:.3f}, but its own curve falls below {maps.HALF_MAPS} after "
            f"shell {shell} ({n * pixel / shell:.3f} angstrom)"
        )
    # Of the corrected curve only the phase randomisation cannot be repeated; the rest is this run's maps and its mask.
    randomised = reported["randomised"]
    own = np.where(
        np.arange(len(randomised)) < int(np.argmax(reported["corrected"] != reported["masked"])),
        curves["masked"],
        (curves["masked"] - randomised) / np.maximum(1 - randomised, 1e-6),
    )
    return {
        "shell": shell,
        "recomputed_shell": maps.crossing(own, maps.HALF_MAPS),
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


def classes(folder: Path, match: Callable[[Path], Any] | None) -> dict[str, Any]:
    """Class3D: its class distribution, largest first; and against known species how many particles sit with their kind.

    `match` gives the particles of a STAR file beside their truth, whose columns end in `True`.
    """
    ended = last(folder, "model", "data")
    model, data = ended.files["model"], ended.files["data"]
    fractions = np.asarray(column(model, "model_classes", "rlnClassDistribution"), dtype=float)
    found = {
        "fractions": sorted(fractions.tolist(), reverse=True),
        "largest_map": ended.beside(f"class{int(np.argmax(fractions)) + 1:03d}.mrc").name,
    }
    if match is None:
        return found
    merged = match(data)
    table = np.zeros((len(fractions), 2))
    np.add.at(table, (merged["rlnClassNumber"] - 1, merged["rlnClassNumberTrue"] - 1), 1)
    # Class numbers are arbitrary: the matching of classes to species that fits most particles counts.
    best = max(itertools.permutations(range(len(fractions)), 2), key=lambda p: table[p[0], 0] + table[p[1], 1])
    return {
        **found,
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
    crossing = maps.crossing(curve, maps.AGAINST_TRUTH)
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
    """Writes evaluation.json and figures/ into a run directory; KitError for anything that cannot be what it claims."""
    if (directory / "default_pipeline.star").is_file():
        settle(directory)
    check_logs(directory)
    binary = identity(directory)
    jobs = folders(directory)
    for log in sorted((directory / "logs").glob("refine3d*.out")):
        formed = formed_ranks(log)
        if formed != ranks:
            raise KitError(f"{log}: {ranks} MPI ranks were asked for, {formed} formed one job")
    path = directory / "data/truth.json"
    facts = read_json(path) if path.is_file() else {}
    result: dict[str, Any] = {"ranks": ranks, "binary": binary}
    match: Callable[[Path], Any] | None = None
    if "drifts" in facts:
        truth = accuracy.Truth.read(directory / "data")
        result |= session(directory, jobs, truth)
        if "motioncorr" in jobs:
            figures.draw_drift(directory, jobs["motioncorr"], truth)
            figures.draw_ctf(directory, jobs["ctffind"], truth)
            draw_picks(directory, jobs, truth)
        match = truth.match
    elif facts:
        match = functools.partial(by_image, truth=directory / "data/truth.star")
    if "class3d" in jobs:
        result["class3d"] = classes(directory / jobs["class3d"], match)
    # The last refinement is the result.
    refine, post = (last_job(jobs, kind) for kind in ("refine3d", "postprocess"))
    if refine:
        refuse_copies(directory, refine)
        final, pixel = read_map(directory / refine / "run_class001.mrc")
        if post:
            judged = postprocess(directory, refine, last_job(jobs, "maskcreate"), post)
            curves = judged.pop("curves")
            result["postprocess"] = judged
            shell = judged["shell"]
        else:  # RELION's own curve, which knows no mask
            model = directory / refine / "run_model.star"
            reported = np.asarray(column(model, "model_class_1", "rlnGoldStandardFsc"), dtype=float)
            curves = {"unmasked": reported.tolist(), "resolution_unit": len(final) * pixel}
            shell = maps.crossing(reported, maps.HALF_MAPS)
        if facts:
            true = truth_map(directory / "data", facts, len(final), pixel)
            held, alignment = against_truth(final, pixel, true, shell)
            curves["truth"] = held.pop("curve")
            result["truth"] = held
            figures.draw_map(directory, alignment.aligned, true, "truth")
        result["fsc"] = curves
        figures.draw_fsc(directory, curves)
        figures.draw_angles(directory, directory / refine / "run_data.star")
    if reference(directory):
        largest = result.get("class3d", {}).get("largest_map", "")
        judged_map = f"{refine}run_class001.mrc" if refine else f"{jobs['class3d']}{largest}" if largest else ""
        if judged_map:
            result["reference"] = against_reference(directory, directory / judged_map)
    if "class2d" in jobs:
        figures.draw_class_averages(directory, directory / jobs["class2d"])
    figures.draw_iterations(directory, {name: jobs[name] for name in aligning(directory)})
    figures.draw_times(directory, [attempt for attempt in read_stages(directory) if attempt.timed])
    write_json(directory / "evaluation.json", result)


def draw_picks(directory: Path, jobs: dict[str, str], truth: accuracy.Truth) -> None:
    """picks.png: the first micrograph with the picks of both AutoPick jobs."""
    stem = truth.micrographs[0]
    sets = {"autopick_log": "picked by Laplacian", "autopick": "picked by class averages"}
    shown = {text: accuracy.positions(directory, jobs[job], stem) for job, text in sets.items()}
    micrograph = accuracy.of_micrograph(directory, jobs["motioncorr"], f"{stem}.mrc")
    spacing = float(truth.facts["spacing"])
    figures.draw_picks(directory, "picks.png", micrograph, truth.pixel_size, truth.positions(stem), shown, spacing)


def refuse_copies(directory: Path, refine: str) -> None:
    """KitError where a map of the result has the bytes of one that came with the data."""
    shipped = {entry["sha256"]: name for name, entry in read_json(directory / "data" / MANIFEST).items()}
    for name in ("run_class001.mrc", "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc"):
        path = directory / refine / name
        same = shipped.get(sha256(path)) if path.is_file() else None
        if same:
            raise KitError(f"{path}: is data/{same}, byte for byte; a result is computed, not copied")


def last_job(jobs: dict[str, str], kind: str) -> str:
    """The folder of the last job of a kind; empty where there is none."""
    return next((folder for name, folder in reversed(jobs.items()) if name.startswith(kind)), "")


def truth_map(data: Path, facts: dict[str, Any], box: int, pixel: float) -> maps.Array:
    """The density of the species of most particles, as the data have it, or made of its atoms at this pixel size."""
    species = facts["species"][0]
    path = data / f"truth_{species}.mrc"
    if path.is_file():
        return read_map(path)[0]
    return phantom.density(phantom.load_species()[species], box, pixel, facts["bfactor"]).astype(np.float64)


def against_reference(directory: Path, path: Path) -> dict[str, Any]:
    """How a map agrees with the published one of the data set, after alignment, both on one coarse grid; with a picture."""
    (density, pixel), (other, other_pixel) = read_map(path), read_map(directory / "data" / reference(directory))
    side = min(len(density) * pixel, len(other) * other_pixel)  # angstrom
    box = min(len(density), len(other), SMALL)
    small = maps.resample(density, side / box / pixel, box)
    target = maps.resample(other, side / box / other_pixel, box)
    alignment = maps.align(small, target, 0.8 * box)
    figures.draw_map(directory, alignment.aligned, target, reference(directory))
    return {"correlation": alignment.correlation, "resolution_limit": 2 * side / box, "mirrored": alignment.mirrored}


def session(directory: Path, jobs: dict[str, str], truth: accuracy.Truth) -> dict[str, Any]:
    """The stages of a run that the truth of its movies can judge, from movies to the first refinement."""
    judges: dict[str, Callable[[str], Any]] = {
        "motioncorr": lambda folder: accuracy.drifts(directory, folder, truth),
        "ctffind": lambda folder: accuracy.defocus(directory, folder, truth),
        "autopick_log": lambda folder: accuracy.picks(directory, folder, truth),
        "autopick": lambda folder: accuracy.picks(directory, folder, truth),
        "class2d": lambda folder: species_of_classes(truth.match(last(directory / folder, "data").files["data"])),
        "refine3d": lambda folder: poses(truth.match(directory / folder / "run_data.star")),
        "ctfrefine_tilt": lambda folder: accuracy.beam_tilt(directory / folder / "particles_ctf_refine.star", truth),
        "ctfrefine": lambda folder: {
            "defocus_error": accuracy.particle_defocus(truth.match(directory / folder / "particles_ctf_refine.star")),
            "defocus_error_before": accuracy.particle_defocus(truth.match(directory / jobs["refine3d"] / "run_data.star")),
        },
    }
    return {stage: judges[stage](folder) for stage, folder in jobs.items() if stage in judges}


def poses(matched: Any) -> dict[str, Any]:
    return {"particles": len(matched), "pose": accuracy.pose_error(matched), "purity": purity(matched)}


def species_of_classes(matched: Any) -> dict[str, Any]:
    """Class2D against the known species: how many particles are of the kind of most of their class."""
    kinds = matched.groupby("rlnClassNumber")["rlnClassNumberTrue"]
    most = kinds.agg(lambda kind: kind.value_counts().iloc[0])
    return {"particles": len(matched), "classes": len(most), "purity": float(most.sum() / len(matched))}


def purity(matched: Any) -> float:
    """The fraction of the particles of a refinement that are of the kind of most of them."""
    return float(matched["rlnClassNumberTrue"].value_counts(normalize=True).iloc[0])
