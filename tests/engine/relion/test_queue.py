"""RELION itself fills the queue template of the kit, and its own scheduler runs what it filled, in the image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import kit

from kit.benchmarks.relion.project import initialise, read_job_star, write_job_star
from kit.benchmarks.relion.workflow import FOLDER
from kit.images.built import built_sif, no_privileges
from kit.images.render import load_image

# Inside of the image no container starts: the words of this site run on whatever machine they are on.
SITE = """
description = "x"
contact = "x"
url = "https://localhost"
[partitions.here]
scheduler = "local"
launcher = "mpirun"
cores = 2
[container]
runtime = "host"
mpi = "outside"
"""
PARTICLES = 24


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RELION project with a few particles."""
    folder = tmp_path_factory.mktemp("project")
    data = Path(kit("data", "make", "relion", "--size", "particles").stdout.strip())
    shutil.copytree(data, folder / "data")
    lines = (data / "particles.star").read_text().splitlines()
    first = next(n for n in range(lines.index("data_particles"), len(lines)) if ".mrcs" in lines[n])
    (folder / "particles.star").write_text("\n".join(lines[: first + PARTICLES]) + "\n")
    initialise(folder)
    return folder


def in_relions_project(project: Path, script: str) -> str:
    image = ["apptainer", "exec", *no_privileges(), "--no-home", "--bind", str(project), "--pwd", str(project)]
    words = [*image, str(built_sif(load_image("relion-basic"))), "bash", "-ec", script]
    result = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("ranks", [1, 2])
def test_relion_fills_it_and_runs_it(project: Path, ranks: int, tmp_path: Path) -> None:
    (tmp_path / "inside.toml").write_text(SITE)
    template = project / f"queue{ranks}.sh"
    options = ("--threads", "1", "--project", str(project), "--to", str(template))
    settings = kit("relion", "queue", str(tmp_path / "inside.toml"), *options).stdout
    job = read_job_star(FOLDER / "generated/class2d_job.star")
    changes = {
        "fn_img": "particles.star",
        "nr_classes": "2",
        "nr_iter": "1",
        "nr_mpi": str(ranks),
        "nr_threads": "1",
        "do_queue": "Yes",
        "qsub": "bash",
        "qsubscript": template.name,
        "min_dedicated": "2",
        "qsub_extra1": str(ranks),
    }
    write_job_star(project / "job.star", job.type, {**job.options, **changes}, numbered=True)
    text = in_relions_project(project, f"{settings}\nrelion_pipeliner --addJobFromStar job.star")
    (folder,) = [path for path in (project / "Class2D").glob("job*") if not (path / "run.out").exists()]
    name = folder.relative_to(project)
    in_relions_project(project, f"{settings}\nrelion_pipeliner --schedule one{ranks} --repeat 1 --RunJobs {name}/")
    script = (folder / "run_submit.script").read_text()
    program = "relion_refine_mpi" if ranks > 1 else "relion_refine"
    assert f"`which {program}` --o {name}/run" in script, text
    assert "XXX" not in script.partition("\nset -e")[2]
    assert f"mpirun --allow-run-as-root -n {ranks} " in script
    assert (folder / "RELION_JOB_EXIT_SUCCESS").exists()
    assert (folder / "run_it001_model.star").exists()
    said = (folder / "run.out").read_text()
    assert ("Number of MPI processes             = 2" in said) == (ranks == 2)
