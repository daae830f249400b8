"""Results of the ancestor: read whatever they hold, and judged by what is known of the work. Every file here is made up."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import kit
from hypothesis import given
from hypothesis import strategies as st

from kit import history
from kit.core.errors import KitError
from kit.history import e2e, results
from kit.history.verdicts import RULES, known, verdict

SHIPPED = {
    "_rlnFinalResolution": 3.25,
    "_rlnBfactorUsedForSharpening": -101.23456,
    "_rlnParticleBoxFractionSolventMask": 41.234567,
}
REFINED = {"acc_rotation": 1.2, "acc_translation": 0.48, "resolution": 3.63}


def step(name: str, seconds: float, **values: Any) -> dict[str, Any]:
    return {"name": f"relion_{name}", "duration": seconds, **values}


def refinement(seconds: float = 3000.0, **shipped: float) -> list[dict[str, Any]]:
    """The steps of pipeline_refine3d_2.sh, of a job that ran."""
    return [
        step("refine_mpi", seconds, **REFINED),
        step("mask_create", 49.0),
        step("postprocess", 4.0, **{**SHIPPED, **shipped}),
        step("ctf_refine_mpi", 240.0, beam_tilt_x=-0.11395, beam_tilt_y=round(0.1 + seconds / 1e6, 6)),
    ]


def metrics(root: Path, where: str, steps: list[dict[str, Any]], script: str = "refine3d_2", **more: Any) -> Path:
    """A metrics.json below runs/, as the ancestor's Python wrote it."""
    path = root / "case1/runs" / where / "metrics.json"
    path.parent.mkdir(parents=True)
    total = sum(float(entry["duration"]) for entry in steps)
    table = {"pipeline_file": f"benchmark_scripts/10338/pipeline_{script}.sh", "total_duration": total, "steps": steps}
    path.write_text(json.dumps({**table, "RELION_CMD": "", "RELION_MPI_FLAGS": "-n 23", **more}))
    return path


def rows(path: Path, head: list[str], *lines: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *lines])
    return path


def rules(root: Path) -> list[set[str]]:
    """The rules that speak against each result, in the order of their files."""
    return [{rule for rule, _ in reasons} for reasons in e2e.read(root).reasons]


def verdicts(root: Path) -> list[str]:
    return [verdict(reasons) for reasons in e2e.read(root).reasons]


def test_a_good_result_has_nothing_against_it(tmp_path: Path) -> None:
    metrics(tmp_path, "clx/job_1", refinement())
    assert rules(tmp_path) == [set()]
    assert verdicts(tmp_path) == ["plausible"]


CLASSES = {"_rlnCurrentResolution": 4.86, "_rlnNrClasses": 100.0, "num_top": 21, "class_1_occ": 0.0123456}
POLISHED = {"0": 0.8925, "1": 8190.0, "2": 2.82}
BAD = {
    "too-fast": ("refine3d_2", refinement(100.0)),
    "not-run": ("refine3d_2", refinement(0.7)),
    "not-run (apply)": ("polish_5", [step("motion_refine", 5e4, **POLISHED), step("motion_refine_mpi", 252.3, **POLISHED)]),
    "not-run (no step)": ("refine3d_2", [step("mask_create", 4000.0)]),
    "bad-value": ("refine3d_2", refinement(_rlnParticleBoxFractionSolventMask=7616.552)),
    "no-metric": ("class3d_1", [step("refine_mpi", 2400.0), step("star_handler", 15.0)]),
    "no-metric (refine3d_4)": ("refine3d_4", [step("refine_mpi", 7e4), step("postprocess", 74.0, **SHIPPED)]),
    "copied-value": ("polish_5", [step("motion_refine", 5e4, **POLISHED), step("motion_refine_mpi", 2e4, **POLISHED)]),
}


@pytest.mark.parametrize("case", BAD)
def test_each_rule_fires_on_its_case(tmp_path: Path, case: str) -> None:
    rule = case.partition(" ")[0]
    metrics(tmp_path, "pearl/job_1", BAD[case][1], script=BAD[case][0])
    assert rule in rules(tmp_path)[0]
    assert verdicts(tmp_path) == [RULES[rule][0]]


