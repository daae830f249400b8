"""kit tune without an engine: trials on the host with stand-ins for RELION, what is decided, what is kept, who uses it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import forged, kit, run_boxed

from kit import cli
from kit.benchmark import load_benchmark
from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.tuning import layouts, trial_files
from kit.core import paths
from kit.core.errors import KitError
from kit.core.host import processor
from kit.plan import Request, key_of, make_plan, request_of, tuned
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.record import load_run, save_run
from kit.site import site_files
from kit.submissions.check import check
from kit.submissions.pack import pack
from kit.tune import job, judge, store
from kit.tune.judge import decide
from kit.tune.store import Choice, Key, Stored, Tried, Tuning

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
# A program that says with which pool it ran, and does with it what the variable of that pool says.
REFINE = """#!/bin/bash
while [ $# -gt 0 ]; do
    case $1 in --pool) pool=$2 ;; --o) out=$2 ;; esac
    shift
done
echo "$pool" >>pools.txt
touch "$out.star" || exit 9
name=POOL_$pool
eval "${!name:-true}"
"""
MPIRUN = """#!/bin/bash
while [ "${1#-}" != "$1" ]; do
    case $1 in -n | --map-by | --bind-to) shift ;; esac
    shift
done
exec "$@"
"""
POOLS = (30, 3, 10)  # in the order in which they are tried: the default first


def choice(pool: int = 30, ranks: int = 3, threads: int = 1) -> Choice:
    return Choice(ranks=ranks, threads=threads, parameters={"pool": pool})


def some(folder: Path, settings: phantom.Settings) -> None:
    """Data of a trial that nobody looks at."""
    head = "\ndata_particles\n\nloop_\n_rlnImageName #1\n"
    (folder / "particles.star").write_text(f"{head}000001@data/particles.mrcs\n000002@data/particles.mrcs\n\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A site without containers, whose RELION is a stand-in; and a user's own settings."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("relion_refine", REFINE), ("relion_refine_mpi", REFINE), ("mpirun", MPIRUN)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    monkeypatch.setattr(phantom, "generate", some)
    (tmp_path / "mine.toml").write_text(SITE)
    return str(tmp_path / "mine.toml")


def prepared(site: str, runs: Path, **changes: Any) -> Path:
    plan, trial = job.plan("relion", "particles", site, repeats=2, **changes)
    return job.prepare(plan, trial, runs, amount=20)


def measured(site: str, runs: Path) -> Stored:
    """What a trial came to that ran."""
    directory = prepared(site, runs)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return judge.judge(directory)


def with_seconds(directory: Path, seconds: dict[int, list[float]]) -> None:
    """Writes what a job would have, with other seconds: nothing here depends on how fast this machine is."""
    for entry in judge.trial_of(directory).order:
        pool = judge.trial_of(directory).choices[entry.choice].parameters["pool"]
        took = seconds[pool].pop(0)
        text = {"choice": entry.choice, "exit": 0, "start": 1000.0, "end": 1000.0 + took}
        (directory / f"trial/{entry.stage}.json").write_text(json.dumps(text))


def test_a_trial_measures_every_choice_in_turn(site: str, tmp_path: Path) -> None:
    found = measured(site, tmp_path / "runs")
    assert [one.choice for one in found.tried] == [choice(pool) for pool in POOLS]
    assert all(one.seconds and not one.problem for one in found.tried)
    (directory,) = (tmp_path / "runs/tune").iterdir()
    run = load_run(directory)
    assert (run.benchmark, run.state.name, run.job != "") == ("tune", "finished", True)
    trial = judge.trial_of(directory)
    assert [entry.choice for entry in trial.order] == [0, 1, 2, 2, 1, 0]
    pools = [int(line) for line in (directory / "pools.txt").read_text().split()]
    assert pools[:6] == [30, 30, 3, 3, 10, 10]  # Class3D and Refine3D of each
    assert (directory / "particles.star").read_text().count("@data/") == 20
    assert not (directory / "out").exists()
    assert found.tuning.processor == found.key.processor == processor()[0]
    with pytest.raises(KitError, match="a trial, and no run of a benchmark; what it came to: kit tune"):
        collect(directory)


def test_a_trial_asks_for_the_cores_of_every_choice(tmp_path: Path) -> None:
    """Also where the choice with most ranks leaves cores idle: 23 ranks, and 3 of 8 threads, on a node of 24 cores."""
    path = tmp_path / "shared.toml"
    path.write_text(SITE.replace('"local"', '"slurm"').replace("cores = 2", "cores = 24\nmax_minutes = 120"))
    plan, trial = job.plan("relion", "particles", str(path))
    assert max(one.ranks for one in trial.choices) == 23
    assert max(one.ranks * one.threads for one in trial.choices) == 24
    script = job.script(plan, *launch.DRY)
    assert "#SBATCH --ntasks-per-node=24\n#SBATCH --cpus-per-task=1\n" in script
    assert (plan.placement.ranks, plan.placement.threads) == (24, 1)


def test_a_choice_that_crashes_is_shown_and_not_chosen(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_10", "echo 'ERROR: out of memory' >&2; exit 3")
    monkeypatch.setenv("POOL_3", "kill -9 $$")
    found = measured(site, tmp_path / "runs")
    by_pool = {one.choice.parameters["pool"]: one for one in found.tried}
    assert by_pool[10].problem == "exit code 3: ERROR: out of memory"
    assert by_pool[3].problem.startswith("killed by signal 9")
    assert by_pool[10].seconds == by_pool[3].seconds == []
    assert found.tuning.kept
    said = judge.report(found)
    assert "failed: exit code 3: ERROR: out of memory" in said
    assert "The default stays: 3 ranks x 1 thread, pool 30." in said
    (directory,) = (tmp_path / "runs/tune").iterdir()
    assert (directory / "pools.txt").read_text().split().count("10") == 1  # what failed is not tried again


def test_a_default_that_crashes_is_replaced(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_30", "exit 1")
    found = measured(site, tmp_path / "runs")
    assert found.tuning.default_seconds is None
    assert not found.tuning.kept
    assert "The default, 3 ranks x 1 thread, pool 30, failed." in judge.report(found)
    assert found.tuning.lines[1].startswith("Tuning: the default, 3 ranks x 1 thread, pool 30: failed")


def test_nothing_is_stored_if_every_choice_fails(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pool in POOLS:
        monkeypatch.setenv(f"POOL_{pool}", "echo 'ERROR: no' >&2; exit 1")
    code, out, said = tune()
    assert (code, out) == (1, "")
    assert "no choice ran well:" in said
    assert said.count("exit code 1: ERROR: no") == 3
    assert "Nothing was stored." in said
    assert not (tmp_path / "config/tuning").exists()


@pytest.fixture
def tune(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`kit tune` in this process: its exit code, and what it said to stdout and stderr."""

    def called(*words: str) -> tuple[int, str, str]:
        usual = ("relion", "--site", site, "--size", "particles", "--repeat", "2", "--runs", str(tmp_path / "runs"))
        monkeypatch.setattr("sys.argv", ["kit", "tune", *(words or usual)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return called


def test_the_command_stores_and_a_run_uses_it(tune: Callable[..., tuple[int, str, str]], site: str, tmp_path: Path) -> None:
    code, out, said = tune()
    assert code == 0
    assert out.startswith("choice on a node")
    (path,) = (tmp_path / "config/tuning/mine").iterdir()
    assert f"{path}: kept for runs of relion, size particles, on site mine" in said
    (directory,) = (tmp_path / "runs/tune").iterdir()
    before = path.read_text()
    _, out, _ = tune(str(directory), "--json")  # judges what is there, and runs nothing
    assert json.loads(out) == json.loads(before) == json.loads(path.read_text())
    script = kit("run", "relion", "--size", "particles", "--site", site, "--dry-run").stdout
    assert "\n# Tuning: " in script
    assert "# Tuning:" not in kit("run", "relion", "--size", "particles", "--site", site, "--dry-run", "--no-tuning").stdout


def test_an_interrupted_trial_stores_nothing_and_goes_on(
    tune: Callable[..., tuple[int, str, str]], site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal, as at a time limit: what was measured stays, the measurement that was cut off is repeated."""
    marker = tmp_path / "cut"
    kill = "until [ -s job.pid ]; do sleep 0.1; done; kill -TERM $(cat job.pid); sleep 60"
    cut_off = f"[ -e {marker} ] || {{ touch {marker}; {kill}; }}"
    monkeypatch.setenv("POOL_10", cut_off)
    directory = prepared(site, tmp_path / "runs")
    launch.submit(directory)
    (directory / "job.pid").write_text(load_run(directory).job.partition(":")[0])
    state = launch.wait(directory, lambda state: None)
    assert (state.name, state.stage, state.exit_code) == ("failed", "m003", 130)
    with pytest.raises(KitError, match=rf"failed: stage m003: interrupted\n.*kit tune {directory} goes on with it"):
        judge.judge(directory)
    assert not store.folder("mine").exists()
    done = (directory / "trial/m001.json").read_bytes()
    assert tune(str(directory))[0] == 0
    assert (directory / "trial/m001.json").read_bytes() == done
    assert len(list(store.folder("mine").iterdir())) == 1
    by_pool = {one.choice.parameters["pool"]: one for one in judge.judge(directory).tried}
    assert by_pool[10].seconds
    assert not by_pool[10].problem


def test_what_took_the_job_down_is_not_tried_again(site: str, tmp_path: Path) -> None:
    """A node that kills the whole job for its memory leaves a stage that started and never ended."""
    directory = prepared(site, tmp_path / "runs")
    with (directory / "stages.jsonl").open("w") as file:
        for stage in ("node", "m001"):
            file.write(f'{{"stage": "{stage}", "event": "start", "time": 1.0, "host": "n", "command": "x"}}\n')
            if stage == "node":
                file.write('{"stage": "node", "event": "end", "time": 2.0, "exit": 0, "reason": ""}\n')
    (directory / "node.txt").write_text("model name\t: Old CPU\n")
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    found = judge.judge(directory)
    assert found.tried[0].problem == "the job ended while it ran, and said nothing: too little memory does that"
    assert found.tuning.default_seconds is None
    assert "30" not in (directory / "pools.txt").read_text().split()
    assert found.tuning.processor == "Old CPU"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"choice": 0}', '{"choice": 9, "exit": 0, "start": 1, "end": 2}'])
def test_a_measurement_that_is_none_is_refused(site: str, tmp_path: Path, text: str) -> None:
    measured(site, tmp_path / "runs")
    (directory,) = (tmp_path / "runs/tune").iterdir()
    (directory / "trial/m002.json").write_text(text)
    with pytest.raises(KitError, match=r"trial/m002\.json"):
        judge.judge(directory)


def test_seconds_of_files_are_those_that_are_compared(site: str, tmp_path: Path) -> None:
    measured(site, tmp_path / "runs")
    (directory,) = (tmp_path / "runs/tune").iterdir()
    with_seconds(directory, {30: [9.0, 9.5], 3: [8.0, 8.2], 10: [5.0, 5.25]})
    found = judge.judge(directory)
    assert (found.tuning.choice, found.tuning.seconds) == (choice(10), 5.125)
    assert (found.tuning.default_seconds, found.tuning.spread) == (9.25, 0.5)
    assert "Chosen: 3 ranks x 1 thread, pool 10, 1.80 times as fast as the default" in judge.report(found)


WHEN = datetime(2026, 11, 27, 12, tzinfo=UTC)


def tried(*seconds: float, pool: int = 30, problem: str = "") -> Tried:
    return Tried(choice=choice(pool), seconds=list(seconds), problem=problem)


@pytest.mark.parametrize(
    ("default", "other", "pool"),
    [
        ((10.0, 10.2, 10.1), (9.0, 9.1, 9.2), 10),
        ((10.0, 12.0, 11.0), (9.5, 9.6, 9.7), 30),  # repeats of the default differ more than what is won
        ((10.0, 10.1, 10.2), (8.0, 12.0, 9.0), 30),  # and those of the other
        ((10.0, 10.0), (9.5, 10.0), 30),  # just as much
        ((10.0, 10.0), (10.0, 10.0), 30),
        ((10.0, 10.0), (11.0, 11.0), 30),
        ((50.0,), (10.0, 10.5), 10),  # too slow to be repeated
    ],
)
def test_the_default_is_kept_in_doubt(default: tuple[float, ...], other: tuple[float, ...], pool: int) -> None:
    found = decide([tried(*default), tried(*other, pool=10)], WHEN, "CPU")
    assert found.choice == choice(pool)
    assert found.kept == (pool == 30)


def test_a_failed_choice_is_never_the_fastest() -> None:
    found = decide([tried(10, 10), tried(1, pool=10, problem="exit code 1"), tried(8, 8, pool=3)], WHEN, "CPU")
    assert found.choice == choice(3)
    with pytest.raises(KitError, match=r"no choice ran well:\n  3 ranks x 1 thread, pool 30: exit code 1\n.*not measured"):
        decide([tried(problem="exit code 1"), tried(pool=3)], WHEN, "CPU")


@pytest.mark.parametrize(
    ("cores", "gpus", "expected"),
    [
        (1, 0, [(3, 1)]),
        (2, 0, [(3, 1)]),
        (8, 0, [(7, 1), (3, 2), (3, 4)]),
        (64, 0, [(63, 1), (31, 2), (15, 4), (7, 8), (3, 16), (3, 21), (3, 32)]),
        (64, 4, [(5, 12), (9, 7)]),
    ],
)
def test_layouts_fill_a_node(cores: int, gpus: int, expected: list[tuple[int, int]]) -> None:
    size = load_benchmark("relion").size("particles").model_copy(update={"ranks": 0})
    assert layouts(size, cores, gpus) == expected


def test_what_a_scheduler_would_refuse_is_not_tried() -> None:
    plan, trial = job.plan("relion", "particles", "example-slurm", image="relion-accelerated")
    assert choice(30) == trial.choices[0]
    assert all(one.ranks * one.threads <= 64 for one in trial.choices)
    assert (plan.placement.nodes, plan.placement.ranks, plan.placement.threads, plan.minutes) == (1, 63, 1, 60)
    script = job.script(plan, *launch.DRY)
    assert "#SBATCH --ntasks-per-node=63\n#SBATCH --cpus-per-task=1\n#SBATCH --exclusive" in script
    assert "srun --nodes=1 --ntasks=15 --ntasks-per-node=15 --cpus-per-task=4 " in script
    assert "srun --nodes=1 --ntasks=3 --ntasks-per-node=3 --cpus-per-task=21 " in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_threads_that_a_size_fixes_are_not_measured() -> None:
    """Class3D of relion-basic has one thread at size tiny, whatever a node is divided into."""
    scripts = {
        (size, image): job.script(job.plan("relion", size, "local", image=image)[0], *launch.DRY)
        for size, image in (("tiny", "relion-basic"), ("tiny", "relion-accelerated"), ("particles", "relion-basic"))
    }
    with_class3d = {key for key, script in scripts.items() if "out/class3d" in script}
    assert with_class3d == {("tiny", "relion-accelerated"), ("particles", "relion-basic")}
    assert all("out/refine3d" in script for script in scripts.values())


def test_particles_are_repeated(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    some(tmp_path / "data", phantom.Settings())
    trial_files(tmp_path / "data", tmp_path, 5)
    text = (tmp_path / "particles.star").read_text()
    assert [line[:6] for line in text.splitlines() if "@" in line] == ["000001", "000002"] * 2 + ["000001"]
    assert text.endswith("\n\n")


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["cloudmask"], "unknown benchmark with something to tune 'cloudmask': known: relion", 1),
        (["relyon"], "unknown benchmark 'relyon': did you mean relion", 1),
        (["relion", "--size", "tinny"], "did you mean tiny", 1),
        (["relion", "--site", "nowhere"], "unknown site 'nowhere'", 1),
        (["relion", "--repeat", "1"], "Invalid value for '--repeat'", 2),
        (["./nothing"], "no such run directory", 1),
        (["relion", "--image", "relion-cuda"], "computes on GPUs", 1),
    ],
)
def test_refused(words: list[str], message: str, code: int) -> None:
    assert message in kit("tune", *words, "--dry-run", code=code).stderr


def test_a_partition_of_large_jobs_is_refused(site: str) -> None:
    Path(site).write_text(SITE.replace("cores = 2", "cores = 2\nmin_nodes = 4\nmax_nodes = 8"))
    with pytest.raises(KitError, match="measures one node, and partition main takes jobs of 4 nodes or more; --partition"):
        job.plan("relion", "particles", site)


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    result = kit("tune", "relion", "--dry-run", cwd=tmp_path)
    assert result.stdout.startswith("#!/bin/bash\n")
    assert "run_stage m009 " in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_no_trial(toy: Path) -> None:
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    with pytest.raises(KitError, match="a run of toy, and no trial of kit tune; kit collect judges it"):
        judge.judge(directory)


# What is kept, and who uses it.

FOUND = Tuning(
    date=WHEN,
    processor="Example CPU 64",
    choice=Choice(ranks=15, threads=4, parameters={"pool": 10}),
    seconds=6.5,
    default=choice(30),
    default_seconds=41.25,
    spread=0.4,
)
ASKED = Request("relion", "particles", "example-slurm")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tuning of example-slurm, kept."""
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    return keep()


def keep(**changes: Any) -> Path:
    key = key_of(ASKED).model_copy(update=changes)
    return store.store(Stored(kit="0", key=key, tuning=FOUND, tried=[tried(41.25, 41.25)]))


def test_a_request_takes_the_choice(kept: Path) -> None:
    assert kept.parent == store.folder("example-slurm")
    request, remark = tuned(ASKED)
    assert (request.ranks, request.threads, request.parameters, request.tuning) == (15, 4, ("pool=10",), FOUND)
    assert "tuned for site example-slurm: 15 ranks x 4 threads, pool 10 on a node" in remark
    text = launch.script(make_plan(request), *launch.DRY)
    assert "\n# Tuning: 15 ranks x 4 threads, pool 10, measured 2026-11-27 on Example CPU 64: 6.50 s\n" in text
    assert "\n# Tuning: the default, 3 ranks x 1 thread, pool 30: 41.25 s; repeats differed by 0.40 s at most\n" in text
    assert "--ntasks=15" in text
    assert "--pool 10 --j 4" in text


@pytest.mark.parametrize(("nodes", "ranks"), [(1, 15), (2, 29), (3, 45), (4, 59)])
def test_on_several_nodes_the_number_of_ranks_is_odd(kept: Path, nodes: int, ranks: int) -> None:
    request, _ = tuned(dataclasses.replace(ASKED, nodes=nodes))
    placed = make_plan(request).placement
    assert (placed.ranks, placed.ranks_per_node, placed.threads) == (ranks, 15, 4)


@pytest.mark.parametrize(
    ("changes", "swept", "what"),
    [
        ({"ranks": 3}, (), "--ranks is given"),
        ({"threads": 2}, (), "--threads is given"),
        ({"ranks": 3, "threads": 2}, (), "--ranks, --threads is given"),
        ({"parameters": ("pool=3",)}, (), "pool is given"),
        ({}, ("pool=3,12",), "pool is given"),
    ],
)
def test_what_the_user_says_wins(kept: Path, changes: dict[str, Any], swept: tuple[str, ...], what: str) -> None:
    asked = dataclasses.replace(ASKED, **changes)
    request, remark = tuned(asked, swept)
    assert request == asked
    assert remark == f"the tuning of site example-slurm is not used: {what}"


def test_other_parameters_do_not_matter(kept: Path) -> None:
    request, _ = tuned(dataclasses.replace(ASKED, parameters=("class3d_iterations=12",), seed=3))
    assert request.parameters == ("class3d_iterations=12", "pool=10")


def test_a_default_that_was_kept_changes_nothing(kept: Path) -> None:
    default = FOUND.model_copy(update={"choice": choice(30), "seconds": 41.25})
    key = key_of(ASKED)
    store.store(Stored(kit="0", key=key, tuning=default, tried=[tried(41.25)]))
    request, remark = tuned(ASKED)
    assert remark == ""
    assert request == dataclasses.replace(ASKED, tuning=default)
    text = launch.script(make_plan(request), *launch.DRY)
    assert (
        "# Tuning: the default, 3 ranks x 1 thread, pool 30, measured 2026-11-27 on Example CPU 64: 41.25 s; no other"
        in text
    )
    assert "--ntasks=3 " in text


OTHER = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipe": OTHER}, "with another recipe of the image"),
        ({"image": "relion-accelerated", "recipe": OTHER}, "with image relion-accelerated"),
        ({"processor": "Old CPU"}, "on processor Old CPU"),
        ({"processor": ""}, "on processor unknown"),
        ({"cores": 32}, "on 32 cores"),
        ({"gpus": 8}, "on 8 GPUs"),
        ({"numbers": OTHER}, "with other numbers of the size"),
        ({"partition": "himem"}, "on partition himem"),
        ({"size": "tiny"}, "for size tiny"),
        ({"size": "tiny", "cores": 32}, "for size tiny, on 32 cores"),
    ],
)
def test_a_stale_tuning_is_ignored_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], why: str
) -> None:
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    path = keep(**changes)
    request, remark = tuned(ASKED)
    assert request == ASKED
    assert remark.startswith(f"the tuning {path} is not used: it was measured {why}; kit tune relion --site example-slurm ")


