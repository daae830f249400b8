"""Reads events into fortnights and pixels, line by line: the survey's comma-separated form, or the published binned files.

A catalogue is one or more files `*.csv` in a folder `catalogue`, as the service of the USGS writes them
(https://earthquake.usgs.gov/fdsnws/event/1/, format csv), in order of time, either way. The binned files are the working
group's, a line a day (`SC_1950-2019.freq-D-25567x2400-*.multi.csv`). Memory is that of the result and,
for a catalogue, some 100 bytes an event: all ids are kept, so that an event that comes twice is found.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.tevolop import grid

NEEDED = ("time", "latitude", "longitude", "depth", "mag", "id", "type")
MAGNITUDES = (-3.0, 10.0)  # beyond which no event was ever measured
DEPTHS = (-10.0, 1000.0)  # km
ROW_LIMIT = 20_000  # events that the service gives at most for one question
BINNED = {"energy": "log_eng", "depth": "w_depth", "events": "n_shock", "large": "n_shock-mag-3.29"}
LARGEST = 20


class CatalogueError(ValueError):
    """A file that cannot be taken as it is; the text names it, the line, and the way out."""


@dataclass
class Gathered:
    """What happened, (fortnights, pixels) each, and what was left out."""

    energy: NDArray[np.float64]  # summed 10^(1.5 m)
    depth: NDArray[np.float64]  # km, mean with the energies as weights; 0 without an event
    events: NDArray[np.float64]
    large: NDArray[np.float64]  # events above grid.SMALLEST_OF_NOTE
    counts: dict[str, int]
    largest: list[dict[str, Any]] = field(default_factory=list)  # magnitude, day, pixel and name of the largest events


def gather(data: Path, days: int, smallest: float, most_outside: float) -> Gathered:
    """The events of a folder in the first `days` since 1950; CatalogueError for what cannot be read.

    `smallest` is the magnitude below which events of a catalogue are left out, and counted; `most_outside` the share of its
    events that may lie outside the region or time.
    """
    if days // grid.FORTNIGHT < grid.WARM_UP + grid.WIDTHS[-1] + 2:
        raise CatalogueError(f"--days {days}: {grid.WARM_UP + grid.WIDTHS[-1] + 2} fortnights or more are needed")
    files = found_files(data / "catalogue", "*csv")  # the service's own names end in format=csv
    binned = found_files(data, f"*-{BINNED['energy']}.multi.csv")
    if files and binned:
        raise CatalogueError(f"{data}: has a catalogue and binned files; which of them is meant? Remove one")
    if files:
        return read_catalogue(files, days, smallest, most_outside)
    if len(binned) == 1:
        return read_binned(binned[0], days, data)
    raise CatalogueError(
        f"{data}: has neither catalogue/*.csv nor one file *-{BINNED['energy']}.multi.csv (found {len(binned)}); "
        "kit data make and kit data get give either"
    )


def found_files(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern below a folder, by name, without those that macOS puts into archives (._NAME)."""
    return sorted(path for path in folder.rglob(pattern) if not path.name.startswith("."))


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of a catalogue, checked for its form."""
    with path.open(newline="", encoding="utf-8", errors="strict") as file:
        try:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in NEEDED if name not in header]
            if missing:
                raise CatalogueError(
                    f"{path}: column {missing[0]!r} is missing (has: {', '.join(header)[:80]}); "
                    "ask the service for format=csv"
                )
            for cells in reader:
                if len(cells) != len(header):
                    raise CatalogueError(
                        f"{path}: line {reader.line_num}: {len(cells)} cells, where the header has {len(header)}: "
                        "the file is cut off or damaged; fetch it again"
                    )
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except UnicodeDecodeError:
            raise CatalogueError(f"{path}: is no text (UTF-8); fetch it again") from None
        except csv.Error as error:
            raise CatalogueError(f"{path}: not comma-separated values: {error}; fetch it again") from None


def number(text: str, bounds: tuple[float, float], where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise CatalogueError(f"{where}: {text[:40]!r} is no number; correct or remove the line") from None
    if not bounds[0] <= value <= bounds[1]:  # and not for NaN
        raise CatalogueError(
            f"{where}: {value:g} is not between {bounds[0]:g} and {bounds[1]:g}; correct or remove the line"
        )
    return value


def instant(text: str, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise CatalogueError(
            f"{where}: {text[:40]!r} is no time such as 1992-06-28T11:57:34.130Z; correct or remove the line"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read_catalogue(files: list[Path], days: int, smallest: float, most_outside: float) -> Gathered:
    """Events that are no earthquakes (quarry blasts), have no magnitude or are too small are left out, and counted."""
    fortnights = days // grid.FORTNIGHT
    shape = (fortnights, grid.PIXELS)
    energy, weighted, events, large = (np.zeros(shape) for _ in range(4))
    counts = dict.fromkeys(("read", "used", "outside", "small", "no_magnitude", "no_depth", "no_earthquake"), 0)
    seen: set[str] = set()
    largest: list[dict[str, Any]] = []
    for path in files:
        last, direction, lines = None, 0, 0
        for line, cells in rows(path):
            where = f"{path}: line {line}, "
            lines += 1
            counts["read"] += 1
            if cells["id"] in seen or not cells["id"]:
                raise CatalogueError(f"{where}id {cells['id']!r}: comes twice or is empty; remove what is there twice")
            seen.add(cells["id"])
            when = instant(cells["time"], f"{where}time")
            if last is not None and when != last:
                way = 1 if when > last else -1
                if direction and way != direction:
                    raise CatalogueError(f"{where}time {cells['time']}: out of order; sort the file by time")
                direction = way
            last = when
            latitude = number(cells["latitude"], (-90, 90), f"{where}latitude")
            longitude = number(cells["longitude"], (-180, 180), f"{where}longitude")
            place = grid.pixel(latitude, longitude)
            period = math.floor((when - grid.BEGIN).total_seconds() / 86400) // grid.FORTNIGHT
            if cells["type"] != "earthquake":
                counts["no_earthquake"] += 1
            elif place < 0 or period < 0 or period >= fortnights:
                # The last days make no whole fortnight; they are no fault of the file.
                counts["outside"] += place < 0 or not 0 <= (when - grid.BEGIN).days < days
            elif not cells["mag"]:
                counts["no_magnitude"] += 1
            else:
                size = number(cells["mag"], MAGNITUDES, f"{where}mag")
                if size < smallest:
                    counts["small"] += 1
                    continue
                released = 10 ** (1.5 * size)
                if cells["depth"]:
                    weighted[period, place] += released * number(cells["depth"], DEPTHS, f"{where}depth")
                else:
                    counts["no_depth"] += 1
                energy[period, place] += released
                events[period, place] += 1
                large[period, place] += size > grid.SMALLEST_OF_NOTE
                counts["used"] += 1
                entry = {"magnitude": size, "fortnight": period, "pixel": place, "name": cells.get("place", "")[:60]}
                largest = sorted([*largest, entry], key=lambda one: -one["magnitude"])[:LARGEST]
        if lines == ROW_LIMIT:
            raise CatalogueError(
                f"{path}: has {ROW_LIMIT} events, the most that the service gives at once: some may be missing; "
                "ask for less time"
            )
    if not counts["used"]:
        raise CatalogueError(f"{files[0].parent}: not one of {counts['read']} events is of the region, time and magnitude")
    if counts["outside"] > most_outside * counts["read"]:
        raise CatalogueError(
            f"{files[0].parent}: {counts['outside']} of {counts['read']} events lie outside {grid.SOUTH:g} to "
            f"{grid.NORTH:g} N, {grid.WEST:g} to {grid.EAST:g} E, or the {days} days since 1950, more than --most-outside "
            f"{most_outside:g}; is it the catalogue of another region?"
        )
    depth = np.divide(weighted, energy, out=np.zeros(shape), where=energy > 0)
    return Gathered(energy, depth, events, large, counts, largest)


def numbers(line: str) -> NDArray[np.float64]:
    """The numbers of a line with commas between them, many times as fast as one by one; none where one is no number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what earlier versions of NumPy say of it
        try:
            return np.fromstring(line, sep=",")
        except (ValueError, DeprecationWarning):
            return np.empty(0)


