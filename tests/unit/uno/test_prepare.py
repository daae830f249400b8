"""From the file to tables and rows: nothing is lost, nothing comes twice, and splits are kept apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from spoiled import replace, value

from kit.benchmarks.uno import responses
from kit.stages.ml.shards import shares
from kit.stages.uno import prepare as stage
from kit.stages.uno.hdf import PARTS, Store, UnoError
from kit.stages.uno.network import DESCRIPTORS, GENES
from kit.stages.uno.prepare import prepare
from kit.stages.uno.rows import RECORD, SPLITS, Rows
from kit.stages.uno.rows import prepared as facts_of


def test_rows_are_those_of_the_file(generated: Path, prepared: dict[str, Path]) -> None:
    """Gathered from tables of each cell line and drug once, bit for bit, in any order."""
    folder = prepared["random"]
    facts = json.loads((folder / "prepared.json").read_text())
    assert facts["rows"] == {"training": 70, "validation": 16, "test": 20}
    assert np.load(folder / "cells.npy").shape == (12, GENES)
    assert np.load(folder / "drugs.npy").shape == (9, DESCRIPTORS)
    assert {name for names in facts["drugs"] for name in names} == {f"GEN.{n:05d}" for n in range(9)}
    with Store(generated / responses.FILE) as store:
        for part, split in zip(PARTS, SPLITS, strict=True):
            rows = Rows(folder, split)
            order = np.random.default_rng(1).permutation(len(rows))
            cells, drugs, auc = rows.read(order)
            assert cells.dtype == drugs.dtype == auc.dtype == np.float32
            assert np.array_equal(cells, np.concatenate(list(store.features(f"x_{part}_0", GENES)))[order])
            assert np.array_equal(drugs, np.concatenate(list(store.features(f"x_{part}_1", DESCRIPTORS)))[order])
            assert np.array_equal(auc, store.responses(f"y_{part}").auc[order])


def test_the_same_data_give_the_same_bytes(generated: Path, prepared: dict[str, Path], tmp_path: Path) -> None:
    prepare(generated / responses.FILE, tmp_path, "drug", seed=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cells.npy", "drugs.npy", "prepared.json", "test.npy", "training.npy", "validation.npy"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (prepared["drug"] / name).read_bytes()


@pytest.mark.parametrize("split", ["cell", "drug"])
def test_a_split_leaks_nothing(prepared: dict[str, Path], tmp_path: Path, generated: Path, split: str) -> None:
    records = [np.load(prepared[split] / f"{name}.npy") for name in SPLITS]
    groups = [set(rows[split].tolist()) for rows in records]
    assert all(groups)
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    places = np.concatenate(records)[["part", "row"]]
    assert len(np.unique(places)) == len(places) == 106
    said = json.loads((prepared[split] / "prepared.json").read_text())["shared"]
    assert said[split] == said["pair"] == 0
    assert said["drug" if split == "cell" else "cell"] > 0.5
    others = []
    for seed in range(2, 6):
        prepare(generated / responses.FILE, tmp_path, split, seed)
        others.append(set(np.load(tmp_path / "test.npy")[split].tolist()))
    assert any(other != groups[2] for other in others)


def test_the_published_split_shares_nearly_everything(prepared: dict[str, Path]) -> None:
    said = json.loads((prepared["random"] / "prepared.json").read_text())["shared"]
    assert said["cell"] > 0.9
    assert said["drug"] > 0.9
    assert said["pair"] == 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_see_each_row_once(prepared: dict[str, Path], size: int) -> None:
    rows = Rows(prepared["random"], "training")
    parts = shares(len(rows), 4, size, seed=3, epoch=2)
    met = [tuple(rows.records[number]) for number in parts.ravel()]
    assert len(set(met)) == len(met) == len(rows) // (4 * size) * 4 * size
    assert len({part.shape for part in parts}) == 1


def spoiled(data: Path, change: Any) -> None:
    with h5py.File(data, "r+") as file:
        change(file)


def named(row: int, name: bytes) -> Any:
    def change(rows: Any) -> Any:
        rows["Sample"][row] = name if rows["Sample"][row] != name else b"other"
        return rows

    return replace("y_train", change)


def shorter(rows: Any) -> Any:
    return rows[:-1]


def none(rows: Any) -> Any:
    return rows[:0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("x_val_1", shorter), r"uno\.h5: x_val_1 has 15 rows and y_val 16; export it again"),
        (replace("y_test", none), r"uno\.h5: y_test has no rows; a split without any cannot be judged"),
        (replace("x_test_0", value("values_block_0", 1, np.nan)), r"x_test_0: row 1 has a feature that is not finite"),
        (named(0, b"CCLE.GEN00003"), r"x_train_0: CCLE\.GEN00003 has two different rows of features; export it again"),
        (lambda f: f.copy("x_train_0", "x_train_2"), r"has a third input, x_train_2; the AUC benchmark's file has two"),
    ],
)
def test_data_that_cannot_be_used_leave_nothing_that_looks_ready(
    data: Path, tmp_path: Path, change: Any, message: str
) -> None:
    spoiled(data, change)
    out = tmp_path / "rows"
    out.mkdir()
    with pytest.raises(UnoError, match=message):
        prepare(data, out, "random", 1)
    assert not (out / "prepared.json").exists()
    assert not list(out.glob("*.npy"))


def test_an_interrupted_stage_begins_again(generated: Path, prepared: dict[str, Path], tmp_path: Path) -> None:
    """What was half written is gone, and not gone on with."""
    (tmp_path / "cells.raw.partial").write_bytes(b"half a row")
    prepare(generated / responses.FILE, tmp_path, "random", 1)
    assert (tmp_path / "cells.npy").read_bytes() == (prepared["random"] / "cells.npy").read_bytes()


def test_features_of_another_uno_are_refused(data: Path, tmp_path: Path) -> None:
    with h5py.File(data, "r+") as file:
        file["model"].attrs["feature_shapes"] = responses.pickled({"cell.rnaseq": (942,), "drug.descriptors": (3838,)})
    with pytest.raises(UnoError, match=r"model: its features are .*3838.* needed; the AUC benchmark's file is top_21"):
        prepare(data, tmp_path, "random", 1)


def test_too_few_groups_to_split(generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SHARES", (0.99, 0.005, 0.005))
    with pytest.raises(UnoError, match="split by drug: validation has no rows; there are too few of them to split"):
        prepare(generated / responses.FILE, tmp_path, "drug", 1)
    with pytest.raises(UnoError, match=r"--split rows: one of random, cell, drug is needed"):
        prepare(generated / responses.FILE, tmp_path, "rows", 1)


def test_rows_of_another_kind_are_refused(prepared: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"training\.npy: missing; the stage prepare writes it"):
        Rows(tmp_path, "training")
    for name in ("cells", "drugs"):
        (tmp_path / f"{name}.npy").symlink_to(prepared["random"] / f"{name}.npy")
    np.save(tmp_path / "training.npy", np.zeros(3, RECORD.descr[:2]))
    with pytest.raises(ValueError, match="not rows of this version; run the stage prepare again"):
        Rows(tmp_path, "training")


PEAK = """
import resource, sys
from pathlib import Path
from kit.stages.uno.prepare import prepare
import h5py
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(Path(sys.argv[1]), Path(sys.argv[2]), "random", 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """150 MB of features are read in blocks: 32 MB at a time, and little beside them."""
    counts = {"cells": 100, "drugs": 70, "training_rows": 6000, "validation_rows": 20, "test_rows": 20}
    responses.generate(tmp_path, {**counts, "interaction": 0.8, "noise": 0.06, "replicates": 3, "data_seed": 5})
    size = (tmp_path / responses.FILE).stat().st_size
    assert size > 145e6
    (tmp_path / "rows").mkdir()
    words = [sys.executable, "-c", PEAK, str(tmp_path / responses.FILE), str(tmp_path / "rows")]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(found.stdout) * 1024 < 110e6
    assert sum(path.stat().st_size for path in (tmp_path / "rows").iterdir()) < 3e6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"prepared\.json: missing; the stage prepare writes it"),
        (b'{"split": ', r"prepared\.json: not JSON .*; run the stage prepare again"),
        (b"\xff", r"prepared\.json: not JSON .*; run the stage prepare again"),
        (b"[]", r"prepared\.json: holds no JSON object; run the stage prepare again"),
    ],
)
def test_damaged_facts_are_named_with_the_way_out(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "prepared.json").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        facts_of(tmp_path)
