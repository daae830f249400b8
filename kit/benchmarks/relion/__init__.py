"""RELION: cryo-EM structure determination, from particles to a map that is held against the truth.

Both functions are called on the login node; the stages between them are RELION's own programs in the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The files whose text decides what `generate` writes.
GENERATOR = ("phantom.py", "6zu5.csv.gz")


def generate(folder: Path, parameters: dict[str, Any]) -> None:
    from kit.benchmarks.relion.phantom import Settings, generate

    known = {key: value for key, value in parameters.items() if key in Settings.__dataclass_fields__}
    generate(folder, Settings(**known))


def evaluate(directory: Path, parameters: dict[str, Any], ranks: int) -> None:
    # Not named evaluate: a module of that name would take the place of this function once it is imported.
    from kit.benchmarks.relion.judge import evaluate

    evaluate(directory, ranks)


def pair(first: Path, second: Path) -> dict[str, float]:
    from kit.benchmarks.relion.judge import pair

    return pair(first, second)
