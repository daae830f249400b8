"""From what a doctor's job left in its directory to a verdict on each check, with the way out of what is not well."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from kit import __version__
from kit.core.errors import KitError, plain
from kit.core.files import open_plain, plain_file, read_table
from kit.core.tables import table
from kit.detect import FAMILIES, slurms_folder
from kit.doctor.job import START, TRIAL
from kit.doctor.outcome import NAME, Checked, Outcome, Verdict, description
from kit.plan import Plan, plan_of
from kit.runs.plausibility import CLOCKS
from kit.runs.record import Run, load_run
from kit.runs.states import current_state
from kit.script.render import asked

MOST = 1 << 20  # bytes of one file that are read
ROOM = 5e9  # bytes that a run of a small size may leave


@dataclass
class Left:
    """What the job left: exit codes by check, its words, and the plan that it ran by."""

    directory: Path
    run: Run
    plan: Plan
    start: dict[str, Any]
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        try:
            with open_plain(self.directory, name) as file:
                return file.read(MOST).decode(errors="replace")
        except KitError:
            return ""

    def out(self, check: str) -> str:
        return self.text(f"doctor/{check}.out")

    def err(self, check: str) -> str:
        return self.text(f"doctor/{check}.err")

    def ended(self, check: str) -> bool:
        return check in self.lines

    def exit(self, check: str) -> int:
        return int(self.lines[check]["exit"])

    def host(self, check: str) -> str:
        return str(self.lines[check]["host"])

    def last_words(self, check: str) -> str:
        """The line that says why a check failed: the last that names a fault, else the last."""
        lines = [line.strip() for line in self.err(check).splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"fatal|error|cannot|not |denied|no such|fail", line, re.IGNORECASE)]
        return shown((telling or lines or [f"exit code {self.exit(check)}, without a word"])[-1])

    @property
    def planned(self) -> list[str]:
        names = self.start.get("checks")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    @property
    def partition_key(self) -> str:
        return f"partitions.{self.plan.partition_name}"


def shown(text: str) -> str:
    """Foreign words as one printable line of bounded length."""
    return plain(" ".join(text.split()))[:400]


def checked(name: str, verdict: Verdict, detail: str, fix: str = "") -> Checked:
    return Checked(name=name, verdict=verdict, detail=shown(detail), fix=shown(fix))


def read(directory: Path) -> Left:
    """What a job left; KitError where the directory is of no such job."""
    run = load_run(directory)
    if run.benchmark != NAME:
        raise KitError(f"{directory}: a run of {run.benchmark}, not of kit doctor; kit collect judges it")
    left = Left(directory, run, plan_of(directory, run), read_table(plain_file(directory, START)))
    for line in left.text("doctor.jsonl").splitlines():
        try:
            entry = json.loads(line)
            known = {"check": str, "exit": int, "seconds": int, "host": str}
            if {key: type(value) for key, value in entry.items()} == known:
                left.lines[entry["check"]] = entry
        except (ValueError, AttributeError, RecursionError):
            continue  # the disk was full while it was written
    return left


def judge(directory: Path) -> Outcome:
    """The outcome of a job that has ended; KitError while it has not."""
    left = read(directory)
    state = current_state(directory, left.run)
    if state.name in ("rendered", "submitted", "running"):
        raise KitError(
            f"{directory}: its job {left.run.job} is {state}; ask again when it has ended: kit doctor {directory}"
        )
    checks = [*job(left, str(state))]
    planned = [name for name in JUDGES if name in left.planned]
    for name in planned:
        if left.ended(name):
            checks.append(JUDGES[name](left))
        else:
            lost = name == next(word for word in left.planned if not left.ended(word))
            fix = "see job.out, and what stands above" if lost else "mend what stands above"
            checks.append(checked(name, "FAIL", "did not end" if lost else "was not made", fix))
    return Outcome(
        kit=__version__,
        date=datetime.now(UTC),
        site=left.run.site,
        partition=left.run.partition,
        described=description(left.plan.site),
        nodes=left.plan.placement.nodes,
        hosts=sorted({shown(str(line["host"])) for line in left.lines.values() if line["host"]}),
        image=left.run.image.name,
        digest=left.run.image.digest,
        checks=checks,
    )


def job(left: Left, state: str) -> Iterator[Checked]:
    """Whether the job itself came to its end, and what its script refused before the first check."""
    refusals = re.findall(r"^job\.sh: (.*)$", left.text("job.out"), re.MULTILINE)
    if left.ended("end"):
        yield checked("job", "PASS", f"job {left.run.job} ran on {left.host('start')}")
    elif refusals:
        key = next((key for key in ("container.binds", "scratch", "module") if key in refusals[-1]), "")
        way = {
            "container.binds": "container.binds: a folder that is on the compute nodes, or without it",
            "scratch": f"{left.partition_key}.scratch: a folder that is on the compute nodes",
            "module": "modules and module_use: as `module avail` shows them on a compute node",
        }
        yield checked("job", "FAIL", refusals[-1], way.get(key, "see job.out"))
    else:
        last = left.text("job.out").strip().rpartition("\n")[2]
        yield checked(
            "job",
            "FAIL",
            f"{state}; its last words: {last or 'none'}",
            f"read {left.directory}/job.out; if it is empty the scheduler knows why, or the run directory is full or "
            "not on compute nodes",
        )


def runtime(left: Left) -> Checked:
    if left.exit("runtime"):
        key = "container.runtime, or modules and prologue that bring it"
        return checked("runtime", "FAIL", f"{left.host('runtime')}: {left.last_words('runtime')}", key)
    return checked("runtime", "PASS", left.out("runtime"))


def start(left: Left) -> Checked:
    if left.exit("start"):
        hint = "the image must lie where compute nodes see it (KIT_CACHE), and container.runtime and container.args must fit"
        return checked("start", "FAIL", f"{left.run.image.name}: {left.last_words('start')}", hint)
    system = re.search(r'PRETTY_NAME="?([^"\n]*)', left.out("start"))
    detail = f"{left.run.image.name} starts in {left.lines['start']['seconds']} s: {system[1] if system else 'no name'}"
    if re.search(r"sandbox|extract", left.err("start"), re.IGNORECASE):
        fix = "APPTAINER_TMPDIR in the table environment: a folder with room; or squashfuse on the nodes"
        return checked("start", "WARN", f"{detail}; the image is unpacked at each start, in /tmp", fix)
    return checked("start", "PASS", detail)


def clock(left: Left) -> Checked:
    times = [float(word) for word in left.out("clock").split() if re.fullmatch(r"\d+(\.\d+)?", word)]
    if left.exit("clock") or len(times) != 3:
        return checked(
            "clock", "FAIL", left.last_words("clock"), "the run directory must be writable on compute nodes: --runs"
        )
    ahead = times[1] - times[2] if times[1] > times[2] else min(0.0, times[1] - times[0])
    login = left.start.get("ahead")
    login = float(login) if isinstance(login, int | float) and math.isfinite(login) else 0.0
    off = max(abs(ahead), abs(login - ahead))
    detail = (
        f"{left.host('clock')}: {ahead:+.1f} s between its clock and the file system's, {login:+.1f} s on the login node"
    )
    fix = "the clocks of nodes and file servers must agree (NTP): tell whoever runs the site; runs are refused for it"
    if off > CLOCKS:
        return checked("clock", "FAIL", detail, fix)
    return checked("clock", "WARN" if off > 2 else "PASS", detail, fix if off > 2 else "")


def numbers(text: str) -> set[int]:
    """A list of the kernel, `0-3,8`."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if match:
            found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found


