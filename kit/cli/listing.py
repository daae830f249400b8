"""`kit list` and `kit doctor`: what there is to choose from, and what this machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from kit.cli.options import Json
from kit.cli.output import out, out_json, say


def list_all(
    benchmarks: Annotated[bool, typer.Option("--benchmarks", help="Names of the benchmarks alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """List the benchmarks with their sizes, the sites and the images.

    These are the names that kit run takes: a benchmark, its --size, a --site and an --image.
    """
    from kit import catalogue
    from kit.benchmark import benchmark_names

    if benchmarks:
        out("\n".join(benchmark_names()))
        return
    found = catalogue.catalogue()
    if as_json:
        out_json(catalogue.as_json(found))
    else:
        out(catalogue.report(found))


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="As root, install what is missing.")] = False,
    as_json: Json = False,
) -> None:
    """Check that this machine has what the kit needs, and name the command that installs what is missing."""
    from kit.doctor import examine, report

    items = examine(fix, say)
    if as_json:
        out_json([vars(item) for item in items])
    else:
        out(report(items))
    if not all(item.ok for item in items):
        raise typer.Exit(1)
