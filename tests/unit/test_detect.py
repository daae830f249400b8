"""A site file from what a machine says: stand-ins answer in the form of each scheduler's commands."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kit import detect
from kit.core import limits
from kit.core.schema import parse
from kit.detect import queues as detect_queues
from kit.schedulers import SCHEDULERS
from kit.site import Site
from kit.site_files import check

CAPTURES = Path(__file__).parent / "captures"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts stand-ins on an otherwise empty PATH: {command with its arguments: what it prints}, or None to fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(detect, "KFD", tmp_path / "kfd")

    def make(answers: dict[str, str | None]) -> None:
        for name in {words.split()[0] for words in answers}:
            lines = ["#!/bin/sh", 'case "$*" in']
            for words, answer in answers.items():
                program, _, arguments = words.partition(" ")
                if program == name and answer is not None:
                    lines += [f"'{arguments}') /bin/cat <<'END'", answer.strip("\n"), "END", ";;"]
            lines += ["*) echo usage >&2; exit 1;;", "esac"]
            (folder / name).write_text("\n".join(lines) + "\n")
            (folder / name).chmod(0o755)

    return make


def found(tmp_path: Path) -> tuple[Site, str]:
    """The detected file, which must be one that a check accepts."""
    text = detect.detect()
    file = tmp_path / "found.toml"
    file.write_text(text)
    data = tomllib.loads(text)
    if data["scheduler"] in SCHEDULERS:
        assert [finding for finding in check(file) if finding.level == "error"] == []
        return parse(Site, {"name": "found", **data}, file), text
    pytest.skip(f"the kit does not speak {data['scheduler']}")


SLURM = {
    "sinfo --noheader --exact --format=%P|%a|%D|%c|%m|%G|%l|%f|%z": """
gpu|up|30|256|515000|gpu:a100:4(S:0-1)|2-00:00:00|gpu,a100|2:64:2
gpu|up|2|256|1031000|gpu:a100:4(S:0-1)|2-00:00:00|gpu,a100,hbm80g|2:64:2
cpu*|up|100|256|515000|(null)|1-12:00:00|cpu|2:64:2
long|inact|4|64|256000|(null)|infinite|(null)|2:32:1
""",
    "scontrol show partition --oneliner": """
PartitionName=cpu AllowAccounts=ALL Default=YES MaxNodes=64 MaxTime=1-12:00:00 MinNodes=0 OverSubscribe=EXCLUSIVE
PartitionName=gpu AllowGroups=ALL AllowAccounts=p1,p2 Default=NO MaxNodes=UNLIMITED MaxTime=2-00:00:00 MinNodes=2
PartitionName=long AllowAccounts=ALL MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0
""",
    "scontrol show config": "SlurmdSpoolDir          = /var/spool/slurmd\nTmpFS                   = /local/tmp-%n\n",
    "srun --mpi=list": "MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\nspecific pmix plugin versions available: pmix_v4\n",
    "apptainer --version": "apptainer version 1.3.4\n",
}


def test_slurm(commands: Any, tmp_path: Path) -> None:
    commands(SLURM)
    site, text = found(tmp_path)
    assert list(site.partitions) == ["cpu", "gpu", "long"]  # the default one first
    cpu, gpu, long = site.partitions.values()
    assert (cpu.scheduler, cpu.launcher, cpu.pmi, cpu.queue) == ("slurm", "srun", "pmix", "cpu")
    assert (cpu.max_nodes, cpu.max_minutes, cpu.cores, cpu.hardware_threads, cpu.memory_gb) == (64, 2160, 128, 2, 540)
    assert (gpu.max_nodes, gpu.min_nodes, gpu.max_minutes, gpu.gpus, gpu.gpu_type) == (32, 2, 2880, 4, "a100")
    assert (long.max_nodes, long.max_minutes, long.hardware_threads) == (4, detect_queues.LONG, 1)
    assert (site.container.mpi, site.container.binds) == ("outside", ["/local"])
    for line in (
        "max_nodes = 64 # MaxNodes of scontrol",
        'pmi = "pmix" # srun --mpi=list',
        "# it has 2 other nodes: 256 processors, 1031000 MiB, gres gpu:a100:4(S:0-1), features gpu,a100,hbm80g",
        "# accounts that may use it: p1,p2",
        "# it is inact now",
        "no limit; a week is written here",
        'runtime = "apptainer" # apptainer --version: apptainer version 1.3.4',
    ):
        assert line in text


PBS = {
    "qstat -B -f": "Server: polaris-pbs-01\n    server_state = Active\n    pbs_version = 2022.1.1.20220926110806\n",
    "qstat -Q -f": """
