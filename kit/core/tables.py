"""Tables as text: for a terminal or a pipe, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kit.core.errors import plain

SIDES = {"l": "left", "r": "right"}


def table(rows: Iterable[Sequence[object]], align: str, header: Sequence[str] = (), markdown: bool = False) -> str:
    """Rows as lines of text with their columns under each other; None is an empty cell.

    `align` has one letter a column, `l` for text and `r` for numbers. Numbers come formatted, with the digits that they
    have. What stands in a cell has no power over the terminal.
    """
    from tabulate import tabulate

    text = tabulate(
        [["" if cell is None else plain(str(cell)) for cell in row] for row in rows],
        headers=header,
        tablefmt="pipe" if markdown else "plain",
        colalign=[SIDES[letter] for letter in align],
        disable_numparse=True,
        preserve_whitespace=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())
