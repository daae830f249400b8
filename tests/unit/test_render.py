"""Every rendered script and recipe, as committed; and that bash accepts each script."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, kit

from kit.benchmark import load_benchmark
from kit.core.errors import KitError
from kit.images.recipes import RECIPES
from kit.images.render import FORMATS, context_root, load_image, recipe, stale_recipes
from kit.placement import placement
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.site import load_site

GOLDEN = ROOT / "tests/golden"
# Stages that RELION composes need its image; those of particles are the kit's own text.
SIZES = {"relion": "particles", "cloudmask": "tiny"}
SCRIPTS = [(benchmark, site) for benchmark in ("relion", "cloudmask") for site in ("local", "example-slurm")]


def script(benchmark: str, site: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script without what differs between machines: the user's identity, the cache, the recipe's hash."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("kit.runtimes.apptainer.no_privileges", list)
    monkeypatch.setattr("kit.runtimes.apptainer.singularity", lambda: ["apptainer"])
    monkeypatch.setattr("sys.argv", ["kit", "run", benchmark, "--site", site])
    text = launch.script(make_plan(Request(benchmark, SIZES[benchmark], site)), Path("/work/run"), Path("/work/data"))
    return re.sub(r"\S*/images/([a-z-]+)-[0-9a-f]{12}(\.recipe)?\.sif", r"/images/\1.sif", text)


@pytest.mark.parametrize(("benchmark", "site"), SCRIPTS)
def test_golden_script(benchmark: str, site: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    text = script(benchmark, site, monkeypatch)
    path = GOLDEN / f"{benchmark}-{site}.sh"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text(), "look at the difference; then pytest --update-golden"
    subprocess.run(["bash", "-n", str(path)], check=True)


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
