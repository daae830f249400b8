"""The Python interface: jobs of a laboratory scheduled and run in real RELION, and failures that RELION does not tell."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import get_args

import mrcfile
import numpy as np
import pytest
from conftest import ROOT, kit

from kit.benchmarks.relion import movies
from kit.benchmarks.relion.accuracy import Truth, drifts
from kit.benchmarks.relion.ccpem_driver import differences
from kit.benchmarks.relion.project import Engine, RelionProject, pipeline_rows, recorded_times, write_job_star
from kit.core import paths
from kit.core.errors import KitError
from kit.images.render import load_image

SETTINGS = movies.Settings(micrographs=1, size=512, particles=8, frames=8)
OPTIONS = {
    "import": {"fn_in_raw": "movies/*.mrcs", "angpix": "3.54", "kV": "300", "Cs": "2.7", "Q0": "0.1"},
    "motioncorr": {
        "input_star_mics": "Import/job001/movies.star",
        "fn_gain_ref": "gain.mrc",
        "dose_per_frame": "2",
        "nr_threads": "2",
    },
    "ctffind": {
        "input_star_mics": "MotionCorr/job002/corrected_micrographs.star",
        "use_ctffind4": "Yes",
        "fn_ctffind_exe": "/usr/local/bin/ctffind",
        "dfmin": "5000",
        "dfmax": "40000",
        "nr_mpi": "2",
    },
}


MICROGRAPHS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
opticsGroup1 1 3.54 300 2.7 0.1

# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
mic.mrc 1
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The movie, and the jobs that a laboratory has for it: what each test begins with."""
    folder = tmp_path_factory.mktemp("recorded")
    movies.generate(folder, SETTINGS)
    (folder / "JobFiles").mkdir()
    for kind, options in OPTIONS.items():
        write_job_star(folder / f"JobFiles/{kind}_job.star", kind, options, numbered=True)
    return folder


@pytest.fixture
def my_project(recorded: Path, tmp_path: Path) -> RelionProject:
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    project = RelionProject(tmp_path, load_image("relion-basic"))
    assert project.numbered
    return project


def statuses(project: RelionProject) -> list[str]:
    return [row[3] for row in pipeline_rows(project.directory, "processes")]


@pytest.mark.parametrize("engine", get_args(Engine))
def test_the_printed_script(my_project: RelionProject, engine: Engine) -> None:
    """What the script of the first benchmark of this kind does, with its names and arguments."""
    my_project.schedule_job("JobFiles/import_job.star")  # Schedules Import/job001/
    my_project.schedule_job("JobFiles/motioncorr_job.star")  # Schedules MotionCorr/job002/
    my_project.schedule_job("JobFiles/ctffind_job.star")  # Schedules CtfFind/job003/
    assert statuses(my_project) == ["1", "1", "1"]
    names = ["Import/job001/", "MotionCorr/job002/", "CtfFind/job003/"]
    my_project.run_schedule(
        "Schedule3",
        names,
        nr_repeat=1,
        minutes_wait=3,
        minutes_wait_before=0,
        seconds_wait_after=0,
        engine=engine,
    )
    assert statuses(my_project) == ["2", "2", "2"]
    assert drifts(my_project.directory, names[1], Truth.read(my_project.directory))["error"] < 0.6
    log = (my_project.directory / names[2] / "run.out").read_text()
    assert ("Number of MPI processes             = 2" in log) or engine == "relion_pipeliner"
    assert "Executing new job" in (my_project.directory / names[0] / "note.txt").read_text()


def test_the_interface_knows_how_long_a_job_ran(my_project: RelionProject) -> None:
    """Wherever its project is read: what it wrote down has a zone, so that no hours of one come into it."""
    my_project.schedule_job("JobFiles/import_job.star")
    my_project.schedule_job("JobFiles/motioncorr_job.star")
    my_project.run_schedule("once", ["job001"])
    known = recorded_times(my_project.directory)
    assert list(known) == ["Import/job001/"]
    seconds = known["Import/job001/"][1]
    assert 0 < seconds < 3600  # less than a zone
    for zone in ("Europe/London", "America/New_York", "Asia/Tokyo"):
        rows = json.loads(kit("relion", "project", str(my_project.directory), "--json", env={"TZ": zone}).stdout)["jobs"]
        assert [row["seconds"] for row in rows] == [seconds, None]
        assert [row["status"] for row in rows] == ["Succeeded", "Scheduled"]


