"""A bundle: all that a site without network needs to run benchmarks, as one folder or tar archive with an installer.

install.sh       verifies the files, installs the kit from the wheels, and puts images and data into its cache
wheels/          the kit and everything it needs, for the Python and the processor of the site
images/ data/    as they lie in the cache, under the same names, where the kit there looks for them
sites/           the file of the site
scripts/         the job scripts, to read: the kit there writes its own, with the folders of the run
sha256sums.txt   every file
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from kit import __version__
from kit.benchmark import Benchmark, load_benchmark
from kit.bundle import wheels
from kit.core import checksums
from kit.core.checksums import MANIFEST, SUMS, labelled, sha256, write_sums
from kit.core.errors import KitError
from kit.core.files import read_json, write_atomic
from kit.core.schema import parse
from kit.data import generated
from kit.images.built import Record, built_sif, record_path
from kit.images.render import Image, load_image
from kit.plan import Plan, Request, make_plan
from kit.runs import launch
from kit.script.quoting import environment
from kit.site import Site, load_site, site_file

ROOM_FOR_WHEELS = 300_000_000  # bytes, about: they are known when they have come


@dataclass(frozen=True)
class Contents:
    """What is to be packed. Images and data are here already."""

    site: Site
    site_path: Path
    target: wheels.Target
    plans: list[Plan]
    sifs: list[Path]
    data: list[Path]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Bytes of each image and data set."""
        return [(f"{path.parent.name}/{path.name}", size_of(path)) for path in (*self.sifs, *self.data)]


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def contents(
    names: Sequence[str],
    site_name: str,
    partition: str | None = None,
    images: Sequence[str] = (),
    arguments: Sequence[str] = (),
    without_images: bool = False,
    python: str = "",
    glibc: str = "2.28",
) -> Contents:
    """Looks up all that a bundle of BENCHMARK/SIZE names is made of; KitError names what is missing, and what makes it."""
    site = load_site(site_name)
    _, part = site.partition(partition)
    target = wheels.target(python, part.arch, glibc)
    plans = [
        make_plan(Request(benchmark.name, size, site_name, partition, image.name, tuple(arguments), allow_cpu=True), site)
        for benchmark, size in map(sized, dict.fromkeys(names))
        for image in images_of(benchmark, images, arguments)
    ]
    chosen = {image.sif: image for image in [*(plan.image for plan in plans), *(load_image(n, arguments) for n in images)]}
    sifs: list[Path] = []
    if site.container.runtime != "host" and not without_images:
        if site.container.runtime != "apptainer":
            raise KitError(
                f"site {site.name}: key 'container.runtime' is {site.container.runtime}, and a bundle carries images for "
                "apptainer; --no-images leaves them out"
            )
        if part.arch != platform.machine():
            raise KitError(
                f"site {site.name}: its processors are {part.arch}, and the images here are for {platform.machine()}; "
                "bundle on a machine of its kind, or build them there: --no-images leaves them out"
            )
        sifs = [built_sif(image) for image in chosen.values()]
    data = {generated.there(load_benchmark(plan.benchmark.name), plan.size_name) for plan in plans}
    return Contents(site, site_file(site_name), target, plans, sifs, sorted(data))


def sized(name: str) -> tuple[Benchmark, str]:
    """Benchmark and size of BENCHMARK/SIZE; a benchmark alone is of its size tiny."""
    benchmark, _, size = name.partition("/")
    found = load_benchmark(benchmark)
    found.size(size or "tiny")
    return found, size or "tiny"


def images_of(benchmark: Benchmark, images: Sequence[str], arguments: Sequence[str]) -> list[Image]:
    """The images that a benchmark is to run on: its first, or those of `images` that are its own."""
    if not images:
        return [load_image(benchmark.image(None), arguments)]
    own = [image for image in (load_image(name, arguments) for name in images) if image.name in benchmark.images]
    if not own:
        raise KitError(f"benchmark {benchmark.name}: runs on {', '.join(benchmark.images)}, and --image names none of them")
    return own


def write(what: Contents, to: Path, say: Callable[[str], None]) -> None:
    """Writes the bundle: a folder, or by its name an archive .tar or .tar.zst. It appears whole or not at all.

    KitError where something of that name exists, or the room is too small, before anything is written.
    """
    name = archive_stem(to)
    if to.exists() or to.is_symlink():
        raise KitError(f"{to}: exists; a bundle overwrites nothing. Name another with --to")
    if to.name.endswith(".zst") and not shutil.which("zstd"):
        raise KitError("zstd is not on the PATH, which compresses: sudo apt-get install zstd, or name a .tar")
    for item, size in what.sizes:
        say(f"{item}: {decimal(size)}")
    total = sum(size for _, size in what.sizes)
    say(f"and wheels for {what.target}, about {decimal(ROOM_FOR_WHEELS)}")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"{to.parent}: cannot be made: {error.strerror}") from None
    # What goes into an archive is copied, too: a tar is written from files that cannot change meanwhile.
    needed = (total + ROOM_FOR_WHEELS) * (2 if name != to.name else 1)
    free = shutil.disk_usage(to.parent).free
    if free < needed:
        raise KitError(
            f"{to.parent}: {decimal(needed)} are needed and {decimal(free)} are free; name another disk with --to"
        )
    with partial(to) as work:
        folder = work / name
        folder.mkdir()
        fill(folder, what)
        if name != to.name:
            pack(folder, work / to.name)
        os.rename(work / to.name, to)
    say(f"{to}: {decimal(size_of(to))}")


