"""Every rendered script and recipe, as committed; and that bash accepts each script."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, kit

from kit.benchmark import load_benchmark
from kit.core.errors import KitError
from kit.images.recipes import RECIPES
from kit.images.render import FORMATS, context_root, load_image, recipe, stale_recipes
from kit.placement import placement
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.site import load_site, site_files
from kit.tune.store import Choice, Tuning

GOLDEN = ROOT / "tests/golden"
# Stages that RELION composes need its image; those of particles are the kit's own text.
SIZES = {"relion": "particles", "cloudmask": "tiny"}
CUDA = {"relion": "relion-cuda", "cloudmask": "horovod-cuda"}
WHOLE = [
    (benchmark, site, runtime)
    for benchmark in SIZES
    for site, runtime in (("local", "apptainer"), ("local", "docker"), ("local", "host"), ("example-slurm", "apptainer"))
]
OTHERS = ("stemdl", "tevolop", "uno")  # like cloudmask but for their stages
HEADS = [(site, benchmark) for site in site_files() for benchmark in SIZES]
MARK = "# stages.jsonl is the record"


def usual(benchmark: str, site: str, name: str | None) -> dict[str, Any]:
    """What somebody would ask for on a partition: its GPUs, if an image can use them, and as many nodes as it needs."""
    partition = load_site(site).partition(name)[1]
    nodes, leader = partition.min_nodes, benchmark == "relion"
    if partition.gpus and partition.gpu_vendor == "nvidia":
        return {"image": CUDA[benchmark], "nodes": nodes, "ranks": nodes * partition.gpus + leader}
    return {"nodes": nodes, "ranks": 2 * nodes + leader} if nodes > 1 else {}


def script(
    benchmark: str,
    site: str,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str = "apptainer",
    partition: str | None = None,
    **more: Any,
) -> str:
    """A script without what differs between machines: the user's identity, the cache, the recipe's hash."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 1000)
    monkeypatch.setattr("kit.runtimes.apptainer.no_privileges", list)
    monkeypatch.setattr("kit.runtimes.apptainer.singularity", lambda: ["apptainer"])
    monkeypatch.setattr("sys.argv", ["kit", "run", benchmark, "--site", site])
    if runtime != "apptainer":
        monkeypatch.setenv("KIT_RUNTIME", runtime)
    request = Request(
        benchmark, SIZES.get(benchmark, "tiny"), site, partition, minutes=30, **usual(benchmark, site, partition), **more
    )
    text = launch.script(make_plan(request), Path("/work/run"), Path("/work/data"))
    text = re.sub(r"\S*/images/([a-z-]+)-[0-9a-f]{12}(\.recipe)?\.sif", r"/images/\1.sif", text)
    return re.sub(r"(kit/[a-z-]+):[0-9a-f]{12}\b", r"\1:HASH", text)


def same(text: str, path: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), "look at the difference; then pytest --update-golden"


def accepted(text: str) -> None:
    """Bash reads a script, and shellcheck finds nothing in it."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    # Some variables are of the stages alone, and the words of ranks are for the shell in the image.
    checked = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", "-s", "bash", "-e", "SC2016,SC2034,SC2154", "-"],
        input=text,
        text=True,
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(("benchmark", "site", "runtime"), [*WHOLE, *((name, "local", "apptainer") for name in OTHERS)])
def test_golden_script(
    benchmark: str, site: str, runtime: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    text = script(benchmark, site, monkeypatch, runtime)
    accepted(text)
    same(text, GOLDEN / f"{benchmark}-{site}-{runtime}.sh", request)


def test_golden_script_of_a_tuned_run(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    tuning = Tuning(
        date=datetime(2026, 11, 27, 12, tzinfo=UTC),
        processor="Example CPU",
        choice=Choice(ranks=15, threads=4, parameters={"pool": 10}),
        seconds=6.5,
        default=Choice(ranks=3, threads=1, parameters={"pool": 30}),
        default_seconds=41.25,
        spread=0.4,
    )
    chosen = {"tuning": tuning, "ranks": 15, "threads": 4, "parameters": ("pool=10",)}
    text = script("relion", "example-slurm", monkeypatch, **chosen)
    accepted(text)
    same(text, GOLDEN / "relion-example-slurm-apptainer-tuned.sh", request)
    plain = script("relion", "example-slurm", monkeypatch, ranks=15, threads=4, parameters=("pool=10",))
    assert [line for line in text.splitlines() if line not in plain.splitlines()] == [f"# {line}" for line in tuning.lines]


@pytest.mark.parametrize(("site", "benchmark"), HEADS)
def test_golden_heads(site: str, benchmark: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What a site changes of a script, for each of its partitions: all that stands before the stages."""
    heads = []
    for partition in load_site(site).partitions:
        text = script(benchmark, site, monkeypatch, partition=partition)
        accepted(text)
        heads.append(text.partition(MARK)[0])
    same("".join(heads), GOLDEN / "sites" / f"{site}-{benchmark}.sh", request)


