"""Synthetic products and what the stages make of them, once for all tests of CloudMask."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.benchmarks.cloudmask import scenes
from kit.benchmarks.relion import movies
from kit.stages.cloudmask import convert, extract, shards
from kit.stages.cloudmask.patches import Label

PARAMETERS = {
    "rows": 288,
    "columns": 320,
    "training_scenes": 6,
    "inference_scenes": 3,
    "label_error": 0.03,
    "matchups_per_scene": 60,
    "data_seed": 5,
}
MOVIES = movies.Settings(micrographs=2)


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated movies of one session at the microscope, with their truth."""
    folder = tmp_path_factory.mktemp("session")
    movies.generate(folder, MOVIES)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slstr")
    scenes.generate(folder, PARAMETERS)
    return folder


@pytest.fixture(scope="session")
def converted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with products/, scenes/ and patches/, made of `data`."""
    work = tmp_path_factory.mktemp("work")
    for name in ("products", "scenes", "patches"):
        (work / name).mkdir()
    extract.extract(data, work / "products", validation_scenes=2, seed=1)
    convert.run(work / "products/scenes.json", work / "scenes", skip=0.0, rads=True)
    shards.cut_all(work / "scenes", work / "patches", Label())
    return work


@pytest.fixture
def product(data: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the first product of `data` into a folder of `tmp_path`, to be damaged."""

    def copy(folder: str = ".") -> Path:
        source = sorted((data / "training").iterdir())[0]
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        return Path(shutil.copytree(source, tmp_path / folder / source.name))

    return copy
