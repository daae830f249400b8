"""The wheels of the kit and of everything it needs, for a machine without network: pip fetches them for that machine.

The versions are those that this kit runs with: another HPCCM may write another recipe, whose image would have another name.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path, PurePosixPath

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from kit.core import paths
from kit.core.errors import KitError

NAME = "science-kit"
OLDEST = 17  # the second number of the oldest glibc 2.x that wheels are still made for


@dataclass(frozen=True)
class Target:
    """Where wheels are to be installed: the minor version of its Python, its processor, and at least this glibc."""

    python: str
    machine: str
    glibc: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine}, glibc {self.glibc} or later"

    @property
    def platforms(self) -> list[str]:
        """The platforms whose wheels run there, newest first. pip takes a platform at its word, so older ones are named."""
        major, minor = map(int, self.glibc.split("."))
        names = [f"manylinux_{major}_{number}_{self.machine}" for number in range(minor, OLDEST - 1, -1)]
        return [*names, f"manylinux2014_{self.machine}"]

    @property
    def interpreter(self) -> str:
        return f"cp{self.python.replace('.', '')}"

    @property
    def tags(self) -> frozenset[Tag]:
        """The tags of wheels that can be installed there."""
        version = tuple(map(int, self.python.split(".")))
        own = cpython_tags(version, [self.interpreter], self.platforms)
        return frozenset([*own, *compatible_tags(version, self.interpreter, self.platforms)])

    @property
    def options(self) -> list[str]:
        """The options of pip that say so."""
        words = [
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={self.python}",
            f"--abi={self.interpreter}",
        ]
        return [*words, *(f"--platform={name}" for name in self.platforms)]

    @property
    def markers(self) -> dict[str, str]:
        """The values of environment markers there."""
        here = {key: str(value) for key, value in default_environment().items()}
        there = {"python_version": self.python, "python_full_version": f"{self.python}.0", "platform_machine": self.machine}
        return {**here, **there, "extra": "", "platform_python_implementation": "CPython", "implementation_name": "cpython"}


def target(python: str, machine: str, glibc: str) -> Target:
    """The target of what a command line says; KitError for a version that is not written as one."""
    python = python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not re.fullmatch(r"3\.\d{1,2}", python) or int(python[2:]) < 11:
        raise KitError(f"--python-version {python}: write it as 3.12; the kit needs 3.11 or later")
    if not re.fullmatch(r"2\.\d{1,2}", glibc) or int(glibc[2:]) < OLDEST:
        raise KitError(f"--glibc {glibc}: write it as 2.28 (ldd --version tells); 2.{OLDEST} or later")
    return Target(python, machine, glibc)


def fetch(folder: Path, there: Target) -> None:
    """Fills a folder with the wheels of the kit, of all it needs, and of pip; KitError with what pip said.

    A package that comes as source alone is built here, which is as good there when nothing in it is compiled.
    """
    folder.mkdir()
    with tempfile.TemporaryDirectory() as name:
        pins = Path(name) / "constraints.txt"
        pins.write_text(pinned())
        pip("wheel", "--wheel-dir", folder, "--constraint", pins, own_wheel(Path(name)), "pip")
        # These are for this machine. Some serve there as well, others are fetched anew, and pip has read markers
        # (python_version < "3.13") as of this Python.
        for _ in range(10):
            reached, missing = closure(folder, there)
            for wheel in folder.glob("*.whl"):
                project, _, _, tags = parse_wheel_filename(wheel.name)
                if project not in reached:
                    wheel.unlink()
                elif not tags & there.tags:
                    missing.append(f"{project}=={parse_wheel_filename(wheel.name)[1]}")
                    wheel.unlink()
            if not missing:
                return
            options = ["--no-deps", "--dest", folder, "--constraint", pins, *there.options]
            pip("download", *options, *missing, what=f"for {there}")
    raise KitError(f"the wheels for {there} need each other without end: {', '.join(missing)}")


def pinned() -> str:
    """Constraints for pip: the versions of everything that is installed here."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()) if name not in (NAME, "pip"))


def closure(folder: Path, there: Target) -> tuple[set[str], list[str]]:
    """What the kit needs on the target, of the wheels of a folder, by name; and the requirements that none of them meets."""
    wheels = {parse_wheel_filename(path.name)[0]: path for path in folder.glob("*.whl")}
    missing: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    wanted = [Requirement(NAME), Requirement("pip")]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in wheels:
            missing[name] = f"{requirement.name}{requirement.specifier}"
            continue
        for extra in {"", *requirement.extras} - {extra for seen_name, extra in seen if seen_name == name}:
            seen.add((name, extra))
            for text in requirements(wheels[name]):
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({**there.markers, "extra": extra}):
                    wanted.append(inner)
    return {name for name, _ in seen}, sorted(missing.values())


def requirements(wheel: Path) -> list[str]:
    """What a wheel says that it requires."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [entry for entry in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry)]
        return Parser().parsestr(archive.read(member).decode()).get_all("Requires-Dist") or []


def own_wheel(folder: Path) -> Path:
    """Makes the wheel of this kit: of its checkout, or of the files that it was installed as."""
    if paths.CHECKOUT is None:
        return packed_again(folder)
    ready = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip("wheel", "--no-deps", *ready, "--wheel-dir", folder, paths.CHECKOUT)
    (found,) = folder.glob("science_kit-*.whl")
    return found


def packed_again(folder: Path) -> Path:
    """The wheel that an installed kit came from: pip's record lists its files. Those that pip added are left out."""
    distribution = importlib.metadata.distribution(NAME)
    information = f"science_kit-{distribution.version}.dist-info"
    own = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
    rows = []
    path = folder / f"science_kit-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in distribution.files or []:
            parts = PurePosixPath(file).parts
            if parts[0] not in (paths.PACKAGE.name, information) or file.suffix == ".pyc":
                continue
            if parts[0] == information and file.name in own:
                continue
            content = file.read_binary()
            archive.writestr(file.as_posix(), content)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{file.as_posix()},sha256={hashed},{len(content)}\n")
        archive.writestr(f"{information}/RECORD", "".join([*rows, f"{information}/RECORD,,\n"]))
    if len(rows) < 10:
        raise KitError(f"{paths.PACKAGE}: pip has no record of the kit's files; install it again, with pip")
    return path


def pip(*words: object, what: str = "") -> None:
    """Runs the pip of this Python; KitError with its last lines."""
    if importlib.util.find_spec("pip") is None:
        raise KitError(f"{sys.executable}: has no pip, which fetches the wheels: {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", *map(str, words[:1]), "--disable-pip-version-check", "--quiet"]
    result = subprocess.run([*command, *map(str, words[1:])], capture_output=True, text=True)
    if result.returncode:
        said = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()[-3:]
        raise KitError(
            f"pip cannot fetch the wheels {what}".rstrip() + ":\n" + "\n".join(said) + "\nIt needs network, or "
            "PIP_INDEX_URL and PIP_FIND_LINKS of a mirror; --python-version and --glibc name another target"
        )
