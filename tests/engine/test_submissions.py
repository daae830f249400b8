"""The road walked for real: both benchmarks at size tiny, real RELION and real Horovod in real containers, once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, forged, kit

from kit.benchmark import load_benchmark
from kit.benchmarks.relion.workflow import folders
from kit.core import paths
from kit.core.checksums import sha256
from kit.submissions.check import check
from kit.submissions.layout import REQUIRED, packed
from kit.submissions.rules import refusing

BENCHMARKS = ("relion", "cloudmask")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_accepted(made_submissions: dict[str, Path], benchmark: str) -> None:
    result = kit("submission", "check", str(made_submissions[benchmark]))
    assert f"{made_submissions[benchmark]}: accepted" in result.stdout


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_any_file_broken_is_named(made_submissions: dict[str, Path], benchmark: str, tmp_path: Path) -> None:
    folder = made_submissions[benchmark]
    copy = tmp_path / Path(*folder.parts[-4:])
    shutil.copytree(folder, copy)
    assert refusing(check(copy)) == []
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        name = path.relative_to(copy).as_posix()
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + b"#")
        found = " ".join(str(finding) for finding in check(copy))
        assert name in found, name
        path.write_bytes(content)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_what_it_holds(made_submissions: dict[str, Path], benchmark: str) -> None:
    folder = made_submissions[benchmark]
    run = json.loads((folder / "run.json").read_text())
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", run["image"]["digest"])
    assert run["state"]["name"] == "valid"
    assert all(stage["end"] > stage["start"] for stage in run["stages"])
    bill = json.loads((folder / "run/sbom.cdx.json").read_text())
    package = "relion" if benchmark == "relion" else "horovod"
    assert package in {component["name"] for component in bill["components"]}
    assert {"name": "kit:digest", "value": run["image"]["digest"]} in bill["metadata"]["component"]["properties"]
    readme = (folder / "README.md").read_text()
    for metric in run["metrics"]:
        assert metric["name"] in readme
    for link in re.findall(r"\]\((\S+?)\)", readme):
        assert (folder / link).is_file(), link
    assert set(REQUIRED) <= {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


CONTRADICTIONS = [
    ("relion", "evaluation.json", ["truth", "fsc05_resolution"], 3.0),
    ("relion", "evaluation.json", ["postprocess", "shell"], 20),
    ("relion", "evaluation.json", ["class3d", "assignment_accuracy"], 0.99),
    ("relion", "evaluation.json", ["class3d", "major_fraction"], 0.4),
    ("cloudmask", "score/score.json", ["label", "network", "accuracy"], 0.99),
    ("cloudmask", "score/score.json", ["label", "network", "f1"], 0.99),
    ("cloudmask", "score/score.json", ["truth", "network", "accuracy"], 0.99),
    ("cloudmask", "score/score.json", ["margin"], 0.4),
    ("cloudmask", "score/score.json", ["separation"], 0.4),
    ("cloudmask", "score/score.json", ["label", "network", "accuracy_interval"], [0.98, 0.99]),
    ("cloudmask", "score/score.json", ["label", "network", "confusion"], [[9, 0], [0, 9]]),
    ("cloudmask", "sst/sst.json", ["network", "median"], 0.01),
    ("cloudmask", "sst/sst.json", ["network", "rsd"], 0.01),
    ("cloudmask", "train/train.json", ["input_share"], 1e-4),
]


@pytest.mark.parametrize(("benchmark", "name", "keys", "value"), CONTRADICTIONS)
def test_number_that_contradicts_its_own_file(
    made_submissions: dict[str, Path], benchmark: str, name: str, keys: list[str], value: Any, tmp_path: Path
) -> None:
    """A metric edited where it is read, and in run.json, with all checksums right: what it was computed from is there."""
    folder = made_submissions[benchmark]
    copy = tmp_path / Path(*folder.parts[-4:])
    shutil.copytree(folder, copy)
    table = json.loads((copy / "run" / name).read_text())
    inner = table
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (copy / "run" / name).write_text(json.dumps(table))

    def change(run: dict[str, Any]) -> None:
        for metric in run["metrics"]:
            metric["value"] = load_benchmark("relion").read_value(copy / packed(metric["file"]), metric["label"])

    assert f"run/{name}: {'.'.join(keys)} is {value!r}" in forged(copy, change)


def test_resolution_that_contradicts_its_curve(made_submissions: dict[str, Path], tmp_path: Path) -> None:
    folder = made_submissions["relion"]
    copy = tmp_path / Path(*folder.parts[-4:])
    shutil.copytree(folder, copy)
    (star,) = copy.glob("run/PostProcess/*/postprocess.star")
    star.write_text(re.sub(r"(_rlnFinalResolution\s+)\S+", r"\g<1>5.000000", star.read_text()))
    assert "_rlnFinalResolution is 5.000, but its curve falls below 0.143" in forged(copy)


def test_checked_by_a_later_kit(made_submissions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kit that has gone on since checks with the tree of the run's commit, and finds as much as that one."""
    folder = made_submissions["cloudmask"]
    if json.loads((folder / "run.json").read_text())["commit"].endswith("-dirty"):
        pytest.skip("files of this checkout are changed, so that no commit made the submission")
    later = tmp_path / "later"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(later)], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "later"], cwd=later, check=True)
    monkeypatch.setattr(paths, "CHECKOUT", later)
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    assert refusing(check(folder)) == []
    (kit_of_then,) = (tmp_path / "cache/kits").iterdir()
    assert (kit_of_then / "kit/submissions/rerender.py").is_file()
    copy = tmp_path / Path(*folder.parts[-4:])
    shutil.copytree(folder, copy)
    (copy / "run/job.sh").write_text((copy / "run/job.sh").read_text().replace("--epochs", "--no-epochs"))
    assert "run/job.sh: line" in forged(copy)


