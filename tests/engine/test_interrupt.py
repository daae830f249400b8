"""Ctrl-C at a real RELION: the run says `failed: interrupted`, nothing goes on behind its back, and it can be continued."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from conftest import KIT, ROOT, kit


def interrupted_after(words: list[str], iteration: str, runs: Path) -> Path:
    """Starts `kit run`, waits until Class2D has written an iteration, presses Ctrl-C; returns the run directory."""
    process = subprocess.Popen(
        [*KIT, "run", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that a shell runs in the background inherit from it that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(1200):
        if list(runs.glob(f"relion/*/Class2D/{iteration}_optimiser.star")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "kit: interrupted" in said
    return next((runs / "relion").iterdir())


def test_interrupt_and_resume(tmp_path: Path) -> None:
    run = interrupted_after(["relion", "--size", "particles", "--runs", str(tmp_path)], "run_it002", tmp_path)
    assert kit("status", str(run)).stdout.splitlines()[-1].split()[1:3] == ["failed", "class2d"]
    assert subprocess.run(["pgrep", "-f", str(run)], capture_output=True).stdout == b""
    assert "failed: stage class2d: interrupted" in kit("collect", str(run), code=1).stdout
    assert "only a valid run" in kit("submission", "pack", str(run), code=1).stderr

    done = {path: path.stat().st_mtime_ns for path in (run / "Class2D").glob("run_it001_*.star")}
    assert done
    # What a job leaves that is killed while RELION writes an iteration: files that are missing or end anywhere.
    for path in done:
        whole = path.read_text().replace("_it001_", "_it003_")
        if "sampling" not in path.name:
            path.with_name(path.name.replace("_it001_", "_it003_")).write_text(
                whole if "optimiser" in path.name else whole[: len(whole) // 2]
            )
    interrupted_after(["--resume", str(run)], "run_it005", tmp_path)
    # It went on from the last iteration, which RELION reads and writes again; those before it were not done again.
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not (run / "Class3D").exists() or not list((run / "Class3D").iterdir())
