"""`kit repeats` and `kit compare`: how far runs differ, and whether two do by more than repeats of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import Json
from kit.cli.output import out, out_json, say


def repeats(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN", help="Valid runs that differ only in their seed.")],
    output: Annotated[Path | None, typer.Option(help="Write the spread to this file, for kit compare --repeats.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how much results spread between runs that differ only in their random seed (kit run --repeat makes such
    runs)."""
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
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another collected run, of the same benchmark and size.")],
    repeats: Annotated[
        Path | None, typer.Option(help="A spread that kit repeats wrote [default: the one shipped with the benchmark].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs: do they differ by more than repeats of the same run? Fails if they do."""
    from kit.runs.compare import compare as verb

    result = verb(first.absolute(), second.absolute(), repeats)
    if as_json:
        out_json(result.model_dump(mode="json"))
    else:
        out(result)
    if not result.same:
        raise typer.Exit(1)
