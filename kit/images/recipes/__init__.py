"""The one source of every image: an HPCCM recipe that renders to a Dockerfile and to a Singularity definition."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

from kit.images.recipes import (
    cloudmask,
    cloudmask_cuda,
    cloudmask_keras,
    relion_5,
    relion_accelerated,
    relion_basic,
    relion_cuda,
    topaz,
)
from kit.images.recipes.parts import Argument


class Recipe(Protocol):
    """What the module of an image offers."""

    NAME: str
    # Version of the bundled program, and what the image is in one line.
    VERSION: str
    DESCRIPTION: str
    # SPDX expression of what is bundled.
    LICENSES: str
    # The base image, whose Debian suite is made locally where no registry can be reached.
    SUITE: str
    # Files, folders and patterns in the checkout that the recipe copies in; the recipe's hash covers them.
    CONTEXT: tuple[str, ...]
    # A command in the image that ends 0 when the bundled program works; %test and the health check run it.
    TEST: str
    # A minute count for the sentence that warns of a long build.
    BUILD_MINUTES: int
    # Programs built from source, which no package manager in the image knows: name, version, sha256, license.
    SOURCES: tuple[dict[str, str], ...]
    # Choices the recipe leaves open; a module without any has no ARGUMENTS.
    ARGUMENTS: dict[str, Argument]

    @staticmethod
    def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
        """HPCCM stages; `base` holds keywords for every baseimage, which the format decides."""

    @staticmethod
    def problem(arguments: dict[str, str]) -> str | None:
        """Why these arguments do not go together; a module where all do has no `problem`."""


RECIPES: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        relion_basic,
        relion_accelerated,
        relion_cuda,
        relion_5,
        topaz,
        cloudmask,
        cloudmask_cuda,
        cloudmask_keras,
    )
}
