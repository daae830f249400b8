"""What a packed folder holds: several runs of one thing, and every text that is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import boxed, files

from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.submissions.check import check
from kit.submissions.pack import pack

pytestmark = pytest.mark.usefixtures("toy")


def finished(runs: Path, seed: int, size: str = "noisy") -> Path:
    """A valid run of the toy with this seed."""
    directory = launch.prepare(make_plan(Request("toy", size, site="here", seed=seed)), runs)
    boxed(directory)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    assert collect(directory).state.name == "valid"
    return directory


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder)}


def test_several_runs_in_any_order_give_the_same_bytes(toy: Path, tmp_path: Path) -> None:
    runs = [finished(toy, seed) for seed in (3, 1, 2)]
    folder = pack(runs, tmp_path / "a")
    assert check(folder) == []
    again = pack([runs[2], runs[0], runs[1]], tmp_path / "b")
    assert contents(folder) == contents(again)
    for number, place, seed in ((1, "", 3), (2, "repeat-2/", 1), (3, "repeat-3/", 2)):
        assert json.loads((folder / place / "run.json").read_text())["seed"] == seed
        assert (folder / place / "run/job.sh").is_file()
        assert f'"key": "seed", "value": {number_of(folder, number)}' in (folder / f"result-{number}.txt").read_text()
    readme = (folder / "README.md").read_text()
    assert (
        "| Measurement | mean | median | olympic mean | 95 % interval | run 1 (seed 3) | run 2 (seed 1) | run 3 (seed 2) |"
        in readme
    )
    assert "| noise | 2 | 2 | 2 | -0.4841 to 4.484 | 3 | 1 | 2 |" in readme


def number_of(folder: Path, number: int) -> int:
    path = folder / ("run.json" if number == 1 else f"repeat-{number}/run.json")
    return int(json.loads(path.read_text())["seed"])


def test_runs_that_are_not_repeats(toy: Path, tmp_path: Path) -> None:
    one, same, other = finished(toy, 1), finished(toy, 1), finished(toy, 2)
    with pytest.raises(KitError, match=f"{one} and {same}: seed is 1 in both; repeats need seeds of their own"):
        pack([one, same], tmp_path / "to")
    with pytest.raises(KitError, match=f"{other} and {other}: created is .* one run, given twice"):
        pack([other, other], tmp_path / "to")
    with pytest.raises(KitError, match="no run to pack"):
        pack([], tmp_path / "to")
    record = other / "run.json"
    run = json.loads(record.read_text())
    for key, value in (("ranks", 2), ("site", "there"), ("size", "tiny"), ("commit", "2" * 40)):
        record.write_text(json.dumps({**run, key: value}))
        with pytest.raises(KitError, match=f"{one} and {other}: {key} is .* and {value!r}"):
            pack([one, other], tmp_path / "to")
    record.write_text(json.dumps({**run, "state": {"name": "failed", "reason": "x"}}))
    with pytest.raises(KitError, match="only a valid run can be submitted"):
        pack([one, other], tmp_path / "to")
    assert not (tmp_path / "to").exists()
