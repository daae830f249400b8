"""Projects as laboratories have them: continued, cleaned, copied, of old and new versions, with names of their own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import kit

from kit.benchmarks import relion
from kit.benchmarks.relion import picking, tables
from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.project import RelionProject, find_job, job_table, note, record_times, recorded_times, settle
from kit.benchmarks.relion.star import read_star
from kit.core.errors import KitError
from kit.images.render import load_image

NAMES = ["Import/job001/", "Extract/job002/", "Class2D/job010/", "Select/job011/", "Refine3D/job012/", "PostProcess/job013/"]
ALIASES = ["None", "None", "Class2D/LoG/", "None", "None", "None"]
FILES = [
    ("Import/job001/movies.star", "Extract/job002/"),
    ("Extract/job002/particles.star", "Class2D/job010/"),
    ("Class2D/job010/run_it025_model.star", "Select/job011/"),
    ("Select/job011/particles.star", "Refine3D/job012/"),
    ("Refine3D/job012/run_half1_class001_unfil.mrc", "PostProcess/job013/"),
]
WRITTEN = [
    ("Extract/job002/", "Extract/job002/particles.star"),
    ("Class2D/job010/", "Class2D/job010/run_it025_data.star"),
    ("Class2D/job010/", "Class2D/job010/run_it025_model.star"),
    ("Select/job011/", "Select/job011/particles.star"),
]


def pipeline(folder: Path, **changes: Any) -> None:
    """The pipeline of a project; a status for each job, and edges, may be others."""
    statuses = changes.get("statuses", [2] * len(NAMES))
    types = changes.get("types", [0, 5, 8, 7, 10, 15])
    table = {
        "rlnPipeLineProcessName": NAMES,
        "rlnPipeLineProcessAlias": ALIASES,
        "rlnPipeLineProcessType": types,
        "rlnPipeLineProcessStatus": statuses,
    }
    if any(isinstance(kind, str) for kind in types):
        table = {key.replace("Type", "TypeLabel").replace("Status", "StatusLabel"): value for key, value in table.items()}
    reads = pd.DataFrame(changes.get("reads", FILES), columns=["rlnPipeLineEdgeFromNode", "rlnPipeLineEdgeProcess"])
    writes = pd.DataFrame(WRITTEN, columns=["rlnPipeLineEdgeProcess", "rlnPipeLineEdgeToNode"])
    blocks: dict[str, Any] = {"pipeline_general": {"rlnPipeLineJobCounter": 14}, "pipeline_processes": pd.DataFrame(table)}
    blocks |= {"pipeline_input_edges": reads, "pipeline_output_edges": writes}
    write_star(folder / "default_pipeline.star", blocks)


def particles(path: Path, count: int) -> None:
    write_star(path, {"particles": pd.DataFrame({"rlnImageName": [f"{i + 1}@stack.mrcs" for i in range(count)]})})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose Refine3D converged, and whose numbers differ from job to job."""
    folder = tmp_path / "project"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
    (folder / "Class2D/LoG").symlink_to("job010")
    (folder / ".kit").mkdir()
    pipeline(folder)
    particles(folder / "Extract/job002/particles.star", 50)
    particles(folder / "Class2D/job010/run_it025_data.star", 48)
    particles(folder / "Select/job011/particles.star", 20)
    share = pd.DataFrame({"rlnClassDistribution": [0.3, 0.7], "rlnEstimatedResolution": [12.0, 9.0]})
    write_star(
        folder / "Class2D/job010/run_it025_model.star",
        {"model_general": {"rlnCurrentResolution": 9.0}, "model_classes": share},
    )
    refine = folder / "Refine3D/job012"
    for number in range(14):
        (refine / f"run_it{number:03d}_optimiser.star").write_text("")
        for half in (1, 2):
            general = {"rlnCurrentResolution": 40.0 - number / 2 if number else float("inf")}
            write_star(refine / f"run_it{number:03d}_half{half}_model.star", {"model_general": general})
    write_star(refine / "run_model.star", {"model_general": {"rlnCurrentResolution": 21.24}})
    particles(refine / "run_data.star", 20)
    text = "RELION version: 3.1.3-commit-0a1b2c \nPrecision: BASE=double\n\n"
    for number in range(1, 15):
        text += (
            f' Expectation iteration {number}\n\r   5/   5 sec ...~~(,_,">\n Maximization ...\n\r   1/   1 sec ~~(,_,">\n'
        )
    (refine / "run.out").write_text(text)
    post = {"rlnFinalResolution": 18.5, "rlnBfactorUsedForSharpening": -114.3}
    write_star(folder / "PostProcess/job013/postprocess.star", {"general": post})
    star = folder / "PostProcess/job013/postprocess.star"
    star.write_text("# RELION postprocess; version 4.0.1\n" + star.read_text())
    return folder


