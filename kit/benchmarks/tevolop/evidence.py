"""The forecasts of a TEvolOp run, and the score that they have against data made, or fetched, again."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from kit.benchmarks import Parameters
from kit.benchmarks.tevolop.consistency import differing
from kit.benchmarks.tevolop.judge import PREPARED, SCORE
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import plain_file, read_table

FORECASTS = "forecasts.npy"
# By how much an NNSE may differ where the data made here are not, byte for byte, those of the run: another processor or
# library rounds otherwise, and an event at the edge of a pixel changes sides.
ROUNDED = 0.002


def write_forecasts(directory: Path, target: Path) -> None:
    """Copies the forecasts (windows, horizons) of the test, magnitudes in single precision."""
    try:
        found = np.load(plain_file(directory, f"forecast/{FORECASTS}"), allow_pickle=False)
    except ValueError as error:
        raise KitError(f"{directory / 'forecast' / FORECASTS}: no array of NumPy: {error}") from None
    with target.open("wb") as file:
        np.save(file, found.astype(np.float32), allow_pickle=False)


def score_again(
    files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
) -> Iterator[tuple[str, str, str]]:
    """(rule, file, what is wrong) of a run's forecasts and of the score that is said to be theirs.

    The stages prepare and score are walked again. On the bytes that the run had, all scores come out the same; on other
    bytes the mean NNSE of each forecast is compared, to `ROUNDED`.
    """
    from kit.stages.tevolop.prepare import prepare
    from kit.stages.tevolop.score import score

    name = f"evidence/{FORECASTS}"
    try:
        found = np.load(files[name], mmap_mode="r", allow_pickle=False)
    except Exception:  # its header is read as Python, with all of its errors
        yield "evidence-form", name, "is no array of NumPy"
        return
    windows = read_table(files[PREPARED])["splits"]["test"]["windows"]
    if found.dtype != np.float32 or found.shape != (windows, 6):
        yield "evidence-form", name, f"holds {found.dtype} of {found.shape}, where float32 of {(windows, 6)} is needed"
        return
    with tempfile.TemporaryDirectory(dir=paths.make_cached(paths.cache() / "scored-again")) as text:
        folder = Path(text)
        for part in ("series", "forecast", "score"):
            (folder / part).mkdir()
        truth = str(parameters["truth"]).removeprefix("data/")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                prepare(
                    data,
                    folder / "series",
                    days=int(parameters["days"]),
                    pixels=int(parameters["pixels"]),
                    split=str(parameters["split"]),
                    seed=int(parameters["split_seed"]),
                    stride=int(parameters["stride"]),
                    smallest=float(parameters["smallest"]),
                    most_outside=float(parameters["most_outside"]),
                )
                np.save(folder / f"forecast/{FORECASTS}", found)
                score(folder / "series", folder / "forecast", folder / "score", data / truth if truth else None)
        except ValueError as error:
            yield "evidence-score", name, f"cannot be scored: {error}"
            return
        again = json.loads((folder / "score/score.json").read_text())
    said = read_table(files[SCORE])
    if not same_data:
        for model, value in again["nnse"].items():
            if not abs(said["nnse"].get(model, np.nan) - value) <= ROUNDED:
                yield (
                    "evidence-score",
                    SCORE,
                    f"nnse.{model} is {said['nnse'].get(model)!r}, but the forecasts come to {value!r}",
                )
        return
    for label, stated, wanted in differing(said, again):
        yield "evidence-score", SCORE, f"{label} is {stated!r}, but the forecasts of the evidence come to {wanted!r}"