def usable(text: str) -> tuple[int, int, float]:
    """(cores, hardware threads of one, gigabytes of memory) that a node gives to a job, from the words of the check."""
    allowed, siblings, most, memory = set[int](), dict[int, str](), math.inf, math.inf
    quota = 0
    for line in text.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        if key == "Cpus_allowed_list":
            allowed = numbers(value)
        elif key == "siblings":
            name, _, others = value.partition(" ")
            siblings[int(re.sub(r"\D", "", name) or 0)] = others
        elif key == "MemTotal":
            memory = min(memory, int(re.sub(r"\D", "", value) or 0) * 1024)
        elif key in ("memory.max", "memory.limit_in_bytes") and value.isdigit():
            memory = min(memory, int(value))
        elif key == "cpu.max" and re.fullmatch(r"\d+ \d+", value):
            time, period = map(int, value.split())
            most = min(most, time / max(1, period))
        elif key == "cpu.cfs_quota_us":
            quota = int(value) if value.isdigit() else 0
        elif key == "cpu.cfs_period_us" and quota and value.isdigit():
            most = min(most, quota / max(1, int(value)))
    cores = {siblings.get(number, str(number)) for number in allowed}
    threads = max((len(numbers(siblings.get(number, ""))) for number in allowed), default=1) or 1
    count = len(cores)
    if most < len(allowed):
        count = max(1, min(count, math.floor(most / threads)))
    return count, threads, memory / 1e9 if math.isfinite(memory) else 0.0


