"""What every training rests on, without a network: the order of samples, learning rates, records, averages, verdicts.

The digests are of what must never change, whatever the processor: a training that is repeated after a change of the code
takes the same samples in the same order with the same learning rates.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kit.core.errors import KitError
from kit.stages.ml import shards
from kit.stages.ml.learning_rate import learning_rate
from kit.stages.ml.options import Options
from kit.stages.ml.shards import shares
from kit.stages.ml.task import Target
from kit.stages.ml.train import average, until_target
from kit.training.judge import contradictions, splits_kept


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def test_the_order_of_samples_never_changes() -> None:
    found = [
        shares(samples, 3, size, seed, epoch) for samples in (7, 103) for size in (1, 2) for seed, epoch in ((1, 0), (9, 4))
    ]
    assert digest(b"".join(part.astype("<i8").tobytes() for part in found)) == "6cc8d23c9c78cef6"


def test_the_learning_rates_never_change() -> None:
    plans = [
        Options(epochs=5, batch_size=4, learning_rate=1e-3, scaling=scaling, schedule=schedule, warmup_epochs=warmup)
        for scaling in ("sqrt", "linear", "none")
        for schedule in ("constant", "cosine")
        for warmup in (0, 1.5)
    ]
    rates = [learning_rate(plan, step, 7, batch) for plan in plans for batch in (4, 32, 512) for step in range(35)]
    assert digest(" ".join(f"{rate:.12g}" for rate in rates).encode()) == "8327fda708381e5e"


RECORD = np.dtype([("values", "<f2", (2, 3)), ("label", "u1")])


def records(number: int, seed: int) -> Any:
    found = np.zeros(number, RECORD)
    generator = np.random.default_rng(seed)
    found["values"], found["label"] = generator.integers(0, 99, (number, 2, 3)), generator.integers(0, 9, number)
    return found


@pytest.fixture
def written(tmp_path: Path) -> shards.Shards:
    """Three files of 4, 1 and 5 records."""
    counts = (4, 1, 5)
    for number, count in enumerate(counts):
        shards.write(tmp_path / f"{number}.npy", records(count, number))
    return shards.Shards([tmp_path / f"{number}.npy" for number in range(3)], counts, RECORD)


def test_records_are_read_by_number_from_any_file(written: shards.Shards) -> None:
    everything = np.concatenate([records(count, number) for number, count in enumerate((4, 1, 5))])
    assert len(written) == 10
    for numbers in ([9, 0, 4, 4, 3], [5], list(range(10))):
        values, labels = written.read(np.array(numbers))
        assert (values.dtype, values.shape, labels.dtype) == (np.float16, (len(numbers), 2, 3), np.uint8)
        assert np.array_equal(values, everything["values"][numbers])
        assert np.array_equal(labels, everything["label"][numbers])
    with pytest.raises(IndexError):
        written.read(np.array([10]))


def test_a_file_that_ends_early_is_refused(written: shards.Shards) -> None:
    path = written.paths[2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"2\.npy: .*; run the stage prepare again"):
        written.read(np.array([9]))
    fresh = shards.Shards(written.paths[:2], (4, 1), RECORD)
    assert fresh.read(np.array([3]))[1].shape == (1,)  # its head is known from now on
    whole = fresh.paths[0].read_bytes()
    fresh.paths[0].write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"0\.npy: ends in record 3; run the stage prepare again"):
        fresh.read(np.array([0, 3]))
    for part in (b"", whole[:5], whole[:40]):  # its head is not whole
        fresh.paths[0].write_bytes(part)
        with pytest.raises(ValueError, match=r"0\.npy: .*; run the stage prepare again"):
            shards.Shards(fresh.paths, (4, 1), RECORD).read(np.array([0]))


def test_a_file_of_other_fields_is_refused(written: shards.Shards) -> None:
    other = np.zeros(5, np.dtype([("values", "<f4", (2, 3)), ("label", "u1")]))
    shards.write(written.paths[2], other)
    with pytest.raises(ValueError, match=r"2\.npy: holds .*<f4.*, not .*<f2.*; run the stage prepare again"):
        written.read(np.array([9]))


@pytest.fixture
def tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays in place of tensors."""
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(constant=np.asarray))


@pytest.mark.usefixtures("tensors")
def test_batches_are_read_ahead_in_their_order(written: shards.Shards) -> None:
    numbers = np.random.default_rng(1).integers(0, 10, (9, 2))
    read: list[list[int]] = []
    enough = Event()

    def noted(row: Any) -> Any:
        read.append(row.tolist())
        if len(read) == shards.AHEAD:
            enough.set()
        return written.read(row)

    coming = written.ahead(numbers, noted)
    assert enough.wait(60)  # before the first is asked for
    for taken, (row, batch) in enumerate(zip(numbers, coming, strict=True)):
        assert len(read) <= shards.AHEAD + taken + 1  # memory is bounded
        for values, wanted in zip(batch, written.read(row), strict=True):
            assert np.array_equal(values, wanted)
    assert read == numbers.tolist()