def test_the_command_says_why_a_tuning_is_not_used(kept: Path) -> None:
    said = kit(
        "run", "relion", "--site", "example-slurm", "--image", "relion-accelerated", "--size", "particles", "--dry-run"
    )
    assert "it was measured with image relion-basic; kit tune relion --site example-slurm --image" in said.stderr
    assert "# Tuning" not in said.stdout


def test_the_fitting_one_of_several_is_used_and_the_nearest_named(kept: Path) -> None:
    keep(cores=32, processor="Old CPU")
    near = keep(cores=32)
    assert tuned(ASKED)[0].tuning == FOUND
    kept.unlink()
    assert f"{near} is not used: it was measured on 32 cores;" in tuned(ASKED)[1]


def test_without_any_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "kit.toml"))
    assert tuned(ASKED) == (ASKED, "")
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    keep(benchmark="other")
    assert tuned(ASKED) == (ASKED, "")


def changed(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text(path.read_text()[:100]), "not JSON"),
        (lambda path: path.write_text(""), "not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not JSON"),
        (lambda path: path.write_text("[]"), "Input should be a valid dictionary"),
        (
            lambda path: changed(path, lambda data: data.update(tuningg=1)),
            "key 'tuningg' is not known; did you mean 'tuning'",
        ),
        (lambda path: changed(path, lambda data: data["tuning"].pop("spread")), "key 'tuning.spread' is missing"),
        (lambda path: changed(path, lambda data: data["tuning"].update(seconds=-1)), "key 'tuning.seconds'"),
        (
            lambda path: changed(path, lambda data: data["tuning"].update(seconds=41.0)),
            "not faster than the default by more",
        ),
        (lambda path: changed(path, lambda data: data["tuning"].update(processor="a\nrm -rf x")), "key 'tuning.processor'"),
        (lambda path: changed(path, lambda data: data["tuning"]["choice"].update(ranks=0)), "key 'tuning.choice.ranks'"),
        (
            lambda path: changed(path, lambda data: data["tuning"]["choice"]["parameters"].update(pool="$(x)")),
            "key 'tuning.choice.parameters.pool'",
        ),
        (lambda path: changed(path, lambda data: data["key"].update(cores=32)), "key 'key'"),
    ],
)
def test_a_bad_file_is_an_error_with_a_way_out(kept: Path, damage: Any, message: str) -> None:
    damage(kept)
    with pytest.raises(KitError) as error:
        tuned(ASKED)
    assert str(error.value).startswith(str(kept))
    assert message in str(error.value)
    assert str(error.value).endswith("Remove it and measure again with kit tune, or run with --no-tuning")


