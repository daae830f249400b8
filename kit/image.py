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
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from kit import __version__, paths
from kit.errors import KitError, unknown
from kit.model import Model, write_json

Format = Literal["docker", "singularity"]

# Where a shell in either image finds what was installed; the build of the image writes both.
INVENTORY = "/opt/kit/inventory"
SQUASHFS = "-comp zstd -Xcompression-level 12"


@dataclass(frozen=True)
class Image:
    """A recipe with its arguments, which are part of what it is: other arguments, another image."""

    name: str
    given: tuple[tuple[str, str], ...] = ()

    @property
    def source(self) -> ModuleType:
        from kit.images import RECIPES

        if self.name not in RECIPES:
            raise unknown("image", self.name, RECIPES)
        return RECIPES[self.name]

    @property
    def arguments(self) -> dict[str, str]:
        """Every argument of the recipe, the default where none was given."""
        known = getattr(self.source, "ARGUMENTS", {})
        return {**{key: argument.known[0] for key, argument in known.items()}, **dict(self.given)}

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over both recipes and every file they copy in: the address of what a build of them makes."""
        digest = hashlib.sha256()
        for format in FORMATS:
            digest.update(recipe(self, format).encode())
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


def load_image(name: str, arguments: Sequence[str] = ()) -> Image:
    """An image by name and `key=value` arguments; KitError names what is known where one is not."""
    image = Image(name)
    known = getattr(image.source, "ARGUMENTS", {})  # an unknown image is answered here, with the nearest names
    given = {}
    for word in arguments:
        key, mark, value = word.partition("=")
        if not mark:
            raise KitError(f"--arg {word}: write it as key=value; {name} knows {arguments_text(known)}")
        if key not in known:
            raise KitError(f"--arg {word}: unknown argument '{key}': {name} knows {arguments_text(known)}")
        argument = known[key]
        for part in value.split(",") if argument.several else [value]:
            if not argument.free and part not in argument.known:
                raise KitError(f"--arg {word}: unknown {key} '{part}': known: {', '.join(argument.known)}")
        if argument.free and not re.fullmatch(r"[-\w =.,+/:]+", value):
            raise KitError(f"--arg {word}: {key} can hold letters, digits, spaces and any of -=.,+/: only")
        given[key] = value
    image = Image(name, tuple(sorted((k, v) for k, v in given.items() if v != known[k].known[0])))
    problem = getattr(image.source, "problem", lambda arguments: None)(image.arguments)
    if problem:
        raise KitError(f"image {name}: {problem}")
    return image


def arguments_text(known: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} ({' '.join(a.known)})" for key, a in known.items()) or "no arguments"


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


def inventory(sources: Sequence[Mapping[str, str]]) -> list[str]:
    """Shell that writes the lists of which an SBOM is made: Debian packages, their licences, Python packages, sources."""
    rows = "".join("\\t".join(s[key] for key in ("name", "version", "sha256", "license")) + "\\n" for s in sources)
    return [
        f"mkdir -p {INVENTORY}",
        f"cd {INVENTORY}",
        "dpkg-query -W -f '${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\n' "
        "> debian.tsv",
        "for f in /usr/share/doc/*/copyright; do p=${f%/copyright}; "
        'sed -n "s/^License: *\\(..*\\)/${p##*/}\\t\\1/p" "$f"; done | sort -u > licenses.tsv',
        "if [ -e /opt/venv/inventory.tsv ]; then cp /opt/venv/inventory.tsv python.tsv; fi",
        f"printf '{rows}' > sources.tsv",
    ]


def no_distribution_warning(record: logging.LogRecord) -> bool:
    return "Unable to determine the Linux distribution" not in str(record.msg)


def recipe(image: Image, format: Format, bootstrap: str = "docker") -> str:
    """The text of the Dockerfile or of the Singularity definition of an image.

    `bootstrap` is where a definition takes its base image from: `docker` (a registry) or `docker-daemon` (the engine of
    this machine).
    """
    import hpccm
    from hpccm.primitives import label, raw, shell

    # The primitives used here are the same on every distribution, and HPCCM only knows Debian by guessing.
    logging.getLogger().addFilter(no_distribution_warning)

    source = image.source
    hpccm.config.set_container_format(format)
    hpccm.config.set_singularity_version("3.8")
    base = {} if format == "docker" else {"_bootstrap": bootstrap, "_docker_env": False}
    stages = source.stages(base, image.arguments)
    final = stages[-1]
    final += hpccm.primitives.comment("The image lists what is in it, with the licences; kit image sbom reads it")
    final += shell(commands=inventory(source.SOURCES))
    final += label(
        metadata={
            "org.opencontainers.image.title": source.NAME,
            "org.opencontainers.image.description": f'"{source.DESCRIPTION}"',
            "org.opencontainers.image.version": source.VERSION,
            "org.opencontainers.image.licenses": f'"{source.LICENSES}"',
            "org.opencontainers.image.base.name": f"debian:{source.SUITE}-slim",
            "org.opencontainers.image.vendor": f'"kit {__version__}"',
            **{f"kit.argument.{key}": f'"{value}"' for key, value in image.arguments.items()},
        }
    )
    final += raw(
        docker=f'HEALTHCHECK --interval=1h --timeout=2m CMD ["{source.TEST}"]',
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

    files = {context_root() / FORMATS[f].format(name=name): recipe(Image(name), f) for name in RECIPES for f in FORMATS}
    return [path for path, text in files.items() if not path.is_file() or path.read_text() != text]


def write_recipes() -> list[Path]:
    """Writes every stale recipe; returns the files whose text changed."""
    changed = stale_recipes()
    for path in changed:
        name = path.stem if path.suffix == ".def" else path.parent.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe(Image(name), "singularity" if path.suffix == ".def" else "docker"))
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
        (folder / "Dockerfile").write_text(recipe(image, "docker"))
        labels = "".join(f"    {key} {value}\n" for key, value in build_labels(image).items())
        definition = recipe(image, "singularity", bootstrap).replace("%labels\n", f"%labels\n{labels}")
        (folder / "image.def").write_text(definition)
        for path in [folder, *folder.rglob("*")]:
            os.utime(path, (0, 0))  # Docker's layer cache looks at content and mode, a SIF keeps times
        yield folder


def build_labels(image: Image) -> dict[str, str]:
    """What is known only when an image is built: by what, when, from which commit."""
    return {
        "org.opencontainers.image.created": datetime.now(UTC).isoformat(timespec="seconds"),
        "org.opencontainers.image.revision": paths.commit(),
        "kit.recipe": f"sha256:{image.hash}",
    }


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
    return paths.make_cached(paths.cache() / "logs") / f"{image.name}-{format}-{time.strftime('%Y%m%dT%H%M%S')}.log"


def require_space(folder: Path, gigabytes: float) -> None:
    free = shutil.disk_usage(paths.make_cached(folder)).free / 1e9
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
    with build_folder(image) as folder, log.open("w", buffering=1) as file:
        options = {"rm": True, "forcerm": True, "nocache": force, "labels": build_labels(image), "decode": True}
        for event in client.api.build(path=str(folder), tag=image.tag, **options):
            file.write(event.get("stream", "") or event.get("error", ""))
            if "error" in event:
                file.flush()
                raise build_failed(image, log)
    return str(client.images.get(image.tag).id)


def build_sif(image: Image, source: str = "docker", force: bool = False) -> Path:
    """Builds the SIF unless this very recipe is built already; returns its path.

    From the Docker image (`docker`: one build, two formats), from the definition alone (`recipe`: needs no engine where a
    registry can be reached), or from an archive that `kit image export` or `docker save` wrote on another machine (its
    path). An ordinary user can do each. The file appears only when it is whole and has passed its own %test.
    """
    target = image.sif.with_suffix(".recipe.sif") if source == "recipe" else image.sif
    archive = None if source in ("docker", "recipe") else archive_uri(Path(source))
    if target.is_file() and not force:
        return target
    require_space(target.parent, 8)
    client = singularity()
    partial = target.with_suffix(".partial")
    try:
        make_sif(image, source, archive, partial, client)
        record(image, partial, target)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def make_sif(image: Image, source: str, archive: str | None, partial: Path, client: list[str]) -> None:
    """Writes a SIF that has passed its own %test to `partial`."""
    log = build_log(image, "sif")
    options = ["--force", "--mksquashfs-args", SQUASHFS]
    if archive:
        run_build([*client, "build", *options, str(partial), archive], image, log, None)
        built_from = sif_labels(partial).get("kit.recipe")
        if built_from != f"sha256:{image.hash}":
            raise KitError(
                f"{source}: holds an image of the recipe {built_from}, but today's {image.name} is sha256:{image.hash}; "
                "use the checkout that made it"
            )
    elif source == "docker":
        build_docker(image)
        run_build([*client, "build", *options, str(partial), f"docker-daemon:{image.tag}"], image, log, None)
    else:
        with contextlib.suppress(KitError):  # then the registry is asked, and says so itself
            ensure_base(image)
        local_base = all(docker_has(f"debian:{suite}-slim") for suite in bases(image))
        with build_folder(image, "docker-daemon" if local_base else "docker") as folder:
            run_build([*client, "build", "--fakeroot", *options, str(partial), "image.def"], image, log, folder)
    if source != "recipe":  # a conversion runs no %test of its own
        run_build([*client, "exec", *no_privileges(), str(partial), image.source.TEST], image, log, None)


class Record(Model):
    """What was built, beside the SIF: how it is known later that the file is still the one."""

    name: str
    arguments: dict[str, str]
    digest: str
    recipe: str
    created: datetime
    commit: str


def record_path(sif: Path) -> Path:
    return sif.with_suffix(".json")


def record(image: Image, file: Path, target: Path) -> None:
    labels = build_labels(image)
    facts = Record(
        name=image.name,
        arguments=image.arguments,
        digest=f"sha256:{sha256(file)}",
        recipe=labels["kit.recipe"],
        created=datetime.fromisoformat(labels["org.opencontainers.image.created"]),
        commit=labels["org.opencontainers.image.revision"],
    )
    write_json(record_path(target), facts.model_dump(mode="json"))


def archive_uri(path: Path) -> str:
    """How Apptainer names an archive: what `kit image export` or `docker save` wrote; KitError for anything else."""
    import tarfile

    try:
        with tarfile.open(path) as tar:
            names = tar.getnames()
    except (OSError, tarfile.TarError) as error:
        raise KitError(
            f"{path}: neither docker, recipe, nor an archive of an image ({error}); "
            "kit image export and docker save write one"
        ) from None
    if "oci-layout" in names:
        return f"oci-archive:{path}"
    if "manifest.json" in names:
        return f"docker-archive:{path}"
    raise KitError(
        f"{path}: holds neither oci-layout nor manifest.json, so it is not an image; write one with kit image export"
    )


def run_build(command: list[str], image: Image, log: Path, cwd: Path | None) -> None:
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        if subprocess.run(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode:
            raise build_failed(image, log)


def no_privileges() -> list[str]:
    """Root in Apptainer asks for capabilities that a container host may withhold; the programs need none of them."""
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
        "on a Debian machine: sudo containers/host/apptainer.sh"
    )


def bases(image: Image) -> list[str]:
    """The Debian suites that the stages of an image begin with."""
    return sorted(set(re.findall(r"^FROM debian:(\w+)-slim", recipe(image, "docker"), re.MULTILINE)))


def ensure_base(image: Image) -> None:
    """Sees that the base images can be had: in the engine, from a registry, or made from this machine's mirror."""
    for suite in bases(image):
        if docker_has(f"debian:{suite}-slim"):
            continue
        script = paths.shipped("containers") / "host" / "base.sh"
        result = subprocess.run([str(script), suite], capture_output=True, text=True)
        if result.returncode:
            raise KitError(f"the base image debian:{suite}-slim can not be had:\n{result.stdout}{result.stderr}".rstrip())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        else:
            self.sif = built_sif(image)
            self.digest, self.size = f"sha256:{sha256(self.sif)}", self.sif.stat().st_size
            self.labels = sif_labels(self.sif)

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


def inspect(image: Image, format: Literal["docker", "sif"]) -> dict[str, Any]:
    """What an image says of itself: digest, size (bytes), labels, Debian and Python packages as `name=version`."""
    built = Built(image, format)
    lists = built.inventory()
    return {
        "name": image.name,
        "version": image.source.VERSION,
        "arguments": image.arguments,
        "format": format,
        "recipe": f"sha256:{image.hash}",
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
