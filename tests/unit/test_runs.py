"""Runs on a scheduler, and many of them: states, chains, arrays, and the commands that show and end them.

The scheduler is one of the test: it hands out numbers, and says of each job what the test wants to hear.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import boxed, kit
from typer.testing import CliRunner

from kit.cli import app
from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import read_json, write_json
from kit.plan import Request, make_plan
from kit.runs import launch, overview
from kit.runs.collect import collect
from kit.runs.record import FILE, StageRecord, State, load_run, read_stages, save_run, stage_lines
from kit.runs.states import Seen, Unanswered, current_state, states_of
from kit.schedulers import Job, slurm

DOWN = KitError("squeue: not on the PATH; run this on a login node of the site")


@dataclass
class Fake:
    """A scheduler in the place of Slurm."""

    jobs: dict[str, Job] = field(default_factory=dict)
    submitted: list[tuple[Path, str, int]] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    down: bool = False
    full: int = 1000  # jobs that it takes

    def submit(self, script: Path, after: str = "", tasks: int = 0) -> str:
        if len(self.submitted) == self.full:
            raise KitError("sbatch: QOSMaxSubmitJobPerUserLimit")
        self.submitted.append((script, after, tasks))
        job = str(100 + len(self.submitted))
        for name in [slurm.task(job, index) for index in range(1, tasks + 1)] or [job]:
            self.jobs[name] = Job("pending", "Priority")
        return job

    def states(self, jobs: Sequence[str]) -> dict[str, Job]:
        self.asked.append(list(jobs))
        if self.down:
            raise DOWN
        return {job: self.jobs.get(job, Job("gone")) for job in jobs}

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        self.jobs[job] = Job("gone", "CANCELLED")


SITE = """
description = "a cluster"
contact = "x"
url = "https://localhost"
scheduler = "slurm"
cores = 2
poll_seconds = 7
[partitions.plain]
[partitions.arrays]
max_jobs_in_array = 3
[container]
runtime = "host"
mpi = "inside"
"""


@pytest.fixture
def cluster(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    (paths.PACKAGE / "sites/there.toml").write_text(SITE)
    fake = Fake()
    for name in ("submit", "states", "cancel"):
        monkeypatch.setattr(slurm, name, getattr(fake, name))
    monkeypatch.setenv("KIT_RUNS", str(toy))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return fake


def made(toy: Path, size: str = "tiny", partition: str = "plain") -> Path:
    return launch.prepare(make_plan(Request("toy", size, "there", partition)), toy)


def wrote(directory: Path, *attempts: tuple[str, int | None, str]) -> None:
    """The record of stages that ended so; an exit code of None is for one that has not ended."""
    records = [
        StageRecord(name=name, command="c", host="h", start=1000.0 + i, end=None if code is None else 1001.0 + i)
        .model_copy(update={"exit_code": code, "reason": reason})
        for i, (name, code, reason) in enumerate(attempts)
    ]  # fmt: skip
    (directory / "stages.jsonl").write_text(stage_lines(records))


DONE = [(name, 0, "") for name in ("first", "second", "third")]
LIMIT, NINE, TERM = "time limit of 5 minutes", "killed by signal 9", "interrupted"
NEVER = "never started, and the job is gone"
KILLED = "killed: it started and never ended, and the job is gone"
FORGOTTEN = "the scheduler no longer knows the job, and no stage of it ever started"


@pytest.mark.parametrize(
    ("attempts", "job", "wanted"),
    [
        ([], Job("pending", "Resources"), "submitted: waits: Resources"),
        ([], Job("pending"), "submitted"),
        ([DONE[0], ("second", 130, "interrupted")], Job("pending", "BeginTime"), "submitted: waits: BeginTime"),
        ([], Job("running"), "running"),
        ([DONE[0], ("second", None, "")], Job("running", "node7"), "running"),
        ([DONE[0], ("second", 1, "exit code 1")], Job("running"), "running"),
        ([("first", 130, LIMIT)], Job("gone", "TIMEOUT"), f"failed: stage first: {LIMIT}"),
        ([("first", None, "")], Job("gone", "NODE_FAIL"), f"failed: stage first: {KILLED}; Slurm says NODE_FAIL"),
        ([("first", None, "")], Job("gone"), f"failed: stage first: {KILLED}"),
        ([("first", 137, NINE)], Job("gone", "OUT_OF_MEMORY"), f"failed: stage first: {NINE}; Slurm says OUT_OF_MEMORY"),
        ([("first", 130, TERM)], Job("gone", "CANCELLED"), f"failed: stage first: {TERM}; Slurm says CANCELLED"),
        ([("first", 3, "exit code 3")], Job("gone", "FAILED"), "failed: stage first: exit code 3"),
        ([], Job("gone", "CANCELLED by 7"), f"incomplete: {FORGOTTEN}; Slurm says CANCELLED by 7"),
        ([], Job("gone"), f"incomplete: {FORGOTTEN}"),
        ([DONE[0]], Job("gone", "TIMEOUT"), f"incomplete: stage second: {NEVER}; Slurm says TIMEOUT"),
        (DONE, Job("running"), "finished"),
        (DONE, Job("gone", "COMPLETED"), "finished"),
    ],
)  # fmt: skip
def test_state_by_record_and_scheduler(
    toy: Path, cluster: Fake, attempts: list[tuple[str, int | None, str]], job: Job, wanted: str
) -> None:
    directory = made(toy)
    run = launch.submit(directory)
    assert (run.job, run.scheduler, run.host != "") == ("101", "slurm", True)
    wrote(directory, *attempts)
    cluster.jobs["101"] = job
    assert str(current_state(directory, run)) == wanted
    seen = states_of([directory])[directory]
    assert isinstance(seen, Seen)
    assert str(seen.state) == wanted


def test_what_the_scheduler_said_outlives_its_memory(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory)
    wrote(directory, ("first", None, ""))
    cluster.jobs["101"] = Job("gone", "NODE_FAIL")
    told = launch.wait(directory, lambda state: None)
    del cluster.jobs["101"]
    for _ in range(2):
        assert (
            collect(directory).state == told == State(name="failed", stage="first", reason=f"{KILLED}; Slurm says NODE_FAIL")
        )


def test_scheduler_that_is_not_here(toy: Path, cluster: Fake) -> None:
    """What the record says is told, and a run is only taken to have ended if all is done or somebody vouches for it."""
    directory = made(toy)
    launch.submit(directory)
    wrote(directory, DONE[0], ("second", None, ""))
    cluster.down = True
    with pytest.raises(Unanswered, match=r"(?s)its job 101 \(slurm\) cannot be asked for: squeue: not on the PATH.*running"):
        current_state(directory, load_run(directory))
    with pytest.raises(KitError, match=r"its job 101 \(slurm\) cannot be asked for"):
        launch.submit(directory)  # it may still run
    with pytest.raises(KitError, match=f"(?s)Its record says: running.*kit collect --ended {directory}"):
        collect(directory)
    seen = states_of([directory])[directory]
    assert isinstance(seen, Seen)
    assert (str(seen.state), seen.problem) == ("running", str(DOWN))
    assert collect(directory, ended=True).state == State(name="failed", stage="second", reason=KILLED)
    wrote(directory, *DONE)
    cluster.asked.clear()
    assert (
        str(current_state(directory, load_run(directory).model_copy(update={"state": State(name="running")}))) == "finished"
    )
    assert not cluster.asked


def test_failed_run_whose_scheduler_is_not_here(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory)
    wrote(directory, ("first", 3, "exit code 3"))
    cluster.down = True
    seen = states_of([directory])[directory]
    assert isinstance(seen, Seen)
    assert str(seen.state) == "failed: stage first: exit code 3"
    assert seen.problem
    with pytest.raises(KitError, match="Its record says: failed: stage first: exit code 3"):
        collect(directory)  # a job of a chain, or a requeued one, may be about to repeat it


def test_waiting_outlives_a_scheduler_that_is_away_for_a_while(
    toy: Path, cluster: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = made(toy)
    launch.submit(directory)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        cluster.down = len(pauses) < 5
        if len(pauses) == 6:
            wrote(directory, *DONE)
            cluster.jobs["101"] = Job("gone")

    cluster.down = True
    monkeypatch.setattr("time.sleep", sleep)
    assert launch.wait(directory, lambda state: None).name == "finished"
    assert set(pauses) == {7}  # what the site says
    other = made(toy)
    launch.submit(other)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    cluster.down = True
    with pytest.raises(Unanswered, match="not on the PATH"):
        launch.wait(other, lambda state: None)


def test_run_of_another_machine_without_a_scheduler(toy: Path) -> None:
    """The number of a process means nothing elsewhere: nobody ends it, and nobody takes it to be gone."""
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    run = load_run(directory).model_copy(
        update={"job": f"{os.getpid()}:1", "host": "elsewhere", "state": State(name="submitted")}
    )
    save_run(directory, run)
    for act in (collect, launch.cancel, launch.submit):
        with pytest.raises(KitError, match="it was started on elsewhere, and this is"):
            act(directory)
    assert collect(directory, ended=True).state.name == "incomplete"
    # A run that is whole is judged wherever its directory is.
    whole = launch.prepare(make_plan(Request("toy", site="here")), toy)
    boxed(whole)
    launch.submit(whole)
    launch.wait(whole, lambda state: None)
    save_run(whole, load_run(whole).model_copy(update={"host": "elsewhere", "state": State(name="running")}))
    assert collect(whole).state.name == "valid"


def test_directory_that_cannot_be_written(toy: Path, cluster: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = made(toy)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    with pytest.raises(KitError, match=rf"{directory}/run.json: cannot be written"):
        collect(directory)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(KitError, match=f"{directory}: cannot be read: you have no permission"):
        collect(directory)


def test_chain_of_jobs(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    run = launch.submit(directory, jobs=3)
    assert [(after, script.name) for script, after, _ in cluster.submitted] == [
        ("", "job.sh"),
        ("101", "job.sh"),
        ("102", "job.sh"),
    ]
    assert (run.job, run.further) == ("101", ["102", "103"])
    cluster.jobs.update({"101": Job("gone", "TIMEOUT"), "102": Job("pending", "Dependency")})
    wrote(directory, ("first", 130, "time limit of 5 minutes"))
    assert str(current_state(directory, run)) == "submitted: waits: Dependency"
    with pytest.raises(KitError, match="its job 101 is still submitted"):
        launch.submit(directory)
    cluster.jobs["102"] = Job("running")
    assert current_state(directory, run).name == "running"
    cluster.jobs.update({"102": Job("gone", "TIMEOUT"), "103": Job("gone", "NODE_FAIL")})
    assert str(current_state(directory, run)) == "failed: stage first: time limit of 5 minutes"
    # Who goes on with it starts a chain of its own.
    assert launch.submit(directory).jobs == ["104"]


def test_chain_is_cancelled_from_its_end(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory, jobs=3)
    assert launch.cancel(directory).reason == "interrupted"
    assert cluster.cancelled == ["103", "102", "101"]


def test_jobs_that_are_left_when_all_is_done_do_not_write_into_the_log(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory, jobs=3)
    wrote(directory, *DONE)
    cluster.jobs.update({"101": Job("gone"), "102": Job("running")})
    assert collect(directory).state.name == "failed"  # nothing has run here, so that no output is there
    assert cluster.cancelled == ["103"]


def test_chain_of_which_the_scheduler_takes_only_some(toy: Path, cluster: Fake) -> None:
    cluster.full = 2
    directory = made(toy)
    with pytest.raises(KitError, match="QOSMaxSubmitJobPerUserLimit"):
        launch.submit(directory, jobs=3)
    assert load_run(directory).jobs == ["101", "102"]
    assert load_run(directory).state.name == "submitted"


def test_chain_needs_a_scheduler(toy: Path) -> None:
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    with pytest.raises(KitError, match="--jobs 2: without a scheduler a job has no limit"):
        launch.submit(directory, jobs=2)
    assert load_run(directory).job == ""
    assert "--jobs 2: without a scheduler" in kit("run", "relion", "--size", "particles", "--jobs", "2", code=1).stderr


def invoked(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, f"{words}: {result.output}{result.exception!r}"
    return result


def test_several_runs_are_one_array(toy: Path, cluster: Fake) -> None:
    said = invoked(
        "run", "toy", "--size", "noisy", "--site", "there", "--partition", "arrays", "--repeat", "2", "--sweep", "speed=3,12"
    )
    directories = [Path(line) for line in said.stdout.split()]
    runs = [load_run(directory) for directory in directories]
    assert [(run.seed, run.changed) for run in runs] == [(1, "speed=3"), (2, "speed=3"), (1, "speed=12"), (2, "speed=12")]
    assert [run.job for run in runs] == ["101_1", "101_2", "101_3", "102"]  # three are the most of an array
    (array, _, tasks), (single, _, none) = cluster.submitted
    assert (array.name, tasks, single, none) == ("array.sh", 3, directories[3] / "job.sh", 0)
    text = array.read_text()
    assert f'#SBATCH --output="{array.parent}/job.out"' in text
    assert "#SBATCH --time=5" in text
    subprocess.run([Path(sys.executable).parent / "shellcheck", array], check=True)
    # A task runs the script of its run, and nothing of another's.
    subprocess.run(["bash", array], env={**os.environ, "SLURM_ARRAY_TASK_ID": "2"}, check=True)
    assert [len(read_stages(directory)) for directory in directories] == [0, 3, 0, 0]
    assert "third: done" in (directories[1] / "job.out").read_text()
    assert json.loads((directories[1] / "third.json").read_text()) == {"noise": 2, "speed": 3}
    for index in ("4", "0", "", "undefined"):
        bad = subprocess.run(
            ["bash", array], env={**os.environ, "SLURM_ARRAY_TASK_ID": index}, capture_output=True, text=True
        )
        assert bad.returncode
    assert [len(read_stages(directory)) for directory in directories] == [0, 3, 0, 0]
    assert overview.find([toy]) == sorted(directories)  # the folder of the array is no run


def test_where_there_are_no_arrays_several_runs_are_several_jobs(toy: Path, cluster: Fake) -> None:
    words = ("run", "toy", "--size", "noisy", "--site", "there", "--repeat", "2")
    invoked(*words)
    invoked(*words, "--partition", "arrays", "--jobs", "2")
    assert [(script.name, after, tasks) for script, after, tasks in cluster.submitted] == [
        ("job.sh", after, 0) for after in ("", "", "", "103", "", "105")
    ]


def test_status_of_all_runs_asks_once(toy: Path, cluster: Fake) -> None:
    runs = [made(toy, "noisy") for _ in range(3)]
    for directory in runs[1:]:
        launch.submit(directory)
    wrote(runs[1], DONE[0], ("second", None, ""))
    cluster.jobs.update({"101": Job("running"), "102": Job("pending", "Resources")})
    cluster.asked.clear()
    lines = invoked("status").stdout.splitlines()
    assert lines[0].split() == ["run", "state", "stage", "elapsed", "job", "reason"]
    assert lines[1].split() == [str(runs[0]), "rendered"]
    assert lines[2].split()[:3] == [str(runs[1]), "running", "second"]
    assert lines[2].split()[-1] == "101"
    assert lines[3].split() == [str(runs[2]), "submitted", "102", "waits:", "Resources"]
    assert cluster.asked == [["101", "102"]]
    found = json.loads(invoked("status", "--json", str(runs[2])).stdout)[str(runs[2])]
    assert (found["name"], found["reason"], found["job"], found["parameters"]) == (
        "submitted",
        "waits: Resources",
        "102",
        {},
    )
    assert json.loads(invoked("status", "--json", str(toy / "toy")).stdout).keys() == set(map(str, runs))


def test_status_where_one_cannot_be_read(toy: Path, cluster: Fake) -> None:
    good, bad = made(toy), made(toy)
    write_json(bad / FILE, {**read_json(bad / FILE), "job": "--all", "scheduler": "slurm"})
    said = invoked("status", code=1).stdout
    assert f"{good}  rendered" in said
    assert f"{bad}  unreadable" in said
    assert "key 'job'" in said
    assert not cluster.asked
    assert "no such run directory" in invoked("status", "/nowhere", code=1).stdout
    shutil.rmtree(toy)
    assert "no runs yet" in invoked("status").stderr


def test_status_by_the_record_says_so(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory)
    wrote(directory, ("first", None, ""))
    cluster.down = True
    assert f"by its record alone: {DOWN}" in invoked("status").stdout


def test_watch_ends_with_the_runs_and_keeps_the_pace_of_the_site(
    toy: Path, cluster: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = made(toy), made(toy)
    for directory in (one, two):
        launch.submit(directory)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        wrote((one, two)[len(pauses) - 1], *DONE)

    monkeypatch.setattr("time.sleep", sleep)
    said = invoked("status", "--watch")
    assert pauses == [7, 7]
    assert said.stdout.count("finished") == 2
    assert f"{one}: submitted: waits: Priority" in said.stderr
    assert "--json prints once" in str(invoked("status", "--watch", "--json", code=1).exception)


def test_a_list_of_runs_reads_little(toy: Path, cluster: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict, or the end that somebody waited for, needs neither the scheduler nor the record of the stages."""
    directory = made(toy)
    launch.submit(directory)
    wrote(directory, ("first", 3, "exit code 3"))
    cluster.jobs["101"] = Job("gone")
    launch.wait(directory, lambda state: None)
    cluster.asked.clear()
    seen = states_of([directory])[directory]
    assert isinstance(seen, Seen)
    assert (str(seen.state), seen.seconds) == ("failed: stage first: exit code 3", 1.0)
    assert not cluster.asked
    # Unless somebody ran the script again by hand.
    os.utime(directory / FILE, (1, 1))
    states_of([directory])
    assert cluster.asked == [["101"]]


