"""podman-hpc, NERSC's Podman: images of Docker, squashed for compute nodes, which ranks of the site's launcher enter.

Load the image once: docker save IMAGE | podman-hpc load, then podman-hpc migrate IMAGE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kit.images.render import Image

if TYPE_CHECKING:  # HPCCM takes its time to load
    from kit.images.recipes.parts import Device

# Its modules: what lets the programs of an image see the GPUs. It has none for those of AMD.
DEVICES: dict[Device, list[str]] = {"cpu": [], "cuda": ["--gpu"], "rocm": []}


def facts(image: Image) -> dict[str, str]:
    return {}


def problem(image: Image, machine: Mapping[str, str]) -> str:
    return "" if not machine else "nothing is needed"


def command(
    image: Image,
    binds: Sequence[str],
    environment: Mapping[str, str],
    args: Sequence[str],
    workdir: str,
    machine: Mapping[str, str] | None = None,
    gpus: bool = True,
) -> list[str]:
    # shared-run: the ranks of a node enter one container, and launchers tell them who they are by variables.
    words = ["podman-hpc", "shared-run", "--rm", "--workdir", workdir]
    for bind in binds:
        words += ["--volume", bind if ":" in bind else f"{bind}:{bind}"]
    for key, value in {"HOME": workdir, **environment}.items():
        words += ["--env", f"{key}={value}"]
    devices = [word for word in DEVICES[image.device] if gpus and word not in args]
    return [*words, *devices, *args, image.tag]
