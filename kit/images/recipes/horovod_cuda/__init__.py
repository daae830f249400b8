"""horovod-cuda: Horovod and TensorFlow on NVIDIA GPUs, with CUDA, cuDNN and NCCL as PyPI packages them.

It builds without a GPU. TensorFlow finds these packages by itself. Horovod is built against the same NCCL; its few device
functions are compiled by Debian's CUDA 11.8 compiler, linked statically to its runtime, for the driver of the node.
"""

from __future__ import annotations

from typing import Any

from kit.images.recipes import horovod, parts, relion_cuda

NAME = "horovod-cuda"
VERSION = "0.28.1"
DESCRIPTION = "Horovod 0.28.1 with NCCL and TensorFlow 2.15.1 with CUDA 12.2 over Open MPI 4.1, with the stages of the kit"
LICENSES = "Apache-2.0 AND BSD-3-Clause AND LicenseRef-NVIDIA-CUDA-EULA"
SUITE = horovod.SUITE
DEVICE: parts.Device = "cuda"
MPI = "openmpi"
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (
    *(entry for entry in horovod.CONTEXT if not entry.endswith(("requirements.txt", "selftest.sh"))),
    f"{FOLDER}/requirements.txt",
    f"{FOLDER}/selftest.sh",
)
TEST = "/opt/kit/selftest.sh"
TESTED = False
BUILD_MINUTES = 25
MEGABYTES = 4000
SOURCES: tuple[dict[str, str], ...] = ()
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem

NCCL = "/opt/venv/lib/python3.11/site-packages/nvidia/nccl"


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    build = horovod.environment_stage(
        base,
        folder=FOLDER,
        before=[relion_cuda.NON_FREE, *parts.install("g++-11 nvidia-cuda-toolkit")],
        horovod=[
            # The package carries the library by its version only; who links to it asks for the plain name.
            f"ln -s libnccl.so.2 {NCCL}/lib/libnccl.so",
            f"export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_HOME={NCCL} HOROVOD_NCCL_LINK=SHARED HOROVOD_CUDA_HOME=/usr",
            f"export HOROVOD_BUILD_CUDA_CC_LIST={relion_cuda.ARGUMENTS['architectures'].known[0]}",
            # The newest compiler that this CUDA takes.
            "export CC=gcc-11 CXX=g++-11 CUDAHOSTCXX=g++-11",
        ],
    )
    final = horovod.final_stage(
        base,
        selftest=f"{FOLDER}/selftest.sh",
        variables={
            **horovod.MPI_ENVIRONMENT,
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "LD_LIBRARY_PATH": f"{NCCL}/lib",
        },
    )
    final += parts.copy_ranks()
    return [build, parts.ranks(SUITE, base), final]
