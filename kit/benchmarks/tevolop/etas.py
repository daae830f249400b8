"""A synthetic earthquake catalogue with known triggering, written as the survey's service writes one.

The epidemic-type aftershock sequence (ETAS; Ogata 1988, doi 10.1080/01621459.1988.10478560; in space Ogata 1998,
doi 10.1023/A:1003403601725): background events come at a constant rate from a map, and every event, of whatever descent,
triggers others,

* as many as a Poisson number of mean `K 10^(a (m - M0))` (productivity),
* after a time of density `(p - 1) c^(p-1) (t + c)^-p` (Omori and Utsu),
* at a distance of density `(q - 1) d^(2q-2) / pi (r^2 + d^2)^-q`, whatever the direction,
* of magnitudes after Gutenberg and Richter, density of `10^(-b (m - M0))` from M0 to M_MAX.

`K` is such that an event has in the mean BRANCHING < 1 of its own, so that every family dies out. What falls outside the
region or the time is not written, and its descendants are not followed.

Beside the catalogue stand the labels of faults, in the published layout, and truth.npz: for each of the most active pixels
the events that the true intensity, which no forecaster knows, expects in each window that begins with a fortnight.
"""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.tevolop import grid

Array = NDArray[np.float64]

M0, M_MAX, B = 2.5, 7.6, 1.0
PRODUCTIVITY = 0.8  # a, of which b - a > 0 keeps large events from having most of the children
BRANCHING = 0.85
C, P = 0.01, 1.15  # days; 1
D, Q = 3.0, 1.8  # km; 1
KM = 111.2  # of a degree of latitude
YEAR = 365.25
FAULTS = 7
SPREAD = 1.2  # standard deviation of the logarithm of the activity along a fault
ROUGH = 0.8  # the same from pixel to pixel
FLOOR = 0.02  # activity away from faults, of that of a typical one
COLUMNS = (
    *("time", "latitude", "longitude", "depth", "mag", "magType", "nst", "gap", "dmin", "rms", "net", "id", "updated"),
    *("place", "type", "horizontalError", "depthError", "magError", "magNst", "status", "locationSource", "magSource"),
)


class Events(NamedTuple):
    """Events by time; `parent` is the place of each one's parent among them, -1 of a background event."""

    day: Array  # since 1950
    latitude: Array
    longitude: Array
    depth: Array  # km
    magnitude: Array
    parent: NDArray[np.int64]

    def taken(self, which: NDArray[Any]) -> Events:
        """Some of the events; their parents keep their numbers."""
        parts: list[Any] = [values[which] for values in self]
        return Events(*parts)


def children_scale() -> float:
    """K for which the mean number of children over all magnitudes is BRANCHING."""
    reach, rest = M_MAX - M0, B - PRODUCTIVITY
    return BRANCHING * rest / B * (1 - 10 ** (-B * reach)) / (1 - 10 ** (-rest * reach))


def magnitudes(rng: np.random.Generator, number: int) -> Array:
    return M0 - np.log10(1 - rng.random(number) * (1 - 10 ** (-B * (M_MAX - M0)))) / B


def omori(days: Any) -> Any:
    """The share of its children that an event has within some days."""
    return 1 - (1 + np.maximum(days, 0.0) / C) ** (1 - P)


def displacements(rng: np.random.Generator, latitude: Array) -> tuple[Array, Array]:
    """North and east in degrees of children of events at these latitudes."""
    r = D * np.sqrt((1 - rng.random(len(latitude))) ** (-1 / (Q - 1)) - 1)
    angle = 2 * np.pi * rng.random(len(latitude))
    return r * np.sin(angle) / KM, r * np.cos(angle) / (KM * np.cos(np.radians(latitude)))


