"""Built images on this machine: what they say of themselves, and what starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from kit.core import paths
from kit.core.checksums import digest
from kit.core.errors import KitError
from kit.core.schema import Model
from kit.images.render import INVENTORY, Image


def docker_client() -> Any:
    """The Docker engine, through docker-py; KitError says how to get one."""
    import docker
    import docker.errors

    try:
        client = docker.from_env(timeout=600)
        client.ping()
        return client
    except (docker.errors.DockerException, OSError) as error:
        raise KitError(
            f"no Docker engine answers ({error}). Start it, join its group (sudo usermod -aG docker $USER), "
            f"or let the kit install one: sudo {paths.host_script('docker.sh')}"
        ) from None


def docker_has(reference: str) -> bool:
    import docker.errors

    try:
        docker_client().images.get(reference)
        return True
    except (KitError, docker.errors.ImageNotFound):
        return False


class Record(Model):
    """The record beside a SIF, by which a later verification knows that the file has not changed."""

    name: str
    arguments: dict[str, str]
    digest: str
    recipe: str
    created: datetime
    commit: str


def record_path(sif: Path) -> Path:
    return sif.with_suffix(".json")


def no_privileges() -> list[str]:
    """As root, Apptainer asks for capabilities that a container host may withhold; the programs need none."""
    return ["--no-privs"] if os.geteuid() == 0 else []


def starter() -> str | None:
    """The command that starts a SIF on this machine, if there is one."""
    return next((name for name in ("apptainer", "singularity") if shutil.which(name)), None)


def singularity() -> list[str]:
    name = starter()
    if name:
        return [name]
    raise KitError(
        "neither apptainer nor singularity is on the PATH. On a cluster: module load apptainer; "
        f"on a Debian machine: sudo {paths.host_script('apptainer.sh')}"
    )


def sif_labels(path: Path) -> dict[str, str]:
    from spython.main import get_client

    singularity()
    answer = get_client(quiet=True).inspect(str(path), quiet=True)
    if isinstance(answer, str):
        import json

        answer = json.loads(answer)
    labels: dict[str, str] = answer["attributes"]["labels"]
    return labels


class Built:
    """A built image in one of its formats: what it says of itself."""

    def __init__(self, image: Image, format: Literal["docker", "sif"]) -> None:
        self.image, self.format = image, format
        if format == "docker":
            import docker.errors

            self.client = docker_client()
            try:
                built = self.client.images.get(image.tag)
            except docker.errors.ImageNotFound:
                raise not_built(image, "docker") from None
            self.digest, self.size, self.labels = str(built.id), int(built.attrs["Size"]), dict(built.labels)
            self.arch = ARCHITECTURES.get(str(built.attrs["Architecture"]), str(built.attrs["Architecture"]))
        else:
            self.sif = built_sif(image)
            self.digest, self.size = digest(self.sif), self.sif.stat().st_size
            self.labels = sif_labels(self.sif)
            self.arch = sif_arch(self.sif)

    def run(self, *command: str) -> str:
        """What a command in the image prints."""
        if self.format == "docker":
            return str(self.client.containers.run(self.image.tag, list(command), remove=True).decode())
        words = [*singularity(), "exec", *no_privileges(), str(self.sif), *command]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def inventory(self) -> dict[str, list[list[str]]]:
        """The rows of the image's own lists: debian, licenses, python, sources."""
        lists: dict[str, list[list[str]]] = {}
        for line in self.run("sh", "-c", f"cd {INVENTORY} && grep '' *.tsv").splitlines():
            name, _, row = line.partition(".tsv:")
            lists.setdefault(name, []).append(row.split("\t"))
        return lists

    def layers(self) -> list[tuple[int, str]]:
        """Bytes and command of each layer of the Docker image, first to last; empty layers are left out."""
        history = self.client.images.get(self.image.tag).history()
        return [(int(entry["Size"]), str(entry["CreatedBy"])) for entry in reversed(history) if entry["Size"]]


# What Docker and the header of a SIF call the processors that `uname -m` and sites name otherwise.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "02": "x86_64", "04": "aarch64", "06": "ppc64le"}


def sif_arch(sif: Path) -> str:
    """The processors that a SIF is built for: behind 32 bytes of launcher, 10 of magic and 3 of version in its header."""
    with sif.open("rb") as file:
        header = file.read(48)
    if header[32:41] != b"SIF_MAGIC":
        raise KitError(f"{sif}: is no SIF; build it again: kit image build NAME --force")
    code = header[45:47].decode(errors="replace")
    return ARCHITECTURES.get(code, code)


def known_format(name: str) -> Literal["docker", "sif"]:
    """The format of a built image that has this name; KitError for another."""
    if name not in ("docker", "sif"):
        raise KitError(f"unknown format '{name}': known: docker, sif")
    return "docker" if name == "docker" else "sif"


def inspect(image: Image, format: Literal["docker", "sif"]) -> dict[str, Any]:
    """What an image says of itself: digest, size (bytes), labels, Debian and Python packages as `name=version`."""
    built = Built(image, format)
    lists = built.inventory()
    return {
        "name": image.name,
        "version": image.source.VERSION,
        "arguments": image.arguments,
        "format": format,
        "recipe": image.recipe_digest,
        "digest": built.digest,
        "size": built.size,
        "labels": dict(sorted(built.labels.items())),
        "debian": [f"{row[0]}={row[1]}" for row in lists["debian"]],
        "python": [f"{row[0]}=={row[1]}" for row in lists.get("python", [])],
        "sources": [f"{row[0]}={row[1]}" for row in lists.get("sources", [])],
        "layers": [{"bytes": size, "by": command} for size, command in built.layers()] if format == "docker" else [],
    }


def not_built(image: Image, format: str) -> KitError:
    arguments = "".join(f" --arg '{key}={value}'" for key, value in image.given)
    return KitError(
        f"image {image.name} is not built as {format} from today's recipe: kit image build {image.name}{arguments}"
    )


def runtime_here(image: Image) -> Literal["apptainer", "docker"] | None:
    """What starts a built image on this machine: Apptainer where its SIF is, else Docker; None without either."""
    if starter() and sif_of(image).is_file():
        return "apptainer"
    return "docker" if docker_has(image.tag) else None


def sif_of(image: Image) -> Path:
    """Where the SIF of today's recipe is, made from either source; where it would be, while it is not built."""
    alone = image.sif.with_suffix(".recipe.sif")
    return alone if alone.is_file() and not image.sif.is_file() else image.sif


def built_sif(image: Image) -> Path:
    """The built SIF of today's recipe; KitError when there is none."""
    path = sif_of(image)
    if not path.is_file():
        raise not_built(image, "sif")
    return path
