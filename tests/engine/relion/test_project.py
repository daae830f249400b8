"""job.star files taken into a project by real RELION, and what it must refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.benchmarks.relion import project
from kit.benchmarks.relion.project import RelionProject, read_job_star, write_job_star
from kit.core.errors import KitError
from kit.images.render import load_image


@pytest.fixture(params=["relion-basic", "relion-5"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> RelionProject:
    """An empty project, kept by each version of RELION that is here."""
    image = load_image(request.param)
    if not image.sif.is_file():
        pytest.skip(f"not built here: make image/{request.param}")
    return RelionProject(tmp_path, image)


def star(opened: RelionProject, kind: str, **options: str) -> Path:
    """A job.star as the version of RELION would write it."""
    path = opened.directory / f"{kind}_job.star"
    write_job_star(path, kind, options, numbered=opened.version.startswith("3."))
    return path


def test_relion_composes_the_commands(opened: RelionProject) -> None:
    star(opened, "import", fn_in_raw="movies/*.mrcs", angpix="3.54")
    job = opened.schedule_job("import_job.star", kV=200)
    assert (job.name, job.type, job.ranks) == ("Import/job001/", "import", 1)
    (command,) = job.commands
    assert '--i "movies/*.mrcs" --odir Import/job001/ --ofile movies.star' in command
    assert "--angpix 3.54 --kV 200" in command
    assert job.outputs == ("Import/job001/movies.star",)


def test_ranks_and_inputs_are_those_of_the_job(opened: RelionProject) -> None:
    star(opened, "refine3d", fn_img="Select/job004/particles.star", fn_ref="map.mrc", nr_mpi="3", nr_threads="2")
    job = opened.schedule_job("refine3d_job.star")
    assert (job.ranks, job.threads) == (3, 2)
    assert "relion_refine_mpi" in job.commands[0]
    assert set(job.inputs) == {"Select/job004/particles.star", "map.mrc"}
    assert "Refine3D/job001/run_half1_class001_unfil.mrc" in job.outputs


def test_the_project_keeps_the_words_of_the_laboratory(opened: RelionProject) -> None:
    star(opened, "maskcreate", fn_in="map.mrc", do_queue="Yes", qsub="sbatch", qsubscript="ours.sh")
    job = opened.schedule_job("maskcreate_job.star")
    kept = read_job_star(opened.directory / job.name / "job.star").options
    assert (kept["do_queue"], kept["qsub"], kept["qsubscript"]) == ("Yes", "sbatch", "ours.sh")
    assert kept["fn_in"] == "map.mrc"


def test_an_unknown_option_is_refused_and_nothing_scheduled(opened: RelionProject) -> None:
    path = star(opened, "class3d", fn_img="x.star", fn_ref="map.mrc", nr_clases="4")
    with pytest.raises(KitError) as error:
        opened.schedule_job(path.name)
    assert f"{path}: RELION {opened.version} has no option 'nr_clases' in a job class3d" in str(error.value)
    assert "did you mean 'nr_classes'?" in str(error.value)
    assert project.processes(opened.directory) == []
    assert not (opened.directory / "Class3D").exists()


def test_what_relion_itself_refuses_is_said(opened: RelionProject) -> None:
    path = star(opened, "refine3d", fn_img="", fn_ref="map.mrc")
    with pytest.raises(KitError) as error:
        opened.schedule_job(path.name)
    assert f"{path}: RELION {opened.version} does not take this job" in str(error.value)
    assert "empty field for input STAR file" in str(error.value)
