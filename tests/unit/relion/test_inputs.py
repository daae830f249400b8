"""Faults in the data of a job are said before it starts, with the file and the label."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest

from kit.benchmarks.relion.agreement import original_pixel
from kit.benchmarks.relion.inputs import check_inputs
from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.picking import pixel_size
from kit.benchmarks.relion.star import read_star
from kit.core.errors import KitError

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
    """RELION merges optics groups."""
    save(folder, pixels=(1.5, 0.75))
    (warning,) = check_inputs(folder, REFINE, ["relion_refine --i particles.star --ref reference.mrc"])
    assert "_rlnImagePixelSize of the optics groups are mixed: 0.75, 1.5 angstrom; RELION merges them" in warning
    save(folder)
    assert check_inputs(folder, REFINE, ["relion_refine --i particles.star --ref reference.mrc"]) == []


@pytest.mark.parametrize("size", ["none", "nan", "0.0", "-1.5"])
def test_pixel_size_that_is_none(folder: Path, size: str) -> None:
    """In the input of a job, for picks, and where two runs are compared: the file, the block and the label are named."""
    star = folder / "particles.star"
    save(folder, pixels=(1.5, 0.75))
    star.write_text(star.read_text().replace("0.750000", size))
    message = f"{star}: _rlnImagePixelSize of data_optics is {size}, where a number above 0 is needed"
    assert said(folder) == message
    with pytest.raises(KitError, match=re.escape(message)):
        original_pixel(star)
    star.write_text("data_optics\n_rlnOpticsGroup 1\n")
    with pytest.raises(KitError, match="no label _rlnMicrographOriginalPixelSize or _rlnImagePixelSize in data_optics"):
        original_pixel(star)
    for labels, what in (
        ({"rlnMicrographPixelSize": size}, "rlnMicrographPixelSize"),
        ({"rlnDetectorPixelSize": 14, "rlnMagnification": size}, "rlnMagnification"),
    ):
        values = "".join(f"_{key} {value}\n" for key, value in labels.items())
        star.write_text(f"data_optics\n{values}")
        with pytest.raises(KitError, match=re.escape(f"{star}: _{what} of data_optics is {size}, where a number")):
            pixel_size(star, read_star(star))


@pytest.mark.parametrize("block", ["data_", "data_images"])
def test_particles_before_3_1(folder: Path, block: str) -> None:
    """A file without optics groups, whose table has no name of its own."""
    table = f"\n{block}\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n_rlnDefocusAngle #4\n"
    star = folder / "particles.star"
    star.write_text(table + "000001@Extract/one.mrcs 1 1 0\n")
    assert check_inputs(folder, REFINE, ["relion_refine --i particles.star --ref reference.mrc"]) == []
    star.write_text(table + "000001@Extract/none.mrcs 1 1 0\n")
    assert said(folder) == f"{star}: _rlnImageName names Extract/none.mrcs, which is not there"
    star.write_text(table + "000005@Extract/one.mrcs 1 1 0\n")
    assert said(folder) == f"{star}: _rlnImageName names image 5 of Extract/one.mrcs, which holds 4"
    star.write_text(table.replace("_rlnDefocusV", "_rlnDefocus") + "000001@Extract/one.mrcs 1 1 0\n")
    assert "no label _rlnDefocusV in" in said(folder)
    star.write_text(table + "x@Extract/one.mrcs 1 1 0\n")
    assert "_rlnImageName names 'x@Extract/one.mrcs', where NUMBER@FILE is needed" in said(folder)
    star.write_text(f"{block}\n\nloop_\n_rlnMicrographName #1\nmovies/z.mrcs\n")
    assert said(folder) == f"{star}: _rlnMicrographName names movies/z.mrcs, which is not there"


def test_what_is_no_star_file(folder: Path) -> None:
    star = folder / "particles.star"
    star.write_text("<!DOCTYPE html>\n<html><body>404 data_ not found</body></html>\n")
    assert said(folder) == f"{star}: not a STAR file: it has no data_ block"
    star.write_text("data_particles\n\nloop_\n_rlnImageName #1\n_rlnImageName #2\n1@a.mrcs 1@a.mrcs\n")
    assert said(folder) == f"{star}: line 5: label _rlnImageName stands twice in data_particles"
    star.write_text("")
    assert said(folder) == f"{star}: empty, but fn_img names it"


def test_mtf(folder: Path) -> None:
    """Of the option, and of the optics groups."""
    page = "<!DOCTYPE html>\n<html></html>\n"
    curve = "data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n0.0 1.0\n0.5 0.2\n"
    options, command = {"fn_mtf": "mtf.star"}, ["relion_postprocess --mtf mtf.star"]
    wanted = "no MTF: a STAR file with the labels _rlnResolutionInversePixel and _rlnMtfValue is needed"
    (folder / "mtf.star").write_text(page)
    with pytest.raises(KitError, match=f"mtf.star: {wanted}"):
        check_inputs(folder, options, command)
    (folder / "mtf.txt").write_text(page)
    with pytest.raises(KitError, match=f"mtf.txt: {wanted}"):
        check_inputs(folder, {"fn_mtf": "mtf.txt"}, ["relion_postprocess --mtf mtf.txt"])
    (folder / "mtf.star").write_text(curve)
    assert check_inputs(folder, options, command) == []
    save(folder)
    text = (folder / "particles.star").read_text()
    text = text.replace("_rlnImagePixelSize #2", "_rlnImagePixelSize #2\n_rlnMtfFileName #3").replace(
        "1.500000", "1.5 mtf.star"
    )
    assert "1.5 mtf.star" in text
    (folder / "particles.star").write_text(text)
    check_inputs(folder, REFINE, ["relion_refine --i particles.star --ref reference.mrc"])
    (folder / "mtf.star").write_text(page)
    assert f"{folder / 'mtf.star'}: {wanted}" in said(folder)
    (folder / "mtf.star").unlink()
    assert "_rlnMtfFileName names mtf.star, which is not there" in said(folder)


def test_paths_with_spaces(folder: Path) -> None:
    """RELION splits its commands, and the rows of its files, at spaces."""
    for option, value, command in (
        ("fn_img", "my data/particles.star", "relion_refine --i my data/particles.star --ref reference.mrc"),
        ("fn_in_raw", "my movies/*.mrcs", "relion_import --i 'my movies/*.mrcs'"),
        ("fn_mask", "a mask.mrc", "relion_refine --solvent_mask a mask.mrc"),
    ):
        with pytest.raises(KitError, match=f"{option} = '.*': RELION splits its commands at spaces"):
            check_inputs(folder, {option: value}, [command])
    words = {"sampling": "7.5 degrees", "other_args": "--a 1.5 --b x/y", "fn_mask": "an unused mask.mrc"}
    check_inputs(folder, words, ["relion_refine --healpix 7.5 degrees --a 1.5 --b x/y"])
    write(folder / "movies/c c.mrcs", (3, 16, 16))
    assert f"{folder / 'movies/c c.mrcs'}: RELION splits names at spaces" in said(folder, IMPORT)
    (folder / "Extract/two two.mrcs").write_bytes((folder / "Extract/one.mrcs").read_bytes())
    save(folder, rlnImageName=[f"{i + 1:06d}@Extract/two two.mrcs" for i in range(4)])
    assert "_rlnImageName names 'Extract/two two.mrcs': RELION splits names at spaces" in said(folder)
    star = folder / "particles.star"
    star.write_text(star.read_text().replace("'", "").replace('"', ""))
    assert "5 values for 4 labels (text with spaces is quoted)" in said(folder)


def test_images_that_are_not_there(folder: Path) -> None:
    save(folder, rlnImageName=[f"{i:06d}@Extract/one.mrcs" for i in (1, 2, 3, 5)])
    assert "_rlnImageName names image 5 of Extract/one.mrcs, which holds 4" in said(folder)
    save(folder, rlnImageName=[f"{i:06d}@Extract/two.mrcs" for i in range(1, 5)])
    assert "_rlnImageName names Extract/two.mrcs, which is not there" in said(folder)
    save(folder)
    stack = folder / "Extract/one.mrcs"
    stack.write_bytes(stack.read_bytes()[:-1])
    assert f"{stack}: cut short, or no MRC file" in said(folder)
