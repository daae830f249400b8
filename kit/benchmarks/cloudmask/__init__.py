"""CloudMask: a U-Net that masks cloud in Sentinel-3 SLSTR scenes.

The login node calls `generate` and `evaluate`; the stages run in the image as `python -m kit.benchmarks.cloudmask`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The files whose text decides what `generate` writes.
GENERATOR = ("scenes.py",)


def generate(folder: Path, parameters: dict[str, Any]) -> None:
    from kit.benchmarks.cloudmask.scenes import generate

    generate(folder, parameters)


def evaluate(directory: Path, parameters: dict[str, Any], ranks: int) -> None:
    from kit.benchmarks.cloudmask.figures import evaluate

    evaluate(directory, ranks)
