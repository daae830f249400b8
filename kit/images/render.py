"""Images by name, and the Dockerfile and definition that a recipe renders to. Their hash is the address of the built image.

A recipe (kit/images/recipes/<name>/) renders to containers/<name>/Dockerfile and recipes/<name>.def. Both are committed,
and those folders hold nothing else: whatever a recipe copies in lies inside the package, so that an installed kit builds
images too. A build never uses the committed files as they lie: it renders again, with this machine's circumstances (where
the base image comes from, which certificates its network needs), into a fresh folder. What it makes is kept outside the
checkout under the hash of the committed recipe and of everything the recipe copies in.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kit import __version__
from kit.core import paths
from kit.core.checksums import labelled
from kit.core.errors import KitError, unknown

if TYPE_CHECKING:  # HPCCM takes its time to load, and most commands need none
    from kit.images.recipes import Recipe
    from kit.images.recipes.parts import Device

Format = Literal["docker", "singularity"]

# Where a shell in either image finds what was installed; the build of the image writes both.
INVENTORY = "/opt/kit/inventory"


@dataclass(frozen=True)
class Image:
    """A recipe with its arguments. Other arguments make another image."""

    name: str
    given: tuple[tuple[str, str], ...] = ()

    @property
    def source(self) -> Recipe:
        from kit.images.recipes import RECIPES

        if self.name not in RECIPES:
            raise unknown("image", self.name, RECIPES)
        return RECIPES[self.name]

    @property
    def device(self) -> Device:
        """What the image computes on."""
        return self.source.DEVICE

    @property
    def mpi(self) -> str:
        """The family of MPI that its programs are linked to; nothing where there is none."""
        return self.source.MPI

    @property
    def arguments(self) -> dict[str, str]:
        """Every argument of the recipe, the default where none was given."""
        known = self.source.ARGUMENTS
        return {**{key: argument.known[0] for key, argument in known.items()}, **dict(self.given)}

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over both rendered recipes and every file they copy in: the address of the built image."""
        found = [(path, path.stat()) for path in context_files(self.source)]
        constants = tuple(str(value) for name, value in sorted(vars(self.source).items()) if name.isupper())
        return content_hash(self, constants, tuple((path, s.st_mtime_ns, s.st_size) for path, s in found))

    @property
    def recipe_digest(self) -> str:
        """The hash as records and labels write it, `sha256:...`."""
        return labelled(self.hash)

    @property
    def tag(self) -> str:
        return f"kit/{self.name}:{self.hash[:12]}"

    @property
    def sif(self) -> Path:
        return paths.cache() / "images" / f"{self.name}-{self.hash[:12]}.sif"


@functools.lru_cache(maxsize=64)
def content_hash(image: Image, constants: tuple[str, ...], context: tuple[tuple[Path, int, int], ...]) -> str:
    """Of the recipes of an image and the files of its context (path, time, bytes): kept as long as those are the same, and
    the `constants` of its recipe."""
    digest = hashlib.sha256()
    for format in FORMATS:
        digest.update(recipe(image, format).encode())
    for path, *_ in context:
        digest.update(path.relative_to(context_root()).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


FORMATS: dict[Format, str] = {"docker": "containers/{name}/Dockerfile", "singularity": "recipes/{name}.def"}


def known_format(name: str) -> Format:
    """The format of that name; KitError for another."""
    for format in FORMATS:
        if name == format:
            return format
    raise KitError(f"unknown format '{name}': known: {', '.join(FORMATS)}")


def load_image(name: str, arguments: Sequence[str] = ()) -> Image:
    """An image by name and `key=value` arguments; KitError names what is known where one is not."""
    name = current(name)
    image = Image(name)
    known = image.source.ARGUMENTS  # an unknown image is answered here, with the nearest names
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
    problem = image.source.problem(image.arguments)
    if problem:
        raise KitError(f"image {name}: {problem}")
    return image


@functools.cache
def current(name: str) -> str:
    """Today's name of an image; says once on stderr where `name` is one of the past."""
    from kit.images.recipes import ALIASES

    if name in ALIASES:
        print(f"kit: the image {name} is called {ALIASES[name]} now", file=sys.stderr)
    return ALIASES.get(name, name)


def arguments_text(known: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} ({' '.join(a.known)})" for key, a in known.items()) or "no arguments"


def context_root() -> Path:
    """The folder that holds the package `kit`: a checkout, or where a wheel was installed. COPY counts from here."""
    return Path(__file__).resolve().parents[2]


def context_files(source: Recipe) -> list[Path]:
    """The files a recipe copies in, sorted."""
    found: list[Path] = []
    for entry in source.CONTEXT:
        paths_here = sorted(context_root().glob(entry))
        if not paths_here:
            raise KitError(
                f"{context_root() / entry}: missing, but the recipe of {source.NAME} copies it in; "
                "install the kit again, whole"
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

    # HPCCM only guesses that this is Debian and warns; the primitives used here are the same everywhere.
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
    header = (
        f"# {source.NAME}: {source.DESCRIPTION}.\n# Written by `make recipes` from kit/images/recipes/; change it there.\n"
    )
    body = "\n".join(str(stage).rstrip() + "\n" for stage in stages)
    lines = [line.rstrip() for line in body.splitlines() if not line.startswith(("# NOTE: this def", "# Singularity 3.2"))]
    text = header + "\n" + "\n".join(lines).strip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def stale_recipes() -> list[Path]:
    """The committed recipes whose text differs from what their source renders today.

    KitError outside a checkout: nothing else has them.
    """
    from kit.images.recipes import RECIPES

    if paths.CHECKOUT is None:
        raise KitError("only a git checkout of the kit holds the recipes of all images; name one image to print its recipe")
    files = {context_root() / FORMATS[f].format(name=name): recipe(Image(name), f) for name in RECIPES for f in FORMATS}
    return [path for path, text in files.items() if not path.is_file() or path.read_text() != text]


def write_recipes() -> list[Path]:
    """Writes every stale recipe; returns the files whose text changed. KitError as from `stale_recipes`."""
    changed = stale_recipes()
    for path in changed:
        name = path.stem if path.suffix == ".def" else path.parent.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe(Image(name), "singularity" if path.suffix == ".def" else "docker"))
    return changed


def bases(image: Image) -> list[str]:
    """The Debian suites that the stages of an image begin with."""
    return sorted(set(re.findall(r"^FROM debian:(\w+)-slim", recipe(image, "docker"), re.MULTILINE)))
