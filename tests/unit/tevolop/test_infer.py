"""What inference does without a network: what it reads is checked, and what it writes appears whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kit.stages.ml.weights import ORDER
from kit.stages.tevolop.infer import trained_weights, write_facts
from kit.stages.tevolop.windows import Windows, facts_of


def test_weights_come_in_the_order_that_the_file_says(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.arange(3.0), np.ones((2, 2))
        file.attrs[ORDER] = json.dumps(["b", "a"])
    assert [array.shape for array in trained_weights(path)] == [(2, 2), (3,)]


def test_what_are_no_weights_is_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "model.weights.h5"
    said = r"model\.weights\.h5: holds no weights of a training .*; train it again"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(3.0)
    with pytest.raises(ValueError, match=said):  # has no order
        trained_weights(path)
    with h5py.File(path, "a") as file:
        file.attrs[ORDER] = json.dumps(["a", "b"])
    with pytest.raises(ValueError, match=said):
        trained_weights(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=said):
        trained_weights(path)


def test_a_table_that_was_cut_off_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "infer.json", Path.write_text

    def cut_off(self: Path, text: str) -> int:
        whole(self, text[:10])
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", cut_off)
        with pytest.raises(OSError, match="No space"):
            write_facts(path, {"windows": 5, "seconds": 1.5})
    assert not path.exists()
    write_facts(path, {"windows": 5})
    assert json.loads(path.read_text()) == {"windows": 5}
    assert [entry.name for entry in tmp_path.iterdir()] == ["infer.json"]


def test_a_damaged_table_is_named(prepared: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "series"
    shutil.copytree(prepared["location"], folder)
    path = folder / "prepared.json"
    whole = path.read_text()
    for text, said in (
        (whole[:500], r"prepared\.json: damaged \(.*\); run prepare again"),
        ("[]", r"prepared\.json: splits is missing; run prepare again"),
        (whole.replace("target_mean", "mean"), r"prepared\.json: target_mean is missing; run prepare again"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            Windows(folder, "test")
    path.write_text('{"model": "lstm"}')
    with pytest.raises(ValueError, match="units is missing; train it again"):
        facts_of(path, "train it again", "model", "units")
