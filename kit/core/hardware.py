"""What Linux and the tools of vendors say of this machine: cores, caches, disks, networks, accelerators.

Each function reads what is there and returns an empty text, or nothing, for what nobody says; none raises an error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kit.core.errors import plain

SYS = Path("/sys")
MOUNTS = Path("/proc/self/mountinfo")
PATIENCE = 20  # seconds that a vendor's tool may take; it hangs where a driver does


def text(path: Path) -> str:
    """The content of a small file of the kernel; empty where it cannot be read, as the speed of a network that is down."""
    try:
        return plain(path.read_text(errors="replace").strip())
    except OSError:
        return ""


def said(*command: str) -> str:
    """What a program prints; empty where it is not here or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout if result.returncode == 0 else ""


def cores(sys: Path = SYS) -> int:
    """Physical cores of a processor: distinct cores by distinct packages; 0 where the kernel does not say."""
    topology = list(sys.glob("devices/system/cpu/cpu[0-9]*/topology"))
    places = {(text(folder / "physical_package_id"), text(folder / "core_id")) for folder in topology}
    packages = {package for package, _ in places}
    return len(places) // len(packages) if topology and all(map(all, places)) else 0


def frequency(sys: Path = SYS) -> str:
    """The highest frequency of the first core, which the kernel gives in kHz; virtual machines do not say."""
    khz = text(sys / "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return f"{int(khz) / 1e6:.2f} GHz" if khz.isdigit() else ""


def caches(sys: Path = SYS) -> str:
    """Each cache with its size and how many of it there are in this machine: `L1d 48K x 2, L2 2048K x 2, L3 300M x 1`."""
    found: set[tuple[str, str, str]] = set()
    for folder in sys.glob("devices/system/cpu/cpu[0-9]*/cache/index[0-9]*"):
        kind = {"Data": "d", "Instruction": "i"}.get(text(folder / "type"), "")
        found.add((f"L{text(folder / 'level')}{kind}", text(folder / "size"), text(folder / "shared_cpu_list")))
    counts = Counter((name, size) for name, size, _ in found if size)
    return ", ".join(f"{name} {size} x {count}" for (name, size), count in sorted(counts.items()))


def storage(folder: Path, mounts: Path = MOUNTS, sys: Path = SYS) -> str:
    """The file system that holds a folder, and for a disk of this machine its kind: `lustre`, `ext4, SSD`."""
    best, found = -1, ""
    for line in text_lines(mounts):
        words = line.split(" ")
        if "-" not in words or len(words) < words.index("-") + 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), words[4])
        kind, device = words[words.index("-") + 1 : words.index("-") + 3]
        inside = folder.absolute().is_relative_to(point)
        if inside and len(point) >= best:  # of two at one place, the later lies above
            best, found = len(point), ", ".join(filter(None, (kind, disk(device, sys))))
    return found


def disk(device: str, sys: Path = SYS) -> str:
    """The kind of a disk by its device; empty for what is none, as the server of a network file system."""
    name = device.rpartition("/")[2]
    if not device.startswith("/dev/") or not re.fullmatch(r"[\w-]+", name):
        return ""
    if name.startswith("nvme"):
        return "NVMe SSD"
    if name.startswith(("vd", "xvd")):
        return "virtual disk"
    place = (sys / "class/block" / name).resolve()
    rotates = text(place / "queue/rotational") or text(place.parent / "queue/rotational")  # of a partition: of its disk
    return {"0": "SSD", "1": "hard disk"}.get(rotates, "")


