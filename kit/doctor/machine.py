"""Checks that this machine has what the kit needs, and names the command that installs what is missing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from rich.filesize import decimal

from kit.core import paths
from kit.core.errors import KitError


@dataclass(frozen=True)
class Item:
    """One thing the kit needs: whether it is there, in what form, and the command that mends it."""

    name: str
    ok: bool
    detail: str
    remedy: str


def script(name: str) -> str:
    return shlex.quote(str(paths.host_script(name)))


def docker_engine() -> Item:
    from kit.images.built import docker_client

    try:
        version = docker_client().version()["Version"]
        return Item("docker", True, f"engine {version}", "")
    except KitError as error:
        return Item("docker", False, str(error).partition(". ")[0], f"sudo {script('docker.sh')}")


def apptainer() -> Item:
    for name in ("apptainer", "singularity"):
        if shutil.which(name):
            result = subprocess.run([name, "--version"], capture_output=True, text=True)
            if result.returncode == 0:
                return Item("apptainer", True, result.stdout.strip(), "")
            return Item(
                "apptainer", False, f"{name} does not start: {result.stderr.strip()}", f"sudo {script('apptainer.sh')}"
            )
    return Item("apptainer", False, "neither apptainer nor singularity is on the PATH", f"sudo {script('apptainer.sh')}")


def disk() -> Item:
    folder = paths.cache()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Item(
        "disk",
        free > 15e9,
        f"{decimal(free)} free for {paths.cache()}, 15 GB are needed",
        "export KIT_CACHE=/a/larger/disk",
    )


def memory() -> Item:
    from kit.core.host import memory_gb

    gigabytes = memory_gb()
    return Item("memory", gigabytes > 7, f"{gigabytes:.1f} GB, 8 GB are needed at size tiny", "use a larger machine")


EXAMINED: tuple[Callable[[], Item], ...] = (docker_engine, apptainer, disk, memory)


def examine(fix: bool, say: Callable[[str], None]) -> list[Item]:
    """Looks at everything; with `fix`, and as root, runs the remedies that are scripts of the kit, and looks again."""
    items = []
    for function in EXAMINED:
        item = function()
        command = item.remedy.removeprefix("sudo ")
        if fix and not item.ok and item.remedy.startswith("sudo ") and os.geteuid() == 0:
            say(f"{item.name}: {item.detail}; running {command}")
            subprocess.run(shlex.split(command), stdout=2)
            item = function()
        items.append(item)
    return items


def report(items: list[Item]) -> str:
    """A line for each thing, and one below it that says how to mend what is missing."""
    lines = []
    for item in items:
        lines.append(f"{'ok     ' if item.ok else 'MISSING'} {item.name:<12} {item.detail}")
        if not item.ok:
            lines.append(f"        to fix it: {item.remedy}")
    return "\n".join(lines)
