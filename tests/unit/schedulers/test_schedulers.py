"""PBS, LSF, Flux, PJM and Cobalt, against stand-ins for their commands that refuse what the real ones refuse.

The stand-ins are beside this file (stub_*.py). The body of the script is a short one of its own: what is tested is the
directives, and the road of a job.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jinja2
import pytest

from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import load_run
from kit.runs.states import current_state
from kit.schedulers import OPTIONAL, SCHEDULERS, Job, cobalt, flux, lsf, pbs, pjm
from kit.script.quoting import environment
from kit.site import Partition, load_site

HERE = Path(__file__).parent
MODULES: dict[str, ModuleType] = {"pbs": pbs, "lsf": lsf, "flux": flux, "pjm": pjm, "cobalt": cobalt}
COMMANDS = {
    "pbs": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "flux": ("flux",),
    "pjm": ("pjsub", "pjstat", "pjdel"),
    "cobalt": ("qsub", "qstat", "qdel"),
}
ARRAYS = ("pbs", "lsf", "pjm")

BODY = """#!/bin/bash
{% block first %}{% endblock %}
# A title, and comments, as the real script has them before its directives
{% block directives %}{% endblock %}
set -euo pipefail
cd {{ directory | q }}
trap 'echo interrupted; exit 130' INT TERM HUP USR1 USR2 XCPU
echo "task ${PBS_ARRAY_INDEX:-${LSB_JOBINDEX:-${PJM_BULKNUM:-none}}} in $PWD"
[ ! -e hold ] || touch held
while [ -e hold ]; do sleep 0.02; done
exit "$(cat code 2>/dev/null || echo 0)"
"""

DEFAULTS: dict[str, Any] = {
    "queue": "",
    "account": "",
    "qos": "",
    "constraint": "",
    "reservation": "",
    "exclusive": True,
    "memory_request": "",
    "memory_resource": "h_vmem",
    "parallel_environment": "",
    "network": "",
    "mail": "",
    "gpu_type": "",
    "gpu_request": "node",
    "hyperthreads": False,
    "hardware_threads": 1,
    "scratch_gb": 0.0,
    "launcher": "mpiexec",
    "directives": [],
}
# What every machine of PJM asks for; and a value for each word that is not the default.
NEEDED: dict[str, dict[str, Any]] = {"pjm": {"queue": "small"}}
SPOKEN: dict[str, Any] = {
    "queue": "prod",
    "account": "ab12",
    "constraint": "kind=fast",
    "reservation": "R123",
    "exclusive": False,
    "memory_request": "node",
    "memory_resource": "mem",
    "parallel_environment": "ncpus",
    "network": "torus",
    "mail": "someone@centre.edu",
    "gpu_request": "none",
    "qos": "high",
    "gpu_type": "a100",
    "scratch_gb": 10.0,
}


def rendered(name: str, directory: Path | str, gpus: int = 0, minutes: int = 90, **partition: Any) -> str:
    """The script that the template of a scheduler makes, for 2 nodes of 8 cores with 4 ranks of 2 threads."""
    words = SimpleNamespace(**{**DEFAULTS, **NEEDED.get(name, {}), **partition})
    env = environment().overlay()  # the kit keeps its own
    assert env.loader is not None
    env.loader = jinja2.ChoiceLoader([jinja2.DictLoader({"job.sh.j2": BODY}), env.loader])
    return env.get_template(f"{name}.sh.j2").render(
        partition=words,
        job_name="kitrelion",
        nodes=2,
        ranks=8,
        ranks_per_node=4,
        threads=2,
        cores_per_node=16 if words.exclusive else 8,
        memory_gb=(128.0 if words.exclusive else 64.0) if words.memory_request else 0.0,
        gpus=gpus,
        minutes=minutes,
        warn=60,
        directory=str(directory),
    )


def directives(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("#PBS", "#BSUB", "# flux:", "#PJM", "#COBALT"))]


class Cluster:
    """The stand-in for a scheduler, and what it does with a job when a test says so."""

    def __init__(self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.module = name, MODULES[name]
        self.jobs, self.home, self.run = folder / "jobs", folder / "home", folder / "a run"
        for made in (self.jobs, self.home, self.run, folder / "bin"):
            made.mkdir()
        for command in COMMANDS[name]:
            program = folder / "bin" / command
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -ES {HERE}/stub_{name}.py {command} "$@"\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("STUB_JOBS", str(self.jobs))
        monkeypatch.setenv("HOME", str(self.home))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        if name == "cobalt":  # which cannot have blanks in a path
            self.run = folder / "run"
            self.run.mkdir()

    def script(self, **changes: Any) -> Path:
        file = self.run / "job.sh"
        file.write_text(rendered(self.name, self.run, **changes))
        return file

    def told(self, *commands: str) -> list[list[str]]:
        """The commands that were called so far, of these names."""
        log = self.jobs / "commands.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line[0] in commands or (line[0] == "flux" and line[1] in commands)]

    def load(self, job: str) -> dict[str, Any]:
        return json.loads((self.jobs / f"{job}.json").read_text())

    def change(self, job: str, **values: Any) -> None:
        (self.jobs / f"{job}.json").write_text(json.dumps({**self.load(job), **values}))

    def startable(self, job: str) -> bool:
        after = self.load(job)["after"]
        return self.load(job)["state"] == "pending" and (not after or self.load(after)["state"] == "gone")

    def start(self, job: str) -> None:
        """Starts the script as the scheduler does: from its folder, with its output opened in its way."""
        assert self.startable(job)
        entry = self.load(job)
        variables = {self.module.ARRAY: str(entry["index"])} if entry["index"] else {}
        with Path(entry["cwd"], entry["out"]).open(entry["mode"]) as out:
            self.processes[job] = subprocess.Popen(
                ["bash", entry["script"]],
                cwd=entry["start"],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.change(job, state="running", pid=self.processes[job].pid)

    def end(self, job: str, reason: str = "") -> int:
        """Waits for the script, and writes down how it ended."""
        code = self.processes[job].wait(60)
        self.change(job, state="gone", exit=code, reason=reason)
        return code

    def held(self) -> None:
        """Waits until the script of a job is at the place where it waits."""
        for _ in range(3000):
            if (self.run / "held").exists():
                return
            time.sleep(0.01)
        raise AssertionError("the script did not start")


@pytest.fixture(params=MODULES)
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster(request.param, tmp_path, monkeypatch)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


only = lambda *names: pytest.mark.parametrize("cluster", names, indirect=True)  # noqa: E731


def test_a_job_waits_runs_and_is_gone(cluster: Cluster) -> None:
    scheduler = cluster.module
    (cluster.run / "job.out").write_text("of an earlier job\n")
    job = scheduler.submit(cluster.script())
    assert scheduler.states([job])[job].state == "pending"
    if cluster.name in ("pbs", "lsf", "flux"):
        assert scheduler.states([job])[job].reason  # and it is one line
        assert "\n" not in scheduler.states([job])[job].reason
    (cluster.run / "hold").touch()
    cluster.start(job)
    cluster.held()
    assert scheduler.states([job])[job].state == "running"
    (cluster.run / "hold").unlink()
    assert cluster.end(job) == 0
    assert scheduler.states([job])[job] == Job("gone")
    assert (cluster.run / "job.out").read_text() == f"of an earlier job\ntask none in {cluster.run}\n"
    assert (cluster.run / "scheduler.out").read_text() == ""


def test_a_failed_job_says_how_it_ended(cluster: Cluster) -> None:
    (cluster.run / "code").write_text("3")
    job = cluster.module.submit(cluster.script())
    cluster.start(job)
    assert cluster.end(job) == 3
    reasons = {"pbs": "Exit_status = 3", "lsf": "exit code 3", "flux": "FAILED", "pjm": "exit code 3", "cobalt": ""}
    assert cluster.module.states([job])[job] == Job("gone", reasons[cluster.name])


def test_a_time_limit_is_named(cluster: Cluster) -> None:
    told = {"lsf": "TERM_RUNLIMIT: job killed after reaching LSF run time limit", "flux": "timeout", "pjm": "elapse"}
    job = cluster.module.submit(cluster.script())
    cluster.start(job)
    cluster.end(job, told.get(cluster.name, ""))
    cluster.change(job, exit=-29 if cluster.name == "pbs" else 130)
    reasons = {
        "pbs": "Exit_status = -29 (walltime exceeded)",
        "lsf": told["lsf"],
        "flux": "TIMEOUT: timeout: resource allocation expired | twice",
        "pjm": "PJM code 11 (elapsed time limit), exit code 130",
        "cobalt": "",
    }
    assert cluster.module.states([job])[job].reason == reasons[cluster.name]


def test_many_jobs_are_one_question_and_every_job_is_in_the_answer(cluster: Cluster) -> None:
    scheduler = cluster.module
    jobs = [scheduler.submit(cluster.script()) for _ in range(3)]
    cluster.start(jobs[1])
    query = {"pbs": "qstat", "lsf": "bjobs", "flux": "jobs", "pjm": "pjstat", "cobalt": "qstat"}[cluster.name]
    answer = scheduler.states(jobs)
    assert [answer[job].state for job in jobs] == ["pending", "running", "pending"]
    assert len(cluster.told(query)) == 1
    cluster.end(jobs[1])
    strange = {"pbs": "999.stub", "flux": "f999Zq"}.get(cluster.name, "999")
    answer = scheduler.states([strange, *jobs, jobs[0]])
    assert {job: answer[job].state for job in (strange, *jobs)} == dict(
        zip((strange, *jobs), ("gone", "pending", "gone", "pending"), strict=True)
    )
    assert len(cluster.told(query)) <= 3  # without those it does not know, or the history of PJM
    assert scheduler.states([strange]) == {strange: Job("gone")}
    asked = len(cluster.told(query))
    assert scheduler.states([]) == {}
    assert len(cluster.told(query)) == asked


def test_a_waiting_job_is_cancelled(cluster: Cluster) -> None:
    job = cluster.module.submit(cluster.script())
    cluster.module.cancel(job)
    assert cluster.module.states([job])[job].state == "gone"
    cluster.module.cancel(job)  # it has ended: nothing to do


def test_a_running_job_writes_down_that_it_was_cancelled(cluster: Cluster) -> None:
    (cluster.run / "hold").touch()
    job = cluster.module.submit(cluster.script())
    cluster.start(job)
    cluster.held()
    cluster.module.cancel(job)
    assert cluster.end(job) == 130
    assert (cluster.run / "job.out").read_text().endswith("interrupted\n")
    cluster.module.cancel(job)


@only(*ARRAYS)
@pytest.mark.parametrize("count", [1, 3])
def test_an_array(cluster: Cluster, count: int) -> None:
    scheduler = cluster.module
    job = scheduler.submit(cluster.script(), tasks=count)
    tasks = [scheduler.task(job, index) for index in range(1, count + 1)]
    assert len({*tasks, job}) == count + 1
    assert {file.stem for file in cluster.jobs.glob("*.json")} == set(tasks)
    assert scheduler.states([job, *tasks])[job].state == "pending"
    cluster.start(tasks[-1])
    cluster.end(tasks[-1])
    answer = scheduler.states([job, *tasks])
    assert answer[tasks[-1]].state == "gone"
    assert answer[job].state == ("gone" if count == 1 else "pending")
    assert f"task {count} in" in (cluster.run / "job.out").read_text()
    if count > 1:
        scheduler.cancel(tasks[0])
        assert [scheduler.states(tasks)[task].state for task in tasks] == ["gone", "pending", "gone"]


@only("flux", "cobalt")
def test_no_arrays_where_there_are_none(cluster: Cluster) -> None:
    assert cluster.module.ARRAY == ""
    with pytest.raises(KitError, match=r"no arrays.*max_jobs_in_array"):
        cluster.module.submit(cluster.script(), tasks=2)
    with pytest.raises(KitError, match="no arrays"):
        cluster.module.task("1", 1)
    assert not cluster.told("qsub", "batch")


@only("pbs", "lsf", "flux", "pjm")
def test_a_job_after_another_one(cluster: Cluster) -> None:
    scheduler = cluster.module
    script = cluster.script(directives=["--step"] if cluster.name == "pjm" else [])
    (cluster.run / "code").write_text("7")
    first = scheduler.submit(script)
    second = scheduler.submit(script, after=first)
    assert cluster.startable(first)
    assert not cluster.startable(second)
    cluster.start(first)
    assert not cluster.startable(second)
    cluster.end(first)
    assert cluster.startable(second)  # however the first one ended


def test_the_wait_is_refused_where_it_cannot_be_said(cluster: Cluster) -> None:
    scheduler = cluster.module
    first = scheduler.submit(cluster.script())
    if cluster.name == "pjm":
        with pytest.raises(KitError, match="orders the steps of a step job only"):
            scheduler.submit(cluster.script(), after=first)
        cluster.start(first)
        cluster.end(first)
        assert cluster.startable(scheduler.submit(cluster.script(), after=first))  # there is nothing to wait for any more
    elif cluster.name == "cobalt":
        with pytest.raises(KitError, match="success of job 101, and not for its end"):
            scheduler.submit(cluster.script(), after=first)
    else:
        strange = {"pbs": "Unknown Job Id", "lsf": "Dependent job not found", "flux": "does not exist"}[cluster.name]
        with pytest.raises(KitError, match=strange):
            scheduler.submit(cluster.script(), after="f999Zq" if cluster.name == "flux" else "999")


@pytest.mark.parametrize("folder", ["with blanks", "100%J %n", "it's {{ id }} #1", "$HOME;x"])
def test_any_folder(cluster: Cluster, folder: str) -> None:
    cluster.run = cluster.run.parent / folder
    cluster.run.mkdir()
    if cluster.module.problem(str(cluster.run)):
        assert cluster.name == "cobalt"
        assert " " in folder
        return
    job = cluster.module.submit(cluster.script())
    cluster.start(job)
    assert cluster.end(job) == 0
    assert (cluster.run / "job.out").read_text() == f"task none in {cluster.run}\n"


WHOLE: dict[str, list[str]] = {
    "pbs": [
        "#PBS -N kitrelion",
        "#PBS -S /bin/bash",
        "#PBS -l select=2:ncpus=16:mpiprocs=4:ompthreads=2:ngpus=4:mem=122070mb:system=polaris",
        "#PBS -l place=scatter:excl",
        "#PBS -l walltime=01:30:00",
        "#PBS -q prod",
        "#PBS -A ab12",
        "#PBS -P ab12",
        "#PBS -m ae",
        "#PBS -M someone@centre.edu",
        "#PBS -r n",
        "#PBS -j oe",
        "#PBS -o scheduler.out",
        "#PBS -l filesystems=home:eagle",
    ],
    "lsf": [
        "#BSUB -J kitrelion",
        "#BSUB -n 32",
        '#BSUB -R "span[ptile=16]"',
        '#BSUB -R "select[model==fast]"',
        '#BSUB -gpu "num=4/host:mode=shared"',
        "#BSUB -x",
        "#BSUB -W 1:30",
        "#BSUB -wt 1",
        "#BSUB -wa TERM",
        "#BSUB -q prod",
        "#BSUB -P ab12",
        "#BSUB -U R123",
        "#BSUB -N",
        "#BSUB -u someone@centre.edu",
        "#BSUB -o scheduler.out",
        "#BSUB -G guests",
    ],
    "flux": [
        "# flux: --job-name=kitrelion",
        "# flux: -N 2",
        "# flux: -n 2",
        "# flux: -x",
        "# flux: -t 90m",
        "# flux: --signal=USR1@60s",
        "# flux: -q prod",
        "# flux: --setattr=system.bank=ab12",
        "# flux: --requires='fast|-slow'",
        "# flux: --output=scheduler.out",
        "# flux: --error=scheduler.out",
        "# flux: --urgency=16",
    ],
    "pjm": [
        "#PJM --name kitrelion",
        '#PJM -L "node=2:torus"',
        '#PJM -L "rscgrp=prod"',
        '#PJM -L "elapse=01:30:00"',
        '#PJM --mpi "proc=8,max-proc-per-node=4"',
        "#PJM -g ab12",
        "#PJM -m e",
        "#PJM --mail-list someone@centre.edu",
        "#PJM -j",
        "#PJM -o scheduler.out",
        "#PJM -x PJM_LLIO_GFSCACHE=/vol0004",
    ],
    "cobalt": [
        "#COBALT -n 2",
        "#COBALT -t 90",
        "#COBALT --jobname kitrelion",
        "#COBALT -q prod",
        "#COBALT -A ab12",
        "#COBALT --attrs mcdram=cache:numa=quad",
        "#COBALT -M someone@centre.edu",
        "#COBALT -o scheduler.out",
        "#COBALT -e scheduler.out",
        "#COBALT --debuglog scheduler.log",
        "#COBALT --env A=1",
    ],
}
MORE: dict[str, dict[str, Any]] = {
    "pbs": {"constraint": "system=polaris", "memory_request": "node", "directives": ["-l filesystems=home:eagle"]},
    "lsf": {
        "constraint": "model==fast",
        "memory_request": "node",
        "reservation": "R123",
        "directives": ["-G guests"],
    },
    "flux": {"constraint": "fast|-slow", "directives": ["--urgency=16"]},
    "pjm": {"network": "torus", "directives": ["-x PJM_LLIO_GFSCACHE=/vol0004"]},
    "cobalt": {"constraint": "mcdram=cache:numa=quad", "directives": ["--env A=1"]},
}


def whole(name: str) -> dict[str, Any]:
    """Nearly every word that a scheduler has."""
    common = {"queue": "prod", "account": "ab12", "mail": "someone@centre.edu"}
    return {**{key: text for key, text in common.items() if key in MODULES[name].WORDS}, **MORE[name]}


def test_all_that_a_site_can_say_is_said_and_accepted(cluster: Cluster) -> None:
    script = cluster.script(gpus=4, **whole(cluster.name))
    assert directives(script.read_text()) == WHOLE[cluster.name]
    cluster.module.submit(script)


VARIANTS: list[tuple[str, dict[str, Any], list[str]]] = [
    # A shared node: the cores and the memory of the ranks alone.
    ("pbs", {"exclusive": False, "memory_request": "node"}, [":ncpus=8:", ":mem=61035mb", "place=scatter\n"]),
    ("lsf", {"exclusive": False, "memory_request": "node"}, ["-n 16", "ptile=8", "rusage[mem=61035MB/host]"]),
    ("lsf", {"exclusive": False, "memory_request": "core"}, ["rusage[mem=7629MB/task]"]),
    ("flux", {"exclusive": False, "gpus": 4}, ["-n 2", "-c 8", "-g 4"]),
    ("flux", {"exclusive": False, "hyperthreads": True, "hardware_threads": 2}, ["-c 4"]),
    # Gadi, which takes no chunks.
    (
        "pbs",
        {"parallel_environment": "ncpus", "memory_request": "node", "gpus": 4, "directives": ["-l storage=scratch/ab12"]},
        ["-l ncpus=32\n", "-l ngpus=8\n", "-l mem=244140mb\n", "-l storage=scratch/ab12\n"],
    ),
    ("pbs", {"reservation": "R12", "queue": "prod"}, ["-q R12\n"]),
    ("pbs", {"account": "a/b"}, ["-A a/b\n#PBS -r"]),  # which -P forbids
    ("pbs", {"gpus": 4, "gpu_request": "none"}, ["ompthreads=2\n"]),
    # Summit.
    ("lsf", {"launcher": "jsrun", "gpus": 6}, ["-nnodes 2\n", '-alloc_flags "smt1"']),
    ("lsf", {"launcher": "jsrun", "gpus": 2}, ['-alloc_flags "gpumps smt1"']),
    ("lsf", {"launcher": "jsrun", "hyperthreads": True, "hardware_threads": 4}, ['-alloc_flags "smt4"']),
    ("lsf", {"minutes": 1}, ["-W 0:01\n"]),
    ("pbs", {"minutes": 6000}, ["walltime=100:00:00\n"]),
    ("cobalt", {"reservation": "mine"}, ["-q R.mine\n"]),
]


@pytest.mark.parametrize(
    ("cluster", "changes", "expected"),
    VARIANTS,
    indirect=["cluster"],
    ids=[f"{name}-{' '.join(map(str, changes))}" for name, changes, _ in VARIANTS],
)
def test_variants_are_accepted(cluster: Cluster, changes: dict[str, Any], expected: list[str]) -> None:
    script = cluster.script(**changes)
    for text in expected:
        assert text in script.read_text()
    cluster.module.submit(script)


@pytest.mark.parametrize("name", MODULES)
def test_every_word_is_said_and_no_other(name: str) -> None:
    """A key that is in WORDS and in no directive would be lost without a sound. `hyperthreads` changes what is asked for."""
    assert SCHEDULERS[name] is MODULES[name]
    assert {*SPOKEN, "hyperthreads"} == OPTIONAL
    settings = {"exclusive": False} if name in ("lsf", "flux") else {}  # whole nodes come with all they have
    for key, value in SPOKEN.items():
        more = {**settings, **({"network": "mesh"} if key == "queue" and name == "pjm" else {})}
        base = {**more, key: DEFAULTS[key]} if key != "exclusive" else {**more, "exclusive": True}
        changed = rendered(name, "/run", gpus=4, **{**more, key: value}) != rendered(name, "/run", gpus=4, **base)
        assert changed == (key in MODULES[name].WORDS), key


@pytest.mark.parametrize("name", MODULES)
def test_values_are_those_of_a_word(name: str) -> None:
    for key, values in getattr(MODULES[name], "VALUES", {}).items():
        assert key in MODULES[name].WORDS
        assert DEFAULTS[key] in values
        strange = {"gpu_request": "gres", "memory_request": "core", "network": "ring", "parallel_environment": "mpi"}[key]
        with pytest.raises(ValueError, match=f"the scheduler {name} can say of {key} only"):
            Partition.model_validate({"scheduler": name, key: strange})


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("filled", [False, True])
def test_shellcheck_finds_nothing(name: str, filled: bool, tmp_path: Path) -> None:
    text = rendered(name, tmp_path / "a run", gpus=4, **(whole(name) if filled else {}))
    command = [Path(sys.executable).parent / "shellcheck", "-s", "bash", "-e", "SC2016", "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


# What a scheduler refuses: (the scheduler, what stands in the script, what is put there, what it says).
BROKEN = [
    ("pbs", "#PBS -r n", "#PBS --rerun n", "directive error|option"),
    ("pbs", "#PBS -r n", "#PBS -r yes", "illegal -r"),
    ("pbs", "#PBS -r n", "#PBS -W", "requires argument"),
    ("pbs", "#PBS -r n", "#PBS -W umask", "illegal -W"),
    ("pbs", "#PBS -r n", "#PBS -W umask=999", "illegal -W"),
    ("pbs", "#PBS -r n", "#PBS -W depends=afterany:1", "Undefined attribute"),
    ("pbs", "#PBS -r n", "#PBS -r n # rerun", "directive error"),
    ("pbs", "#PBS -r n", "#PBS -o other.out", "twice"),
    ("pbs", "#PBS -r n", "#PBS -l mem=4gb", "both in select"),
    ("pbs", "#PBS -r n", "#PBS -m always", "illegal -m"),
    ("pbs", "#PBS -r n", "#PBS -P a/b", "illegal -P"),
    ("pbs", "select=2:", "select=0:", "select"),
    ("pbs", "select=2:", "select=2,", "select"),
    ("pbs", ":ncpus=16", ":16", "no resource of a chunk"),
    ("pbs", ":ncpus=16", ":ncpus=many", "ncpus"),
    ("pbs", ":ncpus=16", ":ncpus=16:mem=8 GB", "illegal -l value: mem=8"),
    ("pbs", ":ncpus=16", ":ncpus=16:ncpus=8", "twice"),
    ("pbs", "place=scatter:excl", "place=spread:excl", "place=spread"),
    ("pbs", "place=scatter:excl", "place=scatter:pack", "place=scatter:pack"),
    ("pbs", "walltime=01:30:00", "walltime=90", "HH:MM:SS"),
    ("pbs", "#PBS -l walltime=01:30:00", "", "no walltime"),
    ("pbs", "-N kitrelion", "-N kit_of_too_many_letters", "illegal -N"),
    ("pbs", "-N kitrelion", "-N 'kit relion'", "illegal -N"),
    ("pbs", "-N kitrelion", "-N 'kit", "unmatched"),
    ("pbs", "-j oe", "-j yes", "illegal -j"),
    ("pbs", "set -euo", "#PBS -q late\nset -euo", "after the first command"),
    ("lsf", "#BSUB -x", "#BSUB --exclusive", "Illegal option"),
    ("lsf", "#BSUB -x", "#BSUB -x 1", "Illegal option"),
    ("lsf", "#BSUB -x", "#BSUB -o other.out", "twice"),
    ("lsf", "#BSUB -x", "#BSUB -nnodes 2", "cannot be used with"),
    ("lsf", "#BSUB -x", "#BSUB -alloc_flags smt1", "without -nnodes"),
    ("lsf", "#BSUB -x", "#BSUB -gpu 4", "GPU requirement"),
    ("lsf", "#BSUB -x", "#BSUB -N", "mail"),
    ("lsf", "-W 1:30", "-W 01:30:00", "Bad time"),
    ("lsf", "-W 1:30", "-W 1:90", "Bad time"),
    ("lsf", "#BSUB -W 1:30", "", "no run limit"),
    ("lsf", "-wt 1", "-wt 60s", "Bad time"),
    ("lsf", "-wt 1", "-wt 120", "warning"),
    ("lsf", "#BSUB -wt 1", "", "both -wa and -wt"),
    ("lsf", "-wa TERM", "-wa SIGTERM", "warning action"),
    ("lsf", "-n 32", "-n 33", "cannot be spread"),
    ("lsf", "-n 32", "-n two", "a number"),
    ("lsf", '"span[ptile=16]"', '"span[ptile]"', "span"),
    ("lsf", '"span[ptile=16]"', '"spans[ptile=16]"', "Bad resource requirement"),
    ("lsf", '"span[ptile=16]"', '"span[ptile=16"', "Bad resource requirement"),
    ("lsf", '"span[ptile=16]"', '"span[ptile=16] rusage[mem=much]"', "rusage"),
    ("lsf", '"span[ptile=16]"', '"span[ptile=16]', "quotation"),
    ("lsf", "-J kitrelion", "-J kit[relion]", "Bad job name"),
    ("lsf", "-o scheduler.out", "-o", "requires an argument"),
    ("lsf", "set -euo", "#BSUB -q late\nset -euo", "after the first command"),
    ("flux", "# flux: -x", "# flux: --excl", "unrecognized"),
    ("flux", "# flux: -x", "# flux: -N 3", "twice"),
    ("flux", "# flux: -x", "## flux: -x", "sentinel changed"),
    ("flux", "# flux: -x", "# flux: exclusive", "Unknown directive"),
    ("flux", "# flux: -x", "# flux: --requires='a b", "quotation"),
    ("flux", "# flux: -x", "# flux: --requires='a && (b'", "syntax error"),
    ("flux", "-N 2", "-N two", "invalid int"),
    ("flux", "# flux: -N 2\n# flux: -n 2\n# flux: -x\n", "", "Number of slots"),
    ("flux", "# flux: -N 2\n", "", "exclusive needs"),
    ("flux", "-n 2", "-n 1", "node count"),
    ("flux", "-t 90m", "-t 90", "unit"),
    ("flux", "-t 90m", "-t 01:30:00", "unit"),
    ("flux", "USR1@60s", "USR3@60s", "--signal"),
    ("flux", "USR1@60s", "USR1@soon", "--signal"),
    ("flux", "set -euo", "# flux: -q late\nset -euo", "orphan"),
    ("pjm", "#PJM -j", "#PJM --join", "Unknown option"),
    ("pjm", "#PJM -j", "#PJM -j yes", "Not an option"),
    ("pjm", "#PJM -j", "#PJM -o other.out", "twice"),
    ("pjm", "#PJM -j", '#PJM -L "node=3"', "twice"),
    ("pjm", "#PJM -j", '#PJM -L "nodes=3"', "Invalid parameter"),
    ("pjm", "#PJM -j", "#PJM -m e", "both -m and --mail-list"),
    ("pjm", "#PJM -j", "#PJM -g", "needs an argument"),
    ("pjm", "#PJM -j", "#PJM --bulk", "--sparam"),
    ("pjm", "#PJM -j", "#PJM --bulk\n#PJM --step", "cannot be combined"),
    ("pjm", "node=2", "node=two", "a number"),
    ("pjm", "node=2", "node=2:ring", "Invalid parameter"),
    ("pjm", "elapse=01:30:00", "elapse=90", "HH:MM:SS"),
    ("pjm", '#PJM -L "elapse=01:30:00"', "", "elapse is not given"),
    ("pjm", '#PJM -L "rscgrp=small"', "", "rscgrp is not given"),
    ("pjm", "proc=8", "proc=9", "greater than 8"),
    ("pjm", '"proc=8', "proc=8", "quotation"),
    ("pjm", "--name kitrelion", f"--name {'k' * 64}", "too long"),
    ("pjm", "set -euo", "#PJM -g late\nset -euo", "after the first command"),
    ("cobalt", "#COBALT -n 2", "#COBALT -x 2", "no such option"),
    ("cobalt", "#COBALT -n 2", "", "directly behind"),
    ("cobalt", "#COBALT -n 2\n", "", "'nodecount' not provided"),
    ("cobalt", "#COBALT -t 90\n", "", "'time' not provided"),
    ("cobalt", "#COBALT -n 2", "# a comment\n#COBALT -n 2", "directly behind"),
    ("cobalt", "#COBALT -n 2", "#COBALT -n two", "a number"),
    ("cobalt", "#COBALT -n 2", "#COBALT -n 2 # nodes", "not found, or is not a file"),
    ("cobalt", "#COBALT -n 2", "#COBALT -n 2\n#COBALT -n 3", "twice"),
    ("cobalt", "-t 90", "-t 1h", "minutes are needed"),
    ("cobalt", "--jobname kitrelion", "--jobname 'kit relion'", "not found, or is not a file"),
    ("cobalt", "--jobname kitrelion", "--attrs mcdram", "Improperly formatted"),
    ("cobalt", "-o scheduler.out", "-o /nowhere/x", "does not exist"),
    ("cobalt", "set -euo", "#COBALT -q late\nset -euo", "directly behind"),
]


@pytest.mark.parametrize(
    ("cluster", "old", "new", "said"),
    BROKEN,
    indirect=["cluster"],
    ids=[f"{name}-{new or 'no ' + old}"[:60] for name, old, new, _ in BROKEN],
)
def test_a_broken_script_is_refused(cluster: Cluster, old: str, new: str, said: str) -> None:
    """Each rule of the stand-ins, broken once: they would otherwise prove nothing."""
    script = cluster.script()
    text = script.read_text()
    assert text.count(old) >= 1
    script.write_text(text.replace(old, new, 1))
    with pytest.raises(KitError, match=said):
        cluster.module.submit(script)
    assert not list(cluster.jobs.glob("*.json"))


@only("cobalt")
def test_the_script_of_cobalt_is_made_executable(cluster: Cluster) -> None:
    script = cluster.script()
    script.chmod(0o600)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        subprocess.run(["qsub", "job.sh"], cwd=cluster.run, check=True, capture_output=True, text=True)
    assert "not executable" in refused.value.stderr
    cluster.module.submit(script)


@only("pbs")
def test_a_server_without_history(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_NO_HISTORY", "1")
    first, second = (pbs.submit(cluster.script()) for _ in range(2))
    cluster.start(first)
    cluster.end(first)
    assert [pbs.states([first, second])[job].state for job in (first, second)] == ["gone", "pending"]


@only("pbs", "lsf")
def test_variables_of_the_shell_do_not_change_the_job(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    program = cluster.jobs.parent / "bin" / COMMANDS[cluster.name][0]
    text = program.read_text()
    names = ("PBS_DPREFIX", "PBS_SHELL", "BSUB_QUIET", "LSB_DEFAULTQUEUE")
    for name in names:
        monkeypatch.setenv(name, "x")
    of_this = names[:2] if cluster.name == "pbs" else names[2:]
    check = "".join(f'[ -z "${{{name}:-}}" ] || {{ echo "{name} is set" >&2; exit 1; }}\n' for name in of_this)
    program.write_text(text.replace("#!/bin/sh\n", f"#!/bin/sh\n{check}"))
    cluster.module.submit(cluster.script())


def test_an_answer_that_names_no_job_is_an_error(cluster: Cluster) -> None:
    program = cluster.jobs.parent / "bin" / COMMANDS[cluster.name][0]
    program.write_text("#!/bin/sh\necho 'Welcome to our centre'\n")
    with pytest.raises(KitError, match="Welcome to our centre"):
        cluster.module.submit(cluster.script())


def test_an_unreachable_scheduler_is_no_ended_job(cluster: Cluster) -> None:
    for command in COMMANDS[cluster.name]:
        (cluster.jobs.parent / "bin" / command).write_text("#!/bin/sh\necho 'cannot connect to the server' >&2\nexit 1\n")
    with pytest.raises(KitError, match="cannot connect"):
        cluster.module.states(["101"])
    with pytest.raises(KitError, match="cannot connect"):
        cluster.module.cancel("101")


@only("pbs", "lsf")
def test_an_answer_that_is_not_json_is_an_error(cluster: Cluster) -> None:
    query = COMMANDS[cluster.name][1]
    (cluster.jobs.parent / "bin" / query).write_text("#!/bin/sh\necho '{\"Jobs\": 007}'\n")
    with pytest.raises(KitError, match="not JSON"):
        cluster.module.states(["101"])


def test_away_from_a_login_node(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KitError, match="not on the PATH; run this on a login node"):
        cluster.module.submit(cluster.script())


# Machines as their centres describe them: what the real templates make of them, the schedulers take.
SITES = {
    "polaris": """
        scheduler = "pbs"
        launcher = "pals"
        queue = "prod"
        account = "Catalyst"
        constraint = "system=polaris"
        directives = ["-l filesystems=home:eagle"]
        cores = 32
        hardware_threads = 2
        memory_gb = 512
        gpus = 4
    """,
    "gadi": """
        scheduler = "pbs"
        launcher = "mpirun"
        queue = "normal"
        account = "ab12"
        parallel_environment = "ncpus"
        memory_request = "node"
        directives = ["-l storage=scratch/ab12"]
        cores = 48
        memory_gb = 190
        scratch = "$PBS_JOBFS"
    """,
    "summit": """
        scheduler = "lsf"
        launcher = "jsrun"
        single = true
        account = "ABC123"
        cores = 42
        hardware_threads = 4
        hyperthreads = true
        memory_gb = 512
        gpus = 6
    """,
    "shared": """
        scheduler = "lsf"
        exclusive = false
        memory_request = "core"
        queue = "normal"
        mail = "someone@centre.edu"
        cores = 64
        memory_gb = 256
    """,
    "elcapitan": """
        scheduler = "flux"
        launcher = "flux"
        queue = "pbatch"
        account = "guests"
        cores = 84
        memory_gb = 512
        gpus = 4
        gpu_vendor = "amd"
    """,
    "fugaku": """
        scheduler = "pjm"
        launcher = "mpiexec"
        queue = "small"
        account = "hp123456"
        network = "torus"
        directives = ["-x PJM_LLIO_GFSCACHE=/vol0004"]
        cores = 48
        memory_gb = 32
    """,
    "theta": """
        scheduler = "cobalt"
        launcher = "aprun"
        single = true
        queue = "default"
        account = "Catalyst"
        constraint = "mcdram=cache:numa=quad"
        cores = 64
        hardware_threads = 4
        memory_gb = 192
    """,
}
OF = {
    "polaris": "pbs",
    "gadi": "pbs",
    "summit": "lsf",
    "shared": "lsf",
    "elcapitan": "flux",
    "fugaku": "pjm",
    "theta": "cobalt",
}


@pytest.mark.parametrize(("cluster", "site"), [(name, site) for site, name in OF.items()], indirect=["cluster"], ids=OF)
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_real_script_is_accepted(
    cluster: Cluster, site: str, nodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.runtimes.apptainer.no_privileges", list)
    monkeypatch.setattr("kit.runtimes.apptainer.singularity", lambda: ["apptainer"])
    file = tmp_path / f"{site}.toml"
    lines = "\n".join(line.strip() for line in SITES[site].splitlines())
    file.write_text(
        'description = "a machine"\ncontact = "x@y.edu"\nurl = "https://y.edu"\n'
        f"[partitions.nodes]\nmax_nodes = 9\n{lines}\n[container]\n"
    )
    plan = make_plan(Request("cloudmask", "tiny", str(file), nodes=nodes))
    text = launch.script(plan, cluster.run, tmp_path)
    script = cluster.run / "job.sh"
    script.write_text(text)
    command = [Path(sys.executable).parent / "shellcheck", "-s", "bash", "-e", "SC2016", script]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    job = cluster.module.submit(script)
    assert cluster.module.states([job])[job].state == "pending"
    assert load_site(str(file)).partitions["nodes"].scheduler == cluster.name


def test_a_run_of_the_kit(cluster: Cluster, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its rendering to its end: cancelled while it waits, then in its second stage, and resumed."""
    file = toy.parent / "package/sites/here.toml"
    file.write_text(file.read_text().replace('scheduler = "local"', f'scheduler = "{cluster.name}"\nqueue = "small"'))
    directory = launch.prepare(make_plan(Request("toy", "tiny", "here")), toy)
    launch.submit(directory)
    assert current_state(directory, load_run(directory)).name == "submitted"
    assert launch.cancel(directory).name in ("failed", "incomplete")

    monkeypatch.setenv("TOY", "sleep 600")
    job = launch.submit(directory).job
    cluster.start(job)
    for _ in range(3000):
        state = current_state(directory, load_run(directory))
        if state.stage == "second" and (directory / "logs/second.started").exists():
            break
        time.sleep(0.01)
    assert (state.name, state.stage) == ("running", "second")
    cluster.module.cancel(job)
    assert cluster.end(job) == 130
    state = current_state(directory, load_run(directory))
    assert (state.name, state.stage, state.exit_code) == ("failed", "second", 130)
    assert state.reason.startswith("interrupted")  # and then what the scheduler says of it

    monkeypatch.delenv("TOY")
    job = launch.submit(directory).job
    cluster.start(job)
    assert cluster.end(job) == 0, (directory / "job.out").read_text()
    assert current_state(directory, load_run(directory)).name == "finished"
    out = (directory / "job.out").read_text()
    assert out.count("first: done\n") == 1
    assert out.endswith("first: done before, skipped\nsecond: done\nthird: done\n")
