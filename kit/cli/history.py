"""`kit submission import`: results of others, read and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import Json
from kit.cli.output import out, out_json, say

app = typer.Typer(help="Results of others: read them, and judge each.", no_args_is_help=True)


@app.command()
def e2e(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A clone of github.com/stfc-sciml/e2e, or a part of it.")],
    as_json: Json = False,
) -> None:
    """Read the results of the end-to-end benchmark (metrics.json, *.csv) and give each a verdict with its reasons.

    Ends with 1 if a file cannot be read, whatever the verdicts are.
    """
    from kit.history import e2e as verb

    history = verb.read(folder)
    if as_json:
        out_json(verb.as_json(history))
    else:
        out(verb.report(history))
    for problem in history.problems:
        say(f"kit: {problem}")
    if history.problems:
        raise typer.Exit(1)