def values(folder: Path) -> dict[str, float]:
    return {m["name"]: m["value"] for m in json.loads((folder / "run.json").read_text())["metrics"]}


def test_relion_agrees_with_the_truth(made_submissions: dict[str, Path]) -> None:
    found = values(made_submissions["relion"])
    assert found["map_truth_correlation"] > 0.9
    assert found["purity"] > 0.85
    assert found["fsc_difference"] < 1e-3
    assert found["mpi_ranks"] == 3
    figures = made_submissions["relion"] / "run/figures"
    drawn = {"angles", "class2d", "ctf", "drift", "fsc", "iterations", "map", "picks", "times"}
    assert {p.name for p in figures.iterdir()} == {f"{name}.png" for name in drawn}


def test_cloudmask_learned_something(made_submissions: dict[str, Path]) -> None:
    found = values(made_submissions["cloudmask"])
    assert found["margin"] > 0
    assert found["accuracy_ceiling"] == pytest.approx(0.97, abs=0.003)
    assert found["input_share"] < 0.05
    assert found["peak_memory"] < 2
    assert found["parameters"] == 1948609
    assert found["mpi_ranks"] == 2
    figures = made_submissions["cloudmask"] / "run/figures"
    assert {p.name for p in figures.iterdir()} == {"calibration.png", "masks.png", "sst.png", "training.png"}


@pytest.fixture
def relion_run(made_submissions: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the real RELION run, to be damaged."""
    base = made_submissions["relion"].parents[4]
    run = next((base / "runs/relion").iterdir())
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    return copy


def verdict(run: Path) -> str:
    # The directory moved, so its script is no longer the one that was rendered for this place; only the metrics are asked.
    from kit.runs.collect import judge_results
    from kit.runs.record import load_run, read_stages, resolved

    state, _ = judge_results(run, load_run(run), resolved(run)[0], read_stages(run))
    return str(state)


def of_job(run: Path, stage: str, name: str) -> Path:
    """A file that a job of the workflow wrote."""
    return run / folders(run)[stage] / name


def test_wrong_map_is_refused(relion_run: Path) -> None:
    """A map that refinement could have ended in: right resolution by its half maps, wrong density."""
    import mrcfile
    import numpy as np

    assert verdict(relion_run) == "valid"
    with mrcfile.open(of_job(relion_run, "refine3d_polished", "run_class001.mrc"), "r+") as file:
        blocks = file.data.copy()
        half = len(blocks) // 2
        blocks[:half], blocks[half:] = blocks[::-1][:half].copy(), np.roll(blocks[half:], 6, axis=1)
        file.set_data(blocks)
    assert "map_truth_correlation" in verdict(relion_run)


def test_map_that_came_with_the_data_is_refused(relion_run: Path) -> None:
    data = relion_run / "data"
    shutil.copytree(data.resolve(), relion_run / "own")
    data.unlink()
    (relion_run / "own").rename(data)
    # As a data set that ships the result would list it.
    manifest = json.loads((data / "manifest.json").read_text())
    digest = sha256(of_job(relion_run, "refine3d_polished", "run_class001.mrc"))
    (data / "manifest.json").write_text(json.dumps({**manifest, "answer.mrc": {"bytes": 1, "sha256": digest}}))
    assert "is data/answer.mrc, byte for byte; a result is computed, not copied" in verdict(relion_run)


def test_stale_half_maps_are_refused(relion_run: Path) -> None:
    star = of_job(relion_run, "postprocess_polished", "postprocess.star")
    own = folders(relion_run)["refine3d_polished"]
    # The maps of the refinement before are half maps of this run as well, but not those of its result.
    star.write_text(star.read_text().replace(own, folders(relion_run)["refine3d"]))
    assert "not this run's" in verdict(relion_run)


def test_resolution_that_is_not_that_of_the_curve_is_refused(relion_run: Path) -> None:
    star = of_job(relion_run, "postprocess_polished", "postprocess.star")
    star.write_text(re.sub(r"(_rlnFinalResolution\s+)\S+", r"\g<1>12.000000", star.read_text()))
    assert "its own curve falls below 0.143" in verdict(relion_run)


def test_ranks_that_are_strangers_are_refused(relion_run: Path) -> None:
    log = relion_run / "logs/refine3d.out"
    log.write_text(re.sub(r"(Number of MPI processes\s*=) 3", r"\1 1", log.read_text()))
    assert "3 MPI ranks were asked for, 1 formed one job" in verdict(relion_run)


def test_option_that_relion_ignored_is_refused(relion_run: Path) -> None:
    log = relion_run / "logs/class3d.err"
    log.write_text(log.read_text() + "WARNING: Option -auto_refine is not a valid RELION argument\n")
    assert "is not a valid RELION argument" in verdict(relion_run)


def test_class_distribution_of_another_mixture_is_refused(relion_run: Path) -> None:
    models = sorted(of_job(relion_run, "class3d", "").glob("*_model.star"))[-1]
    text = models.read_text()
    for share in re.findall(r"class00\d\.mrc\s+(\S+)", text):
        text = text.replace(share, "0.950000" if float(share) > 0.5 else "0.050000")
    models.write_text(text)
    assert "major_class_fraction" in verdict(relion_run)
