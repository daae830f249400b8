"""The wheel: installed outside any checkout, the kit says and renders what it does in one, and knows its commit."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Installed, kit

from kit.core import paths
from kit.images.recipes import RECIPES
from kit.images.render import load_image


def test_the_kit_is_that_of_the_wheel(installed: Installed) -> None:
    file = Path(installed.python("import kit; print(kit.__file__)"))
    assert file == installed.package / "__init__.py"
    assert not file.is_relative_to(ROOT)
    assert installed.python("from kit.core import paths; print(paths.CHECKOUT)") == "None"


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["image", "list"],
        ["site", "show", "local"],
        ["data", "list"],
        ["run", "cloudmask", "--site", "example-slurm", "--dry-run"],
        ["image", "recipe", "relion-basic"],
        ["image", "recipe", "horovod", "--format", "singularity"],
    ],
)
def test_it_lists_and_renders_as_a_checkout_does(installed: Installed, tmp_path: Path, words: list[str]) -> None:
    assert installed.kit(*words, cwd=tmp_path) == installed.as_installed(kit(*words, cwd=tmp_path).stdout)
    assert list(tmp_path.iterdir()) == []


def test_every_image_is_the_same_image(installed: Installed) -> None:
    """By the hash of its recipe and of all that it copies in, so that an image is built once for both."""
    code = f"from kit.images.render import load_image; [print(load_image(name).hash) for name in {list(RECIPES)}]"
    assert installed.python(code).split() == [load_image(name).hash for name in RECIPES]


@pytest.mark.parametrize("words", [[], ["--check"]])
def test_it_keeps_no_committed_recipes(installed: Installed, tmp_path: Path, words: list[str]) -> None:
    assert "only a git checkout of the kit holds" in installed.kit("image", "recipe", *words, code=1, cwd=tmp_path)


COMMIT = "from kit.core import paths; print(paths.commit())"


def test_it_knows_the_commit_that_it_was_built_from(installed: Installed) -> None:
    assert installed.python(COMMIT) == paths.commit() != "unknown"


@pytest.fixture
def copy(installed: Installed, tmp_path: Path) -> Installed:
    """The same in another place, to be changed: the environment keeps the paths of the first, but not its packages."""
    shutil.copytree(installed.prefix, tmp_path / "copy", symlinks=True)
    return Installed(tmp_path / "copy")


def test_a_changed_file_makes_it_dirty(copy: Installed) -> None:
    clean = copy.python(COMMIT)
    path = copy.package / "sites/local.toml"
    text = path.read_text()
    path.write_text(text + "\n# changed\n")
    assert copy.python(COMMIT) == f"{clean.removesuffix('-dirty')}-dirty"
    path.unlink()
    assert copy.python(COMMIT) == f"{clean.removesuffix('-dirty')}-dirty"
    path.write_text(text)
    assert copy.python(COMMIT) == clean
    (copy.package / "commit.txt").write_text("1" * 40)
    assert copy.python(COMMIT) == f"{'1' * 40}-dirty"
    (copy.package / "commit.txt").unlink()
    assert copy.python(COMMIT) == "unknown"


def test_a_package_that_pip_has_no_record_of_is_of_no_commit(copy: Installed, tmp_path: Path) -> None:
    shutil.copytree(copy.package, tmp_path / "elsewhere/kit")
    code = f"import sys; sys.path.insert(0, '{tmp_path / 'elsewhere'}'); {COMMIT}"
    assert copy.python(code) == "unknown"
    (record,) = copy.package.parent.glob("science_kit-*.dist-info")
    shutil.rmtree(record)
    assert copy.python(COMMIT) == "unknown"


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder: Path) -> str:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


def test_a_wheel_of_a_clean_changed_or_foreign_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree without git, or unpacked inside somebody else's repository as an sdist may be, is of no commit."""
    specification = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert specification
    assert specification.loader
    hook = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(hook)
    tree = tmp_path / "outer/tree"
    tree.mkdir(parents=True)
    (tree / "file").write_text("x")
    assert hook.commit(tree) == "unknown"
    committed(tree.parent)
    assert hook.commit(tree) == "unknown"
    head = committed(tree)
    assert hook.commit(tree) == head
    monkeypatch.setenv("GIT_DIR", str(tree.parent / ".git"))  # as in a git hook
    assert hook.commit(tree) == head
    (tree / "kit").mkdir()
    (tree / "kit/added.py").write_text("")
    assert hook.commit(tree) == f"{head}-dirty"
    (tree / "kit/added.py").unlink()
    (tree / "notes").write_text("")  # is not of the wheel
    assert hook.commit(tree) == head
    (tree / "file").write_text("changed")
    assert hook.commit(tree) == f"{head}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hook.commit(tree) == "unknown"
