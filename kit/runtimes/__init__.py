"""How a program starts in an image: the words that stand before it in the job script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Protocol

from kit.image import Image
from kit.runtimes import apptainer, docker, host


class Runtime(Protocol):
    """What a runtime module offers."""

    @staticmethod
    def command(
        image: Image, binds: Sequence[str], environment: Mapping[str, str], args: Sequence[str], workdir: str
    ) -> list[str]:
        """The words before a program; `binds` are folders seen at the same path inside."""


RUNTIMES: dict[str, ModuleType] = {"apptainer": apptainer, "docker": docker, "host": host}
