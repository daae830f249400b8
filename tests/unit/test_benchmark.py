"""A benchmark.toml: defaults that sizes share, metrics that differ at a size, shell in files, and what is refused."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from kit.benchmark import benchmark_names, load_benchmark
from kit.core import paths
from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.script.render import stage_numbers


def changed(toy: Path, old: str, new: str) -> Path:
    path = paths.PACKAGE / "benchmarks/toy/benchmark.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_a_size_says_what_it_has_otherwise(toy: Path) -> None:
    defaults = "[defaults]\nthreads = 2\nminutes = 9\n[defaults.parameters]\nnumber = 6\nother = 1\n"
    changed(toy, "[sizes.tiny]", f"{defaults}[sizes.tiny]")
    size = load_benchmark("toy").sizes["tiny"]
    assert (size.minutes, size.threads, size.parameters) == (5, 2, {"number": 7, "other": 1})
    assert load_benchmark("toy").sizes["slow"].floor_seconds == {"first": 3600}


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ("[defaults]\nminuts = 9\n", r"benchmark\.toml: key 'defaults\.minuts': .*did you mean minutes\?"),
        (
            "[defaults.parameter]\nnumber = 6\n",
            r"benchmark\.toml: key 'defaults\.parameter': .*did you mean parameters or",
        ),
        ('[defaults]\nranks = "two"\n', r"toy/benchmark\.toml: key 'sizes\.tiny\.ranks': .*got 'two'"),
    ],
)
def test_defaults_that_are_none_are_refused(toy: Path, defaults: str, message: str) -> None:
    changed(toy, "[sizes.tiny]", f"{defaults}[sizes.tiny]")
    with pytest.raises(KitError, match=message):
        load_benchmark("toy")


def test_a_metric_says_what_it_is_at_a_size(toy: Path) -> None:
    changed(toy, 'source = "the number is 7"\n', 'source = "the number is 7"\n[metrics.at.slow]\nat_most = 9\n')
    benchmark = load_benchmark("toy")
    assert [benchmark.resolve(size).metrics[0].at_most for size in ("tiny", "slow", "noisy")] == [8, 9, 8]
    assert benchmark.resolve("slow").metrics[0].source == "the number is 7"
    assert "at" not in benchmark.resolve("slow").model_dump()["metrics"][0]  # as the run's benchmark.json has it


GATED = '[[metrics]]\nname = "noise"'


@pytest.mark.parametrize("text", ["sizes = 3\n", "[sizes]\ntiny = 3\n", "defaults = 3\n", "[[defaults]]\nminutes = 9\n"])
def test_sizes_that_are_no_tables_are_refused(toy: Path, text: str) -> None:
    (paths.PACKAGE / "benchmarks/toy/benchmark.toml").write_text(text)
    with pytest.raises(KitError, match=r"toy/benchmark\.toml: \[defaults\] and \[sizes\.NAME\] need to be tables"):
        load_benchmark("toy")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("[metrics.at.slwo]\nat_most = 9\n", r"metric resolution names the size slwo, which does not exist"),
        ("[metrics.at.slow]\nat_mst = 9\n", r"'metrics\.0\.at\.slow\.at_mst' is not known; did you mean 'at_most'\?"),
        ("[metrics.at.slow]\nunit = 'nm'\n", r"'metrics\.0\.at\.slow\.unit' is not known"),
        ("[metrics.at.slow]\ntolerance = 1\n", r"a tolerance needs a reference"),
        ("[metrics.at.slow]\nsource = ''\n", r"a reference or a gate needs its source"),
        ("[metrics.at.slow]\nstage = 'forth'\n", r"metric resolution names the stage forth, which does not exist"),
        ("sizes = ['tiny']\n[metrics.at.slow]\nat_most = 9\n", r"at the size slow, which is none of its sizes"),
    ],
)
def test_metrics_that_differ_wrongly_are_refused(toy: Path, at: str, message: str) -> None:
    changed(toy, GATED, f"{at}{GATED}")
    with pytest.raises(KitError, match=message):
        load_benchmark("toy")


def test_two_metrics_of_one_name_are_refused(toy: Path) -> None:
    changed(toy, GATED, '[[metrics]]\nname = "resolution"')
    with pytest.raises(KitError, match=r"more than one metric is named resolution; .*\[metrics\.at\.SIZE\]"):
        load_benchmark("toy")


def test_shell_in_files(toy: Path) -> None:
    path = changed(toy, 'command = "cp data/input.txt first.txt"', 'command = { file = "first.sh" }')
    path.write_text('functions = { file = "own.sh" }\n' + path.read_text())
    with pytest.raises(KitError, match=r"own\.sh: cannot be read: No such file"):
        load_benchmark("toy")
    (path.parent / "own.sh").write_text("own() { :; }\n")
    (path.parent / "first.sh").write_text("cp data/input.txt first.txt\n")
    benchmark = load_benchmark("toy")
    assert (benchmark.functions, benchmark.stages[0].command) == ("own() { :; }\n", "cp data/input.txt first.txt\n")
    (path.parent / "own.sh").write_bytes(b"\xff")
    with pytest.raises(KitError, match=r"own\.sh: not text"):
        load_benchmark("toy")


def test_what_is_no_table_is_said_by_its_key(toy: Path) -> None:
    path = paths.PACKAGE / "benchmarks/toy/benchmark.toml"
    text = path.read_text()
    path.write_text(text.replace("[sizes.tiny.parameters]\nnumber = 7", "parameters = 3\n[defaults.parameters]\nnumber = 6"))
    with pytest.raises(KitError, match=r"key 'sizes\.tiny\.parameters': .*, got 3"):
        load_benchmark("toy")
    path.write_text('stages = ["first"]\n' + text[: text.index("[[stages]]")])
    with pytest.raises(KitError, match=r"key 'stages\.0': .*, got 'first'"):
        load_benchmark("toy")


def test_a_stage_that_scales_exists(toy: Path) -> None:
    changed(toy, "[[stages]]", '[scaling]\nstage = "frist"\noutput = "x.json"\n[[stages]]')
    with pytest.raises(KitError, match=r"key 'scaling\.stage': unknown stage 'frist': did you mean first\?"):
        load_benchmark("toy")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("random_seed = 1", "random_seed = 'x'", "random_seed is 'x', where a whole number from 0"),
        ("random_seed = 1", "random_seed = 1.5", "random_seed is 1.5, where"),
        ("random_seed = 1", "random_seed = inf", "random_seed is inf, where"),
        ("random_seed = 1", "random_seed = -1", "random_seed is -1, where"),
        ("at_most = 8", "at_most = nan", "Input should be a finite number"),
        ("at_most = 8", "reference = 7\ntolerance = inf", "Input should be a finite number"),
        ('label = "noise"', 'label = ""', "String should have at least 1 character"),
        ('name = "second"', 'name = "first"', "more than one stage is named first"),
    ],
)
def test_numbers_and_names_that_mean_nothing(toy: Path, old: str, new: str, message: str) -> None:
    """A gate that is no number lets everything pass."""
    changed(toy, old, new)
    with pytest.raises(KitError, match=message):
        load_benchmark("toy")


@pytest.mark.parametrize("name", ['"../x.sh"', '"/etc/passwd"', '"sub/x.sh"', '""', '"."', '"a\\u0000b"', "5", '["a"]'])
def test_shell_in_a_file_elsewhere_is_refused(toy: Path, name: str) -> None:
    changed(toy, 'command = "cp data/input.txt first.txt"', f"command = {{ file = {name} }}")
    with pytest.raises(KitError, match=r"benchmark\.toml: key 'command\.file': the name of a file beside it is needed, got"):
        load_benchmark("toy")


def test_shell_in_a_fifo_keeps_nobody_waiting(toy: Path) -> None:
    os.mkfifo(changed(toy, 'command = "cp data/input.txt first.txt"', 'command = { file = "x" }').parent / "x")
    with pytest.raises(KitError, match=r"x: no plain file"):
        load_benchmark("toy")


def test_a_batch_that_is_none_cannot_be_scaled(toy: Path) -> None:
    path = changed(toy, "[[stages]]", '[scaling]\nstage = "first"\noutput = "x.json"\n[[stages]]')
    text = path.read_text()
    for line in ("", "batch_size = 'x'\n", "batch_size = 0\n", "batch_size = 1.5\n"):
        path.write_text(text.replace("number = 7\n", f"number = 7\n{line}", 1))
        with pytest.raises(KitError, match=r"batch_size is .*, where a number from 1 is needed"):
            make_plan(Request("toy", site="here", scaling=(1, 2), epochs=1))


def test_an_image_under_its_old_name(toy: Path) -> None:
    """The record of a run that an older kit made still has it."""
    changed(toy, "[images.relion-basic]", '[images.cloudmask]\nword = "x"')
    plan = make_plan(Request("toy", site="here"))
    assert plan.image.name == "horovod"
    assert stage_numbers(plan)["word"] == "x"
    with pytest.raises(KitError, match="unknown image for benchmark toy 'keras'"):
        plan.benchmark.variant("keras")


@pytest.mark.parametrize("name", benchmark_names())
def test_every_size_is_whole(name: str) -> None:
    benchmark = load_benchmark(name)
    raw = tomllib.loads((paths.PACKAGE / f"benchmarks/{name}/benchmark.toml").read_text())
    assert max(Counter(metric["name"] for metric in raw["metrics"]).values()) == 1
    for size in benchmark.sizes:
        assert benchmark.metrics_at(size)
        own, shared = raw["sizes"][size].get("parameters", {}), raw["defaults"]["parameters"]
        assert benchmark.sizes[size].parameters == {**shared, **own}
        assert not {key for key in own if shared.get(key) == own[key]}, "says again what the defaults say"


def test_code_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("kit.benchmarks.relion.CODE")
    with pytest.raises(KitError, match=r"relion/__init__\.py: CODE is missing"):
        _ = load_benchmark("relion").code
