"""Figures as PNG files that need no transparency: a document can take their pixels as they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


def save(figure: Any, path: Path, dpi: int) -> None:
    """Writes a figure of matplotlib, which by itself makes PNG with an alpha channel that nothing here uses."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").save(path, format="PNG", optimize=True)