def limits(left: Left) -> Checked:
    partition, placement = left.plan.partition, left.plan.placement
    cores, threads, memory = usable(left.out("limits"))
    host, key = left.host("limits"), left.partition_key
    if not cores:
        return checked("limits", "FAIL", f"{host}: {left.last_words('limits')}", "the job must run on Linux with /proc")
    wanted = int(asked(left.plan)["cores_per_node"])
    have = cores * (threads if partition.hyperthreads else 1)
    detail = f"{host}: {cores} cores of {threads} hardware thread{'s' if threads > 1 else ''}, {memory:.0f} GB"
    if have < wanted:
        return checked(
            "limits",
            "FAIL",
            f"{detail}; a job may use {have} cores of it, and {wanted} are to be used",
            f"{key}.cores: {cores} if the node has no more; else exclusive or directives, so that a job is given all",
        )
    share = asked(left.plan)["memory_gb"] or partition.memory_gb
    if share and memory and memory < 0.9 * share:
        fix = (
            f'{key}.memory_gb: {memory:.0f} if the node has no more; else memory_request = "node", so that a job is given it'
        )
        return checked("limits", "FAIL", f"{detail}; {share:.0f} GB are to be used", fix)
    if partition.scheduler != "local" and partition.exclusive and partition.cores and have > wanted:
        return checked("limits", "WARN", f"{detail}; the site says {wanted}", f"{key}.cores: {cores}, or some lie idle")
    if threads != partition.hardware_threads and partition.scheduler != "local":
        fix = f"{key}.hardware_threads: {threads}, so that ranks are bound to cores and not to halves of one"
        return checked("limits", "WARN", f"{detail}; the site says {partition.hardware_threads}", fix)
    return checked("limits", "PASS", f"{detail}; {wanted} cores are used of a node" if placement.cores else detail)


def binds(left: Left) -> Checked:
    lines = [line for line in left.out("binds").splitlines() if re.match(r"[a-z]+ /", line)]
    bad = [line for line in lines if line.startswith(("absent ", "unwritable ", "unreadable "))]
    if left.exit("binds") or not lines:
        return checked("binds", "FAIL", left.last_words("binds"), "container.binds: folders that are on the compute nodes")
    if bad:
        fixes = {
            "absent": "container.binds: a folder that is on the compute nodes",
            "unwritable": "container.binds: with :ro behind it, or a folder below it in which you may write",
            "unreadable": "container.binds: a folder that you may read",
        }
        own = {
            str(left.directory): "--runs: a folder on a file system that compute nodes can write",
            left.run.rendering.data if left.run.rendering else "": "KIT_CACHE: a folder that compute nodes see",
        }
        word, _, place = bad[0].partition(" ")
        detail = "; ".join(f"{line} in the container" for line in bad)
        return checked("binds", "FAIL", detail, own.get(place, fixes[word]))
    closed = [line.removeprefix("closed ") for line in lines if line.startswith("closed ")]
    note = f"; you may not write in {', '.join(closed)} itself" if closed else ""
    return checked("binds", "PASS", f"{len(lines)} folders are there, and can be written where they should be{note}")


