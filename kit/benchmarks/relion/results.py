"""Names of the files that RELION's iterative jobs write; no other module knows them.

For each iteration a job writes ROOT_itNNN_KIND.star and the maps beside it, where ROOT is `run` unless the job was started
by hand. A refinement that has converged writes its result once more, from all particles, as ROOT_KIND.star, and a clean
leaves nothing else. A job that was continued from iteration N writes ROOT_ctN_itNNN_KIND.star and ROOT_ctN_KIND.star. While
a refinement goes on each of its halves has a model, ROOT_itNNN_half1_model.star.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kit.benchmarks.relion.star import read_star
from kit.core.errors import KitError

KINDS = ("optimiser", "model", "data")
# How RELION 3.1 to 5 begin an iteration in their logs: by expectation and maximisation, or by gradients.
HEADER = re.compile(r"(?:Expectation|Stochastic Gradient Descent|Gradient optimisation) iteration (\d+)")
SECONDS = {"sec": 1.0, "min": 60.0, "hrs": 3600.0}
NAME = re.compile(rf"(.+?)(_ct(\d+))?(?:_it(\d+))?(?:_half([12]))?_({'|'.join(KINDS)})\.star")


@dataclass(frozen=True)
class Result:
    """What one iteration of a job left. `files` are its STAR files by kind; of a refinement's halves the first counts."""

    stem: Path  # Refine3D/job019/run_ct5_it012
    run: str  # run_ct5: what was started at once
    number: int | None  # None where nothing is left that says it
    final: bool  # of all particles, after the refinement converged
    files: dict[str, Path]

    def beside(self, end: str) -> Path:
        """A file of the same iteration: `classes.mrcs`, `class001.mrc`."""
        return self.stem.with_name(f"{self.stem.name}_{end}")


def results(folder: Path) -> list[Result]:
    """What the iterations of a job left, in their order, the converged one last; empty where it has none.

    Where iterations were repeated, since a job was continued from an earlier one, those of the later run count. Which run
    is later stands in the job's note, else in the number of the iteration that it began from.
    """
    found: dict[tuple[str, str, str], dict[str, Path]] = {}  # root, its continuation, iteration
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    for name in names:
        match = NAME.fullmatch(name)
        if match:
            root, _, continued, iteration, half, kind = match.groups()
            files = found.setdefault((root, continued or "", iteration or ""), {})
            if not half or kind not in files:  # names are in their order, so that half 1 comes before half 2
                files[kind] = folder / name
    # Files of no iteration whose names end in the same words: what RELION wrote of a converged one it wrote whole.
    found = {key: files for key, files in found.items() if key[2] or "model" in files or "optimiser" in files}
    runs = in_order(folder, {key[:2] for key in found})
    taken: dict[int, Result] = {}
    final: list[Result] = []
    limit: int | None = None
    for root, continued in reversed(runs):
        run = root + (f"_ct{continued}" if continued else "")
        for (other, start, iteration), files in found.items():
            if (other, start) != (root, continued):
                continue
            if iteration and (limit is None or int(iteration) <= limit):
                taken.setdefault(int(iteration), Result(folder / f"{run}_it{iteration}", run, int(iteration), False, files))
            elif not iteration and (root, continued) == runs[-1]:
                number = current_iteration(files)
                logged = max(expectation(folder), default=None) if number is None else number
                final.append(Result(folder / run, run, logged, True, files))
        if continued:
            limit = int(continued) if limit is None else min(limit, int(continued))
    ordered = [taken[number] for number in sorted(taken)]
    # One of an earlier attempt is left behind where a job is run again under the same name.
    final = [one for one in final if not ordered or one.number is None or one.number >= ordered[-1].number]  # type: ignore[operator]
    return ordered + final


def in_order(folder: Path, runs: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """The runs of a job (root, iteration it was continued from), latest last; of several roots only the one that counts."""
    note = folder / "note.txt"
    text = note.read_text(errors="replace") if note.is_file() else ""
    started = [match[1] for match in re.finditer(r"--o\s+(?:\S*/)?([^\s/]+)", text)]

    def last_start(run: tuple[str, str]) -> int:
        name = run[0] + (f"_ct{run[1]}" if run[1] else "")
        return max((place for place, known in enumerate(started) if known == name), default=-1)

    ordered = sorted(runs, key=lambda run: (last_start(run), int(run[1] or -1), run[0] == "run", run[0]))
    return [run for run in ordered if run[0] == ordered[-1][0]]


def current_iteration(files: dict[str, Path]) -> int | None:
    """The iteration that an optimiser file is of; None where there is none that says it."""
    if "optimiser" not in files:
        return None
    try:
        for block in read_star(files["optimiser"]).values():
            if "rlnCurrentIteration" in block:
                return int(block["rlnCurrentIteration"])
    except (KitError, ValueError, TypeError):
        return None  # a damaged file; the job's log may say it
    return None


def expectation(folder: Path) -> dict[int, float | None]:
    """Seconds of expectation of each iteration as the job's log has them, to a second or a hundredth of a larger unit.

    None where an iteration began and did not end. Of an iteration that was repeated the last time counts.
    """
    log = folder / "run.out"
    text = log.read_text(errors="replace") if log.is_file() else ""
    _, *parts = HEADER.split(text)
    found: dict[int, float | None] = {}
    for number, body in zip(parts[::2], parts[1::2], strict=True):
        spent = re.findall(r"/\s*(\d+\.?\d*) (sec|min|hrs)", body.split("Maximization")[0])
        found[int(number)] = float(spent[-1][0]) * SECONDS[spent[-1][1]] if spent else None
    return found


def last(folder: Path, *kinds: str) -> Result:
    """The last of a job's results that has all of `kinds`; KitError where there is none."""
    for result in reversed(results(folder)):
        if all(kind in result.files for kind in kinds):
            return result
    wanted = " and ".join(kinds)
    raise KitError(f"{folder}: no run_it*_{kinds[0]}.star or run_{kinds[0]}.star: no iteration left its {wanted}")


def data_beside(path: Path) -> Path:
    """The file of particles that belongs to an optimiser or model file; any other path as it is."""
    match = NAME.fullmatch(path.name)
    if not match:
        return path
    root, run, _, iteration, *_ = match.groups()
    return path.with_name(root + (run or "") + (f"_it{iteration}" if iteration else "") + "_data.star")
