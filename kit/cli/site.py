"""`kit site`: the computing centres that the kit knows."""

from __future__ import annotations

from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.output import out

app = typer.Typer(help="Sites: the computing centres the kit knows.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """A group, though it has one command so far."""


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A site's name, or the path of its file.", autocompletion=complete.sites)],
) -> None:
    """Print every value of a site, and where it came from."""
    from kit.site import explain

    for key, value, origin in explain(name):
        out(f"{key} = {value!r}  # {origin}")
