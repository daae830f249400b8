"""An image for other processors, or with another MPI than the launcher's, is refused before a job waits for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.images.built import sif_arch
from kit.plan import Request, make_plan
from kit.site import Site, load_site


@pytest.mark.parametrize(("code", "arch"), [(b"02", "x86_64"), (b"04", "aarch64"), (b"06", "ppc64le"), (b"99", "99")])
def test_processors_of_a_sif(tmp_path: Path, code: bytes, arch: str) -> None:
    sif = tmp_path / "x.sif"
    sif.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + b"01\0" + code + b"\0" + bytes(20))
    assert sif_arch(sif) == arch


def test_what_is_no_sif(tmp_path: Path) -> None:
    (tmp_path / "x.sif").write_bytes(b"hello")
    with pytest.raises(KitError, match="is no SIF"):
        sif_arch(tmp_path / "x.sif")


def with_family(family: str, mpi: str = "outside") -> Site:
    table = load_site("example-slurm").model_dump()
    return Site.model_validate({**table, "container": {**table["container"], "mpi_family": family, "mpi": mpi}})


def test_another_mpi_than_the_launchers() -> None:
    request = Request("relion", "particles", "example-slurm")
    with pytest.raises(KitError, match=r"its MPI is openmpi, and that of site example-slurm is mpich"):
        make_plan(request, with_family("mpich"))
    for fitting in (with_family("openmpi"), with_family(""), with_family("mpich", "inside")):
        assert make_plan(request, fitting).image.mpi == "openmpi"
    alone = dataclasses.replace(request, benchmark="cloudmask", size="tiny", image="keras", ranks=1)
    assert make_plan(alone, with_family("mpich")).image.mpi == ""
