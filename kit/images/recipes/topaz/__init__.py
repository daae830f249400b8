"""topaz: the particle picker Topaz with its pretrained networks, on Debian's own PyTorch (CPU)."""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, comment, copy, environment, shell

from kit.images.recipes import parts

NAME = "topaz"
VERSION = "0.3.20"
DESCRIPTION = "Topaz 0.3.20 with its pretrained pickers, over Debian's PyTorch (CPU)"
LICENSES = "GPL-3.0-or-later AND BSD-3-Clause"
SUITE = "bookworm"
DEVICE: parts.Device = "cpu"
MPI = ""
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (
    parts.CERTIFICATES,
    parts.INVENTORY,
    f"{FOLDER}/requirements.txt",
    f"{FOLDER}/selftest.sh",
)
TEST = "/opt/kit/selftest.sh"
TESTED = False
BUILD_MINUTES = 4
MEGABYTES = 600
SOURCES: tuple[dict[str, str], ...] = ()
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem

# Debian's PyTorch brings the compiler and headers that extensions of it are built with; nothing here builds any.
NO_BUILD_TOOLS = (
    "dpkg-query -W -f '${Package}\\n' | grep -E '^(g[+][+]|gcc|cpp|binutils.*|libtorch-test)(-[0-9]+)?$|-dev$' "
    "| xargs dpkg --purge --force-depends",
    "find /usr/include -mindepth 1 -delete",
    "find /usr/lib -name '*.a' -delete",
)


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    build = hpccm.Stage()
    build += baseimage(image=f"debian:{SUITE}-slim", _as="build", **base)
    build += shell(commands=parts.install("ca-certificates python3-venv"))
    build += comment(
        "Sites whose network re-signs TLS put their authority's .crt here while building; it stays in this stage"
    )
    build += copy(src=parts.CERTIFICATES, dest="/usr/local/share/ca-certificates/site")
    build += copy(src=f"{FOLDER}/requirements.txt", dest="/opt/build/requirements.txt")
    build += copy(src=parts.INVENTORY, dest="/opt/build/inventory.py")
    build += comment("The denoisers are not picking")
    build += shell(
        commands=[
            "update-ca-certificates",
            "python3 -m venv --system-site-packages /opt/venv",
            "PIP_CERT=/etc/ssl/certs/ca-certificates.crt /opt/venv/bin/pip install --no-cache-dir --no-deps "
            "--require-hashes -r /opt/build/requirements.txt",
            "/opt/venv/bin/python3 /opt/build/inventory.py | grep '^topaz' > /opt/venv/inventory.tsv",
            "/opt/venv/bin/pip uninstall -y setuptools pip",
            "rm -rf /opt/venv/lib/python3.11/site-packages/topaz/pretrained/denoise",
            "find /opt/venv -type d -name __pycache__ -prune -exec rm -rf {} +",
        ]
    )
    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    packages = "python3 python3-h5py python3-pandas python3-pil python3-scipy python3-torch python3-tqdm"
    final += shell(commands=[*parts.install(packages), *NO_BUILD_TOOLS, *parts.CLEAN])
    final += copy(_from="build", src="/opt/venv", dest="/opt/venv")
    final += copy(src=f"{FOLDER}/selftest.sh", dest="/opt/kit/selftest.sh")
    final += comment("Packages of the user's home must not shadow those of the image")
    final += environment(variables={**parts.PYTHON_ENVIRONMENT, "TQDM_DISABLE": "1"})
    return [build, final]
