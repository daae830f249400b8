"""relion-basic: RELION 3.1.3 as Debian 13 builds it (plain CPU code, double precision), with a CTFFIND that works."""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, shell

from kit.images.recipes import parts

NAME = "relion-basic"
VERSION = "3.1.3"
DESCRIPTION = "RELION 3.1.3, plain CPU build of Debian 13 in double precision, with CTFFIND 4.1.14"
LICENSES = "GPL-2.0-or-later AND LicenseRef-Janelia-1.2"
SUITE = "trixie"
DEVICE: parts.Device = "cpu"
MPI = "openmpi"
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (f"{FOLDER}/selftest.sh", parts.RANKS)
TEST = "/opt/kit/selftest.sh"
TESTED = True
BUILD_MINUTES = 3
MEGABYTES = 250
SOURCES: tuple[dict[str, str], ...] = (parts.CTFFIND,)
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    final += comment(
        "Only what runs: RELION with its Open MPI, ghostscript for RELION's PDF summaries, the libraries of CTFFIND"
    )
    packages = "'relion=3.1.3-4*' ghostscript libfftw3-single3 libtiff6 libwxbase3.2-1t64"
    final += shell(commands=[*parts.install(packages), *parts.CLEAN])
    final += copy(_from="ctffind", src="/opt/ctffind/bin/ctffind", dest="/usr/local/bin/ctffind")
    final += parts.copy_ranks()
    final += copy(src=f"{FOLDER}/selftest.sh", dest="/opt/kit/selftest.sh")
    final += parts.relion_environment()
    return [parts.ctffind(SUITE, base, "libwxgtk3.2-dev"), parts.ranks(SUITE, base), final]
