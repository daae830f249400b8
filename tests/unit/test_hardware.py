"""What is found out of a machine: outputs that real machines gave, and the same from tools that are broken."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from mlperf_logging.system_desc_checker import system_desc_checker

from kit.core import hardware
from kit.core.files import json_text
from kit.runs.system import KEYS, MLPERF, describe, description
from kit.site import load_site

# Of a machine with one H100, by nvidia-smi of driver 580.
ONE = "NVIDIA H100 80GB HBM3, 81559, 580.159.04, 1980, 5, 16\n"
TOPOLOGY_OF_ONE = (
    "\t\x1b[4mGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\nGPU0\t X \t0-15\t0\t\tN/A\n\nLegend:\n\n  X    = Self\n"
)
# The form of nvidia-smi's answer for several; of NVIDIA's documentation.
TOPOLOGY_OF_FOUR = """\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tCPU Affinity\tNUMA Affinity\x1b[0m
GPU0\t X \tNV4\tNV4\tNV4\tSYS\t0-15\t0
GPU1\tNV4\t X \tNV4\tNV4\tSYS\t16-31\t1
GPU2\tNV4\tNV4\t X \tNV4\tPXB\t32-47\t2
GPU3\tNV4\tNV4\tNV4\t X \tSYS\t48-63\t3
NIC0\tSYS\tSYS\tPXB\tSYS\t X \t\t

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
"""


def test_gpus_of_nvidia() -> None:
    found = hardware.nvidia(ONE, TOPOLOGY_OF_ONE)
    assert found == hardware.Accelerators(
        count=1,
        model="NVIDIA H100 80GB HBM3",
        memory_gb=pytest.approx(85.52, abs=0.01),
        frequency="1980 MHz",
        host_interconnect="PCIe Gen5 x16",
        driver="NVIDIA driver 580.159.04",
    )
    four = hardware.nvidia(ONE * 4, TOPOLOGY_OF_FOUR)
    assert four is not None
    assert (four.count, four.interconnect) == (4, "NVLink (NV4)")
    assert hardware.between(TOPOLOGY_OF_FOUR.replace("NV4", "SYS")) == "PCIe (SYS)"


@pytest.mark.parametrize(
    "said",
    ["", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "a,b,c,d,e,f\n", ",,,,,\n"],
)
def test_tools_that_say_nothing(said: str) -> None:
    assert hardware.nvidia(said, said) is None
    assert hardware.between(said) == ""
    assert hardware.amd(said) is None


def test_gpus_of_amd() -> None:
    cards = {
        f"card{number}": {"Card series": "AMD Instinct MI250X", "VRAM Total Memory (B)": "68702699520"}
        for number in range(2)
    }
    found = hardware.amd(json.dumps({**cards, "system": {"Driver version": "6.3.6"}}))
    assert found == hardware.Accelerators(2, "AMD Instinct MI250X", pytest.approx(68.7, abs=0.01), driver="AMD driver 6.3.6")
    for broken in ('{"card0": {}}', '{"card0": []}', "[]", "5", "[" * 100_000):
        assert hardware.amd(broken) is None


def kernel(sys: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (sys / name).parent.mkdir(parents=True, exist_ok=True)
        (sys / name).write_text(f"{content}\n")
    return sys


def cpu(number: int, package: int, core: int, shared: str) -> dict[str, str]:
    """What the kernel says of one hardware thread, as an Intel Xeon has it."""
    folder = f"devices/system/cpu/cpu{number}"
    found = {f"{folder}/topology/physical_package_id": str(package), f"{folder}/topology/core_id": str(core)}
    caches = (
        ("1", "Data", "48K", shared),
        ("1", "Instruction", "32K", shared),
        ("3", "Unified", "307200K", f"package {package}"),
    )
    for index, values in enumerate(caches):
        for key, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
            found[f"{folder}/cache/index{index}/{key}"] = value
    return found


def test_cores_and_caches(tmp_path: Path) -> None:
    """Two packages of two cores with two threads each."""
    threads = [(0, 0, 0, "0,4"), (1, 0, 1, "1,5"), (2, 1, 0, "2,6"), (3, 1, 1, "3,7")]
    files: dict[str, str] = {}
    for number, package, core, shared in threads:
        files |= cpu(number, package, core, shared) | cpu(number + 4, package, core, shared)
    sys = kernel(tmp_path, {**files, "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3900000"})
    assert hardware.cores(sys) == 2
    assert hardware.caches(sys) == "L1d 48K x 4, L1i 32K x 4, L3 307200K x 2"
    assert hardware.frequency(sys) == "3.90 GHz"
    nothing = tmp_path / "nothing"
    assert (hardware.cores(nothing), hardware.caches(nothing), hardware.frequency(nothing)) == (0, "", "")


MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/sda2 rw,discard
30 27 0:99 / /lustre/work rw - lustre 10.1.1.1@o2ib:/work rw,flock
31 27 0:98 / /with\040blank rw shared:1 - nfs4 server:/x rw
32 27 254:0 / /fast rw - xfs /dev/nvme0n1p1 rw
a line of nobody
"""


def test_storage(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    sys = kernel(tmp_path / "sys", {"class/block/sda/queue/rotational": "1", "class/block/sda/sda2/partition": "2"})
    (sys / "class/block/sda2").symlink_to("sda/sda2")
    wanted = {"/home/x": "ext4, hard disk", "/lustre/work/run": "lustre", "/with blank": "nfs4", "/fast": "xfs, NVMe SSD"}
    for folder, kind in wanted.items():
        assert hardware.storage(Path(folder), tmp_path / "mountinfo", sys) == kind
    assert hardware.storage(Path("/"), tmp_path / "nothing") == ""
    assert hardware.capacity_gb(tmp_path / "nothing") == 0


def test_networks(tmp_path: Path) -> None:
    cards = {"eth0": "25000", "eth1": "-1", "ib0": "200000", "docker0": "10000"}
    files = {f"class/net/{name}/speed": speed for name, speed in cards.items()}
    files |= {f"class/net/{name}/type": "32" if name == "ib0" else "1" for name in cards}
    files |= {f"class/net/{name}/device/vendor": "0x15b3" for name in cards if name != "docker0"}
    port = "class/infiniband/mlx5_0/ports/1"
    files |= {f"{port}/rate": "200 Gb/sec (4X HDR)", f"{port}/link_layer": "InfiniBand"}
    sys = kernel(tmp_path, files)
    assert hardware.networks(sys) == ["InfiniBand 200 Gb/sec (4X HDR)", "Ethernet 25 Gb/s", "Ethernet, speed not known"]
    assert hardware.networks(tmp_path / "nothing") == []


def test_the_description_satisfies_mlperfs_checker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = load_site("local")
    found = describe(site, "local", tmp_path)
    assert list(found) == KEYS
    text = description(found, "centre", "machine", "toy")
    path = tmp_path / "system.json"
    path.write_text(json_text(text))
    for usage, rules in (("training", "5.1.0"), ("hpc", "3.0.0")):
        assert system_desc_checker.check_system_desc(path, usage, rules)[0]
    assert set(text) == {*MLPERF, "host_network_card_count", "known"}
    assert set(text["known"]) == set(text) - {"known"}
    assert {text["known"][key] for key in MLPERF} <= {"collected", "declared", "unknown"}
    assert (text["known"]["submitter"], text["known"]["operating_system"]) == ("declared", "collected")
    assert (text["cooling"], text["known"]["cooling"]) == ("unknown", "unknown")
    del text["cooling"]
    path.write_text(json_text(text))
    with caplog.at_level(logging.ERROR):
        assert not system_desc_checker.check_system_desc(path, "hpc", "3.0.0")[0]
    assert "Missing field cooling" in caplog.text


def test_what_a_site_declares_comes_first_and_is_marked(tmp_path: Path) -> None:
    site = load_site("archer2")
    partition = next(iter(site.partitions))
    found = describe(site, partition, tmp_path)
    text = description(found, "centre", "machine", "toy")
    assert text["host_processor_model_name"] == "AMD EPYC 7742"
    assert text["known"]["host_processor_model_name"] == text["known"]["host_networking_topology"] == "declared"
    assert text["accelerator_model_name"] == "none"
    assert "facts of the node that collected" in text["sw_notes"]
