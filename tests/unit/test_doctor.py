"""kit doctor SITE without an engine: the job on the host, each verdict on what a job left, and what runs carry of it."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from conftest import ROOT, forged, kit

from kit.core.checksums import digest
from kit.core.errors import KitError
from kit.core.files import json_text
from kit.core.schema import parse
from kit.doctor import job as doctor_job
from kit.doctor import judge as doctor_judge
from kit.doctor import outcome as doctor_outcome
from kit.doctor.judge import Left, judge
from kit.doctor.outcome import Checked, Outcome
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.record import load_run, resolved
from kit.site import Site, load_site
from kit.submissions.check import check
from kit.submissions.layout import packed

SITE = """description = "d"
contact = "c"
url = "u"
[partitions.main]
scheduler = "local"
bind = "none"
cores = 2
[container]
runtime = "host"
mpi = "inside"
"""

RANK = '{"rank": %d, "size": %d, "host": "n%d", "cores": "%d", "gpus": [], "mpi": "Open MPI v5.0.7", "launcher": ""}'


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SITE)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the MPI of an image, in which two ranks find each other."""
    folder = tmp_path / "bin"
    program(folder, "mpirun", 'case "$*" in --version) echo "mpirun (Open MPI) 5.0.7";; *) kit-ranks "$@";; esac')
    program(folder, "kit-ranks", f"echo '{RANK % (0, 2, 1, 0)}'\necho '{RANK % (1, 2, 1, 1)}'")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def tried(site: Path, runs: Path) -> Outcome:
    """The outcome of a job that ran."""
    directory = doctor_job.prepare(doctor_job.plan(str(site)), runs)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return judge(directory)


def of(outcome: Outcome, name: str) -> Checked:
    return next(check for check in outcome.checks if check.name == name)


def test_a_job_on_the_host(site: Path, programs: Path, tmp_path: Path) -> None:
    outcome = tried(site, tmp_path / "runs")
    assert {check.name: check.verdict for check in outcome.checks if check.verdict != "PASS"} in ({}, {"space": "WARN"})
    assert [check.name for check in outcome.checks] == [
        *("job", "start", "clock", "limits", "binds", "space", "mpi_inside", "ranks")
    ]
    assert of(outcome, "ranks").detail == "2 ranks on n1 are one job of Open MPI v5.0.7; cores 0 | 1"
    assert (outcome.site, outcome.partition, outcome.nodes) == ("mine", "main", 1)


def test_the_command_prints_stores_and_fails(site: Path, programs: Path, tmp_path: Path) -> None:
    env = {"KIT_CACHE": str(tmp_path / "cache")}
    words = ("doctor", str(site), "--runs", str(tmp_path / "runs"))
    said = kit(*words, env=env).stdout
    assert "PASS  ranks" in said
    assert "0 FAIL" in said
    stored = json.loads((tmp_path / "cache/doctor/mine-main.json").read_text())
    assert stored["checks"][0]["verdict"] == "PASS"
    program(programs, "kit-ranks", "echo 'kit-ranks: strangers. In the site file: pmi' >&2; exit 1")
    found = json.loads(kit(*words, "--json", code=1, env=env).stdout)
    (failed,) = [check for check in found["checks"] if check["verdict"] == "FAIL"]
    assert failed == {"name": "ranks", "verdict": "FAIL", "detail": "strangers.", "fix": "pmi"}
    (directory,) = kit(*words, "--no-wait", env=env).stdout.split()
    for _ in range(100):
        if (Path(directory) / "doctor.jsonl").is_file() and '"end"' in (Path(directory) / "doctor.jsonl").read_text():
            break
        time.sleep(0.1)
    launch.wait(Path(directory), lambda state: None)
    assert "to fix it: pmi" in kit("doctor", directory, code=1, env=env).stdout


def test_options_go_with_a_site(site: Path, tmp_path: Path) -> None:
    assert "which site? kit doctor SITE --nodes" in kit("doctor", "--nodes", "2", code=1).stderr
    assert "which site?" in kit("doctor", "--dry-run", code=1).stderr
    assert "goes without a site" in kit("doctor", "local", "--fix", code=1).stderr
    assert "did you mean local?" in kit("doctor", "lokal", code=1).stderr
    assert "--nodes asks for fewer" in kit("doctor", str(site), "--nodes", "2", code=1).stderr
    text = kit("doctor", str(site), "--dry-run").stdout
    assert "# ---- checks.sh" in text
    assert "kit-ranks --ranks 2 --nodes 1 --ranks-per-node 2 --threads 1 --gpus 0 --bind none" in text


