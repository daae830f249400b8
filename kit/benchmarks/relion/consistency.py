"""Does what a submission carries of a RELION run agree with itself? What can be computed from it again is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.files import column
from kit.errors import KitError
from kit.model import read_table

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
    posts = sorted(name for name in files if name.endswith("postprocess.star"))
    shell = -1
    for name in posts:
        curve = np.asarray(column(files[name], "fsc", "rlnFourierShellCorrelationCorrected"), dtype=float)
        shells = np.asarray(column(files[name], "fsc", "rlnAngstromResolution"), dtype=float)
        final = float(column(files[name], "general", "rlnFinalResolution"))
        shell = maps.crossing(curve, 0.143)
        if abs(shells[shell] - final) > 0.01:
            yield name, f"_rlnFinalResolution is {final:.3f}, but its curve falls below 0.143 at {shells[shell]:.3f}"
    if EVALUATION not in files:
        return
    said = read_table(files[EVALUATION])
    curves: Mapping[str, Any] = said.get("fsc", {})
    if posts and "postprocess" in said:
        judged = said["postprocess"]
        if judged.get("shell") != shell:
            yield EVALUATION, f"postprocess.shell is {judged.get('shell')}, but the curve of {posts[-1]} says {shell}"
        for key, label in CURVES.items():
            theirs = np.asarray(column(files[posts[-1]], "fsc", label), dtype=float)
            ours = np.asarray(curves.get(key, []), dtype=float)
            if ours.shape != theirs.shape or np.abs(ours - theirs).max() > 1e-6:
                yield EVALUATION, f"fsc.{key} is not the curve _{label} of {posts[-1]}"
    classes = said.get("class3d", {})
    if "fractions" in classes and "major_fraction" in classes:
        yield from differs("class3d.major_fraction", classes, max(classes["fractions"]))
    if "counts" in classes:
        counts = np.asarray(classes["counts"], dtype=float)
        # Each class is the conformation that most of it are, no two the same.
        rows, columns = linear_sum_assignment(counts, maximize=True)
        yield from differs("class3d.assignment_accuracy", classes, float(counts[rows, columns].sum() / counts.sum()))
    if "truth" in said and "truth" in curves:
        if "resolution_unit" not in curves:
            raise KitError(f"{EVALUATION}: no fsc.resolution_unit beside its curves")
        place = maps.crossing(np.asarray(curves["truth"], dtype=float), 0.5)
        yield from differs("truth.fsc05_resolution", said["truth"], float(curves["resolution_unit"]) / max(place, 1))


def differs(label: str, table: Mapping[str, Any], again: float) -> Iterator[tuple[str, str]]:
    value = table.get(label.partition(".")[2])
    if not isinstance(value, int | float) or abs(value - again) > 1e-6 * max(1.0, abs(again)):
        yield EVALUATION, f"{label} is {value!r}, but what it is made of says {again!r}"