@pytest.mark.usefixtures("tensors")
def test_what_cannot_be_read_is_raised_where_its_batch_is_asked_for(written: shards.Shards) -> None:
    written.paths[2].unlink()
    coming = written.batches(np.array([[0, 1], [4, 3], [9, 0], [2, 2]]))
    assert len(next(coming)) == len(next(coming)) == 2
    with pytest.raises(FileNotFoundError, match=r"2\.npy"):
        next(coming)
    with pytest.raises(StopIteration):
        next(coming)


def test_the_bytes_of_records_never_change(written: shards.Shards) -> None:
    assert digest(b"".join(path.read_bytes() for path in written.paths)) == "7c54279b4e0ceea4"
    assert not list(written.paths[0].parent.glob("*.partial"))


class Variable:
    """What `average` uses of TensorFlow's."""

    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value)

    def numpy(self) -> Any:
        return self.value

    def assign(self, value: Any) -> None:
        assert value.dtype == self.value.dtype
        self.value = value


class Ranks:
    """Of a job whose other ranks have these arrays in place of ours."""

    def __init__(self, *others: list[Any]) -> None:
        self.others, self.size, self.exchanged = others, 1 + len(others), 0

    def sum(self, tensors: list[Any]) -> list[Any]:
        self.exchanged += 1
        return [np.sum([mine, *theirs], axis=0) for mine, *theirs in zip(tensors, *self.others, strict=True)]


def test_moving_averages_become_the_mean_of_the_ranks() -> None:
    """In double precision, so that what is alike stays alike to the bit; counters are no averages."""
    third = np.float32(1 / 3)
    mean, constant, counter = Variable(np.float32([1.0, 2.0])), Variable(third), Variable(np.int64(7))
    ranks = Ranks([np.array([2.0, 4.0]), np.float64(third)], [np.array([6.0, 0.0]), np.float64(third)])
    average([mean, counter, constant], ranks)
    assert mean.value.tolist() == [3.0, 2.0]
    assert constant.value == third
    assert (counter.value, ranks.exchanged) == (7, 1)


def test_a_network_without_moving_averages_exchanges_nothing() -> None:
    for variables in ([], [Variable(np.int64(3)), Variable(np.uint32([1, 2]))]):
        ranks = Ranks([])
        average(variables, ranks)
        assert ranks.exchanged == 0


@pytest.mark.parametrize(
    ("target", "reached", "best"),
    [
        (Target("error", 0.3, higher=False), 2, 0.2),
        (Target("error", 0.1, higher=False), None, 0.2),
        (Target("error", 0.5), 1, 0.5),
    ],
)
def test_a_target_may_lie_below(target: Target, reached: int | None, best: float) -> None:
    records = [{"epoch": n, "val_error": value, "elapsed": 10.0 * n} for n, value in ((1, 0.5), (2, 0.25), (3, 0.2))]
    found = until_target(records, target)
    assert (found["target_reached"], found["target_epoch"]) == (int(reached is not None), reached or 3)
    assert found["seconds_to_target"] == (10.0 * reached if reached else None)
    assert found["target_best"] == best


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: None, ""),
        (lambda t: t.update(val_error=0.1), "val_error is 0.1, less than target_best, 0.2"),
        (lambda t: t.update(target_reached=1), "target_reached is 1, but target_best is 0.2"),
        (lambda t: t.update(samples_per_second=0), "samples_per_second is 0"),
    ],
)
def test_facts_about_a_target_below_are_held_against_each_other(change: Callable[[Any], None], said: str) -> None:
    facts = {"warm_seconds": {"input": 1.0, "compute": 8.0, "exchange": 1.0}, "input_share": 0.1}
    facts |= {"target": 0.1, "target_reached": 0, "target_best": 0.2, "val_error": 0.3}
    facts |= {"samples_per_second": 2.0, "peak_memory_gb": 0.7, "seconds": 10.0}
    change(facts)
    problems = list(contradictions(facts, metric="val_error", higher=False))
    assert said in " ".join(problems)
    assert bool(problems) == bool(said)


@pytest.mark.parametrize(
    ("training", "validation", "said"),
    [
        (["a"], ["c"], ""),
        (["a", "e"], ["c"], "test scans were seen in training: e"),
        (["b"], ["c"], "test scans were seen in training: 2"),  # of a group that is on both sides
        (["a", "c"], ["c"], "training used scans that are not of it: c"),
        (["a"], [], "validation used scans that are not of it: none"),
        (["x"], ["c"], "training used scans that are not of it: x"),
    ],
)
def test_a_leak_between_splits_is_refused(training: list[str], validation: list[str], said: str) -> None:
    listed = {"training": {"a": "1", "b": "2"}, "validation": {"c": "3"}, "test": {"d": "2", "e": "4"}}
    used = {"training": training, "validation": validation}
    if not said:
        splits_kept("train.json", used, listed, test="test", what="scans")
    else:
        with pytest.raises(KitError, match=f"train.json: {said}"):
            splits_kept("train.json", used, listed, test="test", what="scans")