def test_ccpem_leaves_the_project_to_relion(my_project: RelionProject) -> None:
    """What it makes of a pipeline or a job.star is not what RELION 3.1 reads."""
    my_project.schedule_job("JobFiles/import_job.star")
    star = my_project.directory / "Import/job001/job.star"
    before = star.read_text()
    my_project.run_schedule("once", ["Import/job001/"], engine="ccpem")
    assert star.read_text() == before
    my_project.schedule_job("JobFiles/motioncorr_job.star")
    my_project.relion("relion_pipeliner", "--check_job_completion")
    assert statuses(my_project) == ["2", "1"]


def test_ccpem_does_not_run_what_relion_would_not(my_project: RelionProject) -> None:
    """Its Extract is that of RELION 4, which takes a list of coordinates."""
    my_project.schedule_job("JobFiles/import_job.star")
    (my_project.directory / "mics.star").write_text(MICROGRAPHS)
    mrcfile.write(my_project.directory / "mic.mrc", np.zeros((64, 64), dtype=np.float32))
    options = {"star_mics": "mics.star", "coords_suffix": "picks/coords_suffix_autopick.star", "extract_size": "32"}
    (my_project.directory / "picks").mkdir()
    (my_project.directory / "picks/coords_suffix_autopick.star").write_text("mics.star\n")
    write_job_star(my_project.directory / "JobFiles/extract_job.star", "extract", options, my_project.numbered)
    my_project.schedule_job("JobFiles/extract_job.star")
    with pytest.raises(KitError, match=r"Extract/job002: ccpem-pipeliner would not run what RELION would: .*coord"):
        my_project.run_schedule("once", ["Extract/job002/"], engine="ccpem")
    assert (my_project.directory / "Extract/job002/run.out").read_text() == ""


def test_commands_that_differ_are_told_apart() -> None:
    defaults = {"relion_refine": {"--i": "", "--K": "1", "--ctf": "false", "--angpix": "-1", "--o": ""}}
    own = ["relion_refine", "--i", "a.star", "--K", "4", "--ctf"]

    def told(*theirs: str) -> list[str]:
        return differences([own], [["/wrappers/relion_refine", *theirs]], defaults)

    assert told("--K", "4.0", "--ctf", "--i", "a.star", "--angpix", "-1.0") == []
    assert told("--K", "5", "--ctf", "--i", "a.star") == ["--K: '4' of RELION, '5' of the pipeliner"]
    assert told("--K", "4", "--i", "a.star") == ["--ctf: '' of RELION, None of the pipeliner"]
    assert told("--K", "4", "--ctf", "--i", "a.star", "--grad") == ["relion_refine has no flag --grad"]
    assert "it runs ['relion_import']" in differences([own], [["relion_import"]], defaults)[0]
    alike = ["/wrappers/relion_refine", *own[1:]]
    parallel = [["mpirun", "-n", "7", *alike]]
    assert differences([own], parallel, defaults, ranks=7) == []
    assert differences([own], parallel, defaults, ranks=3) == ["it starts 7 ranks of relion_refine for 3"]
    assert differences([own], [alike, ["rm", "-rf", "x"]], defaults) == ["it runs rm -rf x, too"]
    switch = {"relion_refine": {**defaults["relion_refine"], "--grad": ""}}
    assert differences([own], [[*alike, "--grad"]], switch) == ["--grad: None of RELION, '' of the pipeliner"]


def test_without_ccpem_the_way_to_it_is_said(my_project: RelionProject, monkeypatch: pytest.MonkeyPatch) -> None:
    my_project.schedule_job("JobFiles/import_job.star")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KitError) as error:
        my_project.run_schedule("once", ["Import/job001/"], engine="ccpem")
    assert f"ccpem-pipeliner is not installed: {sys.executable} -m pip install -e '{ROOT}[ccpem]', or" in str(error.value)
    monkeypatch.setattr(paths, "CHECKOUT", None)  # as in an installed wheel
    with pytest.raises(KitError, match=r"-m pip install 'science_kit-[0-9.]+-py3-none-any\.whl\[ccpem\]', or"):
        my_project.run_schedule("once", ["Import/job001/"], engine="ccpem")
    with pytest.raises(KitError, match="unknown engine 'cpem': did you mean ccpem"):
        my_project.run_schedule("once", ["Import/job001/"], engine="cpem")  # type: ignore[arg-type]


def test_repeats_and_waits(my_project: RelionProject) -> None:
    job = my_project.schedule_job("JobFiles/import_job.star")
    started = time.monotonic()
    my_project.run_schedule("again", [job], nr_repeat=2, minutes_wait=0.1)
    assert time.monotonic() - started >= 6
    assert (my_project.directory / job.name / "note.txt").read_text().count("Executing new job") == 2


