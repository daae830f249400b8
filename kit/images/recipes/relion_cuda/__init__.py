"""relion-cuda: RELION 3.1.3 built from source for NVIDIA GPUs; it builds and passes its self-test without one.

Debian 12, because its CUDA 11.8 still knows Volta and already knows Hopper, and its GCC 11 is the newest that this CUDA
takes. Precision is that of the other variants: double, and single in the accelerated kernels.
"""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, shell

from kit.images.recipes import parts

NAME = "relion-cuda"
VERSION = "3.1.3"
DESCRIPTION = "RELION 3.1.3 for NVIDIA GPUs (CUDA 11.8), built from source, with CTFFIND 4.1.14"
LICENSES = "GPL-2.0-or-later AND LicenseRef-Janelia-1.2 AND LicenseRef-NVIDIA-CUDA-EULA"
SUITE = "bookworm"
DEVICE: parts.Device = "cuda"
MPI = "openmpi"
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (f"{FOLDER}/patch.sh", f"{FOLDER}/selftest.sh", parts.RANKS)
TEST = "/opt/kit/selftest.sh"
TESTED = False
BUILD_MINUTES = 40
MEGABYTES = 1500
SOURCES: tuple[dict[str, str], ...] = (parts.RELION, parts.CTFFIND)
# Compute capabilities: Volta, Turing, Ampere (A100, A40), Ada, Hopper.
ARGUMENTS: dict[str, parts.Argument] = {
    "architectures": parts.Argument(
        ("70,75,80,86,89,90", "70", "75", "80", "86", "89", "90"),
        "compute capabilities to build device code for, comma-separated",
        several=True,
    ),
}
problem = parts.no_problem

# CUDA is in Debian's non-free component, on the same mirrors.
NON_FREE = (
    "apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) contrib non-free' 'Created-By: Packages' 'Component: main' "
    "| sort -u > /etc/apt/sources.list.d/non-free.list"
)


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    wanted = arguments["architectures"].split(",")
    generate = " ".join(f"-gencode=arch=compute_{a},code=sm_{a}" for a in wanted)
    build = hpccm.Stage()
    build += baseimage(image=f"debian:{SUITE}-slim", _as="relion", **base)
    tools = (
        "cmake dpkg-dev g++ g++-11 ninja-build libopenmpi-dev libfftw3-dev libtiff-dev libpng-dev zlib1g-dev "
        "nvidia-cuda-toolkit"
    )
    build += shell(commands=["apt-get update", NON_FREE, *parts.install(tools), *parts.SOURCES])
    build += shell(commands=parts.fetch(parts.RELION, "/usr/src/relion"))
    build += copy(src=f"{FOLDER}/patch.sh", dest="/opt/build/patch.sh")
    build += shell(commands=["/opt/build/patch.sh /usr/src/relion"])
    build += shell(
        commands=[
            "cmake -G Ninja -S /usr/src/relion -B /usr/src/build -DCMAKE_INSTALL_PREFIX=/opt/relion "
            "-DCUDA=ON -DCUDA_HOST_COMPILER=/usr/bin/g++-11 -DGUI=OFF -DDoublePrec_CPU=ON -DDoublePrec_ACC=OFF "
            "-DBUILD_SHARED_LIBS=ON -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE='-O2 -DNDEBUG' "
            f"-DCMAKE_C_FLAGS=-w -DCMAKE_CXX_FLAGS=-w -DCUDA_ARCH='{generate}'",
            "ninja -C /usr/src/build",
            "ninja -C /usr/src/build install > /dev/null",
            parts.strip_binaries("/opt/relion"),
        ]
    )
    build += comment("The device code that was asked for is in the library, or the build ends here")
    build += shell(
        commands=[
            "cuobjdump --list-elf /opt/relion/lib/librelion_gpu_util.so | grep -o 'sm_[0-9]*' | sort -u "
            "> /opt/relion/architectures.txt",
            f'for a in {" ".join(wanted)}; do grep -qx "sm_$a" /opt/relion/architectures.txt || '
            '{ echo "no device code for sm_$a"; exit 1; }; done',
        ]
    )

    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    final += comment("Only what runs; the driver's libraries come from the host, with --nv or --gpus")
    packages = (
        "libopenmpi3 openmpi-bin libfftw3-double3 libfftw3-single3 libtiff6 libpng16-16 libgomp1 libcufft10 libcurand10 "
        "libcudart11.0 ghostscript libwxbase3.2-1"
    )
    final += shell(commands=["apt-get update", NON_FREE, *parts.install(packages), *parts.CLEAN])
    final += copy(_from="relion", src="/opt/relion", dest="/opt/relion")
    final += copy(_from="ctffind", src="/opt/ctffind/bin/ctffind", dest="/usr/local/bin/ctffind")
    final += parts.copy_ranks()
    final += copy(src=f"{FOLDER}/selftest.sh", dest="/opt/kit/selftest.sh")
    final += parts.relion_environment(
        PATH=parts.RELION_PATH,
        NVIDIA_VISIBLE_DEVICES="all",
        NVIDIA_DRIVER_CAPABILITIES="compute,utility",
    )
    return [parts.ctffind(SUITE, base, "libwxgtk3.2-dev"), parts.ranks(SUITE, base), build, final]