@pytest.mark.parametrize(
    "job",
    ["123", "123_4", "12.server", "12[3].pbs-1.site.org", "12[3]", "12.3", "f1AbC", "123[4]", "1234567"],
)  # fmt: skip
def test_ids_of_every_scheduler(toy: Path, cluster: Fake, job: str) -> None:
    directory = made(toy)
    write_json(directory / FILE, {**read_json(directory / FILE), "job": job, "scheduler": "slurm", "further": [job]})
    assert load_run(directory).jobs == [job, job]


@pytest.mark.parametrize(
    "job", ["-1", "--all", "1 2", "1;ls", "1\n2", "$(ls)", "ä", ".1", "_1", "1/2", "1" * 101, "@all", "*", "^ALL"]
)
@pytest.mark.parametrize("key", ["job", "further"])
def test_ids_that_no_scheduler_gives(toy: Path, cluster: Fake, key: str, job: str) -> None:
    """They would be words of commands."""
    directory = made(toy)
    value: Any = job if key == "job" else [job]
    write_json(directory / FILE, {**read_json(directory / FILE), "scheduler": "slurm", key: value})
    with pytest.raises(KitError, match=f"key '{key}"):
        load_run(directory)
    with pytest.raises(KitError, match=f"key '{key}"):
        launch.cancel(directory)
    assert isinstance(states_of([directory])[directory], KitError)
    assert not cluster.asked
    assert not cluster.cancelled


