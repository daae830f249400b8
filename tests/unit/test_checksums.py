"""Checksums in their forms, held against sha256sum and hashlib, and files of them that are not what they should be."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from kit.core.checksums import SUMS, digest, labelled, plain_digest, read_sums, sha256, text_digest, write_sums
from kit.core.errors import KitError
from kit.images.trust import verify_export

TEXT = "what was measured: 3 Å\n"


def test_two_forms_of_one_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    digits = hashlib.sha256(TEXT.encode()).hexdigest()
    assert sha256(path) == digits
    assert digest(path) == text_digest(TEXT) == plain_digest(tmp_path, "a.txt") == labelled(digits) == f"sha256:{digits}"


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    for name in ("b two.txt", "a/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    sums = {name: sha256(tmp_path / name) for name in ("b two.txt", "a/c.txt")}
    assert write_sums(tmp_path, sums) == tmp_path / "sha256sums.txt"
    assert read_sums(tmp_path) == sums
    command = ["sha256sum", "--check", "--strict", SUMS]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "a/c.txt: OK\nb two.txt: OK\n"
    (tmp_path / "a/c.txt").write_text("other")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("0" * 63 + "  a.sif\n", "sha256sums.txt:1: not a line of sha256sum"),
        ("0" * 64 + " a.sif\n", "sha256sums.txt:1: not a line of sha256sum"),
        ("0" * 64 + "  a.sif\n\n", "sha256sums.txt:2: not a line of sha256sum"),
        (("0" * 64 + "  a.sif\n") * 2, "sha256sums.txt:2: a second checksum of a.sif"),
        ("0" * 64 + "  a.sif\n", "a.sif: its checksum is sha256:[0-9a-f]{64}, but sha256sums.txt says sha256:0{64}"),
        ("0" * 64 + "  ../a.sif\n", "a.sif: missing, but sha256sums.txt lists it"),
        ("0" * 64 + "  b.sif\n", "b.sif: missing, but sha256sums.txt lists it"),
    ],
)
def test_an_export_with_bad_sums_is_refused(tmp_path: Path, lines: str, problem: str) -> None:
    (tmp_path / "a.sif").write_text(TEXT)
    with pytest.raises(KitError, match=r"sha256sums\.txt: missing; kit image export writes one"):
        verify_export(tmp_path)
    (tmp_path / SUMS).write_text(lines)
    with pytest.raises(KitError, match=problem):
        verify_export(tmp_path)
    write_sums(tmp_path, {"a.sif": sha256(tmp_path / "a.sif")})
    assert verify_export(tmp_path) == [f"a.sif {digest(tmp_path / 'a.sif')}"]