def rows(project: Path) -> dict[str, dict[str, Any]]:
    return {row["job"]: row for row in tables.jobs(project)}


def test_the_last_row_of_a_refinement_is_its_result(project: Path) -> None:
    found = tables.iterations(project, "Refine3D/job012")
    assert [row["iteration"] for row in found] == list(range(15))
    assert (found[13]["resolution"], found[13]["final"]) == (33.5, False)
    assert (found[14]["resolution"], found[14]["final"], found[14]["expectation_seconds"]) == (21.24, True, 5)
    last = kit("relion", "project", str(project), "--job", "job012").stdout.splitlines()[-1]
    assert last.split() == ["14", "(final)", "5", "-", "21.24"]


def test_a_project_that_was_cleaned(project: Path) -> None:
    """RELION's clean leaves of a refinement that converged its result alone."""
    for path in (project / "Refine3D/job012").glob("run_it*"):
        path.unlink()
    (row,) = tables.iterations(project, "Refine3D/job012")
    assert (row["iteration"], row["final"], row["resolution"]) == (14, True, 21.24)
    assert rows(project)["Refine3D/job012/"]["resolution"] == 21.24
    (project / "Refine3D/job012/run.out").unlink()
    (row,) = tables.iterations(project, "Refine3D/job012")
    assert (row["iteration"], row["final"], row["resolution"]) == (None, True, 21.24)
    assert kit("relion", "project", str(project), "--job", "job012").stdout.splitlines()[-1].split() == [
        "(final)",
        "-",
        "-",
        "21.24",
    ]


def test_what_each_job_made_of_the_particles(project: Path) -> None:
    found = rows(project)
    counts = {name: (row["particles_in"], row["particles_out"]) for name, row in found.items()}
    assert counts == {
        "Import/job001/": (None, None),
        "Extract/job002/": (None, 50),
        "Class2D/job010/": (50, 48),
        "Select/job011/": (48, 20),
        "Refine3D/job012/": (20, 20),
        "PostProcess/job013/": (None, None),
    }
    refine, post = found["Refine3D/job012/"], found["PostProcess/job013/"]
    assert (refine["resolution"], refine["bfactor"], refine["version"]) == (21.24, None, "3.1.3-commit-0a1b2c")
    assert (post["resolution"], post["bfactor"], post["version"]) == (18.5, -114.3, "4.0.1")
    assert found["Class2D/job010/"]["resolution"] is None
    (project / "Refine3D/job012/run_model.star").unlink()
    assert rows(project)["Refine3D/job012/"]["resolution"] is None  # not converged, so not final
    json.loads(kit("relion", "project", str(project), "--json").stdout, parse_constant=lambda name: pytest.fail(name))
    text = kit("relion", "project", str(project)).stdout
    line = next(line for line in text.splitlines() if line.split()[1:2] == ["postprocess"])
    assert line.split() == ["PostProcess/job013/", "postprocess", "4.0.1", "18.50", "-114.3"]