def background(seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Share of the background events of each pixel (PIXELS,), and the fault that it is of, 0 for none.

    Faults are lines from north-west to south-east, as most are there, of unequal activity that varies along them.
    """
    rng = np.random.default_rng([seed, 1])
    places = np.array([grid.centre(number) for number in range(grid.PIXELS)])
    rates = np.full(grid.PIXELS, FLOOR)
    labels = np.zeros(grid.PIXELS, np.int64)
    for fault in range(1, FAULTS + 1):
        middle = np.array([rng.uniform(32.5, 35.5), rng.uniform(-119.2, -114.8)])
        strike = np.radians(rng.uniform(295, 335))
        along_to, across_to = np.array([np.cos(strike), np.sin(strike)]), np.array([-np.sin(strike), np.cos(strike)])
        along, across = (places - middle) @ along_to, (places - middle) @ across_to
        length = rng.uniform(0.6, 1.6)
        knots = rng.lognormal(0.0, SPREAD, 12)
        activity = np.interp(along, np.linspace(-length, length, 12), knots)
        near = np.exp(-0.5 * (across / 0.07) ** 2 - 0.5 * (np.maximum(np.abs(along) - length, 0) / 0.1) ** 2)
        rates += rng.lognormal(1.0, 0.7) * activity * near
        labels[(np.abs(across) < 0.08) & (np.abs(along) < length)] = fault
    rates *= rng.lognormal(0.0, ROUGH, grid.PIXELS)
    return rates / rates.sum(), labels


def simulate(seed: int, days: int, per_year: float) -> Events:
    """A catalogue of `days` with a mean of `per_year` background events above M0 a year, generation by generation."""
    rng = np.random.default_rng([seed, 2])
    share, _ = background(seed)
    number = rng.poisson(per_year * days / YEAR)
    pixels = rng.choice(grid.PIXELS, number, p=share)
    now = Events(
        rng.uniform(0, days, number),
        grid.NORTH - (pixels // grid.COLUMNS + rng.random(number)) / 10,
        grid.WEST + (pixels % grid.COLUMNS + rng.random(number)) / 10,
        rng.gamma(4.0, 2.0, number),
        magnitudes(rng, number),
        np.full(number, -1),
    )
    generations, before, scale = [now], 0, children_scale()
    while len(now.day):
        children = rng.poisson(scale * 10 ** (PRODUCTIVITY * (now.magnitude - M0)))
        parent = np.repeat(np.arange(len(now.day)), children)
        number = len(parent)
        later = C * ((1 - rng.random(number)) ** (-1 / (P - 1)) - 1)
        north, east = displacements(rng, now.latitude[parent])
        born = Events(
            now.day[parent] + later,
            now.latitude[parent] + north,
            now.longitude[parent] + east,
            np.abs(now.depth[parent] + rng.normal(0, 1.0, number)),
            magnitudes(rng, number),
            before + parent,
        )
        inside = (born.day < days) & (born.latitude > grid.SOUTH) & (born.latitude < grid.NORTH)
        inside &= (born.longitude > grid.WEST) & (born.longitude < grid.EAST)
        before += len(now.day)
        now = born.taken(inside)
        generations.append(now)
    parts: list[Any] = [np.concatenate(values) for values in zip(*generations, strict=True)]
    whole = Events(*parts)
    order = np.argsort(whole.day, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    found = whole.taken(order)
    return found._replace(parent=np.where(found.parent < 0, -1, place[found.parent]))


def spread(seed: int) -> Array:
    """Share of an event's children by pixels to the south and east of its own, (2 ROWS - 1, 2 COLUMNS - 1).

    Of a sample of half a million, at the middle latitude and from anywhere in the pixel.
    """
    rng = np.random.default_rng([seed, 3])
    number = 500_000
    north, east = displacements(rng, np.full(number, (grid.SOUTH + grid.NORTH) / 2))
    south, east = (np.floor(rng.random(number) + 10 * shift).astype(int) for shift in (-north, east))
    inside = (np.abs(south) < grid.ROWS) & (np.abs(east) < grid.COLUMNS)
    kernel = np.zeros((2 * grid.ROWS - 1, 2 * grid.COLUMNS - 1))
    np.add.at(kernel, (south[inside] + grid.ROWS - 1, east[inside] + grid.COLUMNS - 1), 1 / number)
    return kernel


def pixels_of(events: Events) -> NDArray[np.int64]:
    row = np.clip(((grid.NORTH - events.latitude) * 10).astype(int), 0, grid.ROWS - 1)
    column = np.clip(((events.longitude - grid.WEST) * 10).astype(int), 0, grid.COLUMNS - 1)
    return row * grid.COLUMNS + column


def expected(events: Events, seed: int, days: int, per_year: float, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
    """Events that the true intensity at the beginning of each fortnight expects in the windows of the horizons.

    (pixels, fortnights, horizons). Children of the events so far are in it, and not the children's children: those
    are a share of them that depends on nothing else.
    """
    fortnights = days // grid.FORTNIGHT
    share, _ = background(seed)
    widths = np.array(grid.WIDTHS)
    triggered = np.zeros((grid.PIXELS, fortnights, len(widths)), np.float32)
    mean = children_scale() * 10 ** (PRODUCTIVITY * (events.magnitude - M0))
    places = pixels_of(events)
    ends = np.arange(fortnights + widths[-1] + 1) * float(grid.FORTNIGHT)
    for day, number, place in zip(events.day, mean, places, strict=True):
        first = int(day // grid.FORTNIGHT) + 1
        if first < fortnights:
            had = omori(ends[first:] - day)
            starts = np.arange(fortnights - first)
            triggered[place, first:] += number * (had[starts[:, None] + widths] - had[starts][:, None])
    kernel = spread(seed)
    south = wanted[:, None] // grid.COLUMNS - np.arange(grid.PIXELS)[None] // grid.COLUMNS + grid.ROWS - 1
    east = wanted[:, None] % grid.COLUMNS - np.arange(grid.PIXELS)[None] % grid.COLUMNS + grid.COLUMNS - 1
    arrived = kernel[south, east].astype(np.float32) @ triggered.reshape(grid.PIXELS, -1)
    steady = per_year / YEAR * grid.FORTNIGHT * share[wanted][:, None, None] * widths
    total: NDArray[np.float32] = (arrived.reshape(len(wanted), fortnights, -1) + steady).astype(np.float32)
    return total


def write_csv(path: Path, events: Events, first: int = 0) -> None:
    """The events as the service writes them, the newest first, their ids counted from `first`; what has no meaning here is
    left empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for number in range(len(events.day) - 1, -1, -1):
            when = grid.BEGIN + timedelta(milliseconds=int(events.day[number] * 86_400_000))
            writer.writerow(
                {
                    "time": when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z",
                    "latitude": f"{events.latitude[number]:.5f}",
                    "longitude": f"{events.longitude[number]:.5f}",
                    "depth": f"{events.depth[number]:.2f}",
                    "mag": f"{events.magnitude[number]:.2f}",
                    "magType": "mw",
                    "net": "kit",
                    "id": f"kit{first + number:07d}",
                    "place": "synthetic",
                    "type": "earthquake",
                    "status": "automatic",
                }
            )


def generate(folder: Path, parameters: dict[str, Any]) -> None:
    """Writes catalogue/*.csv, one file for ten years, pix_faults.csv, truth.npz and generator.json."""
    seed, days, per_year = int(parameters["data_seed"]), int(parameters["days"]), float(parameters["background_per_year"])
    events = simulate(seed, days, per_year)
    (folder / "catalogue").mkdir()
    decade = (events.day // (10 * YEAR)).astype(int)
    for number in range(int(decade.max()) + 1):
        part = decade == number
        chunks = np.array_split(np.flatnonzero(part), part.sum() // 19_000 + 1)  # the service gives 20,000 at most
        for place, chunk in enumerate(chunks):
            write_csv(folder / f"catalogue/part-{number:02d}-{place:02d}.csv", events.taken(chunk), int(chunk[0]))
    _, labels = background(seed)
    lines = [",".join(map(str, row)) for row in labels.reshape(grid.ROWS, grid.COLUMNS)]
    (folder / "pix_faults.csv").write_text("\n".join(lines) + "\n")
    active = np.bincount(pixels_of(events), minlength=grid.PIXELS)
    # The stage prepare takes the most active pixels of the time it may look at, so that some more are kept here.
    wanted = np.sort(np.argsort(-active, kind="stable")[: min(2 * int(parameters["pixels"]), grid.PIXELS)])
    truth = expected(events, seed, days, per_year, wanted)
    with (folder / "truth.npz").open("wb") as file:
        np.savez(file, pixels=wanted, expected=truth)
    facts = {"events": len(events.day), "background": int((events.parent < 0).sum()), "branching": BRANCHING, "b": B}
    facts |= {"p": P, "c_days": C, "productivity": PRODUCTIVITY, "m0": M0}
    (folder / "generator.json").write_text(json.dumps(facts, indent=1) + "\n")
