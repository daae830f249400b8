"""Jobs of the machine itself."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kit.schedulers import local


def test_a_job_that_ends_at_once_has_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the job is over before its start time is read."""
    (tmp_path / "job.sh").write_text("exit 0\n")

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            while local.status(self.pid)[0] != "Z":
                time.sleep(0.01)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    job = local.submit(tmp_path / "job.sh")
    pid, _, start = job.partition(":")
    assert pid.isdecimal()
    assert start.isdecimal()
    assert local.state(job).state == "gone"


def test_a_process_that_took_over_the_number_is_not_the_job(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("exec sleep 60\n")
    job = local.submit(tmp_path / "job.sh")
    pid, _, start = job.partition(":")
    try:
        assert local.state(job).state == "running"
        assert local.state(f"{pid}:{int(start) - 1}").state == "gone"
    finally:
        local.cancel(job)
    for _ in range(500):
        if local.state(job).state == "gone":
            break
        time.sleep(0.02)
    assert local.state(job).state == "gone"
    assert local.status(2**22 + 1) == ("", "")
