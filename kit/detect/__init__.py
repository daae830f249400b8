"""A site file for the machine that kit runs on: what its scheduler, its MPI and its kernel say, each with its source.

It is a start that a person completes. Commands are asked; nothing is submitted.
"""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from kit.core.host import processor
from kit.core.limits import cores, memory
from kit.detect.queues import Fact, Queue, ask, scheduler
from kit.schedulers import OPTIONAL, SCHEDULERS

KFD = Path("/sys/class/kfd/kfd/topology/nodes")
# How a program says which MPI it belongs to: what stands in its version, family of the library, launcher of the kit.
FAMILIES = (
    ("Open MPI", "openmpi", "mpirun"),
    ("OpenRTE", "openmpi", "mpirun"),
    ("Intel(R) MPI", "mpich", "intelmpi"),
    ("PALS", "mpich", "pals"),
    ("HYDRA", "mpich", "mpich"),
)


def gpus(folder: Path = KFD) -> dict[str, Fact]:
    """The GPUs of this machine: NVIDIA's by nvidia-smi, AMD's as the kernel lists them."""
    cards = [line for line in (ask("nvidia-smi", "-L") or "").splitlines() if re.match(r"GPU \d+: ", line)]
    if cards:
        model = cards[0].partition(": ")[2].partition(" (UUID")[0]
        return {"gpus": Fact(len(cards), f"nvidia-smi -L: {model}")}
    count = 0
    for node in sorted(folder.glob("*/properties")):
        try:
            units = re.search(r"^simd_count (\d+)", node.read_text(), re.MULTILINE)
        except OSError:
            continue
        count += bool(units and int(units[1]))  # a processor is a node, too, without such units
    if not count:
        return {}
    return {"gpus": Fact(count, str(folder)), "gpu_vendor": Fact("amd", str(folder))}


def mpi() -> tuple[str, str, str]:
    """(family of the host's MPI, launcher for it, what its mpirun or mpiexec says of itself); empty without one."""
    for program in ("mpirun", "mpiexec"):
        said = ask(program, "--version") or ""
        for mark, family, launcher in FAMILIES:
            if mark in said:
                line = next(line for line in said.splitlines() if line.strip())
                return family, launcher, f"{program} --version: {line.strip()}"
    return "", "", ""


def pmi() -> Fact | None:
    """How srun tells ranks of each other: PMIx where it can, else Cray's, else PMI 2. Some versions say it on stderr."""
    listed = (ask("srun", "--mpi=list", errors=True) or "").split()
    found = next((name for name in ("pmix", "cray_shasta", "pmi2") if name in listed), None)
    return Fact(found, "srun --mpi=list") if found else None


def slurms_folder(place: str) -> str:
    """The folder to bind for Slurm's PMIx. `place` is its TmpFS, and may name the node; empty for /tmp, which is bound."""
    folder = place.partition("%")[0]
    folder = str(Path(folder).parent) if "%" in place and not folder.endswith("/") else folder.rstrip("/")
    return "" if folder in ("", "/", ".") or Path(folder).is_relative_to("/tmp") else folder


def launching(name: str) -> dict[str, Fact]:
    """Launcher and PMI that go with a scheduler."""
    _, launcher, said = mpi()
    if name == "slurm":
        found = pmi()
        return {"launcher": Fact("srun", "Slurm's own"), **({"pmi": found} if found else {})}
    if name == "flux":
        return {"launcher": Fact("flux", "Flux's own")}
    if name == "pjm":
        return {"launcher": Fact("mpiexec", "PJM places the ranks")}
    if name == "lsf" and shutil.which("jsrun"):
        return {"launcher": Fact("jsrun", "it is on the PATH"), "single": Fact(True, "jobs of jsrun begin on a launch node")}
    return {"launcher": Fact(launcher or "mpirun", said or "no mpirun answers here; a module may bring one")}


def runtime(name: str) -> Fact:
    for program, word in (("apptainer", "apptainer"), ("singularity", "apptainer"), ("podman-hpc", "podman-hpc")):
        said = ask(program, "--version")
        if said:
            return Fact(word, f"{program} --version: {said.strip().splitlines()[0]}")
    if name == "local" and ask("docker", "version", "--format", "{{.Server.Version}}"):
        return Fact("docker", "an engine answers")
    return Fact("apptainer", "none answers here; a module may bring it")


