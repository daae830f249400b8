"""RELION: cryo-EM structure determination, from movies to a map that is held against the truth.

Both functions are called on the login node; the stages between them are RELION's own programs in the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.core.errors import KitError

# The files whose text decides what `generate` writes.
GENERATOR = ("benchmarks/relion/phantom.py", "benchmarks/relion/movies.py", "benchmarks/relion/6zu5.csv.gz")


def maker(parameters: dict[str, Any]) -> Any:
    """The module that makes data of such parameters: movies where they speak of micrographs, particles otherwise."""
    from kit.benchmarks.relion import movies, phantom

    return movies if "micrographs" in parameters else phantom


def data_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Those parameters of a size that decide its data; the others are of its stages."""
    return {key: value for key, value in parameters.items() if key in maker(parameters).Settings.__dataclass_fields__}


def generate(folder: Path, parameters: dict[str, Any]) -> None:
    settings = maker(parameters).Settings(**data_parameters(parameters))
    maker(parameters).generate(folder, settings)


def compose(*arguments: Any) -> list[Any]:
    """The stages of a workflow; see there."""
    from kit.benchmarks.relion.workflow import compose

    return compose(*arguments)


def needed(workflow: str) -> list[str]:
    """What the published data of a workflow must hold."""
    from kit.benchmarks.relion.workflow import load_workflow

    found = load_workflow(workflow)
    return [*found.links, *([found.reference] if found.reference else [])]


def stage_of(directory: Path, name: str) -> str:
    """The stage of a run whose job has a name, or an alias, in its project; any other name as it is."""
    from kit.benchmarks.relion.project import find_job
    from kit.benchmarks.relion.workflow import folders

    known = {folder: stage for stage, folder in folders(directory).items()}
    if name in known.values() or not (directory / "default_pipeline.star").is_file():
        return name
    try:
        return known.get(find_job(directory, name), name)
    except KitError:  # the caller knows what the stages are
        return name


def pack(directory: Path, stage: str, target: Path) -> dict[str, str]:
    from kit.benchmarks.relion.packs import pack

    return pack(directory, stage, target)


def evaluate(directory: Path, parameters: dict[str, Any], ranks: int) -> None:
    # Not named evaluate: a module of that name would take the place of this function once it is imported.
    from kit.benchmarks.relion.judge import evaluate

    evaluate(directory, ranks)


def pair(first: Path, second: Path) -> tuple[dict[str, float], list[str]]:
    from kit.benchmarks.relion.agreement import pair

    return pair(first, second)


def contradictions(files: dict[str, Path]) -> Any:
    """What of the files that a submission carries speaks against what else it carries; see there."""
    from kit.benchmarks.relion.consistency import contradictions

    return contradictions(files)
