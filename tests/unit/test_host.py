"""What is said of this machine, held against another source of the same fact."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit.core.host import memory_gb
from kit.doctor.machine import memory
from kit.runs.system import describe
from kit.site import load_site


def test_memory_is_in_decimal_gigabytes_wherever_it_is_said() -> None:
    """/proc/meminfo writes kB for KiB: taken at its word, it is 2.4 % short."""
    found = re.search(r"^MemTotal: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found
    wanted = int(found[1]) * 1024 / 1e9
    assert memory_gb() == pytest.approx(wanted, rel=1e-3)
    description = describe(load_site("local"), next(iter(load_site("local").partitions)), Path())
    for text in (memory().detail.partition(",")[0], description["host_memory_capacity"]):
        number, unit = text.split()
        assert unit == "GB"
        assert float(number) == pytest.approx(wanted, rel=5e-3)
