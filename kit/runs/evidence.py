"""Evidence: the files that the scores of a run can be computed from again, in evidence/ of its directory.

A submission carries them where they are small. Otherwise it carries evidence/kept.json alone: their checksums, and where
whoever wants to score again can get them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kit.benchmark import Benchmark
from kit.core.checksums import digest
from kit.core.errors import KitError
from kit.core.files import write_json
from kit.core.schema import Digest, Model, Name, OneLine

FOLDER = "evidence"
KEPT = f"{FOLDER}/kept.json"
NOT_KEPT = "not kept"
MOST_BYTES = 32_000_000  # of all evidence of a run that a submission carries; a repository of results holds many runs


class KeptFile(Model):
    bytes: int = Field(ge=0)
    sha256: Digest


class Kept(Model):
    """Evidence that is too large to carry: what it is, and where the submitter keeps it."""

    store: Annotated[OneLine, Field(min_length=1, max_length=500)] = NOT_KEPT
    files: dict[Name, KeptFile]


def names_of(benchmark: Benchmark) -> list[str]:
    """The names of the evidence that a run of these stages leaves, below its directory."""
    return [f"{FOLDER}/{name}" for name in benchmark.code.evidence([stage.name for stage in benchmark.stages])]


def carried(benchmark: Benchmark, there: Sequence[str] | dict[str, str]) -> list[str]:
    """The evidence that a submission carries, given the files that are there: all of it, or what says where it is kept."""
    names = names_of(benchmark)
    return [KEPT] if names and KEPT in there else names


def take(directory: Path, benchmark: Benchmark, store: str = "") -> list[str]:
    """Writes the evidence of a run that has ended, anew; returns the names of what a submission carries.

    `store` is where the submitter will keep what is too large: a URL, a DOI, in any words. KitError for an output that is
    missing, or that cannot be read.
    """
    writers = benchmark.code.evidence([stage.name for stage in benchmark.stages])
    if not writers:
        return []
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    (directory / KEPT).unlink(missing_ok=True)
    for name, write in writers.items():
        handle, partial = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        os.close(handle)
        try:
            write(directory, Path(partial))
            os.chmod(partial, 0o644)
            os.replace(partial, folder / name)
        except OSError as error:
            raise KitError(f"{folder / name}: cannot be written: {error}") from None
        finally:
            Path(partial).unlink(missing_ok=True)
    sizes = {name: (folder / name).stat().st_size for name in writers}
    if sum(sizes.values()) <= MOST_BYTES:
        return names_of(benchmark)
    files = {name: KeptFile(bytes=size, sha256=digest(folder / name)) for name, size in sizes.items()}
    write_json(directory / KEPT, Kept(store=store or NOT_KEPT, files=files).model_dump(mode="json"))
    return [KEPT]
