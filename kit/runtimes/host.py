"""No container: programs of the host, for measuring what a container costs. Its results have no image digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kit.image import Image


def command(
    image: Image, binds: Sequence[str], environment: Mapping[str, str], args: Sequence[str], workdir: str
) -> list[str]:
    return ["env", *(f"{key}={value}" for key, value in environment.items()), *args]