def test_classification_has_measures_of_its_own(tmp_path: Path) -> None:
    metrics(tmp_path, "pearl/job_1", [step("refine_mpi", 3800.0, **CLASSES)], script="class2d_0")
    metrics(tmp_path, "pearl/job_2", [step("refine_mpi", 3800.0, **REFINED)], script="class2d_0")
    assert rules(tmp_path) == [set(), {"no-metric"}]
    assert "class_1_occ" not in e2e.read(tmp_path).results[0].steps[0].values  # a hundred numbers that nothing asks for


def test_a_value_to_the_last_digit_on_two_machines(tmp_path: Path) -> None:
    """PostProcess read a map that was shipped; resolutions come in shells, and may be equal."""
    metrics(tmp_path, "clx/job_1", refinement(3000.0))
    metrics(tmp_path, "scarf/job_2", refinement(3100.0))
    own = {"_rlnBfactorUsedForSharpening": -99.87654, "_rlnParticleBoxFractionSolventMask": 40.111111}
    metrics(tmp_path, "scarf/job_3", refinement(3200.0, **own))
    found = e2e.read(tmp_path)
    assert [sorted({rule for rule, _ in reasons}) for reasons in found.reasons] == [["same-value"], ["same-value"], []]
    texts = [text for _, text in found.reasons[0]]
    assert "relion_postprocess: _rlnBfactorUsedForSharpening is -101.23456 in 2 results of 2 machines" in texts
    assert not any("_rlnFinalResolution" in text for text in texts)


@pytest.mark.parametrize(
    "where", ["icx/job_./benchmark_scripts/10338/pipeline_refine3d_2.sh", "icx/no-cpu/job_./a/b.sh", "icx/job_"]
)
def test_a_path_for_an_id(tmp_path: Path, where: str) -> None:
    metrics(tmp_path, where, refinement())
    assert rules(tmp_path) == [{"path-as-id"}]
    assert e2e.read(tmp_path).results[0].machine == "icx"


def test_an_earlier_name_and_a_part_of_the_tree(tmp_path: Path) -> None:
    """A folder further down still says which machine it is of."""
    metrics(tmp_path, "pearl/job_28256", refinement(), script="x")
    found = e2e.read(tmp_path / "case1/runs/pearl/job_28256").results[0]
    assert (found.machine, found.job, found.script) == ("pearl", "28256", "x")


RELION = [
    "job_id",
    "pipeline_file",
    "total_duration",
    "machine",
    "relion_refine_mpi duration",
    "relion_refine_mpi resolution",
]


def test_a_table_repeats_the_jobs(tmp_path: Path) -> None:
    path = metrics(tmp_path, "clx/job_77579", refinement())
    total = json.loads(path.read_text())["total_duration"]
    table = tmp_path / "case1/runs/clx_10338_2.csv"
    rows(
        table, RELION, [77579, "a/pipeline_refine3d_2.sh", total, "clx", 3000.0, 3.63], [8, "a/x.sh", 54.5, "clx", 0.7, 3.63]
    )
    found = e2e.read(tmp_path)
    assert (len(found.results), found.repeated) == (2, 1)
    assert (found.results[1].job, found.results[1].steps[0].values) == ("8", {"resolution": 3.63})
    assert {"too-fast", "not-run"} <= rules(tmp_path)[1]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    head = ["job_id", "pipeline_file", "total_duration", "relion_refine_mpi duration", "relion_refine_mpi duration"]
    rows(tmp_path / "pearl_plasmodium.csv", head, [28270, "plasmodium_ribosome_benchmarks.sh", 4246.2, 4192.0, 54.0])
    found = e2e.read(tmp_path)
    assert [step.seconds for step in found.results[0].steps] == [4192.0, 54.0]
    assert found.results[0].machine == "pearl"
    assert ("not-run", "relion_refine_mpi took 54.0 s, where it needs 60 s at least") in found.reasons[0]


TRAINED = [
    "index",
    "total_time",
    "second_epoch_train_time",
    "imgs_per_s_second_epoch",
    "test_accuracy",
    "num_ranks",
    "system",
]


