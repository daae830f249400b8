"""A unit test stands alone: no container runtime, no Docker engine, no scheduler, no built image, no settings of a user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# What starts a container or a job. A script may be rendered for them; none may be run.
ENGINES = (
    *("apptainer", "singularity", "docker", "podman", "podman-hpc"),
    *("sbatch", "srun", "squeue", "sacct", "sinfo", "scancel", "scontrol"),
    *("qsub", "qstat", "qdel", "qconf", "qacct", "bsub", "bjobs", "bkill", "flux", "pjsub", "pjstat", "pjdel"),
)
# `kit doctor` asks for versions, which starts nothing.
STAND_IN = """#!/bin/sh
[ "$*" = --version ] && echo "{name} version 1.0" && exit 0
echo "{name} $*" >>{started}
echo "a unit test started {name}" >&2
exit 99
"""


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs that fail, and write down that they were started, in the place of every engine."""
    folder = tmp_path_factory.mktemp("engines")
    for name in ENGINES:
        program = folder / name
        program.write_text(STAND_IN.format(name=name, started=folder / "started"))
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def no_engine(stand_ins: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Fails a test that reached for an engine, even one that expects to be told that there is none."""
    started = stand_ins / "started"
    started.unlink(missing_ok=True)
    monkeypatch.setenv("PATH", f"{stand_ins}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setenv("KIT_CACHE", str(empty_cache))
    monkeypatch.setenv("KIT_CONFIG", str(empty_cache / "kit.toml"))

    def check() -> None:
        assert not started.exists(), f"a unit test started {started.read_text()}"

    yield check
    check()
