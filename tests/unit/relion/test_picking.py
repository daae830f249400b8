"""Pickers side by side: the files they leave, what they are held against, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import kit

from kit.benchmarks.relion import picking
from kit.benchmarks.relion.accuracy import against, positions
from kit.core.errors import KitError

# One particle at (150, 250) and one at (400, 90), as each program writes them.
CBOX = """
data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
100.0 200.0 <NA> 100.0 100.0 1.0 90.1 92.0 0.91 1.0 <NA>
350.0 40.0 <NA> 100.0 100.0 1.0 88.0 90.5 0.35 1.0 <NA>
10.0 10.0 <NA> 100.0 100.0 1.0 88.0 90.5 0.12 1.0 <NA>

"""
FILES = {
    "mic_autopick.star": "\ndata_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n150.0 250.0\n400.0 90.0\n",
    "mic.box": "100\t200\t100\t100\n350\t40\t100\t100\n",
    "mic.cbox": CBOX,
    "topaz.txt": "image_name\tx_coord\ty_coord\tscore\nmic\t150\t250\t5.1\nmic\t400\t90\t0.4\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_picker(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    for path in (tmp_path / name, tmp_path):
        found = picking.read(path)
        assert list(found) == ["mic"]
        assert found["mic"].tolist() == [[150, 250], [400, 90]]


def test_topaz_as_star(tmp_path: Path) -> None:
    """Its own STAR files name their block."""
    text = (
        "data_images\nloop_\n_rlnAutopickFigureOfMerit #1\n_rlnMicrographName #2\n_rlnCoordinateX #3\n_rlnCoordinateY #4\n"
    )
    (tmp_path / "mic_autopick.star").write_text(text + "6.3\tmic.mrc\t150\t250\n")
    assert picking.read(tmp_path)["mic"].tolist() == [[150, 250]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "mic.box",
            "100 200 100\n1 2\n",
            "mic.box: not coordinates as programs write them to .box: rows of X Y WIDTH HEIGHT",
        ),
        ("mic.box", "a b c d\n", "mic.box: not coordinates as programs write them to .box: could not convert"),
        ("mic.box", "nan nan 10 10\n", "mic.box: a coordinate in mic is not a number"),
        ("mic.cbox", CBOX.replace("_Width", "_Breadth"), "mic.cbox: no label _Width in data_cryolo"),
        ("mic_autopick.star", "\ndata_\n\n_rlnBeamTiltX 1\n", "no label _rlnCoordinateX in any block"),
        ("mic_autopick.star", FILES["mic_autopick.star"].replace("250.0", "abc"), "mic_autopick.star: not coordinates"),
        ("mic_autopick.star", "\ndata_\n\nloop_\n_rlnCoordinateX #1\n150.0\n", "'rlnCoordinateY'"),
        ("picks.txt", "image_name\tx\ty_coord\n", "no column x_coord of Topaz's table"),
        ("picks.txt", FILES["topaz.txt"].replace("150", "foo"), "picks.txt: not coordinates as programs write them to .txt"),
        ("picks.txt", "", "picks.txt: not coordinates as programs write them to .txt"),
        ("picks.json", "{}", "not a file of coordinates; known endings: .star, .box, .cbox, .txt"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(KitError, match=re.escape(message)):
        picking.read(tmp_path / name)


def test_no_picks_are_an_answer(tmp_path: Path) -> None:
    """Of a picker that found nothing."""
    (tmp_path / "mic.box").write_text("")
    assert picking.read(tmp_path / "mic.box")["mic"].shape == (0, 2)
    (tmp_path / "topaz.txt").write_text(FILES["topaz.txt"].splitlines()[0] + "\n")
    assert picking.read(tmp_path / "topaz.txt") == {}
    assert against({}, {"mic": np.zeros((3, 2))}, 10).as_dict()["centre_error"] is None


def test_two_files_of_one_micrograph(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mic.box").write_text(FILES["mic.box"])
    with pytest.raises(KitError, match="mic has coordinates in another file of"):
        picking.read(tmp_path)
    with pytest.raises(KitError, match="nowhere: no such file or folder"):
        picking.read(tmp_path / "nowhere")


def test_a_folder_without_picks(tmp_path: Path) -> None:
    (tmp_path / "coords_suffix_autopick.star").write_text("CtfFind/job003/micrographs_ctf.star\n")
    (tmp_path / "notes.txt").write_text("nothing\n")
    with pytest.raises(KitError, match="holds no file of coordinates"):
        picking.read(tmp_path)


def test_sets_are_held_against_each_other_by_micrograph() -> None:
    true = {"a": np.array([[10.0, 10.0], [90.0, 90.0]]), "b": np.array([[50.0, 50.0]])}
    moved = {"a": true["a"] + [3.0, -2.0], "b": np.array([[50.0, 50.0], [10.0, 80.0]])}
    held = against(moved, true, 10)
    assert (held.found, held.true, held.matched) == (4, 3, 3)
    assert against({"a": true["a"][:1]}, true, 10).recall == 0.5  # what was not looked at does not count
    assert against({"a": true["a"] + 40.0}, true, 10).f1 == 0


def test_names_of_digits_are_names(tmp_path: Path) -> None:
    (tmp_path / "topaz.txt").write_text(FILES["topaz.txt"].replace("mic", "0012"))
    assert list(picking.read(tmp_path)) == ["0012"]


MICROGRAPHS = [f"micrograph{number:02d}" for number in range(24)]
ROWS = {name: np.array([[100.0 + 9 * number, 250.0], [400.0, 90.0]]) for number, name in enumerate(MICROGRAPHS)}


def leave(folder: Path, found: dict[str, np.ndarray]) -> None:
    """The files of a picking job of RELION, which leaves an empty one where it found nothing."""
    for name, places in found.items():
        path = folder / f"movies/{name}_autopick.star"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{x} {y}\n" for x, y in places)
        path.write_text(f"\ndata_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n{rows}" if len(places) else "")
    (folder / "RELION_JOB_EXIT_SUCCESS").touch()
    (folder / "coords_suffix_autopick.star").write_text("CtfFind/job003/micrographs_ctf.star\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """24 micrographs that one picker looked at, ten of which another looked at, too, and found the same."""
    (tmp_path / "CtfFind/job003").mkdir(parents=True)
    head = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 2.0\n\ndata_micrographs\n\nloop_\n"
    names = "".join(f"MotionCorr/job002/movies/{name}.mrc 1\n" for name in MICROGRAPHS)
    table = f"{head}_rlnMicrographName #1\n_rlnOpticsGroup #2\n{names}"
    (tmp_path / "CtfFind/job003/micrographs_ctf.star").write_text(table)
    leave(tmp_path / "AutoPick/job004", ROWS)
    leave(tmp_path / "AutoPick/job005", {name: ROWS[name] for name in MICROGRAPHS[:10]})
    return tmp_path


def test_what_a_picker_was_not_asked_is_no_miss(project: Path) -> None:
    result = json.loads(kit("relion", "picks", str(project), "--diameter", "200", "--json").stdout)
    (pair,) = result["pairs"]
    assert (pair["f1"], pair["micrographs"]) == (1.0, 10)
    assert [(row["name"], row["micrographs"], row["picks"]) for row in result["sets"]] == [
        ("AutoPick/job004", 24, 48),
        ("AutoPick/job005", 10, 20),
    ]
    assert (
        "  1.000  10  AutoPick/job004, AutoPick/job005" in kit("relion", "picks", str(project), "--diameter", "200").stdout
    )


def test_what_a_picker_did_not_find_is_a_miss(project: Path) -> None:
    """Of ten micrographs it found nothing in five, and was asked."""
    leave(project / "AutoPick/job005", dict.fromkeys(MICROGRAPHS[:5], np.empty((0, 2))))
    (pair,) = picking.compare(project, {}, 200)["pairs"]
    assert (pair["f1"], pair["micrographs"]) == (pytest.approx(2 * 10 / (20 + 10)), 10)
    header = "\ndata_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
    (project / f"AutoPick/job005/movies/{MICROGRAPHS[5]}_autopick.star").write_text(header)  # as RELION 5 leaves it
    (pair,) = picking.compare(project, {}, 200)["pairs"]
    assert (pair["f1"], pair["micrographs"]) == (pytest.approx(2 * 8 / (20 + 8)), 10)


def test_pickers_that_saw_nothing_in_common(project: Path) -> None:
    shutil.rmtree(project / "AutoPick/job004")
    leave(project / "AutoPick/job004", {name: ROWS[name] for name in MICROGRAPHS[10:]})
    (pair,) = picking.compare(project, {}, 200)["pairs"]
    assert (pair["f1"], pair["micrographs"]) == (None, 0)
    assert re.search(r"\n +-  +0  AutoPick/job004, AutoPick/job005$", picking.report(picking.compare(project, {}, 200)))


def test_a_table_that_names_only_what_it_found(project: Path) -> None:
    """Topaz writes no row of a micrograph without particles; the kit keeps a list of those that it gave it."""
    folder = project / "Picking/topaz"
    folder.mkdir(parents=True)
    rows = [f"{name}\t{x}\t{y}\t1" for name in MICROGRAPHS[:6] for x, y in ROWS[name]]
    (folder / "topaz.txt").write_text("\n".join(["image_name\tx_coord\ty_coord\tscore", *rows]) + "\n")

    def pair() -> tuple[float, int]:
        pairs = {(pair["first"], pair["second"]): pair for pair in picking.compare(project, {}, 200)["pairs"]}
        found = pairs["AutoPick/job004", "Picking/topaz"]
        return found["f1"], found["micrographs"]

    assert pair() == (1.0, 6)
    (folder / "micrographs.json").write_text(json.dumps(MICROGRAPHS[:8]))
    assert pair() == (pytest.approx(2 * 12 / (16 + 12)), 8)


def test_micrographs_of_old_projects_and_of_several_jobs(project: Path) -> None:
    """Before RELION 3.1 a table has no optics groups; job 1000 is later than job 999."""
    path = project / "CtfFind/job1000/micrographs_ctf.star"
    path.parent.mkdir()
    labels = "_rlnMicrographName #1\n_rlnMagnification #2\n_rlnDetectorPixelSize #3\n"
    path.write_text(f"\ndata_\n\nloop_\n{labels}MotionCorr/job002/movies/late.mrc 50000.0 14.0\n")
    (project / "CtfFind/job999").mkdir()
    shutil.copy(project / "CtfFind/job003/micrographs_ctf.star", project / "CtfFind/job999")
    paths, pixel = picking.micrographs(project)
    assert pixel == 2.8  # 14 micrometres, 50,000 times magnified
    assert set(paths) == {*MICROGRAPHS, "late"}
    path.write_text("\ndata_\n\nloop_\n_rlnMicrographName #1\nMotionCorr/job002/movies/late.mrc\n")
    with pytest.raises(KitError, match=r"job1000/micrographs_ctf.star: says no pixel size"):
        picking.micrographs(project)


def test_an_empty_file_of_picks_scores_as_no_picks(project: Path) -> None:
    leave(project / "AutoPick/job005", {MICROGRAPHS[0]: np.empty((0, 2))})
    assert positions(project, "AutoPick/job005", MICROGRAPHS[0]).shape == (0, 2)
    (project / "AutoPick/job005/movies/micrograph01_autopick.star").write_text("<html></html>")
    with pytest.raises(KitError, match="no label _rlnCoordinateX in any block"):
        positions(project, "AutoPick/job005", MICROGRAPHS[1])
