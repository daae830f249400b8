"""An export from a stranger."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.core.checksums import sha256
from kit.core.errors import KitError
from kit.images.trust import verify_export


def test_link_in_an_export_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "export").mkdir()
    (tmp_path / "export/a.sif").symlink_to(tmp_path / "secret")
    (tmp_path / "export/sha256sums.txt").write_text(f"{'0' * 64}  a.sif\n")
    with pytest.raises(KitError, match=r"a\.sif: a link") as error:
        verify_export(tmp_path / "export")
    assert sha256(tmp_path / "secret") not in str(error.value)
