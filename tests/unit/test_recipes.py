"""The registry of images: adding one is a folder and a line; a recipe that lacks a name does not pass the type checker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, kit

from kit.core.errors import KitError
from kit.images import render
from kit.images.recipes import ALIASES, RECIPES
from kit.images.render import context_files, context_root, current, load_image
from kit.runtimes import RUNTIMES

HELLO = '''"""hello: a shell that greets."""

from __future__ import annotations

from typing import Any

import hpccm
from hpccm.primitives import baseimage, copy, shell

from kit.images.recipes import parts

NAME = "hello"
VERSION = "1.0"
DESCRIPTION = "A shell that greets"
LICENSES = "Apache-2.0"
SUITE = "trixie"
DEVICE: parts.Device = "rocm"
MPI = ""
FOLDER = parts.folder(__name__)
CONTEXT: tuple[str, ...] = (f"{FOLDER}/selftest.sh",)
TEST = "/opt/kit/selftest.sh"
TESTED = True
BUILD_MINUTES = 1
MEGABYTES = 100
SOURCES: tuple[dict[str, str], ...] = ()
ARGUMENTS: dict[str, parts.Argument] = {}
problem = parts.no_problem


def stages(base: dict[str, Any], arguments: dict[str, str]) -> list[Any]:
    final = hpccm.Stage()
    final += baseimage(image=f"debian:{SUITE}-slim", **base)
    final += shell(commands=parts.CLEAN)
    final += copy(src=f"{FOLDER}/selftest.sh", dest="/opt/kit/selftest.sh")
    return [final]
'''
PLAN = """
from kit.images.build import build_folder
from kit.images.render import load_image
image = load_image("hello")
with build_folder(image) as folder:
    print(*sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()))
    print((folder / "kit/images/recipes/hello/selftest.sh").stat().st_mode & 0o777 == 0o755)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the kit with one image more: a folder, and its name twice in recipes/__init__.py."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "kit", folder / "kit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    recipes = folder / "kit/images/recipes"
    (recipes / "hello").mkdir()
    (recipes / "hello/__init__.py").write_text(HELLO)
    (recipes / "hello/selftest.sh").write_text("#!/bin/sh\necho hello\n")
    (recipes / "hello/selftest.sh").chmod(0o755)
    text = (recipes / "__init__.py").read_text()
    text = text.replace("import (\n", "import (\n    hello,\n", 1).replace(
        "Recipe] = {\n", "Recipe] = {\n    hello.NAME: hello,\n"
    )
    (recipes / "__init__.py").write_text(text)
    return folder


def run(checkout: Path, *words: str) -> str:
    result = subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_an_image_is_a_folder_and_a_line(checkout: Path) -> None:
    assert re.search(r"^hello +rocm +A shell that greets$", run(checkout, "-m", "kit", "image", "list"), re.MULTILINE)
    assert "hello" in run(checkout, "-m", "kit", "image", "list", "--names", "--tested").split()
    printed = run(checkout, "-m", "kit", "image", "recipe", "hello")
    assert "COPY kit/images/recipes/hello/selftest.sh /opt/kit/selftest.sh" in printed
    files, executable = run(checkout, "-c", PLAN).splitlines()
    assert files == "Dockerfile image.def kit/images/recipes/hello/selftest.sh"
    assert executable == "True"
    written = run(checkout, "-m", "kit", "image", "recipe").split()
    assert {"containers/hello/Dockerfile", "recipes/hello.def"} <= set(written)
    assert (checkout / "containers/hello/Dockerfile").read_text() == printed


def checked(checkout: Path) -> str:
    words = [sys.executable, "-m", "mypy", "--follow-imports=silent", "kit/images/recipes"]
    return subprocess.run(words, cwd=checkout, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("def stages(", "def stage("),
        ("problem = parts.no_problem\n", ""),
        ('DEVICE: parts.Device = "rocm"', 'DEVICE = "abacus"'),
        ("MEGABYTES = 100\n", ""),
        ('MPI = ""\n', ""),
    ],
)
def test_a_recipe_that_lacks_a_name_is_refused(checkout: Path, line: str, instead: str) -> None:
    recipe = checkout / "kit/images/recipes/hello/__init__.py"
    assert checked(checkout).startswith("Success")
    try:
        assert line in HELLO
        recipe.write_text(HELLO.replace(line, instead))
        assert re.search(r'recipes/__init__.py:\d+: error: .*expected .*"Recipe"', checked(checkout))
    finally:
        recipe.write_text(HELLO)


@pytest.mark.parametrize("name", RECIPES)
def test_what_an_image_copies_in_lies_in_the_package(name: str) -> None:
    """So an installed kit has it too; generated recipes lie alone in their folders."""
    package = context_root() / "kit"
    assert all(path.is_relative_to(package) for path in context_files(RECIPES[name]))
    assert (package / "images/recipes" / name.replace("-", "_") / "selftest.sh").is_file()


