"""What a submission of TEvolOp carries is computed again: each number edited alone contradicts what it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kit.benchmarks.tevolop.consistency import contradictions, differing
from kit.benchmarks.tevolop.judge import INFER, PREPARED, SCORE, TRAIN
from kit.stages.tevolop.score import verdict

Table = dict[str, Any]
NAMES = (PREPARED, TRAIN, INFER, SCORE)


def found(finished: Path, folder: Path, name: str, change: Callable[[Table], object]) -> list[tuple[str, str]]:
    table = json.loads((finished / name).read_text())
    change(table)
    path = folder / "x.json"
    path.write_text(json.dumps(table))
    return list(contradictions({**{other: finished / other for other in NAMES}, name: path}))


def test_what_a_run_leaves_agrees(finished: Path) -> None:
    assert not list(contradictions({name: finished / name for name in NAMES}))
    for name in NAMES:
        assert not list(contradictions({name: finished / name}))
    assert not list(contradictions({}))


def pixel(table: Table) -> Table:
    of: Table = next(iter(table["per_pixel"].values()))
    return of


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SCORE, lambda t: t["nnse"].update(network=0.9), "nnse.network is 0.9"),
        (SCORE, lambda t: t["nnse"].update(network=float("nan")), "nnse.network is nan"),
        (SCORE, lambda t: t["nnse"].update(climatology=0.3), "nnse.climatology is 0.3"),
        (SCORE, lambda t: t["nnse"].update(intensity=0.9), "nnse.intensity is 0.9"),
        (SCORE, lambda t: t["nnse_by_horizon"]["network"].update({"1y": 0.9}), "nnse_by_horizon.network.1y is 0.9"),
        (SCORE, lambda t: t["nnse_by_pixel"].update(network=0.9), "nnse_by_pixel.network is 0.9"),
        (SCORE, lambda t: t["nnse_interval"].update(network=[0.7, 0.8]), "nnse_interval.network is [0.7, 0.8]"),
        (SCORE, lambda t: t.update(margin=0.1), "margin is 0.1"),
        (SCORE, lambda t: t.update(margin_simple=0.1), "margin_simple is 0.1"),
        (SCORE, lambda t: t.update(margin_interval=[0.1, 0.2]), "margin_interval is [0.1, 0.2]"),
        (SCORE, lambda t: t.update(skill=0.5), "skill is 0.5"),
        (SCORE, lambda t: t.update(beaten=7), "beaten is 7"),
        (SCORE, lambda t: t.update(in_window=1), "in_window is 1"),
        (SCORE, lambda t: t.update(silent=99), "silent is 99"),
        (SCORE, lambda t: t.update(targets=5), "targets is 5"),
        (SCORE, lambda t: t.update(best_baseline="persistence"), "best_baseline is 'persistence'"),
        (SCORE, lambda t: t.update(verdict="the network is wonderful"), "verdict is 'the network is wonderful'"),
        (SCORE, lambda t: t.update(verdict="the network wins, and by no chance"), "verdict is 'the network wins"),
        (SCORE, lambda t: pixel(t).update(network=[0.0] * 6), "but the sums of its pixels say"),
        (SCORE, lambda t: pixel(t).update(network=[-1.0] * 6), "holds what are no sums of network"),
        (SCORE, lambda t: pixel(t).update(squares=[0.1] * 6), "holds what are no sums of squares"),
        (SCORE, lambda t: pixel(t).update(n=[1e9] * 6), "holds what are no sums of squares"),
        (SCORE, lambda t: pixel(t).update(etas=[float("nan")] * 6), "holds what are no sums of etas"),
        (SCORE, lambda t: pixel(t).pop("etas"), "lacks sums"),
        (SCORE, lambda t: pixel(t).update(sum=[1.0]), "some that are not of 6 horizons"),
        (SCORE, lambda t: t["per_pixel"].update({"5": pixel(t)}), "per_pixel has other pixels than the test"),
        (SCORE, lambda t: t.update(per_pixel={}), "has 0 pixels"),
        (SCORE, lambda t: t.update(per_pixel=[1]), "is not what a run leaves"),
        (SCORE, lambda t: t.pop("per_pixel"), "is not what a run leaves"),
        (SCORE, lambda t: t.update(windows=5), "holds what are no sums"),
        (SCORE, lambda t: t.update(windows=t["windows"] + 1), "windows is"),
        (SCORE, lambda t: t.update(split="time"), "split is 'time'"),
        (SCORE, lambda t: t["missing"].update({"4y": 0}), "missing.4y is 0, but series/prepared.json has"),
        (SCORE, lambda t: t["summed"]["nnse"]["network"].update({"1y": 0.9}), "network.1y is 0.9, but its series"),
        (SCORE, lambda t: t["summed"]["nnse"]["network"].pop("1y"), "summed.nnse.network.1y is None"),
        (SCORE, lambda t: t["summed"]["nnse"]["network"].update({"9y": 0.9}), "summed.nnse.network.9y is 0.9"),
        (SCORE, lambda t: t["summed"].update(network=t["summed"]["observed"]), "are no two series of 6 horizons"),
        (SCORE, lambda t: t["summed"]["observed"].pop(), "are no two series of 6 horizons"),
        (SCORE, lambda t: t.update(summed=5), "is not what a run leaves"),
        (INFER, lambda t: t.update(windows_per_second=1e9), "windows_per_second is 1000000000.0"),
        (INFER, lambda t: t.update(windows=7, windows_per_second=3.5), "windows is 7"),
        (INFER, lambda t: t.update(seconds=0), "is not what a run leaves"),
        (TRAIN, lambda t: t.update(input_share=0.01), "input_share is 0.01"),
        (TRAIN, lambda t: t.update(target_reached=1), "target_reached is 1"),
        (TRAIN, lambda t: t.update(target=0.3), "target is 0.3"),
        (TRAIN, lambda t: t.update(val_nnse=0.6), "val_nnse is 0.6"),
        (TRAIN, lambda t: t.update(val_nnse_1y=0.9), "but its horizons have a mean of"),
        (TRAIN, lambda t: t.update(samples_per_second=-1), "samples_per_second is -1"),
        (TRAIN, lambda t: t["training_pixels"].append(5), "training_pixels is not that of series/prepared.json"),
        (TRAIN, lambda t: t.update(split="time"), "trained on a split by time"),
        (TRAIN, lambda t: t.pop("split"), "is not what a run leaves"),
        (PREPARED, lambda t: t["splits"]["training"].update(pixels=t["pixels"]), "test pixels were seen in training"),
        (PREPARED, lambda t: t["splits"]["test"].update(until=9999), "test reaches to fortnight 9999"),
        (PREPARED, lambda t: t["counts"].update(used=10**9), "counts.used is 1000000000"),
        (PREPARED, lambda t: t.pop("splits"), "is not what a run leaves"),
    ],
)
def test_number_that_was_edited(
    finished: Path, tmp_path: Path, name: str, change: Callable[[Table], object], said: str
) -> None:
    problems = found(finished, tmp_path, name, change)
    assert any(said in problem for _, problem in problems), problems


def test_verdict_is_that_of_the_interval_which_is_said() -> None:
    """Where an interval ends near 0, other draws may say that it was chance, and the verdict follows them."""

    def table(low: float, verdict_low: float) -> Table:
        common = {"margin": 0.1, "margin_interval": [low, 0.2], "best_baseline": "etas"}
        return {**common, "verdict": verdict(0.1, [verdict_low, 0.2], "etas")}

    assert not list(differing(table(-0.001, -0.001), table(0.001, 0.001)))
    assert not list(differing(table(0.001, 0.001), table(-0.001, -0.001)))
    for low in (-0.001, 0.001):
        assert [label for label, _, _ in differing(table(low, -low), table(low, low))] == ["verdict"]
