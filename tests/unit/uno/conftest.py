"""A small file of responses, as it is generated, and what the stage prepare makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kit.benchmarks.uno import responses
from kit.stages.uno.prepare import prepare

PARAMETERS = {
    "cells": 12,
    "drugs": 9,
    "training_rows": 70,
    "validation_rows": 16,
    "test_rows": 20,
    "interaction": 0.8,
    "noise": 0.06,
    "replicates": 3,
    "data_seed": 5,
}


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uno")
    responses.generate(folder, PARAMETERS)
    return folder


@pytest.fixture
def data(generated: Path, tmp_path: Path) -> Path:
    """A copy of the file, to be spoiled."""
    return Path(shutil.copy(generated / responses.FILE, tmp_path / responses.FILE))


@pytest.fixture(scope="session")
def prepared(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of rows by split."""
    found = {}
    for split in ("random", "cell", "drug"):
        found[split] = tmp_path_factory.mktemp(split)
        prepare(generated / responses.FILE, found[split], split, seed=1)
    return found
