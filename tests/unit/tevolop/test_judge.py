"""A run is judged: leaks of the split that it claims, windows that are not of it; and drawn where it is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kit.benchmarks.tevolop.figures import draw
from kit.benchmarks.tevolop.judge import SPLITS, leaks, of_windows, otherwise_trained

Table = dict[str, Any]


def facts(folder: Path) -> Table:
    found: Table = json.loads((folder / "prepared.json").read_text())
    return found


@pytest.mark.parametrize("split", ["location", "time"])
def test_what_is_prepared_leaks_nothing(prepared: dict[str, Path], split: str, tmp_path: Path) -> None:
    assert not list(leaks(facts(prepared[split]), split))
    shutil.copytree(prepared[split], tmp_path / "series")
    assert not [problem for name in SPLITS for problem in of_windows(tmp_path, facts(prepared[split]), name)]


def shared_pixel(table: Table) -> None:
    table["splits"]["training"]["pixels"].append(table["splits"]["test"]["pixels"][0])


def chosen_on_test(table: Table) -> None:
    table["splits"]["validation"]["pixels"].append(table["splits"]["test"]["pixels"][0])


def reaches(table: Table) -> None:
    table["splits"]["training"]["until"] += 1


def reaches_test(table: Table) -> None:
    table["splits"]["validation"]["until"] = table["fortnights"]


def beyond(table: Table) -> None:
    table["splits"]["test"]["until"] = table["fortnights"] + 1


def empty(table: Table) -> None:
    table["splits"]["test"].update(pixels=[], windows=0)


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("location", shared_pixel, "test pixels were seen in training: "),
        ("location", chosen_on_test, "test pixels were seen in validation: "),
        ("time", reaches, "training has targets until fortnight 300, and validation begins with 299"),
        ("time", reaches_test, "validation has targets until fortnight 428, and test begins with 363"),
        ("time", beyond, "test reaches to fortnight 429 of 428"),
        ("location", empty, "the split test is empty"),
    ],
)
def test_a_leak_is_refused(prepared: dict[str, Path], split: str, change: Callable[[Table], None], message: str) -> None:
    table = facts(prepared[split])
    change(table)
    assert any(message in problem for problem in leaks(table, split)), list(leaks(table, split))


def test_another_split_than_asked_for_is_refused(prepared: dict[str, Path]) -> None:
    """A split by location is a leak of time: it must not pass for a forecast, even where it says that it is one."""
    table = facts(prepared["location"])
    assert "the split is by location, and the size asks for time" in next(leaks(table, "time"))
    table["split"] = "time"
    assert any("training has targets until fortnight 428" in problem for problem in leaks(table, "time"))


def test_a_training_on_other_windows_is_refused(finished: Path) -> None:
    table, trained = facts(finished / "series"), json.loads((finished / "train/train.json").read_text())
    assert not list(otherwise_trained(table, trained))
    for key, value in (
        ("training_pixels", table["pixels"]),
        ("training_until", 999),
        ("validation_first", 0),
        ("split", "time"),
    ):
        assert list(otherwise_trained(table, {**trained, key: value})), key


def test_windows_that_are_not_of_their_split_are_refused(finished: Path, tmp_path: Path) -> None:
    table = facts(finished / "series")
    (tmp_path / "series").mkdir()
    index = np.load(finished / "series/training.npy")
    test = np.load(finished / "series/test.npy")
    early = index.copy()
    early["start"][0] = 3
    stranger = index.copy()
    stranger["row"][5] = test["row"][0]
    for values, message in (
        (index[:-1], "windows, but series/prepared.json says"),
        (stranger, "has windows of pixels that are not of it: "),
        (early, "its windows begin with fortnights 3 to"),
    ):
        np.save(tmp_path / "series/training.npy", values)
        (problem,) = of_windows(tmp_path, table, "training")
        assert message in problem


def test_figures_are_drawn(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    draw(tmp_path / "run")
    for name in ("maps", "series", "horizons", "training"):
        with Image.open(tmp_path / f"run/figures/{name}.png") as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
