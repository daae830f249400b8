"""The road walked with an installed kit, from an empty folder: a stage of RELION in its container, packed and checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Installed, kit

from kit.core import paths
from kit.images.built import docker_client
from kit.images.render import load_image


@pytest.fixture(scope="module")
def packed(installed: Installed, made_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission of one stage that ran alone."""
    work = tmp_path_factory.mktemp("empty")
    (whole,) = (made_runs / "relion").iterdir()
    installed.kit("data", "pack", str(whole), "--stage", "class3d", "--to", "class3d", cwd=work)
    run = installed.kit("run", "relion", "--isolated", "class3d", cwd=work).strip()
    assert Path(run).is_relative_to(work / "runs")
    assert "valid" in installed.kit("collect", run, cwd=work)
    names = ["--organisation", "centre", "--system", "cluster"]
    folder = Path(installed.kit("submission", "pack", run, *names, cwd=work).strip())
    assert folder.parts[:4] == ("submissions", "centre", "relion", "cluster")
    return work / folder


def test_it_finds_the_images_that_a_checkout_built(installed: Installed, tmp_path: Path) -> None:
    image = load_image("relion-basic")
    said = installed.kit("image", "build", "relion-basic", cwd=tmp_path).split()
    assert said == [image.tag, docker_client().images.get(image.tag).id, str(image.sif)]


def test_it_renders_the_script_of_a_cluster(installed: Installed, tmp_path: Path) -> None:
    words = ("run", "relion", "--site", "example-slurm", "--dry-run")
    assert installed.kit(*words, cwd=tmp_path) == installed.as_installed(kit(*words, cwd=tmp_path).stdout)
    assert list(tmp_path.iterdir()) == []


def test_its_run_says_its_commit_and_is_accepted_here_and_there(installed: Installed, packed: Path, tmp_path: Path) -> None:
    run = json.loads((packed / "run.json").read_text())
    assert run["commit"] == paths.commit()
    assert run["state"]["name"] == "valid"
    assert "accepted" in installed.kit("submission", "check", str(packed), cwd=tmp_path)
    assert "accepted" in kit("submission", "check", str(packed), cwd=tmp_path).stdout


def test_what_another_commit_made_is_left_to_a_checkout(
    installed: Installed, packed: Path, made_submissions: dict[str, Path], tmp_path: Path
) -> None:
    """Of its own commit it also checks what a checkout made."""
    assert "accepted" in installed.kit("submission", "check", str(made_submissions["relion"]), cwd=tmp_path)
    path = packed / "run.json"
    text = path.read_text()
    path.write_text(text.replace(json.loads(text)["commit"], "1" * 40))
    try:
        said = installed.python(
            f"from pathlib import Path; from kit.submissions.check import check; print(*check(Path({str(packed)!r})))"
        )
    finally:
        path.write_text(text)
    assert f"commit is {'1' * 40}, and this kit is installed and of commit" in said
    assert "checked from a git checkout of the kit" in said
