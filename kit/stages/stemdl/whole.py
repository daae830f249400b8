"""Files that appear whole or not at all: what a stage that was cut off left is not taken for its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any, **how: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, **how) + "\n")
    partial.rename(path)


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.rename(path)