def this_node() -> Queue:
    """This machine as a partition without a scheduler."""
    queue, found = Queue("local"), cores()
    queue.say("cores", found.cores, found.source)
    queue.say("hardware_threads", found.threads if found.threads > 1 else 0, "processors of a core in /sys")
    gigabytes, source = memory()
    queue.say("memory_gb", int(gigabytes) or round(gigabytes, 1), source)
    queue.facts |= gpus()
    return queue


def put(table: Table | tomlkit.TOMLDocument, key: str, fact: Fact) -> None:
    """A key, with the source of its value as a comment behind it."""
    item = tomlkit.item(fact.value)
    source = " ".join(fact.source.split())
    if source:
        item.comment("".join(letter for letter in source if letter.isprintable())[:160])
    table.append(key, item)


def named(name: str, taken: Any) -> str:
    """The name of a queue as a name of a partition: other letters replaced, and no name twice."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)[:90].lstrip("._-") or "queue"
    return next(word for word in (plain, *(f"{plain}-{count}" for count in range(2, 10_000))) if word not in taken)


def detect() -> str:
    """The text of the site file."""
    name, queues, others = scheduler()
    document = tomlkit.document()
    document.add(tomlkit.comment(f"Written by kit site detect on {platform.node()}, from what its commands say."))
    document.add(tomlkit.comment("Read it, correct it, and try it: kit site check, then kit doctor."))
    for other in others:
        document.add(tomlkit.comment(f"The scheduler {other} answers here as well."))
    put(document, "description", Fact(f"{platform.node()}, as kit found it", "say which machine this is"))
    put(document, "contact", Fact("", "whom to ask about it"))
    put(document, "url", Fact("", "its documentation"))
    asked = "; ".join(["its commands answer"] if queues else ["no other answers"])
    put(document, "scheduler", Fact(name, asked))
    common = {**launching(name)}
    arch = platform.machine()
    if arch in ("aarch64", "ppc64le"):
        common["arch"] = Fact(arch, "that of this machine")
    if not queues:
        common["bind"] = Fact("none", "other programs run here, too")
    for key, fact in common.items():
        put(document, key, fact)
    if queues and "account" in words(name):
        document.add(tomlkit.comment('account = ""  # the project that pays, where one is needed'))
    partitions = tomlkit.table(is_super_table=True)
    for queue in queues or [this_node()]:
        table = tomlkit.table()
        for remark in queue.remarks:
            table.add(tomlkit.comment("".join(letter for letter in remark if letter.isprintable())))
        for key, fact in queue.facts.items():
            if key not in OPTIONAL or key in words(name):
                put(table, key, fact)
        partitions.append(named(queue.name, partitions), table)
    document.append("partitions", partitions)
    container = tomlkit.table()
    put(container, "runtime", runtime(name))
    if queues:
        put(container, "mpi", Fact("outside", "the launcher of the site starts the ranks"))
        family, _, said = mpi()
        if family and name != "slurm":
            put(container, "mpi_family", Fact(family, said))
        place = re.search(r"^TmpFS\s*= (.*)$", ask("scontrol", "show", "config") or "", re.MULTILINE)
        if name == "slurm" and place and slurms_folder(place[1].strip()):
            put(container, "binds", Fact([slurms_folder(place[1].strip())], "TmpFS of scontrol, where PMIx meets ranks"))
        else:
            container.add(tomlkit.comment("binds = []  # folders that every job needs, beside its own"))
    else:
        put(container, "mpi", Fact("inside", "one machine: the MPI of the image starts the ranks"))
    document.append("container", container)
    if not queues:
        hardware = tomlkit.table()
        put(hardware, "host_processor_model_name", Fact(processor()[0], "/proc/cpuinfo"))
        document.append("hardware", hardware)
    return tomlkit.dumps(document)


def words(name: str) -> frozenset[str]:
    """Keys of a partition that a scheduler can be told."""
    return SCHEDULERS[name].WORDS if name in SCHEDULERS else frozenset()
