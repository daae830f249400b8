"""cloudmask-keras: CloudMask on today's TensorFlow and Keras 3, without Horovod, in one process.

It keeps the benchmark alive where Horovod no longer builds: the same code and the same network, backend `single`.
"""

from __future__ import annotations

from typing import Any

from hpccm.primitives import comment

from kit.images.recipes import cloudmask, parts

NAME = "cloudmask-keras"
VERSION = "2.21.0"
DESCRIPTION = "TensorFlow 2.21.0 (CPU) with Keras 3, without Horovod: the CloudMask benchmark in one process"
LICENSES = "Apache-2.0 AND BSD-3-Clause"
SUITE = "trixie"
FOLDER = parts.folder(__name__)
CONTEXT = (
    *(entry for entry in cloudmask.CONTEXT if not entry.endswith(("requirements.txt", "horovod.txt", "selftest.sh"))),
    f"{FOLDER}/requirements.txt",
    f"{FOLDER}/selftest.sh",
)
TEST = "/opt/kit/selftest.sh"
BUILD_MINUTES = 5
SOURCES = ()


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    build = cloudmask.packages_stage(
        base, SUITE, f"{FOLDER}/requirements.txt", tools="binutils ca-certificates python3-venv"
    )
    build += comment("Headers, tests and what only installs go before the environment is copied")
    build += cloudmask.tidy("python3.13")
    final = cloudmask.final_stage(base, f"{FOLDER}/selftest.sh", SUITE, packages="python3", variables={})
    return [build, final]
