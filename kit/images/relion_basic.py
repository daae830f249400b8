"""relion-basic: RELION 3.1.3 as Debian 13 builds it (plain CPU code, double precision), with a CTFFIND that works."""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, environment, shell

NAME = "relion-basic"
VERSION = "3.1.3"
DESCRIPTION = "RELION 3.1.3, plain CPU build of Debian 13 in double precision, with CTFFIND 4.1.14"
LICENSES = "GPL-2.0-or-later AND LicenseRef-Janelia-1.2"
SUITE = "trixie"
CONTEXT = ("containers/relion-basic/selftest.sh",)
TEST = "/opt/kit/selftest.sh"
BUILD_MINUTES = 3

CTFFIND_SHA256 = "5f3eee53267fd1897cc1748d2154f7352452e881bcffd07d049d39a3c3b373b5"


def stages(base: dict[str, Any]) -> list[Any]:
    build = hpccm.Stage()
    build += baseimage(image=f"debian:{SUITE}-slim", _as="build", **base)
    build += comment(
        "Debian's own ctffind 4.1.14 hangs or crashes, so it is built from the upstream source that Debian keeps"
    )
    build += shell(
        commands=[
            "apt-get update",
            "apt-get install -y --no-install-recommends dpkg-dev g++ make libfftw3-dev libtiff-dev libwxgtk3.2-dev",
            "apt-get indextargets --format 'deb-src $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' "
            "| sort -u > /etc/apt/sources.list.d/source.list",
            "apt-get update",
        ]
    )
    build += shell(
        commands=[
            "mkdir -p /usr/src/ctffind",
            "cd /usr/src/ctffind",
            'uri=$(apt-get source --print-uris ctffind | grep -o "http[^\']*ctffind_4.1.14.orig.tar.gz")',
            f"/usr/lib/apt/apt-helper download-file $uri orig.tar.gz SHA256:{CTFFIND_SHA256}",
            "tar -xf orig.tar.gz --strip-components=1",
        ]
    )
    build += comment(
        "Two functions are declared bool and return nothing, which today's compilers turn into a crash; "
        "the instruction set of the building machine must not leak into the image"
    )
    build += shell(
        commands=[
            "cd /usr/src/ctffind",
            "sed -i -E 's/^bool (ComputeRotationalAverageOfPowerSpectrum|RescaleSpectrumAndRotationalAverage)/void \\1/' "
            "src/programs/ctffind/ctffind.cpp",
            "./configure --disable-debugmode --disable-latest-instruction-set CXXFLAGS='-O2 -fpermissive -w'",
            "make -j $(nproc)",
            "install -D -s ctffind /opt/ctffind/bin/ctffind",
        ]
    )

    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    final += comment(
        "Only what runs: RELION with its Open MPI, ghostscript for RELION's PDF summaries, the libraries of CTFFIND"
    )
    final += shell(
        commands=[
            "apt-get update",
            "apt-get install -y --no-install-recommends 'relion=3.1.3-4*' ghostscript "
            "libfftw3-single3 libtiff6 libwxbase3.2-1t64",
            "rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*",
        ]
    )
    final += copy(_from="build", src="/opt/ctffind/bin/ctffind", dest="/usr/local/bin/ctffind")
    final += copy(src="containers/relion-basic/selftest.sh", dest="/opt/kit/selftest.sh")
    final += comment("RELION starts CTFFIND through csh unless told otherwise; containers are often entered as root")
    final += environment(
        variables={
            "LC_ALL": "C.UTF-8",
            "RELION_SHELL": "sh",
            "RELION_CTFFIND_EXECUTABLE": "/usr/local/bin/ctffind",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
    )
    return [build, final]
