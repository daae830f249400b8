"""ccpem-pipeliner as the engine of a project: it finds RELION's programs on the PATH, where wrappers start the container.

It reads a job's job.star by the rules of RELION 4 and 5, so what this project's RELION has otherwise is restated for it
while it runs; ccpem_driver.py compares the commands that come of it with RELION's own before anything starts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kit import __version__
from kit.core import paths
from kit.core.errors import KitError

LOG = ".kit/ccpem.log"  # of a project: what the pipeliner printed
# Options that RELION 4 and 5 have on by default and 3.1 does not know, by the type of the job.
RESTATED = {"motioncorr": {"do_float16": "No"}, "extract": {"do_float16": "No"}, "class2d": {"do_center": "No"}}
WRAPPER = """#!/bin/sh
# Starts a program of the image; inside it, where mpirun starts ranks by this path, the program itself.
program=$(basename "$0")
[ -z "$APPTAINER_CONTAINER$SINGULARITY_CONTAINER" ] || exec "$program" "$@"
exec {container} "$program" "$@"
"""


def interpreter() -> str:
    """The Python that has ccpem-pipeliner: this one, or $KIT_CCPEM_PYTHON; KitError where there is none."""
    other = os.environ.get("KIT_CCPEM_PYTHON", "")
    if other and shutil.which(other) is None:
        raise KitError(f"KIT_CCPEM_PYTHON={other}: no such program")
    if not other and importlib.util.find_spec("pipeliner") is None:
        # The kit's name in a package registry is nobody's promise: it is installed from a checkout, or from a file.
        wheel = f"science_kit-{__version__}-py3-none-any.whl"
        source = f"-e '{paths.CHECKOUT}[ccpem]'" if paths.CHECKOUT else f"'{wheel}[ccpem]'"
        raise KitError(
            f"ccpem-pipeliner is not installed: {sys.executable} -m pip install {source}, "
            "or set KIT_CCPEM_PYTHON to a Python that has it"
        )
    return other or sys.executable


def restated(kind: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options of a job as the pipeliner has to read them to compose what RELION 3.1 composed."""
    found = {**options, **RESTATED.get(kind, {})}
    if kind in ("class3d", "refine3d") and options.get("skip_gridding") == "Yes":  # which later versions do not have
        found["other_args"] = f"{options.get('other_args', '')} --skip_gridding".strip()
    return found


def run(
    directory: Path,
    job: str,
    commands: Sequence[str],
    ranks: int,
    defaults: Mapping[str, Mapping[str, str]],
    container: Sequence[str],
    programs: Sequence[str],
) -> int:
    """Runs a job in the foreground and returns the pipeliner's exit code, which is no proof of success.

    KitError where the pipeliner would run another command than RELION; nothing ran then.
    """
    wrappers = directory / ".kit/ccpem"
    wrappers.mkdir(parents=True, exist_ok=True)
    for name in (*programs, "mpirun"):
        path = wrappers / name
        path.write_text(WRAPPER.format(container=shlex.join(container)))
        path.chmod(0o755)
    ctffind = re.search(r"--ctffind_exe (\S+)", " ".join(commands))
    environment = {
        **os.environ,
        "PATH": f"{wrappers}:{os.environ['PATH']}",
        "PIPELINER_MPIRUN_COMMAND": "mpirun --allow-run-as-root -n XXXmpinodesXXX --oversubscribe --bind-to none",
        **({"PIPELINER_CTFFIND_EXECUTABLE": ctffind[1]} if ctffind else {}),
    }
    result = subprocess.run(
        [interpreter(), str(Path(__file__).with_name("ccpem_driver.py")), job],
        cwd=directory,
        input=json.dumps({"commands": list(commands), "ranks": ranks, "defaults": defaults}),
        capture_output=True,
        text=True,
        env=environment,
    )
    with (directory / LOG).open("a") as log:
        log.write(result.stdout + result.stderr)
    if result.returncode == 3:
        raise KitError(
            f"{directory / job}: ccpem-pipeliner would not run what RELION would: {result.stderr.strip().splitlines()[-1]}; "
            "use the engine direct or relion_pipeliner for this job"
        )
    return result.returncode
