"""Evidence of real runs, scored again: RELION's maps and the masks of a trained network, and what a forger does to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from kit.runs.record import load_run, resolved
from kit.submissions.deep import deep_check, scored_again
from kit.submissions.layout import packed

MEGABYTE = 1_000_000


@pytest.mark.parametrize("benchmark", ["relion", "cloudmask"])
def test_real_evidence_has_the_real_scores(made_submissions: dict[str, Path], benchmark: str) -> None:
    folder = made_submissions[benchmark]
    assert deep_check(folder) == []
    assert list((folder / "run/evidence").iterdir())
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10 * MEGABYTE


def forge_masks(folder: Path) -> None:
    bits = np.load(folder / "masks.npy")
    bits[: len(bits) // 12] = 255
    np.save(folder / "masks.npy", bits)


def copy_half(folder: Path) -> None:
    shutil.copyfile(folder / "half1.mrc", folder / "half2.mrc")


def noise(folder: Path) -> None:
    with mrcfile.open(folder / "map.mrc", "r+") as file:
        shape = file.data.shape
        file.set_data(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def cut(folder: Path) -> None:
    path = folder / "half1.mrc"
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("benchmark", "forge", "rules"),
    [
        ("cloudmask", forge_masks, {"evidence-score"}),
        ("relion", copy_half, {"evidence-copy", "evidence-fsc"}),
        ("relion", noise, {"evidence-map", "evidence-truth"}),
        ("relion", cut, {"evidence-form"}),
    ],
)
def test_forged(
    made_submissions: dict[str, Path], benchmark: str, forge: Callable[[Path], None], rules: set[str], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made_submissions[benchmark], folder)
    forge(folder / "run/evidence")
    run, (own, _) = load_run(folder), resolved(folder / "run")
    files = {name: folder / packed(name) for name in run.files}
    assert rules <= {finding.rule for finding in scored_again(run, own, files)}