@pytest.mark.parametrize("engine", get_args(Engine))
def test_a_failed_job_ends_the_schedule(my_project: RelionProject, engine: Engine) -> None:
    """The pipeliners return normally after this; what follows a failed job must not run."""
    # A gain of another size than the movies, which only the program finds out.
    mrcfile.write(my_project.directory / "gain.mrc", np.ones((8, 8), dtype=np.float32), overwrite=True)
    for kind in OPTIONS:
        my_project.schedule_job(f"JobFiles/{kind}_job.star")
    with pytest.raises(KitError, match=r"MotionCorr/job002: "):
        my_project.run_schedule("broken", ["Import/job001/", "MotionCorr/job002/", "CtfFind/job003/"], engine=engine)
    assert statuses(my_project) == ["2", "3", "1"]
    assert not (my_project.directory / "CtfFind/job003/run.out").exists()


@pytest.mark.parametrize(("flag", "near"), [("-auto_refine", "see relion_run"), ("--pach_x 1", "did you mean '--patch_x'")])
def test_a_misspelt_flag_is_an_error_before_anything_runs(my_project: RelionProject, flag: str, near: str) -> None:
    wanted = f"other_args: relion_run_motioncorr of relion-basic has no flag '{flag.split()[0]}'"
    with pytest.raises(KitError, match=wanted) as error:
        my_project.schedule_job("JobFiles/motioncorr_job.star", other_args=flag)
    assert near in str(error.value)
    assert pipeline_rows(my_project.directory, "processes") == []
    my_project.schedule_job("JobFiles/motioncorr_job.star", other_args="--group_frames -1")


def test_arguments_that_relion_drops_are_an_error(my_project: RelionProject) -> None:
    with pytest.raises(KitError, match=r"RELION 3.1.3 takes no other_args in a job import, here '--angpix 2'"):
        my_project.schedule_job("JobFiles/import_job.star", other_args="--angpix 2")


def test_an_option_that_relion_only_warns_of_fails_the_job(my_project: RelionProject) -> None:
    """As the log has it, whatever the help said."""
    job = my_project.schedule_job("JobFiles/import_job.star")
    warning = (
        f"echo WARNING: Option -auto_refine is not a valid RELION argument >&2; touch {job.name}RELION_JOB_EXIT_SUCCESS"
    )
    with pytest.raises(KitError, match="Option -auto_refine is not a valid RELION argument"):
        my_project.run_schedule("misspelt", [job.model_copy(update={"commands": (*job.commands, warning)})])
    assert statuses(my_project) == ["3"]


def test_a_job_that_writes_nothing_new_fails(my_project: RelionProject) -> None:
    """A result of an earlier run is not one of this."""
    job = my_project.schedule_job("JobFiles/import_job.star")
    my_project.run_schedule("first", [job])
    idle = job.model_copy(update={"commands": (f"touch {job.name}RELION_JOB_EXIT_SUCCESS",)})
    with pytest.raises(KitError, match=r"wrote no Import/job001/movies.star"):
        my_project.run_schedule("second", [idle])


def test_a_schedule_that_would_run_nothing_is_refused(my_project: RelionProject) -> None:
    job = my_project.schedule_job("JobFiles/import_job.star")
    for jobs, repeats in (([], 1), ([job], 0), ("Import/job001/", 1)):
        with pytest.raises(KitError, match="schedule x: a list of jobs and at least one repeat are needed"):
            my_project.run_schedule("x", jobs, nr_repeat=repeats)  # type: ignore[arg-type]


def test_unknown_jobs_are_said(my_project: RelionProject) -> None:
    my_project.schedule_job("JobFiles/import_job.star")
    with pytest.raises(KitError, match=r"no job 'Import/job007/' was scheduled here; known: Import/job001/"):
        my_project.run_schedule("x", ["Import/job007/"])


def test_a_schedule_ends_before_a_job_that_lacks_its_input(my_project: RelionProject) -> None:
    """The missing gain of a real project: nothing is launched, and the job can be run once it is there."""
    (my_project.directory / "gain.mrc").unlink()
    jobs = [my_project.schedule_job(f"JobFiles/{kind}_job.star") for kind in ("import", "motioncorr")]
    with pytest.raises(KitError, match=r"gain.mrc: missing, but fn_gain_ref names it"):
        my_project.run_schedule("x", jobs)
    assert statuses(my_project) == ["2", "1"]
    assert not (my_project.directory / jobs[1].name / "run.out").exists()
