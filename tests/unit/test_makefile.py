"""What `make submission` and `make images` have the kit do, and that nothing goes on behind an error; the kit is a stub."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

KIT = """#!/bin/bash
[ "$*" = "$FAILS" ] && { echo "kit: refused" >&2; exit 1; }
echo "$*" >>"$SAID"
case "$*" in
    "image list --names --tested") printf '%s\\n' one two three ;;
    "image list --names --for relion") printf '%s\\n' relion-basic relion-accelerated ;;
    "image list --names --for "*) printf '%s\\n' horovod keras ;;
    "run "*) echo "/runs/$2" ;;
    "submission pack "*) echo "/submissions/$3" ;;
esac
"""


def made(folder: Path, *words: str, fails: str = "", code: int = 0) -> list[str]:
    """What the kit was asked for by `make` with these words, where one of its commands fails."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv").mkdir()
    for name in ("pyproject.toml", ".venv/.done"):
        (folder / name).touch()
    (folder / "kit").write_text(KIT)
    (folder / "kit").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    result = subprocess.run(
        ["make", f"KIT={folder}/kit", *words],
        cwd=folder,
        env={**environment, "SAID": str(folder / "said"), "FAILS": fails},
        capture_output=True,
        text=True,
    )
    assert (result.returncode == 0) == (code == 0), result.stdout + result.stderr
    assert ("kit: refused" in result.stdout) == (code != 0)  # whatever runs beside it
    return (folder / "said").read_text().splitlines()


def test_images_and_data_are_there_before_the_first_run(tmp_path: Path) -> None:
    said = made(tmp_path, "submission")
    first = next(at for at, words in enumerate(said) if words.startswith("run "))
    wanted = ["image build relion-basic", "image build horovod"]
    wanted += ["data make relion --size tiny", "data make cloudmask --size tiny"]
    assert sorted(words for words in said if " build " in words or " make " in words) == sorted(wanted)
    assert set(wanted) <= set(said[:first])
    for benchmark in ("relion", "cloudmask"):
        assert f"run {benchmark} --size tiny --site local --wait" in said
        assert f"submission check /submissions//runs/{benchmark} --allow-trial" in said


def test_an_image_of_three_benchmarks_is_built_once(tmp_path: Path) -> None:
    said = made(tmp_path, "submission", "BENCHMARKS=stemdl uno tevolop", "SIZE=small")
    assert [words for words in said if words.startswith("image build")] == ["image build horovod"]
    assert {f"data make {name} --size small" for name in ("stemdl", "uno", "tevolop")} <= set(said)


def test_no_benchmark_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="BENCHMARKS is empty; name one at least"):
        made(tmp_path, "submission", "BENCHMARKS= ")
    assert not [words for words in (tmp_path / "said").read_text().splitlines() if not words.startswith("doctor")]


@pytest.mark.parametrize(
    "fails",
    ["image build relion-basic", "image build horovod", "data make relion --size tiny", "data make cloudmask --size tiny"],
)
def test_what_fails_beside_another_is_not_lost(tmp_path: Path, fails: str) -> None:
    said = made(tmp_path, "submission", fails=fails, code=2)
    assert not [words for words in said if words.startswith("run ")]


@pytest.mark.parametrize("fails", ["image build one", "image build three"])
def test_an_image_that_fails_fails_them_all(tmp_path: Path, fails: str) -> None:
    built = {f"image build {name}" for name in ("one", "two", "three")}
    said = made(tmp_path, "images", fails=fails, code=2)
    assert {words for words in said if words.startswith("image build")} == built - {fails}
