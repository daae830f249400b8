"""`kit submission`: the folder for a pull request, and what its maintainers check."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import AllowDirty, AllowTrial, Json, RunDirectories
from kit.cli.output import out
from kit.core.errors import KitError

app = typer.Typer(help="Submissions: pack a run, check a folder.", no_args_is_help=True)


def ask(question: str, checked: Callable[[str], str]) -> str:
    """Asks on the terminal until the answer is one."""

    def value(text: str) -> str:
        try:
            return checked(text.strip())
        except KitError as error:
            raise typer.BadParameter(str(error)) from None

    return str(typer.prompt(question, value_proc=value, err=True))


class Layout(StrEnum):
    SCIENCE = "science"
    MLPERF = "mlperf"


@app.command()
def pack(
    directories: RunDirectories,
    to: Annotated[Path, typer.Option(help="The folder to write submissions to.")] = Path("submissions"),
    organisation: Annotated[
        str | None, typer.Option(help="Who submits; if not given, from your user file or the site, else you are asked once.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system's name; if not given, from your user file or the site, else asked for.")
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="The folders of MLCommons Science, or those of MLPerf (systems, benchmarks, results).")
    ] = Layout.SCIENCE,
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
) -> None:
    """Write the submission folder of a valid run, or of several that repeat it with other seeds, and print its path.

    Writes nothing if the check refuses it.
    """
    from kit.submissions import mlperf
    from kit.submissions import pack as science

    write = mlperf.export if layout is Layout.MLPERF else science.pack
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    runs = [directory.absolute() for directory in directories]
    out(write(runs, to, organisation, system, allow_dirty, allow_trial, ask if terminal else None))


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