def daily(path: Path, days: int, most: float) -> Iterator[NDArray[np.float64]]:
    """The days of a binned file, (pixels,) each: a header with an empty first cell, then number of the day and values."""
    if not path.is_file():
        raise CatalogueError(f"{path}: missing; the four binned files are one data set")
    day = -1
    with path.open(newline="") as file:
        if not file.readline().startswith((",", '"",')):
            raise CatalogueError(f"{path}: line 1: a header with an empty first cell is needed; it is no binned file")
        for day, line in enumerate(file):
            where = f"{path}: line {day + 2}"
            if line.count(",") != grid.PIXELS:
                raise CatalogueError(
                    f"{where}: {line.count(',') + 1} cells, where {grid.PIXELS + 1} are needed; fetch it again"
                )
            values = numbers(line)
            if len(values) != grid.PIXELS + 1:
                raise CatalogueError(f"{where}: holds what is no number; fetch it again")
            if values[0] != day:
                raise CatalogueError(f"{where}: is of day {values[0]:g}, where day {day} is needed; fetch it again")
            if not np.isfinite(values).all() or values[1:].min() < min(DEPTHS) or values[1:].max() > most:
                raise CatalogueError(f"{where}: has a value that is not finite, or not between {min(DEPTHS):g} and {most:g}")
            yield values[1:]
            if day + 1 == days:
                return
    raise CatalogueError(f"{path}: has {day + 1} days, where {days} are needed; it is cut off: fetch it again")


