"""Sites: what the kit must know of a computing centre, one TOML file each.

A value comes from the first of: flag, KIT_* variable, user file (~/.config/kit/kit.toml), site file, default. A key of a
partition may also stand above the partitions, at the top of the file: every partition that does not say otherwise has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from kit.core import paths
from kit.core.errors import KitError, unknown
from kit.core.files import read_toml
from kit.core.schema import Model, Name, OneLine, parse
from kit.launchers import LAUNCHERS
from kit.schedulers import OPTIONAL, SCHEDULERS

# A queue or an account: one word in a directive.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:@/+,-]*$")]
# Features of nodes, which may be combined: `gpu&hbm80g`, `[rack1|rack2]`.
Features = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:@/+,&|*()\[\]=!-]*$")]
# A number is written as one: a text or true is a mistake, and nobody would see it.
Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


def settable(value: str) -> str:
    if value in ("BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"):
        raise ValueError("bash does not allow setting this variable")
    return value


def member(registry: Mapping[str, object]) -> Callable[[str], str]:
    def known(value: str) -> str:
        if value not in registry:
            raise ValueError(f"one of {', '.join(registry)} is needed")
        return value

    return known


# A valid name of a shell variable.
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(settable)]


class Limit(Model):
    """How long a job of up to so many nodes may run, where that depends on the nodes."""

    nodes: Positive
    minutes: Positive


class Partition(Model):
    """A set of like nodes behind one queue, and how jobs are started there. What counts for a node is of one node."""

    scheduler: Annotated[str, AfterValidator(member(SCHEDULERS))]
    # How the ranks of a job start, and its words beyond those that the kit writes.
    launcher: Annotated[str, AfterValidator(member(LAUNCHERS))] = "mpirun"
    launcher_args: list[OneLine] = []
    pmi: Word = ""  # how the launcher tells ranks of each other (pmix, pmi2, cray_shasta); empty: its own default
    single: bool = Field(False, strict=True)  # stages of one process need the launcher: the script runs on a launch node
    order: Literal["", "cyclic", "block"] = ""  # of ranks over nodes: dealt in turn, or one node after another
    bind: Literal["cores", "none"] = "cores"  # each rank on cores of its own, or wherever the kernel puts it

    # What the scheduler is told.
    queue: Word = ""
    account: Word = ""
    qos: Word = ""
    constraint: Features = ""
    reservation: Word = ""
    exclusive: bool = Field(True, strict=True)  # nodes are shared with nobody: otherwise no time means anything
    memory_request: Literal["", "node", "core"] = ""  # whether memory is asked for, and of what
    parallel_environment: Word = ""  # of Grid Engine
    memory_resource: Word = "h_vmem"  # what Grid Engine calls the memory of a slot here
    network: Word = ""
    umask: str = Field("", pattern=r"^(0?[0-7]{3})?$")
    mail: str = Field("", pattern=r"^([A-Za-z0-9._+-]+@[A-Za-z0-9.-]+)?$")
    directives: list[OneLine] = []  # copied as they are
    poll_seconds: Positive = Field(30, le=3600)  # the scheduler is asked at most this often

    # What it allows.
    min_nodes: Positive = 1
    max_nodes: Positive = Field(1, le=1_000_000)
    max_minutes: Positive = Field(1440, le=1_000_000)
    limits: list[Limit] = []
    max_jobs_in_array: Count = 0  # 0: several runs are several jobs

    # A node.
    cores: Count = Field(0, le=100_000)  # 0: those of the machine that runs kit
    hardware_threads: Positive = Field(1, le=8)  # of one core
    hyperthreads: bool = Field(False, strict=True)  # whether ranks use all of them
    memory_gb: Amount = Field(0, le=50_000)  # of 10^9 bytes
    arch: Literal["x86_64", "aarch64", "ppc64le"] = "x86_64"
    gpus: Count = Field(0, le=1000)
    gpu_type: Word = ""
    gpu_vendor: Literal["nvidia", "amd", "intel"] = "nvidia"
    gpu_request: Literal["node", "gres", "task", "none"] = "node"  # the form in which a scheduler wants them
    scratch: str = ""  # a folder on each node's own disk, to which stages may copy what they read often
    scratch_gb: Amount = Field(0, le=1e6)

    # What the script does before its first stage.
    module_use: list[OneLine] = []
    modules: list[OneLine] = []
    environment: dict[Variable, OneLine] = {}
    prologue: list[OneLine] = []  # shell, as it is

    @field_validator("scratch")
    @classmethod
    def plain(cls, value: str) -> str:
        if not re.fullmatch(r"(/[\w.+-]+)*|\$[A-Z_][A-Z0-9_]*(/[\w.+-]+)*", value):
            raise ValueError(
                "expected an absolute path of letters, digits, . _ + and -, which may begin with a variable such as $TMPDIR"
            )
        return value

    @model_validator(mode="after")
    def spoken(self) -> Partition:
        """A word that scheduler or launcher do not have would be lost without a sound."""
        for key in sorted(OPTIONAL - SCHEDULERS[self.scheduler].WORDS):
            field = type(self).model_fields[key]
            if getattr(self, key) != field.default:
                raise ValueError(f"the scheduler {self.scheduler} has no word for {key}; say it under 'directives'")
        # Some schedulers have a word for a key, and not for each of its values.
        for key, values in getattr(SCHEDULERS[self.scheduler], "VALUES", {}).items():
            if getattr(self, key) not in values:
                can = ", ".join(repr(value) for value in sorted(values))
                raise ValueError(f"the scheduler {self.scheduler} can say of {key} only {can}, not {getattr(self, key)!r}")
        if self.scheduler == "gridengine" and not self.parallel_environment:
            raise ValueError("key 'parallel_environment' is needed: without one a job gets one core (qconf -spl lists them)")
        if self.scheduler == "local" and self.directives:
            raise ValueError("key 'directives': without a scheduler there is nobody to read them")
        if self.max_jobs_in_array and not SCHEDULERS[self.scheduler].ARRAY:
            raise ValueError(f"key 'max_jobs_in_array': the kit submits no arrays to {self.scheduler}; leave it out")
        if self.gpu_request == "task" and self.launcher not in ("srun", "flux"):
            raise ValueError(f"key 'gpu_request': {self.launcher} cannot give each rank its own GPU; 'node' is possible")
        if self.order and self.order not in LAUNCHERS[self.launcher].ORDERS:
            raise ValueError(f"the launcher {self.launcher} does not deal ranks in the order '{self.order}'")
        return self

    @property
    def rank_order(self) -> str:
        return self.order or LAUNCHERS[self.launcher].ORDERS[0]

    @property
    def usable_cores(self) -> int:
        """What of a node can be given to threads, one each: cores, or hardware threads where ranks use those."""
        return self.cores * (self.hardware_threads if self.hyperthreads else 1)

    def minutes_for(self, nodes: int) -> int:
        """The longest job of so many nodes: what the first limit that covers them says, and no more than `max_minutes`."""
        fitting = [limit for limit in self.limits if limit.nodes >= nodes]
        return min(self.max_minutes, min(fitting, key=lambda limit: limit.nodes).minutes) if fitting else self.max_minutes


class Container(Model):
    """How containers start here.

    `mpi` says where the MPI launcher runs. `outside`: one container per rank, which works on several nodes and needs an MPI
    of the site that is compatible with that of the image. `inside`: one container for all ranks of one node, which needs no
    MPI on the host.
    """

    runtime: Literal["apptainer", "docker", "podman-hpc", "host"] = "apptainer"
    binds: list[OneLine] = []  # FOLDER, or FOLDER:FOLDER_INSIDE, or that and :ro
    args: list[OneLine] = []
    mpi: Literal["outside", "inside"] = "outside"
    mpi_family: Literal["", "openmpi", "mpich"] = ""  # of the site; an image with another one is refused
    drop_environment: list[Variable] = []  # variables of the submitter that no stage may see, beside the kit's own list

    @field_validator("binds")
    @classmethod
    def folders(cls, value: list[str]) -> list[str]:
        for bind in value:
            parts = bind.split(":")
            if len(parts) > 3 or parts[2:] not in ([], ["ro"], ["rw"]) or not all(p.startswith("/") for p in parts[:2]):
                raise ValueError(
                    f"'{bind}': an absolute folder is needed, or FOLDER:FOLDER_INSIDE, or that with :ro behind it; "
                    "no ~ and no variables, which differ between people"
                )
        return value


class Site(Model):
    """A computing centre. Every text is a single line, because it goes into scripts; only `prologue` is meant to be
    shell."""

    name: Name
    description: OneLine
    contact: OneLine
    url: OneLine
    organisation: OneLine = ""
    verified: OneLine = ""  # who ran it when, with which kit; empty: written from what is published, and not tried
    partitions: dict[Name, Partition] = Field(min_length=1)
    container: Container = Container()
    # MLPerf system_desc names (host_processor_model_name, ...): what the kit cannot find out by itself.
    hardware: dict[OneLine, OneLine | int | float] = {}

    @model_validator(mode="after")
    def together(self) -> Site:
        for name, partition in self.partitions.items():
            if self.container.mpi == "inside" and partition.single:
                raise ValueError(
                    f"partition {name}: 'single' starts programs through the launcher, and with container.mpi = 'inside' "
                    "ranks are not; one of them is meant"
                )
            if self.container.mpi == "inside" and partition.gpu_request == "task":
                raise ValueError(
                    f"partition {name}: gpu_request 'task' is the launcher's, which does not start the ranks with "
                    "container.mpi = 'inside'; 'node' is possible"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def whole(cls, data: Any) -> Any:
        return cls.inherited(data)

    @classmethod
    def inherited(cls, data: Any) -> Any:
        """Keys of a partition that stand at the top go into every partition that does not say otherwise."""
        if not isinstance(data, dict):
            return data
        if not isinstance(data.get("partitions"), dict) or not data["partitions"]:
            raise ValueError("no partition: add a table such as [partitions.cpu]; keys above it apply to all of them")
        common = {key: value for key, value in data.items() if key in Partition.model_fields}
        rest = {key: value for key, value in data.items() if key not in common}
        partitions = {
            name: {**common, **partition} if isinstance(partition, dict) else partition
            for name, partition in data["partitions"].items()
        }
        return {**rest, "partitions": partitions}

    @classmethod
    def known_keys(cls) -> set[str]:
        return {*cls.model_fields, *Partition.model_fields}

    def partition(self, name: str | None) -> tuple[str, Partition]:
        """The named partition, or the first."""
        if name is None:
            return next(iter(self.partitions.items()))
        if name not in self.partitions:
            raise unknown(f"partition of site {self.name}", name, self.partitions)
        return name, self.partitions[name]


# What a user may set for every site, and the variable that overrides it.
USER_KEYS = (
    "organisation",
    "account",
    "queue",
    "runtime",
    "submitter_name",
    "submitter_email",
    "submitter_user",
    "repository",
)
SYSTEMS = "systems"  # the table of the user file that names a system for each site: [systems] local = "my-workstation"


def site_files() -> dict[str, Path]:
    """Site files by name: shipped ones, and those in the `sites` folder beside the user file, which come first."""
    found = {}
    for folder in (paths.PACKAGE / "sites", paths.user_file().parent / "sites"):
        found.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return found


def site_file(name: str) -> Path:
    """The file of a site, by its name or its own path; KitError where there is none."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise KitError(f"site file {path}: no such file")
        return path
    known = site_files()
    if name not in known:
        raise unknown("site", name, known)
    return known[name]