def space(left: Left) -> Checked:
    free: dict[str, int] = {}
    for line in left.out("space").splitlines():
        count, _, place = line.strip().partition(" ")
        if count.isdigit():
            free[place] = int(count)
    detail = ", ".join(f"{decimal(count)} free in {place}" for place, count in free.items())
    full = [line.removeprefix("full ") for line in left.out("space").splitlines() if line.startswith("full ")]
    if full or left.exit("space"):
        return checked(
            "space",
            "FAIL",
            f"{', '.join(full) or 'a folder'} cannot take {decimal(TRIAL)}: {left.last_words('space')}; {detail}",
            "quota or disk is full: make room, or another place: --runs, scratch of the partition, TMPDIR in environment",
        )
    small = [place for place, count in free.items() if count < ROOM]
    if small:
        fix = "more room for runs (--runs), scratch, or the unpacked image (APPTAINER_TMPDIR in environment)"
        return checked("space", "WARN", f"{detail}; {decimal(int(ROOM))} are good to have", fix)
    return checked("space", "PASS", detail)


def data(left: Left) -> Checked:
    folder = left.start.get("data", "")
    if left.exit("data"):
        fix = "KIT_CACHE: a folder that compute nodes see; data that differ: remove their folder, and they are made again"
        return checked("data", "FAIL", f"{folder}: {left.last_words('data')}", fix)
    count = len(left.text("data.sums").splitlines())
    return checked("data", "PASS", f"{folder}: {count} files are as they were made")


def family(text: str) -> str:
    return next((name for mark, name, _ in FAMILIES if mark in text), "")


def first(text: str) -> str:
    return shown(next((line for line in text.splitlines() if line.strip()), ""))


def mpi(left: Left) -> Checked:
    """The MPI of the site beside that of the image; whether they understand each other is for the ranks to show."""
    partition, container = left.plan.partition, left.plan.site.container
    outside = left.out("mpi_outside") or left.err("mpi_outside")
    within = first(left.out("mpi_inside") or left.err("mpi_inside"))
    detail = f"outside {first(outside)}, inside {within or 'no mpirun'}"
    if left.exit("mpi_outside") == 127:
        fix = f"{left.partition_key}.launcher, or modules and prologue that bring {partition.launcher}"
        return checked("mpi", "FAIL", f"{partition.launcher}: {left.last_words('mpi_outside')}", fix)
    found = family(outside)
    if container.mpi_family and found and found != container.mpi_family:
        return checked("mpi", "WARN", f"{detail}; the site says {container.mpi_family}", f"container.mpi_family: {found}")
    if found and left.plan.image.mpi and found != left.plan.image.mpi:
        fix = "an image with the MPI of the site, a launcher that starts either (srun), or container.mpi = inside"
        return checked("mpi", "WARN", f"{detail}: of two families, whose ranks may not find each other", fix)
    return checked("mpi", "PASS", detail)


def pmi(left: Left) -> Checked:
    """What srun can tell ranks of each other by, and whether containers see the folder in which Slurm's PMIx meets them."""
    lines = (left.out("pmi") + left.err("pmi")).splitlines()
    words = [line.removeprefix("srun: ").strip() for line in lines if " = " not in line]
    known = [word for word in words if re.fullmatch(r"[\w.]+", word)] + re.findall(r"pmix_v\d+", " ".join(words))
    said = {key.strip(): value.strip() for key, mark, value in (line.partition(" = ") for line in lines) if mark}
    wanted, key = left.plan.partition.pmi, left.partition_key
    used = wanted or said.get("MpiDefault", "")
    detail = (
        f"srun knows {', '.join(dict.fromkeys(known)) or 'none'}; the site says {wanted or 'nothing, so that Slurm decides'}"
    )
    if wanted and known and wanted not in known:
        return checked("pmi", "FAIL", detail, f"{key}.pmi: one of {', '.join(known)}")
    folder = slurms_folder(said.get("TmpFS", ""))
    if (
        used.startswith("pmix")
        and folder
        and not any(inside_of(folder, str(bind)) for bind in left.plan.site.container.binds)
    ):
        fix = f"container.binds: {folder}"
        return checked("pmi", "FAIL", f"{detail}; its PMIx meets ranks below {folder}, which no container is given", fix)
    if not wanted and "pmix" in known and not used.startswith("pmix"):
        return checked("pmi", "WARN", detail, f"{key}.pmi: pmix, if the ranks do not find each other")
    return checked("pmi", "PASS", detail)


