"""Images: rendered from one recipe into two formats, built, addressed by the hash of the recipe, described by themselves.

A recipe (kit/images/) renders to containers/<name>/Dockerfile and recipes/<name>.def; both are committed. A build never
uses those files as they lie: it renders again, with this machine's circumstances (where the base image comes from, which
certificates its network needs), into a fresh folder. What it makes is kept outside the checkout under the hash of the
committed recipe and of everything the recipe copies in.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from kit import __version__, paths
from kit.errors import KitError, unknown

Format = Literal["docker", "singularity"]

# Where a shell in either image finds what was installed; the build of the image writes both.
INVENTORY = "/opt/kit/inventory"
SQUASHFS = "-comp zstd -Xcompression-level 12"


@dataclass(frozen=True)
class Image:
    name: str

    @property
    def source(self) -> ModuleType:
        from kit.images import RECIPES

        if self.name not in RECIPES:
            raise unknown("image", self.name, RECIPES)
        return RECIPES[self.name]

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over both recipes and every file they copy in: the address of what a build of them makes."""
        digest = hashlib.sha256()
        for format in FORMATS:
            digest.update(recipe(self.name, format).encode())
        for path in context_files(self.source):
            digest.update(path.relative_to(context_root()).as_posix().encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()

    @property
    def tag(self) -> str:
        return f"kit/{self.name}:{self.hash[:12]}"

    @property
    def sif(self) -> Path:
        return paths.cache() / "images" / f"{self.name}-{self.hash[:12]}.sif"


FORMATS: dict[Format, str] = {"docker": "containers/{name}/Dockerfile", "singularity": "recipes/{name}.def"}


def load_image(name: str) -> Image:
    image = Image(name)
    _ = image.source  # an unknown name is answered here, with the nearest names
    return image


def context_root() -> Path:
    return paths.CHECKOUT or paths.PACKAGE.parent


def context_files(source: ModuleType) -> list[Path]:
    """The files a recipe copies in, sorted."""
    found: list[Path] = []
    for entry in source.CONTEXT:
        paths_here = sorted(context_root().glob(entry))
        if not paths_here:
            raise KitError(
                f"{context_root() / entry}: missing, but the recipe of {source.NAME} copies it in; "
                "build from a whole checkout"
            )
        for path in paths_here:
            found += [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sorted(found)


def no_distribution_warning(record: logging.LogRecord) -> bool:
    return "Unable to determine the Linux distribution" not in str(record.msg)


def recipe(name: str, format: Format, bootstrap: str = "docker") -> str:
    """The text of the Dockerfile or of the Singularity definition of an image.

    `bootstrap` is where a definition takes its base image from: `docker` (a registry) or `docker-daemon` (the engine of
    this machine).
    """
    import hpccm
    from hpccm.primitives import label, raw, shell

    # The primitives used here are the same on every distribution, and HPCCM only knows Debian by guessing.
    logging.getLogger().addFilter(no_distribution_warning)

    source = Image(name).source
    hpccm.config.set_container_format(format)
    hpccm.config.set_singularity_version("3.8")
    stages = source.stages({} if format == "docker" else {"_bootstrap": bootstrap, "_docker_env": False})
    final = stages[-1]
    final += hpccm.primitives.comment("The image lists what is in it")
    final += shell(
        commands=[
            f"mkdir -p {INVENTORY}",
            f"dpkg-query -W -f '${{Package}}=${{Version}}\\n' > {INVENTORY}/debian.txt",
            f"cp /opt/venv/requirements.freeze {INVENTORY}/python.txt 2>/dev/null || touch {INVENTORY}/python.txt",
        ]
    )
    final += label(
        metadata={
            "org.opencontainers.image.title": source.NAME,
            "org.opencontainers.image.description": f'"{source.DESCRIPTION}"',
            "org.opencontainers.image.version": source.VERSION,
            "org.opencontainers.image.licenses": f'"{source.LICENSES}"',
            "org.opencontainers.image.base.name": f"debian:{source.SUITE}-slim",
            "org.opencontainers.image.vendor": f'"kit {__version__}"',
        }
    )
    final += raw(
        docker=f"HEALTHCHECK --interval=1h --timeout=2m CMD {source.TEST}",
        singularity=f"%test\n    {source.TEST}\n\n%help\n    {source.DESCRIPTION}.",
    )
    header = f"# {source.NAME}: {source.DESCRIPTION}.\n# Written by `make recipes` from kit/images/; change it there.\n"
    body = "\n".join(str(stage).rstrip() + "\n" for stage in stages)
    lines = [line.rstrip() for line in body.splitlines() if not line.startswith(("# NOTE: this def", "# Singularity 3.2"))]
    text = header + "\n" + "\n".join(lines).strip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def stale_recipes() -> list[Path]:
    """The committed recipes whose text differs from what their source renders today."""
    from kit.images import RECIPES

    files = {context_root() / FORMATS[f].format(name=name): recipe(name, f) for name in RECIPES for f in FORMATS}
    return [path for path, text in files.items() if not path.is_file() or path.read_text() != text]


def write_recipes() -> list[Path]:
    """Writes every stale recipe; returns the files whose text changed."""
    changed = stale_recipes()
    for path in changed:
        name = path.stem if path.suffix == ".def" else path.parent.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe(name, "singularity" if path.suffix == ".def" else "docker"))
    return changed


@contextlib.contextmanager
def build_folder(image: Image, bootstrap: str = "docker") -> Iterator[Path]:
    """A folder to build from: the recipes as this machine needs them, what they copy in, this machine's certificates."""
    with tempfile.TemporaryDirectory(prefix=f"kit-{image.name}-") as name:
        folder = Path(name)
        for path in context_files(image.source):
            target = folder / path.relative_to(context_root())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)  # whatever the umask of the checkout was
        if "containers/certificates" in image.source.CONTEXT:
            for certificate in sorted(Path("/usr/local/share/ca-certificates").glob("*.crt")):
                shutil.copy(certificate, folder / "containers/certificates")
        (folder / "Dockerfile").write_text(recipe(image.name, "docker"))
        (folder / "image.def").write_text(recipe(image.name, "singularity", bootstrap))
        for path in [folder, *folder.rglob("*")]:
            os.utime(path, (0, 0))  # Docker's layer cache looks at content and mode, a SIF keeps times
        yield folder


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
            "or let the kit install one: sudo containers/host/docker.sh"
        ) from None


