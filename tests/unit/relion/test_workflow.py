"""Workflows that are shipped are whole, and what they must refuse before RELION sees it."""

from __future__ import annotations

import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.relion import workflow
from kit.benchmarks.relion.project import read_job_star
from kit.benchmarks.relion.workflow import (
    Workflow,
    load_workflow,
    workflow_names,
)
from kit.core.errors import KitError
from kit.core.schema import parse


@pytest.mark.parametrize("name", workflow_names())
def test_shipped_workflows_are_whole(name: str) -> None:
    jobs = load_workflow(name).jobs
    stars = {path.name.removesuffix("_job.star") for path in (workflow.FOLDER / name).glob("*_job.star")}
    assert stars == {step.star or step.name for step in jobs}


def test_tiny_holds_every_step_from_movies_to_a_polished_map() -> None:
    stars = [step.star or step.name for step in load_workflow("generated").jobs]
    kinds = [read_job_star(workflow.FOLDER / f"generated/{star}_job.star").type for star in stars]
    order = ["import", "motioncorr", "ctffind", "autopick", "extract", "class2d", "select", "initialmodel", "class3d"]
    order += ["select", "extract", "refine3d", "maskcreate", "postprocess", "ctfrefine", "polish", "refine3d", "postprocess"]
    left = iter(kinds)
    assert all(kind in left for kind in order), kinds


def test_unknown_names_are_said() -> None:
    with pytest.raises(KitError, match=r"unknown workflow of RELION 'generatd': did you mean generated\?"):
        load_workflow("generatd")
    jobs = [{"name": "extract"}, {"name": "class2d", "inputs": {"fn_img": "extrakt"}}]
    with pytest.raises(KitError, match="job class2d: fn_img = 'extrakt', but no earlier job has that name"):
        parse(Workflow, {"description": "x", "jobs": jobs}, "workflow.toml")
    dropped = [{**jobs[0], "dropped": "poor result"}, {"name": "class2d", "inputs": {"fn_img": "extract"}}]
    with pytest.raises(KitError, match="job class2d: fn_img = 'extract', but that job was dropped"):
        parse(Workflow, {"description": "x", "jobs": dropped}, "workflow.toml")
    fitted = [{"name": "refine3d", "maps": {"fn_ref": {"pixel_size": 1.0, "box": 32}}}]
    with pytest.raises(KitError, match="job refine3d: maps has fn_ref, but neither inputs nor options have"):
        parse(Workflow, {"description": "x", "jobs": fitted}, "workflow.toml")
    with pytest.raises(KitError, match="two jobs are named extract"):
        parse(Workflow, {"description": "x", "jobs": [jobs[0], jobs[0]]}, "workflow.toml")


def test_metrics_that_no_stage_serves_are_an_error() -> None:
    benchmark = load_benchmark("relion")
    with pytest.raises(
        KitError, match=r"reads postprocess_polished:postprocess.star, but no stage is named postprocess_polished"
    ):
        benchmark.resolve("tiny", benchmark.stages[:1])
