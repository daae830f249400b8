"""Slurm's answers, as they are and as they should not be: squeue and sacct are programs of the test."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.schedulers import slurm
from kit.schedulers.job import Job

INVALID = "slurm_load_jobs error: Invalid job id specified"
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
NO_ACCOUNTING = "Slurm accounting storage is disabled"

Fake = Callable[..., None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """fake(NAME, says, error, code): a program of that name. It writes its words, and SQUEUE_FORMAT, into NAME.calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, says: str = "", error: str = "", code: int = 0) -> None:
        (folder / f"{name}.says").write_text(says)
        program = folder / name
        calls = folder / f"{name}.calls"
        program.write_text(
            f'#!/bin/sh\necho "$PWD $* ${{SQUEUE_FORMAT:-}}${{SLURM_MEM_PER_CPU:-}}" >>{shlex.quote(str(calls))}\n'
            f"cat {shlex.quote(str(folder / name))}.says\n[ -z {shlex.quote(error)} ] || echo {shlex.quote(error)} >&2\n"
            f"exit {code}\n"
        )
        program.chmod(0o755)

    return make


def calls(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / "bin" / f"{name}.calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("state", "reason", "job"),
    [
        ("PENDING", "None", Job("pending")),
        ("PENDING", "Resources", Job("pending", "Resources")),
        ("PENDING", "QOSMaxJobsPerUserLimit", Job("pending", "QOSMaxJobsPerUserLimit")),
        ("PENDING", "PartitionTimeLimit", Job("pending", "PartitionTimeLimit")),
        ("PENDING", "Nodes required for job are DOWN, DRAINED or reserved", None),
        ("CONFIGURING", "None", Job("pending", "CONFIGURING")),
        ("SUSPENDED", "None", Job("pending", "SUSPENDED")),
        ("RUNNING", "None", Job("running")),
        ("COMPLETING", "None", Job("running")),
        ("COMPLETED", "None", Job("gone", "COMPLETED")),
        ("TIMEOUT", "TimeLimit", Job("gone", "TIMEOUT")),
        ("NODE_FAIL", "NodeDown", Job("gone", "NODE_FAIL")),
        ("OUT_OF_MEMORY", "OutOfMemory", Job("gone", "OUT_OF_MEMORY")),
        ("PREEMPTED", "None", Job("gone", "PREEMPTED")),
    ],
)
def test_what_squeue_says(state: str, reason: str, job: Job | None, fake: Fake, tmp_path: Path) -> None:
    fake("squeue", f"17|{state}|{reason}\n")
    assert slurm.states(["17"]) == {"17": job or Job("pending", reason)}
    assert not calls(tmp_path, "sacct")


def test_one_question_for_all_jobs_and_one_for_the_forgotten(fake: Fake, tmp_path: Path) -> None:
    fake("squeue", "1|RUNNING|None\n2|CANCELLED|None\n5_1|PENDING|Resources\n5_2|COMPLETED|None\n")
    fake("sacct", "2|CANCELLED by 1001\n3|TIMEOUT\n6_4|OUT_OF_MEMORY\n")
    assert slurm.states(["1", "2", "3", "4", "5_1", "5_2", "6_4", "1"]) == {
        "1": Job("running"),
        "2": Job("gone", "CANCELLED by 1001"),
        "3": Job("gone", "TIMEOUT"),
        "4": Job("gone"),
        "5_1": Job("pending", "Resources"),
        "5_2": Job("gone", "COMPLETED"),
        "6_4": Job("gone", "OUT_OF_MEMORY"),
    }
    (squeue,), (sacct,) = calls(tmp_path, "squeue"), calls(tmp_path, "sacct")
    assert "--jobs=1,2,3,4,5_1,5_2,6_4" in squeue
    assert "--jobs=2,3,4,6_4" in sacct


def test_an_array_and_its_tasks(fake: Fake) -> None:
    fake("squeue", "5_1|COMPLETED|None\n5_2|RUNNING|None\n5_3|PENDING|JobArrayTaskLimit\n")
    assert slurm.states(["5", "5_1", "5_3"]) == {
        "5": Job("running"),
        "5_1": Job("gone", "COMPLETED"),
        "5_3": Job("pending", "JobArrayTaskLimit"),
    }
    assert slurm.task("5", 3) == "5_3"


def test_the_one_job_that_is_asked_for_is_forgotten(fake: Fake) -> None:
    fake("squeue", error=INVALID, code=1)
    fake("sacct", "17|NODE_FAIL\n")
    assert slurm.states(["17"]) == {"17": Job("gone", "NODE_FAIL")}


@pytest.mark.parametrize(
    "sacct",
    [
        {},
        {"error": NO_ACCOUNTING, "code": 1},
        {"error": "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection", "code": 1},
        {"says": "Welcome to the cluster\n\n|\n17\n17|\n17|GARBAGE\n"},
        {"says": "17|RUNNING\n"},  # it missed the end of the job
    ],
)
def test_no_reason_without_accounting(sacct: dict[str, object], fake: Fake) -> None:
    fake("squeue", error=INVALID, code=1)
    fake("sacct", **sacct)
    assert slurm.states(["17"]) == {"17": Job("gone")}


