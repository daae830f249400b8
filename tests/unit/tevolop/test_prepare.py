"""Series, targets and splits: what they mean, that nothing of the future is in an input, and that no split leaks."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.stages.tevolop import grid, prepare
from kit.stages.tevolop.__main__ import parser
from kit.stages.tevolop.catalogue import Gathered, gather
from kit.stages.tevolop.windows import Windows


@pytest.fixture(scope="module")
def whole(made_events: Path) -> Gathered:
    return gather(made_events, 6000, 2.5, 0.01)


def test_a_target_is_the_energy_of_what_comes(whole: Gathered) -> None:
    chosen = np.argsort(-whole.events.sum(axis=0))[:3]
    found = prepare.targets(whole.energy[:, chosen], whole.events[:, chosen])
    for start in (0, 57, 200, 400, 427):
        for place, width in enumerate(grid.WIDTHS):
            energy = whole.energy[start : start + width, chosen].sum(axis=0)
            expected = np.where(energy > 0, np.log10(np.maximum(energy, 1)) / 1.5, 0.0)
            if start + width <= len(whole.energy):
                assert found[start, :, place] == pytest.approx(expected, abs=1e-6)
            else:
                assert np.isnan(found[start, :, place]).all()


def test_nothing_of_the_future_is_in_an_input(whole: Gathered) -> None:
    """What comes behind a fortnight is changed: the inputs up to it, and the generic rates, stay as they are."""
    chosen, faults, now = np.array([700, 1234]), np.zeros(grid.PIXELS, np.int64), 220
    changed = copy.deepcopy(whole)
    rng = np.random.default_rng(0)
    for values in (changed.energy, changed.depth, changed.events, changed.large):
        values[now:] = rng.integers(1, 9, values[now:].shape)
    before, after = (prepare.inputs(of, chosen, faults) for of in (whole, changed))
    assert before.shape[2] == len(prepare.INPUTS)
    assert np.array_equal(before[:now], after[:now])
    assert not np.array_equal(before[now], after[now])
    one, other = (prepare.rates(of, chosen) for of in (whole, changed))
    assert one[: now + 1] == pytest.approx(other[: now + 1], abs=1e-6)
    assert np.abs(one[now + 1] - other[now + 1]).max() > 0.1


def test_inputs_are_what_they_are_called(whole: Gathered) -> None:
    place = int(np.argmax(whole.events.sum(axis=0)))
    known = prepare.inputs(whole, np.array([place]), np.arange(grid.PIXELS))[:, 0]
    at = {name: known[:, number] for number, name in enumerate(prepare.INPUTS)}
    now = 300
    assert at["energy_1y"][now] == pytest.approx(
        float(grid.magnitude(whole.energy[now - 25 : now + 1, place].sum())), abs=1e-6
    )
    assert at["events_1y"][now] == pytest.approx(np.log1p(whole.events[now - 25 : now + 1, place].sum()))
    targets = prepare.targets(whole.energy[:, [place]], whole.events[:, [place]])[:, 0]
    assert at["climatology_1y"][now] == pytest.approx(targets[: now + 1 - 25, 3].mean())
    assert at["climatology_2w"][now] == pytest.approx(targets[: now + 1, 0].mean())
    row, column = divmod(place, grid.COLUMNS)
    around = whole.energy.reshape(-1, grid.ROWS, grid.COLUMNS)[now, row - 1 : row + 2, column - 1 : column + 2].sum()
    around -= whole.energy[now, place]
    assert at["around_2w"][now] == pytest.approx(float(grid.magnitude(np.array(around))), abs=1e-6)
    assert at["fault"][now] == 1


def splits(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "prepared.json").read_text())["splits"]
    return found


def test_by_location_no_pixel_is_on_two_sides(prepared: dict[str, Path]) -> None:
    parts = splits(prepared["location"])
    sets = [set(part["pixels"]) for part in parts.values()]
    assert [len(part) for part in sets] == [29, 3, 8]  # a tenth of the 32 for training choose the epoch
    assert len(set.union(*sets)) == 40
    for name in parts:
        index = np.load(prepared["location"] / f"{name}.npy")
        pixels = np.array(json.loads((prepared["location"] / "prepared.json").read_text())["pixels"])
        assert set(pixels[index["row"]]) == set(parts[name]["pixels"])


def test_by_time_no_target_reaches_over_a_border(prepared: dict[str, Path]) -> None:
    parts = splits(prepared["time"])
    assert parts["training"]["until"] == parts["validation"]["first"] == int(0.7 * 428)
    assert parts["validation"]["until"] == parts["test"]["first"] == int(0.85 * 428)
    for name, part in parts.items():
        windows = Windows(prepared["time"], name)
        starts = windows.index["start"].astype(np.int64)
        assert (starts.min(), starts.max() < part["until"]) == (part["first"], True)
        observed = windows.observed(windows.index["row"].astype(np.int64), starts)
        reach = starts[:, None] + np.array(grid.WIDTHS) > part["until"]
        assert np.array_equal(np.isnan(observed), reach)
        assert part["missing"] == dict(zip(grid.HORIZONS, reach.sum(axis=0).tolist(), strict=True))
        assert np.isnan(observed[:, -1]).any()


def test_the_most_active_pixels_are_chosen_on_what_training_sees(made_events: Path, whole: Gathered) -> None:
    changed = whole.events.copy()
    changed[350:, 17] += 500  # a swarm of the test's time in a quiet pixel
    chosen, _ = prepare.divide("time", changed, 40, 1)
    assert 17 not in chosen
    chosen, _ = prepare.divide("location", changed, 40, 1)
    assert 17 in chosen


def test_samples_are_a_year_of_inputs_and_the_targets_behind_it(prepared: dict[str, Path]) -> None:
    windows = Windows(prepared["location"], "training")
    numbers = np.array([5, 2, 700])
    inputs, targets = windows.read(numbers)
    assert inputs.shape == (3, grid.STEPS, len(prepare.INPUTS))
    row, start = windows.index[700]["row"], windows.index[700]["start"]
    scaled = (windows.known[row, start - grid.STEPS : start] - windows.mean) / windows.deviation
    assert inputs[2] == pytest.approx(scaled, abs=1e-5)
    assert targets[2] * windows.target_deviation + windows.target_mean == pytest.approx(windows.goals[row, start], abs=1e-4)
    everything, goals = windows.read(np.arange(len(windows)))
    assert np.isfinite(everything).all()
    assert np.nanmean(goals, axis=0) == pytest.approx(0.0, abs=0.05)  # not every start is a window, with a stride
    assert np.nanstd(goals, axis=0) == pytest.approx(1.0, abs=0.05)


HOW = {"days": 6000, "seed": 1, "stride": 3, "smallest": 2.5, "most_outside": 0.01}


def test_what_cannot_be_split_is_refused(made_events: Path, tmp_path: Path) -> None:
    for split, pixels, more, message in (
        ("location", 4, {}, "--pixels 4: leaves a split without a pixel; 15 or more"),
        ("location", 2400, {}, "--pixels 2400: only .* pixels have an event; take fewer"),
        ("time", 20, {"days": 3400, "stride": 1}, ""),
    ):
        if message:
            with pytest.raises(ValueError, match=message):
                prepare.prepare(made_events, tmp_path, split=split, pixels=pixels, **{**HOW, **more})
            assert not list(tmp_path.iterdir())  # nothing half-written
    silent = np.zeros((300, grid.PIXELS))
    silent[:, :20] = 1.0
    with pytest.raises(ValueError, match="only 20 pixels have an event"):
        prepare.divide("time", silent, 21, 1)


def test_the_same_data_give_the_same_series(made_events: Path, prepared: dict[str, Path], tmp_path: Path) -> None:
    prepare.prepare(made_events, tmp_path, split="location", pixels=40, **HOW)
    for name in ("inputs.npy", "targets.npy", "rates.npy", "training.npy", "test.npy", "prepared.json"):
        assert (tmp_path / name).read_bytes() == (prepared["location"] / name).read_bytes()


def test_stages_have_the_options_that_sizes_give() -> None:
    words = ["prepare", "--data", "d", "--out", "o", "--days", "6000", "--pixels", "40", "--split", "place"]
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    words[-1] = "time"
    assert parser().parse_args(words).split == "time"