def test_generated_recipes_lie_alone() -> None:
    found = {path.relative_to(ROOT).as_posix() for top in ("containers", "recipes") for path in (ROOT / top).rglob("*.*")}
    found |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "containers").glob("*/Dockerfile")}
    assert found == {pattern.format(name=name) for name in RECIPES for pattern in render.FORMATS.values()}


def test_recipes_are_written_in_a_checkout_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.core.paths.CHECKOUT", None)
    for verb in (render.write_recipes, render.stale_recipes):
        with pytest.raises(KitError, match="name one image to print its recipe"):
            verb()


@pytest.mark.parametrize(("old", "new"), ALIASES.items())
def test_an_old_name_works_and_says_the_new_one(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    current.cache_clear()
    for _ in range(2):
        assert load_image(old) == load_image(new)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"kit: the image {old} is called {new} now\n"


def test_a_run_by_the_old_name_is_that_of_the_new_one() -> None:
    old, new = (kit("run", "cloudmask", "--image", name, "--dry-run") for name in ("cloudmask", "horovod"))
    assert old.stdout.replace("--image cloudmask", "--image horovod") == new.stdout
    assert old.stderr == f"kit: the image cloudmask is called horovod now\n{new.stderr}"
    assert "unknown image for benchmark relion" in kit("run", "relion", "--image", "cloudmask", code=1).stderr


@pytest.fixture
def rocm(monkeypatch: pytest.MonkeyPatch) -> str:
    """An image for GPUs of AMD."""
    monkeypatch.setattr(RECIPES["relion-cuda"], "DEVICE", "rocm")
    return "relion-cuda"


def between(runtime: str, image: str, *args: str, gpus: bool = True) -> list[str]:
    """What stands between the environment and the image."""
    machine = {"program": "apptainer", "options": "", "sif": "/x.sif", "user": "1:1"}
    words = RUNTIMES[runtime].command(load_image(image), [], {"A": "B"}, list(args), "/w", machine, gpus=gpus)
    return words[words.index("A=B") + 1 : -1]


CUDA = "horovod-cuda"
KFD = ["--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", "video"]


def test_the_runtime_hands_in_the_gpus_that_an_image_computes_on() -> None:
    assert between("apptainer", CUDA) == ["--nv"]
    assert between("docker", CUDA) == ["--gpus", "all"]
    for runtime in ("apptainer", "docker"):
        assert between(runtime, "horovod") == []
        assert between(runtime, "horovod", "--nv") == ["--nv"]
        assert between(runtime, CUDA, gpus=False) == []
    assert between("apptainer", CUDA, "--writable-tmpfs") == ["--nv", "--writable-tmpfs"]


def test_the_gpus_of_amd_are_handed_in(rocm: str) -> None:
    assert between("apptainer", rocm) == ["--rocm"]
    assert between("docker", rocm) == KFD


def test_a_site_that_hands_in_gpus_itself_is_left_alone(rocm: str) -> None:
    assert between("apptainer", CUDA, "--nv") == ["--nv"]
    assert between("apptainer", rocm, "--rocm") == ["--rocm"]
    assert between("docker", CUDA, "--gpus", "device=0") == ["--gpus", "device=0"]
    assert between("docker", CUDA, "--gpus=device=0") == ["--gpus=device=0"]
    assert between("docker", rocm, "--device=/dev/kfd") == ["--device=/dev/kfd"]
    assert between("docker", rocm, *KFD[:2]) == KFD[:2]


def test_outside_a_container_nothing_is_added() -> None:
    assert RUNTIMES["host"].command(load_image(CUDA), [], {"A": "B"}, [], "/w", {}, gpus=True) == ["env", "A=B"]


@pytest.mark.parametrize(("image", "gpus", "times"), [("horovod-cuda", 2, 2), ("horovod", 2, 0)])
def test_the_script_of_a_gpu_image_says_so(tmp_path: Path, image: str, gpus: int, times: int) -> None:
    site = tmp_path / "gpu.toml"
    text = (ROOT / "kit/sites/example-slurm.toml").read_text()
    site.write_text(text.replace("memory_gb = 256", f"memory_gb = 256\ngpus = {gpus}"))
    words = ["run", "cloudmask", "--image", image, "--site", str(site), "--dry-run"]
    script = kit(*words).stdout
    assert script.count(" --nv ") == times
    site.write_text(site.read_text().replace('runtime = "apptainer"', 'runtime = "apptainer"\nargs = ["--nv"]'))
    assert kit(*words).stdout.count(" --nv ") == 2


def test_libraries_of_nvidia_are_not_stripped() -> None:
    """cuDNN's no longer load after it; the self-test of the image loads them all."""
    for file in (ROOT / "containers/horovod-cuda/Dockerfile", ROOT / "recipes/horovod-cuda.def"):
        (line,) = [line for line in file.read_text().splitlines() if "strip --strip" in line]
        assert "-name '*.so*' ! -path '*/nvidia/*' -exec strip" in line
