"""Reading: the survey's form and the published binned files, and everything in them that is refused, with where it is."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from kit.benchmarks.tevolop import etas
from kit.stages.tevolop import catalogue, grid
from kit.stages.tevolop.catalogue import CatalogueError, gather

DAYS = 3304  # the fewest
FEW = 60  # of binned files, whose reader takes any number


def small() -> etas.Events:
    """Four events in one fortnight of one pixel, and one elsewhere."""
    day = np.array([20.0, 21.0, 22.0, 23.0, 40.0])
    latitude, longitude = np.array([34.01, 34.02, 34.03, 34.04, 32.55]), np.array([-117.05] * 4 + [-115.55])
    magnitude = np.array([3.0, 4.0, 3.5, 2.6, 5.0])
    return etas.Events(day, latitude, longitude, np.array([5.0, 10.0, 6.0, 7.0, 9.0]), magnitude, np.full(5, -1))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "catalogue").mkdir()
    etas.write_csv(tmp_path / "catalogue/a.csv", small())
    return tmp_path


def test_events_are_summed_in_fortnights_and_pixels(data: Path) -> None:
    found = gather(data, DAYS, 2.5, 0.0)
    place = grid.pixel(34.01, -117.05)
    assert place == 19 * 60 + 29
    energies = 10 ** (1.5 * np.array([3.0, 4.0, 3.5, 2.6]))
    assert found.energy[1, place] == pytest.approx(energies.sum())
    assert found.depth[1, place] == pytest.approx((energies * [5, 10, 6, 7]).sum() / energies.sum())
    assert (found.events[1, place], found.large[1, place], found.events.sum()) == (4, 2, 5)
    assert found.counts["used"] == found.counts["read"] == 5
    assert found.largest[0]["magnitude"] == 5.0
    assert found.largest[0]["fortnight"] == 2
    assert float(grid.magnitude(found.energy[1, place])) == pytest.approx(np.log10(energies.sum()) / 1.5)


def test_what_is_generated_is_what_is_read(made_events: Path) -> None:
    events = etas.simulate(3, 6000, 200)
    found = gather(made_events, 6000, 2.5, 0.0)
    kept = events.taken(events.day < 428 * 14)
    assert found.counts["used"] == len(kept.day)
    counts = np.bincount(etas.pixels_of(kept), minlength=grid.PIXELS)
    assert np.abs(found.events.sum(axis=0) - counts).sum() < 20  # at the edges of pixels by the rounding of places
    assert found.energy.sum() == pytest.approx((10 ** (1.5 * kept.magnitude)).sum(), rel=0.02)


def test_what_is_left_out_is_counted(data: Path) -> None:
    path = data / "catalogue/a.csv"
    lines = path.read_text().splitlines()
    name = lines[0].split(",")
    changes = {2: ("type", "quarry blast"), 3: ("mag", ""), 4: ("depth", ""), 5: ("mag", "1.2")}
    for line, (key, value) in changes.items():
        cells = lines[line].split(",")
        cells[name.index(key)] = value
        lines[line] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    counts = gather(data, DAYS, 2.5, 0.0).counts
    assert counts == {"read": 5, "used": 2, "outside": 0, "small": 1, "no_magnitude": 1, "no_depth": 1, "no_earthquake": 1}


def test_both_orders_of_time_and_the_services_names_are_read(data: Path) -> None:
    path = data / "catalogue/a.csv"
    lines = path.read_text().splitlines()
    path.unlink()
    name = "query?starttime=1950-01-01&format=csv"
    (data / "catalogue" / name).write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert gather(data, DAYS, 2.5, 0.0).counts["used"] == 5


def edit(line: int, key: str, value: str) -> Callable[[Path], None]:
    """Another value in a line of the file (the first event is line 2)."""

    def change(path: Path) -> None:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        rows[line - 1][rows[0].index(key)] = value
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    return change


def column_gone(path: Path) -> None:
    path.write_text(path.read_text().replace(",mag,", ",magnitude,", 1))


def cut_off(path: Path) -> None:
    path.write_text(path.read_text()[:-60])


def unordered(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (column_gone, r"a\.csv: column 'mag' is missing .*format=csv"),
        (cut_off, r"a\.csv: line 6: \d+ cells, where the header has 22: the file is cut off or damaged; fetch it again"),
        (unordered, r"a\.csv: line 4, time .*: out of order; sort the file by time"),
        (edit(3, "id", "kit0000004"), r"a\.csv: line 3, id 'kit0000004': comes twice or is empty; remove"),
        (edit(3, "id", ""), r"line 3, id '': comes twice or is empty"),
        (edit(3, "mag", "nan"), r"a\.csv: line 3, mag: nan is not between -3 and 10; correct or remove the line"),
        (edit(3, "mag", "55"), r"line 3, mag: 55 is not between"),
        (edit(3, "mag", "big"), r"line 3, mag: 'big' is no number"),
        (edit(3, "depth", "6371"), r"line 3, depth: 6371 is not between -10 and 1000"),
        (edit(3, "latitude", "inf"), r"line 3, latitude: inf is not between"),
        (edit(3, "longitude", ""), r"line 3, longitude: '' is no number"),
        (edit(3, "time", "yesterday"), r"line 3, time: 'yesterday' is no time such as 1992.*; correct or remove the line"),
        (edit(3, "latitude", "37.9"), r"1 of 5 events lie outside 32 to 36 N.*is it the catalogue of another region\?"),
        (edit(6, "time", "1949-12-31T23:59:59Z"), r"1 of 5 events lie outside .*3304 days since 1950"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), r"a\.csv: is no text \(UTF-8\); fetch it again"),
        (lambda path: path.write_text(""), r"a\.csv: column 'time' is missing"),
        (lambda path: path.write_text("<html>busy</html>\n"), r"a\.csv: column 'time' is missing"),
        (lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"), r"not one of 0 events is of the region"),
    ],
)
def test_what_is_no_catalogue_is_refused(data: Path, change: Callable[[Path], None], message: str) -> None:
    change(data / "catalogue/a.csv")
    with pytest.raises(CatalogueError, match=message):
        gather(data, DAYS, 2.5, 0.0)


def test_some_events_outside_are_tolerated_and_counted(data: Path) -> None:
    edit(3, "latitude", "37.9")(data / "catalogue/a.csv")
    assert gather(data, DAYS, 2.5, 0.2).counts["outside"] == 1


def test_a_part_that_the_service_may_have_cut_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "ROW_LIMIT", 5)
    with pytest.raises(CatalogueError, match=r"a\.csv: has 5 events, the most that the service gives at once"):
        gather(data, DAYS, 2.5, 0.0)


def test_an_event_in_two_parts_is_refused(data: Path) -> None:
    shutil.copy(data / "catalogue/a.csv", data / "catalogue/b.csv")
    with pytest.raises(CatalogueError, match=r"b\.csv: line 2, id 'kit0000004': comes twice"):
        gather(data, DAYS, 2.5, 0.0)


def test_data_that_are_neither_or_too_short_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="--days 3000: 236 fortnights or more are needed"):
        gather(data, 3000, 2.5, 0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogueError, match=r"has neither catalogue/\*\.csv nor one file .*kit data make"):
        gather(tmp_path / "empty", DAYS, 2.5, 0.0)
    (data / "SC-log_eng.multi.csv").write_text("")
    with pytest.raises(CatalogueError, match="has a catalogue and binned files"):
        gather(data, DAYS, 2.5, 0.0)
    shutil.rmtree(data / "catalogue")
    with pytest.raises(CatalogueError, match=r"SC-log_eng\.multi\.csv: line 1: a header"):
        gather(data, DAYS, 2.5, 0.0)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return [f"{day}" + ",0.0" * grid.PIXELS for day in range(FEW)]


@pytest.fixture
def binned(tmp_path: Path, lines: list[str]) -> Path:
    """Published files with one event, magnitude 4 on day 30 in pixel 7, and what one says and another does not."""
    folder = tmp_path / "1950start"
    folder.mkdir()
    header = "," + ",".join(map(str, range(grid.PIXELS)))
    values = {"log_eng": "4.0", "w_depth": "6.5", "n_shock": "3", "n_shock-mag-3.29": "1"}
    for word, value in values.items():
        cells = lines[30].split(",")
        cells[8] = value
        if word == "log_eng":
            cells[9] = "2.0"  # of no event
        text = "\n".join([header, *lines[:30], ",".join(cells), *lines[31:]]) + "\n"
        (folder / f"SC_1950-2019.freq-D-25567x2400-{word}.multi.csv").write_text(text)
    (folder / "._SC_1950-2019.freq-D-25567x2400-log_eng.multi.csv").write_text("macOS")
    (tmp_path / "topearthquakes_20.csv").write_text(
        "date,long,lat,mag,depth,name\n1952-07-21,-119.0,35.0,7.5,10,Kern County\n"
    )
    return tmp_path


def read(data: Path) -> catalogue.Gathered:
    (path,) = (data / "1950start").glob("SC*-log_eng.multi.csv")
    return catalogue.read_binned(path, FEW, data)


def test_binned_files_are_read(binned: Path) -> None:
    found = read(binned)
    assert found.energy[2, 7] == pytest.approx(10**6.0)
    assert (found.depth[2, 7], found.events[2, 7], found.large[2, 7]) == pytest.approx((6.5, 3, 1))
    assert found.events.sum() == 3
    assert found.counts == {"read": 3, "used": 3, "unlike": 1}
    (event,) = found.largest
    when = grid.BEGIN + timedelta(days=event["fortnight"] * 14)
    assert (event["name"], when.year, event["pixel"]) == ("Kern County", 1952, grid.pixel(35.0, -119.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\n7,", "\n8,", 1), r"log_eng\.multi\.csv: line 9: is of day 8, where day 7 is needed"),
        (lambda text: text.replace(",4.0,", ",", 1), r"line 32: 2400 cells, where 2401 are needed; fetch it again"),
        (lambda text: text.replace(",4.0,", ",nan,", 1), r"line 32: has a value that is not finite"),
        (lambda text: text.replace(",4.0,", ",44.0,", 1), r"line 32: has a value .* not between -10 and 10"),
        (lambda text: text.replace(",4.0,", ",x,", 1), r"line 32: holds what is no number"),
        (lambda text: "time" + text, r"line 1: a header with an empty first cell is needed"),
        (lambda text: "\n".join(text.splitlines()[:50]) + "\n", r"has 49 days, where 60 are needed; it is cut off"),
        (lambda text: text.replace(",4.0,", ",0.0,").replace(",2.0,", ",0.0,"), r"has no day with an event"),
    ],
)
def test_what_is_no_binned_file_is_refused(binned: Path, change: Callable[[str], str], message: str) -> None:
    (path,) = (binned / "1950start").glob("SC*-log_eng.multi.csv")
    path.write_text(change(path.read_text()))
    with pytest.raises(CatalogueError, match=message):
        read(binned)


def test_a_binned_file_that_is_missing_is_named(binned: Path) -> None:
    next((binned / "1950start").glob("*w_depth*")).unlink()
    with pytest.raises(CatalogueError, match=r"w_depth\.multi\.csv: missing; the four binned files are one data set"):
        read(binned)


def test_faults_and_largest_events_that_are_none_are_refused(binned: Path) -> None:
    assert not catalogue.read_faults(binned).any()
    (binned / "pix_faults_SmallJan21.csv").write_text("1,2,3\n")
    with pytest.raises(CatalogueError, match="has 3 labels, where 2400 are needed"):
        catalogue.read_faults(binned)
    (binned / "pix_faults_SmallJan21.csv").write_text("1,x\n")
    with pytest.raises(CatalogueError, match="holds what is no number"):
        catalogue.read_faults(binned)
    (binned / "topearthquakes_20.csv").write_text("when,long\n")
    with pytest.raises(
        CatalogueError, match="line 1: a header that begins with 'date' is needed; correct or remove the file"
    ):
        read(binned)
    (binned / "topearthquakes_20.csv").write_text("date,long,lat,mag,depth,name\n1952-07-21,-119.0\n")
    with pytest.raises(CatalogueError, match="line 2: 2 cells, where 6 are needed; correct or remove the line"):
        read(binned)


def test_the_edges_of_the_region() -> None:
    assert grid.pixel(36.0, -120.0) == 0
    assert grid.pixel(32.0, -114.0) == grid.PIXELS - 1
    assert grid.pixel(35.999, -114.001) == grid.COLUMNS - 1
    assert grid.pixel(36.001, -119.0) == grid.pixel(31.999, -119.0) == grid.pixel(34.0, -120.01) == -1
    assert [grid.pixel(*grid.centre(number)) for number in range(grid.PIXELS)] == list(range(grid.PIXELS))


def test_an_edge_of_a_pixel_is_of_the_pixel_south_east_of_it() -> None:
    """Coordinates on a tenth of a degree, which a binary number hits but about."""
    for column in range(grid.COLUMNS):
        assert grid.pixel(35.95, round(grid.WEST + column / 10, 1)) == column
    for row in range(grid.ROWS):
        assert grid.pixel(round(grid.NORTH - row / 10, 1), -119.95) == row * grid.COLUMNS
    # Nearer to the far edges of the region than the rounding.
    assert grid.pixel(32.00000001, -114.00000001) == grid.PIXELS - 1
    assert grid.pixel(31.99999999, -115.0) == grid.pixel(33.0, -113.99999999) == -1
