"""Tables of RELION projects, of either version, whole and damaged."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from conftest import kit

from kit.benchmarks.relion import tables
from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.project import write_job_star
from kit.core.errors import KitError

STARTED = datetime(2020, 11, 24, 12, 0, 1)


@pytest.fixture(params=["3.1", "5.1"])
def laboratory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two Class3D jobs of a laboratory, one of them on a GPU, and one that was never run."""
    numbered = request.param == "3.1"
    names = ["Import/job001/", "Class3D/job002/", "Class3D/job003/", "Refine3D/job004/"]
    processes = {
        "rlnPipeLineProcessName": names,
        "rlnPipeLineProcessAlias": ["None", "None", "Class3D/quick/", "None"],
    }
    if numbered:
        processes |= {"rlnPipeLineProcessType": [0, 9, 9, 10], "rlnPipeLineProcessStatus": [2, 2, 3, 1]}
    else:
        labels = ["relion.import.movies", "relion.class3d", "relion.class3d", "relion.refine3d"]
        words = ["Succeeded", "Succeeded", "Failed", "Scheduled"]
        processes |= {"rlnPipeLineProcessTypeLabel": labels, "rlnPipeLineProcessStatusLabel": words}
    files = ["Import/job001/particles.star", "Import/job001/particles.star", "Class3D/job002/run_it002_data.star"]
    edges = {"rlnPipeLineEdgeFromNode": files, "rlnPipeLineEdgeProcess": names[1:]}
    write_star(
        tmp_path / "default_pipeline.star",
        {
            "pipeline_general": {"rlnPipeLineJobCounter": 5},
            "pipeline_processes": pd.DataFrame(processes),
            "pipeline_input_edges": pd.DataFrame(edges),
        },
    )
    for name, options in zip(
        names[1:3], ({"nr_pool": "3", "use_gpu": "No"}, {"nr_pool": "30", "use_gpu": "Yes"}), strict=True
    ):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        given = {"nr_mpi": "5", "nr_threads": "6", "gpu_ids": "0:1", "fn_img": name, **options}
        write_job_star(folder / "job.star", "class3d", given, numbered)
        (folder / "note.txt").write_text(f" ++++ Executing new job on {STARTED:%a %b %d %H:%M:%S %Y}\n ++++ with ...\n")
        mark = folder / ("RELION_JOB_EXIT_SUCCESS" if name == names[1] else "RELION_JOB_EXIT_FAILURE")
        mark.touch()
        os.utime(mark, (STARTED.timestamp() + 3600,) * 2)
    folder = tmp_path / names[1]
    for number in (0, 1, 2):
        share = pd.DataFrame({"rlnClassDistribution": [0.3, 0.7], "rlnEstimatedResolution": [12.0, 9.0]})
        general = {"rlnCurrentResolution": 20.0 - number}
        write_star(folder / f"run_it{number:03d}_model.star", {"model_general": general, "model_classes": share})
        path = folder / f"run_it{number:03d}_optimiser.star"
        path.touch()
        os.utime(path, (STARTED.timestamp() + 100 * number,) * 2)
    bar = '\r   1/  90 sec ~~(,_,">\r  1.50/ 1.50 min ...~~(,_,">\n Maximization ...\n'
    (folder / "run.out").write_text(f" Expectation iteration 1 of 2\n{bar} Expectation iteration 2 of 2\n{bar}")
    return tmp_path


def test_job_statistics(laboratory: Path) -> None:
    rows = {row["job"]: row for row in tables.jobs(laboratory)}
    first, second = rows["Class3D/job002/"], rows["Class3D/job003/"]
    assert (first["type"], first["status"], first["ranks"], first["threads"], first["gpus"]) == (
        "class3d",
        "Succeeded",
        "5",
        "6",
        "",
    )
    assert first["seconds"] is None  # the note's time has no zone, and the mark's does not survive a copy
    assert (second["status"], second["gpus"], second["alias"]) == ("Failed", "0:1", "Class3D/quick/")
    assert (first["differs"], second["differs"]) == ({}, {"nr_pool": "30", "use_gpu": "Yes"})
    waiting = rows["Refine3D/job004/"]
    assert (waiting["status"], waiting["seconds"], waiting["bytes"]) == ("Scheduled", None, 0)


