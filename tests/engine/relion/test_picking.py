"""Pickers side by side on a real run, and the recipe that asks for a licence."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, kit

from kit.benchmarks.relion import picking
from kit.images.render import load_image


def test_pickers_on_a_run(made_runs: Path, tmp_path: Path) -> None:
    """RELION's two jobs of the run, and a third picker that found half of the particles."""
    (run,) = (made_runs / "relion").iterdir()
    half = ["image_name\tx_coord\ty_coord\tscore"]
    for name, places in picking.read(run / "AutoPick/job004").items():
        half += [f"{name}\t{x:.0f}\t{y:.0f}\t1" for x, y in places[::2]]
    (tmp_path / "half.txt").write_text("\n".join(half) + "\n")
    words = ["relion", "picks", str(run), "--with", f"half={tmp_path / 'half.txt'}"]
    result = json.loads(kit(*words, "--json").stdout)
    rows = {row["name"]: row for row in result["sets"]}
    assert list(rows) == ["AutoPick/job004", "AutoPick/job008", "half"]
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert rows["AutoPick/job004"]["f1"] == pytest.approx(evaluation["autopick_log"]["f1"])
    assert rows["AutoPick/job008"]["precision"] == pytest.approx(evaluation["autopick"]["precision"])
    assert rows["half"]["recall"] == pytest.approx(0.5, abs=0.05)
    assert len(result["pairs"]) == 3
    assert (run / "figures/picking.png").stat().st_size > 10_000
    text = kit(*words).stdout
    assert "agreement of each two (F1)" in text
    other = [*half[:1], "another\t1\t2\t3"]
    (tmp_path / "other.txt").write_text("\n".join(other) + "\n")
    said = kit("relion", "picks", str(run), "--with", f"x={tmp_path / 'other.txt'}", code=1).stderr
    assert "x: picks of another, which is no micrograph of" in said
    for name in ("half.txt", "=half.txt", "x="):
        assert "NAME=PATH is needed" in kit("relion", "picks", str(run), "--with", name, code=1).stderr
    for wrong in ("0", "-5", "nan", "inf"):
        for topaz in ([], ["--topaz"]):
            assert (
                "angstrom, above 0 and below" in kit("relion", "picks", str(run), "--diameter", wrong, *topaz, code=1).stderr
            )
    said = kit("relion", "picks", str(run), "--with", f"AutoPick/job008={tmp_path / 'half.txt'}", code=1).stderr
    assert "AutoPick/job008 is a job of" in said
    assert "no such folder" in kit("relion", "picks", str(tmp_path / "nowhere"), code=1).stderr
    assert (
        "has no CtfFind or MotionCorr job"
        in kit("relion", "picks", str(tmp_path), "--with", f"x={tmp_path / 'other.txt'}", code=1).stderr
    )


def test_topaz_picks_on_a_run(made_runs: Path) -> None:
    if not load_image("topaz").sif.is_file():
        pytest.skip("not built here: make image/topaz")
    (run,) = (made_runs / "relion").iterdir()
    rows = {row["name"]: row for row in json.loads(kit("relion", "picks", str(run), "--topaz", "--json").stdout)["sets"]}
    assert rows["Picking/topaz"]["f1"] > 0.95
    assert rows["Picking/topaz"]["micrographs"] == rows["AutoPick/job004"]["micrographs"]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [([], "must not be passed on: read its licence"), (["--build-arg", "licence=accepted"], "micromamba: not found")],
)
def test_cryolo_is_for_who_accepts_its_licence(tmp_path: Path, arguments: list[str], answer: str) -> None:
    """Whoever accepts it gets as far as a base image without its package manager allows."""
    recipe = (ROOT / "kit/images/byhand/cryolo.def").read_text()
    base = "Bootstrap: docker-daemon\nFrom: debian:bookworm-slim"
    (tmp_path / "cryolo.def").write_text(re.sub(r"Bootstrap: docker\nFrom: \S+", base, recipe))
    words = ["apptainer", "build", "--fakeroot", *arguments, "cryolo.sif", "cryolo.def"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert answer in result.stdout + result.stderr
    assert not (tmp_path / "cryolo.sif").exists()