def text_lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def capacity_gb(folder: Path) -> float:
    """The size of the file system that holds a folder, in GB of 10^9 bytes; 0 where it does not say."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0.0
    return status.f_blocks * status.f_frsize / 1e9


def networks(sys: Path = SYS) -> list[str]:
    """Each port of a network card, as `Ethernet 25 Gb/s` or `InfiniBand 200 Gb/sec (4X HDR)`; virtual networks have none."""
    rates = sorted(sys.glob("class/infiniband/*/ports/*/rate"))
    found = [f"{text(rate.parent / 'link_layer') or 'InfiniBand'} {text(rate)}" for rate in rates]
    for card in sorted(sys.glob("class/net/*")):
        if not (card / "device").exists() or text(card / "type") != "1":  # 1: Ethernet; InfiniBand's own are above
            continue
        speed = text(card / "speed")  # Mb/s; -1 where the driver does not know
        known = speed.isdigit() and int(speed) > 0
        found.append(f"Ethernet {int(speed) / 1000:g} Gb/s" if known else "Ethernet, speed not known")
    return found


@dataclass(frozen=True)
class Accelerators:
    """The accelerators of a machine, all of one kind."""

    count: int
    model: str
    memory_gb: float  # of one, in GB of 10^9 bytes
    frequency: str = ""
    host_interconnect: str = ""
    driver: str = ""
    interconnect: str = ""


def accelerators() -> Accelerators | None:
    """What NVIDIA's or AMD's tool says; None without either."""
    query = "name,memory.total,driver_version,clocks.max.sm,pcie.link.gen.max,pcie.link.width.max"
    ours = nvidia(
        said("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"), said("nvidia-smi", "topo", "-m")
    )
    return ours or amd(said("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--json"))


def nvidia(listed: str, topology: str = "") -> Accelerators | None:
    """From `nvidia-smi --query-gpu`, whose memory is in MiB and whose clock in MHz, and `nvidia-smi topo -m`."""
    rows = [[plain(cell.strip()) for cell in line.split(",")] for line in listed.splitlines()]
    rows = [row for row in rows if len(row) == 6 and row[1].isdigit()]
    if not rows:
        return None
    model, memory, driver, clock, generation, width = rows[0]
    pcie = f"PCIe Gen{generation} x{width}" if generation.isdigit() and width.isdigit() else ""
    return Accelerators(
        count=len(rows),
        model=model,
        memory_gb=int(memory) * 2**20 / 1e9,
        frequency=f"{clock} MHz" if clock.isdigit() else "",
        host_interconnect=pcie,
        driver=f"NVIDIA driver {driver}",
        interconnect=between(topology),
    )


def between(topology: str) -> str:
    """How the GPUs of `nvidia-smi topo -m` are joined: `NVLink (NV12)`, or by which way of PCIe; empty for one alone."""
    rows = [line.split() for line in re.sub(r"\x1b\[\d*m", "", topology).splitlines() if re.match(r"\W*GPU\d", line)]
    gpus = [row for row in rows if row[0].startswith("GPU") and not (len(row) > 1 and row[1].startswith("GPU"))]
    links = sorted({link for row in gpus for link in row[1 : len(gpus) + 1]} - {"X"})
    known = [link for link in links if re.fullmatch(r"NV\d+|SYS|NODE|PHB|PXB|PIX", link)]
    if len(gpus) < 2 or not known:
        return ""
    return f"{'NVLink' if known[0].startswith('NV') else 'PCIe'} ({', '.join(known)})"


def amd(listed: str) -> Accelerators | None:
    """From `rocm-smi --json`: a table for each card, with the bytes of its memory."""
    try:
        tables = json.loads(listed)
        cards = [tables[name] for name in sorted(tables) if re.fullmatch(r"card\d+", name)]
        first = {key.casefold(): str(value) for key, value in cards[0].items()}
        memory = int(first["vram total memory (b)"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    driver = tables.get("system")
    version = str(driver.get("Driver version", "")) if isinstance(driver, dict) else ""
    return Accelerators(
        count=len(cards),
        model=plain(first.get("card series") or first.get("card model") or "AMD"),
        memory_gb=memory / 1e9,
        driver=f"AMD driver {plain(version)}" if version else "",
    )
