"""A page: tables as data, and the HTML file made of them, which works offline and loads nothing.

Everything that a folder says is text on it: templates escape, and what cannot be printed is shown as an escape.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from kit import __version__
from kit.core import paths
from kit.core.errors import plain


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number it is sorted by where it is one, a page it leads to, and its class in the style sheet."""

    text: str
    number: float | None = None
    link: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[str, ...]  # a name ending in `#` is that of a column of numbers
    rows: Sequence[Sequence[Cell]]
    filtered: bool = False  # whether a reader may want to see some of its rows only

    @property
    def heads(self) -> list[tuple[str, bool]]:
        return [(name.removesuffix("#"), name.endswith("#")) for name in self.columns]


def shown(value: float) -> str:
    """A number as people read it: whole ones whole, others with four digits."""
    return f"{value:.0f}" if abs(value) < 1e15 and value == round(value) else f"{value:.4g}"  # NaN is below nothing


def cell(value: object, link: str = "", kind: str = "") -> Cell:
    """A value as a cell; nothing is a dash."""
    if value is None or value == "":
        return Cell("–", None, link, kind)
    if isinstance(value, float):
        return Cell(shown(value), value if math.isfinite(value) else None, link, kind)
    return Cell(str(value), float(value) if isinstance(value, int) else None, link, kind)


def duration(seconds: float | None) -> Cell:
    """Seconds as people read them: 83.2 s, 12 min 5 s, 3 h 20 min."""
    if seconds is None:
        return cell(None)
    whole = round(seconds)
    if seconds < 120:
        text = f"{seconds:.1f} s"
    elif whole < 7200:
        text = f"{whole // 60} min {whole % 60} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60} min"
    return Cell(text, seconds)


def printable(value: Any) -> Any:
    """Text without characters that would act on a reader's page: control characters, and marks that reorder it."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return plain(value)
    return value


@functools.cache
def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.shipped("templates") / "report"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@functools.cache
def asset(name: str) -> tuple[Markup, str]:
    """A style sheet or script of the kit as it stands in every page, and its source for the content security policy."""
    text = (paths.shipped("templates") / "report" / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"'sha256-{digest}'"


def rendered(template: str, **shown: Any) -> str:
    """The text of a page; its policy forbids everything but its own style and script, and pictures in it."""
    (style, style_source), (script, script_source) = asset("style.css"), asset("tables.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {style_source}; script-src {script_source}; "
        "base-uri 'none'; form-action 'none'"
    )
    # Not escaped a second time: it has no character that would end an attribute in double quotes.
    page = environment().get_template(template)
    return page.render(**shown, style=style, script=script, policy=Markup(policy), version=__version__)
