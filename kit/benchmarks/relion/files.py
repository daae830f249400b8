"""RELION's files, read by label: STAR tables and MRC maps, with errors that name the file and what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.star import read_star
from kit.core.errors import KitError


def read_map(path: Path) -> tuple[maps.Array, float]:
    """A map as (density, voxel size in angstrom); KitError when it is missing or cut short."""
    import mrcfile

    try:
        with mrcfile.open(path) as file:
            return file.data.astype(np.float64), float(file.voxel_size.x)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: not a readable MRC map: {error}") from None


def column(path: Path, block: str, label: str) -> Any:
    """A column (or single value) of a STAR file by block and label; KitError names what is missing."""
    blocks = read_star(path)
    if block not in blocks or label not in blocks[block]:
        raise KitError(f"{path}: no label _{label} in data_{block}")
    return blocks[block][label]