def test_why_a_job_failed(project: Path) -> None:
    folder = project / "Class2D/job010"
    error = "ERROR: \nno such \x1b[31mfile [/red] x\n" + "y" * 5000 + "\n === Backtrace  ===\nrelion_refine(main+0x1)\n"
    (folder / "run.err").write_text("\n".join(f"old {number}" for number in range(100_000)) + "\n" + error)
    assert rows(project)["Class2D/job010/"]["why"] == ""
    (folder / "RELION_JOB_EXIT_FAILURE").touch()
    why = rows(project)["Class2D/job010/"]["why"]
    assert "no such \\x1b[31mfile [/red] x" in why
    assert "Backtrace" not in why
    assert len(why) < 1500
    text = kit("relion", "project", str(project)).stdout
    assert "Class2D/job010/ Failed; the end of its run.err:" in text
    assert "no such \\x1b[31mfile [/red] x" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("marks", "said", "status"),
    [
        (["FAILURE"], 0, "Failed"),
        (["SUCCESS"], 0, "Succeeded"),
        (["ABORTED"], 0, "Aborted"),
        (["SUCCESS"], 3, "Succeeded"),
        (["SUCCESS", "FAILURE"], 0, "Failed"),
        (["SUCCESS", "FAILURE"], 2, "Succeeded"),  # what its pipeline says is among them: someone marked it as finished
        ([], 0, "Running"),
        ([], 1, "Scheduled"),
        ([], 4, "Aborted"),
    ],
)
def test_status_is_that_of_the_mark(project: Path, labels: bool, marks: list[str], said: int, status: str) -> None:
    types: list[Any] = [0, 5, 8, 7, 10, 15]
    if labels:
        types = [
            "relion.import",
            "relion.extract",
            "relion.class2d",
            "relion.select",
            "relion.refine3d",
            "relion.postprocess",
        ]
    words = {0: "Running", 1: "Scheduled", 2: "Succeeded", 3: "Failed", 4: "Aborted"}
    pipeline(project, types=types, statuses=[words[said] if labels else said] * len(NAMES))
    for mark in marks:
        (project / "Class2D/job010" / f"RELION_JOB_EXIT_{mark}").touch()
    assert rows(project)["Class2D/job010/"]["status"] == status
    settle(project)
    label = "rlnPipeLineProcessStatus" + "Label" * labels
    kept = read_star(project / "default_pipeline.star")["pipeline_processes"][label][2]
    assert words[kept] == status if not labels else kept == status


def test_unknown_types_are_shown_as_what_they_are(project: Path) -> None:
    """No job keeps the others from being shown, not even one whose job.star is damaged."""
    types = ["relion.importtomo", "relion.pseudosubtomo", "modelangelo", "dynamight", "relion.brew", "relion.external"]
    pipeline(project, types=types, statuses=["Succeeded"] * 6)
    table = "data_joboptions_values\n\nloop_\n_rlnJobOptionVariable #1\n_rlnJobOptionValue #2\nnr_mpi 4\n"
    text = f"data_job\n\n_rlnJobTypeLabel relion.brew\n\n{table}"
    (project / "Refine3D/job012/job.star").write_text(text)
    (project / "Select/job011/job.star").write_text("data_job\n\n_rlnJobTypeLabel\n")
    (project / "Class2D/job010/run_it025_data.star").write_text("data_particles\n\nloop_\n_rlnImageName\n_rlnA\n1\n")
    found = rows(project)
    kinds = ["importtomo", "pseudosubtomo", "modelangelo", "dynamight", "brew", "external"]
    assert [row["type"] for row in found.values()] == kinds
    assert found["Refine3D/job012/"]["ranks"] == "4"
    assert "not a job.star" in found["Select/job011/"]["unread"][0]
    (project / "Class2D/job010/run_it025_model.star").write_text("data_model_general\n_rlnCurrentResolution 9\n")
    text = kit("relion", "project", str(project)).stdout
    assert "no label _rlnClassDistribution in data_model_classes" in text
    assert "Select/job011/: not read: " in text
    assert "line 6: a value of data_particles is missing" in text


def test_old_numbers_have_names(project: Path) -> None:
    pipeline(project, types=[17, 6, 11, 99, 22, 50])
    kinds = ["movierefine", "sort", "moviepolish", "external", "dynamight", "importtomo"]
    assert [row["type"] for row in tables.jobs(project)] == kinds