def archive_stem(to: Path) -> str:
    """The name of the folder in an archive of this name, or the name itself."""
    for ending in (".tar", ".tar.zst"):
        if to.name.endswith(ending) and to.name != ending:
            return to.name.removesuffix(ending)
    if to.suffix in (".gz", ".xz", ".zip", ".tgz", ".zst"):
        raise KitError(f"{to}: a bundle is a folder, a .tar or a .tar.zst")
    return to.name


@contextmanager
def partial(to: Path) -> Iterator[Path]:
    """A folder beside the target to write in, which is gone afterwards."""
    work = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    try:
        yield work
    except OSError as error:
        raise KitError(f"{error.filename or to}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def fill(folder: Path, what: Contents) -> None:
    """Fills the folder of a bundle, and writes its checksums."""
    wheels.fetch(folder / "wheels", what.target)
    for sif in what.sifs:
        copy_image(sif, folder / "images")
    for data in what.data:
        copy_data(data, folder / "data")
    (folder / "sites").mkdir()
    shutil.copyfile(what.site_path, folder / "sites" / what.site_path.name)
    (folder / "scripts").mkdir()
    for plan in what.plans:
        path = folder / "scripts" / f"{plan.benchmark.name}-{plan.size_name}-{plan.image.name}.sh"
        write_atomic(path, launch.script(plan, *launch.DRY))
    write_atomic(folder / "install.sh", installer(what, folder), mode=0o755)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_sums(folder, {path.relative_to(folder).as_posix(): sha256(path) for path in files})


def copy_image(sif: Path, folder: Path) -> None:
    """Copies a SIF and its record; KitError where it is not what was built."""
    record = record_path(sif)
    if not record.is_file():
        raise KitError(f"{record}: missing, so nothing says what {sif.name} was; build it again with --force")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(record, folder / record.name)
    shutil.copy(sif, folder / sif.name)
    wanted, actual = parse(Record, read_json(record), record).digest, labelled(sha256(folder / sif.name))
    if actual != wanted:
        raise KitError(f"{sif}: its checksum is {actual}, but {wanted} was built; build it again with --force")


def copy_data(data: Path, folder: Path) -> None:
    """Copies a data set; KitError where a file is not what its manifest says. Links in it become what they lead to."""
    shutil.copytree(data, folder / data.name)
    checksums.verify(folder / data.name, f"it is a copy of {data}; remove that, and make or fetch it again")
    extra = {path.relative_to(folder / data.name).as_posix() for path in (folder / data.name).rglob("*") if path.is_file()}
    for name in extra - read_json(data / MANIFEST).keys() - {MANIFEST}:
        (folder / data.name / name).unlink()  # of a fetch: no benchmark reads it


def installer(what: Contents, folder: Path) -> str:
    """The text of install.sh."""
    runs = [
        "  kit run "
        + " ".join([plan.benchmark.name, "--size", plan.size_name, "--image", plan.image.name, *arguments(plan)])
        for plan in what.plans
    ]
    # The record of an image first: a SIF without it cannot be verified.
    images = [name for sif in what.sifs for name in (record_path(sif).name, sif.name)]
    return (
        environment()
        .get_template("install.sh.j2")
        .render(
            version=__version__,
            target=what.target,
            sums=SUMS,
            images=images,
            data=[path.name for path in what.data],
            requirement=f"{wheels.NAME}=={__version__}",
            site_file=f"sites/{what.site_path.name}",
            runs=runs,
        )
    )


def arguments(plan: Plan) -> list[str]:
    return [word for key, value in plan.image.given for word in ("--arg", f"'{key}={value}'")]


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder into a tar archive, whose files belong to nobody; compressed where its name says so."""

    def nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    if archive.suffix == ".tar":
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, folder.name, filter=nobody)
        return
    # Images and wheels are compressed already: a low level is enough.
    command = ["zstd", "-q", "-3", "-T0", "-o", str(archive)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None  # a pipe was asked for
        with process.stdin, tarfile.open(fileobj=process.stdin, mode="w|") as tar:
            tar.add(folder, folder.name, filter=nobody)
    if process.returncode:
        raise KitError(f"zstd: failed with exit code {process.returncode}; name a .tar")
