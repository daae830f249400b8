"""A submission in the folders of MLPerf: ORGANISATION/systems, .../benchmarks and .../results."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.core.checksums import SUMS
from kit.core.errors import KitError
from kit.core.files import open_plain
from kit.submissions.layout import ATTRIBUTES
from kit.submissions.pack import pack

# The checksums are of a folder that holds the logs, and MLPerf's repo_checker takes no name with a dot before it.
LEFT_OUT = (SUMS, ATTRIBUTES)
LOGS, SYSTEM = "result-*.txt", "system.json"


def export(directories: Sequence[Path], to: Path, *how: Any) -> Path:
    """Packs runs (`how`: as pack.pack has it), and writes the checked submission into MLPerf's folders below `to`.

    Returns the folder of the results, which appears last and only when all else is there. KitError, besides those of
    packing, where there are results of this benchmark and system already, or another description of the system.
    """
    new = [folder for folder in (to, *to.parents) if not folder.exists()]
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mlperf.", dir=to) as folder:
            packed = pack(directories, Path(folder) / "submissions", *how)
            return placed(packed, to, Path(folder) / "made")
    except BaseException:
        for parent in new:
            with contextlib.suppress(OSError):  # of one that was not made, or holds something by now
                parent.rmdir()
        raise


def placed(packed: Path, to: Path, made: Path) -> Path:
    """Moves a packed submission to its places in MLPerf's folders; `made` is a new folder beside them."""
    organisation, application, system, descriptor = packed.parts[-4:]
    top = to / organisation
    described = top / "systems" / f"{system}.json"
    code = top / "benchmarks" / application / "implementations" / f"kit-{descriptor}"
    results = top / "results" / system / application
    for place in (code, results):
        if place.exists():
            raise KitError(f"{place}: exists; a result is never overwritten. Remove it, or export into another folder")
    description = (packed / SYSTEM).read_bytes()
    if os.path.lexists(described):
        with open_plain(described.parent, described.name) as file:
            if file.read() != description:
                raise KitError(f"{described}: describes another system; give this one another name with --system")
    made.mkdir()
    for number, log in enumerate(in_order(packed)):
        shutil.move(log, made / f"result_{number}.txt")
    for place in (described, code, results):
        place.parent.mkdir(parents=True, exist_ok=True)
    (packed / SYSTEM).replace(described)
    for name in LEFT_OUT:
        (packed / name).unlink()
    packed.replace(code)
    try:
        made.replace(results)
    except OSError as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(code)
        raise KitError(f"{results}: cannot be made: {error.strerror}") from None
    return results


def in_order(packed: Path) -> list[Path]:
    """The logs of a submission by their numbers, which begin at 1; MLPerf's begin at 0."""
    return sorted(packed.glob(LOGS), key=lambda path: int(path.stem.removeprefix("result-")))