def read_binned(first: Path, days: int, data: Path) -> Gathered:
    """The working group's binned files. `log_eng` is taken for the magnitude of the day's summed energy; 0 is no event."""
    fortnights = days // grid.FORTNIGHT
    name = first.name.replace(BINNED["energy"], "{}")
    bounds = {"energy": MAGNITUDES[1], "depth": DEPTHS[1], "events": 1e6, "large": 1e6}
    series = {key: daily(first.with_name(name.format(word)), days, bounds[key]) for key, word in BINNED.items()}
    energy, weighted, events, large = (np.zeros((fortnights, grid.PIXELS)) for _ in range(4))
    counts = {"read": 0, "used": 0, "unlike": 0}
    for day, parts in enumerate(zip(*series.values(), strict=True)):
        period = day // grid.FORTNIGHT
        of = dict(zip(series, parts, strict=True))
        # A day with energy has an event, and the other way round; where the files disagree it has none, and is counted.
        some = (of["energy"] > 0) & (of["events"] > 0)
        counts["unlike"] += int(((of["energy"] > 0) != (of["events"] > 0)).sum())
        counts["read"] += int(of["events"].sum())
        if period >= fortnights:
            continue
        released = np.where(some, 10 ** (1.5 * of["energy"]), 0.0)
        energy[period] += released
        weighted[period] += released * of["depth"]
        events[period] += np.where(some, of["events"], 0)
        large[period] += np.where(some, of["large"], 0)
    counts["used"] = int(events.sum())
    if not counts["used"]:
        raise CatalogueError(f"{first}: has no day with an event")
    depth = np.divide(weighted, energy, out=np.zeros(energy.shape), where=energy > 0)
    return Gathered(energy, depth, events, large, counts, read_largest(data))


def read_largest(data: Path) -> list[dict[str, Any]]:
    """The published list of the largest events: date, longitude, latitude, magnitude, depth, name; empty without one."""
    found = []
    for path in found_files(data, "topearthquakes_*.csv")[:1]:
        with path.open(newline="") as file:
            reader = csv.reader(file)
            if (next(reader, None) or [""])[0] != "date":
                raise CatalogueError(
                    f"{path}: line 1: a header that begins with 'date' is needed; correct or remove the file"
                )
            for cells in reader:
                where = f"{path}: line {reader.line_num}"
                if len(cells) != 6:
                    raise CatalogueError(f"{where}: {len(cells)} cells, where 6 are needed; correct or remove the line")
                when = instant(cells[0], where)
                place = grid.pixel(number(cells[2], (-90, 90), where), number(cells[1], (-180, 180), where))
                found.append(
                    {
                        "magnitude": number(cells[3], MAGNITUDES, where),
                        "fortnight": (when - grid.BEGIN).days // grid.FORTNIGHT,
                        "pixel": place,
                        "name": cells[5][:60],
                    }
                )
    return found


def read_faults(data: Path) -> NDArray[np.int64]:
    """The label of the fault that each pixel belongs to, (PIXELS,); 0 everywhere without a file `pix_faults*.csv`."""
    paths = found_files(data, "pix_faults*.csv")
    if not paths:
        return np.zeros(grid.PIXELS, np.int64)
    text = paths[0].read_text()
    try:
        labels = [int(float(cell)) for line in text.splitlines() for cell in line.split(",") if line.strip()]
    except ValueError:
        raise CatalogueError(
            f"{paths[0]}: holds what is no number; {grid.ROWS} lines of {grid.COLUMNS} labels are needed"
        ) from None
    if len(labels) != grid.PIXELS:
        raise CatalogueError(f"{paths[0]}: has {len(labels)} labels, where {grid.PIXELS} are needed")
    return np.array(labels, np.int64)
