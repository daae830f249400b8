"""Runs the stages of CloudMask inside their images, on ranks of Open MPI."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kit.images.built import built_sif
from kit.images.render import load_image

PYTHON = "/opt/venv/bin/python3"
CODE = ("-m", "kit.stages.cloudmask")


def command(folder: Path, ranks: int, *words: str, name: str = "horovod") -> list[str]:
    image = ["apptainer", "exec", "--no-privs", "--no-home", "--bind", str(folder), "--pwd", str(folder)]
    image += ["--nv"] if load_image(name).device == "cuda" and Path("/dev/nvidia0").exists() else []
    launcher = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks else []
    return [*image, "--env", "OMP_NUM_THREADS=1", str(built_sif(load_image(name))), *launcher, PYTHON, *words]


def stage(folder: Path, ranks: int, *words: str, code: int = 0, name: str = "horovod") -> str:
    result = subprocess.run(command(folder, ranks, *words, name=name), capture_output=True, text=True, timeout=600)
    assert (result.returncode == 0) == (code == 0), result.stdout + result.stderr
    return result.stdout + result.stderr
