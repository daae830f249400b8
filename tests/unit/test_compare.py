"""How far repeats differ, and what follows for two runs. Real runs: tests/engine/relion/test_variants.py."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import run_boxed

from kit.core.errors import KitError
from kit.core.host import processor
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.compare import Comparison, Row, allowed_below_mean, allowed_difference, compare, load_repeats, measure, spread
from kit.runs.record import load_run, save_run


def test_allowed_difference_holds_for_99_of_100_pairs() -> None:
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(2000):
        repeats, first, second = rng.normal(size=5), rng.normal(), rng.normal()
        kept += abs(first - second) <= allowed_difference(list(repeats))
    assert kept / 2000 == pytest.approx(0.99, abs=0.006)


def test_allowed_below_mean_holds_for_99_of_100() -> None:
    rng = np.random.default_rng(1)
    kept = 0
    for _ in range(2000):
        repeats, one = rng.normal(size=10), rng.normal()
        kept += abs(repeats.mean() - one) <= allowed_below_mean(list(repeats))
    assert kept / 2000 == pytest.approx(0.99, abs=0.006)


def test_verdict_is_a_sentence() -> None:
    rows = [Row(name="a", first=1, second=1.1, difference=0.1, allowed=0.2)]
    alike = Comparison(first="x", second="y", rows=rows, remarks=[])
    assert alike.same
    assert str(alike).endswith("x and y differ by no more than repeats do.")
    rows = [*rows, Row(name="b", first=None, second=0.2, difference=0.7, allowed=0.1)]
    different = Comparison(first="x", second="y", rows=rows, remarks=[])
    assert not different.same
    assert str(different).endswith("x and y differ in b by more than repeats do.")


def test_without_repeats_nothing_is_compared() -> None:
    with pytest.raises(KitError, match="has no repeats of size huge"):
        load_repeats("relion", "huge")


def collected(runs: Path, seed: int | None, size: str = "noisy") -> Path:
    """A run of the toy, valid as if it had been in a container."""
    directory = launch.prepare(make_plan(Request("toy", size, "here", seed=seed)), runs)
    run_boxed(directory)
    return directory


def test_repeats_are_measured_and_compared_with(toy: Path, tmp_path: Path) -> None:
    runs = [collected(toy, seed) for seed in (1, 2, 3, 4)]
    repeats = measure(runs)
    assert (repeats.seeds, repeats.metrics) == ([1, 2, 3, 4], {"noise": [1, 2, 3, 4]})
    assert re.search(r"^noise +2\.5 +1\.3 ", spread(repeats), re.MULTILINE)
    path = tmp_path / "repeats.json"
    path.write_text(json.dumps({"noisy": repeats.model_dump(mode="json")}))
    assert compare(runs[0], collected(toy, 5), path).same
    far = compare(runs[0], collected(toy, 500), path)
    assert "differ in noise by more than repeats do" in str(far)


def test_another_processor_than_that_of_the_repeats_is_said(toy: Path, tmp_path: Path) -> None:
    runs = [collected(toy, seed) for seed in (1, 2, 3)]
    repeats = measure(runs)
    assert repeats.machine == processor()[0]
    path = tmp_path / "repeats.json"
    path.write_text(json.dumps({"noisy": repeats.model_dump(mode="json")}))
    assert "processor" not in str(compare(runs[0], runs[1], path)).replace(repeats.machine, "")
    record = load_run(runs[1])
    save_run(runs[1], record.model_copy(update={"system": {**record.system, "host_processor_model_name": "Cortex-A78"}}))
    said = str(compare(runs[0], runs[1], path))
    assert "The repeats were not measured on Cortex-A78. This matters: the instruction set decides" in said
    path.write_text(json.dumps({"noisy": repeats.model_dump(mode="json") | {"machine": "Cortex-A78, 2 cores, Linux 6"}}))
    assert f"The repeats were not measured on {repeats.machine}. " in str(compare(runs[0], runs[1], path))


def test_what_is_no_repeat_is_refused(toy: Path) -> None:
    one, two, again = (collected(toy, seed) for seed in (1, 2, 1))
    with pytest.raises(KitError, match="at least three are needed"):
        measure([one, two])
    with pytest.raises(KitError, match=f"{again}: has the seed 1, as has {one}"):
        measure([one, two, again])
    with pytest.raises(KitError, match="differ in work; repeats differ in their seed only"):
        measure([one, two, collected(toy, None, "tiny")])
    os.environ["TOY"] = "false"
    try:
        failed = collected(toy, 3)
    finally:
        del os.environ["TOY"]
    with pytest.raises(KitError, match=r"failed: stage second: exit code 1: only valid runs say how far results differ"):
        measure([one, two, failed])
