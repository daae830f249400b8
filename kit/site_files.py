"""Site files as files: which there are, what is wrong with one before it is used, and a new one to begin with.

A file that is checked may be a stranger's: nothing that it names is run or read, and only the path of a folder is looked at.
"""

from __future__ import annotations

import platform
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tomlkit
from tomlkit.exceptions import TOMLKitError

from kit.benchmark import Benchmark, benchmark_names, load_benchmark
from kit.core import paths
from kit.core.errors import KitError, unknown
from kit.core.files import read_toml, write_atomic
from kit.core.schema import Model, Name, parse
from kit.core.tables import table
from kit.images.render import Image, load_image
from kit.plan import Plan, Request, make_plan
from kit.runs.record import Rendering
from kit.script.render import job_script, launcher, resolve
from kit.site import Partition, Site, load_site, site_files
from kit.submissions.layout import PLACEHOLDER

MOST_BYTES = 1_000_000
MOST_PARTITIONS = 50  # that scripts are rendered for; a stranger's file could have any number
# The command of each scheduler, launcher and runtime by which one sees that it is here.
COMMANDS = {
    "slurm": "sbatch",
    "pbs": "qsub",
    "lsf": "bsub",
    "gridengine": "qsub",
    "flux": "flux",
    "pjm": "pjsub",
    "cobalt": "qsub",
    "intelmpi": "mpirun",
    "mpich": "mpiexec",
    "pals": "mpiexec",
}
# A machine of each runtime, for scripts that nobody runs.
MACHINES = {
    "apptainer": {"program": "apptainer", "options": "", "sif": "/IMAGES/{image.name}-{image.hash:.12}.sif"},
    "docker": {"user": "1000:1000"},
}


@dataclass(frozen=True)
class Finding:
    """Something about a site file: an error, for which it cannot be used, or a warning, which may be a mistake."""

    level: Literal["error", "warning"]
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.key}: {self.text}" if self.key else f"{self.level}: {self.text}"


class Named(Model):
    name: Name


def warning(key: str, text: str) -> Finding:
    return Finding("warning", key, text)


def path_of(name: str) -> Path:
    """The file of a site by name, or by its path."""
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    known = site_files()
    if name not in known:
        raise unknown("site", name, known)
    return known[name]