Queue: prod
    queue_type = Route
    route_destinations = small,
	medium
    enabled = True

Queue: small
    queue_type = Execution
    Priority = 150
    resources_max.nodect = 24
    resources_max.walltime = 03:00:00
    resources_min.nodect = 10
    enabled = True
    started = True

Queue: debug
    queue_type = Execution
    resources_max.nodect = 2
    resources_max.walltime = 01:00:00
    enabled = True
    started = False
""",
    "pbsnodes -a": """
x3001c0s13b0n0
     Mom = x3001c0s13b0n0.hsn
     ntype = PBS
     resources_available.mem = 527672492kb
     resources_available.ncpus = 64
     resources_available.ngpus = 4
     jobs = 1.pbs/0, 2.pbs/1,
	3.pbs/2

x3001c0s13b1n0
     Mom = x3001c0s13b1n0.hsn
     resources_available.mem = 527672492kb
     resources_available.ncpus = 64
     resources_available.ngpus = 4
""",
    "mpiexec --version": "mpiexec: PALS version 1.2.12\n",
}


def test_pbs(commands: Any) -> None:
    commands(PBS)
    text = detect.detect()
    site = tomllib.loads(text)
    assert (site["scheduler"], site["launcher"], list(site["partitions"])) == ("pbs", "pals", ["small", "debug"])
    small = site["partitions"]["small"]
    expected = {"max_nodes": 24, "min_nodes": 10, "max_minutes": 180, "cores": 64, "memory_gb": 540, "gpus": 4}
    assert expected.items() <= small.items()
    assert "# it takes or starts no jobs now" in text


LSF = {
    "bqueues -l": """
QUEUE: batch
  -- No description provided.

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS
 40    0  Open:Active       -    -    -    -     0     0     0     0     0    0     0

 MAXIMUM LIMITS:
 RUNLIMIT
 1440.0 min

SCHEDULING POLICIES:  FAIRSHARE
--------------------------------------------------------------------------------

QUEUE: killable
  -- Jobs that may be ended

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS
  1    0  Closed:Inact      -    -    -    -     0     0     0     0     0    0     0
""",
    "lshosts -w": """
HOST_NAME                       type       model  cpuf ncpus maxmem maxswp server RESOURCES
batch1                      LINUXPPC     POWER9  250.0     2   61.9G      -    Yes (CN)
a01n01                      LINUXPPC     POWER9  250.0    44  605.1G      -    Yes (CN)
a01n02                      LINUXPPC     POWER9  250.0    44  605.1G      -    Yes (CN)
login1                      LINUXPPC     POWER9  250.0     -       -      -     No ()
""",
    "jsrun --version": None,
}


def test_lsf(commands: Any) -> None:
    commands(LSF)
    text = detect.detect()
    site = tomllib.loads(text)
    assert (site["scheduler"], site["launcher"], site["single"]) == ("lsf", "jsrun", True)
    assert {"max_minutes": 1440, "max_nodes": 3, "cores": 44, "memory_gb": 649}.items() <= site["partitions"][
        "batch"
    ].items()
    assert site["partitions"]["killable"]["max_minutes"] == detect_queues.LONG
    assert "# it is Closed:Inact now" in text


GRIDENGINE = {
    "qconf -spl": "mpi\nsmp\n",
    "qconf -sql": "all.q\n",
    "qconf -sq all.q": "qname                 all.q\nhostlist              @allhosts\npe_list               smp \\\n"
    "                      mpi\nslots                 4\nh_rt                  48:00:00\n",
    "qconf -sp smp": "pe_name            smp\nslots              999\nallocation_rule    $pe_slots\n",
    "qconf -sp mpi": "pe_name            mpi\nslots              999\nallocation_rule    $fill_up\n",
    "qhost": """
