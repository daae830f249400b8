"""What goes into a pack: images that are there, and nothing from outside of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest

from kit.benchmarks.relion.isolated import particles
from kit.benchmarks.relion.phantom import write_star
from kit.core.errors import KitError


def test_images_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    names = ["000001@Extract/a.mrcs", "000009@Extract/a.mrcs"]
    star = tmp_path / "particles.star"
    write_star(star, {"particles": pd.DataFrame({"rlnImageName": names, "rlnClassNumber": [1, 2]})})
    with pytest.raises(
        KitError, match=r"particles.star: _rlnImageName names images of Extract/a.mrcs, which cannot be read"
    ):
        particles(tmp_path, star, tmp_path / "pack")
    (tmp_path / "Extract").mkdir()
    mrcfile.write(tmp_path / "Extract/a.mrcs", np.zeros((2, 4, 4), dtype=np.float32))
    shutil.rmtree(tmp_path / "pack/particles")
    with pytest.raises(KitError, match="which cannot be read: index 8 is out of bounds"):
        particles(tmp_path, star, tmp_path / "pack")


def test_nothing_outside_of_the_run_is_packed(tmp_path: Path) -> None:
    """A pack is for others: what a STAR file or a link names elsewhere stays there."""
    directory = tmp_path / "run"
    (directory / "pack").mkdir(parents=True)
    mrcfile.write(tmp_path / "secret.mrcs", np.zeros((2, 4, 4), dtype=np.float32))
    (directory / "linked.mrcs").symlink_to(tmp_path / "secret.mrcs")
    for name in ("../secret.mrcs", "linked.mrcs", str(tmp_path / "secret.mrcs")):
        star = directory / "particles.star"
        write_star(star, {"particles": pd.DataFrame({"rlnImageName": [f"000001@{name}", f"000002@{name}"]})})
        with pytest.raises(KitError, match="lies outside of the run and its data"):
            particles(directory, star, directory / "pack")
        shutil.rmtree(directory / "pack/particles")
