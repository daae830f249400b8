"""The numbers that decide the masks of dropout; the masks themselves need an engine (tests/engine/test_dropout.py)."""

from __future__ import annotations

import itertools

import pytest

from kit.stages.ml.dropout import MOST_RANKS, key


def test_no_two_seeds_ranks_and_layers_share_masks() -> None:
    given = list(itertools.product((0, 1, 2, 2**31 - 1), (0, 1, 2, MOST_RANKS - 1), (0, 1, 2**20 - 1)))
    found = {key(*numbers) for numbers in given}
    assert len(found) == len(given)
    # Both fit 64 bits with their sign, and a layer has 2^40 steps before it meets the next.
    assert all(0 <= first < 2**63 and 0 <= second + 2**40 - 1 < 2**63 for first, second in found)


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (2**31, 0, 0), (0, MOST_RANKS, 0), (0, -1, 0), (0, 0, 2**20)])
def test_numbers_out_of_range_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"dropout: seed .* is out of range"):
        key(*numbers)
