"""RELION's queue template: its text for two sites, and what a script does that was filled as RELION fills it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, kit

from kit.benchmarks.relion import queue_template
from kit.core.errors import KitError
from kit.core.schema import parse
from kit.launchers import LAUNCHERS
from kit.schedulers import SCHEDULERS
from kit.site import Site, load_site

GOLDEN = ROOT / "tests/golden"


def text(site: Site, project: Path, **options: int) -> str:
    wanted = {"threads": None, "minutes": None, **options}
    return queue_template.template(site, None, None, project, wanted["threads"], wanted["minutes"])[0]


@pytest.mark.parametrize("name", ["local", "example-slurm"])
def test_golden_template(name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("kit.runtimes.apptainer.no_privileges", list)
    monkeypatch.setattr("kit.runtimes.apptainer.singularity", lambda: ["apptainer"])
    monkeypatch.setattr("sys.argv", ["kit", "relion", "queue", name])
    found = text(load_site(name), Path("/work/project"))
    found = re.sub(r"\S*/images/([a-z-]+)-[0-9a-f]{12}(\.recipe)?\.sif", r"/images/\1.sif", found)
    path = GOLDEN / f"relion-queue-{name}.sh"
    if request.config.getoption("--update-golden"):
        path.write_text(found)
    assert found == path.read_text(), "look at the difference; then pytest --update-golden"
    subprocess.run(["bash", "-n", path], check=True)
    subprocess.run([Path(sys.executable).with_name("shellcheck"), path], check=True)


def site(**partition: object) -> Site:
    partition = {"scheduler": "local", "launcher": "mpirun", "cores": 4, "max_nodes": 2, "max_minutes": 60, **partition}
    data = {"name": "x", "description": "x", "contact": "x", "url": "x", "partitions": {"p": partition}}
    return parse(Site, {**data, "container": {"runtime": "host", "mpi": "outside"}}, "x")


def filled(template: str, commands: list[str], **words: str) -> str:
    """A template as RELION's saveJobSubmissionScript fills it."""
    ranks = int(words.get("mpinodes", "1"))
    lines = []
    for line in template.splitlines():
        for key, value in words.items():
            line = line.replace(f"XXX{key}XXX", value)
        if "XXXcommandXXX" not in line:
            lines.append(line)
            continue
        for command in commands:
            through = "relion_" in command and ("_mpi`" in command or ranks == 1)
            lines.append(line.replace("XXXcommandXXX", command, 1) if through else command)
    return "\n".join(lines) + "\n\n"


# Each says by which launcher it came, with how many threads, and its options.
PROGRAM = '#!/bin/bash\necho "${0##*/} $* ($STARTED, $OMP_NUM_THREADS threads)"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and on the PATH what stands for RELION of the image and for mpirun."""
    folder = tmp_path / "a project"
    (folder / "Class2D/job001").mkdir(parents=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    broken = "#!/bin/bash\nexit 7\n"
    mpirun = '#!/bin/bash\nwhile [ "$1" != env ]; do words+=" $1"; shift; done\nSTARTED="mpirun$words" exec "$@"\n'
    for name, program in {"refine": PROGRAM, "refine_mpi": PROGRAM, "broken_mpi": broken}.items():
        (programs / f"relion_{name}").write_text(program)
        (programs / f"relion_{name}").chmod(0o755)
    (programs / "mpirun").write_text(mpirun)
    (programs / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("STARTED", "alone")
    return folder


WORDS = {"name": "Class2D/job001/", "outfile": "Class2D/job001/run.out", "errfile": "Class2D/job001/run.err"}


def ran(project: Path, template: str, commands: list[str], ranks: int, **words: str) -> tuple[int, str]:
    """Exit code of a filled script, and its run.out."""
    numbers = {"mpinodes": str(ranks), "threads": "2", "nodes": "1", "extra1": str(ranks), "dedicated": "4", "cores": "4"}
    script = project / "Class2D/job001/run_submit.script"
    script.write_text(filled(template, commands, **{**WORDS, **numbers, **words}))
    assert "XXX" not in script.read_text().partition("\nset -e")[2]
    result = subprocess.run(["bash", script], cwd=project, capture_output=True, text=True)
    log = project / "Class2D/job001/run.out"
    return result.returncode, (log.read_text() if log.exists() else "") + result.stderr


def test_ranks_start_through_the_launcher_and_the_rest_alone(project: Path) -> None:
    """RELION's words for its programs, and a command between them that no line of the template stands before."""
    commands = ["`which relion_refine_mpi` --o x", "relion_refine --plain", "echo a >plain.txt", "`which relion_refine` --y"]
    code, out = ran(project, text(site(), project), commands, ranks=2)
    mpirun = "mpirun --allow-run-as-root -n 2 --oversubscribe --map-by node --bind-to none"
    assert (code, out.splitlines()) == (
        0,
        [
            f"relion_refine_mpi --o x ({mpirun}, 2 threads)",
            "relion_refine --plain (alone, 2 threads)",
            "relion_refine --y (alone, 2 threads)",
        ],
    )
    assert (project / "plain.txt").read_text() == "a\n"
    assert not list((project / "Class2D/job001").glob("RELION_JOB_EXIT_*"))  # success is for RELION to say


def test_one_rank_needs_no_launcher(project: Path) -> None:
    code, out = ran(project, text(site(), project), ["`which relion_refine` --o x"], ranks=1)
    assert (code, out) == (0, "relion_refine --o x (alone, 2 threads)\n")


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (["`which relion_broken_mpi`", "`which relion_refine_mpi` --late"], 7),
        (["`which relion_absent_mpi`", "`which relion_refine_mpi` --late"], 127),
    ],
)
def test_a_job_that_fails_is_marked_and_stops(project: Path, commands: list[str], code: int) -> None:
    """A program that the image lacks is not looked for anywhere else."""
    found, out = ran(project, text(site(), project), commands, ranks=2)
    assert found == code
    assert "late" not in out
    assert (project / "Class2D/job001/RELION_JOB_EXIT_FAILURE").exists()