@pytest.mark.parametrize(("scheduler", "job"), [("local", "abc"), ("local", "12.3"), ("cron", "12"), ("../slurm", "12")])
def test_scheduler_and_job_that_do_not_go_together(toy: Path, cluster: Fake, scheduler: str, job: str) -> None:
    directory = made(toy)
    write_json(directory / FILE, {**read_json(directory / FILE), "scheduler": scheduler, "job": job})
    with pytest.raises(KitError, match=r"run\.json: "):
        load_run(directory)


def test_logs(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY", r"printf 'one\r 10 %%\r100 %%\ntwo \033[2J'; echo wrong >&2")
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    with pytest.raises(KitError, match=r"job\.out: not there: no job of this run has started yet"):
        CliRunner().invoke(app, ["logs", str(directory)], catch_exceptions=False)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    said = invoked("logs", str(directory), "second")
    assert said.stdout == "100 %\ntwo \\x1b[2J\n"  # the last state of a progress bar, and no power over the terminal
    assert said.stderr == f"{directory}/logs/second.out:\n"
    assert invoked("logs", str(directory), "second", "--err").stdout == "wrong\n"
    assert invoked("logs", str(directory)).stderr == f"{directory}/logs/third.out:\n"
    assert "did you mean second" in str(invoked("logs", str(directory), "secnd", code=1).exception)
    assert "no such run directory" in str(invoked("logs", "/nowhere", code=1).exception)
    followed = invoked("logs", str(directory), "--follow").stdout
    assert followed == "==> logs/third.out <==\n"


def test_logs_are_followed_through_the_stages(toy: Path, cluster: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = made(toy)
    launch.submit(directory)
    logs = directory / "logs"
    logs.mkdir()
    (directory / "job.out").write_text("begun\n")
    steps = iter([("first", "a\nb"), ("first", "c\n"), ("second", "d\n")])

    def sleep(seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            wrote(directory, *DONE)
            monkeypatch.setattr("kit.runs.launch.poll_seconds", lambda directory, run: 0.0)
            return
        stage, text = step
        with (logs / f"{stage}.out").open("a") as file:
            file.write(text)
        wrote(directory, *([DONE[0]] if stage == "second" else []), (stage, None, ""))

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("kit.runs.logs.poll_seconds", lambda directory, run: 0.0)
    text = invoked("logs", str(directory), "--follow").stdout
    assert (
        text == "==> job.out <==\nbegun\n==> logs/first.out <==\na\nbc\n==> logs/second.out <==\nd\n==> logs/third.out <==\n"
    )
    wrote(directory, DONE[0])
    with pytest.raises(KitError, match="stage second has not started yet"):
        CliRunner().invoke(app, ["logs", str(directory), "second"], catch_exceptions=False)


def test_a_log_that_is_no_file_is_not_read(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    (directory / "job.out").symlink_to("/etc/passwd")
    assert "a link, where a file of this run is needed" in str(invoked("logs", str(directory), code=1).exception)


def test_several_runs_are_cancelled_collected_and_resumed(toy: Path, cluster: Fake) -> None:
    runs = [made(toy), made(toy)]
    for directory in runs:
        launch.submit(directory)
        wrote(directory, ("first", 130, "interrupted"))
    never = made(toy)
    result = invoked("cancel", str(runs[0]), str(never), str(runs[1]), code=1)
    assert result.stdout.count("interrupted") == 2
    assert "never launched" in str(result.exception)
    result = invoked("collect", *map(str, runs), code=1)
    assert result.stdout.count("failed: stage first: interrupted") == 2
    found = json.loads(invoked("collect", "--json", *map(str, runs), code=1).stdout)
    assert [run["state"]["name"] for run in found] == ["failed", "failed"]
    invoked("resume", *map(str, runs), "--jobs", "2")
    assert [load_run(directory).jobs for directory in runs] == [["103", "104"], ["105", "106"]]
    assert "is still submitted" in str(invoked("resume", str(runs[0]), code=1).exception)


def test_runs_of_which_the_scheduler_takes_only_some(toy: Path, cluster: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asked for three runs learns which of them has a job, before the error ends the command."""
    from kit.cli.run import start

    cluster.full = 1
    directories = [made(toy) for _ in range(2)]
    with pytest.raises(KitError, match="QOSMaxSubmitJobPerUserLimit"):
        start(directories, wait=False)
    said = capsys.readouterr().err
    assert f"{directories[0]}: its job 101 was submitted" in said
    assert f"{directories[1]}: was not submitted; kit resume starts it" in said


def test_a_job_that_has_ended_is_not_interrupted(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory)
    cluster.jobs["101"] = Job("gone", "TIMEOUT")
    state = launch.cancel(directory)
    assert (state.name, cluster.cancelled) == ("incomplete", [])
    assert "TIMEOUT" in state.reason


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda directory: (directory / "site.json").unlink(), "site.json"),
        (lambda directory: (directory / "data").unlink(), "leads to no data"),
        (
            lambda directory: save_run(directory, load_run(directory).model_copy(update={"partition": "zzz"})),
            "unknown partition of site there 'zzz'",
        ),
        (
            lambda directory: save_run(directory, load_run(directory).model_copy(update={"scheduler": ""})),
            "key 'scheduler' is empty",
        ),
    ],
)
def test_damage_is_found_before_a_job_is_submitted(
    toy: Path, cluster: Fake, damage: Callable[[Path], None], message: str
) -> None:
    directory = made(toy)
    damage(directory)
    with pytest.raises(KitError, match=message):
        launch.submit(directory)
    assert cluster.submitted == []


def test_a_record_without_a_scheduler_is_an_error_and_no_defect(toy: Path, cluster: Fake) -> None:
    directory = made(toy)
    launch.submit(directory)
    save_run(directory, load_run(directory).model_copy(update={"scheduler": ""}))
    for act in (launch.cancel, collect, launch.submit):
        with pytest.raises(KitError, match="key 'scheduler' is empty"):
            act(directory)


def test_a_number_that_is_no_process(toy: Path) -> None:
    from kit.schedulers import local

    assert local.state("9999999999:1").state == "gone"