def test_commands_name_the_bad_file_and_the_way_out_works(kept: Path) -> None:
    kept.write_text("{")
    words = ["run", "relion", "--size", "particles", "--site", "example-slurm", "--dry-run"]
    for refused in (words, ["tune", *words[1:-1]]):  # before anything is run
        said = kit(*refused, code=1).stderr
        assert str(kept) in said
        assert "Remove it and measure again" in said
    assert "# Tuning" not in kit(*words, "--no-tuning").stdout


def test_it_is_written_whole_or_not_at_all(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.read_text()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KitError, match=r"cannot be written: No space left on device; KIT_CONFIG"):
        keep()
    assert kept.read_text() == before
    assert list(kept.parent.iterdir()) == [kept]


def test_sites_of_the_kit_are_left_alone(kept: Path) -> None:
    assert not kept.is_relative_to(paths.PACKAGE)
    assert kept.stem not in site_files()


def test_key_has_a_file_of_its_own() -> None:
    key = key_of(ASKED)
    others = [
        key.model_copy(update=change)
        for change in (
            {"cores": 2},
            {"gpus": 2},
            {"numbers": OTHER},
            {"processor": "x"},
            {"recipe": OTHER},
            {"partition": "x"},
            {"image": "x"},
            {"size": "x"},
        )
    ]
    assert len({one.path for one in (key, *others)}) == 9
    assert isinstance(key, Key)


