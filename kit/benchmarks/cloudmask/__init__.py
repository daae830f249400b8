"""CloudMask: a U-Net that masks cloud in Sentinel-3 SLSTR scenes, from products to sea-surface temperature.

The login node calls `generate` and `evaluate`; the stages run in the image as `python -m kit.stages.cloudmask`:
extract, convert, patches (shards.py), train, infer, score, sst.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The files whose text decides what `generate` writes, and the parameters that do.
GENERATOR = ("benchmarks/cloudmask/scenes.py", "stages/cloudmask/products.py", "stages/cloudmask/matchups.py")
DATA_PARAMETERS = (
    "rows",
    "columns",
    "training_scenes",
    "inference_scenes",
    "label_error",
    "matchups_per_scene",
    "data_seed",
)


def data_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: parameters[key] for key in DATA_PARAMETERS}


def generate(folder: Path, parameters: dict[str, Any]) -> None:
    from kit.benchmarks.cloudmask.scenes import generate

    generate(folder, parameters)


def needed(workflow: str) -> list[str]:
    """What a published data set must hold."""
    return ["training", "inference"]


def evaluate(directory: Path, parameters: dict[str, Any], ranks: int) -> None:
    from kit.benchmarks.cloudmask.figures import evaluate

    evaluate(directory, ranks)


def evaluate_scaling(directory: Path) -> None:
    from kit.benchmarks.cloudmask.scaling import evaluate

    evaluate(directory)


def contradictions(files: dict[str, Path]) -> Any:
    """What of the files that a submission carries speaks against what else it carries; see there."""
    from kit.benchmarks.cloudmask.consistency import contradictions

    return contradictions(files)
