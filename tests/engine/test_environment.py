"""What each runtime lets through to a program in a container, as docs/site.md says it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kit.images.render import load_image
from kit.runtimes import RUNTIMES


@pytest.mark.parametrize(("runtime", "through"), [("apptainer", True), ("docker", False)])
def test_variables_of_a_launcher(runtime: str, through: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that tell a rank who it is; and a folder that is bound elsewhere, read-only."""
    monkeypatch.setenv("PMIX_RANK", "7")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("shared\n")
    command = RUNTIMES[runtime].command(
        load_image("relion-basic"),
        [str(tmp_path), f"{tmp_path}/shared:/elsewhere:ro"],
        {"OMP_NUM_THREADS": "3", "A": "b c"},
        [],
        str(tmp_path),
    )
    shell = 'echo "${PMIX_RANK:-none} $OMP_NUM_THREADS $A"; cat /elsewhere/file; touch /elsewhere/new || echo read-only; pwd'
    said = subprocess.run([*command, "sh", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [f"{'7' if through else 'none'} 3 b c", "shared", "read-only", str(tmp_path)]