def test_no_sacct_at_all(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("squeue", error=INVALID, code=1)
    for name in ("sh", "cat"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert slurm.states(["17"]) == {"17": Job("gone")}


@pytest.mark.parametrize("says", ["", "\n", "hello\n", "hello|RUNNING|None\n", "171|RUNNING|None\n", "17\n", "17|RUNNING\n"])
def test_a_job_that_squeue_does_not_name_is_gone(says: str, fake: Fake) -> None:
    fake("squeue", says)
    fake("sacct")
    assert slurm.states(["17", "18"]) == {"17": Job("gone"), "18": Job("gone")}


def test_a_greeting_hides_no_job(fake: Fake) -> None:
    fake("squeue", "*** maintenance on Monday | be warned | really ***\n17|RUNNING|None\n")
    assert slurm.states(["17"]) == {"17": Job("running")}


def test_a_state_that_is_not_known_is_not_called_gone(fake: Fake) -> None:
    fake("squeue", "17|LEVITATING|None\n")
    with pytest.raises(KitError, match="job 17 is 'LEVITATING'"):
        slurm.states(["17"])


def test_a_controller_that_is_down_says_nothing_of_a_job(fake: Fake, tmp_path: Path) -> None:
    fake("squeue", error=DOWN, code=1)
    with pytest.raises(KitError, match="Unable to contact slurm controller"):
        slurm.states(["17"])
    assert not calls(tmp_path, "sacct")


def test_no_jobs_no_question(fake: Fake, tmp_path: Path) -> None:
    fake("squeue", "17|RUNNING|None\n")
    assert slurm.states([]) == {}
    assert not calls(tmp_path, "squeue")


def test_more_jobs_than_one_command_line_holds(fake: Fake, tmp_path: Path) -> None:
    """Linux refuses a word of 128 KiB; every part of the question stays below, and every job is in the answer."""
    fake("squeue")
    fake("sacct")
    jobs = [f"{4_000_000_000 + number}_{number:05}" for number in range(12_000)]
    assert slurm.states(jobs) == dict.fromkeys(jobs, Job("gone"))
    assert len(calls(tmp_path, "squeue")) == len(calls(tmp_path, "sacct")) == 3


def test_the_users_settings_do_not_change_the_question(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of squeue, and, where kit runs inside a job, of that job."""
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "4711")
    fake("squeue", "17|RUNNING|None\n")
    slurm.states(["17"])
    (call,) = calls(tmp_path, "squeue")
    assert "%j" not in call
    assert "4711" not in call


@pytest.mark.parametrize("says", ["17\n", "17;cluster\n", "sbatch: lua: your account pays 3 credits\n17\n"])
def test_the_id_of_a_new_job(says: str, fake: Fake, tmp_path: Path) -> None:
    fake("sbatch", says)
    assert slurm.submit(tmp_path / "job.sh") == "17"
    assert slurm.submit(tmp_path / "job.sh", after="16") == "17"
    assert slurm.submit(tmp_path / "job.sh", tasks=4) == "17"
    plain, after, array = calls(tmp_path, "sbatch")
    assert plain.split() == [str(tmp_path), "--parsable", "job.sh"]
    assert "--dependency=afterany:16 job.sh" in after
    assert "--array=1-4 job.sh" in array


@pytest.mark.parametrize("says", ["", "Submitted batch job 17\n", "17 18\n"])
def test_an_answer_that_is_no_id(says: str, fake: Fake, tmp_path: Path) -> None:
    fake("sbatch", says)
    with pytest.raises(KitError, match="no job id"):
        slurm.submit(tmp_path / "job.sh")


@pytest.mark.parametrize(
    ("state", "words"),
    [("RUNNING", ["--batch --signal=TERM 17"]), ("PENDING", ["17"]), ("COMPLETED", [])],
)
def test_cancel(state: str, words: list[str], fake: Fake, tmp_path: Path) -> None:
    """The script of a running job is signalled, a job that waits is taken back, and one that has ended is left alone."""
    fake("squeue", f"17|{state}|None\n")
    fake("scancel")
    slurm.cancel("17")
    assert [call.partition(" ")[2].strip() for call in calls(tmp_path, "scancel")] == words


@pytest.mark.parametrize(("pmi", "told"), [("pmix", True), ("pmix_v4", True), ("pmi2", False), ("", False)])
def test_ranks_find_each_other_without_a_folder_of_the_node(
    pmi: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.runtimes.apptainer.singularity", lambda: ["apptainer"])
    site = tmp_path / "cluster.toml"
    site.write_text(
        'description = "x"\ncontact = "x"\nurl = "https://localhost"\n[partitions.cpu]\nscheduler = "slurm"\n'
        f'launcher = "srun"\npmi = "{pmi}"\ncores = 64\n'
    )
    script = launch.script(make_plan(Request("relion", "particles", str(site))), *launch.DRY)
    assert (f"--mpi={pmi}" in script) is bool(pmi)
    assert ("--env PMIX_MCA_gds=hash" in script) is told