def docker_has(reference: str) -> bool:
    import docker.errors

    try:
        docker_client().images.get(reference)
        return True
    except (KitError, docker.errors.ImageNotFound):
        return False


def build_log(image: Image, format: str) -> Path:
    folder = paths.cache() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{image.name}-{format}-{time.strftime('%Y%m%dT%H%M%S')}.log"


def require_space(folder: Path, gigabytes: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise KitError(
            f"{folder}: {free:.1f} GB free, but a build needs about {gigabytes:.0f} GB; "
            "make room, or set KIT_CACHE to a folder on a larger disk"
        )


def build_failed(image: Image, log: Path) -> KitError:
    last = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
    return KitError(f"building {image.name} failed; the last lines of its log:\n{last}\nThe whole log: {log}")


def build_docker(image: Image, force: bool = False) -> str:
    """Builds the Docker image unless this very recipe is built already; returns the image's digest (`sha256:...`)."""
    client = docker_client()
    if not force and docker_has(image.tag):
        return str(client.images.get(image.tag).id)
    ensure_base(image)
    require_space(paths.cache(), 8)
    log = build_log(image, "docker")
    with build_folder(image) as folder, log.open("w") as file:
        for event in client.api.build(path=str(folder), tag=image.tag, rm=True, forcerm=True, nocache=force, decode=True):
            file.write(event.get("stream", "") or event.get("error", ""))
            if "error" in event:
                file.flush()
                raise build_failed(image, log)
    return str(client.images.get(image.tag).id)


def build_sif(image: Image, source: Literal["docker", "recipe"] = "docker", force: bool = False) -> Path:
    """Builds the SIF unless this very recipe is built already; returns its path.

    From the Docker image (one build, two formats), or from the definition alone, which needs no engine where a
    registry can be reached. Either way an ordinary user can do it. The file appears only when it is whole and has
    passed its own %test.
    """
    target = image.sif if source == "docker" else image.sif.with_suffix(".recipe.sif")
    if target.is_file() and not force:
        return target
    require_space(target.parent, 8)
    client = singularity()
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    log = build_log(image, "sif")
    options = ["--force", "--mksquashfs-args", SQUASHFS]
    if source == "docker":
        build_docker(image)
        run_build([*client, "build", *options, str(partial), f"docker-daemon:{image.tag}"], image, log, None)
    else:
        with contextlib.suppress(KitError):  # then the registry is asked, and says so itself
            ensure_base(image)
        local_base = docker_has(f"debian:{image.source.SUITE}-slim")
        with build_folder(image, "docker-daemon" if local_base else "docker") as folder:
            run_build([*client, "build", "--fakeroot", *options, str(partial), "image.def"], image, log, folder)
    if source == "docker":  # a conversion runs no %test of its own
        run_build([*client, "exec", *no_privileges(), str(partial), image.source.TEST], image, log, None)
    partial.rename(target)
    return target


def run_build(command: list[str], image: Image, log: Path, cwd: Path | None) -> None:
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        if subprocess.run(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode:
            raise build_failed(image, log)


def no_privileges() -> list[str]:
    """Root in Apptainer asks for capabilities that a container host may withhold; the programs need none of them."""
    return ["--no-privs"] if os.geteuid() == 0 else []


def singularity() -> list[str]:
    for name in ("apptainer", "singularity"):
        if shutil.which(name):
            return [name]
    raise KitError(
        "neither apptainer nor singularity is on the PATH. On a cluster: module load apptainer; "
        "on a Debian machine: sudo containers/host/apptainer.sh"
    )


def ensure_base(image: Image) -> None:
    """Sees that the base image can be had: in the engine, from a registry, or made from this machine's mirror."""
    base = f"debian:{image.source.SUITE}-slim"
    if docker_has(base):
        return
    script = paths.shipped("containers") / "host" / "base.sh"
    result = subprocess.run([str(script), image.source.SUITE], capture_output=True, text=True)
    if result.returncode:
        raise KitError(f"the base image {base} can not be had:\n{result.stdout}{result.stderr}".rstrip())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inspect(name: str, format: Literal["docker", "sif"]) -> dict[str, Any]:
    """What an image says of itself: digest, size (bytes), labels, Debian and Python packages as `name=version`."""
    image = load_image(name)
    if format == "docker":
        import docker.errors

        client = docker_client()
        try:
            built = client.images.get(image.tag)
        except docker.errors.ImageNotFound:
            raise not_built(image, "docker") from None
        digest, size, labels = built.id, built.attrs["Size"], built.labels

        def read(path: str) -> str:
            return str(client.containers.run(image.tag, ["cat", path], remove=True).decode())
    else:
        from spython.main import get_client

        sif = built_sif(image)
        singularity()
        client = get_client(quiet=True)
        digest, size = f"sha256:{sha256(sif)}", sif.stat().st_size
        answer = client.inspect(str(sif), quiet=True)
        if isinstance(answer, str):
            answer = json.loads(answer)
        labels = answer["attributes"]["labels"]

        def read(path: str) -> str:
            command = [*singularity(), "exec", *no_privileges(), str(sif), "cat", path]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return {
        "name": image.name,
        "version": image.source.VERSION,
        "format": format,
        "recipe": f"sha256:{image.hash}",
        "digest": digest,
        "size": size,
        "labels": dict(sorted(labels.items())),
        "debian": read(f"{INVENTORY}/debian.txt").split(),
        "python": read(f"{INVENTORY}/python.txt").split("\n")[:-1],
    }


def not_built(image: Image, format: str) -> KitError:
    return KitError(f"image {image.name} is not built as {format} from today's recipe: kit image build {image.name}")


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
