"""The one source of every image: an HPCCM recipe that renders to a Dockerfile and to a Singularity definition."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

from kit.images import cloudmask, relion_basic


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

    @staticmethod
    def stages(base: dict[str, Any]) -> list[Any]:
        """HPCCM stages; `base` holds keywords for every baseimage, which the format decides."""


RECIPES: dict[str, ModuleType] = {module.NAME: module for module in (relion_basic, cloudmask)}
