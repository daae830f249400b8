"""Shared parts of recipes: fetching a Debian source, CTFFIND, kit-ranks, RELION's environment, cleaning up after apt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import hpccm
from hpccm.primitives import baseimage, comment, copy, environment, shell


@dataclass(frozen=True)
class Argument:
    """A choice that a recipe leaves open. The first of `known` is the default; `several` takes a comma-separated list of
    them, `free` any text."""

    known: tuple[str, ...]
    help: str
    several: bool = False
    free: bool = False


Device = Literal["cpu", "cuda", "rocm"]


def no_problem(arguments: dict[str, str]) -> str | None:
    """The `problem` of a recipe whose arguments all go together."""
    return None


def folder(module: str) -> str:
    """The folder of a recipe's module, as COPY names it: from the folder that holds the package."""
    return module.replace(".", "/")


# Files that several images copy in.
CERTIFICATES = "kit/images/certificates"
INVENTORY = "kit/images/recipes/inventory.py"
RANKS = "kit/images/recipes/ranks.c"

# Documentation goes, the licences stay: the image has to carry them. Caches go: they are what two builds differ in.
CLEAN = [
    "find /usr/share/doc -type f ! -name copyright -delete",
    "rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* "
    "/usr/share/man/* /usr/share/locale/* /usr/share/info/*",
]

CTFFIND_SHA256 = "5f3eee53267fd1897cc1748d2154f7352452e881bcffd07d049d39a3c3b373b5"
RELION_SHA256 = "f10934058e0670807b7004899d7b5103c21ad77841219352c66a33f98586d42e"
# For a RELION built from source, which is in /opt/relion.
RELION_PATH = "/opt/relion/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# For Python packages in /opt/venv. Those of the user's home must not shadow them.
PYTHON_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PATH": "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
RELION_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "RELION_SHELL": "sh",
    "RELION_CTFFIND_EXECUTABLE": "/usr/local/bin/ctffind",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def source(name: str, version: str, sha256: str, license: str) -> dict[str, str]:
    """A program built from source, for the inventory; `sha256` of the upstream archive that Debian keeps."""
    return {"name": name, "version": version, "sha256": sha256, "license": license}


CTFFIND = source("ctffind", "4.1.14", CTFFIND_SHA256, "LicenseRef-Janelia-1.2")
RELION = source("relion", "3.1.3", RELION_SHA256, "GPL-2.0-or-later")


def install(packages: str, options: str = "") -> list[str]:
    return ["apt-get update", f"apt-get install -y --no-install-recommends {options}{packages}"]


def strip_binaries(folder: str, which: str = "-type f") -> str:
    """Shell that strips programs and libraries. It may meet files that are neither; nothing before it may fail so."""
    return f"{{ find {folder} {which} -exec strip --strip-unneeded {{}} + 2> /dev/null || true; }}"


def fetch(program: dict[str, str], folder: str) -> list[str]:
    """Shell that unpacks the upstream source of a Debian package; a wrong checksum ends the build with both sums."""
    archive = f"{program['name']}_{program['version']}.orig.tar.gz"
    return [
        f"mkdir -p {folder}",
        f"cd {folder}",
        f'uri=$(apt-get source --print-uris {program["name"]} | grep -o "http[^\']*/{archive}")',
        f'/usr/lib/apt/apt-helper download-file "$uri" orig.tar.gz SHA256:{program["sha256"]}',
        "tar -xf orig.tar.gz --strip-components=1",
    ]


# For mirrors that carry sources, the same repositories are asked for them.
SOURCES = [
    "apt-get indextargets --format 'deb-src $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' "
    "| sort -u > /etc/apt/sources.list.d/source.list",
    "apt-get update",
]

# Debian 12 has no source package of CTFFIND; Debian 13 has it on the same mirrors.
SOURCES_OF_TRIXIE = [line.replace("$(CODENAME) $(COMPONENT)", "trixie main") for line in SOURCES]


def ctffind(suite: str, base: dict[str, Any], wxwidgets: str) -> Any:
    """A stage that leaves /opt/ctffind/bin/ctffind."""
    sources = SOURCES if suite == "trixie" else SOURCES_OF_TRIXIE
    stage = hpccm.Stage()
    stage += baseimage(image=f"debian:{suite}-slim", _as="ctffind", **base)
    stage += comment(
        "Debian's own ctffind 4.1.14 hangs or crashes, so it is built from the upstream source that Debian keeps"
    )
    stage += shell(commands=[*install(f"dpkg-dev g++ make libfftw3-dev libtiff-dev {wxwidgets}"), *sources])
    stage += shell(commands=fetch(CTFFIND, "/usr/src/ctffind"))
    stage += comment(
        "Two functions are declared bool and return nothing, which today's compilers turn into a crash; "
        "the instruction set of the building machine must not leak into the image"
    )
    stage += shell(
        commands=[
            "cd /usr/src/ctffind",
            "sed -i -E 's/^bool (ComputeRotationalAverageOfPowerSpectrum|RescaleSpectrumAndRotationalAverage)/void \\1/' "
            "src/programs/ctffind/ctffind.cpp",
            "./configure --disable-debugmode --disable-latest-instruction-set CXXFLAGS='-O2 -fpermissive -w'",
            'make -j "$(nproc)"',
            "install -D -s ctffind /opt/ctffind/bin/ctffind",
        ]
    )
    return stage


def ranks(suite: str, base: dict[str, Any], before: Sequence[str] = ()) -> Any:
    """A stage that leaves kit-ranks, built against the Open MPI of that suite, with which the image runs. `before` runs
    ahead of its packages. A stage of its own: nothing that takes long is built again when the program changes."""
    stage = hpccm.Stage()
    stage += baseimage(image=f"debian:{suite}-slim", _as="ranks", **base)
    stage += comment("Looks at the ranks of a job before the work begins; what it refuses is in ranks.c")
    stage += shell(commands=[*before, *install("gcc libc6-dev libopenmpi-dev")])
    stage += copy(src=RANKS, dest="/usr/src/ranks.c")
    stage += shell(commands=["mpicc -std=gnu17 -O2 -s /usr/src/ranks.c -o /usr/local/bin/kit-ranks"])
    return stage


def copy_ranks() -> Any:
    """Takes kit-ranks into the image from its stage."""
    return copy(_from="ranks", src="/usr/local/bin/kit-ranks", dest="/usr/local/bin/kit-ranks")


def relion_environment(**more: str) -> list[Any]:
    return [
        comment("RELION starts CTFFIND through csh unless told otherwise; containers are often entered as root"),
        environment(variables={**RELION_ENVIRONMENT, **more}),
    ]
