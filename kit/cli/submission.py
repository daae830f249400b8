"""`kit submission`: the folder for a pull request, and what its maintainers check."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kit.cli import groups, history
from kit.cli.options import AllowDirty, AllowTrial, Json, RunDirectory
from kit.cli.output import out
from kit.core.errors import KitError

app = typer.Typer(help="Submissions: pack a run, check a folder.", no_args_is_help=True)
app.add_typer(history.app, name="import", cls=groups.Group)


def ask(question: str, checked: Callable[[str], str]) -> str:
    """Asks on the terminal until the answer is one."""

    def value(text: str) -> str:
        try:
            return checked(text.strip())
        except KitError as error:
            raise typer.BadParameter(str(error)) from None

    return str(typer.prompt(question, value_proc=value, err=True))


@app.command()
def pack(
    directory: RunDirectory,
    to: Annotated[Path, typer.Option(help="The folder to write submissions to.")] = Path("submissions"),
    organisation: Annotated[
        str | None, typer.Option(help="Who submits; if not given, from your user file or the site, else you are asked once.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system's name; if not given, from your user file or the site, else asked for.")
    ] = None,
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
) -> None:
    """Write the submission folder of a valid run and print its path. Writes nothing if the check refuses it."""
    from kit.submissions.pack import pack as write

    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    out(write(directory.absolute(), to, organisation, system, allow_dirty, allow_trial, ask if terminal else None))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A submission folder.")],
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
    as_json: Json = False,
) -> None:
    """Check a submission folder as the maintainers will. Fails with a list of findings if it is refused."""
    from kit.submissions import check as verb

    findings = verb.check(folder, allow_dirty, allow_trial=allow_trial)
    out(verb.as_json(folder, findings) if as_json else verb.report(folder, findings))
    if findings:
        raise typer.Exit(1)
