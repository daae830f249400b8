"""Sites: what the kit must know of a computing centre, one TOML file each.

A value comes from the first of: flag, KIT_* variable, user file (~/.config/kit/kit.toml), site file, default.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from kit.core import paths
from kit.core.errors import KitError, unknown
from kit.core.files import read_toml
from kit.core.schema import Model, Name, OneLine, parse

# A queue or an account: one word in a directive.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:@/+,-]*$")]


def settable(value: str) -> str:
    if value in ("BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"):
        raise ValueError("bash does not allow setting this variable")
    return value


# A valid name of a shell variable.
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(settable)]


class Partition(Model):
    """A set of like nodes behind one queue. `cores` and `memory_gb` are of one node; 0 cores: those of the machine that runs
    kit."""

    scheduler: Literal["local", "slurm"]
    launcher: Literal["mpirun", "srun"] = "mpirun"
    launcher_args: list[OneLine] = []
    queue: Word = ""
    account: Word = ""
    max_nodes: int = Field(1, ge=1, le=1_000_000)
    max_minutes: int = Field(1440, ge=1, le=1_000_000)
    cores: int = Field(0, ge=0, le=100_000)
    memory_gb: float = Field(0, ge=0, le=1e6)
    gpus: int = Field(0, ge=0, le=1000)
    scratch: str = ""  # a folder on each node's own disk, to which stages may copy what they read often

    @field_validator("scratch")
    @classmethod
    def plain(cls, value: str) -> str:
        if not re.fullmatch(r"(/[\w.+-]+)*", value):
            raise ValueError("expected an absolute path of letters, digits, . _ + and -, without variables")
        return value


class Container(Model):
    """How containers start here.

    `mpi` says where the MPI launcher runs. `outside`: one container per rank, which works on several nodes and needs an MPI
    of the site that is compatible with that of the image. `inside`: one container for all ranks of one node, which needs no
    MPI on the host.
    """

    runtime: Literal["apptainer", "docker", "host"] = "apptainer"
    binds: list[OneLine] = []
    args: list[OneLine] = []
    mpi: Literal["outside", "inside"] = "outside"


class Site(Model):
    """A computing centre. Every text is a single line, because it goes into scripts; only `prologue` is meant to be
    shell."""

    name: Name
    description: OneLine
    contact: OneLine
    url: OneLine
    organisation: OneLine = ""
    partitions: dict[Name, Partition] = Field(min_length=1)
    container: Container = Container()
    modules: list[OneLine] = []
    environment: dict[Variable, OneLine] = {}
    # Lines that are copied as they are: scheduler directives, and shell lines before the first stage.
    directives: list[OneLine] = []
    prologue: list[OneLine] = []
    # MLPerf system_desc names (host_processor_model_name, ...): what the kit cannot find out by itself.
    hardware: dict[OneLine, OneLine | int | float] = {}

    def partition(self, name: str | None) -> tuple[str, Partition]:
        """The named partition, or the first."""
        if name is None:
            return next(iter(self.partitions.items()))
        if name not in self.partitions:
            raise unknown(f"partition of site {self.name}", name, self.partitions)
        return name, self.partitions[name]


# What a user may set for every site, and the variable that overrides it.
USER_KEYS = ("organisation", "account", "queue", "runtime")
SYSTEMS = "systems"  # the table of the user file that names a system for each site: [systems] local = "my-workstation"


def site_files() -> dict[str, Path]:
    """Site files by name: shipped ones, and those in the `sites` folder beside the user file, which come first."""
    found = {}
    for folder in (paths.PACKAGE / "sites", paths.user_file().parent / "sites"):
        found.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return found


def load_site(name: str) -> Site:
    """A site by name or by the path of its file, with the user's own settings applied."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise KitError(f"site file {path}: no such file")
    else:
        known = site_files()
        if name not in known:
            raise unknown("site", name, known)
        path = known[name]
    data = read_toml(path)
    site = parse(Site, {"name": path.stem, **data}, path)
    settings = {key: value for key, (value, _) in user_settings().items()}
    if not settings:
        return site
    changed = site.model_dump()
    changed["organisation"] = settings.get("organisation", site.organisation)
    changed["container"]["runtime"] = settings.get("runtime", site.container.runtime)
    for partition in changed["partitions"].values():
        partition["account"] = settings.get("account", partition["account"])
        partition["queue"] = settings.get("queue", partition["queue"])
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
    written = read_toml(path)
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