def read_site(path: Path) -> Site:
    """The site that a file describes, without the settings of a user; KitError names everything that is wrong."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise KitError(f"{path}: not a file")
    if status.st_size > MOST_BYTES:
        raise KitError(f"{path}: has {status.st_size} bytes; a site file has {MOST_BYTES} at most")
    return parse(Site, {"name": path.stem, **read_toml(path)}, path)


def check(path: Path) -> list[Finding]:
    """Everything to say of a site file, errors first."""
    try:
        site = read_site(path)
    except KitError as error:
        return [Finding("error", "", line) for line in str(error).splitlines()]
    found = [*texts(site), *here(site)]
    for name, partition in site.partitions.items():
        found += [warning(f"partitions.{name}.{key}", text) for key, text in (*numbers(partition), *ways(site, partition))]
    for name in list(site.partitions)[:MOST_PARTITIONS]:
        found += scripts(site, name)
    if len(site.partitions) > MOST_PARTITIONS:
        found.append(
            warning("partitions", f"scripts were rendered for the first {MOST_PARTITIONS} of {len(site.partitions)}")
        )
    unique = dict.fromkeys(found)  # what stands at the top is said of every partition
    return sorted(unique, key=lambda finding: finding.level)


def texts(site: Site) -> Iterator[Finding]:
    for key in ("description", "contact", "url", "organisation"):
        match = PLACEHOLDER.search(getattr(site, key))
        if match:
            yield warning(key, f"still holds '{match[0]}', for which no submission is accepted")


def numbers(partition: Partition) -> Iterator[tuple[str, str]]:
    """Numbers that are possible and seldom meant."""
    if partition.max_minutes < 60:
        yield "max_minutes", f"{partition.max_minutes} minutes; were hours meant?"
    for limit in partition.limits:
        if limit.minutes > partition.max_minutes and limit.nodes <= partition.max_nodes:
            yield "limits", f"{limit.minutes} minutes for {limit.nodes} nodes are more than max_minutes"
    if partition.min_nodes > partition.max_nodes:
        yield "min_nodes", f"{partition.min_nodes} is more than max_nodes, {partition.max_nodes}: no job fits"
    if partition.memory_gb > 20_000:
        yield "memory_gb", f"{partition.memory_gb:g} GB in a node; were megabytes meant?"
    if 0 < partition.memory_gb < 1:
        yield "memory_gb", f"{partition.memory_gb:g} GB in a node; were terabytes meant?"
    if partition.cores > 1024:
        yield "cores", f"{partition.cores} cores in one node; the number is of a node, not of the machine"
    if partition.gpus > 32:
        yield "gpus", f"{partition.gpus} GPUs in one node; the number is of a node, not of the machine"
    if partition.scheduler != "local":
        if not partition.cores:
            yield "cores", "missing: those of the login node would be taken for a compute node's"
        if not partition.memory_gb:
            lost = "; memory_request asks for nothing without it" if partition.memory_request else ""
            yield "memory_gb", f"missing: nothing can warn of a run that needs more{lost}"


def ways(site: Site, partition: Partition) -> Iterator[tuple[str, str]]:
    """Ways in which ranks and GPUs are seldom found."""
    outside = site.container.mpi == "outside" and site.container.runtime != "host"
    if outside and partition.launcher == "srun" and not partition.pmi:
        yield "pmi", "missing: without one, ranks in containers do not find each other unless Slurm's default is pmix"
    if outside and partition.launcher in ("aprun", "intelmpi", "mpich", "pals") and not site.container.mpi_family:
        yield (
            "launcher",
            f"{partition.launcher} is of the family of MPICH, and ranks of the kit's images, which have Open MPI, would "
            "not meet: container.mpi = 'inside' for one node, or container.mpi_family = 'mpich' with images of your own",
        )
    if partition.gpus and partition.gpu_request == "none" and not partition.exclusive:
        yield "gpu_request", "'none' asks for no GPUs, and without 'exclusive' a job does not get those of its nodes"


def here(site: Site) -> Iterator[Finding]:
    """What this machine lacks of what the file names. It may be on the compute nodes, or come with a module."""
    loaded = any(partition.modules or partition.prologue for partition in site.partitions.values())
    hint = "; a module or the prologue may bring it" if loaded else ""
    for bind in site.container.binds:
        folder = bind.partition(":")[0]
        if not there(folder):
            yield warning("container.binds", f"{folder} is not on this machine")
    for name, partition in site.partitions.items():
        if partition.scratch.startswith("/") and not there(partition.scratch):
            yield warning(f"partitions.{name}.scratch", f"{partition.scratch} is not on this machine")
    for scheduler in dict.fromkeys(partition.scheduler for partition in site.partitions.values()):
        command = COMMANDS.get(scheduler, "")
        if command and not shutil.which(command):
            yield warning("scheduler", f"{scheduler}: {command} is not on the PATH; jobs are submitted on a login node")
    for word in dict.fromkeys(partition.launcher for partition in site.partitions.values()):
        command = COMMANDS.get(word, word)
        if site.container.mpi == "outside" and not shutil.which(command):
            yield warning("launcher", f"{word}: {command} is not on the PATH{hint}")
    for arch in dict.fromkeys(partition.arch for partition in site.partitions.values()):
        if arch != platform.machine():
            yield warning(
                "arch", f"{arch}, and this machine is {platform.machine()}: images are built on a machine of that kind"
            )
    runtimes = ("apptainer", "singularity") if site.container.runtime == "apptainer" else (site.container.runtime,)
    if site.container.runtime != "host" and not any(map(shutil.which, runtimes)):
        yield warning("container.runtime", f"{' or '.join(runtimes)} is not on the PATH{hint}")


def there(folder: str) -> bool:
    try:
        return Path(folder).exists()
    except (OSError, ValueError):
        return False


def scripts(site: Site, partition: str) -> Iterator[Finding]:
    """A script for each size of each benchmark, or why there is none; what bash cannot read is an error of the file."""
    key = f"partitions.{partition}"
    for name in benchmark_names():
        benchmark = load_benchmark(name)
        reasons: dict[str, list[str]] = {}
        for size in benchmark.sizes:
            try:
                text = script(site, partition, benchmark, size)
            except KitError as error:
                reasons.setdefault(str(error).removeprefix(f"site {site.name}: "), []).append(size)
                continue
            problem = unreadable(text) if text else ""
            if problem:
                yield Finding("error", key, f"bash cannot read the script of {name}, size {size}: {problem}; see 'prologue'")
                return
        for reason, sizes in reasons.items():
            yield warning(key, f"{name}, size {', '.join(sizes)}: {reason}")


def script(site: Site, partition: str, benchmark: Benchmark, size: str) -> str:
    """The script of a size on the first image that goes with the partition; empty for a workflow, which its image composes.

    Everything but a workflow's stages is tried of it all the same.
    """
    problem: KitError | None = None
    gpus, vendor = site.partitions[partition].gpus, site.partitions[partition].gpu_vendor
    known = [load_image(name) for name in benchmark.images]
    fitting = [image for image in known if {"cuda": "nvidia", "rocm": "amd"}.get(image.device, vendor) == vendor or not gpus]
    images = sorted(fitting, key=lambda image: (image.device != "cpu") != bool(gpus))
    for image in images:
        try:
            plan = make_plan(Request(benchmark.name, size, site.name, partition, image.name), site, here=(64, 256.0))
            if plan.size.workflow:
                launcher(plan, plan.placement.ranks)
                return ""
            return job_script(resolve(plan, Path("/RUN")), rendering(plan))
        except KitError as error:
            problem = problem or error
    raise problem or KitError(f"benchmark {benchmark.name} has no image")


def rendering(plan: Plan) -> Rendering:
    """Facts of no machine in particular, for a script that is only read."""
    machine = MACHINES.get(plan.site.container.runtime, {})
    return Rendering(
        command="kit site check",
        directory="/RUN",
        data="/DATA",
        nodes=None,
        ranks=None,
        threads=None,
        gpus=None,
        minutes=None,
        cores=plan.here[0],
        memory_gb=plan.here[1],
        machine={key: stand_in(value, plan.image) for key, value in machine.items()},
    )


def stand_in(value: str, image: Image) -> str:
    return value.format(image=image)


def unreadable(text: str) -> str:
    """What bash says of a script that it reads and does not run; empty if it is well."""
    try:
        result = subprocess.run(
            ["bash", "--norc", "--noprofile", "-n"],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = result.stderr.strip().splitlines()
    return said[0].removeprefix("bash: ") if result.returncode and said else ""


@dataclass(frozen=True)
class Listed:
    name: str
    schedulers: str
    description: str
    verified: str
    file: str


def listed() -> list[Listed]:
    """Every site that the kit knows; one that cannot be read says so in its own line."""
    rows = []
    for name, path in site_files().items():
        try:
            site = load_site(name)
        except KitError as error:
            rows.append(Listed(name, "", f"cannot be used: {str(error).splitlines()[0]}", "", str(path)))
            continue
        schedulers = ", ".join(dict.fromkeys(partition.scheduler for partition in site.partitions.values()))
        rows.append(Listed(name, schedulers, site.description, site.verified, str(path)))
    return rows


def report(rows: list[Listed]) -> str:
    cells = [(row.name, row.schedulers, row.description, row.verified or "unverified", row.file) for row in rows]
    return table(cells, "lllll", header=("site", "scheduler", "description", "verified", "file"))


def own_file(name: str) -> Path:
    """Where a user's own site of this name lies; KitError for what is no name."""
    parse(Named, {"name": name}, "NAME")
    return paths.user_file().parent / "sites" / f"{name}.toml"


def new(name: str, source: str | None = None) -> Path:
    """Writes a site file to edit: a copy of another one, or the template with every key. Nothing is overwritten."""
    if source is None:
        text = (paths.shipped("templates") / "site.toml").read_text()
    else:
        path = path_of(source)
        read_site(path)  # a copy of a mistake helps nobody
        try:
            document = tomlkit.parse(path.read_text(encoding="utf-8"))
        except TOMLKitError as error:
            raise KitError(f"{path}: {error}") from None
        for key in ("name", "verified"):  # a copy is another site, which nobody has tried
            document.pop(key, None)
        text = tomlkit.dumps(document)
    return write(own_file(name), text)


def write(path: Path, text: str) -> Path:
    """A new file of a user's own sites; KitError where one is."""
    if path.exists() or path.is_symlink():
        raise KitError(f"{path}: exists, and is not overwritten; edit it, or take another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return path
