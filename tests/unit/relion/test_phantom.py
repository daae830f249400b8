"""The generated particles: the known ratio, the known truth, the same bytes for the same seed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from kit.benchmarks.relion import phantom
from kit.core.checksums import manifest

SMALL = phantom.Settings(particles=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("particles")
    phantom.generate(folder, SMALL)
    return folder


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    time.sleep(1)  # what writes a map puts the time into its header, in seconds
    phantom.generate(tmp_path, SMALL)
    assert manifest(tmp_path) == manifest(folder)


def test_ratio_is_exact(folder: Path) -> None:
    truth = starfile.read(folder / "truth.star")["particles"]
    assert truth["rlnClassNumber"].value_counts().to_dict() == {1: 26, 2: 14}
    assert json.loads((folder / "truth.json").read_text())["counts"] == [26, 14]


def test_no_truth_in_what_relion_reads(folder: Path) -> None:
    assert not {"rlnAngleRot", "rlnOriginXAngst", "rlnClassNumber"} & set(
        starfile.read(folder / "particles.star")["particles"]
    )


def test_noise_is_the_unit(folder: Path) -> None:
    with mrcfile.open(folder / "particles.mrcs") as file:
        corners = file.data[:, :4, :4]
        assert file.is_image_stack()
        assert float(file.voxel_size.x) == pytest.approx(SMALL.pixel_size)
    assert corners.std() == pytest.approx(1, abs=0.1)


def test_projection_is_the_central_section_of_the_density() -> None:
    """The projection along z must be the sum of the map along z: one sum of atoms, done in two and in three dimensions."""
    atoms = phantom.load_species()["60S"]
    volume = phantom.density(atoms, 32, 10.6, 500.0)
    image = phantom.centred(phantom.project(atoms, np.eye(3), 32, 10.6, 500.0))
    assert np.corrcoef(volume.sum(axis=0).ravel(), image.ravel())[0, 1] > 0.9999


def test_ctf_of_a_known_case() -> None:
    """At 300 kV lambda is 0.01969 angstrom; with Cs = 0 the first zero beyond the amplitude term is where it must be."""
    q0, defocus = 0.1, 10000.0
    zero = np.sqrt((np.pi - np.arcsin(q0)) / (np.pi * 0.019687 * defocus))
    value = phantom.ctf(np.array(zero), np.array(0.0), defocus, defocus, 0.0, 300.0, 0.0, q0)
    assert abs(float(value)) < 1e-3
    assert float(phantom.ctf(np.array(0.0), np.array(0.0), defocus, defocus, 0.0, 300.0, 2.7, q0)) == pytest.approx(q0)


def test_rotation_is_relions() -> None:
    """RELION's Euler_angles2matrix at (10, 20, 30) degrees, third row: the beam in the molecule."""
    matrix = phantom.euler_matrices(np.array([10.0]), np.array([20.0]), np.array([30.0]))[0]
    assert matrix[2] == pytest.approx([0.336824, 0.059391, 0.939693], abs=1e-5)
    assert matrix[0] == pytest.approx([0.714610, 0.633718, -0.296198], abs=1e-5)
