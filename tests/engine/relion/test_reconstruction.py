"""relion-accelerated reconstructs the map that RELION's own code does, whatever its threads; and another one is noticed.

relion_reconstruct does what the maximisation of Class3D and Refine3D does, from known angles: nothing is random in it.
"""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from conftest import in_docker
from numpy.typing import NDArray

from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.maps import fsc
from kit.benchmarks.relion.star import read_star

BOX = 52  # no multiple of the 8 or 16 rows that are transformed at once
# Padded sizes 107, 99, 59 and 35 (a prime, 3^2 x 11, a prime, 5 x 7); symmetry, what replaces the iterations, the term of
# the prior, and another padding.
CASES = {
    "plain": "",
    "fine": "--maxres 15.4",
    "coarse": "--maxres 26.4",
    "coarser": "--maxres 46",
    "symmetric": "--sym D2",
    "nearest": "--NN",
    "skipped": "--skip_gridding",
    "prior": "--fsc data/fsc.star",
    "unpadded": "--pad 1",
}


# The box in which the two images are compared. Two compilers round differently, and where few images meet, the iterations of
# the weights enlarge that: in a box of 52 from 60 images, spectra of the two differ by up to 4 %.
PLAIN_BOX = 48


def particles(folder: Path, box: int) -> Path:
    (folder / "data").mkdir()
    (folder / "out").mkdir()
    phantom.generate(folder / "data", phantom.Settings(particles=60, box=box, pixel_size=7.1))
    return folder


def reconstruct(folder: Path, image: str, cases: dict[str, str], options: dict[str, str]) -> None:
    """Writes out/CASE-OPTION.mrc, the map of the particles from their true angles."""
    command = "relion_reconstruct --i data/truth.star --ctf --verb 0"
    script = [
        f"{command} {case} {option} --o out/{name}-{which}.mrc"
        for name, case in cases.items()
        for which, option in options.items()
    ]
    in_docker(image, " && ".join(script), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps by relion-accelerated, with 0 (RELION's own code), 1 and 2 threads."""
    folder = particles(tmp_path_factory.mktemp("reconstruction"), BOX)
    shells = "\n".join(f"{shell} {1 / (1 + (shell / 12) ** 4):.4f}" for shell in range(BOX // 2 + 1))
    head = "data_\n\nloop_\n_rlnSpectralIndex\n_rlnFourierShellCorrelationReference\n"
    (folder / "data/fsc.star").write_text(f"{head}{shells}\n")
    reconstruct(folder, "relion-accelerated", CASES, {f"{number}": f"--j {number}" for number in (0, 1, 2)})
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps by both images."""
    folder = particles(tmp_path_factory.mktemp("both"), PLAIN_BOX)
    reconstruct(folder, "relion-basic", {"plain": ""}, {"basic": ""})
    reconstruct(folder, "relion-accelerated", {"plain": ""}, {"accelerated": "--j 2"})
    return folder


def density(path: Path) -> NDArray[np.float64]:
    with mrcfile.open(path) as file:
        return file.data.astype(float)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Root mean square of the difference over that of the first."""
    return float(np.sqrt(((one - other) ** 2).sum() / (one**2).sum()))


@pytest.mark.parametrize("case", CASES)
def test_the_map_is_that_of_relions_own_code(folder: Path, case: str) -> None:
    own, *threads = (density(folder / f"out/{case}-{which}.mrc") for which in (0, 1, 2))
    assert np.isfinite(own).all()
    assert own.std() > 0
    # Maps are written in single precision, of which this is a few units.
    assert [difference(own, map) < 1e-6 for map in threads] == [True, True]


def test_the_map_is_that_of_relion_basic(both: Path) -> None:
    basic, accelerated = (density(both / f"out/plain-{which}.mrc") for which in ("basic", "accelerated"))
    assert fsc(basic, accelerated)[: PLAIN_BOX // 3].min() > 0.999


@pytest.mark.parametrize("case", CASES)
def test_threads_do_not_change_the_map(folder: Path, case: str) -> None:
    one, two = ((folder / f"out/{case}-{threads}.mrc") for threads in (1, 2))
    assert (density(one) == density(two)).all()


def test_another_map_is_noticed(folder: Path) -> None:
    """Every case differs from the plain one by far more than is allowed between images, the iterations left out too."""
    plain = density(folder / "out/plain-2.mrc")
    for case in CASES.keys() - {"plain"}:
        assert difference(plain, density(folder / f"out/{case}-2.mrc")) > 1e-4, case


def test_a_class_is_that_of_relion_basic(both: Path) -> None:
    """In Class3D: the prior's term, the transform of the reference and the spectra come in; kernels are single precision."""
    command = (
        "relion_refine --i data/particles.star --o out/IMAGE --ctf --particle_diameter 310 --flatten_solvent --zero_mask "
        "--norm --scale --K 1 --iter 3 --ref data/reference.mrc --firstiter_cc --ini_high 60 --healpix_order 1 "
        "--offset_range 3 --random_seed 1 --j 2"
    )
    images = {"relion-basic": "", "relion-accelerated": "--cpu"}
    for image, option in images.items():
        in_docker(image, f"{command.replace('IMAGE', image)} {option}", both)
    basic, accelerated = (read_star(both / f"out/{image}_it003_model.star") for image in images)
    resolution = float(basic["model_general"]["rlnCurrentResolution"])
    assert float(accelerated["model_general"]["rlnCurrentResolution"]) == pytest.approx(resolution)
    shell = round(PLAIN_BOX * 7.1 / resolution)
    assert shell > 2
    one, other = (density(both / f"out/{image}_it003_class001.mrc") for image in images)
    assert fsc(one, other)[: shell + 1].min() > 0.999
    spectra = [np.array(model["model_class_1"]["rlnSsnrMap"], float)[1 : shell + 1] for model in (basic, accelerated)]
    np.testing.assert_allclose(*spectra, rtol=0.01)
