"""What of a machine this process may use: cores by affinity and control group, memory by control group."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 60  # bytes; the first kind of control groups says 'no limit' by a number near 2^63


@dataclass(frozen=True)
class Cores:
    """Cores that may be used, the hardware threads of one, and what set the bound."""

    cores: int
    threads: int
    source: str


def groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folders of this process's control group for a controller, and of its parents: any of them may hold a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, names, place = line.split(":", 2)
        unified = number == "0" and not names
        if not unified and controller not in names.split(","):
            continue
        base = root / "sys/fs/cgroup"
        if not unified:
            base = base / controller if (base / controller).is_dir() else base / names
        folder = base / place.lstrip("/")
        yield folder
        for parent in folder.parents:
            if not parent.is_relative_to(base):
                break
            yield parent


def first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0].strip()
    except OSError:
        return ""


def quota(root: Path = Path("/")) -> float:
    """Processors whose time this process's control groups allow; infinite without a limit."""
    most = math.inf
    for folder in groups("cpu", root):
        words = first_line(folder / "cpu.max").split()
        if len(words) != 2:
            words = [first_line(folder / "cpu.cfs_quota_us"), first_line(folder / "cpu.cfs_period_us")]
        if all(word.isdigit() for word in words) and int(words[1]):
            most = min(most, int(words[0]) / int(words[1]))
    return most


def memory(root: Path = Path("/")) -> tuple[float, str]:
    """Memory in GB of 10^9 bytes, and where that is said: by a control group, or of the whole machine."""
    total, source = 0.0, "/proc/meminfo"
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for folder in groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            word = first_line(folder / name)
            if word.isdigit() and int(word) < min(UNLIMITED, total or UNLIMITED):
                total, source = int(word), f"{name} of the control group"
    return total / 1e9, source


def cores(affinity: set[int] | None = None, root: Path = Path("/")) -> Cores:
    """Physical cores that may be used: those of the processors that affinity and cpuset leave, within the quota of time."""
    allowed = os.sched_getaffinity(0) if affinity is None else affinity
    siblings: dict[str, int] = {}
    for number in allowed:
        path = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        core = first_line(path) or str(number)
        siblings[core] = siblings.get(core, 0) + 1
    count, threads = max(1, len(siblings)), max(siblings.values(), default=1)
    most = quota(root)
    if most < len(allowed):
        return Cores(max(1, min(count, math.floor(most / threads))), threads, f"a control group allows {most:g} processors")
    return Cores(count, threads, f"affinity: {len(allowed)} processors")