@pytest.mark.parametrize(
    "name",
    [
        "job010",
        "Class2D/job010",
        "Class2D/job010/",
        "./Class2D//job010",
        "Class2D/LoG",
        "Class2D/LoG/",
        "LoG",
        "10",
        "010",
        "job10",
        "Class2D/job10/",
    ],
)
def test_a_job_by_any_of_its_names(project: Path, name: str) -> None:
    assert find_job(project, name) == "Class2D/job010/"
    assert find_job(project, str(project / "Class2D/job010")) == "Class2D/job010/"
    assert len(tables.iterations(project, name)) == 1
    assert set(tables.ancestry(project, name)) == {"Import/job001/", "Extract/job002/", "Class2D/job010/"}
    assert kit("relion", "project", str(project), "--job", name, "--json").stdout.count('"iteration": 25') == 1


def test_a_job_that_is_not_there(project: Path) -> None:
    (project / "Refine3D/mine").symlink_to("job012")  # a link that no pipeline knows
    assert find_job(project, "Refine3D/mine") == "Refine3D/job012/"
    for words in (["--job", "Class2D/job001"], ["--chart", "x.svg", "--job", "Class2D/job001"]):
        said = kit("relion", "project", str(project), *words, code=1).stderr
        assert "no job 'Class2D/job001/'; known: Import/job001/, Extract/job002/" in said
        assert "did you mean Class2D/job010/?" in said
    assert "did you mean Class2D/LoG/?" in kit("relion", "project", str(project), "--job", "Class2D/LOG", code=1).stderr
    with pytest.raises(KitError, match="only jobs that align particles have iterations"):
        tables.iterations(project, "job001")


def test_a_job_of_the_interface_by_its_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.benchmarks.relion.project.built_sif", lambda image: image)
    opened = RelionProject(project, load_image("relion-basic"))
    path = project / ".kit/jobs/Class2D/job010.json"
    path.parent.mkdir(parents=True)
    facts = {"name": "Class2D/job010/", "type": "class2d", "commands": [], "ranks": 1, "threads": 1}
    path.write_text(json.dumps({**facts, "inputs": [], "outputs": []}))
    for name in ("job010", "Class2D/job010", "Class2D/job010/", "Class2D/LoG"):
        assert opened.job(name).name == "Class2D/job010/"
    with pytest.raises(KitError, match=r"no job 'Class2D/job001' was scheduled here; known: Class2D/job010/; did you mean"):
        opened.job("Class2D/job001")


def test_the_stage_of_a_job(project: Path) -> None:
    """`kit data pack` takes the name of a job, too; any other stays as it is, for the message that names the stages."""
    (project / "workflow.json").write_text(
        json.dumps({"jobs": {"class2d": "Class2D/job010/", "refine3d": "Refine3D/job012/"}})
    )
    for name in ("class2d", "job010", "Class2D/job010", "Class2D/LoG/"):
        assert relion.CODE.stage_named(project, name) == "class2d"
    for name in ("class4d", "job099", "Import/job001"):
        assert relion.CODE.stage_named(project, name) == name


def test_picks_of_a_job_by_its_name(project: Path) -> None:
    """Of a job that is none of AutoPick's, as its files lie in its folder."""
    header = "\ndata_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n"
    (project / "CtfFind/job003").mkdir(parents=True)
    optics = "data_optics\n_rlnMicrographPixelSize 2.0\n\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\nm.mrc\n"
    (project / "CtfFind/job003/micrographs_ctf.star").write_text(optics)
    (project / "Class2D/job010/m_pick.star").write_text(header)
    for name in ("job010", "Class2D/LoG"):
        (row,) = picking.compare(project, {"mine": Path(name)}, 100)["sets"]
        assert (row["name"], row["picks"]) == ("mine", 1)
    with pytest.raises(KitError, match="job077: no such file or folder"):
        picking.compare(project, {"mine": Path("job077")}, 100)


