"""relion-accelerated: RELION 3.1.3 built from source for the vector units of AVX2 and AVX-512 processors.

Precision is RELION's own default, in all variants that the kit compares: double everywhere but in the accelerated
kernels, which are single. Projections and weights need no more than single precision (their inputs are images of 8 to
16 bits); Fourier transforms, reconstruction and the sums over all particles keep double, as in relion-basic.
"""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, shell

from kit.images.recipes import parts

NAME = "relion-accelerated"
VERSION = "3.1.3"
DESCRIPTION = "RELION 3.1.3 for AVX2 and AVX-512 processors, built from source, with CTFFIND 4.1.14"
LICENSES = "GPL-2.0-or-later AND LicenseRef-Janelia-1.2"
SUITE = "trixie"
DEVICE: parts.Device = "cpu"
MPI = "openmpi"
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (f"{FOLDER}/source", f"{FOLDER}/selftest.sh", parts.RANKS)
TEST = "/opt/kit/selftest.sh"
TESTED = True
BUILD_MINUTES = 13
MEGABYTES = 300
SOURCES: tuple[dict[str, str], ...] = (parts.RELION, parts.CTFFIND)
ARGUMENTS: dict[str, parts.Argument] = {
    "toolchain": parts.Argument(
        ("gcc", "clang", "oneapi"), "compiler: Debian's GCC or Clang, or Intel oneAPI from its own base image"
    ),
    "fft": parts.Argument(("fftw", "mkl"), "Fourier transforms: FFTW, or MKL with the toolchain oneapi"),
    "flags": parts.Argument(("-O2 -march=x86-64-v3",), "compiler flags of everything but the kernels", free=True),
}

# The C and the C++ compiler of each toolchain that is not Debian's default.
COMPILERS = {
    "clang": ("clang", "clang++"),
    "oneapi": ("/opt/intel/oneapi/compiler/latest/bin/icx", "/opt/intel/oneapi/compiler/latest/bin/icpx"),
}
ONEAPI = "intel/oneapi-hpckit:2025.1.0-0-devel-ubuntu24.04"


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    clang, oneapi = (arguments["toolchain"] == name for name in ("clang", "oneapi"))
    mkl = arguments["fft"] == "mkl"
    build = hpccm.Stage()
    build += baseimage(image=f"debian:{SUITE}-slim", _as="relion", **base)
    tools = "cmake dpkg-dev g++ ninja-build libopenmpi-dev libfftw3-dev libtbb-dev libtiff-dev libpng-dev zlib1g-dev"
    if clang:
        tools += " clang libomp-dev"
    build += shell(commands=[*parts.install(tools), *parts.SOURCES])
    build += shell(commands=parts.fetch(parts.RELION, "/usr/src/relion"))
    build += comment("Our own kernels, and where RELION hands over to them: each change is explained in patch.sh")
    build += copy(src=f"{FOLDER}/source", dest="/opt/build")
    build += shell(commands=["/opt/build/patch.sh /usr/src/relion /opt/build"])
    if oneapi:
        build += comment("The compilers of oneAPI beside Debian's libraries, so that the final stage is the same")
        build += copy(_from="oneapi", src="/opt/intel", dest="/opt/intel")
    prepare, options = [], ""
    if compilers := COMPILERS.get(
        arguments["toolchain"]
    ):  # RELION compiles with mpicxx, which asks these variables what to call
        prepare = ["export OMPI_CC={} OMPI_CXX={}".format(*compilers)]
        options = "-DCMAKE_C_COMPILER={} -DCMAKE_CXX_COMPILER={} ".format(*compilers)
    if mkl:
        prepare += ["export MKLROOT=/opt/intel/oneapi/mkl/latest"]
        options += "-DMKLFFT=ON "
    flags = arguments["flags"]
    build += comment("A shared library is compiled once for sixty programs; it finds itself beside them")
    build += shell(
        commands=[
            *prepare,
            "cmake -G Ninja -S /usr/src/relion -B /usr/src/build -DCMAKE_INSTALL_PREFIX=/opt/relion "
            "-DALTCPU=ON -DCUDA=OFF -DGUI=OFF -DDoublePrec_CPU=ON -DDoublePrec_ACC=OFF -DBUILD_SHARED_LIBS=ON "
            "-DCMAKE_POLICY_VERSION_MINIMUM=3.5 -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-DNDEBUG "
            f"{options}-DCMAKE_C_FLAGS='{flags} -w' -DCMAKE_CXX_FLAGS='{flags} -w'",
            "ninja -C /usr/src/build",
            "ninja -C /usr/src/build install > /dev/null",
            parts.strip_binaries("/opt/relion"),
        ]
    )

    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    final += comment("Only what runs; the same libraries as relion-basic, and oneTBB")
    packages = (
        "libopenmpi40 openmpi-bin libfftw3-double3 libfftw3-single3 libtbb12 libtiff6 libpng16-16t64 libgomp1 "
        "ghostscript libwxbase3.2-1t64"
    )
    if clang:
        packages += " libomp5"
    final += shell(commands=[*parts.install(packages), *parts.CLEAN])
    final += copy(_from="relion", src="/opt/relion", dest="/opt/relion")
    if oneapi:
        final += copy(_from="relion", src="/opt/intel/oneapi/compiler/latest/lib", dest="/opt/intel/lib")
        if mkl:
            final += copy(_from="relion", src="/opt/intel/oneapi/mkl/latest/lib", dest="/opt/intel/mkl/lib")
    final += copy(_from="ctffind", src="/opt/ctffind/bin/ctffind", dest="/usr/local/bin/ctffind")
    final += parts.copy_ranks()
    final += copy(src=f"{FOLDER}/selftest.sh", dest="/opt/kit/selftest.sh")
    libraries = {"LD_LIBRARY_PATH": "/opt/intel/lib:/opt/intel/mkl/lib"} if oneapi else {}
    final += parts.relion_environment(PATH=parts.RELION_PATH, **libraries)
    first = []
    if oneapi:
        intel = hpccm.Stage()
        intel += baseimage(image=ONEAPI, _as="oneapi", _distro="ubuntu24", **base)
        first = [intel]
    return [*first, parts.ctffind(SUITE, base, "libwxgtk3.2-dev"), parts.ranks(SUITE, base), build, final]


def problem(arguments: dict[str, str]) -> str | None:
    if arguments["fft"] == "mkl" and arguments["toolchain"] != "oneapi":
        return "fft=mkl needs toolchain=oneapi, whose base image carries MKL"
    return None
