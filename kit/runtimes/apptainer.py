"""Apptainer or Singularity: a SIF, the user's own identity, the environment of the job let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kit.image import Image, no_privileges, sif_of, singularity


def command(
    image: Image, binds: Sequence[str], environment: Mapping[str, str], args: Sequence[str], workdir: str
) -> list[str]:
    # The environment is let through: MPI launchers tell a rank who it is by variables. The home folder is not: packages
    # in it would shadow those of the image.
    words = [*singularity(), "exec", "--no-home", *no_privileges(), "--pwd", workdir]
    for bind in binds:
        words += ["--bind", bind]
    for key, value in environment.items():
        words += ["--env", f"{key}={value}"]
    return [*words, *args, str(sif_of(image))]
