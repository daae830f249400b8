"""How far repeats differ, and what follows for two runs. The comparison of real runs is in tests/relion/test_variants.py."""

from __future__ import annotations

import numpy as np
import pytest

from kit.compare import Comparison, Row, allowed_below_mean, allowed_difference, load_repeats
from kit.errors import KitError


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
