"""The published layout: what pandas writes is read without it, what is generated pandas reads, and what is wrong is said."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
from spoiled import replace, value, without

from kit.benchmarks.uno import responses
from kit.stages.uno import hdf
from kit.stages.uno.hdf import Store, UnoError, plain
from kit.stages.uno.network import DESCRIPTORS, GENES


def test_pandas_reads_what_is_generated(generated: Path) -> None:
    with pd.HDFStore(generated / responses.FILE, "r") as store:
        assert {key.strip("/") for key in store} == set(hdf.KEYS) - {"model"} or set(hdf.KEYS)
        y = store["y_train"]
        assert list(y.columns) == ["AUC", "Sample", "Drug1"]
        assert len(y) == 70
        assert y["Sample"].str.startswith("CCLE.GEN").all()
        x = store["x_train_1"]
        model = store.get_storer("model").attrs
        assert model.feature_shapes == {"cell.rnaseq": (GENES,), "drug.descriptors": (DESCRIPTORS,)}
    with Store(generated / responses.FILE) as ours:
        assert np.array_equal(np.concatenate(list(ours.features("x_train_1", DESCRIPTORS))), x.to_numpy())
        found = ours.responses("y_train")
        assert np.array_equal(found.auc, y["AUC"].to_numpy())
        assert [name.decode() for name in found.drug] == y["Drug1"].tolist()
        assert ours.shapes() == {"cell.rnaseq": GENES, "drug1.descriptors": DESCRIPTORS}


@pytest.fixture(scope="module")
def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(4)
    x = pd.DataFrame(rng.normal(size=(150, GENES)).astype("float32"))
    y = pd.DataFrame(
        {
            "AUC": rng.random(150).astype("float32"),
            "Sample": [f"CTRP.A{number % 7}" for number in range(150)],
            "Drug1": [f"Drug_{number % 5}" for number in range(150)],
        }
    )
    return x, y


@pytest.mark.parametrize("packed", [None, "zlib", "blosc:zlib", "blosc:lz4"])
@pytest.mark.parametrize("named", [True, False])
def test_tables_of_pandas(tmp_path: Path, frames: Any, packed: str | None, named: bool) -> None:
    """As the reference exports them: in several pieces, features without names, texts as columns or in a block."""
    x, y = frames
    path = tmp_path / "x.h5"
    bare = x.set_axis([""] * GENES, axis=1)
    widths = {"min_itemsize": {"Sample": 30, "Drug1": 10}} if named else {}
    with pd.HDFStore(path, "w", complevel=9 if packed else None, complib=packed) as store:
        for start in range(0, 150, 64):
            store.append("x_train_0", bare[start : start + 64], format="table")
            store.append("y_train", y[start : start + 64], format="table", **(widths or {"min_itemsize": 30}))
    with Store(path) as ours:
        assert np.array_equal(np.concatenate(list(ours.features("x_train_0", GENES))), x.to_numpy())
        found = ours.responses("y_train")
    assert np.array_equal(found.auc, y["AUC"].to_numpy())
    assert [name.decode() for name in found.sample] == y["Sample"].tolist()
    assert [name.decode() for name in found.drug] == y["Drug1"].tolist()


@pytest.mark.filterwarnings("ignore")  # pandas says that it pickles
def test_fixed_frames_of_pandas(tmp_path: Path, frames: Any) -> None:
    x, y = frames
    path = tmp_path / "x.h5"
    with pd.HDFStore(path, "w") as store:
        store.put("x_train_0", x, format="fixed")
        for name, kind in (("y_train", "object"), ("y_val", None)):
            store.put(name, y.astype({"Sample": kind, "Drug1": kind}) if kind else y, format="fixed")
    with Store(path) as ours:
        assert np.array_equal(np.concatenate(list(ours.features("x_train_0", GENES))), x.to_numpy())
        for name in ("y_train", "y_val"):
            found = ours.responses(name)
            assert np.array_equal(found.auc, y["AUC"].to_numpy())
            assert [text.decode() for text in found.sample] == y["Sample"].tolist()
            assert [text.decode() for text in found.drug] == y["Drug1"].tolist()


def test_blocks_are_bounded(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf, "BLOCK", 4 * 2**16)
    with Store(generated / responses.FILE) as ours:
        blocks = list(ours.features("x_train_1", DESCRIPTORS))
    assert len(blocks) > 4
    assert all(block.nbytes <= 5 * 2**16 for block in blocks)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_pickles_run_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(data, "r+") as file:
        file["model"].attrs["input_features"] = np.bytes_(pickle.dumps(Evil(), protocol=0))
    with Store(data) as store, pytest.raises(UnoError, match=r"uno\.h5: model\.input_features: its pickle names \w+\.print"):
        store.shapes()
    assert capsys.readouterr().out == ""
    ordered = OrderedDict([("cell.rnaseq", (942,)), ("drug.descriptors", (5270,))])
    for protocol in range(6):  # the reference keeps its features in one
        assert plain(pickle.dumps(ordered, protocol), "here") == ordered
    for bad in (b"", b"(dp0", b"garbage"):
        with pytest.raises(UnoError, match="there: is no pickle of plain values"):
            plain(bad, "there")


def read(path: Path) -> None:
    with Store(path) as store:
        for part in hdf.PARTS:
            store.responses(f"y_{part}")
            list(store.features(f"x_{part}_0", GENES))
            list(store.features(f"x_{part}_1", DESCRIPTORS))
        store.shapes()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.pop("y_val"), r"uno\.h5: has no key y_val; one that the reference exports has x_train_0, "),
        (lambda f: f.pop("x_test_1"), r"has no key x_test_1"),
        (lambda f: f.pop("model"), r"has no key model"),
        (lambda f: f["model"].attrs.pop("feature_shapes"), r"model has no attribute feature_shapes; the reference's export"),
        (lambda f: f["x_val_0"].attrs.pop("pandas_type"), r"x_val_0 is no frame of pandas .*write it with HDFStore.append"),
        (replace("y_train", value("values_block_0", 3, np.nan)), r"y_train: AUC of row 3 is nan, .*leave the row out"),
        (replace("y_train", value("values_block_0", 4, -0.1)), r"y_train: AUC of row 4 is -0\.1"),
        (replace("y_test", value("values_block_0", 0, 1.5)), r"y_test: AUC of row 0 is 1\.5, where an area from 0 to 1"),
        (replace("y_test", without("Drug1")), r"y_test: has no column Drug1, but AUC, Sample; export it with agg_dose"),
        (replace("x_val_1", value("values_block_0", 2, np.inf)), r"x_val_1: row 2 has a feature that is not finite"),
        (replace("x_val_1", value("values_block_0", 2, np.nan)), r"x_val_1: row 2 has a feature that is not finite"),
        (replace("x_val_0", without("values_block_0")), r"x_val_0: its columns are \('index',\)"),
        (lambda f: f.move("x_train_1", "a") or f.copy("x_train_0", "x_train_1"), r"x_train_1: has 942 columns .*5270"),
    ],
)
def test_what_is_wrong_is_said(data: Path, spoil: Callable[[Any], Any], message: str) -> None:
    with h5py.File(data, "r+") as file:
        spoil(file)
    with pytest.raises(UnoError, match=message):
        read(data)


def test_a_file_that_is_cut_off_is_refused(data: Path, tmp_path: Path) -> None:
    whole = data.read_bytes()
    for length in (0, 700, len(whole) // 2, len(whole) - 1000):
        data.write_bytes(whole[:length])
        with pytest.raises(UnoError, match=r"uno\.h5: no whole HDF5 file .*fetch or make it again"):
            read(data)
    with pytest.raises(UnoError, match=r"none\.h5: missing; kit data make uno"):
        Store(tmp_path / "none.h5")


def test_snappy_as_in_the_published_file(tmp_path: Path, frames: Any) -> None:
    """PyTables' wheels have no Snappy any more, so that its table is packed again here."""
    path = tmp_path / "x.h5"
    with pd.HDFStore(path, "w") as store:
        store.append("x_train_0", frames[0], format="table")
    with h5py.File(path, "r+") as file:
        group, table = file["x_train_0"], file["x_train_0/table"]
        rows, attributes = table[()], dict(table.attrs)
        del group["table"]
        again = group.create_dataset("table", data=rows, chunks=(64,), **hdf5plugin.Blosc(cname="snappy", clevel=9))
        again.attrs.update(attributes)
    with Store(path) as ours:
        assert np.array_equal(np.concatenate(list(ours.features("x_train_0", GENES))), frames[0].to_numpy())


def test_a_chunk_that_is_damaged_is_refused(tmp_path: Path, frames: Any) -> None:
    path = tmp_path / "x.h5"
    with pd.HDFStore(path, "w", complevel=9, complib="blosc:zlib") as store:
        store.append("x_train_0", frames[0], format="table")
    with h5py.File(path, "r+") as file:
        data = file["x_train_0/table"].id
        _, raw = data.read_direct_chunk((0,))
        data.write_direct_chunk((0,), raw[:60] + bytes(40) + raw[100:])
    with (
        Store(path) as ours,
        pytest.raises(UnoError, match=r"x_train_0: rows from 0 cannot be read .*make it again"),
    ):
        list(ours.features("x_train_0", GENES))


def test_a_filter_that_is_not_known_is_named(tmp_path: Path, frames: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.h5"
    with pd.HDFStore(path, "w", complevel=9, complib="blosc:zlib") as store:
        store.append("x_train_0", frames[0], format="table")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number != 32001)
    with Store(path) as ours, pytest.raises(UnoError, match=r"not known here, 32001 \(blosc\); install hdf5plugin"):
        list(ours.features("x_train_0", GENES))
