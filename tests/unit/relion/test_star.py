"""The odd corners of STAR: what RELION of any version, its companions and editors leave, and what is no STAR."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from kit.benchmarks.relion import star
from kit.benchmarks.relion.star import count_rows, read_columns, read_star
from kit.core.errors import KitError

ROWS = "000001@a.mrcs m1.mrc 10000.5 1\n000002@a.mrcs m2.mrc 11000.5 2\n"
LABELS = "_rlnImageName #1\n_rlnMicrographName #2\n_rlnDefocusU #3\n_rlnClassNumber #4\n"
TABLE = f"data_particles\n\nloop_\n{LABELS}{ROWS}"
WANTED = ["rlnMicrographName", "rlnDefocusU", "rlnClassNumber"]
ODD = {
    "plain": TABLE,
    "without a name": TABLE.replace("data_particles", "data_"),
    "images, as before 3.1": TABLE.replace("data_particles", "data_images"),
    "a version before it": f"# version 30001\n\n{TABLE}",
    "comments between labels": TABLE.replace("_rlnDefocusU", "# angstrom\n\n_rlnDefocusU"),
    "a comment after a label": TABLE.replace("#3", "#3 # angstrom"),
    "comments between rows": TABLE.replace("000002", "# the second\n000002"),
    "a comment after a row": TABLE.replace("10000.5 1", "10000.5 1 # the first"),
    "indented labels and rows": TABLE.replace("_rln", "   _rln").replace("0000", "  0000", 1),
    "labels without numbers": re.sub(r" #\d", "", TABLE),
    "tabs": TABLE.replace(" ", "\t"),
    "an empty line before the rows": TABLE.replace("000001", "\n000001"),
    "an empty line between rows": TABLE.replace("000002", "\n  \n000002"),
    "spaces at the ends": TABLE.replace("\n", "  \n"),
    "CR LF": TABLE.replace("\n", "\r\n"),
    "no end of the last line": TABLE.rstrip(),
    "quoted values": TABLE.replace("m1.mrc", "'m1.mrc'").replace("m2.mrc", '"m2.mrc"'),
    "a block before it": f"data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n\n{TABLE}",
    "a block after it": f"{TABLE}\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnOpticsGroupName\n1 'a group'\n",
    "a block after it, without a space between": f"{TABLE}data_general\n_rlnVersion 3.1\n",
    "single values before it": f"data_general\n_rlnVersion 3.1\n\n{TABLE}",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("packed", [False, True])
def test_odd_corners(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / ("particles.star.gz" if packed else "particles.star")
    path.write_bytes(gzip.compress(ODD[name].encode()) if packed else ODD[name].encode())
    block = {"without a name": "", "images, as before 3.1": "images"}.get(name, "particles")
    whole, some = read_star(path)[block], read_columns(path, "particles", WANTED)
    for table in (whole, some):
        assert table["rlnMicrographName"].tolist() == ["m1.mrc", "m2.mrc"]
        assert table["rlnDefocusU"].tolist() == [10000.5, 11000.5]
        assert table["rlnClassNumber"].tolist() == [1, 2]
    assert whole["rlnImageName"].tolist() == ["000001@a.mrcs", "000002@a.mrcs"]
    assert whole["rlnClassNumber"].dtype == np.int64
    assert list(some) == WANTED
    assert count_rows(path, "rlnImageName") == 2
    assert count_rows(path, "rlnNothing") is None


def test_blocks_after_a_table_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    path.write_text(ODD["a block after it"])
    blocks = read_star(path)
    assert list(blocks) == ["particles", "optics"]
    assert blocks["optics"].to_dict("list") == {"rlnOpticsGroup": [1], "rlnOpticsGroupName": ["a group"]}


def test_single_values(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    text = "data_general\n_rlnA 3 # three\n_rlnC nan\n_rlnD -1.5e3\n_rlnE 1_000\n_rlnF\n007\n_rlnG 0012\n"
    path.write_text(text + '_rlnB "two words"\n_rlnH ""\n')
    (values,) = read_star(path, text=["rlnG"]).values()
    assert np.isnan(values.pop("rlnC"))
    assert values.pop("rlnB") == "two words"
    assert values == {"rlnA": 3, "rlnD": -1500.0, "rlnE": "1_000", "rlnF": 7, "rlnG": "0012", "rlnH": ""}


def test_what_is_no_number(tmp_path: Path) -> None:
    """`nan` in a column of numbers is none; among names it is a name."""
    path = tmp_path / "x.star"
    path.write_text("data_particles\nloop_\n_rlnName\n_rlnValue\n_rlnOther\nnan nan <NA>\nNone 2.5 3\n")
    table = read_star(path)["particles"]
    assert table["rlnName"].tolist() == ["nan", "None"]
    for found in (table, read_columns(path, "particles", ["rlnValue", "rlnOther"])):
        assert np.isnan(found["rlnValue"][0])
        assert np.isnan(found["rlnOther"][0])
        assert found["rlnValue"][1] == 2.5
        assert found["rlnOther"][1] == 3


def test_quotes_and_marks_inside_of_words(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    path.write_text('data_x\nloop_\n_a\n_b\n"it\'s one" \'a "b"\'\na#1.mrc ""\n"tab\there" d\'or\n')
    table = read_star(path)["x"]
    assert table["a"].tolist() == ["it's one", "a#1.mrc", "tab\there"]
    assert table["b"].tolist() == ['a "b"', "", "d'or"]


def test_names_that_look_like_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    path.write_text("data_micrographs\nloop_\n_rlnMicrographName\n_n\nmy/data_a.mrc 1\nx_loop_.mrc 2\n\ndata_b\n_c 1\n")
    assert read_star(path)["micrographs"]["rlnMicrographName"].tolist() == ["my/data_a.mrc", "x_loop_.mrc"]
    assert list(read_star(path)) == ["micrographs", "b"]


def test_words_that_look_like_labels(tmp_path: Path) -> None:
    """Within a row, or quoted; and labels are those before rows, in each block of its own."""
    path = tmp_path / "x.star"
    path.write_text("data_a\nloop_\n_b\n_c\nx _y\n'_z' w_\n a_  _\n\ndata_d\nloop_\n_e\n1\n")
    blocks = read_star(path)
    assert blocks["a"].to_numpy().tolist() == [["x", "_y"], ["_z", "w_"], ["a_", "_"]]
    assert blocks["d"]["e"].tolist() == [1]


def test_empty_tables(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    for end in ("", "\n", "\n\ndata_b\n_c 1\n"):
        path.write_text(f"data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2{end}")
        table = read_star(path)[""]
        assert (list(table), len(table)) == (["rlnCoordinateX", "rlnCoordinateY"], 0)
        assert count_rows(path, "rlnCoordinateX") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("_rlnDefocusU", "_rlnImageName"), "line 6: label _rlnImageName stands twice in data_particles"),
        ("data_a\n_b 1\n_b 2\n", "line 3: label _b stands twice in data_a"),
        ("data_a\n_b 1\ndata_a\n_b 2\n", "line 3: data_a stands twice"),
        (TABLE.replace("m2.mrc", "m 2.mrc"), "line 9 has 5 values for 4 labels (text with spaces is quoted)"),
        (TABLE.replace("m1.mrc", "m 1.mrc"), "line 8 has 5 values for 4 labels (text with spaces is quoted)"),
        (TABLE + "000003@a.mrcs m3.mrc 1.0", "line 10: a value of data_particles is missing, or no number"),
        (TABLE + "000003@a.mrcs\t'm 3'  1.0", "line 10: a value of data_particles is missing, or no number"),
        ("data_a\n_b 1 2\n", "line 2: _b of data_a has 2 values; text with spaces is quoted"),
        ("data_a\n_b 1\n<p>hello</p>\n", "line 3: not a STAR file: a value of data_a has no label"),
        ("data_a\nloop_\n1 2 3\n", "line 3: data_a has rows but no labels"),
        ("data_a\nloop_\n_b\n_c\n1 2\n_d 3\n", "line 6: _d stands behind rows of data_a; labels stand before them"),
        ("data_a\nloop_\n_b\n1\n\n \t_d\n", "line 6: _d stands behind rows of data_a"),
        ("data_a\nloop_\n_b\n_c\n'1 x' 2\n3 4\n\n_d 3\ndata_b\n_e 1\n", "line 8: _d stands behind rows of data_a"),
        (TABLE + "\nloop_\n_x\n1\n", "line 11: data_particles holds more than one table"),
    ],
)
def test_what_is_no_star(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.star"
    path.write_text(text)
    with pytest.raises(KitError, match=re.escape(f"{path}: ") + ".*" + re.escape(message)):
        read_star(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, data, message in (
        ("latin.star", TABLE.replace("m1", "\xe4").encode("latin-1"), "not text"),
        ("cut.star.gz", gzip.compress(TABLE.encode())[:-20], "cannot be read"),
        ("plain.star.gz", TABLE.encode(), "cannot be read"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(KitError, match=f"{name}: .*{message}"):
            read_star(tmp_path / name)
    with pytest.raises(KitError, match="not a file"):
        read_star(tmp_path)
    (tmp_path / "x.star").write_text("data_a\n_\x1b[31mb 1 2\n")
    with pytest.raises(KitError) as error:
        read_star(tmp_path / "x.star")
    assert "\x1b" not in str(error.value)


def test_rows_in_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a chunk ends, the rows end where the next block begins."""
    path = tmp_path / "x.star"
    path.write_text(ODD["a block after it"])
    for size in range(1, 80, 3):
        monkeypatch.setattr("kit.benchmarks.relion.star.CHUNK", size)
        assert len(read_star(path)["particles"]) == 2
        assert list(read_star(path)["optics"]["rlnOpticsGroupName"]) == ["a group"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_a\nloop_\n" + "".join(f"_l{n}\n" for n in range(3000)), "more than 2000 labels"),
        ("".join(f"data_b{n}\n" for n in range(60_000)), "more than 50000 blocks"),
    ],
    ids=["labels", "blocks"],
)
def test_file_of_a_size_that_no_program_writes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.star").write_text(text)
    with pytest.raises(KitError, match=message):
        star.read_star(tmp_path / "x.star")


def test_one_block_of_many(tmp_path: Path) -> None:
    (tmp_path / "x.star").write_text("data_a\n_x 1\ndata_b\n_y 2\n")
    assert star.read_star(tmp_path / "x.star", only="b") == {"b": {"y": 2}}


def test_damaged_gzip(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"data_a\n_x 1\n" * 1000))
    packed[20:40] = bytes(20)
    (tmp_path / "x.star.gz").write_bytes(packed)
    with pytest.raises(KitError, match=r"x\.star\.gz: cannot be read"):
        read_star(tmp_path / "x.star.gz")


def test_a_line_of_a_separator_alone_says_nothing(tmp_path: Path) -> None:
    """It is white space to text, and none to bytes."""
    path = tmp_path / "x.star"
    path.write_bytes(b"data_x\n\x1c\n_rlnA 1\n")
    assert read_star(path)["x"] == {"rlnA": 1}
