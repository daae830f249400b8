"""Scaling: which points there are, what each trains, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import kit

from kit.benchmark import load_benchmark
from kit.core.errors import KitError
from kit.script.quoting import environment
from kit.stages.cloudmask.__main__ import parser
from kit.stages.ml.ranks import shared
from kit.training.scaling import plan, points


def test_points_of_many_ranks() -> None:
    """Each number of ranks once for all the data, and once for its share of them."""
    assert points([1, 2, 4]) == {"strong_1": 1, "strong_2": 2, "strong_4": 4, "weak_1": 1, "weak_2": 2}
    stages = {stage.name: stage for stage in plan(load_benchmark("cloudmask"), "small", [4, 1, 2], 3).stages}
    assert list(stages) == ["extract", "convert", "patches", *points([1, 2, 4])]
    for name, batch, share in (("strong_1", 4, 1), ("strong_4", 1, 1), ("weak_1", 1, 0.25), ("weak_2", 1, 0.5)):
        assert f"set batch_size = {batch} " in stages[name].command
        assert f"set share = {share} " in stages[name].command


def test_published_curves_have_all_their_points() -> None:
    """As stfc-sciml/e2e has them in case2/README.md (total_time, rounded), and the paper of ISC 2022."""
    scaling = load_benchmark("cloudmask").scaling
    assert scaling
    found = {curve.system: dict(zip(curve.ranks, curve.seconds, strict=True)) for curve in scaling.published}
    assert found["PEARL, V100"] == {1: 4687, 2: 3681, 4: 1828, 8: 1015, 16: 562}
    assert found["SCARF, K80"] == {1: 45403, 2: 23282, 4: 12457, 8: 4787, 16: 1616, 32: 1006}
    assert found["EPCC, Cascade Lake"] == {4: 51650, 8: 23525, 16: 11380, 32: 8428}
    assert found["EPCC, Cascade Lake, Intel's TensorFlow"] == {4: 43590, 8: 19653, 16: 10049, 32: 5019}
    assert found["EPCC, Ice Lake"] == {1: 150663, 2: 103712, 4: 81546}
    assert found["Summit, V100"] == {1: 266, 2: 281, 4: 241, 8: 136, 16: 70, 32: 36}
    assert found["PEARL, two DGX-2, V100"] == {1: 534, 2: 517, 4: 242, 8: 131, 16: 76, 32: 44}
    assert len(found) == 7


@pytest.mark.parametrize("size", load_benchmark("cloudmask").sizes)
def test_points_train_as_the_stage_does(size: str) -> None:
    """Every option that the stage train passes is passed at each point, with its value, but for what makes a point."""
    benchmark = load_benchmark("cloudmask")
    numbers = {**benchmark.size(size).parameters, **benchmark.images["horovod"].words}
    (stage,) = (stage for stage in benchmark.stages if stage.name == "train")

    def options(command: str) -> dict[str, object]:
        words = environment().from_string(command).render(numbers).replace("\\\n", " ").split()
        at = words.index("kit.stages.cloudmask")
        named = {word for word in words if word.startswith("--")}
        return {**vars(parser().parse_args(words[at + 1 :])), "named": named}

    of_stage = options(stage.command)
    batch = numbers["batch_size"]
    expected = {"strong_1": (4 * batch, 1), "strong_4": (batch, 1), "weak_1": (batch, 0.25), "weak_2": (batch, 0.5)}
    found = {stage.name: stage for stage in plan(benchmark, size, [1, 2, 4], 3).stages}
    for name, (batch_size, share) in expected.items():
        own = {"named": {*of_stage["named"], "--share"}, "out": Path(name), "share": share, "batch_size": batch_size}  # type: ignore[misc]
        # All points train as many epochs.
        assert options(found[name].command) == {**of_stage, **own, "epochs": 3, "patience": 0}
        assert found[name].outputs == [f"{name}/train.json"]


@pytest.mark.parametrize("ranks", [[4], [2, 3], [0, 2], [], [2, 2]])
def test_ranks_that_make_no_curve_are_refused(ranks: list[int]) -> None:
    with pytest.raises(KitError, match="two numbers or more are needed, each a divisor of the largest"):
        plan(load_benchmark("cloudmask"), "tiny", ranks, 3)


def test_bad_words_are_refused() -> None:
    assert "numbers separated by commas" in kit("scaling", "cloudmask", "--ranks", "1;2", code=1).stderr
    said = kit("scaling", "relion", "--ranks", "1,2", code=1).stderr
    assert "relion: has no scaling measurement" in said
    assert "its benchmark.toml has no [scaling]; these have: cloudmask, stemdl, tevolop, uno" in said
    said = kit("scaling", "cloudmask", "--ranks", "1,2", "--image", "cloudmask-keras", "--dry-run", code=1).stderr
    assert "it runs one process; --ranks 1, with --threads 2" in said


def test_slurm_starts_each_point_with_its_ranks() -> None:
    words = ("--ranks", "2,4", "--site", "example-slurm", "--nodes", "2", "--dry-run")
    text = kit("scaling", "cloudmask", *words).stdout
    assert "#SBATCH --nodes=2" in text
    assert "#SBATCH --ntasks-per-node=2" in text
    for name, nodes, ranks in (("strong_2", 1, 2), ("strong_4", 2, 4), ("weak_2", 1, 2)):
        stage = text[text.index(f"stage_{name}() {{") :].split("\n}\n")[0]
        assert f"srun --nodes={nodes} --ntasks={ranks} --ntasks-per-node=2 " in stage


def test_what_is_oversubscribed() -> None:
    """By the cores that the ranks of a node were given together; on GPUs by the devices."""

    def place(host: str, cores: list[int], gpu: str = "") -> dict[str, object]:
        return {"host": host, "cores": cores, "gpu": gpu}

    assert not shared([place("a", [0, 1])] * 2, 1, on_gpus=False)
    assert shared([place("a", [0, 1])] * 2, 2, on_gpus=False)
    assert shared([place("a", [0, 1])] * 3, 1, on_gpus=False)
    assert not shared([place("a", [0]), place("a", [1]), place("b", [0])], 1, on_gpus=False)
    assert shared([place("a", [0]), place("a", [0])], 1, on_gpus=False)
    assert not shared([place("a", [0, 1])], 0, on_gpus=False)
    assert shared([place("a", [0, 1])] * 2, 0, on_gpus=False)
    assert not shared([place("a", [0], "0"), place("a", [0], "1")], 8, on_gpus=True)
    assert shared([place("a", [0], "0"), place("a", [0], "0")], 8, on_gpus=True)
