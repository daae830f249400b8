"""No container: programs of the host, for measuring what a container costs. Its results have no image digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kit.images.render import Image


def facts(image: Image) -> dict[str, str]:
    return {}


def problem(image: Image, machine: Mapping[str, str]) -> str:
    return "" if not machine else "nothing is needed"


def command(
    image: Image,
    binds: Sequence[str],
    environment: Mapping[str, str],
    args: Sequence[str],
    workdir: str,
    machine: Mapping[str, str] | None = None,
    gpus: bool = True,
) -> list[str]:
    return ["env", *(f"{key}={value}" for key, value in environment.items()), *args]