def test_trainings_of_cloudmask(tmp_path: Path) -> None:
    path = tmp_path / "case2/runs/scarf/train_analysis.csv"
    wrong = ["run_1", 45403.0, 100.0, 194.0, 0.84, 1, "PEARL"]
    rows(
        path,
        TRAINED,
        wrong,
        ["run_2", 1000.0, 20.0, 500.0, 0.87, 32, "SCARF"],
        ["run_3", 900.0, 20.0, 500.0, 0.87, 1, "SCARF"],
    )
    assert rules(tmp_path) == [{"throughput", "other-machine"}, {"one-rank"}, set()]
    assert any("1/32 of the test set" in text for _, text in e2e.read(tmp_path).reasons[1])


def test_inferences_of_cloudmask(tmp_path: Path) -> None:
    rows(tmp_path / "pearl/infer_analysis.csv", ["index", "total", "num_ranks", "imgs_per_s"], ["run_1", 1000.0, 1, 2.0])
    assert rules(tmp_path) == [{"no-metric", "throughput"}]


def test_no_other_table_is_read(tmp_path: Path) -> None:
    metrics(tmp_path, "clx/job_1", refinement())
    rows(tmp_path / "notes.csv", ["a", "b"], [1, 2])
    assert len(e2e.read(tmp_path).results) == 1


def test_the_known_work_fits_together() -> None:
    floor = known().total.floor
    assert all(floor < seconds for seconds in known().total.fastest.values())
    assert set(known().steps) <= set(known().metrics)


BROKEN = {
    "empty": b"",
    "not JSON": b"{",
    "no object": b"[1, 2]",
    "no duration": b'{"pipeline_file": "a", "total_duration": 1, "steps": [{"name": "a"}]}',
    "negative": b'{"pipeline_file": "a", "total_duration": -1, "steps": []}',
    "not a number": b'{"pipeline_file": "a", "total_duration": NaN, "steps": []}',
    "infinite": b'{"pipeline_file": "a", "total_duration": 1e999, "steps": []}',
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 200_000,
    "long number": b'{"pipeline_file": "a", "total_duration": ' + b"9" * 6000 + b', "steps": []}',
    "huge": b'{"pipeline_file": "a", "total_duration": 1' + b"0" * 400 + b', "steps": []}',
    "many steps": b'{"pipeline_file": "a", "total_duration": 1, "steps": ['
    + b'{"name": "a", "duration": 1},' * 2000
    + b"1]}",
    "long name": b'{"pipeline_file": "' + b"a" * 5000 + b'", "total_duration": 1, "steps": []}',
    "large": b" " * (results.MOST_BYTES + 1),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_and_hides_no_other(tmp_path: Path, case: str) -> None:
    metrics(tmp_path, "clx/job_1", refinement())
    bad = metrics(tmp_path, "clx/job_2", refinement())
    bad.write_bytes(BROKEN[case])
    found = e2e.read(tmp_path)
    assert len(found.results) == 1
    assert len(found.problems) == 1
    assert found.problems[0].startswith(str(bad))
    assert len(found.problems[0]) < 5000


BROKEN_TABLES = {
    "other cells": "num_ranks,total_time\n1,2,3\n",
    "no number": "num_ranks,total_time\n1,long\n",
    "negative": "job_id,total_duration\n1,-5\n",
    "quote": 'job_id,total_duration\n"1,5\n',
    "many columns": "total_duration," + ",".join(f"s{n} duration" for n in range(2000)) + "\n",
    "long field": "total_duration,a\n1," + "x" * 200_000 + "\n",
}


@pytest.mark.parametrize("case", BROKEN_TABLES)
def test_a_broken_table(tmp_path: Path, case: str) -> None:
    (tmp_path / "t.csv").write_text(BROKEN_TABLES[case])
    found = e2e.read(tmp_path)
    assert not found.results
    assert len(found.problems) == 1
    assert str(tmp_path / "t.csv") in found.problems[0]


def test_no_link_and_no_fifo_is_opened(tmp_path: Path) -> None:
    secret = tmp_path / "outside.json"
    secret.write_text("{}")
    folder = tmp_path / "tree/runs/clx"
    (folder / "job_1").mkdir(parents=True)
    (folder / "job_1/metrics.json").symlink_to(secret)
    os.mkfifo(folder / "table.csv")
    (folder / "elsewhere").symlink_to(tmp_path)
    problems = e2e.read(tmp_path / "tree").problems
    assert sorted(problem.partition(": ")[2].partition(",")[0] for problem in problems) == ["a FIFO", "a link"]


def test_hostile_texts_are_harmless(tmp_path: Path) -> None:
    """A script that is called like a kind of table, and characters that would act on the terminal."""
    metrics(tmp_path, "clx/job_1", [step("refine_mpi", 1.0, **{"\x1b[2J": 1, "n": 10**400})], script="train")
    metrics(tmp_path, "clx/job_\x1b[31m", refinement(), script="\x1b]0;owned\x07")
    shown = kit("submission", "import", "e2e", str(tmp_path)).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"\x1b[31m" in shown


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,0123456789eEnaNtrufls \n', max_size=200).map(str.encode))
def test_no_bytes_are_an_internal_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "metrics.json").write_bytes(content)
    (folder / "table.csv").write_bytes(b"num_ranks,total_time,total_duration\n" + content)
    e2e.read(folder)


