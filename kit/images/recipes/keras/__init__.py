"""keras: today's TensorFlow and Keras 3, without Horovod, for a training in one process.

It keeps the benchmarks alive where Horovod no longer builds: the same code and the same networks, backend `single`.
"""

from __future__ import annotations

from typing import Any

from hpccm.primitives import comment

from kit.images.recipes import horovod, parts

NAME = "keras"
VERSION = "2.21.0"
DESCRIPTION = "TensorFlow 2.21.0 (CPU) with Keras 3, without Horovod, with the stages of the kit in one process"
LICENSES = "Apache-2.0 AND BSD-3-Clause"
SUITE = "trixie"
DEVICE: parts.Device = "cpu"
MPI = ""
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (
    *(
        entry
        for entry in horovod.CONTEXT
        if not entry.endswith(("requirements.txt", "horovod.txt", "selftest.sh", "ranks.c"))
    ),
    f"{FOLDER}/requirements.txt",
    f"{FOLDER}/selftest.sh",
)
TEST = "/opt/kit/selftest.sh"
TESTED = False
BUILD_MINUTES = 5
MEGABYTES = 700
SOURCES: tuple[dict[str, str], ...] = ()
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    build = horovod.packages_stage(base, SUITE, f"{FOLDER}/requirements.txt", tools="binutils ca-certificates python3-venv")
    build += comment("Headers, tests and what only installs go before the environment is copied")
    build += horovod.tidy("python3.13")
    final = horovod.final_stage(base, f"{FOLDER}/selftest.sh", SUITE, packages="python3", variables={})
    return [build, final]
