"""What the stage infer leaves is whole, and what it cannot read it names, with the way out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from kit.stages.ml.weights import ORDER
from kit.stages.uno import infer
from kit.stages.uno.infer import trained, write_facts


def test_facts_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "infer.json"
    write_facts(path, {"rows": 3})
    assert json.loads(path.read_text()) == {"rows": 3}
    assert list(tmp_path.iterdir()) == [path]
    whole = Path.write_text

    def cut_off(self: Path, text: str) -> None:
        whole(self, text[:5])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", cut_off)
    with pytest.raises(OSError, match="no space left"):
        write_facts(path, {"rows": 4})
    assert json.loads(path.read_text()) == {"rows": 3}


def weights(path: Path, array: Any, order: str = '["a"]') -> None:
    with h5py.File(path, "w") as file:
        file["a"] = array
        file.attrs[ORDER] = order


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b"x"), "holds no weights of a training .*; the stage train writes such a file"),
        (lambda path: None, "holds no weights of a training .*; the stage train writes such a file"),
        (lambda path: weights(path, np.zeros(3, "f4"), "["), "holds no weights of a training .*; the stage train"),
        (lambda path: weights(path, np.zeros(3, "f4"), '["b"]'), "holds no weights of a training .*; the stage train"),
        (lambda path: weights(path, np.zeros(3, "f4"), "1"), "holds no weights of a training .*; the stage train"),
        (lambda path: weights(path, np.zeros(4, "f4")), "weights of another network: 4 numbers, .*; the stage train writes"),
        (lambda path: weights(path, np.full(3, np.nan, "f4")), "not finite; train again, at a lower learning_rate"),
    ],
)
def test_weights_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, said: str) -> None:
    monkeypatch.setattr(infer, "uno", lambda: SimpleNamespace(weights=[SimpleNamespace(dtype="float32", shape=(3,))]))
    path = tmp_path / "model.weights.h5"
    write(path)
    with pytest.raises(ValueError, match=rf"model\.weights\.h5: .*{said}"):
        trained(path)