def test_a_folder_with_the_name_of_a_site_is_not_taken_for_a_job(tmp_path: Path) -> None:
    (tmp_path / "lokal").mkdir()
    assert "unknown site 'lokal'" in kit("doctor", "lokal", code=1, cwd=tmp_path).stderr
    assert "not a run directory" in kit("doctor", "./lokal", code=1, cwd=tmp_path).stderr


def test_a_job_that_did_not_run_is_asked_for_again(site: Path, tmp_path: Path) -> None:
    directory = doctor_job.prepare(doctor_job.plan(str(site)), tmp_path)
    with pytest.raises(KitError, match="is rendered; ask again when it has ended"):
        judge(directory)


def test_a_run_is_no_job_of_the_doctor_and_the_other_way_round(site: Path, toy: Path, tmp_path: Path) -> None:
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    with pytest.raises(KitError, match="a run of toy, not of kit doctor"):
        judge(directory)
    with pytest.raises(KitError, match="tries a site, and is no run of a benchmark"):
        collect(doctor_job.prepare(doctor_job.plan(str(site), image_name="relion-basic"), tmp_path / "runs"))


def test_an_image_without_the_program(site: Path, programs: Path, tmp_path: Path) -> None:
    (programs / "kit-ranks").unlink()
    found = of(tried(site, tmp_path / "runs"), "ranks")
    assert (found.verdict, found.detail) == ("FAIL", "the image has no kit-ranks; rebuild it")
    assert found.fix.startswith("kit image build ")


def test_a_folder_that_is_not_there(site: Path, programs: Path, tmp_path: Path) -> None:
    """The script refuses before the first check."""
    site.write_text(SITE + 'binds = ["/not/there"]\n')
    outcome = tried(site, tmp_path / "runs")
    assert of(outcome, "job").verdict == "FAIL"
    assert "/not/there is not on" in of(outcome, "job").detail
    assert of(outcome, "job").fix.startswith("container.binds: ")
    assert of(outcome, "start").detail == "did not end"
    assert of(outcome, "ranks").detail == "was not made"


def test_a_folder_in_which_others_write(site: Path, programs: Path, tmp_path: Path) -> None:
    """The folder of the run has to be writable; of one that the site names, a folder below it may be."""
    program(programs, "mktemp", 'echo "mktemp: failed to create file: Permission denied" >&2; exit 1')
    site.write_text(SITE + 'binds = ["/etc"]\n')
    outcome = tried(site, tmp_path / "runs")
    assert re.fullmatch(r"unwritable \S*/runs/doctor/mine-main-\S* in the container", of(outcome, "binds").detail)
    assert of(outcome, "binds").fix.startswith("--runs: ")


def test_a_prologue_that_ends_the_job(site: Path, programs: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace("cores = 2", 'cores = 2\nprologue = ["echo no licence", "exit 7"]'))
    found = of(tried(site, tmp_path / "runs"), "job")
    assert found.verdict == "FAIL"
    assert "its last words: no licence" in found.detail


