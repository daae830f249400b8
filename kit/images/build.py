"""Builds images: as Docker images and as SIFs, kept outside the checkout by the hash of their recipe."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from kit.core import paths
from kit.core.checksums import digest
from kit.core.errors import KitError
from kit.core.files import write_json
from kit.images.built import Record, docker_client, docker_has, no_privileges, record_path, singularity
from kit.images.recipes.parts import CERTIFICATES
from kit.images.render import Image, bases, context_files, context_root, load_image, recipe

if TYPE_CHECKING:
    import tarfile

# Of 127 MB of Debian, level 12 makes 0.3 % less than 9, and takes three times as long.
SQUASHFS = "-comp zstd -Xcompression-level 9"


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
        if CERTIFICATES in image.source.CONTEXT:
            for certificate in sorted(Path("/usr/local/share/ca-certificates").glob("*.crt")):
                shutil.copy(certificate, folder / CERTIFICATES)
        (folder / "Dockerfile").write_text(recipe(image, "docker"))
        labels = "".join(f"    {key} {value}\n" for key, value in build_labels(image).items())
        definition = recipe(image, "singularity", bootstrap).replace("%labels\n", f"%labels\n{labels}")
        (folder / "image.def").write_text(definition)
        for path in [folder, *folder.rglob("*")]:
            os.utime(path, (0, 0))  # Docker's layer cache looks at content and mode, a SIF keeps times
        yield folder


def build_labels(image: Image) -> dict[str, str]:
    """Labels that are known only when an image is built: builder, date, commit."""
    return {
        "org.opencontainers.image.created": datetime.now(UTC).isoformat(timespec="seconds"),
        "org.opencontainers.image.revision": paths.commit(),
        "kit.recipe": image.recipe_digest,
    }


def build_log(image: Image, format: str) -> Path:
    return paths.make_cached(paths.cache() / "logs") / f"{image.name}-{format}-{time.strftime('%Y%m%dT%H%M%S')}.log"


def require_space(folder: Path, gigabytes: float) -> None:
    free, needed = shutil.disk_usage(paths.make_cached(folder)).free, round(gigabytes * 1e9)
    if free < needed:
        raise KitError(
            f"{folder}: {decimal(free)} free, but a build needs about {decimal(needed)}; "
            "make room, or set KIT_CACHE to a folder on a larger disk"
        )


def build_failed(image: Image, log: Path) -> KitError:
    last = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
    return KitError(f"building {image.name} failed; the last lines of its log:\n{last}\nThe whole log: {log}")


def steps(
    names: Sequence[str],
    arguments: Sequence[str],
    format: str,
    source: str,
    force: bool,
    say: Callable[[str], None],
) -> list[tuple[str, Callable[[], object]]]:
    """What is to be done to build images as `docker`, `sif` or `all`: a sentence on each step, and what does it.

    A step returns what it built, as text. Where no Docker engine answers, `all` is each SIF from its definition alone.
    KitError for names, formats and sources that do not go together, before anything is built.
    """
    if format not in ("docker", "sif", "all"):
        raise KitError(f"unknown format '{format}': known: docker, sif, all")
    images = [load_image(name, arguments) for name in names]
    if source not in ("docker", "recipe"):
        if len(images) > 1:
            raise KitError(f"--from {source}: an archive holds one image; name one")
        format = "sif"
    if format == "all":
        try:
            docker_client()
        except KitError as error:
            say(f"kit: {error}\nkit: going on without it: each SIF is built from its definition alone")
            format, source = "sif", "recipe"
    found: list[tuple[str, Callable[[], object]]] = []
    for image in images:
        minutes = image.source.BUILD_MINUTES
        if format != "sif" or source == "docker":
            what = f"{image.name}: Docker image (about {minutes} minutes on 2 cores if it is not there yet)"
            found.append((what, functools.partial(built_docker, image, force)))
        if format != "docker":
            minutes = minutes + 3 if source == "recipe" else 3
            what = f"{image.name}: SIF (about {minutes} minutes if it is not there yet)"
            found.append((what, functools.partial(build_sif, image, source, force)))
    return found


def built_docker(image: Image, force: bool) -> str:
    """Tag and digest of a Docker image that is built where it is not there yet."""
    return f"{image.tag} {build_docker(image, force)}"


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
    archive = None if source in ("docker", "recipe") else archive_uri(Path(source), image)
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
    # A cache would keep the layers of every image of the past.
    options = ["--force", "--disable-cache", "--mksquashfs-args", SQUASHFS]
    if archive:
        run_build([*client, "build", *options, str(partial), archive], image, log, None)
    elif source == "docker":
        build_docker(image)
        with layers(image, log) as (folder, uri):
            run_build([*client, "build", *options, str(partial), uri], image, log, folder)
    else:
        with contextlib.suppress(KitError):  # then the registry is asked, and reports its own error
            ensure_base(image)
        local_base = all(docker_has(f"debian:{suite}-slim") for suite in bases(image))
        with build_folder(image, "docker-daemon" if local_base else "docker") as folder:
            run_build([*client, "build", "--fakeroot", *options, str(partial), "image.def"], image, log, folder)
    if source != "recipe":  # a conversion runs no %test of its own
        run_build([*client, "exec", *no_privileges(), str(partial), image.source.TEST], image, log, None)


@contextlib.contextmanager
def layers(image: Image, log: Path) -> Iterator[tuple[Path | None, str]]:
    """What Apptainer reads the Docker image from: a folder to start it in, and a name.

    Apptainer packs the layers of an engine with gzip before it unpacks them again, at a level that takes as long as making
    the SIF. It leaves alone what is packed already, which skopeo does as fast as gzip can; without skopeo, Apptainer asks
    the engine.
    """
    if not shutil.which("skopeo"):
        yield None, f"docker-daemon:{image.tag}"
        return
    with tempfile.TemporaryDirectory(prefix=f"kit-{image.name}-") as name:
        options = ["--dest-compress-format", "gzip", "--dest-compress-level", "1"]
        copy = ["skopeo", "copy", "-q", *options, f"docker-daemon:{image.tag}", f"oci:{name}/{image.name}"]
        run_build(copy, image, log, None)
        yield Path(name), f"oci:{image.name}"


def record(image: Image, file: Path, target: Path) -> None:
    labels = build_labels(image)
    facts = Record(
        name=image.name,
        arguments=image.arguments,
        digest=digest(file),
        recipe=labels["kit.recipe"],
        created=datetime.fromisoformat(labels["org.opencontainers.image.created"]),
        commit=labels["org.opencontainers.image.revision"],
    )
    write_json(record_path(target), facts.model_dump(mode="json"))


def archive_uri(path: Path, image: Image) -> str:
    """How Apptainer names an archive of an image: what `kit image export` or `docker save` wrote.

    KitError for anything else, and for an image of another recipe, before minutes go into unpacking it.
    """
    import tarfile

    try:
        with tarfile.open(path) as tar:
            kind = next((kind for name, kind in ARCHIVES.items() if name in tar.getnames()), None)
            built_from = archived_labels(tar, kind).get("kit.recipe") if kind else None
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise KitError(
            f"{path}: neither docker, recipe, nor an archive of an image ({error}); "
            "kit image export and docker save write one"
        ) from None
    if kind is None:
        raise KitError(
            f"{path}: holds neither oci-layout nor manifest.json, so it is not an image; write one with kit image export"
        )
    if built_from != image.recipe_digest:
        raise KitError(
            f"{path}: holds an image of the recipe {built_from}, but today's {image.name} is {image.recipe_digest}; "
            "use the checkout that made it"
        )
    return f"{kind}:{path}"


# A file that tells what an archive is, and what Apptainer calls it.
ARCHIVES = {"oci-layout": "oci-archive", "manifest.json": "docker-archive"}


def archived_labels(tar: tarfile.TarFile, kind: str) -> dict[str, str]:
    """The labels of the image in an archive; errors of any sort where it is damaged."""

    def read(name: str) -> Any:
        file = tar.extractfile(name)
        return json.load(file) if file else None

    def blob(entry: Any) -> Any:
        return read(f"blobs/{entry['digest'].replace(':', '/')}")

    if kind == "oci-archive":
        found = read("index.json")
        while "manifests" in found:
            found = blob(found["manifests"][0])
        config = blob(found["config"])
    else:
        config = read(read("manifest.json")[0]["Config"])
    labels: dict[str, str] = config["config"].get("Labels") or {}
    return labels


def run_build(command: list[str], image: Image, log: Path, cwd: Path | None) -> None:
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        if subprocess.run(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode:
            raise build_failed(image, log)


def ensure_base(image: Image) -> None:
    """Makes sure that the base images exist: in the engine, from a registry, or made from this machine's Debian mirror."""
    for suite in bases(image):
        if docker_has(f"debian:{suite}-slim"):
            continue
        script = paths.host_script("base.sh")
        result = subprocess.run([str(script), suite], capture_output=True, text=True)
        if result.returncode:
            raise KitError(f"the base image debian:{suite}-slim is not available:\n{result.stdout}{result.stderr}".rstrip())
