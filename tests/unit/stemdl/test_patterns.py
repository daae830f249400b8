"""Generated samples: the same bytes every time, what they hold, and the statistics of their counts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kit.benchmarks.stemdl import patterns as generating
from kit.benchmarks.stemdl.crystals import chosen
from kit.benchmarks.stemdl.patterns import DOSE, THICKNESS, generate, orientation
from kit.core.errors import KitError
from kit.stages.stemdl import prepare as preparing

PARAMETERS: dict[str, Any] = {
    "space_groups": "225,216",
    "materials": 3,
    "orientations": 1,
    "thicknesses": 2,
    "raw_side": 32,
    "data_seed": 3,
}


OPTIONS: dict[str, Any] = {"side": 32, "values": "log", "merge": "none", "held_out": 0.2, "seed": 1}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_same_seed_same_bytes_whatever_the_processes(tmp_path: Path) -> None:
    for name, processes, changes in (("one", 1, {}), ("two", 2, {}), ("other", 2, {"data_seed": 4})):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, {**PARAMETERS, **changes}, processes)
    assert len(digests(tmp_path / "one")) == 6
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert not set(digests(tmp_path / "one").values()) & set(digests(tmp_path / "other").values())
    with h5py.File(tmp_path / "one/crystal-0000.h5") as file:
        assert len(file) == 2
        for group in file.values():
            stack, attributes = group["cbed_stack"][()], dict(group.attrs)
            assert stack.shape == (3, 32, 32)
            assert stack.dtype == np.float32
            assert stack.min() == 0  # a pixel where no electron was counted
            assert 0.9 < stack.sum(axis=(1, 2)).min() <= stack.sum(axis=(1, 2)).max() < 1.01
            assert attributes["space_group"] == "225"
            assert attributes["material"] == "NaCl (rock salt)"
            assert THICKNESS[0] - 2 <= attributes["thickness"] <= THICKNESS[1] + 2
            assert DOSE[0] <= np.log10(attributes["dose"]) <= DOSE[1]
            # Counts are whole numbers of electrons.
            counts = stack.astype(float) * attributes["dose"]
            assert np.abs(counts - np.rint(counts)).max() < 1e-6 * counts.max() + 0.01
            density = group["density"][()].astype(float)
            assert density.shape == (3, 16, 16)
            assert density.min() > -0.05 * density.max()
            assert np.abs(density[:, 8, 8] - density[:, 6:11, 6:11].max(axis=(1, 2))).max() < 1e-6  # an atom in the middle


@pytest.mark.parametrize("module", [generating, preparing])
def test_work_is_shared_by_the_cores_of_the_job_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    asked = []

    def pool(processes: int | None = None, **options: Any) -> None:
        asked.append((processes, options.get("initargs", ())))  # of patterns: threads of a process
        raise InterruptedError

    monkeypatch.setattr(module, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
    monkeypatch.setattr(preparing, "jobs", lambda *_: [])
    with pytest.raises(InterruptedError):
        generate(tmp_path, PARAMETERS) if module is generating else preparing.prepare(tmp_path, tmp_path, **OPTIONS)
    assert asked == [(3, (1,) if module is generating else ())]


def test_counts_are_poissons() -> None:
    """Of many pixels variance and mean of the counts agree, where the expectation is known from a pattern of high dose."""
    crystal = chosen([225], 3)[0]
    made = [orientation(crystal, 32, 1, np.random.default_rng(7))[0] for _ in range(2)]
    assert np.array_equal(made[0][0], made[1][0])
    patterns, _, drawn = made[0]
    counts = patterns.astype(float) * drawn["dose"]
    assert counts.sum() / 3 == pytest.approx(drawn["dose"], rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orientations": 0}, "parameter orientations: 0, where 1 or more is needed"),
        ({"raw_side": 30}, "parameter raw_side: 30, where a multiple of 4 is needed"),
        ({"space_groups": "225,9"}, "space group 9: 0 crystals"),
    ],
)
def test_what_can_not_be_generated_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KitError, match=message):
        generate(tmp_path, {**PARAMETERS, **changes})
    assert not list(tmp_path.iterdir())
