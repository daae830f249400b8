"""Is a run plausible? No stage was too fast, nothing outside was read, and what the stages left fits together."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.benchmark import RANKS, Benchmark
from kit.core.checksums import plain_digest
from kit.core.errors import KitError
from kit.core.files import kind, open_plain, read_json
from kit.runs.record import FILE, SBOM, Run, StageRecord, State, directory_name

if TYPE_CHECKING:
    from kit.plan import Plan

CLOCKS = 30.0  # seconds by which the clocks of a file system and a node may differ


def contained(directory: Path, run: Run) -> None:
    """KitError for anything in a run directory that belongs neither to the run nor to its data.

    That is a link that leads elsewhere, and a FIFO, socket or device, which could keep a reader waiting for ever. In a run
    that was moved or copied, links with absolute paths still name the place where it ran.
    """
    homes = [directory.resolve(), (directory / "data").resolve()]
    if run.rendering and Path(run.rendering.directory).name == directory_name(run.work, run.site, run.created):
        homes.append(Path(run.rendering.directory))
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                try:
                    target = path.resolve()
                except (OSError, RuntimeError):
                    raise KitError(f"{path}: a link that leads back to itself") from None
                # Files in these folders are packed, and the verdict writes pictures and evidence there.
                if path.relative_to(directory).parts[0] in ("logs", "figures", "evidence"):
                    raise KitError(f"{path}: a link to {target}, where a file of this run is needed")
                if not any(home == target or home in target.parents for home in homes):
                    raise KitError(f"{path}: a link to {target}, which is neither of this run nor of its data")
            elif kind(mode) and not stat.S_ISDIR(mode):
                raise KitError(f"{path}: {kind(mode)}, where only files and folders of this run are expected")


def evidence(directory: Path, plan: Plan, run: Run, attempts: list[StageRecord], judged: float) -> None:
    """KitError if the files that a run left contradict each other.

    The SBOM is of the image that run.json names, and what a stage wrote is as old as the stage. `judged` is when the
    verdict began: what it writes itself is newer. Times of files come from the file system and those of stages from the
    node, so that they may differ by `CLOCKS`.
    """
    from kit.script.render import commands

    if run.image.digest:
        bill = directory / SBOM
        if plain_digest(directory, SBOM) != run.image.sbom:
            raise KitError(f"{bill}: differs from the one that was written when the run was rendered")
        stated = stated_digest(read_json(bill)).get("kit:digest")
        if stated != run.image.digest:
            raise KitError(f"{directory / FILE}: image.digest is {run.image.digest}, but {SBOM} is of {stated}")
    done = {attempt.name: attempt for attempt in attempts if attempt.exit_code == 0}
    if RANKS in done:
        ranks_seen(directory, run.ranks)
    last = max(attempt.end or 0.0 for attempt in attempts)
    windows: dict[str, tuple[float, float]] = {metric.file: (attempts[0].start, last) for metric in plan.benchmark.metrics}
    texts = commands(plan)
    for stage in plan.benchmark.stages:
        for output in texts[stage.name][1]:
            windows[output] = done[stage.name].start, done[stage.name].end or last
    for name, (start, end) in windows.items():
        with open_plain(directory, name) as file:
            written = os.fstat(file.fileno()).st_mtime
        if written < start - CLOCKS:
            raise KitError(f"{directory / name}: older than the stage that has to write it")
        if end + CLOCKS < written < judged - CLOCKS:
            raise KitError(f"{directory / name}: changed {written - end:.0f} s after its stage had ended")


def ranks_seen(directory: Path, ranks: int) -> None:
    """KitError unless ranks.jsonl has a line of each of so many ranks, which formed one job."""
    path = directory / f"{RANKS}.jsonl"
    with open_plain(directory, path.name) as file:
        lines = file.read().decode(errors="replace").splitlines()
    try:
        seen = [(entry["rank"], entry["size"]) for entry in map(json.loads, lines)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KitError(f"{path}: is not what kit-ranks prints, a line of JSON for each rank") from None
    if seen != [(rank, ranks) for rank in range(ranks)]:
        raise KitError(f"{path}: {len(seen)} ranks are in it, and not each of the {ranks} that formed one job")


def stated_digest(bill: Any) -> dict[str, str]:
    """What an SBOM of the kit says of its image: `name`, `version`, and the properties `kit:digest`, `kit:label:...`."""
    try:
        component = bill["metadata"]["component"]
        stated = {entry["name"]: entry["value"] for entry in component["properties"]}
        if len(stated) != len(component["properties"]):
            return {}  # a property that is there twice proves nothing
        return {**stated, "name": component["name"], "version": component.get("version", "")}
    except (KeyError, TypeError):
        return {}


def too_fast(benchmark: Benchmark, size_name: str, attempts: list[StageRecord]) -> State | None:
    """A failure for the first stage that took less, over all its attempts, than its floor."""
    for stage, floor in benchmark.size(size_name).floor_seconds.items():
        seconds = sum(attempt.seconds or 0.0 for attempt in attempts if attempt.name == stage)
        if seconds < floor:
            reason = f"implausibly fast: {seconds:.1f} s, where no honest run takes under {floor:g} s"
            return State(name="failed", stage=stage, exit_code=0, reason=reason)
    return None
