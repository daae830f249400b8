"""Foreign text in scripts and pages: quoted for bash, escaped for Markdown, rendered in a sandbox."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Sequence

import jinja2
import jinja2.sandbox

from kit.core import paths
from kit.core.errors import plain


class Expanded(str):
    """A word in which bash replaces variables: its author answers for it that it holds nothing else that bash knows."""


def words(command: Sequence[str]) -> str:
    return " ".join(quoted(word) for word in command)


def quoted(word: object) -> str:
    """A word quoted for bash, on one line whatever it contains, so that it is safe in a comment too."""
    if isinstance(word, Expanded):
        return f'"{word}"'
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        c if c.isprintable() and c not in "\\'" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c)) for c in text
    )
    return f"$'{''.join(escaped)}'"


@functools.cache
def environment() -> jinja2.Environment:
    # Sandboxed: the templates in a run's own benchmark.json are rendered too, and a stranger may have written them.
    env = jinja2.sandbox.SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(paths.shipped("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["q"] = quoted
    env.filters["words"] = words
    env.filters["md"] = markdown
    return env


def markdown(text: object) -> str:
    """Foreign text escaped for Markdown: it is no markup, and cannot end a row of a table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", plain(str(text)))
