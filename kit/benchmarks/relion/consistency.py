"""Does what a submission carries of a RELION run agree with itself? What can be computed from it again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.star import read_star
from kit.core.errors import KitError
from kit.core.files import read_table
from kit.core.schema import shortened

EVALUATION = "evaluation.json"
CURVES = {
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    "corrected": "rlnFourierShellCorrelationCorrected",
}


def contradictions(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of files of a run by their names, of which some may be missing.

    The resolution of each postprocess.star is that at which its own FSC falls below 0.143; what evaluation.json says of
    the last one follows from both files, and what it says of the truth from its own curve (FSC = 0.5).
    """
    try:
        yield from found(files)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        yield EVALUATION, f"is not what a run leaves, or postprocess.star beside it: {shortened(error)}"


def found(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    posts = sorted(name for name in files if name.endswith("postprocess.star"))
    shell, tables = -1, {name: read_star(files[name]) for name in posts}
    for name, table in tables.items():
        shells = np.asarray(of(name, table, "fsc", "rlnAngstromResolution"), dtype=float)
        curve = np.asarray(of(name, table, "fsc", CURVES["corrected"]), dtype=float)
        final = float(of(name, table, "general", "rlnFinalResolution"))
        shell = maps.crossing(curve, maps.HALF_MAPS)
        # Shell n of a box of N pixels lies at N / n pixels; the file has it to six digits.
        expected = shells[1] / np.arange(1, len(shells))
        if not np.isfinite(curve).all() or not np.allclose(shells[1:], expected, rtol=1e-4):
            yield name, "its curve is none over all shells of its box"
        elif not abs(shells[shell] - final) <= maps.SAME:
            yield (
                name,
                f"_rlnFinalResolution is {final:.3f}, but its curve falls below {maps.HALF_MAPS} at {shells[shell]:.3f}",
            )
    if EVALUATION not in files:
        return
    said = read_table(files[EVALUATION])
    curves: Mapping[str, Any] = said.get("fsc", {})
    if posts:
        last = tables[posts[-1]]
        judged = said.get("postprocess", {})
        if judged.get("shell") != shell:
            yield EVALUATION, f"postprocess.shell is {judged.get('shell')}, but the curve of {posts[-1]} says {shell}"
        for key, label in CURVES.items():
            theirs = np.asarray(of(posts[-1], last, "fsc", label), dtype=float)
            ours = np.asarray(curves.get(key, []), dtype=float)
            if ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= 1e-6:
                yield EVALUATION, f"fsc.{key} is not the curve _{label} of {posts[-1]}"
        unit = float(np.asarray(of(posts[-1], last, "fsc", "rlnAngstromResolution"), dtype=float)[1])
        if not abs(curves.get("resolution_unit", 0.0) - unit) <= 1e-3 * unit:
            yield EVALUATION, f"fsc.resolution_unit is {curves.get('resolution_unit')}, but the first shell lies at {unit}"
    classes = said.get("class3d", {})
    if "major_fraction" in classes:
        yield from differs("class3d.major_fraction", classes, max(classes.get("fractions", [0.0])))
    if "assignment_accuracy" in classes:
        counts = np.asarray(classes.get("counts", [[0]]), dtype=float)
        if max(counts.shape) > 100 or not counts.sum():
            yield EVALUATION, f"class3d.counts has {counts.shape} classes and species, where some and up to 100 are expected"
            return
        # Each class is the conformation that most of it are, no two the same.
        rows, columns = linear_sum_assignment(counts, maximize=True)
        yield from differs("class3d.assignment_accuracy", classes, float(counts[rows, columns].sum() / counts.sum()))
    if "truth" in said:
        curve = np.asarray(curves.get("truth", []), dtype=float)
        if len(curve) < 2 or not np.isfinite(curve).all():
            yield EVALUATION, "fsc.truth is no curve, but truth.fsc05_resolution is made of it"
            return
        place = max(maps.crossing(curve, maps.AGAINST_TRUTH), 1)
        yield from differs("truth.fsc05_resolution", said["truth"], float(curves["resolution_unit"]) / place)


def of(name: str, table: Mapping[str, Any], block: str, label: str) -> Any:
    if block not in table or label not in table[block]:
        raise KitError(f"{name}: no label _{label} in data_{block}")
    return table[block][label]


def differs(label: str, table: Mapping[str, Any], again: float) -> Iterator[tuple[str, str]]:
    value = table.get(label.partition(".")[2])
    if not isinstance(value, int | float) or not abs(value - again) <= 1e-6 * max(1.0, abs(again)):
        yield EVALUATION, f"{label} is {value!r}, but what it is made of says {again!r}"
