"""Scaling: points in one job, the same work at each, and what is refused. Measured on real Horovod ranks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import kit

from kit.benchmark import load_benchmark
from kit.core.errors import KitError
from kit.script.quoting import environment
from kit.stages.cloudmask.__main__ import parser
from kit.stages.ml.ranks import shared
from kit.training.scaling import plan, points


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the README says, but for one epoch a point."""
    runs = tmp_path_factory.mktemp("scaling")
    words = ("--ranks", "1,2", "--epochs", "1", "--runs", str(runs))
    result = kit("scaling", "cloudmask", *words)
    directory = Path(result.stdout.strip())
    assert (directory / "scaling/scaling.md").read_text() in result.stderr
    return directory


def test_the_report_says_what_was_measured(scaled: Path) -> None:
    run = json.loads((scaled / "run.json").read_text())
    assert (run["state"]["name"], run["scaling"], run["ranks"]) == ("valid", [1, 2], 2)
    curves = json.loads((scaled / "scaling/scaling.json").read_text())
    values = {metric["name"]: metric["value"] for metric in run["metrics"]}
    for kind, name in (("strong", "strong_1"), ("weak", "weak_1")):
        facts = [json.loads((scaled / folder / "train.json").read_text()) for folder in (name, "strong_2")]
        assert [of["ranks"] for of in facts] == [1, 2]
        first, second = curves[kind]["1"], curves[kind]["2"]
        assert (first["speedup"], first["efficiency"]) == (1, 1)
        assert second["speedup"] == facts[1]["samples_per_second"] / facts[0]["samples_per_second"]
        assert values[f"{kind}_2_efficiency"] == second["efficiency"] == second["speedup"] / 2
        for entry in (first, second):
            assert sum(entry["shares"].values()) == pytest.approx(1)
            assert entry["shares"]["compute"] > entry["shares"]["input"]
    strong, weak = curves["strong"], curves["weak"]
    # The same patches in the same global batches; and half of them for half of the ranks.
    assert strong["1"]["batch_size"] == 2 * strong["2"]["batch_size"] == 2 * weak["1"]["batch_size"]
    assert strong["1"]["samples"] == strong["2"]["samples"]
    assert weak["1"]["samples"] == round(0.5 * weak["2"]["samples"])
    assert strong["1"]["loss"] == pytest.approx(strong["2"]["loss"], rel=0.05)  # in bfloat16, summed in another order
    assert {curve["system"] for curve in curves["published"]} >= {"PEARL, V100", "EPCC, Ice Lake"}
    assert (scaled / "figures/scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ranks", 1, "2 ranks were asked for, 1 formed one job"),
        ("precision", "float64", "precision is float64, but"),
        ("training_samples", 7, "training_samples is 7, but"),
        ("devices", ["CPU", "NVIDIA H100"], "ranks computed on NVIDIA H100"),
    ],
)
def test_points_that_can_not_be_compared_are_refused(
    scaled: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(scaled, run, symlinks=True)
    path = run / "strong_2/train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert message in " ".join(kit("collect", str(run), code=1).stdout.split())


def test_oversubscribed_points_are_marked(scaled: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(scaled, run, symlinks=True)
    path = run / "strong_2/train.json"
    assert "functional only" not in (run / "scaling/scaling.md").read_text()
    path.write_text(json.dumps({**json.loads(path.read_text()), "oversubscribed": True}))
    kit("collect", str(run))
    table = (run / "scaling/scaling.md").read_text()
    assert re.search(r"^\| strong +\| +2 \* \|", table, re.MULTILINE)
    assert re.search(r"^\| strong +\| +1 \|", table, re.MULTILINE)
    assert "functional only" in table


def test_it_is_no_submission(scaled: Path, tmp_path: Path) -> None:
    said = kit("submission", "pack", str(scaled), "--to", str(tmp_path), code=1).stderr
    assert "measures how cloudmask scales, and is no result of it" in said


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
    assert "numbers with commas" in kit("scaling", "cloudmask", "--ranks", "1;2", code=1).stderr
    said = kit("scaling", "relion", "--ranks", "1,2", code=1).stderr
    assert "relion: says nothing of how it scales: its benchmark.toml has no [scaling]; cloudmask has one" in said
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