def load_site(name: str) -> Site:
    """A site by name or by the path of its file, with the user's own settings applied."""
    path = site_file(name)
    data = read_toml(path)
    site = parse(Site, {"name": path.stem, **data}, path)
    settings = {key: value for key, (value, _) in user_settings().items()}
    if not settings:
        return site
    changed = site.model_dump()
    changed["organisation"] = settings.get("organisation", site.organisation)
    changed["container"]["runtime"] = settings.get("runtime", site.container.runtime)
    for partition in changed["partitions"].values():
        for key in SCHEDULERS[partition["scheduler"]].WORDS & {"account", "queue"}:
            partition[key] = settings.get(key, partition[key])
    return parse(Site, changed, "user settings")


def user_table() -> dict[str, Any]:
    """The content of the user file, empty where there is none; KitError for a key that is not known or is no text."""
    file = paths.user_file()
    table = read_toml(file) if file.is_file() else {}
    for key, value in table.items():
        if key == SYSTEMS:
            if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
                raise KitError(f"{file}: key '{key}': a table is needed that names a system for a site, got {value!r}")
        elif key not in USER_KEYS:
            raise KitError(f"{file}: key '{key}' is not known; known here: {', '.join((*USER_KEYS, SYSTEMS))}")
        elif not isinstance(value, str):
            raise KitError(f"{file}: key '{key}': expected text, got {value!r}")
    return table


def user_settings() -> dict[str, tuple[str, str]]:
    """The user's own settings as {key: (value, where it came from)}."""
    found = {key: (value, str(paths.user_file())) for key, value in user_table().items() if key != SYSTEMS}
    for key in USER_KEYS:
        variable = f"KIT_{key.upper()}"
        if os.environ.get(variable):
            found[key] = (os.environ[variable], variable)
    return found


def explain(name: str) -> list[tuple[str, Any, str]]:
    """Every value of a site as (key, value, where it came from), for `kit site show`."""
    site = load_site(name)
    path = Path(name) if name.endswith(".toml") else site_files()[name]
    written = Site.inherited(read_toml(path))
    settings = user_settings()
    rows: list[tuple[str, Any, str]] = []

    def walk(prefix: str, value: dict[str, Any], file: Any) -> None:
        for key, item in value.items():
            full = f"{prefix}{key}"
            in_file = isinstance(file, dict) and key in file
            if isinstance(item, dict) and item:
                walk(f"{full}.", item, file.get(key) if in_file else None)
            elif key in settings and settings[key][0] == item:
                rows.append((full, item, settings[key][1]))
            else:
                rows.append((full, item, str(path) if in_file else "default"))

    walk("", site.model_dump(), written)
    return rows