def inside_of(folder: str, bind: str) -> bool:
    source, _, rest = bind.partition(":")
    return rest.partition(":")[0] in ("", "ro", "rw", source) and Path(folder).is_relative_to(source)


def image_mpi(left: Left) -> Checked:
    if left.exit("mpi_inside"):
        return checked("mpi_inside", "WARN", f"no mpirun answers in the image: {left.last_words('mpi_inside')}")
    return checked("mpi_inside", "PASS", first(left.out("mpi_inside")))


def ranks(left: Left) -> Checked:
    """Whether the ranks formed one job, each with the cores and GPUs of the plan; kit-ranks says what is wrong."""
    placement = left.plan.placement
    if left.ended("program") and left.exit("program"):
        if left.exit("start"):
            return checked("ranks", "FAIL", "not looked at, since the image does not start", "mend what stands above")
        name = left.run.image.name
        return checked("ranks", "FAIL", "the image has no kit-ranks; rebuild it", f"kit image build {name}")
    said = re.findall(r"^kit-ranks: (.*)$", left.err("ranks"), re.MULTILINE)
    seen = []
    for line in left.out("ranks").splitlines():
        try:
            entry = json.loads(line)
            seen.append((int(entry["rank"]), int(entry["size"]), str(entry["host"]), str(entry["cores"]), str(entry["mpi"])))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    wanted = [(rank, placement.ranks) for rank in range(placement.ranks)]
    if left.exit("ranks") or [(rank, size) for rank, size, *_ in seen] != wanted:
        words, _, fix = (said[0] if said else left.last_words("ranks")).partition("In the site file: ")
        hint = fix or f"{left.partition_key}.launcher, launcher_args and pmi; container.mpi"
        return checked("ranks", "FAIL", words.strip(), hint)
    hosts = list(dict.fromkeys(host for _, _, host, _, _ in seen))
    cores = " | ".join(cores for _, _, _, cores, _ in seen[:8])
    cards = f", {placement.gpus} GPUs a node" if placement.gpus else ""
    detail = f"{len(seen)} ranks on {', '.join(hosts[:4])} are one job of {seen[0][4]}; cores {cores}{cards}"
    return checked("ranks", "PASS", detail)


JUDGES: dict[str, Callable[[Left], Checked]] = {
    "runtime": runtime,
    "start": start,
    "clock": clock,
    "limits": limits,
    "binds": binds,
    "space": space,
    "data": data,
    "mpi_outside": mpi,
    "pmi": pmi,
    "mpi_inside": image_mpi,
    "ranks": ranks,
}


def report(outcome: Outcome) -> str:
    """The checks as a table, and below each that is not well the way out."""
    lines = table([(c.verdict, c.name, c.detail) for c in outcome.checks], "lll").splitlines()
    found = []
    for line, check in zip(lines, outcome.checks, strict=True):
        found.append(line)
        if check.fix:
            found.append(f"      to fix it: {check.fix}")
    counts = [f"{sum(c.verdict == word for c in outcome.checks)} {word}" for word in ("PASS", "WARN", "FAIL")]
    found.append(f"{outcome.site}, partition {outcome.partition}, image {outcome.image}: {', '.join(counts)}")
    return "\n".join(found)
