"""Packs the input of one stage of a run, so that the stage can be run alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from kit.core.checksums import MANIFEST, manifest, verify
from kit.core.errors import KitError, unknown
from kit.core.files import read_json, write_json
from kit.core.schema import Digest, Model, Name, parse
from kit.runs.record import load_run, resolved

PACK = "pack.json"
Option = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
PackFile = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_+-]*([./][A-Za-z0-9_+-]+)*$")]


class Pack(Model):
    """What stands in pack.json. `inputs` are options of the stage, and the file of the pack that each names.

    A pack may come from a stranger, and its names go into commands, so only plain words are allowed.
    """

    benchmark: Name
    size: Name
    stage: Name
    inputs: dict[Option, PackFile]
    image: Name  # whose stages wrote the inputs
    version: Name
    data: Digest  # hash of the data set that they began with


def isolate(directory: Path, stage: str, folder: Path) -> None:
    """Writes what `stage` of a valid run read into a new folder, with checksums; it appears whole or not at all.

    KitError for a run that is not valid: what its stages wrote is nobody's data.
    """
    run = load_run(directory)
    if run.state.name != "valid":
        raise KitError(f"{directory}: {run.state}: only a valid run can be packed; kit collect judges it")
    benchmark, _ = resolved(directory)
    stage = benchmark.code.stage_named(directory, stage)
    if stage not in [known.name for known in benchmark.stages]:
        raise unknown(f"stage of {directory}", stage, [known.name for known in benchmark.stages])
    if stage not in {metric.stage for metric in benchmark.metrics}:
        raise KitError(f"benchmark {benchmark.name}, stage {stage}: cannot be run alone, since no metric judges it")
    if folder.exists():
        raise KitError(f"{folder}: exists; a pack is never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        inputs = benchmark.code.isolate(directory, stage, partial)
        facts = Pack(
            benchmark=run.benchmark,
            size=run.size,
            stage=stage,
            inputs=inputs,
            image=run.image.name,
            version=run.image.version,
            data=run.data,
        )
        write_json(partial / PACK, facts.model_dump(mode="json"))
        write_json(partial / MANIFEST, manifest(partial))
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load_pack(folder: Path) -> Pack:
    """What a pack holds; KitError unless every file of it is the one that was packed."""
    path = folder / PACK
    if not path.is_file():
        raise KitError(f"{folder}: not a pack, it has no {PACK}; kit data pack makes one of a valid run")
    found = parse(Pack, read_json(path), path)
    verify(folder, "fetch or make the pack again")
    return found
