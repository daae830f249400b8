"""A run is judged by the names in its data: rows of other data and splits that leak are refused; and figures are drawn."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.uno import CODE, responses
from kit.benchmarks.uno import judge as judging
from kit.benchmarks.uno.evidence import score_again, write_predictions
from kit.benchmarks.uno.figures import draw
from kit.benchmarks.uno.judge import judge
from kit.core.errors import KitError
from kit.stages.uno.network import PARAMETERS
from kit.stages.uno.rows import SPLITS, Rows
from kit.stages.uno.score import score

EPOCH = {"loss": 0.01, "r2": 0.4, "val_loss": 0.012, "val_r2": 0.3}


@pytest.fixture(params=["random", "cell", "drug"])
def run(
    request: pytest.FixtureRequest,
    generated: Path,
    prepared: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """What the stages leave, without a network."""
    split = request.param
    shutil.copytree(prepared[split], tmp_path / "rows")
    (tmp_path / "data").symlink_to(generated)
    for name in ("train", "answers", "score"):
        (tmp_path / name).mkdir()
    rows = {name: Rows(tmp_path / "rows", name) for name in SPLITS}
    test = rows["test"].records
    said = np.clip(test["auc"] + np.random.default_rng(1).normal(0, 0.03, len(test)), 0, 1).astype("f4")
    np.save(tmp_path / "answers/predictions.npy", said)
    score(tmp_path / "rows", tmp_path / "answers", tmp_path / "score", generated / responses.TRUTH)
    used = {name: rows[name].members() for name in ("training", "validation")}
    trained = {"ranks": 2, "split": split, "used": used, "validation_samples": len(rows["validation"])}
    (tmp_path / "train/train.json").write_text(json.dumps(trained))
    (tmp_path / "answers/infer.json").write_text(json.dumps({"ranks": 2, "rows": len(test)}))
    (tmp_path / "train/epochs.jsonl").write_text("".join(json.dumps({"epoch": n, **EPOCH}) + "\n" for n in (1, 2)))
    monkeypatch.setattr(judging, "one_job", lambda folder, name, ranks: json.loads((folder / name).read_text()))
    return tmp_path


def test_an_honest_run_is_judged_and_drawn(run: Path) -> None:
    judge(run, 2)
    draw(run)
    for name in ("responses", "residuals", "training"):
        assert (run / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (run / f"figures/{name}.png").stat().st_size > 5000


def rewritten(run: Path, name: str, change: Callable[[Any], Any]) -> None:
    path = run / f"rows/{name}.npy"
    rows = change(np.load(path))
    np.save(path, rows)


def edited(run: Path, name: str, change: Callable[[Any], object]) -> None:
    table = json.loads((run / name).read_text())
    change(table)
    (run / name).write_text(json.dumps(table))


def swapped(run: Path) -> None:
    """The first row of the test changes places with the first of training."""
    first, second = np.load(run / "rows/training.npy"), np.load(run / "rows/test.npy")
    first[0], second[0] = second[0].copy(), first[0].copy()
    np.save(run / "rows/training.npy", first)
    np.save(run / "rows/test.npy", second)


def test_a_leak_is_refused_for_the_split_that_is_claimed(run: Path) -> None:
    split = json.loads((run / "rows/prepared.json").read_text())["split"]
    swapped(run)
    said = "has rows that are not of y_" if split == "random" else f"split by {split}, but .* are in training and in test: "
    with pytest.raises(KitError, match=said):
        judge(run, 2)


def test_the_random_split_is_no_other(run: Path) -> None:
    """What is split at random does not pass for a split by cell line or drug."""
    split = json.loads((run / "rows/prepared.json").read_text())["split"]
    other = "drug" if split != "drug" else "cell"
    for name in ("rows/prepared.json", "train/train.json", "score/score.json"):
        edited(run, name, lambda table: table.update(split=other))
    with pytest.raises(KitError, match=f"split by {other}, but"):
        judge(run, 2)


def area(rows: Any) -> Any:
    rows["auc"][0] = 0.123
    return rows


def strangers(rows: Any) -> Any:
    rows["row"][0] = 10**6
    return rows


def twice(rows: Any) -> Any:
    rows[0] = rows[1]
    return rows


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: rewritten(run, "test", area), r"rows/test\.npy: its areas are not those of y_"),
        (lambda run: rewritten(run, "training", strangers), r"rows/training\.npy: names row 1000000 of y_"),
        (lambda run: rewritten(run, "test", twice), "a row of the data is in more than one split, or twice in one"),
        (lambda run: rewritten(run, "training", lambda rows: rows[1:]), r"rows, but top_21_auc_1fold\.uno\.h5 has 106"),
        (lambda run: rewritten(run, "test", lambda rows: rows[:0]), "holds no rows of cell lines and drugs"),
        (lambda run: (run / "rows/test.npy").write_bytes(b"x"), r"test\.npy: no rows"),
        (lambda run: edited(run, "train/train.json", lambda t: t.update(split="none")), "has the split none"),
        (lambda run: edited(run, "answers/infer.json", lambda t: t.update(rows=3)), r"infer\.json: 3 rows, but"),
        (lambda run: edited(run, "score/score.json", lambda t: t.update(rows=3)), r"score\.json: 3 rows, but"),
        (lambda run: edited(run, "train/train.json", lambda t: t.update(validation_samples=3)), "3 of .* validation rows"),
        (lambda run: edited(run, "score/score.json", lambda t: t["shared"].update(pair=0.5)), "have a known pair"),
        (lambda run: (run / "data").unlink(), r"uno\.h5: missing; kit data make uno"),
    ],
)
@pytest.mark.parametrize("run", ["cell"], indirect=True)
def test_what_cannot_be_is_refused(run: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(run)
    with pytest.raises(KitError, match=message):
        judge(run, 2)


@pytest.mark.parametrize("run", ["cell"], indirect=True)
def test_without_h5py_the_package_that_brings_it_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(KitError, match=r"pip install 'science-kit\[uno\]'"):
        judge(run, 2)


@pytest.mark.parametrize("run", ["cell"], indirect=True)
def test_a_training_that_says_it_saw_the_test_is_refused(run: Path) -> None:
    number = int(np.load(run / "rows/test.npy")["cell"][0])
    edited(run, "train/train.json", lambda table: table["used"]["training"]["cell"].append(number))
    with pytest.raises(KitError, match="test cells were seen in training"):
        judge(run, 2)


@pytest.mark.parametrize("run", ["random", "drug"], indirect=True)
def test_the_score_is_made_again_of_the_evidence(run: Path, tmp_path: Path) -> None:
    split = json.loads((run / "rows/prepared.json").read_text())["split"]
    write_predictions(run, run / "predictions.npy")
    files = {"evidence/predictions.npy": run / "predictions.npy", "score/score.json": run / "score/score.json"}
    parameters = {"split": split, "data_seed": 1, "truth": "data/truth.h5"}
    again = lambda same=True: list(score_again(files, run / "data", parameters, same))  # noqa: E731
    assert again() == again(False) == []
    edited(run, "score/score.json", lambda table: table["network"].update(r2=0.999))
    assert [rule for rule, *_ in again()] == [rule for rule, *_ in again(False)] == ["evidence-score"]
    answers = np.load(run / "predictions.npy")
    answers[0] += 0.1
    np.save(run / "predictions.npy", answers)
    assert any("per_group" in problem for *_, problem in again())
    for bad, said in (
        (answers[:-1], f"has ({len(answers) - 1},) predictions"),
        (answers.astype("f8"), "holds float64"),
        (answers[None], "in 2"),
    ):
        np.save(run / "predictions.npy", bad)
        ((rule, name, problem),) = again()
        assert (rule, name) == ("evidence-form", "evidence/predictions.npy")
        assert said in problem
    (run / "predictions.npy").write_bytes(b"nothing")
    assert again() == [("evidence-form", "evidence/predictions.npy", "is no array of NumPy")]


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (lambda table: table["network"].update(mae=0.001), "network.mae"),
        (lambda table: table["drug_mean"].update(r2=-0.5), "drug_mean.r2"),
        (lambda table: table["ridge"].update(r2=-0.5), "ridge.r2"),
        (lambda table: table.update(margin=5.0), "margin"),
        (lambda table: table.update(margin_interval=[4.0, 5.0]), "margin_interval"),
        (lambda table: table["shared"].update(pair=0.5), "shared.pair"),
        (lambda table: table.update(ceiling=0.5), "ceiling"),
        (lambda table: table.update(rows=3), "rows"),
        (lambda table: table.update(split="cell"), "split"),
    ],
)
@pytest.mark.parametrize("run", ["random"], indirect=True)
def test_all_scores_are_compared_with_other_data_too(run: Path, change: Callable[[Any], object], label: str) -> None:
    """And pass where they differ by what rounding does."""
    write_predictions(run, run / "predictions.npy")
    files = {"evidence/predictions.npy": run / "predictions.npy", "score/score.json": run / "score/score.json"}
    parameters = {"split": "random", "data_seed": 1, "truth": "data/truth.h5"}
    edited(run, "score/score.json", lambda table: table["ridge"].update(r2=table["ridge"]["r2"] + 1e-5))
    assert list(score_again(files, run / "data", parameters, False)) == []
    edited(run, "score/score.json", change)
    ((rule, name, problem),) = score_again(files, run / "data", parameters, False)
    assert (rule, name) == ("evidence-score", "score/score.json")
    assert problem.startswith(f"{label} is ")


def test_sizes_and_gates() -> None:
    benchmark = load_benchmark("uno")
    gates = {metric.name: metric for metric in benchmark.metrics}
    assert gates["parameters"].reference == PARAMETERS == 16_224_001
    assert gates["parameters"].problem(21_275_001)  # the default Uno, with doses and pairs of drugs
    for name in benchmark.sizes:
        # What a network does not know of cell lines and drugs never seen is a result, and no failure.
        margin = next(metric for metric in benchmark.metrics_at(name) if metric.name == "margin")
        assert bool(margin.problem(-0.01)) == (name in ("tiny", "small", "top21")), name
        assert (margin.at_least is None) or margin.source.startswith("the kit's own rule")
    published = {metric.name: metric for metric in benchmark.metrics_at("top21")}
    assert published["validation_loss"].problem(0.0055)
    assert not published["validation_loss"].problem(0.005335)
    assert not gates["validation_loss"].problem(0.02)
    for name, size in benchmark.sizes.items():
        assert size.parameters["patience"] <= size.parameters["epochs"] / 2
        if not size.dataset:
            CODE.data_parameters(size.parameters)
        assert size.parameters["split"] == (name.partition("_")[2] or "random")
