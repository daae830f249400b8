"""relion-5: RELION 5.1 as Debian builds it (plain CPU code, double precision): what laboratories run now."""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, shell

from kit.images.recipes import parts

NAME = "relion-5"
VERSION = "5.1.0"
DESCRIPTION = "RELION 5.1.0, plain CPU build of Debian unstable in double precision, with CTFFIND 4.1.14"
LICENSES = "GPL-2.0-or-later AND LicenseRef-Janelia-1.2"
SUITE = "sid"
DEVICE: parts.Device = "cpu"
MPI = "openmpi"
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (f"{FOLDER}/selftest.sh", parts.RANKS)
TEST = "/opt/kit/selftest.sh"
TESTED = False
BUILD_MINUTES = 4
MEGABYTES = 350
SOURCES: tuple[dict[str, str], ...] = (parts.CTFFIND,)
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem

# A mirror's snapshot of unstable is older than its Release file allows.
NO_DATE = "echo 'Acquire::Check-Valid-Until \"false\";' > /etc/apt/apt.conf.d/99no-date"


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    final += comment("RELION's Python helpers (Topaz, Blush, ModelAngelo) are not in Debian's package, and not here")
    packages = "'relion=5.1.0*' ghostscript libfftw3-single3 libtiff6 libwxbase3.2-1t64"
    final += shell(commands=[NO_DATE, *parts.install(packages), *parts.CLEAN])
    final += copy(_from="ctffind", src="/opt/ctffind/bin/ctffind", dest="/usr/local/bin/ctffind")
    final += parts.copy_ranks()
    final += copy(src=f"{FOLDER}/selftest.sh", dest="/opt/kit/selftest.sh")
    final += parts.relion_environment()
    # CTFFIND of Debian 13 runs here: the C library of unstable is newer.
    return [parts.ctffind("trixie", base, "libwxgtk3.2-dev"), parts.ranks(SUITE, base, [NO_DATE]), final]
