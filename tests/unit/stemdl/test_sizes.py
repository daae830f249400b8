"""What benchmark.toml asks of the stages: every size and every point of a scaling is a command that the stages take."""

from __future__ import annotations

import shlex
import tomllib
from typing import Any

import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.stemdl import CODE
from kit.benchmarks.stemdl.crystals import chosen
from kit.core import paths
from kit.data.published import load_data_set
from kit.script.quoting import environment
from kit.stages.stemdl.__main__ import parser
from kit.training.scaling import plan

BENCHMARK = load_benchmark("stemdl")


def words(command: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The options of a stage's command, as the stage takes them."""
    text = environment().from_string(command).render(start="launch", backend="horovod", **parameters)
    return vars(parser().parse_args(shlex.split(text.replace("\\\n", " "))[4:]))


@pytest.mark.parametrize("size", BENCHMARK.sizes)
def test_stages_take_what_the_sizes_say(size: str) -> None:
    parameters = BENCHMARK.size(size).parameters
    found = {stage.name: words(stage.command, parameters) for stage in BENCHMARK.stages}
    assert found["prepare"]["side"] == parameters["side"]
    assert (found["train"]["depth"], found["train"]["width"]) == (parameters["depth"], parameters["width"])
    assert found["train"]["mirror"] == (parameters["mirror"] == "yes") == (parameters["merge"] == "enantiomorphs")
    assert 0 <= found["train"]["patience"] <= found["train"]["epochs"] / 2
    assert found["reconstruct"]["epochs"] == parameters["reconstruction_epochs"]
    published = size in ("ds1a", "raw")
    assert ((parameters["depth"], parameters["width"], parameters["side"]) == (50, 64, 128)) == published
    assert set(BENCHMARK.size(size).floor_seconds) <= {stage.name for stage in BENCHMARK.stages}


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_numbers_of_stacks_are_those_that_are_said(size: str) -> None:
    parameters = CODE.data_parameters(BENCHMARK.size(size).parameters)
    groups = [int(text) for text in str(parameters["space_groups"]).split(",")]
    crystals = chosen(groups, int(parameters["materials"]))
    stacks = len(crystals) * int(parameters["orientations"]) * int(parameters["thicknesses"])
    assert f"{stacks:,} stacks" in BENCHMARK.size(size).description
    assert f"{len(groups)} space groups" in BENCHMARK.size(size).description


def test_points_of_a_scaling_are_commands() -> None:
    stages = {stage.name: stage for stage in plan(BENCHMARK, "tiny", [1, 2], 3).stages}
    assert list(stages) == ["prepare", "strong_1", "strong_2", "weak_1"]
    parameters = BENCHMARK.size("tiny").parameters
    found = words(stages["weak_1"].command, parameters)
    assert (found["share"], found["epochs"], found["batch_size"]) == (0.5, 3, 16)


def test_every_gate_says_where_it_is_from_and_beats_a_baseline() -> None:
    gates = {metric.name for metric in BENCHMARK.metrics if metric.at_least is not None}
    assert gates == {"margin", "separation", "density_margin", "density_margin_low"}
    assert all(metric.source for metric in BENCHMARK.metrics if metric.name in gates)
    # The target of the working group is shown, and no gate: nothing published comes near it.
    target = next(metric for metric in BENCHMARK.metrics if metric.name == "target_best")
    assert (target.reference, target.tolerance) == (0.9, None)


def test_published_data_sets_have_their_sizes() -> None:
    assert load_data_set("stemdl/ds1a").gigabytes == pytest.approx(34, abs=2)
    assert load_data_set("stemdl/raw").gigabytes == pytest.approx(548.7 * 1.024**3, rel=0.001)
    assert load_data_set("stemdl/ds1a:100").gigabytes < 0.1
    assert CODE.needed("") == ["training", "validation", "testing"]


def test_files_that_decide_the_data_are_there() -> None:
    for name in CODE.GENERATOR:
        assert (paths.PACKAGE / name).is_file(), name
    assert tomllib.loads((paths.PACKAGE / CODE.GENERATOR[3]).read_text())