def test_edges_in_any_spelling(project: Path) -> None:
    """RELION 3.0 writes what a person typed into a field."""
    whole = set(tables.ancestry(project).edges)
    assert len(whole) == 5
    pipeline(
        project,
        reads=[
            ("./Import/job001/movies.star", "Extract/job002/"),
            ("Extract//job002/./particles.star", "./Class2D/job010/"),
            ("Class2D/LoG/run_it025_model.star", "Select/job011"),
            (str(project / "Select/job011/particles.star"), "Refine3D//job012/"),
            ("Class2D/../Refine3D/job012/run_half1_class001_unfil.mrc", "PostProcess/job013/"),
        ],
    )
    assert set(tables.ancestry(project).edges) == whole
    assert rows(project)["Refine3D/job012/"]["particles_in"] == 20


def test_odd_graphs(project: Path, tmp_path: Path) -> None:
    """Circles, jobs that read from themselves, files and jobs that are of no project."""
    odd = [
        ("Select/job011/particles.star", "Class2D/job010/"),
        ("Class2D/job010/run_it020_optimiser.star", "Class2D/job010/"),
        ("Polish/job099/shiny.star", "Refine3D/job012/"),
        ("elsewhere.star", "Refine3D/job012/"),
        ("Select/job011/particles.star", "Polish/job099/"),
        ("/data/particles.star", "Refine3D/job012/"),
    ]
    pipeline(project, reads=[*FILES, *odd])
    graph = tables.ancestry(project)
    assert len(graph.edges) == 6
    assert set(tables.ancestry(project, "job010")) == {*NAMES[:4]}
    kit("relion", "project", str(project), "--chart", str(tmp_path / "chart.svg"))
    assert (tmp_path / "chart.svg").read_text().count("<svg") == 1


def test_names_that_are_formulas_or_marks(project: Path, tmp_path: Path) -> None:
    text = (project / "default_pipeline.star").read_text()
    for name in (r"Class2D/$\bad$/", "Class2D/[/red]/", "Class2D/:smile:/"):
        (project / "default_pipeline.star").write_text(text.replace("Class2D/job010/", name))
        kit("relion", "project", str(project), "--chart", str(tmp_path / "chart.svg"))
        assert name in kit("relion", "project", str(project)).stdout


@pytest.mark.parametrize("table", ["", "\ndata_pipeline_processes\n\nloop_\n_rlnPipeLineProcessName #1\n"])
def test_a_newly_opened_project(tmp_path: Path, table: str) -> None:
    (tmp_path / "default_pipeline.star").write_text(f"\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 1\n{table}")
    said = kit("relion", "project", str(tmp_path), "--chart", str(tmp_path / "chart.svg"), code=1).stderr
    assert "a project without jobs, of which there is nothing to draw" in said
    assert kit("relion", "project", str(tmp_path)).stdout.startswith("job")
    assert json.loads(kit("relion", "project", str(tmp_path), "--json").stdout)["jobs"] == []
    assert "no job 'job001/'; known: none" in kit("relion", "project", str(tmp_path), "--job", "job001", code=1).stderr
    settle(tmp_path)
    assert job_table(tmp_path) == []


ZONES = ["Europe/London", "America/New_York", "Asia/Tokyo", "UTC"]


@pytest.mark.parametrize("zone", ZONES)
def test_times_do_not_depend_on_the_zone(project: Path, zone: str) -> None:
    """A note says when a job was handed over, in local time of somewhere; nothing says when it began."""
    folder = project / "Class2D/job010"
    (folder / "note.txt").write_text(" ++++ Executing new job on Mon Jul 13 12:00:00 2026\n ++++ with the following ...\n")
    (folder / "RELION_JOB_EXIT_SUCCESS").touch()
    start = 1783936800  # 2026-07-13 10:00 UTC
    os.utime(folder / "RELION_JOB_EXIT_SUCCESS", (start + 3720, start + 3720))
    record_times(project, "Extract/job002/", start, start + 120)
    (project / "Import/job001/note.txt").write_text(" ++++ Executing new job on Mon Jul 13 11:00:00 2026\n")
    (project / "Import/job001/RELION_JOB_EXIT_SUCCESS").touch()
    found = json.loads(kit("relion", "project", str(project), "--json", env={"TZ": zone}).stdout)["jobs"]
    assert [row["seconds"] for row in found] == [None, 120, None, None, None, None]
    text = kit("relion", "project", str(project), env={"TZ": zone}).stdout
    assert next(line for line in text.splitlines() if line.startswith("Class2D/job010/")).split()[3] == "-"
    copy = project.with_name("copy")
    shutil.copytree(project, copy, symlinks=True)
    assert [row["seconds"] for row in tables.jobs(copy)] == [None, 120, None, None, None, None]


