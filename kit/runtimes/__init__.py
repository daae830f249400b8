"""How a program starts in an image: the words that stand before it in the job script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kit.images.render import Image
from kit.runtimes import apptainer, docker, host


class Runtime(Protocol):
    """What a runtime module offers."""

    def facts(self, image: Image) -> dict[str, str]:
        """What the words take from this machine. With them the same words can be written on another one."""

    def problem(self, image: Image, machine: Mapping[str, str]) -> str:
        """What is wrong with such facts that somebody else states; empty where nothing is."""

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
        """The words before a program; `binds` are folders seen at the same path inside. This machine's without `machine`.

        An image of `device` cuda or rocm is given the GPUs, unless `args` do so already, or the node has none: not `gpus`.
        """


RUNTIMES: dict[str, Runtime] = {"apptainer": apptainer, "docker": docker, "host": host}
