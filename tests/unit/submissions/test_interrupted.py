"""Packing that is stopped, that finds no room, and whose run changes meanwhile: a whole folder or none, never a half one."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, run_boxed

from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.submissions.check import check
from kit.submissions.pack import pack

# What Python tells of each file that is opened, made or renamed; no hook of it can be taken away, so that one serves all.
WATCHERS: list[Callable[[str, str], None]] = []
WRITES = os.O_WRONLY | os.O_RDWR


def tell(event: str, arguments: tuple[object, ...]) -> None:
    if not WATCHERS or event not in ("open", "os.mkdir", "os.rename"):
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    name = str(arguments[1 if event == "os.rename" else 0])
    if event in ("open", "os.rename") or (event == "os.mkdir" and not os.path.isdir(name)):
        for watcher in WATCHERS:
            watcher("read" if event == "open" and not writes else "write", name)


sys.addaudithook(tell)


@contextlib.contextmanager
def watched(watcher: Callable[[str, str], None]) -> Iterator[None]:
    WATCHERS.append(watcher)
    try:
        yield
    finally:
        WATCHERS.clear()


@pytest.fixture
def valid(toy: Path) -> Path:
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    assert run_boxed(directory).state.name == "valid"
    return directory


def left(folder: Path) -> list[Path]:
    """Files, and folders with a name that is not yet the last."""
    return [path for path in folder.rglob("*") if not path.is_dir() or path.name.startswith(".")]


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), MemoryError()],
    ids=["interrupted", "disk full", "out of memory"],
)
def test_stopped_at_any_write(valid: Path, tmp_path: Path, error: BaseException) -> None:
    """At the first file that is made, at the second, and so on, until nothing stops it any more."""
    to = tmp_path / "to"
    for number in range(1, 500):
        seen = 0

        def stop(kind: str, name: str, number: int = number) -> None:
            nonlocal seen
            if kind == "write" and name.startswith(str(to)):
                seen += 1
                if seen == number:
                    raise error

        try:
            with watched(stop):
                folder = pack(valid, to)
            break
        except type(error):
            assert left(to) == [], number
    assert number > 20
    assert check(folder) == []
    assert left(to) == [path for path in folder.rglob("*") if not path.is_dir()]


def test_run_that_changes_meanwhile(valid: Path, tmp_path: Path) -> None:
    """A log grows when the n-th file of the run is read: what was collected is packed, or nothing."""
    log = valid / "logs/second.out"
    before = log.read_bytes()
    packed = 0
    for number in range(1, 500):
        seen, to = 0, tmp_path / f"to{number}"

        def grow(kind: str, name: str, number: int = number) -> None:
            nonlocal seen
            if kind == "read":  # names below a folder that is open are told without it
                seen += 1
                if seen == number:
                    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
                    os.write(descriptor, b"more\n")
                    os.close(descriptor)

        said = ""
        try:
            with watched(grow):
                folder = pack(valid, to)
            assert check(folder) == []
            packed += 1
        except KitError as error:
            said = str(error)
            assert left(to) == []
        assert not said or "second.out: missing or changed since the run was collected" in said
        log.write_bytes(before)
        if seen < number or packed > 3:
            break
    assert packed


LIMITED = """
import resource, signal, sys
from pathlib import Path
from kit.core.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_atomic(Path(sys.argv[1]), "x" * 1000)
except OSError as error:
    print(error.strerror)
"""


def test_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sums"
    path.write_text("old")
    said = subprocess.run([sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "too large" in said.stdout.lower()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system")
@pytest.mark.parametrize("kilobytes", [4, 16, 64])
def test_real_disk_that_is_full(valid: Path, tmp_path: Path, kilobytes: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with pytest.raises(OSError, match="No space left"):
            pack(valid, disk / "to")
        assert left(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)
