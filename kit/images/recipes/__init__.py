"""The one source of every image: an HPCCM recipe that renders to a Dockerfile and to a Singularity definition.

An image is a folder here, which holds its recipe and every file that is its own, and a line in RECIPES. Everything else
that lists images asks RECIPES.
"""

from __future__ import annotations

from typing import Any, Protocol

from kit.images.recipes import (
    horovod,
    horovod_cuda,
    keras,
    relion_5,
    relion_accelerated,
    relion_basic,
    relion_cuda,
    topaz,
)
from kit.images.recipes.parts import Argument, Device


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
    # What its programs compute on. The runtime lets them see it.
    DEVICE: Device
    # The family of MPI that its programs are linked to, `openmpi`, or nothing: a launcher outside the container must be one
    # that this MPI understands. Every image with MPI has kit-ranks, which finds out.
    MPI: str
    # Files, folders and patterns that the recipe copies in, from the folder that holds the package; the recipe's hash
    # covers them.
    CONTEXT: tuple[str, ...]
    # A command in the image that ends 0 when the bundled program works; %test and the health check run it.
    TEST: str
    # Whether the tests need it, so that `make images` builds it.
    TESTED: bool
    # A minute count for the sentence that warns of a long build, and what the SIF may weigh.
    BUILD_MINUTES: int
    MEGABYTES: int
    # Programs built from source, which no package manager in the image knows: name, version, sha256, license.
    SOURCES: tuple[dict[str, str], ...]
    # Choices the recipe leaves open.
    ARGUMENTS: dict[str, Argument]

    def stages(self, base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
        """HPCCM stages; `base` holds keywords for every baseimage, which the format decides."""

    def problem(self, arguments: dict[str, str]) -> str | None:
        """Why these arguments do not go together; `parts.no_problem` where all do."""


RECIPES: dict[str, Recipe] = {
    relion_basic.NAME: relion_basic,
    relion_accelerated.NAME: relion_accelerated,
    relion_cuda.NAME: relion_cuda,
    relion_5.NAME: relion_5,
    topaz.NAME: topaz,
    horovod.NAME: horovod,
    horovod_cuda.NAME: horovod_cuda,
    keras.NAME: keras,
}

# Old names of images, and the new ones.
ALIASES = {"cloudmask": "horovod", "cloudmask-cuda": "horovod-cuda", "cloudmask-keras": "keras"}
