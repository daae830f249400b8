"""From a request to a plan: what is asked is looked up once, and what does not go together is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import ROOT, kit

from kit.core.errors import KitError
from kit.plan import Plan, Request, make_plan, repeated
from kit.runs.launch import DRY, script
from kit.runs.record import Run, State
from kit.runs.states import NEXT, become

GPUS = """
description = "nodes with GPUs, and without"
contact = "x"
url = "https://localhost"
[partitions.cpu]
scheduler = "slurm"
cores = 8
[partitions.gpu]
scheduler = "slurm"
cores = 8
gpus = 2
max_nodes = 4
"""


@pytest.fixture
def site(tmp_path: Path) -> str:
    (tmp_path / "centre.toml").write_text(GPUS)
    return str(tmp_path / "centre.toml")


def test_a_plan_has_what_was_asked(site: str) -> None:
    plan = make_plan(Request("cloudmask", site=site, partition="gpu", nodes=2, ranks=4, threads=3, seed=7))
    assert (plan.benchmark.name, plan.size_name, plan.work) == ("cloudmask", "tiny", "tiny")
    assert (plan.site.name, plan.partition_name, plan.partition.gpus) == ("centre", "gpu", 2)
    placed = plan.placement
    assert (placed.nodes, placed.ranks, placed.ranks_per_node, placed.threads) == (2, 4, 2, 3)
    assert (plan.image.name, plan.seed) == ("horovod", 7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.benchmark = plan.benchmark  # type: ignore[misc]


def test_what_is_left_open_is_the_first(site: str) -> None:
    plan = make_plan(Request("cloudmask", site=site))
    assert plan.partition_name == "cpu"
    assert plan.image.name == next(iter(plan.benchmark.images))


def test_cores_of_another_machine(site: str) -> None:
    """A check plans a run of the machine that rendered it, whatever it has itself."""
    plan = make_plan(Request("relion", "particles"), here=(96, 512.0))
    assert (plan.placement.cores, plan.placement.memory_gb) == (96, 512.0)


@pytest.mark.parametrize("image", ["horovod-cuda", "relion-cuda"])
def test_image_for_gpus_where_there_are_none(image: str, site: str) -> None:
    asked = Request("cloudmask" if image.startswith("horovod") else "relion", site=site, image=image)
    if image.startswith("relion"):
        asked = dataclasses.replace(asked, size="particles")
    with pytest.raises(KitError, match=rf"image {image} computes on GPUs, and the partition cpu has none .*--allow-cpu"):
        make_plan(asked)
    allowed = make_plan(dataclasses.replace(asked, allow_cpu=True))
    assert "--nv" not in script(allowed, *DRY)
    on_gpus = make_plan(dataclasses.replace(asked, partition="gpu"))
    assert "--nv" in script(on_gpus, *DRY)


def test_ranks_that_would_share_a_gpu(tmp_path: Path) -> None:
    """NCCL does not join them, so that the job would end with its first exchange; ranks of RELION may share one."""
    path = tmp_path / "gpu.toml"
    example = (ROOT / "kit/sites/example-slurm.toml").read_text()
    path.write_text(example.replace("memory_gb = 256", "memory_gb = 256\ngpus = 1"))
    asked = Request("cloudmask", site=str(path), image="horovod-cuda")
    with pytest.raises(KitError, match=r"2 ranks on a node and 1 GPU, but in image horovod-cuda each .*; --ranks 1$"):
        make_plan(asked)
    assert make_plan(dataclasses.replace(asked, ranks=1)).placement.gpus == 1
    assert make_plan(dataclasses.replace(asked, nodes=2)).placement.ranks_per_node == 1
    with pytest.raises(KitError, match=r"4 ranks on a node and 1 GPU,.*; --ranks 2$"):
        make_plan(dataclasses.replace(asked, nodes=2, ranks=8))
    assert make_plan(dataclasses.replace(asked, image="horovod")).placement.ranks_per_node == 2
    relion = make_plan(dataclasses.replace(asked, benchmark="relion", size="particles", image="relion-cuda"))
    assert relion.placement.ranks_per_node > relion.placement.gpus == 1


def test_option_that_is_not_allowed_to_be_forgotten() -> None:
    result = kit("run", "relion", "--size", "particles", "--image", "relion-cuda", "--dry-run", code=1)
    assert "--allow-cpu" in result.stderr
    assert result.stdout == ""


def test_repeats_differ_in_their_seed(site: str) -> None:
    plans = repeated(Request("cloudmask", site=site), 3)
    assert [plan.seed for plan in plans] == [1234, 1235, 1236]
    assert [plan.seed for plan in repeated(Request("cloudmask", site=site, seed=5), 2)] == [5, 6]
    assert repeated(Request("cloudmask", site=site), 1)[0].seed == 1234


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "relyon"}, "unknown benchmark 'relyon': did you mean relion"),
        ({"size": "tinny"}, "did you mean tiny"),
        ({"partition": "big"}, "unknown partition of site centre 'big'"),
        ({"image": "relion-basic"}, "unknown image for benchmark cloudmask 'relion-basic'"),
        ({"arguments": ("x=1",)}, "unknown argument 'x'"),
        ({"nodes": 9}, "9 nodes are needed, but the partition has at most"),
        ({"ranks": 0}, "--ranks 0 needs a benchmark with a leading rank"),
        ({"scaling": (1, 2, 3), "epochs": 1}, "each a divisor of the largest"),
    ],
)
def test_refused(changes: dict[str, object], message: str, site: str) -> None:
    with pytest.raises(KitError, match=message):
        make_plan(dataclasses.replace(Request("cloudmask", site=site), **changes))  # type: ignore[arg-type]


def run_in(name: str) -> Run:
    plan: Plan = make_plan(Request("cloudmask"))
    digest = "sha256:" + "0" * 64
    return Run.model_validate(
        {
            "kit": "0",
            "commit": "0" * 40,
            "created": "2026-01-01T00:00:00Z",
            **{
                "benchmark": plan.benchmark.name,
                "size": "tiny",
                "site": "local",
                "partition": "local",
                "ranks": 1,
                "threads": 1,
            },
            "image": {"name": "horovod", "version": "1", "runtime": "docker", "digest": digest, "recipe": digest},
            "data": digest,
            "script": digest,
            "state": {"name": name},
        }
    )


@pytest.mark.parametrize(
    ("before", "after"), [(a, b) for a, allowed in NEXT.items() for b in NEXT if b not in (*allowed, a)]
)
def test_a_state_that_cannot_follow_is_not_written(before: str, after: str) -> None:
    with pytest.raises(AssertionError, match=f"a run that is {before} cannot become {after}"):
        become(run_in(before), State.model_validate({"name": after}))


def test_no_state_leads_back_and_none_skips_the_job() -> None:
    assert NEXT["rendered"] == {"submitted"}
    assert not any("rendered" in allowed for allowed in NEXT.values())
    assert "submitted" not in NEXT["valid"] | NEXT["finished"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": 10**11}, "key 'ranks': Input should be less than or equal to"),
        ({"threads": 10**11}, "key 'threads': Input should be less than or equal to"),
        ({"nodes": 10**11}, "key 'nodes': Input should be less than or equal to"),
        ({"scaling": (1, 10**11), "epochs": 1}, "key 'ranks': Input should be less than or equal to"),
        ({"seed": -1}, "--seed -1: a number from 0 to 2147483647 is needed"),
        ({"seed": 2**31}, "--seed 2147483648: a number from 0"),
    ],
)
def test_numbers_that_nobody_has(changes: dict[str, object], message: str) -> None:
    """They would end as a record that cannot be written, or as a seed that RELION takes for the time of day."""
    with pytest.raises(KitError, match=message):
        make_plan(dataclasses.replace(Request("cloudmask"), **changes))  # type: ignore[arg-type]


def test_dry_run_of_a_run_that_is_there_starts_nothing(tmp_path: Path) -> None:
    assert "nothing was started" in kit("run", "--resume", str(tmp_path), "--dry-run", code=1).stderr
