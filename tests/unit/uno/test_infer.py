"""What the stage infer leaves is whole, and what it cannot read it names, with the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.stages.uno.infer import write_facts


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
