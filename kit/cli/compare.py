"""`kit repeats` and `kit compare`: how far runs differ, and whether two do by more than repeats of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import Json
from kit.cli.output import out, out_json, say


def repeats(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Valid runs that differ in their seed only.")],
    output: Annotated[Path | None, typer.Option(help="Write them to this file, for kit compare --repeats.")] = None,
    as_json: Json = False,
) -> None:
    """Say how far results differ that differ in their random seed only: kit run --repeat makes such runs."""
    from kit.runs.compare import add_repeats, measure, spread

    found = measure([directory.absolute() for directory in directories])
    if output:
        add_repeats(output, directories[0], found)
        say(f"{output}: written")
    if as_json:
        out_json(found.model_dump(mode="json"))
    else:
        out(spread(found))


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A collected run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another of the same benchmark and size.")],
    repeats: Annotated[
        Path | None, typer.Option(help="The repeats to hold them against, as kit repeats wrote them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold two runs against each other: do they differ by more than repeats of one do? Fails when they do."""
    from kit.runs.compare import compare as verb

    result = verb(first.absolute(), second.absolute(), repeats)
    if as_json:
        out_json(result.model_dump(mode="json"))
    else:
        out(result)
    if not result.same:
        raise typer.Exit(1)
