"""Grid Engine's answers, as it gave them, and what is made of them; its directives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.runs.record import Rendering
from kit.schedulers import Job, gridengine
from kit.script.render import rendered

# What Grid Engine 8.1.9 answered, shortened: an array of which task 2 runs and 5 to 9 wait, and one job in each state.
QSTAT = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>21</JB_job_number><JB_name>s.sh</JB_name><JB_owner>root</JB_owner><state>r</state><tasks>2</tasks>
    </job_list>
    <job_list state="running">
      <JB_job_number>30</JB_job_number><JB_name>other</JB_name><JB_owner>kittest</JB_owner><state>dr</state>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>21</JB_job_number><JB_name>s.sh</JB_name><state>qw</state><tasks>5-9:1</tasks>
    </job_list>
    <job_list state="pending"><JB_job_number>17</JB_job_number><state>Eqw</state></job_list>
    <job_list state="pending"><JB_job_number>26</JB_job_number><state>qw</state></job_list>
    <job_list state="pending"><JB_job_number>22</JB_job_number><state>hqw</state></job_list>
  </job_info>
</job_info>
"""
QSTAT_J = """==============================================================
job_number:                 17
job_name:                   kitpath
error reason          1:      11/26/2026 22:39:44 [0:16581]: error: can't chdir to /tmp/w: No such file or directory
scheduling info:            Job is in error state
"""
QACCT = """==============================================================
qname        all.q
taskid       1
failed       0
exit_status  3
==============================================================
qname        all.q
taskid       3
failed       37  : qmaster enforced h_rt, h_cpu, or h_vmem limit
exit_status  137                  (Killed)
"""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The answer to each command line; any other is refused, and what was asked is under `asked`."""
    said = {"asked": ""}

    def run_command(*words: str, cwd: Path | None = None) -> str:
        line = " ".join(words)
        said["asked"] += f"{line}\n"
        if line not in said:
            raise KitError(f"{line}: refused")
        return said[line]

    monkeypatch.setattr(gridengine, "run_command", run_command)
    return said


def test_states_of_many_jobs_are_one_question(answers: dict[str, str]) -> None:
    answers["qstat -u * -xml"] = QSTAT
    assert gridengine.states(["21", "21.2", "21.5", "21.9", "30", "26", "22"]) == {
        "21": Job("running"),
        "21.2": Job("running"),
        "21.5": Job("pending"),
        "21.9": Job("pending"),
        "30": Job("running"),
        "26": Job("pending"),
        "22": Job("pending", "held until another job ends"),
    }
    assert answers["asked"] == "qstat -u * -xml\n"


def test_reason_of_a_job_in_error(answers: dict[str, str]) -> None:
    answers["qstat -u * -xml"] = QSTAT
    assert "qmod -cj" in gridengine.states(["17"])["17"].reason  # nobody says more
    answers["qstat -j 17"] = QSTAT_J
    assert gridengine.states(["17"]) == {"17": Job("pending", "error: can't chdir to /tmp/w: No such file or directory")}


def test_how_jobs_ended(answers: dict[str, str]) -> None:
    answers["qstat -u * -xml"] = QSTAT
    answers["qacct -j 21"] = QACCT
    answers["qacct -j 8"] = (
        "====\nqname        all.q\ntaskid       undefined\nfailed       0    \nexit_status  0                   \n"
    )
    limit = "failed 37: qmaster enforced h_rt, h_cpu, or h_vmem limit, exit status 137 (Killed)"
    assert gridengine.states(["21.1", "21.3", "21.4", "8", "9"]) == {
        "21.1": Job("gone", "exit status 3"),
        "21.3": Job("gone", limit),
        "21.4": Job("gone"),
        "8": Job("gone"),
        "9": Job("gone"),  # the accounting does not know it
    }


def test_accounting_is_not_read_over_and_over(answers: dict[str, str]) -> None:
    answers["qstat -u * -xml"] = QSTAT
    many = [str(number) for number in range(100, 111)]
    assert gridengine.states(many) == dict.fromkeys(many, Job("gone"))
    assert "qacct" not in answers["asked"]


@pytest.mark.parametrize("answer", ["", "error: no master", "<job_info><queue_info>"])
def test_answer_that_is_no_list_of_jobs(answer: str, answers: dict[str, str]) -> None:
    """It must not make every job look gone."""
    answers["qstat -u * -xml"] = answer
    with pytest.raises(KitError, match="no XML"):
        gridengine.states(["21"])


@pytest.mark.parametrize(
    ("answer", "job"), [("21\n", "21"), ("21.1-6:1\n", "21"), ("Welcome, you have 3 projects\n12 GB are free\n42\n", "42")]
)
def test_id_of_a_submitted_job(answer: str, job: str, answers: dict[str, str]) -> None:
    answers["qsub -terse job.sh"] = answer
    assert gridengine.submit(Path("/run/job.sh")) == job


@pytest.mark.parametrize("answer", ["", "Your job 21 has been submitted\n", "21\nsubmitted, it seems\n"])
def test_answer_that_is_no_id(answer: str, answers: dict[str, str]) -> None:
    answers["qsub -terse job.sh"] = answer
    with pytest.raises(KitError, match="no job id"):
        gridengine.submit(Path("/run/job.sh"))


def test_words_of_a_submission(answers: dict[str, str]) -> None:
    answers["qsub -terse -hold_jid 12 -t 1-3 job.sh"] = "13.1-3:1\n"
    assert gridengine.submit(Path("/run/job.sh"), after="12.2", tasks=3) == "13"
    assert gridengine.task("13", 2) == "13.2"


def test_cancelling_a_job_that_has_ended_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_command(*words: str) -> str:
        raise KitError(f'qdel 7: denied: job "{words[1]}" {"does not exist" if words[1] == "7" else "is not yours"}')

    monkeypatch.setattr(gridengine, "run_command", run_command)
    gridengine.cancel("7")
    with pytest.raises(KitError, match="not yours"):
        gridengine.cancel("8")


SITE = """
description = "x"
contact = "x"
url = "https://localhost"
[partitions.test]
scheduler = "gridengine"
parallel_environment = "mpi"
cores = 40
max_nodes = 4
memory_gb = 200
"""


@pytest.fixture
def directives(tmp_path: Path) -> Callable[..., list[str]]:
    """The directives for cloudmask on a site with these keys more."""

    def lines(*keys: str, image: str = "horovod", directory: str = "/work/it's run #1", **asked: int) -> list[str]:
        path = tmp_path / "test.toml"
        path.write_text(SITE + "\n".join(keys))
        machine = {"program": "apptainer", "options": "", "sif": f"/images/{image}-0123456789ab.sif"}
        source = Rendering(command="kit", directory=directory, data="/data", cores=2, memory_gb=4, machine=machine)
        plan = make_plan(Request("cloudmask", site=str(path), image=image, ranks=4, threads=10, minutes=90, **asked))
        return [line for line in rendered(plan, source, tmp_path)[1].splitlines() if line.startswith("#$")]

    return lines


def test_directives(directives: Callable[..., list[str]]) -> None:
    assert directives() == [
        "#$ -S /bin/bash",
        "#$ -N kitcloudmask",
        "#$ -cwd",
        "#$ -o job.out",
        "#$ -j y",
        "#$ -notify",
        "#$ -l h_rt=5400,s_rt=5340",
        "#$ -pe mpi 40",
        "#$ -R y",
    ]
    every = directives(
        'queue = "all.q"',
        'account = "Gold"',
        'reservation = "7"',
        'mail = "x@example.org"',
        'memory_request = "core"',
        'memory_resource = "mem"',
        'directives = ["-A project"]',
        nodes=2,
    )
    assert every[7:] == [
        "#$ -pe mpi 80",
        "#$ -R y",
        "#$ -l mem=4768M",
        "#$ -q all.q",
        "#$ -P Gold",
        "#$ -ar 7",
        "#$ -m ea",
        "#$ -M x@example.org",
        "#$ -A project",
    ]


def test_shared_node_is_asked_for_what_is_used(directives: Callable[..., list[str]]) -> None:
    lines = directives("exclusive = false", 'memory_request = "core"', nodes=2)
    assert "#$ -pe mpi 40" in lines  # two ranks of ten threads on each of two nodes
    assert "#$ -l h_vmem=4768M" in lines


def test_gpus(directives: Callable[..., list[str]]) -> None:
    assert "#$ -l gpu=4" in directives("gpus = 4", image="horovod-cuda")
    assert not [line for line in directives("gpus = 4", 'gpu_request = "none"', image="horovod-cuda") if "gpu=" in line]
    assert not [line for line in directives("gpus = 4") if "gpu=" in line]  # an image that computes on processors


def test_what_grid_engine_cannot_say_is_refused(directives: Callable[..., list[str]]) -> None:
    with pytest.raises(KitError, match="no word for qos"):
        directives('qos = "high"')
    with pytest.raises(KitError, match="\\$"):
        directives(directory="/work/$JOB_ID/run")
    with pytest.raises(KitError, match="parallel_environment"):
        directives("[partitions.other]", 'scheduler = "gridengine"')
