"""horovod: TensorFlow 2.15.1 and Horovod 0.28.1 over Open MPI on Debian 12, with the stages of the kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, environment, shell

from kit.images.recipes import parts

NAME = "horovod"
VERSION = "0.28.1"
DESCRIPTION = "Horovod 0.28.1 and TensorFlow 2.15.1 (CPU) over Open MPI 4.1, with the stages of the kit"
LICENSES = "Apache-2.0 AND BSD-3-Clause"
SUITE = "bookworm"
DEVICE: parts.Device = "cpu"
MPI = "openmpi"
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (
    parts.CERTIFICATES,
    f"{FOLDER}/requirements.txt",
    f"{FOLDER}/horovod.txt",
    parts.INVENTORY,
    parts.RANKS,
    f"{FOLDER}/selftest.sh",
    "kit/__init__.py",
    # What runs inside, of every benchmark; what judges it on the login node changes no image.
    "kit/stages/**/*.py",
)
TEST = "/opt/kit/selftest.sh"
TESTED = True
BUILD_MINUTES = 9
MEGABYTES = 700
SOURCES: tuple[dict[str, str], ...] = ()
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem

# Bytecode is written once, when all is there that stays.
PIP = "pip install --no-cache-dir --no-compile"
MPI_ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    final = final_stage(base)
    final += parts.copy_ranks()
    return [environment_stage(base), parts.ranks(SUITE, base), final]


def environment_stage(
    base: dict[str, Any], folder: str = FOLDER, before: Sequence[str] = (), horovod: Sequence[str] = ()
) -> Any:
    """A stage that leaves /opt/venv with Horovod in it. `folder` holds requirements.txt; `before` runs ahead of it,
    `horovod` ahead of the build of Horovod, in the same shell."""
    tools = "ca-certificates cmake g++ libopenmpi-dev make python3-dev python3-venv"
    build = packages_stage(base, SUITE, f"{folder}/requirements.txt", tools, before, [f"{FOLDER}/horovod.txt"])
    build += comment("Horovod is built against the TensorFlow and the Open MPI that it will run with")
    build += shell(
        commands=[
            "export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_MPI=1",
            # Gloo, which no launcher of the kit uses, would be compiled twice: for itself and in the C++ of TensorFlow.
            "export HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_GLOO=1",
            *horovod,
            # Otherwise make would be told -j8, whatever the machine.
            'MAKEFLAGS="-j$(nproc)"',
            'export MAKEFLAGS PATH="/opt/venv/bin:$PATH" PIP_CERT=/etc/ssl/certs/ca-certificates.crt',
            f"{PIP} --no-build-isolation --no-deps --require-hashes -r /opt/build/horovod.txt",
        ]
    )
    build += comment("Build tools, headers, tests and Horovod's build log go before the environment is copied")
    build += tidy("python3.11")
    return build


def packages_stage(
    base: dict[str, Any], suite: str, requirements: str, tools: str, before: Sequence[str] = (), more: Sequence[str] = ()
) -> Any:
    """A stage with the Python packages of `requirements` in /opt/venv; `more` files lie in /opt/build beside it."""
    build = hpccm.Stage()
    build += baseimage(image=f"debian:{suite}-slim", _as="build", **base)
    build += shell(commands=[*parts.install(tools), *before])
    build += comment(
        "Sites whose network re-signs TLS put their authority's .crt here while building; it stays in this stage"
    )
    build += copy(src=parts.CERTIFICATES, dest="/usr/local/share/ca-certificates/site")
    for file in (requirements, *more, parts.INVENTORY):
        build += copy(src=file, dest=f"/opt/build/{file.rsplit('/', 1)[1]}")
    build += comment("Every Python package by version and checksum")
    build += shell(
        commands=[
            "update-ca-certificates",
            "python3 -m venv /opt/venv",
            f"PIP_CERT=/etc/ssl/certs/ca-certificates.crt /opt/venv/bin/{PIP} --require-hashes "
            "-r /opt/build/requirements.txt",
        ]
    )
    return build


def tidy(python: str) -> Any:
    """Takes from /opt/venv what only builds need, having written down what is there, and compiles what stays.

    Without bytecode, each rank of each stage would compile some 2,900 modules of TensorFlow before its first line. It is
    bound to no time of a file, so that no copy of the image makes it stale; and written in order, so that it is the same in
    two builds.
    """
    return shell(
        commands=[
            "/opt/venv/bin/pip uninstall -y libclang",
            "/opt/venv/bin/python3 /opt/build/inventory.py > /opt/venv/inventory.tsv",
            "/opt/venv/bin/pip uninstall -y setuptools wheel pip",
            f"cd /opt/venv/lib/{python}/site-packages",
            "rm -rf tensorflow/include",
            "find /opt/venv -name '*.a' -delete",
            "find /opt/venv -type d \\( -name tests -o -name __pycache__ \\) -prune -exec rm -rf {} +",
            # Stripped, cuDNN's libraries no longer load: "ELF load command address/offset not page-aligned".
            parts.strip_binaries("/opt/venv", "-name '*.so*' ! -path '*/nvidia/*'"),
            "/opt/venv/bin/python3 -m compileall -q --invalidation-mode unchecked-hash "
            f"/opt/venv/lib/{python}/site-packages",
        ]
    )


def final_stage(
    base: dict[str, Any],
    selftest: str = f"{FOLDER}/selftest.sh",
    suite: str = SUITE,
    packages: str = "libopenmpi3 openmpi-bin python3 python3-distutils",
    variables: Mapping[str, str] = MPI_ENVIRONMENT,
) -> Any:
    """Only what runs: `packages` of Debian, /opt/venv, and the code of the stages."""
    final = hpccm.Stage()
    final += baseimage(image=f"debian:{suite}-slim", **base)
    final += shell(commands=[*parts.install(packages), *parts.CLEAN])
    final += copy(_from="build", src="/opt/venv", dest="/opt/venv")
    final += copy(src=selftest, dest="/opt/kit/selftest.sh")
    final += copy(src="kit/__init__.py", dest="/opt/kit/python/kit/__init__.py")
    final += copy(src="kit/stages", dest="/opt/kit/python/kit/stages")
    final += comment("Packages of the user's home must not shadow those of the image")
    final += environment(
        variables={
            **parts.PYTHON_ENVIRONMENT,
            "PYTHONPATH": "/opt/kit/python",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **variables,
        }
    )
    return final