def test_class_distributions_are_of_the_last_iteration(laboratory: Path) -> None:
    (row,) = tables.classes(laboratory)
    assert (row["job"], row["iteration"]) == ("Class3D/job002/", 2)
    assert [(entry["class"], entry["fraction"]) for entry in row["classes"]] == [(2, 0.7), (1, 0.3)]


def test_iterations(laboratory: Path) -> None:
    rows = tables.iterations(laboratory, "Class3D/job002")
    assert [row["wall_seconds"] for row in rows] == [None, 100, 100]
    assert [row["expectation_seconds"] for row in rows] == [None, 90, 90]
    assert [row["resolution"] for row in rows] == [20, 19, 18]
    with pytest.raises(KitError, match=r"Class3D/job003: no run_it\*_optimiser.star"):
        tables.iterations(laboratory, "Class3D/job003")


def test_sizes_do_not_count_what_links_point_at(laboratory: Path) -> None:
    before = {row["folder"]: row["bytes"] for row in tables.sizes(laboratory)}
    (laboratory / "big").write_bytes(b"0" * 100_000)
    (laboratory / "Class3D/job003/link").symlink_to("../../big")
    (laboratory / "Class3D/job003/own").write_bytes(b"0" * 1000)
    after = {row["folder"]: row["bytes"] for row in tables.sizes(laboratory)}
    assert after["Class3D"] - before["Class3D"] == 1000
    assert after["all jobs"] == sum(number for name, number in after.items() if name != "all jobs")


def test_ancestry(laboratory: Path, tmp_path: Path) -> None:
    assert set(tables.ancestry(laboratory, "Refine3D/job004")) == {"Import/job001/", "Class3D/job002/", "Refine3D/job004/"}
    assert len(tables.ancestry(laboratory)) == 4
    with pytest.raises(KitError, match="no job 'Class3D/job009/'; known: Import/job001/, Class3D/job002/"):
        tables.ancestry(laboratory, "Class3D/job009")
    said = kit(
        "relion", "project", str(laboratory), "--chart", str(tmp_path / "chart.svg"), "--job", "Refine3D/job004"
    ).stdout
    assert said.strip() == str(tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").read_text().count("<svg") == 1


def test_a_file_of_particles(tmp_path: Path) -> None:
    star = tmp_path / "particles.star"
    table = pd.DataFrame(
        {
            "rlnImageName": [f"{i + 1:06d}@stack.mrcs" for i in range(100)],
            "rlnMicrographName": [f"m{i % 4}.mrc" for i in range(100)],
            "rlnClassNumber": [1] * 75 + [2] * 25,
            "rlnDefocusU": range(10000, 10100),
        }
    )
    optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnVoltage": [300.0]})
    write_star(star, {"optics": optics, "particles": table})
    found = json.loads(kit("relion", "project", str(star), "--json").stdout)
    assert (found["particles"], found["micrographs"], found["classes"]) == (100, 4, {"1": 75, "2": 25})
    assert found["ranges"] == {"defocus U (angstrom)": [10004.95, 10049.5, 10094.05]}
    text = kit("relion", "project", str(star)).stdout
    assert "100 particles of 4 micrographs" in text
    assert "classes: 1: 0.750  2: 0.250" in text
    whole = star.read_text().rstrip()
    star.write_text(whole.rpartition("\t")[0].rpartition("\t")[0])
    last = len(star.read_text().splitlines())
    assert (
        f"line {last}: a value of data_particles is missing, or no number"
        in kit("relion", "project", str(star), code=1).stderr
    )
    star.write_text(whole + "\nno number in sight here\n")
    assert "a row of data_particles cannot be read: " in kit("relion", "project", str(star), code=1).stderr
    write_star(star, {"optics": optics})
    assert (
        "no data_particles with any of the labels _rlnMicrographName" in kit("relion", "project", str(star), code=1).stderr
    )
    assert "cannot be read: No such file" in kit("relion", "project", str(tmp_path / "none.star"), code=1).stderr


def test_what_is_no_project_is_said(tmp_path: Path) -> None:
    assert "not a RELION project, it has no default_pipeline.star" in kit("relion", "project", str(tmp_path), code=1).stderr
    (tmp_path / "default_pipeline.star").write_text("")
    said = kit("relion", "project", str(tmp_path), "--chart", "chart.gif", code=1).stderr
    assert "a name that ends in .svg or .png is needed" in said