HOSTNAME                ARCH         NCPU NSOC NCOR NTHR  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS
----------------------------------------------------------------------------------------------
global                  -               -    -    -    -     -       -       -       -       -
node-1                  lx-amd64       72    2   36   72  5.45  188.5G    1.8G     0.0     0.0
node-2                  lx-amd64       72    2   36   72  0.01  188.5G    1.8G     0.0     0.0
""",
    "qstat": "",
}


def test_gridengine_whose_qstat_is_not_that_of_pbs(commands: Any) -> None:
    commands(GRIDENGINE)
    name, queues, others = detect_queues.scheduler()
    assert (name, others) == ("gridengine", [])
    facts = {key: fact.value for key, fact in queues[0].facts.items()}
    assert facts == {
        "queue": "all.q",
        "max_minutes": 2880,
        "max_nodes": 2,
        "cores": 36,
        "hardware_threads": 2,
        "memory_gb": 202,
        "parallel_environment": "mpi",  # the one that spans hosts
    }


def test_hosts_of_an_old_grid_engine(commands: Any) -> None:
    old = "HOSTNAME                ARCH         NCPU  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS\n-----\n"
    commands(
        {**GRIDENGINE, "qhost": f"{old}node-1                  lx26-amd64      8  0.01   15.7G  392.5M    2.0G     0.0\n"}
    )
    facts = {key: fact.value for key, fact in detect_queues.scheduler()[1][0].facts.items()}
    assert (facts["cores"], facts["memory_gb"], "hardware_threads" in facts) == (8, 16, False)


FLUX = {
    "flux resource list --no-header --states=all --format={nnodes} {ncores} {ngpus}": "90 8640 360\n10 960 40\n0 0 0\n",
    "flux queue list --no-header --format={queue}|{limits.timelimit}|{limits.max.nnodes}": "pbatch|1d|64\npdebug|30m|inf\n",
}


def test_flux(commands: Any) -> None:
    commands(FLUX)
    site = tomllib.loads(detect.detect())
    assert (site["scheduler"], site["launcher"]) == ("flux", "flux")
    batch, debug = site["partitions"].values()
    assert batch == {"queue": "pbatch", "max_nodes": 64, "max_minutes": 1440, "cores": 96, "gpus": 4} or "queue" not in batch
    assert (debug["max_nodes"], debug["max_minutes"]) == (100, 30)


def test_pjm(commands: Any) -> None:
    commands(
        {"pjstat --rsc": "RSCUNIT   RSCGRP     STATUS\nrscunit_ft01   small   [ENABLE,START]\n-   large   [ENABLE,START]\n"}
    )
    text = detect.detect()
    site = tomllib.loads(text)
    assert (site["scheduler"], site["launcher"], list(site["partitions"])) == ("pjm", "mpiexec", ["small", "large"])
    assert "max_nodes, max_minutes, cores and memory_gb are missing" in text


def test_no_scheduler(commands: Any, tmp_path: Path) -> None:
    gpus = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)\n"
    commands({"nvidia-smi -L": gpus, "mpirun --version": "mpirun (Open MPI) 4.1.4\n\nReport bugs to ...\n", "sinfo": None})
    site, text = found(tmp_path)
    (partition,) = site.partitions.values()
    assert (partition.scheduler, partition.gpus, partition.gpu_vendor, partition.bind) == ("local", 2, "nvidia", "none")
    assert partition.cores >= 1
    assert partition.memory_gb >= 1
    assert site.container.mpi == "inside"
    assert 'launcher = "mpirun" # mpirun --version: mpirun (Open MPI) 4.1.4' in text
    assert "gpus = 2 # nvidia-smi -L: NVIDIA H100 80GB HBM3" in text


def test_the_words_of_a_real_gpu(commands: Any, tmp_path: Path) -> None:
    """As nvidia-smi of driver 580.159.04 listed the H100 of a machine with 16 cores, its number removed."""
    commands({"nvidia-smi -L": (CAPTURES / "h100/nvidia-smi-L.txt").read_text()})
    site, text = found(tmp_path)
    assert [(partition.gpus, partition.gpu_vendor) for partition in site.partitions.values()] == [(1, "nvidia")]
    assert "gpus = 1 # nvidia-smi -L: NVIDIA H100 80GB HBM3\n" in text
    assert "UUID" not in text


def test_two_schedulers_are_said_to_be_two(commands: Any) -> None:
    commands(SLURM | GRIDENGINE)
    assert "# The scheduler gridengine answers here as well." in detect.detect()


def test_a_command_that_lies_cannot_break_out_of_its_comment(commands: Any) -> None:
    commands({**SLURM, "apptainer --version": 'x"\t\x1b[2J # y\n[container]\nprologue = ["rm"]\n'})
    text = detect.detect()
    assert "\x1b" not in text
    assert "prologue" not in str(tomllib.loads(text))


def test_gpus_of_amd_are_nodes_with_units(tmp_path: Path, commands: Any) -> None:
    commands({})
    for number, units in enumerate((0, 440, 440)):
        (tmp_path / f"kfd/{number}").mkdir(parents=True)
        (tmp_path / f"kfd/{number}/properties").write_text(f"cpu_cores_count 0\nsimd_count {units}\n")
    found = detect.gpus(tmp_path / "kfd")
    assert (found["gpus"].value, found["gpu_vendor"].value) == (2, "amd")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("1-12:00:00", 2160),
        ("2-00", 2880),
        ("24:00:00", 1440),
        ("1:00", 1),
        ("90", 90),
        ("infinite", 0),
        ("INFINITY", 0),
        ("", 0),
    ],
)
def test_times_of_schedulers(text: str, minutes: int) -> None:
    assert detect_queues.clock(text) == minutes


@pytest.mark.parametrize(("text", "minutes"), [("1d", 1440), ("1.5h", 90), ("30m", 30), ("3600", 60), ("inf", 0), ("0s", 0)])
def test_durations_of_flux(text: str, minutes: int) -> None:
    assert detect_queues.duration(text) == minutes


@pytest.mark.parametrize(("text", "value"), [("527672492kb", 540.3), ("605.1G", 649.7), ("7.7g", 8.3), ("-", 0), ("..", 0)])
def test_amounts_of_memory(text: str, value: float) -> None:
    assert detect_queues.gigabytes(text) == pytest.approx(value, abs=0.1)


@pytest.mark.parametrize(
    ("place", "folder"),
    [("/tmp", ""), ("/tmp/x", ""), ("/local", "/local"), ("/local/%n", "/local"), ("/local/tmp-%n", "/local"), ("", "")],
)
def test_the_folder_of_slurms_pmix(place: str, folder: str) -> None:
    assert detect.slurms_folder(place) == folder


def test_an_old_srun_says_it_on_stderr(commands: Any, tmp_path: Path) -> None:
    commands({})
    (tmp_path / "bin/srun").write_text("#!/bin/sh\necho 'srun: MPI types are...\nsrun: none\nsrun: pmix' >&2\n")
    (tmp_path / "bin/srun").chmod(0o755)
    found = detect.pmi()
    assert found is not None
    assert found.value == "pmix"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal:       24000000 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def siblings(threads: int, count: int = 8) -> dict[str, str]:
    cores = count // threads
    return {
        f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": ",".join(
            str(number % cores + cores * thread) for thread in range(threads)
        )
        for number in range(count)
    }


def test_cores_are_physical_ones_that_affinity_leaves(tmp_path: Path) -> None:
    root = machine(tmp_path, siblings(2))
    assert (limits.cores(set(range(8)), root).cores, limits.cores(set(range(8)), root).threads) == (4, 2)
    assert limits.cores({0, 1}, root).cores == 2  # one thread of each of two cores


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/job/step\n",
            "sys/fs/cgroup/job/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/job/step/x": "",
        },
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_cores_within_the_quota_of_a_control_group(tmp_path: Path, files: dict[str, str]) -> None:
    found = limits.cores(set(range(8)), machine(tmp_path, files | siblings(1)))
    assert (found.cores, found.source) == (2, "a control group allows 2 processors")


def test_no_quota_is_no_limit(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    root = machine(tmp_path, files | siblings(1))
    assert limits.cores(set(range(8)), root).cores == 8
    assert limits.memory(root) == (24.576, "/proc/meminfo")


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("0::/job/step\n", "sys/fs/cgroup/job/memory.max"),
        ("4:memory:/job\n", "sys/fs/cgroup/memory/job/memory.limit_in_bytes"),
    ],
)
def test_memory_within_the_limit_of_a_control_group(tmp_path: Path, cgroup: str, file: str) -> None:
    root = machine(tmp_path, {"proc/self/cgroup": cgroup, file: "8000000000\n"})
    assert limits.memory(root) == (8.0, f"{Path(file).name} of the control group")
