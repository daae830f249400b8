"""Data that lie here, hashed again: packs of one stage, and published data sets that were fetched."""

from __future__ import annotations

from pathlib import Path

from kit.core import checksums
from kit.data.isolated import load_pack
from kit.data.published import REMOVE, fetched, load_data_set


def verify(what: str) -> list[str]:
    """What a pack (a folder) holds, or that a data set (BENCHMARK/NAME) is whole; KitError for a file that differs."""
    folder = Path(what)
    if not folder.is_dir():
        target = fetched(load_data_set(what))
        checksums.verify(target, REMOVE.format(target))
        return [f"{target}: every file is as it was fetched"]
    pack = load_pack(folder)
    return [
        f"{folder}: stage {pack.stage} of {pack.benchmark}, size {pack.size}, made by {pack.image} {pack.version}",
        *(f"  {option:<10} {file}" for option, file in pack.inputs.items()),
    ]
