"""`kit submission`: the folder for a pull request, and what its maintainers check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import AllowDirty, Json, RunDirectory
from kit.cli.output import out

app = typer.Typer(help="Submission folders: pack and check.", no_args_is_help=True)


@app.command()
def pack(
    directory: RunDirectory,
    to: Annotated[Path, typer.Option(help="The folder that holds submissions.")] = Path("submissions"),
    organisation: Annotated[str | None, typer.Option(help="Who submits; from the site if not given.")] = None,
    system: Annotated[str | None, typer.Option(help="The machine's name; the site's if not given.")] = None,
    allow_dirty: AllowDirty = False,
) -> None:
    """Write the submission folder of a valid run, unless the check refuses it. Prints its path."""
    from kit.submissions.pack import pack as write

    out(write(directory.absolute(), to, organisation, system, allow_dirty))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A submission folder.")],
    allow_dirty: AllowDirty = False,
    as_json: Json = False,
) -> None:
    """Check a submission folder as its maintainers will. Fails when anything speaks against it."""
    from kit.submissions import check as verb

    findings = verb.check(folder, allow_dirty)
    out(verb.as_json(folder, findings) if as_json else verb.report(folder, findings))
    if findings:
        raise typer.Exit(1)
