"""Masking scenes while the next is read and the last is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from kit.stages.cloudmask.infer import ahead


def test_one_item_ahead_and_no_more() -> None:
    """Whatever the number of scenes, two are in memory: the one that is worked on and the one that comes."""
    begun = []

    def read(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        begun.append(number)
        return number * number

    found = []
    for square in ahead(read, range(5)):
        deadline = time.monotonic() + 60
        while len(begun) < min(len(found) + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)  # the next is read while this one is worked on
        found.append(square)
        assert begun == list(range(min(len(found) + 1, 5)))
    assert found == [0, 1, 4, 9, 16]
    assert list(ahead(read, [])) == []


def test_what_fails_in_the_thread_fails_here() -> None:
    def write(number: int) -> int:
        if number == 2:
            raise OSError("No space left on device")
        return number

    def answers() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number

    asked: list[int] = []
    found = []
    with pytest.raises(OSError, match="No space left"):
        found.extend(ahead(write, answers()))
    assert asked == [0, 1, 2, 3]  # nobody goes on masking scenes that cannot be written


def test_what_fails_between_does_not_hang() -> None:
    def answers() -> Iterator[int]:
        yield 1
        raise ValueError("the network")

    with pytest.raises(ValueError, match="the network"):
        list(ahead(lambda number: number, answers()))
