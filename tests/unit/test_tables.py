"""Tables as text and in Markdown: columns under each other, digits as given, and cells without power over a terminal."""

from __future__ import annotations

import re

from kit.core.tables import table

ROWS = [("a", "1.50", None), ("  longer", "10", "more"), ("c", 7, "")]


def test_text() -> None:
    text = table(ROWS, "lrl", ("name", "value", ""))
    assert text.splitlines() == ["name        value", "a            1.50", "  longer       10  more", "c               7"]
    assert table([], "lrl", ("name", "value", "")).split() == ["name", "value"]


def test_markdown() -> None:
    lines = table(ROWS, "lrl", ("name", "value", "remark"), markdown=True).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]] == [
        ["a", "1.50", ""],
        ["longer", "10", "more"],
        ["c", "7", ""],
    ]
    assert re.fullmatch(r"\|:-+\|-+:\|:-+\|", lines[1])


def test_foreign_text_stays_in_its_cell() -> None:
    text = table([("\x1b[31mred\nsecond line", "1e5"), ("[bold]x", "nan")], "lr")
    assert text.splitlines() == ["\\x1b[31mred\\nsecond line  1e5", "[bold]x                   nan"]