def test_scratch_that_a_node_names(site: Path, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write_text(SITE.replace("cores = 2", f'cores = 2\nscratch = "{tmp_path}"'))
    assert f"free in {tmp_path}," in of(tried(site, tmp_path / "runs"), "space").detail


# ---- verdicts on what a job left


@pytest.fixture
def left(site: Path, tmp_path: Path) -> Any:
    """What a job left, made up: left(check, exit, out, err, **changes of the partition or container)."""

    def make(check: str, exit: int = 0, out: str = "", err: str = "", **changes: Any) -> Left:
        directory = doctor_job.prepare(doctor_job.plan(str(site)), tmp_path / f"runs-{len(list(tmp_path.iterdir()))}")
        (directory / "doctor").mkdir()
        (directory / f"doctor/{check}.out").write_text(out)
        (directory / f"doctor/{check}.err").write_text(err)
        made = doctor_judge.read(directory)
        made.lines[check] = {"check": check, "exit": exit, "seconds": 0, "host": "n1"}
        data = made.plan.site.model_dump()
        for key, value in changes.items():
            (data["container"] if key in data["container"] else data["partitions"]["main"])[key] = value
        changed = tmp_path / "changed.toml"
        changed.write_text(tomlkit.dumps(data))
        made.plan = doctor_job.plan(str(changed))
        return made

    return make


NODE = """Cpus_allowed_list:\t0-7
MemTotal:       16000000 kB
""" + "".join(f"siblings: cpu{number} {number % 4},{number % 4 + 4}\n" for number in range(8))


@pytest.mark.parametrize(
    ("out", "changes", "verdict", "expected"),
    [
        (NODE, {"cores": 4}, "PASS", "n1: 4 cores of 2 hardware threads, 16 GB; 4 cores are used of a node"),
        (NODE, {"cores": 8}, "FAIL", "a job may use 4 cores of it, and 8 are to be used"),
        (NODE, {"cores": 4, "memory_gb": 64.0}, "FAIL", "16 GB; 64 GB are to be used"),
        (NODE.replace("0-7", "0,4"), {"cores": 4}, "FAIL", "a job may use 1 cores of it"),  # one core, both threads
        (NODE.replace("0-7", "0-1"), {"cores": 4}, "FAIL", "a job may use 2 cores of it"),
        (NODE + "cpu.max: max 100000\ncpu.max: 400000 100000\n", {"cores": 4}, "FAIL", "a job may use 2 cores"),
        (NODE + "cpu.cfs_quota_us: 400000\ncpu.cfs_period_us: 100000\n", {"cores": 4}, "FAIL", "may use 2 cores"),
        (NODE + "cpu.cfs_quota_us: -1\ncpu.cfs_period_us: 100000\n", {"cores": 4}, "PASS", "4 cores"),
        (NODE + "memory.max: 4000000000\n", {"cores": 4, "memory_gb": 16.0}, "FAIL", "4 GB; 16 GB are to be used"),
        (NODE + "memory.max: max\n", {"cores": 4, "memory_gb": 16.0}, "PASS", "16 GB"),
        ("", {"cores": 4}, "FAIL", "n1: "),
        (NODE, {"cores": 2, "scheduler": "slurm"}, "WARN", "the site says 2"),
        (NODE, {"cores": 4, "scheduler": "slurm"}, "WARN", "the site says 1"),  # hardware threads
        (NODE, {"cores": 4, "scheduler": "slurm", "hardware_threads": 2}, "PASS", "4 cores"),
        (NODE, {"cores": 4, "scheduler": "slurm", "hardware_threads": 2, "hyperthreads": True}, "PASS", "8 cores are used"),
    ],
)
def test_limits(left: Any, out: str, changes: dict[str, Any], verdict: str, expected: str) -> None:
    found = doctor_judge.limits(left("limits", out=out, **changes))
    assert (found.verdict, expected in found.detail) == (verdict, True), found
    assert bool(found.fix) == (verdict != "PASS")


@pytest.mark.parametrize(
    ("out", "verdict", "fix"),
    [
        ("writable /a\nreadable /b\n", "PASS", ""),
        ("writable /a\nclosed /scratch\n", "PASS", ""),
        ("writable /a\nunwritable /b\n", "FAIL", "container.binds: with :ro behind it"),
        ("absent /b\n", "FAIL", "container.binds: a folder that is on the compute nodes"),
        ("unreadable /b\n", "FAIL", "container.binds: a folder that you may read"),
        ("", "FAIL", "container.binds"),
    ],
)
def test_binds(left: Any, out: str, verdict: str, fix: str) -> None:
    found = doctor_judge.binds(left("binds", exit=int(not out), out=out, err="FATAL: mount source /b does not exist"))
    assert found.verdict == verdict
    assert found.fix.startswith(fix)


@pytest.mark.parametrize(
    ("exit", "out", "verdict"),
    [
        (0, "90000000000 /run\n", "PASS"),
        (0, "90000000000 /run\n1000 /tmp\n", "WARN"),
        (1, "90000000000 /run\nfull /run\n", "FAIL"),  # a quota, which df does not know
        (1, "", "FAIL"),
    ],
)
def test_space(left: Any, exit: int, out: str, verdict: str) -> None:
    found = doctor_judge.space(left("space", exit=exit, out=out, err="head: write error: Disk quota exceeded"))
    assert found.verdict == verdict
    assert ("Disk quota exceeded" in found.detail) == (verdict == "FAIL")


@pytest.mark.parametrize(
    ("out", "verdict"),
    [
        ("1000.0\n1000.1\n1000.2\n", "PASS"),
        ("1000.0\n1010.0\n1000.2\n", "WARN"),
        ("1000.0\n900.0\n1000.2\n", "FAIL"),  # of the file system behind
        ("1000.0\n4600.0\n1000.2\n", "FAIL"),
        ("1000.0\n", "FAIL"),
        ("x y z", "FAIL"),
    ],
)
def test_clock(left: Any, out: str, verdict: str) -> None:
    assert doctor_judge.clock(left("clock", out=out)).verdict == verdict


def test_the_clock_of_the_login_node_is_compared_through_the_file_system(left: Any) -> None:
    made = left("clock", out="1000.0\n1000.1\n1000.2\n")
    made.start = {**made.start, "ahead": -50.0}
    assert doctor_judge.clock(made).verdict == "FAIL"


@pytest.mark.parametrize(
    ("out", "exit", "verdict", "expected"),
    [
        (f"{RANK % (0, 2, 1, 0)}\n{RANK % (1, 2, 1, 1)}\n", 0, "PASS", "2 ranks on n1 are one job"),
        (f"{RANK % (0, 1, 1, 0)}\n{RANK % (0, 1, 1, 0)}\n", 0, "FAIL", ""),  # strangers, whatever the exit code
        (f"{RANK % (0, 2, 1, 0)}\n", 0, "FAIL", ""),
        ("", 1, "FAIL", "2 ranks were asked for, and the MPI of this image formed a job of 1"),
        ("not JSON\n[1]\n{}\n", 0, "FAIL", ""),
    ],
)
def test_ranks(left: Any, out: str, exit: int, verdict: str, expected: str) -> None:
    words = "noise\nkit-ranks: 2 ranks were asked for, and the MPI of this image formed a job of 1. In the site file: pmi\n"
    found = doctor_judge.ranks(left("ranks", exit=exit, out=out, err=words if exit else ""))
    assert found.verdict == verdict
    assert expected in found.detail
    assert not exit or found.fix == "pmi"


@pytest.mark.parametrize(
    ("outside", "exit", "changes", "verdict"),
    [
        ("mpirun (Open MPI) 4.1.4\n", 0, {}, "PASS"),
        ("HYDRA build details:\n    Version: 4.0\n", 0, {}, "WARN"),  # of another family than the image's
        ("mpirun (Open MPI) 4.1.4\n", 0, {"mpi_family": "mpich"}, "WARN"),
        ("", 127, {}, "FAIL"),
    ],
)
def test_mpi(left: Any, outside: str, exit: int, changes: dict[str, Any], verdict: str) -> None:
    found = doctor_judge.mpi(left("mpi_outside", exit=exit, out=outside, **changes))
    assert found.verdict == verdict


LIST = "MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n"


@pytest.mark.parametrize(("pmi", "verdict"), [("pmix", "PASS"), ("pmix_v4", "PASS"), ("cray_shasta", "FAIL"), ("", "WARN")])
def test_pmi(left: Any, pmi: str, verdict: str) -> None:
    found = doctor_judge.pmi(left("pmi", out=LIST, scheduler="slurm", launcher="srun", pmi=pmi))
    assert found.verdict == verdict, found


@pytest.mark.parametrize(
    ("binds", "verdict"),
    [
        ([], "FAIL"),
        (["/local"], "PASS"),
        (["/local/tmp"], "FAIL"),
        (["/local:/elsewhere"], "FAIL"),
        (["/local:/local"], "PASS"),
    ],
)
def test_the_folder_of_slurms_pmix_is_bound(left: Any, binds: list[str], verdict: str) -> None:
    words = LIST + "TmpFS                   = /local/tmp-%n\nMpiDefault              = none\n"
    made = left("pmi", out=words, scheduler="slurm", launcher="srun", pmi="pmix", binds=binds)
    found = doctor_judge.pmi(made)
    assert found.verdict == verdict, found
    assert ("container.binds: /local" in found.fix) == (verdict == "FAIL")


def test_an_image_that_is_unpacked_or_does_not_start(left: Any) -> None:
    system = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'
    assert doctor_judge.start(left("start", out=system)).verdict == "PASS"
    unpacked = doctor_judge.start(left("start", out=system, err="INFO:    Converting SIF file to temporary sandbox...\n"))
    assert (unpacked.verdict, "APPTAINER_TMPDIR" in unpacked.fix) == ("WARN", True)
    broken = doctor_judge.start(left("start", exit=255, err="FATAL:   could not open image /x.sif: no such file\nbye\n"))
    assert broken.verdict == "FAIL"
    assert "could not open image" in broken.detail


def test_data_that_differ(left: Any) -> None:
    assert doctor_judge.data(left("data", out="")).verdict == "PASS"
    found = doctor_judge.data(
        left("data", exit=1, err="a.star: FAILED\nsha256sum: WARNING: 1 computed checksum did NOT match\n")
    )
    assert found.verdict == "FAIL"


def test_words_of_a_job_cannot_act_on_a_terminal(left: Any) -> None:
    found = doctor_judge.start(left("start", exit=1, err="error \x1b[2J\x07" + "x" * 10_000))
    assert found.detail.isprintable()
    assert len(found.detail) < 600


# ---- what runs carry


def outcome(of: Site, **changes: Any) -> Outcome:
    given = {
        "kit": "1",
        "date": datetime.now(UTC),
        "site": of.name,
        "partition": "local",
        "described": doctor_outcome.description(of),
        "nodes": 1,
        "image": "relion-basic",
        "digest": "sha256:" + "0" * 64,
        "checks": [Checked(name="job", verdict="PASS", detail="ran")],
        **changes,
    }
    return Outcome.model_validate(given)


def test_a_run_carries_the_outcome_of_its_site(toy: Path, tmp_path: Path) -> None:
    doctor_outcome.store(outcome(load_site("here")))
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    assert "doctor.json" in collect(directory).files


def test_a_run_leaves_a_foreign_outcome_alone(toy: Path, tmp_path: Path) -> None:
    here = load_site("here")
    for wrong in (outcome(here, site="there"), outcome(here, described="sha256:" + "1" * 64)):
        target = doctor_outcome.stored("here", "local")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(doctor_outcome.text(wrong))
        doctor_outcome.carry(tmp_path, here, "local")
    target.write_text("{")
    doctor_outcome.carry(tmp_path, here, "local")
    assert not (tmp_path / "doctor.json").exists()


def planted(submission: Path, text: str, listed: bool = True) -> str:
    """The findings when somebody lays a doctor.json into a submission and makes all sums fit."""
    place = submission / packed("doctor.json")
    place.write_text(text)

    def add(run: dict[str, Any]) -> None:
        if listed:
            run["files"]["doctor.json"] = digest(place)

    return forged(submission, add)


def of_submission(submission: Path, **changes: Any) -> str:
    site = parse(Site, json.loads((submission / "run/site.json").read_text()), "site")
    return doctor_outcome.text(outcome(site, **changes))


def test_a_submission_may_hold_the_outcome_of_its_site(submission: Path) -> None:
    assert check(submission) == []
    assert planted(submission, of_submission(submission)) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"site": "there"}, "run/doctor.json: is of site there, partition local, and the run of here, local"),
        ({"partition": "gpu"}, "is of site here, partition gpu, and the run of here, local"),
        ({"described": "sha256:" + "1" * 64}, "is of another description of site here"),
        ({"date": datetime.now(UTC) + timedelta(days=9)}, "which has not come yet"),
    ],
)
def test_a_foreign_outcome_is_refused(submission: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in planted(submission, of_submission(submission, **changes))


@pytest.mark.parametrize(
    ("forge", "expected"),
    [
        (lambda data: {**data, "note": "trust me"}, "key 'note' is not known"),
        (lambda data: {**data, "schema_version": 2}, "schema_version"),
        (lambda data: {**data, "checks": []}, "checks"),
        (lambda data: {**data, "checks": [{**data["checks"][0], "verdict": "GREAT"}]}, "verdict"),
        (lambda data: {**data, "checks": [{**data["checks"][0], "detail": "a\nb"}]}, "one line of printable characters"),
        (lambda data: {key: value for key, value in data.items() if key != "digest"}, "key 'digest' is missing"),
        (lambda data: [data], "run/doctor.json"),
    ],
)
def test_a_forged_outcome_is_refused(submission: Path, forge: Any, expected: str) -> None:
    text = json_text(forge(json.loads(of_submission(submission))))
    assert expected in planted(submission, text)


def test_an_outcome_that_the_run_does_not_list_is_refused(submission: Path) -> None:
    assert "run/doctor.json: is not among the files of run.json" in planted(
        submission, of_submission(submission), listed=False
    )


def test_an_outcome_is_written_as_the_kit_writes_it(submission: Path) -> None:
    text = json.dumps(json.loads(of_submission(submission)))
    assert "run/doctor.json: line 1 is" in planted(submission, text)


def test_an_outcome_that_was_changed_after_packing_is_refused(submission: Path) -> None:
    planted(submission, of_submission(submission))
    path = submission / "run/doctor.json"
    path.write_text(path.read_text().replace("PASS", "FAIL"))
    assert "run/doctor.json: differs from its checksum" in "\n".join(map(str, check(submission)))


def test_the_job_has_the_words_of_the_site(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace("cores = 2", "cores = 64\nmin_nodes = 2\nmax_nodes = 4").replace('"inside"', '"outside"'))
    plan = doctor_job.plan(str(site))
    assert (plan.placement.nodes, plan.placement.ranks, plan.placement.threads) == (2, 2, 64)
    directory = doctor_job.prepare(plan, tmp_path)
    assert resolved(directory)[0].stages[0].name == "doctor"
    assert load_run(directory).site == "mine"
    assert "check mpi_outside mpirun --version" in (directory / "checks.sh").read_text()
    assert ROOT not in directory.parents
