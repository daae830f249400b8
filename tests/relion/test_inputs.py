"""Faults in the data of a job are said before it starts, with the file and the label."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest

from kit.benchmarks.relion.inputs import check_inputs
from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.project import RelionProject, pipeline_rows, write_job_star
from kit.errors import KitError
from kit.image import load_image

IMPORT = {"fn_in_raw": "movies/*.mrcs", "angpix": "1.5"}
REFINE = {
    "fn_img": "particles.star",
    "fn_ref": "reference.mrc",
    "do_ctf_correction": "Yes",
    "fn_mask": "off.mrc",
    "x": "2.5",
}


def write(path: Path, shape: tuple[int, ...], pixel: float = 1.5) -> None:
    path.parent.mkdir(exist_ok=True)
    with mrcfile.new(path, data=np.zeros(shape, dtype=np.float32)) as file:
        file.voxel_size = pixel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two movies, and four particles with a reference."""
    for name in "ab":
        write(tmp_path / f"movies/{name}.mrcs", (3, 16, 16))
    write(tmp_path / "Extract/one.mrcs", (4, 8, 8))
    write(tmp_path / "reference.mrc", (8, 8, 8))
    save(tmp_path)
    return tmp_path


def save(folder: Path, pixels: tuple[float, ...] = (1.5,), **columns: object) -> None:
    names = [f"{i + 1:06d}@Extract/one.mrcs" for i in range(4)]
    table = {"rlnImageName": names, "rlnDefocusU": [1e4] * 4, "rlnDefocusV": [1e4] * 4, "rlnDefocusAngle": [0.0] * 4}
    table |= columns
    optics = {"rlnOpticsGroup": range(1, len(pixels) + 1), "rlnImagePixelSize": pixels}
    kept = {key: value for key, value in table.items() if value is not None}
    write_star(folder / "particles.star", {"optics": pd.DataFrame(optics), "particles": pd.DataFrame(kept)})


def said(folder: Path, options: dict[str, str] = REFINE) -> str:
    command = "`which relion_refine` --i particles.star --ref reference.mrc --x 2.5"
    with pytest.raises(KitError) as error:
        check_inputs(folder, options, ["relion_import --i 'movies/*.mrcs' --angpix 1.5" if options is IMPORT else command])
    return str(error.value)


def test_good_data_pass_and_what_is_switched_off_is_not_read(folder: Path) -> None:
    check_inputs(folder, IMPORT, ["relion_import --i 'movies/*.mrcs' --angpix 1.5"])
    check_inputs(folder, REFINE, ["relion_refine --i particles.star --ref reference.mrc"])


def test_truncated_movie(folder: Path) -> None:
    path = folder / "movies/b.mrcs"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path}: cut short, or no MRC file: " in said(folder, IMPORT)


def test_mixed_movies(folder: Path) -> None:
    write(folder / "movies/c.mrcs", (3, 16, 16), pixel=0.75)
    assert "pixel sizes are mixed: 1.5 in" in said(folder, IMPORT)
    write(folder / "movies/d.mrcs", (3, 32, 32))
    assert "image sizes are mixed: (16, 16) in" in said(folder, IMPORT)
    shutil.rmtree(folder / "movies")
    assert "fn_in_raw = movies/*.mrcs matches no file" in said(folder, IMPORT)


def test_missing_reference(folder: Path) -> None:
    (folder / "reference.mrc").unlink()
    assert said(folder) == f"{folder / 'reference.mrc'}: missing, but fn_ref names it"


def test_missing_label(folder: Path) -> None:
    save(folder, rlnDefocusU=None)
    assert said(folder) == f"{folder / 'particles.star'}: no label _rlnDefocusU in data_particles"
    save(folder, rlnImageName=None)
    assert "no label _rlnImageName in data_particles" in said(folder)


def test_mixed_pixel_sizes(folder: Path) -> None:
    save(folder, pixels=(1.5, 0.75))
    assert "_rlnImagePixelSize of the optics groups are mixed: 0.75, 1.5 angstrom" in said(folder)


def test_images_that_are_not_there(folder: Path) -> None:
    save(folder, rlnImageName=[f"{i:06d}@Extract/one.mrcs" for i in (1, 2, 3, 5)])
    assert "_rlnImageName names image 5 of Extract/one.mrcs, which holds 4" in said(folder)
    save(folder, rlnImageName=[f"{i:06d}@Extract/two.mrcs" for i in range(1, 5)])
    assert "_rlnImageName names Extract/two.mrcs, which is not there" in said(folder)
    save(folder)
    stack = folder / "Extract/one.mrcs"
    stack.write_bytes(stack.read_bytes()[:-1])
    assert f"{stack}: cut short, or no MRC file" in said(folder)


def test_a_schedule_ends_before_the_job_starts(folder: Path) -> None:
    """The missing gain of a real project: nothing is launched, and the job can be run once it is there."""
    project = RelionProject(folder, load_image("relion-basic"))
    write_job_star(folder / "import_job.star", "import", {**IMPORT, "kV": "300", "Cs": "2.7", "Q0": "0.1"}, project.numbered)
    options = {"input_star_mics": "Import/job001/movies.star", "fn_gain_ref": "gain.mrc"}
    write_job_star(folder / "motioncorr_job.star", "motioncorr", options, project.numbered)
    jobs = [project.schedule_job(f"{kind}_job.star") for kind in ("import", "motioncorr")]
    with pytest.raises(KitError, match=r"gain.mrc: missing, but fn_gain_ref names it"):
        project.run_schedule("x", jobs)
    assert [row[3] for row in pipeline_rows(folder, "processes")] == ["2", "1"]
    assert not (folder / jobs[1].name / "run.out").exists()