# What others make of a run that was tuned.


def test_a_submission_of_a_tuned_run_is_rendered_again_without_the_file(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, where nobody has tuned: the choice and its seconds are in run.json."""
    found = Tuning(
        date=WHEN,
        processor="Example CPU",
        choice=Choice(ranks=1, threads=1, parameters={"speed": 4}),
        seconds=1.0,
        default=Choice(ranks=1, threads=1, parameters={"speed": 3}),
        default_seconds=2.0,
        spread=0.1,
    )
    asked = Request("toy", "noisy", site="here")
    key = key_of(asked)
    store.store(Stored(kit="0", key=key, tuning=found, tried=[tried(2.0)]))
    request, _ = tuned(asked)
    directory = launch.prepare(make_plan(request), tmp_path / "tuned")
    script = (directory / "job.sh").read_text()
    assert "# Tuning: 1 rank x 1 thread, speed 4, measured 2026-11-27 on Example CPU: 1.00 s" in script
    run_boxed(directory)
    run = load_run(directory)
    assert run.state.name == "valid"
    assert run.rendering
    assert (run.changed, run.rendering.tuning) == ("speed=4", found)
    assert request_of(run).tuning == found
    folder = pack(directory, tmp_path / "packed")
    key.path.unlink()
    assert not check(folder)
    # Who changes what it says of itself has another script.
    assert "job.sh" in forged(folder, lambda data: data["rendering"]["tuning"].update(seconds=0.5))
    assert "its choice is 3 ranks x 1 thread, speed 4, and that is not what this run has" in forged(
        folder,
        lambda data: data["rendering"]["tuning"].update(
            seconds=1.0, choice={"ranks": 3, "threads": 1, "parameters": {"speed": 4}}
        ),
    )


def test_a_tuning_cannot_hide_what_a_run_computes(toy: Path, tmp_path: Path) -> None:
    """Only parameters that decide how fast a run is may differ, whoever says that they were tuned."""
    found = FOUND.model_copy(update={"choice": Choice(ranks=1, threads=1, parameters={"effort": 1})})
    request = dataclasses.replace(
        Request("toy", "noisy", site="here"), tuning=found, parameters=("effort=1",), ranks=1, threads=1
    )
    directory = launch.prepare(make_plan(request), tmp_path / "runs")
    save_run(directory, load_run(directory))
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    run = load_run(directory)
    assert "effort=1.0 is not what size noisy says" in run.untuned(make_plan(request).benchmark)
