"""The log of a run, held against the ruleset that the kit publishes, by the code of MLPerf's own checker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlperf_logging.compliance_checker import mlp_compliance

from kit.core import paths

RULESET = paths.PACKAGE / "submissions/science_ruleset.yaml"
Line = dict[str, Any]


@pytest.fixture
def log(submission: Path) -> list[Line]:
    lines = (submission / "result-1.txt").read_text().splitlines()
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def accepted(folder: Path, lines: list[Line]) -> bool:
    path = folder / "log.txt"
    path.write_text("".join(f":::MLLOG {json.dumps(line)}\n" for line in lines))
    checker = mlp_compliance.make_checker("hpc", "3.0.0", quiet=False, werror=True)
    return bool(mlp_compliance.main(str(path), str(RULESET), checker)[0])


def test_the_log_of_a_submission(log: list[Line], tmp_path: Path) -> None:
    assert accepted(tmp_path, log)
    assert not accepted(tmp_path, [])
    # No key is used for what MLPerf does not mean by it.
    assert not {"block_start", "block_stop", "epoch_start"} & {line["key"] for line in log}
    assert {line["namespace"] for line in log if line["key"].startswith("stage_")} == {"kit"}


def put(key: str, value: Any) -> Callable[[list[Line]], None]:
    def change(lines: list[Line]) -> None:
        next(line for line in lines if line["key"] == key)["value"] = value

    return change


def drop(key: str) -> Callable[[list[Line]], None]:
    def change(lines: list[Line]) -> None:
        lines.remove(next(line for line in lines if line["key"] == key))

    return change


def twice(key: str) -> Callable[[list[Line]], None]:
    def change(lines: list[Line]) -> None:
        place = next(place for place, line in enumerate(lines) if line["key"] == key)
        lines.insert(place, lines[place])

    return change


def renamed(key: str, other: str) -> Callable[[list[Line]], None]:
    def change(lines: list[Line]) -> None:
        for line in lines:
            if line["key"] == key:
                line["key"] = other

    return change


def failed(lines: list[Line]) -> None:
    next(line for line in lines if line["key"] == "run_stop")["metadata"]["status"] = "aborted"


def back_in_time(lines: list[Line]) -> None:
    next(line for line in lines if line["key"] == "run_stop")["time_ms"] = 5


SUBMISSION_KEYS = ("benchmark", "org", "division", "version", "github_commit_version", "status", "platform")
BAD: dict[str, Callable[[list[Line]], None]] = {
    **{f"without {key}": drop(f"submission_{key}") for key in SUBMISSION_KEYS},
    **{f"{key} twice": twice(f"submission_{key}") for key in SUBMISSION_KEYS},
    **{f"{key} empty": put(f"submission_{key}", "") for key in SUBMISSION_KEYS},
    "placeholder": put("submission_org", "SUBMISSION_ORG_PLACEHOLDER"),
    "closed": put("submission_division", "closed"),
    "short commit": put("submission_github_commit_version", "abc123"),
    "commit unknown": put("submission_github_commit_version", "unknown" * 6),
    "no run_start": drop("run_start"),
    "no run_stop": drop("run_stop"),
    "two run_stop": twice("run_stop"),
    "failed": failed,
    "back in time": back_in_time,
    "stage without end": drop("stage_stop"),
    "stage without start": drop("stage_start"),
    "stage twice": twice("stage_start"),
    "stages as blocks": renamed("stage_start", "block_start"),
    "a block that counts nothing": renamed("image_digest", "block_start"),
    "an epoch that counts nothing": renamed("image_digest", "epoch_start"),
    "seed of text": renamed("image_digest", "seed"),
    "no result": drop("result"),
    "empty result": put("result", {}),
    "result is a number": put("result", 5),
    "result of text": put("result", {"accuracy": "good"}),
    "result not a number": put("result", {"accuracy": float("nan")}),
    "result infinite": put("result", {"accuracy": float("inf")}),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_bad_logs_are_refused(log: list[Line], tmp_path: Path, change: Callable[[list[Line]], None]) -> None:
    change(log)
    assert not accepted(tmp_path, log)


def test_every_rule_of_the_ruleset_has_a_bad_log() -> None:
    keys = re.findall(r"^    NAME: (\w+)$", RULESET.read_text(), re.MULTILINE)
    assert {f"submission_{key}" for key in SUBMISSION_KEYS} <= set(keys)
    assert set(keys) - {f"submission_{key}" for key in SUBMISSION_KEYS} == {
        "seed",
        "run_start",
        "stage_start",
        "stage_stop",
        "run_stop",
        "block_start",
        "epoch_start",
        "result",
    }
