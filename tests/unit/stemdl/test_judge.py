"""Judgement and figures of a run whose files are there; its networks are made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.benchmarks.stemdl import CODE, figures, judge
from kit.benchmarks.stemdl.patterns import generate
from kit.core.errors import KitError
from kit.stages.stemdl.prepare import prepare
from kit.stages.stemdl.score import baselines, count_units, mean_density
from kit.stages.stemdl.shards import Shards
from kit.stages.stemdl.statistics import density_conclusions, group_conclusions
from kit.stages.stemdl.train import density_scale

Table = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as its stages leave it."""
    run = tmp_path_factory.mktemp("run")
    for name in ("data", "prepared", "train", "reconstruct", "score"):
        (run / name).mkdir()
    numbers = {"materials": 3, "orientations": 1, "thicknesses": 2, "raw_side": 32, "data_seed": 3}
    generate(run / "data", {**numbers, "space_groups": "186,216"})
    prepare(run / "data", run / "prepared", side=32, values="log", merge="enantiomorphs", held_out=0.2, seed=1)
    listing = json.loads((run / "prepared/prepared.json").read_text())
    facts = {
        "ranks": 2,
        "devices": ["CPU", "CPU"],
        "training_materials": listing["materials"]["training"],
        "validation_materials": listing["materials"]["validation"],
        "validation_samples": listing["samples"]["validation"],
    }
    for name, metric in (("train", "f1"), ("reconstruct", "correlation")):
        (run / name / "train.json").write_text(json.dumps(facts))
        epochs = [{"epoch": n, metric: 0.1 * n, f"val_{metric}": 0.08 * n} for n in (1, 2, 3)]
        (run / name / "epochs.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    shards = Shards(run / "prepared", "testing", "space_group", "material", "image", "density")
    actual, materials, images, densities = shards.read(np.arange(len(shards)))
    units = shards.units(materials)
    called = {"network": actual.astype(int), **baselines(run / "prepared")}
    per_unit = count_units(units, actual.astype(int), called)
    mean, (middle, _) = mean_density(run / "prepared"), density_scale(Shards(run / "prepared", "training", "density"))
    density = {name: {"network": 1.0, "mean": 0.0, "spread": 0.0, "correlation": 1.5, "stacks": 2.0} for name in per_unit}
    for name, truth in zip(units, densities.astype(float), strict=True):
        density[name]["mean"] += float(((mean - truth) ** 2).sum())
        density[name]["spread"] += float(((truth - middle) ** 2).sum())
    groups = {**group_conclusions(per_unit, listing["labels"]), "per_unit": per_unit}
    score = {
        **{key: listing[key] for key in ("labels", "classes", "merged", "imbalance")},
        "groups": groups,
        "density": {**density_conclusions(density), "per_unit": density},
    }
    (run / "score/score.json").write_text(json.dumps(score))
    np.savez(run / "score/predictions.npz", actual=actual, unit=np.array(units), **called)
    np.savez(
        run / "score/densities.npz",
        images=images,
        found=densities,
        truth=densities,
        space_group=actual,
        unit=np.array(units),
    )
    return run


@pytest.fixture
def one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks and devices are looked at in tests of the trainer; here the facts are read."""
    monkeypatch.setattr(judge, "one_job", lambda directory, name, ranks: json.loads((directory / name).read_text()))


@pytest.mark.usefixtures("one_job")
def test_a_whole_run_is_judged_and_drawn(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    CODE.evaluate(tmp_path / "run", 2)
    names = {"patterns", "systems", "radial", "training", "density", "reconstruction"}
    assert {path.stem for path in (tmp_path / "run/figures").glob("*.png")} == names
    assert all(path.stat().st_size > 4000 for path in (tmp_path / "run/figures").glob("*.png"))


def leak(listing: Table, facts: Table) -> None:
    facts["training_materials"] = [*facts["training_materials"], listing["materials"]["testing"][0]]


def swap(listing: Table, facts: Table) -> None:
    facts["validation_materials"] = facts["training_materials"]


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train/train.json", leak, "train/train.json: test materials were seen in training"),
        ("reconstruct/train.json", leak, "reconstruct/train.json: test materials were seen in training"),
        ("train/train.json", swap, "validation used materials that are not of it"),
        ("train/train.json", lambda _, t: t.update(validation_materials=[]), "are not of it: none"),
        ("train/train.json", lambda _, t: t.update(validation_samples=1), "validated with 1 stacks"),
        (
            "score/score.json",
            lambda _, t: t["groups"].update(stacks=1),
            "groups has 1 stacks, but prepared/prepared.json has",
        ),
        ("score/score.json", lambda _, t: t["density"].update(stacks=1), "density has 1 stacks"),
        ("score/score.json", lambda _, t: t.update(labels=[1]), "labels are not those of prepared/prepared.json"),
        ("score/score.json", lambda _, t: t.update(merged=[]), "merged are not those"),
        ("score/score.json", lambda _, t: t["groups"]["per_unit"].popitem(), "are not those of the test split"),
    ],
)
def test_what_speaks_against_a_run(
    whole: Path, tmp_path: Path, name: str, change: Callable[[Table, Table], object], message: str
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / name
    table = json.loads(path.read_text())
    change(json.loads((tmp_path / "run/prepared/prepared.json").read_text()), table)
    path.write_text(json.dumps(table))
    with pytest.raises(KitError, match=message):
        judge.judge(tmp_path / "run", 2)


@pytest.mark.usefixtures("one_job")
def test_data_without_densities_have_no_reconstruction(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name, changes in (("prepared/prepared.json", {"density": 0}), ("score/score.json", {"density": {"stacks": 0}})):
        table = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps({**table, **changes}))
    with pytest.raises(KitError, match=r"reconstruct/train\.json: was trained, but"):
        judge.judge(run, 2)
    (run / "reconstruct/train.json").write_text(json.dumps({"trained": False, "reason": "the data have no densities"}))
    judge.judge(run, 2)


def test_systems_are_drawn_where_each_stack_is_known() -> None:
    assert figures.spread(np.array([225, 225, 2, 14, 14, 62]), 4) == [2, 3, 5, 0]
    assert figures.spread(np.array([225]), 4) == [0]


PARAMETERS = {"side": 32, "values": "log", "merge": "enantiomorphs", "held_out": 0.2, "data_seed": 1}


def again(run: Path, folder: Path, same_data: bool = True) -> list[tuple[str, str, str]]:
    """The findings of the deep check, of the evidence of a run."""
    (name,) = CODE.evidence(["prepare", "score"])
    files = {"score/score.json": run / "score/score.json", f"evidence/{name}": folder / name}
    return list(CODE.score_again(files, run / "data", PARAMETERS, same_data))


def test_scores_are_computed_again_from_what_the_network_called(whole: Path, tmp_path: Path) -> None:
    """On the same data everything agrees. An edited score, other calls, and what is no list of calls do not."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    ((name, write),) = CODE.evidence(["prepare", "score"]).items()
    write(run, tmp_path / name)
    assert again(run, tmp_path) == []
    path = run / "score/score.json"
    good = path.read_text()
    table = json.loads(good)
    table["groups"]["network"]["f1"] = 0.5
    path.write_text(json.dumps(table))
    assert [rule for rule, _, said in again(run, tmp_path) if "groups.network.f1 is 0.5" in said] == ["evidence-score"]
    table = json.loads(good)
    next(iter(table["density"]["per_unit"].values()))["mean"] *= 2
    path.write_text(json.dumps(table))
    assert any(".mean is" in said for _, _, said in again(run, tmp_path))
    table["density"].update(density_conclusions(table["density"]["per_unit"]))
    path.write_text(json.dumps(table))
    assert any("density.error_mean is" in said for _, _, said in again(run, tmp_path, same_data=False))
    path.write_text(good)
    called = np.load(tmp_path / name)
    np.save(tmp_path / name, called[::-1].copy())
    for same_data in (True, False):
        assert {rule for rule, _, _ in again(run, tmp_path, same_data)} == {"evidence-score"}
    for wrong in (called[1:], called.astype(float), called + 1):
        np.save(tmp_path / name, wrong)
        ((rule, file, said),) = again(run, tmp_path)
        assert (rule, file) == ("evidence-form", f"evidence/{name}")
        assert "space groups of the data (uint16) are needed" in said
    (tmp_path / name).write_text("no array")
    assert again(run, tmp_path) == [("evidence-form", f"evidence/{name}", "is no array of NumPy")]
    (run / "score/predictions.npz").write_bytes(b"")
    with pytest.raises(KitError, match=r"predictions\.npz"):
        write(run, tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (lambda t: None, ""),
        (lambda t: t["groups"].update(margin=t["groups"]["margin"] + 0.01), ""),
        (lambda t: t["groups"].update(margin=t["groups"]["margin"] + 0.03), "groups.margin"),
        (lambda t: t["groups"]["radial"].update(f1=0.0), "groups.radial.f1"),
        (lambda t: t["groups"]["majority"].update(accuracy=0.0), "groups.majority.accuracy"),
        (lambda t: t["groups"].update(separation=1.5), "groups.separation"),
        (lambda t: t["groups"].update(margin_interval=[2, 3]), "groups.margin_interval"),
        (lambda t: t["density"].update(margin=t["density"]["margin"] + 0.01), "density.margin"),
        (lambda t: t["density"].update(error=0.0), "density.error"),
        (lambda t: t["density"].update(margin_interval=[2, 3]), "density.margin_interval"),
        (lambda t: t.update(density={"stacks": 0}), "density.stacks"),
    ],
)
def test_scores_are_compared_with_other_data_too(
    whole: Path, tmp_path: Path, change: Callable[[Table], object], label: str
) -> None:
    """To a tolerance: what is another library's rounding passes, an edited baseline or margin does not."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    ((name, write),) = CODE.evidence(["prepare", "score"]).items()
    write(run, tmp_path / name)
    table = json.loads((run / "score/score.json").read_text())
    change(table)
    (run / "score/score.json").write_text(json.dumps(table))
    problems = again(run, tmp_path, same_data=False)
    assert [said.split(" is ")[0] for _, _, said in problems] == ([label] if label else [])