@pytest.mark.parametrize("size", load_benchmark("cloudmask").sizes)
def test_script_of_each_size(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a size leaves out leaves no line that goes on into nothing: bash reads it, and so do the stages."""
    monkeypatch.setitem(SIZES, "cloudmask", size)
    text = script("cloudmask", "local", monkeypatch)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert not re.search(r"\\\n\s*(\n|})", text)
    parameters = load_benchmark("cloudmask").size(size).parameters
    assert ("--truth-file" in text) == bool(parameters["truth"])
    assert ("--matchups" in text) == bool(parameters["matchups"])


@pytest.mark.parametrize("name", RECIPES)
def test_committed_recipes_are_those_of_their_source(name: str) -> None:
    for format, pattern in FORMATS.items():
        assert (context_root() / pattern.format(name=name)).read_text() == recipe(load_image(name), format)


def test_recipe_with_arguments(request: pytest.FixtureRequest) -> None:
    image = load_image("relion-accelerated", ["toolchain=oneapi", "fft=mkl"])
    text = recipe(image, "docker")
    path = GOLDEN / "relion-accelerated-oneapi.Dockerfile"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text(), "look at the difference; then pytest --update-golden"
    assert image.hash != load_image("relion-accelerated").hash
    assert load_image("relion-accelerated", ["toolchain=gcc"]).hash == load_image("relion-accelerated").hash
    cuda = recipe(load_image("relion-cuda", ["architectures=80,90"]), "singularity")
    assert "compute_90,code=sm_90" in cuda
    assert "compute_70" not in cuda


@pytest.mark.parametrize(("image", "option"), [("relion-accelerated", "--cpu"), ("relion-cuda", "--gpu"), ("relion-5", "")])
def test_script_of_a_variant(image: str, option: str) -> None:
    text = kit("run", "relion", "--size", "particles", "--image", image, "--dry-run", "--seed", "7", "--allow-cpu").stdout
    assert f"/{image}-" in text
    assert f"--random_seed 7 {option}".strip() in text
    assert ("--cpu" in text, bool(re.search(r"--gpu(?!s)", text))) == (option == "--cpu", option == "--gpu")


def test_stale_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stale_recipes() == []
    monkeypatch.setattr(RECIPES["relion-basic"], "VERSION", "3.1.4")
    assert {path.name for path in stale_recipes()} == {"Dockerfile", "relion-basic.def"}


def test_recipes_are_pinned() -> None:
    text = recipe(load_image("relion-basic"), "docker")
    assert "relion=3.1.3-4*" in text
    assert re.search(r"SHA256:[0-9a-f]{64}", text)
    requirements = (ROOT / "kit/images/recipes/horovod/requirements.txt").read_text()
    names = re.findall(r"^([a-z0-9-]+)==", requirements, re.MULTILINE)
    assert {"tensorflow-cpu", "numpy", "h5py"} <= set(names)
    assert "tensorflow-cpu==2.15.1" in requirements
    assert "horovod==0.28.1 --hash=sha256:" in (ROOT / "kit/images/recipes/horovod/horovod.txt").read_text()


def test_values_are_quoted(tmp_path: Path) -> None:
    """A folder with a blank and a shell character in it is one word of the script; one with a colon is refused."""
    plan = make_plan(Request("relion", "particles"))
    text = launch.script(plan, Path("/a b/$(x)"), Path("/data"))
    assert "cd '/a b/$(x)'" in text
    with pytest.raises(KitError, match="cannot have a quote, comma, colon"):
        launch.script(plan, Path("/a:b"), Path("/data"))


def test_dry_run_leaves_nothing(tmp_path: Path) -> None:
    """Nor does that of a workflow, which needs the image: tests/engine/relion/test_workflow.py."""
    result = kit("run", "relion", "--size", "particles", "--dry-run", cwd=tmp_path)
    assert result.stdout.startswith("#!/bin/bash\n")
    assert "relion_refine_mpi" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("partition", "size", "message"),
    [
        ({"max_nodes": 1}, {"nodes": 2}, "2 nodes are needed"),
        ({"max_minutes": 10}, {"minutes": 60}, "60 minutes are needed"),
        ({"cores": 4}, {"ranks": 9, "threads": 1, "nodes": 2}, "5 ranks x 1 threads a node are needed"),
    ],
)
def test_impossible_layout(partition: dict[str, int], size: dict[str, int], message: str) -> None:
    site = load_site("example-slurm")
    wanted = load_benchmark("relion").sizes["tiny"].model_copy(update={"nodes": 1, **size})
    with pytest.raises(KitError, match=message):
        placement(wanted, site.partitions["cpu"].model_copy(update=partition), site)


def test_ranks_that_do_not_divide_are_rounded_up() -> None:
    site = load_site("example-slurm")
    wanted = load_benchmark("relion").sizes["tiny"].model_copy(update={"ranks": 7, "nodes": 2})
    assert placement(wanted, site.partitions["cpu"], site).ranks_per_node == 4
