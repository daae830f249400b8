"""What unit tests are kept from: each engine that this machine may have is out of reach."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.images.built import docker_client, runtime_here
from kit.images.recipes import RECIPES
from kit.images.render import load_image
from kit.schedulers import slurm


def test_no_docker_engine_answers() -> None:
    with pytest.raises(KitError, match="no Docker engine answers"):
        docker_client()


@pytest.mark.parametrize("name", RECIPES)
def test_no_image_is_built(name: str) -> None:
    assert runtime_here(load_image(name)) is None


@pytest.mark.parametrize("program", ["apptainer", "singularity", "docker", "sbatch"])
def test_a_start_of_an_engine_is_noticed(program: str, stand_ins: Path, no_engine: Callable[[], None]) -> None:
    result = subprocess.run([program, "exec", "x.sif"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (99, f"a unit test started {program}\n")
    with pytest.raises(AssertionError, match=f"a unit test started {program} exec x.sif"):
        no_engine()
    (stand_ins / "started").unlink()


def test_a_start_through_the_kit_is_noticed(stand_ins: Path, no_engine: Callable[[], None]) -> None:
    with pytest.raises(KitError):
        slurm.submit(stand_ins / "job.sh")
    with pytest.raises(AssertionError, match="a unit test started sbatch"):
        no_engine()
    (stand_ins / "started").unlink()
