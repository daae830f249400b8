"""Runs with other parameters, minutes and GPUs than their size says: what is allowed, and that nobody can hide it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import forged, kit, run_boxed

from kit.benchmark import load_benchmark
from kit.core.errors import KitError
from kit.plan import Request, make_plan, request_of, swept
from kit.runs import launch
from kit.runs.collect import report
from kit.runs.compare import compare, measure
from kit.runs.record import Run
from kit.submissions.pack import pack

SITE = """
description = "nodes with GPUs"
contact = "x"
url = "https://localhost"
[partitions.gpu]
scheduler = "slurm"
cores = 64
gpus = 4
max_minutes = 60
[partitions.cpu]
scheduler = "slurm"
cores = 64
"""


def ran(runs: Path, *parameters: str, size: str = "noisy", seed: int | None = None) -> tuple[Path, Run]:
    plan = make_plan(Request("toy", size, "here", parameters=parameters, seed=seed))
    directory = launch.prepare(plan, runs)
    return directory, run_boxed(directory)


def test_a_parameter_that_may_be_tuned(toy: Path, tmp_path: Path) -> None:
    """It reaches the script, is a result, and stands wherever the result is shown."""
    directory, run = ran(toy, "speed=12")
    assert run.state.name == "valid"
    assert json.loads((directory / "third.json").read_text())["speed"] == 12
    assert run.rendering is not None
    assert run.rendering.parameters == {"speed": 12}
    assert "(speed=12): valid" in report(directory, run)
    folder = pack(directory, tmp_path / "submissions")  # which renders it again from its record
    assert r"speed=12" in (folder / "README.md").read_text()
    assert yaml.safe_load((folder / "config.yaml").read_text())["changed"] == {"speed": 12}


@pytest.mark.parametrize(
    ("parameter", "value"), [("effort=0.5", 0.5), ("effort=2", 2.0), ("mode=fast-and-loose", "fast-and-loose")]
)
def test_a_parameter_that_decides_what_is_computed_makes_a_trial(
    toy: Path, tmp_path: Path, parameter: str, value: object
) -> None:
    directory, run = ran(toy, "speed=2", parameter)
    assert run.state.name == "finished"
    assert f"{parameter.replace('=2', '=2.0')} is not what size noisy says: a trial, not a result" in run.state.reason
    assert run.rendering is not None
    assert list(run.rendering.parameters.values()) == [2, value]
    assert request_of(run).parameters == ("speed=2", parameter.replace("=2", "=2.0"))
    with pytest.raises(KitError, match="only a valid run can be submitted"):
        pack(directory, tmp_path / "submissions")


def change(parameters: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def of_run(run: dict[str, Any]) -> None:
        run["rendering"]["parameters"] = parameters

    return of_run


def test_nobody_hides_or_invents_a_parameter(toy: Path, tmp_path: Path) -> None:
    directory, _ = ran(toy, "speed=12")
    folder = pack(directory, tmp_path / "submissions")
    assert "run/job.sh" in forged(folder, change({}))
    assert "run/job.sh" in forged(folder, change({"speed": 13}))
    assert "effort=0.1 is not what size noisy says" in forged(folder, change({"speed": 12, "effort": 0.1}))
    assert "unknown parameter of benchmark toy, size noisy: 'sped'" in forged(folder, change({"sped": 12}))
    assert forged(folder, change({"speed": 12})) == ""


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("sped=3", "unknown parameter of benchmark toy, size noisy: 'sped': did you mean speed"),
        ("speed", "parameter 'speed': KEY=VALUE is needed, for example --set speed=1"),
        ("=3", "unknown parameter of benchmark toy, size noisy: ''"),
        ("speed=", "parameter 'speed': a whole number is needed, like 3, got ''"),
        ("speed=3.5", "parameter 'speed': a whole number is needed, like 3, got '3.5'"),
        ("speed=fast", "a whole number is needed"),
        ("speed=1_0", "a whole number is needed"),
        ("speed=-1", "parameter 'speed': 0 or more is needed, got -1"),
        ("effort=nan", "parameter 'effort': a number is needed, like 1.5, got 'nan'"),
        ("effort=inf", "a number is needed"),
        ("mode=a\nb", "parameter 'mode': one word of letters, digits"),
        ("number=8", "parameter 'number': decides the data, which are the same in every run of a size"),
        ("random_seed=8", "parameter 'random_seed': --seed sets it"),
    ],
)
def test_refused(toy: Path, parameter: str, message: str) -> None:
    with pytest.raises(KitError) as error:
        make_plan(Request("toy", "noisy", "here", parameters=(parameter,)))
    assert message in str(error.value)


def test_a_parameter_is_given_once(toy: Path) -> None:
    with pytest.raises(KitError, match="parameter 'speed': given twice"):
        make_plan(Request("toy", "noisy", "here", parameters=("speed=1", "speed=2")))


def test_a_sweep_is_a_run_with_each_value(toy: Path) -> None:
    request = Request("toy", "noisy", "here", parameters=("mode=other",))
    plans = swept(request, 2, ["speed=3,12", "effort=1,2.5"])
    assert [(plan.size.parameters["speed"], plan.size.parameters["effort"], plan.seed) for plan in plans] == [
        (speed, effort, seed) for speed in (3, 12) for effort in (1.0, 2.5) for seed in (1, 2)
    ]
    assert {plan.size.parameters["mode"] for plan in plans} == {"other"}
    assert len(swept(request, 1, [])) == 1


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("speed", "--sweep speed: a parameter and its values are needed, for example --sweep speed=3,12,30"),
        ("speed=", "a parameter and its values are needed"),
        ("speed=3,,4", "a parameter and its values are needed"),
        ("=3", "a parameter and its values are needed"),
        ("speed=3,3", "a value is there twice"),
        ("sped=3,4", "did you mean speed"),
        ("speed=3,x", "a whole number is needed"),
    ],
)
def test_sweep_that_is_refused_makes_no_run(toy: Path, sweep: str, message: str) -> None:
    with pytest.raises(KitError) as error:
        swept(Request("toy", "noisy", "here"), 1, [sweep])
    assert message in str(error.value)


def test_runs_of_different_parameters_are_no_repeats(toy: Path) -> None:
    one, two = ran(toy, seed=1)[0], ran(toy, "speed=12", seed=2)[0]
    with pytest.raises(KitError, match="differ in changed"):
        measure([one, two, one])
    (toy / "repeats.json").write_text(
        json.dumps({"noisy": {"image": "i", "version": "1", "machine": "m", "seeds": [1], "metrics": {}, "pairs": {}}})
    )
    remarks = compare(one, two, toy / "repeats.json").remarks
    assert "Their parameters differ: those of the size, and speed=12." in remarks


@pytest.fixture
def site(tmp_path: Path) -> str:
    (tmp_path / "centre.toml").write_text(SITE)
    return str(tmp_path / "centre.toml")


def test_gpus_and_minutes_of_ones_own(site: str) -> None:
    asked = Request("relion", "particles", site, image="relion-cuda", gpus=2, minutes=20)
    plan = make_plan(asked)
    assert (plan.placement.gpus, plan.minutes) == (2, 20)
    text = launch.script(plan, *launch.DRY)
    assert "#SBATCH --time=20\n" in text
    assert "=2\n" in next(line + "\n" for line in text.splitlines() if line.startswith("#SBATCH --gpus"))
    assert launch.rendering(plan, *launch.DRY).model_dump(include={"gpus", "minutes"}) == {"gpus": 2, "minutes": 20}
    for changes, message in (
        ({"gpus": 5}, "5 GPUs of a node are asked for, and a node has 4"),
        (
            {"gpus": 1, "partition": "cpu"},
            "computes on GPUs, and the partition cpu has none|1 GPUs of a node are asked for, and a node has 0",
        ),
        ({"minutes": 61}, "61 minutes are needed, but the partition gives at most 60"),
    ):
        with pytest.raises(KitError, match=message):
            make_plan(dataclasses.replace(asked, **changes))  # type: ignore[arg-type]


def test_pool_of_relion() -> None:
    words = ("run", "relion", "--size", "particles", "--dry-run")
    assert kit(*words).stdout.count("--pool 30 ") == 6  # each stage that aligns, and its record
    changed = kit(*words, "--pool", "3").stdout
    assert changed.count("--pool 3 ") == 6
    assert changed == kit(*words, "--set", "pool=3").stdout.replace("--set pool=3", "--pool 3")
    assert "--pool 12 " in kit(*words, "--sweep", "pool=12,30").stdout
    said = kit("run", "cloudmask", "--pool", "3", "--dry-run", code=1).stderr
    assert "unknown parameter of benchmark cloudmask, size tiny: 'pool'" in said
    sizes = load_benchmark("relion").sizes
    assert {size.parameters["pool"] for size in sizes.values()} == {30}
    assert sizes["aldolase"].parameters["class2d_pool"] == 12


def test_a_benchmark_names_parameters_that_it_has(toy: Path) -> None:
    from kit.core import paths

    path = paths.PACKAGE / "benchmarks/toy/benchmark.toml"
    path.write_text(path.read_text().replace('tunable = ["speed"]', 'tunable = ["sped"]'))
    with pytest.raises(KitError, match="key 'tunable': unknown parameter 'sped': did you mean speed"):
        load_benchmark("toy")


@pytest.mark.parametrize("text", ["cosine; touch PWNED #", "$(id)", "x`id`", "--data", "a b", "x\\", "a'b", ""])
def test_a_text_is_one_word_and_never_shell(text: str) -> None:
    """It stands in the shell of the stages as it is."""
    with pytest.raises(KitError, match="one word of letters, digits"):
        make_plan(Request("cloudmask", parameters=(f"schedule={text}",)))
