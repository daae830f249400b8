"""The synthetic catalogue has the statistics that it was made with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from kit.benchmarks.tevolop import etas
from kit.core.checksums import sha256
from kit.stages.tevolop import grid

DAYS, PER_YEAR = 14_610, 200.0


@pytest.fixture(scope="module")
def events() -> etas.Events:
    """The events of size tiny."""
    return etas.simulate(1234, DAYS, PER_YEAR)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        folder = tmp_path / name
        folder.mkdir()
        etas.generate(folder, {"days": 4000, "background_per_year": 30, "pixels": 20, "data_seed": seed})
        sums.append({str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()})
    assert sums[0] == sums[1]
    assert all(sums[0][name] != sums[2][name] for name in ("catalogue/part-00-00.csv", "pix_faults.csv", "truth.npz"))


def test_events_are_of_the_region_and_time_and_in_order(events: etas.Events) -> None:
    assert (np.diff(events.day) >= 0).all()
    assert events.day.min() >= 0
    assert events.day.max() < DAYS
    assert ((events.latitude > grid.SOUTH) & (events.latitude < grid.NORTH)).all()
    assert ((events.longitude > grid.WEST) & (events.longitude < grid.EAST)).all()
    assert (events.depth >= 0).all()
    children = np.flatnonzero(events.parent >= 0)
    assert (events.day[events.parent[children]] <= events.day[children]).all()


def test_magnitudes_have_their_b_value(events: etas.Events) -> None:
    """Aki's estimator, and its standard error b / sqrt(n) (Aki 1965); the largest magnitude changes it by 1e-4."""
    b = np.log10(np.e) / (events.magnitude.mean() - etas.M0)
    assert b == pytest.approx(etas.B, abs=3 * etas.B / np.sqrt(len(events.day)))
    assert events.magnitude.max() <= etas.M_MAX


def test_children_come_after_omori(events: etas.Events) -> None:
    """The exponent p of the most likely law of the waits up to ten years, of parents that had them all."""
    children = events.parent >= 0
    parents = events.parent[children]
    wait = events.day[children] - events.day[parents]
    wait = wait[(events.day[parents] < DAYS - 3650) & (wait < 3650)]

    def cost(p: float) -> float:
        whole = 1 - (1 + 3650 / etas.C) ** (1 - p)
        return -float(np.log((p - 1) / etas.C * (1 + wait / etas.C) ** -p / whole).sum())

    found = optimize.minimize_scalar(cost, bounds=(1.01, 2.0), method="bounded").x
    assert found == pytest.approx(etas.P, abs=0.02)


def test_an_event_has_as_many_children_as_it_should(events: etas.Events) -> None:
    """Of parents far from the edges, those that come within the time; and more of large events, with the exponent."""
    inner = (np.abs(events.latitude - 34) < 1.2) & (np.abs(events.longitude + 117) < 2.0)
    number = np.bincount(events.parent[events.parent >= 0], minlength=len(events.day))
    mean = etas.children_scale() * 10 ** (etas.PRODUCTIVITY * (events.magnitude - etas.M0)) * etas.omori(DAYS - events.day)
    assert number[inner].sum() == pytest.approx(mean[inner].sum(), rel=0.05)
    large = inner & (events.magnitude > 4.5)
    assert number[large].sum() == pytest.approx(mean[large].sum(), rel=0.08)
    drawn = etas.magnitudes(np.random.default_rng(0), 2_000_000)
    branching = float((etas.children_scale() * 10 ** (etas.PRODUCTIVITY * (drawn - etas.M0))).mean())
    assert branching == pytest.approx(etas.BRANCHING, rel=0.03)
    assert etas.BRANCHING < 1


def test_background_is_that_of_its_map(events: etas.Events) -> None:
    first = events.parent < 0
    expected = PER_YEAR * DAYS / etas.YEAR
    assert first.sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
    share, labels = etas.background(1234)
    counts = np.bincount(etas.pixels_of(events.taken(first)), minlength=grid.PIXELS)
    busy = share * expected > 5
    squares = (counts - share * expected)[busy] ** 2 / (share * expected)[busy]
    assert squares.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / busy.sum()))
    assert busy.sum() > 100
    assert share[labels > 0].mean() > 3 * share[labels == 0].mean()


def test_children_lie_around_their_parents(events: etas.Events) -> None:
    """Half of them within the median of the law, D sqrt(2^(1/(Q-1)) - 1)."""
    children = np.flatnonzero((events.parent >= 0) & (np.abs(events.latitude - 34) < 1.2))
    parent = events.parent[children]
    north = (events.latitude[children] - events.latitude[parent]) * etas.KM
    east = (events.longitude[children] - events.longitude[parent]) * etas.KM * np.cos(np.radians(events.latitude[parent]))
    median = etas.D * np.sqrt(2 ** (1 / (etas.Q - 1)) - 1)
    assert (np.hypot(north, east) < median).mean() == pytest.approx(0.5, abs=0.02)


def test_the_true_intensity_is_what_the_formulas_say() -> None:
    """One event alone: the background and, behind it, its own children in its own pixel."""
    one = etas.Events(*(np.array([value]) for value in (100.0, 34.05, -117.05, 8.0, 5.0)), np.array([-1]))
    place = int(etas.pixels_of(one)[0])
    found = etas.expected(one, 1, 2800, 50.0, np.array([place]))[0]
    share, _ = etas.background(1)
    width = np.array(grid.WIDTHS) * 14
    steady = 50.0 / etas.YEAR * share[place] * width
    assert found[7] == pytest.approx(steady, rel=1e-4)  # it comes in the fortnight from day 98 on
    kernel = etas.spread(1)[grid.ROWS - 1, grid.COLUMNS - 1]
    for start in (8, 30):
        waited = start * 14 - 100.0
        children = etas.children_scale() * 10 ** (0.8 * 2.5) * (etas.omori(waited + width) - etas.omori(waited))
        assert found[start] == pytest.approx(steady + kernel * children, rel=1e-4)
    assert 0.3 < kernel < 0.9


def test_the_true_intensity_expects_what_happens(made_events: Path) -> None:
    """Of each fortnight: background, and children of what was before it. The others are children of the fortnight's own."""
    events = etas.simulate(3, 6000, 200)
    with np.load(made_events / "truth.npz") as truth:
        expected, pixels = truth["expected"][:, :, 0], truth["pixels"]
    period = (events.day // 14).astype(int)
    foreseen = (events.parent < 0) | (period[events.parent] < period)
    counts = np.zeros((grid.PIXELS, 429))
    np.add.at(counts, (etas.pixels_of(events)[foreseen], period[foreseen]), 1)
    assert counts[pixels, :428].sum() == pytest.approx(expected.sum(), rel=0.05)
    by_pixel = np.corrcoef(counts[pixels, :428].sum(axis=1), expected.sum(axis=1))[0, 1]
    assert by_pixel > 0.97
    facts = json.loads((made_events / "generator.json").read_text())
    assert facts["events"] == len(events.day)
    assert 0.2 < facts["background"] / facts["events"] < 0.6
