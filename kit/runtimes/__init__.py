"""How a program starts in an image: the words that stand before it in the job script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kit.images.render import Image
from kit.runtimes import apptainer, docker, host, podman_hpc


class Runtime(Protocol):
    """What a runtime module offers."""

    def facts(self, image: Image) -> dict[str, str]:
        """The facts of this machine that the words depend on. With them, another machine can write the same words."""

    def problem(self, image: Image, machine: Mapping[str, str]) -> str:
        """What is wrong with facts that someone else states; empty if nothing is."""

    def command(
        self,
        image: Image,
        binds: Sequence[str],
        environment: Mapping[str, str],
        args: Sequence[str],
        workdir: str,
        machine: Mapping[str, str] | None = None,
        gpus: bool = True,
    ) -> list[str]:
        """The words before a program. `binds` are folders that have the same path inside, or FOLDER:FOLDER_INSIDE, or that
        with :ro. `machine` are the facts to use in place of this machine's.

        An image of `device` cuda or rocm is given the GPUs, unless `args` do so already, or the node has none: not `gpus`.
        """


RUNTIMES: dict[str, Runtime] = {"apptainer": apptainer, "docker": docker, "podman-hpc": podman_hpc, "host": host}
