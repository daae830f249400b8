"""A challenge decides the seeds of data and stages; nobody can run for one and say it was another."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import forged, kit, run_boxed

from kit.benchmark import MOST_SEED, Benchmark, load_benchmark
from kit.benchmarks import Parameters
from kit.challenge import Challenge
from kit.cli.run import challenged
from kit.core.errors import KitError
from kit.data import generated
from kit.plan import Request, make_plan, repeated, request_of
from kit.reproduce import new_plan
from kit.runs import launch
from kit.runs.record import load_run
from kit.submissions.check import check
from kit.submissions.deep import answers
from kit.submissions.pack import pack

TEXT = "spring 2027 f3a9c1"


def seeds(plan: Any, key: str) -> tuple[Any, Any]:
    return plan.size.parameters[key], plan.seed


@pytest.mark.parametrize(("benchmark", "key"), [("cloudmask", "data_seed"), ("relion", "seed")])
def test_seeds_are_those_of_the_text(benchmark: str, key: str) -> None:
    def wanted(what: str) -> int:
        digest = hashlib.sha256(f"{TEXT}\n{benchmark}\ntiny\n{what}".encode()).hexdigest()
        return int(digest, 16) % 2**31

    plans = repeated(Request(benchmark, challenge=Challenge(text=TEXT)), 3)
    assert [seeds(plan, key) for plan in plans] == [(wanted("data"), wanted(f"run {number}")) for number in (1, 2, 3)]
    other = make_plan(Request(benchmark, challenge=Challenge(text=f"{TEXT}.")))
    assert seeds(other, key)[0] != wanted("data")
    assert generated.folder_of(plans[0].benchmark, "tiny") == generated.folder_of(plans[1].benchmark, "tiny")
    assert generated.folder_of(other.benchmark, "tiny") != generated.folder_of(plans[0].benchmark, "tiny")


def test_seeds_stay_in_their_range() -> None:
    found = [Challenge(text=f"challenge {number}").data_seed("relion", "tiny", 7) for number in range(100)]
    assert set(found) == set(range(8))
    assert 0 <= Challenge(text=TEXT).run_seed("relion", "tiny", MOST_SEED) <= MOST_SEED


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("cloudmask", "ds1", challenge=Challenge(text=TEXT)), "published data set ds1"),
        (Request("relion", "aldolase", challenge=Challenge(text=TEXT)), "published data set"),
        (Request("relion", seed=3, challenge=Challenge(text=TEXT)), "only one of them"),
        (Request("cloudmask", scaling=(1, 2), challenge=Challenge(text=TEXT)), "a scaling measurement"),
        (Request("relion", isolated=Path("/nowhere"), challenge=Challenge(text=TEXT)), "one stage alone"),
        (Request("relion", parameters=("seed=3",), challenge=Challenge(text=TEXT)), "decides the data"),
    ],
)
def test_where_there_is_none(request_: Request, said: str) -> None:
    with pytest.raises(KitError, match=said):
        make_plan(request_)


@pytest.mark.usefixtures("toy")
def test_data_without_a_seed() -> None:
    with pytest.raises(KitError, match="no seed that --challenge could decide"):
        make_plan(Request("toy", site="here", challenge=Challenge(text=TEXT)))


@pytest.mark.parametrize("text", ["", "short", "-" * 9, "one\ntwo three", "$(touch x) y", "x" * 201, "caf\u00e9 creme"])
def test_texts_that_cannot_be(text: str) -> None:
    with pytest.raises(KitError, match=r"--challenge .*8 to 200 letters"):
        challenged(text)


def test_the_script_names_it() -> None:
    script = kit("run", "cloudmask", "--challenge", TEXT, "--repeat", "2", "--dry-run").stdout
    assert f"# Challenge, which decides the seeds of data and stages: {TEXT} (run 1)\n" in script
    seed = make_plan(Request("cloudmask", challenge=Challenge(text=TEXT))).size.parameters["data_seed"]
    assert f"--validation-scenes 8 --seed {seed}" in script
    assert "Challenge" not in kit("run", "cloudmask", "--dry-run").stdout


@pytest.fixture
def answered(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A submission of the toy whose data have a seed, run for a challenge."""
    code: Any = Benchmark.code
    monkeypatch.setattr(code, "DATA_SEED", "number", raising=False)

    def generate(folder: Path, parameters: Parameters) -> None:
        (folder / "input.txt").write_text(str(int(parameters["number"]) % 8))  # the gate of the toy is 8

    monkeypatch.setattr(code, "generate", generate)
    directory = launch.prepare(make_plan(Request("toy", "noisy", "here", challenge=Challenge(text=TEXT))), toy)
    run = run_boxed(directory)
    assert run.state.name == "valid", run.state
    return pack([directory], tmp_path / "submissions")


def test_the_run_says_it_and_the_check_knows(answered: Path) -> None:
    run = load_run(answered)
    assert run.challenge == Challenge(text=TEXT)
    assert request_of(run).challenge == run.challenge
    assert request_of(run).seed is None
    assert check(answered) == []
    assert answers(answered, TEXT) == []
    (finding,) = answers(answered, "another challenge")
    assert finding.rule == "challenge"


@pytest.mark.parametrize(
    "change",
    [
        {"challenge": {"text": "autumn 2027 aaaa", "repeat": 1}},
        {"challenge": {"text": TEXT, "repeat": 2}},
        {"challenge": None},
        {"seed": 5},
    ],
)
def test_another_challenge_or_seed_is_refused(answered: Path, change: dict[str, Any]) -> None:
    said = forged(answered, lambda run: run.update(change))
    assert "run/benchmark.json" in said or "seed is" in said


def test_a_challenge_that_nobody_gave(answered: Path, tmp_path: Path) -> None:
    """The data of another seed under the name of a challenge: the benchmark that the check renders has the right one."""
    copy = tmp_path.joinpath("forged", *answered.parts[-4:])
    shutil.copytree(answered, copy)
    path = copy / "run/benchmark.json"
    own = json.loads(path.read_text())
    own["sizes"]["noisy"]["parameters"]["number"] = 3
    path.write_text(json.dumps(own, indent=2) + "\n")
    assert "run/benchmark.json" in forged(copy)


def test_a_reproduction_is_for_the_same_challenge(answered: Path) -> None:
    """Its plan is made, seeds and all; only then a site without containers is refused."""
    with pytest.raises(KitError, match="runtime is 'host'"):
        new_plan(load_run(answered), "here")
    with pytest.raises(KitError, match="only one of them"):
        new_plan(load_run(answered), "here", seed="new")


@pytest.mark.usefixtures("answered")
def test_repeats_have_other_seeds_on_the_same_data() -> None:
    first, second = repeated(Request("toy", "noisy", "here", challenge=Challenge(text=TEXT)), 2)
    assert first.seed != second.seed
    folders = [generated.folder_of(launch.data_benchmark(plan), "noisy") for plan in (first, second)]
    assert folders[0] == folders[1]


def test_other_benchmarks_have_no_such_parameter() -> None:
    for name in ("relion", "cloudmask"):
        benchmark = load_benchmark(name)
        assert any(benchmark.code.DATA_SEED in size.parameters for size in benchmark.sizes.values())
        assert benchmark.challenged("tiny", None) is benchmark
