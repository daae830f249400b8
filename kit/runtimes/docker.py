"""Docker: for a workstation with an engine; files are written as the user who started the job."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kit.images.render import Image

if TYPE_CHECKING:  # HPCCM takes its time to load
    from kit.images.recipes.parts import Device

# What lets the programs of an image see the GPUs. Those of AMD are plain devices, of the group video.
DEVICES: dict[Device, list[str]] = {
    "cpu": [],
    "cuda": ["--gpus", "all"],
    "rocm": ["--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", "video"],
}


def facts(image: Image) -> dict[str, str]:
    return {"user": f"{os.getuid()}:{os.getgid()}"}


def problem(image: Image, machine: Mapping[str, str]) -> str:
    if machine.keys() != {"user"} or not re.fullmatch(r"\d{1,10}:\d{1,10}", machine["user"]):
        return "user is needed, as two numbers UID:GID"
    return ""


def command(
    image: Image,
    binds: Sequence[str],
    environment: Mapping[str, str],
    args: Sequence[str],
    workdir: str,
    machine: Mapping[str, str] | None = None,
    gpus: bool = True,
) -> list[str]:
    user = (machine or facts(image))["user"]
    # MPI ranks exchange through shared memory, of which a container has 64 MB unless told otherwise.
    words = ["docker", "run", "--rm", "--shm-size=2g", "--user", user, "--workdir", workdir]
    for bind in binds:
        words += ["--volume", bind if ":" in bind else f"{bind}:{bind}"]
    for key, value in {"HOME": workdir, **environment}.items():
        words += ["--env", f"{key}={value}"]
    devices = DEVICES[image.device]
    given = not gpus or any(word.startswith(("--gpus", "/dev/kfd", "--device=/dev/kfd")) for word in args)
    return [*words, *([] if given else devices), *args, image.tag]
