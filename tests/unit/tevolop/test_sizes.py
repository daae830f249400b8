"""The sizes: their commands are ones that the stages read, their published data are whole, and they judge as they say."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from conftest import kit

from kit.benchmark import load_benchmark
from kit.benchmarks.tevolop import CODE, DATA_PARAMETERS, etas
from kit.data.published import get, load_data_set
from kit.script.render import environment
from kit.stages.tevolop import grid
from kit.stages.tevolop.__main__ import parser
from kit.stages.tevolop.catalogue import gather
from kit.training.scaling import plan

BENCHMARK = load_benchmark("tevolop")


def given(command: str, size: str) -> dict[str, object]:
    """The options that a stage is given, as it reads them."""
    numbers = {**BENCHMARK.size(size).parameters, **BENCHMARK.images["horovod"].words}
    words = environment().from_string(command).render(numbers).replace("\\\n", " ").split()
    return vars(parser().parse_args(words[words.index("kit.stages.tevolop") + 1 :]))


@pytest.mark.parametrize("size", BENCHMARK.sizes)
def test_commands_of_a_size_are_read_by_the_stages(size: str) -> None:
    parameters = BENCHMARK.size(size).parameters
    options = {stage.name: given(stage.command, size) for stage in BENCHMARK.stages}
    assert list(options) == ["prepare", "train", "infer", "score"]
    for stage, keys in (
        ("prepare", ("days", "pixels", "split", "stride")),
        ("train", ("model", "units", "dropout", "epochs")),
    ):
        assert all(options[stage][key] == parameters[key] for key in keys)
    assert bool(options["score"]["truth"]) == bool(parameters["truth"]) == (not BENCHMARK.size(size).dataset)
    assert parameters["patience"] <= parameters["epochs"] / 2
    assert set(DATA_PARAMETERS) == set(CODE.data_parameters(parameters))
    for stage in plan(BENCHMARK, size, [1, 2], 3).stages[1:]:
        assert given(stage.command, size)["epochs"] == 3


@pytest.mark.parametrize("size", BENCHMARK.sizes)
def test_gates_are_where_an_honest_run_passes_them(size: str) -> None:
    """By location on generated events; a forecast by time that beats nothing is a result, and so is an NNSE below 0.8."""
    gated = {metric.name for metric in BENCHMARK.metrics_at(size) if metric.at_least is not None}
    assert gated == {"tiny": {"margin", "margin_simple"}, "small": {"margin", "margin_low", "margin_simple"}}.get(
        size, set()
    )
    metrics = {metric.name: metric for metric in BENCHMARK.metrics_at(size)}
    assert metrics["margin"].problem(-0.01) is None or size in ("tiny", "small")
    assert metrics["nnse"].problem(0.5) is None
    assert metrics["in_window"].problem(0) is None
    if size == "socal":
        assert [metrics[f"nnse_{name}"].reference for name in grid.HORIZONS] == [0.869, 0.893, 0.9, 0.865, None, 0.77]
        assert metrics["nnse_2w"].problem(0.6) is None  # beside it, and no gate


def test_the_parts_of_the_catalogue_are_the_whole_time() -> None:
    """Of the region, one after the other, without a gap."""
    ends = []
    for source in load_data_set("tevolop/comcat").sources:
        asked = {key: values[0] for key, values in parse_qs(urlparse(source.url).query).items()}
        box = tuple(float(asked[key]) for key in ("minlatitude", "maxlatitude", "minlongitude", "maxlongitude"))
        assert box == (grid.SOUTH, grid.NORTH, grid.WEST, grid.EAST)
        assert (asked["format"], asked["minmagnitude"], source.into) == ("csv", "2.5", "catalogue")
        ends.append((asked["starttime"], asked["endtime"]))
    assert [ends[0][0], *(end for _, end in ends)] == [*(start for start, _ in ends), ends[-1][1]]
    assert (ends[0][0], ends[-1][1]) == ("1950-01-01", "2020-01-01")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", text) for pair in ends for text in pair)


def test_what_the_service_gives_is_fetched_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a mirror with a file for each question, under the name that the question gives it."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    wanted = load_data_set("tevolop/comcat")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    events = etas.simulate(1, 25567, 20.0)
    for number, source in enumerate(wanted.sources):
        part = events.taken((events.day * len(wanted.sources) / 25567).astype(int) == number)
        etas.write_csv(mirror / source.url.rpartition("/")[2], part, number * 10_000)
    folder = get(wanted, mirror=str(mirror))
    found = gather(folder, 25567, 2.5, 0.01)
    assert found.counts["used"] == pytest.approx(len(events.day), abs=20)


def test_a_scaling_run_can_be_planned() -> None:
    assert "strong_2" in kit("scaling", "tevolop", "--ranks", "1,2", "--dry-run").stdout
