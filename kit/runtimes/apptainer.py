"""Apptainer or Singularity: a SIF, the user's own identity, the environment of the job let through."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kit.images.built import no_privileges, sif_of, singularity
from kit.images.render import Image

if TYPE_CHECKING:  # HPCCM takes its time to load
    from kit.images.recipes.parts import Device

# What lets the programs of an image see the GPUs.
DEVICES: dict[Device, list[str]] = {"cpu": [], "cuda": ["--nv"], "rocm": ["--rocm"]}


def facts(image: Image) -> dict[str, str]:
    return {"program": singularity()[0], "options": " ".join(no_privileges()), "sif": str(sif_of(image))}


def problem(image: Image, machine: Mapping[str, str]) -> str:
    if machine.keys() != {"program", "options", "sif"}:
        return f"program, options and sif are needed, not {', '.join(machine) or 'nothing'}"
    if machine["program"] not in ("apptainer", "singularity") or machine["options"] not in ("", "--no-privs"):
        return f"'{machine['program']} {machine['options']}' is not how the kit starts a container"
    if not re.fullmatch(rf"/[^\x00-\x1f]*/{image.name}-{image.hash[:12]}(\.recipe)?\.sif", machine["sif"]):
        return f"the file {machine['sif']!r} is not named as an image of this recipe is"
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
    # The environment is let through: MPI launchers tell a rank who it is by variables. The home folder is not: packages
    # in it would shadow those of the image.
    machine = machine or facts(image)
    words = [machine["program"], "exec", "--no-home", *machine["options"].split(), "--pwd", workdir]
    for bind in binds:
        words += ["--bind", bind]
    for key, value in environment.items():
        words += ["--env", f"{key}={value}"]
    devices = [word for word in DEVICES[image.device] if gpus and word not in args]
    return [*words, *devices, *args, machine["sif"]]