def test_no_result_at_all(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"holds no metrics\.json and no table"):
        e2e.read(tmp_path)
    with pytest.raises(KitError, match="no folder"):
        e2e.read(tmp_path / "gone")


def test_the_command(tmp_path: Path) -> None:
    metrics(tmp_path, "clx/job_77533", refinement(0.7))
    text = kit("submission", "import", "e2e", str(tmp_path)).stdout
    assert "impossible  clx" in text
    assert "relion_refine_mpi took 0.7 s, where it needs 60 s at least" in text
    assert "1 results: 1 impossible, 0 unproven, 0 plausible" in text
    found = json.loads(kit("submission", "import", "e2e", str(tmp_path), "--json").stdout)
    assert found["results"][0]["verdict"] == "impossible"
    assert found["results"][0]["reasons"][0]["rule"] == "too-fast"
    assert found["rules"]["too-fast"]["results"] == 1
    metrics(tmp_path, "clx/job_2", refinement()).write_text("{")
    result = kit("submission", "import", "e2e", str(tmp_path), code=1)
    assert "1 results" in result.stdout
    assert "job_2/metrics.json: not JSON" in result.stderr


def test_published_times_as_they_were_printed() -> None:
    found = history.references("relion")
    accelerated = next(row for row in found if row.job == "job065")
    assert (accelerated.work, accelerated.tasks, accelerated.threads, accelerated.gpus) == ("Class2D", 9, 6, None)
    assert (accelerated.runtime, accelerated.seconds, accelerated.change) == ("6:40", 24_000, "Change binary")
    gpu = next(row for row in found if row.job == "job030")
    assert (gpu.tasks, gpu.threads, gpu.gpus, gpu.seconds) == (5, 1, 4, 58_560)
    assert [row.seconds for row in found if row.job == "job007"] == [123]
    unknown = [row.runtime for row in found if row.seconds is None]
    assert set(unknown) == {"Est. 6 days", "negligible", "Not recorded", "2 days (timeout)"}
    assert all(row.source.startswith("M. Winn") for row in found)


def test_two_tables_agree_where_both_have_a_job() -> None:
    """The presentations of September and November print some times twice, to the second and to the minute."""
    for job in ("job025", "job030", "job039"):
        times = [row.seconds for row in history.references("relion") if row.job == job]
        assert len(times) == 2
        assert abs(times[0] - times[1]) < 60  # type: ignore[operator]


def test_published_classes_and_sizes() -> None:
    shares = {row.job: row.shares for row in history.classes("relion")}
    assert shares["job067"] == [0.19, 0.37, 0.28, 0.16]
    assert all(sum(row) == pytest.approx(1, abs=0.011) for row in shares.values())
    assert {row.size for row in history.data_sizes("cloudmask")} == {"180GB", "4.9TB"}
    assert "???" in {row.size for row in history.data_sizes("relion")}  # unknown stays unknown
    assert history.references("cloudmask") == []


def test_a_table_of_other_columns(tmp_path: Path) -> None:
    table = rows(tmp_path / "times.csv", ["job", "time"], ["a", 1])
    with pytest.raises(KitError, match=r"times\.csv: the columns job,work"):
        history.read(table, history.Reference)