def test_what_the_kit_writes_has_a_zone(project: Path) -> None:
    note(project / "Class2D/job010", "Executing new job", ["true"])
    first = (project / "Class2D/job010/note.txt").read_text().splitlines()[0]
    assert first.startswith(" ++++ Executing new job on 20")
    assert first.endswith("+00:00")
    for end in (3600, 60):
        record_times(project, "Class2D/job010/", 1783936800, 1783936800 + end)
    entry = json.loads((project / ".kit/times.jsonl").read_text().splitlines()[0])
    assert (entry["start"], entry["end"]) == ("2026-07-13T10:00:00.000+00:00", "2026-07-13T11:00:00.000+00:00")
    assert recorded_times(project)["Class2D/job010/"][1] == 60  # the last run counts
    with (project / ".kit/times.jsonl").open("a") as file:
        file.write("[]\n")
    with pytest.raises(KitError, match=r"times.jsonl:3: not a record of a job's times"):
        recorded_times(project)


def write_times(folder: Path, step: float) -> None:
    for number, path in enumerate([*sorted(folder.glob("run_it*_optimiser.star")), folder / "run_model.star"]):
        os.utime(path, (1783936800 + step * number,) * 2)


def test_wall_seconds_are_those_of_writing(project: Path) -> None:
    """An iteration takes no less than its expectation: so files that were copied are told from those that were written."""
    folder = project / "Refine3D/job012"
    write_times(folder, 6.5)
    walls = [row["wall_seconds"] for row in tables.iterations(project, "job012")]
    assert walls == [None, *[6.5] * 14]
    shutil.copytree(project, project.with_name("moved"), symlinks=True)  # with the times of its files
    assert [row["wall_seconds"] for row in tables.iterations(project.with_name("moved"), "job012")] == walls
    write_times(folder, 0.01)
    assert {row["wall_seconds"] for row in tables.iterations(project, "job012")} == {None}
    write_times(folder, 6.5)
    os.utime(folder / "run_it007_optimiser.star", (1783936800,) * 2)  # one was copied
    assert {row["wall_seconds"] for row in tables.iterations(project, "job012")} == {None}
    write_times(folder, 6.5)
    (folder / "run.out").unlink()  # nothing says how long an iteration took at least
    assert {row["wall_seconds"] for row in tables.iterations(project, "job012")} == {None}


def test_a_pause_before_a_job_was_continued_is_none_of_its_time(project: Path) -> None:
    folder = project / "Refine3D/job012"
    for path in [*folder.glob("run_it01*"), folder / "run_model.star", folder / "run_data.star"]:
        path.rename(path.with_name(path.name.replace("run_", "run_ct9_")))
    paths = [*sorted(folder.glob("run_it*_optimiser.star")), *sorted(folder.glob("run_ct9_it*_optimiser.star"))]
    for number, path in enumerate([*paths, folder / "run_ct9_model.star"]):
        os.utime(path, (1783936800 + 6.5 * number + 86400 * (number > 9),) * 2)
    found = tables.iterations(project, "job012")
    assert [row["iteration"] for row in found] == list(range(15))
    assert [row["wall_seconds"] for row in found] == [None, *[6.5] * 9, None, *[6.5] * 4]
    assert found[-1]["resolution"] == 21.24
