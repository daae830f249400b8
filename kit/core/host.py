"""Facts about this machine: processor, memory, operating system."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor() -> tuple[str, int]:
    """Model name and number of physical packages, from /proc/cpuinfo."""
    model, packages = platform.processor() or platform.machine(), set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip() == "physical id":
            packages.add(value.strip())
    return model, len(packages) or 1


def memory_gb() -> float:
    """Memory of this machine in GB of 10^9 bytes, as everywhere in the kit. /proc/meminfo says kB and means KiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def gpus_here() -> bool:
    """Whether this machine has a GPU with a driver of NVIDIA or AMD."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()


def operating_system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())


def this_machine() -> tuple[int, float]:
    """Cores that this process may use, and gigabytes of memory."""
    return len(os.sched_getaffinity(0)), memory_gb()
