"""Changes to the records of a frame that pandas would write, for tests of what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def replace(key: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Writes the records of a table anew, changed."""

    def do(file: Any) -> None:
        attributes = dict(file[f"{key}/table"].attrs)
        rows = change(file[f"{key}/table"][()])
        del file[f"{key}/table"]
        file[key].create_dataset("table", data=rows).attrs.update(attributes)

    return do


def value(field: str, row: int, to: float) -> Callable[[Any], Any]:
    def change(rows: Any) -> Any:
        rows[field][row] = to
        return rows

    return change


def without(*names: str) -> Callable[[Any], Any]:
    def change(rows: Any) -> Any:
        kept = [name for name in rows.dtype.names if name not in names]
        found = np.empty(len(rows), np.dtype([(name, rows.dtype[name]) for name in kept]))
        for name in kept:
            found[name] = rows[name]
        return found

    return change