def test_a_job_that_cannot_begin_is_marked(project: Path) -> None:
    code, _ = ran(project, text(site(prologue=["false"]), project), ["`which relion_refine_mpi`"], ranks=2)
    assert code == 1
    assert (project / "Class2D/job001/RELION_JOB_EXIT_FAILURE").exists()


def test_a_job_that_is_ended_ends_its_programs_and_is_marked(project: Path) -> None:
    started = project / "started"
    (Path(os.environ["PATH"].partition(":")[0]) / "relion_refine").write_text(f"#!/bin/bash\ntouch '{started}'\nsleep 60\n")
    script = project / "script"
    words = {**WORDS, "mpinodes": "1", "threads": "2", "nodes": "1", "extra1": "1"}
    script.write_text(filled(text(site(), project), ["`which relion_refine`"], **words))
    process = subprocess.Popen(["bash", script], cwd=project)
    while not started.exists():
        assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=30) == 130
    assert (project / "Class2D/job001/RELION_JOB_EXIT_FAILURE").exists()


def test_nodes_that_are_not_filled_are_refused_where_the_launcher_fills_them(project: Path) -> None:
    template = text(site(launcher="jsrun", cores=40), project)
    code, out = ran(project, template, ["`which relion_refine_mpi`"], ranks=3, nodes="2", extra1="2")
    assert code == 69
    assert "3 ranks do not fill 2 nodes with 2 each" in out


def test_an_mpi_inside_of_the_image_is_not_asked_for_two_nodes(project: Path) -> None:
    one = load_site("example-slurm")
    one = one.model_copy(update={"container": one.container.model_copy(update={"mpi": "inside", "runtime": "host"})})
    template = text(one.model_copy(update={"container": one.container.model_copy(update={"binds": []})}), project)
    code, out = ran(project, template, ["`which relion_refine_mpi`"], ranks=4, nodes="2", extra1="2")
    assert code == 69
    assert "serves one node" in out


def test_what_relion_cannot_say_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KitError, match="gives at most 60"):
        text(site(), tmp_path, minutes=61)
    with pytest.raises(KitError, match="do not go with quotes"):
        text(site(), tmp_path / "it's")
    doubled = SimpleNamespace(ORDERS=("cyclic",), command=lambda ranks, args: ["start", str(2 * ranks.per_node)])
    monkeypatch.setitem(LAUNCHERS, "mpirun", doubled)
    with pytest.raises(KitError, match=r"mpirun calculates a number for which RELION's templates have no word.*: start "):
        text(site(), tmp_path)


def test_memory_of_a_core_is_that_of_the_node_shared_out(tmp_path: Path) -> None:
    shared = {"scheduler": "slurm", "exclusive": False, "memory_request": "core", "memory_gb": 256, "cores": 64}
    assert f"#SBATCH --mem-per-cpu={int(256e9 / 2**20 / 64)}M\n" in text(site(**shared), tmp_path)


def test_every_scheduler_has_a_command_that_takes_scripts() -> None:
    assert queue_template.SUBMIT.keys() >= SCHEDULERS.keys()


def test_the_settings_are_shell_and_nothing_is_overwritten(tmp_path: Path) -> None:
    words = ("relion", "queue", "example-slurm", "--to", str(tmp_path / "a b.sh"), "--project", str(tmp_path))
    said = kit(*words).stdout
    shown = 'printf "%s|" "$RELION_QSUB_TEMPLATE" "$RELION_QSUB_COMMAND" "$RELION_QUEUE_NAME" "$RELION_QSUB_EXTRA1"'
    result = subprocess.run(["bash", "-c", f"{said}\n{shown}"], capture_output=True, text=True, check=True)
    assert result.stdout == f"{tmp_path}/a b.sh|sbatch|cpu|Ranks on each node:|"
    assert (tmp_path / "a b.sh").read_text().startswith("#!/bin/bash\n")
    assert "exists; nothing is overwritten" in kit(*words, code=1).stderr
