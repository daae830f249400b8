"""job.star files of every version, and what is not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.benchmarks.relion import project
from kit.benchmarks.relion.project import RelionProject, read_job_star, write_job_star
from kit.core.errors import KitError
from kit.images.render import load_image


def test_labels_and_numbers_name_the_same_types(tmp_path: Path) -> None:
    for numbered in (True, False):
        write_job_star(tmp_path / "job.star", "initialmodel", {"fn_img": "", "other_args": "--a 1 --b"}, numbered)
        read = read_job_star(tmp_path / "job.star")
        assert (read.type, read.options) == ("initialmodel", {"fn_img": "", "other_args": "--a 1 --b"})
    text = (tmp_path / "job.star").read_text().replace("relion.initialmodel", "relion.class2d.em")
    (tmp_path / "job.star").write_text(text)
    assert read_job_star(tmp_path / "job.star").type == "class2d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not a job.star: data_job and data_joboptions_values are needed"),
        ("\ndata_job\n\n_rlnJobIsContinue 0\n", "not a job.star"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "job.star").write_text(text)
    with pytest.raises(KitError, match=message):
        read_job_star(tmp_path / "job.star")
    with pytest.raises(KitError, match="missing"):
        read_job_star(tmp_path / "none.star")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("_rlnJobTypeLabel relion.brew", "brew"),
        ("_rlnJobTypeLabel relion.importtomo", "importtomo"),
        ("_rlnJobTypeLabel relion.reconstructparticletomo", "reconstructparticletomo"),
        ("_rlnJobTypeLabel modelangelo", "modelangelo"),
        ("_rlnJobTypeLabel dynamight", "dynamight"),
        ("_rlnJobTypeLabel relion.external", "external"),
        ("_rlnJobTypeLabel relion.import.movies", "import"),
        ("_rlnJobTypeLabel ccpem_utils.map.simulate", "ccpem_utils.map.simulate"),
        ("_rlnJobType 17", "movierefine"),
        ("_rlnJobType 6", "sort"),
        ("_rlnJobType 11", "moviepolish"),
        ("_rlnJobType 20", "polish"),
        ("_rlnJobType 59", "picktomo"),
        ("_rlnJobType 77", "77"),
    ],
)
def test_every_type_is_read(tmp_path: Path, given: str, kind: str) -> None:
    table = "data_joboptions_values\n\nloop_\n_rlnJobOptionVariable #1\n_rlnJobOptionValue #2\na 1\n"
    (tmp_path / "job.star").write_text(f"\ndata_job\n\n{given}\n_rlnJobIsContinue 0\n\n{table}")
    read = read_job_star(tmp_path / "job.star")
    assert (read.type, read.options) == (kind, {"a": "1"})


def test_what_cannot_be_run_is_not_scheduled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "built_sif", lambda image: image)
    opened = RelionProject(tmp_path, load_image("relion-basic"))
    table = "data_joboptions_values\n\nloop_\n_rlnJobOptionVariable #1\n_rlnJobOptionValue #2\na 1\n"
    for label, said in (
        ("relion.brew", "unknown job type 'brew': known: import, motioncorr"),
        ("relion.importtomo", "job type that is shown and not run 'importtomo': known: import, motioncorr"),
    ):
        (tmp_path / "job.star").write_text(f"\ndata_job\n\n_rlnJobTypeLabel {label}\n\n{table}")
        with pytest.raises(KitError, match=said):
            opened.schedule_job("job.star")
    assert project.processes(tmp_path) == []
