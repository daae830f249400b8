"""`kit data`: published data sets, generated ones, and packs of what one stage read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import Benchmark, Json, RunDirectory
from kit.cli.output import out, out_json, say

app = typer.Typer(
    help="Data: fetch and verify published sets, make generated ones, pack the input of one stage.",
    no_args_is_help=True,
)


@app.command()
def pack(
    directory: RunDirectory,
    stage: Annotated[str, typer.Option(help="The stage to run alone, for example class3d.")],
    to: Annotated[Path, typer.Option(metavar="PACK", help="The new folder.")],
) -> None:
    """Pack the input of one heavy stage of a valid run, with checksums. kit run --isolated PACK then runs that stage
    alone."""
    from kit.data import isolated

    isolated.isolate(directory.absolute(), stage, to.absolute())
    out(to)


@app.command("list")
def list_sets(as_json: Json = False) -> None:
    """List the published data sets: size, licence, origin, and whether they are here."""
    from kit.data import published

    found = published.data_sets()
    if as_json:
        out_json([published.row(entry) for entry in found])
    else:
        out(published.report(found))


@app.command()
def get(
    name: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK/NAME[:COUNT]",
            help="A data set from kit data list. With :20, only 20 scenes or files of each of its folders.",
            autocompletion=complete.data_sets,
        ),
    ],
    mirror: Annotated[str, typer.Option(metavar="URL", help="Fetch the files from this URL or folder instead.")] = "",
) -> None:
    """Fetch a published data set and print its folder. If it is cut off, run the same command again: it continues."""
    from kit.data import published

    out(published.get(published.load_data_set(name), mirror, say))


@app.command()
def make(
    benchmark: Benchmark,
    size: Annotated[str, typer.Option(help="The size to make data for.", autocompletion=complete.sizes)] = "tiny",
) -> None:
    """Make the generated data of a size now instead of at its first run. Prints the folder."""
    from kit.benchmark import load_benchmark
    from kit.cli.progress import working
    from kit.data import generated

    with working(f"{benchmark} {size}: data"):
        folder = generated.make(load_benchmark(benchmark), size)
    out(folder)


@app.command()
def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PACK|BENCHMARK/NAME",
            help="A pack, or a fetched data set.",
            autocompletion=complete.data_sets,
        ),
    ],
) -> None:
    """Hash every file of a pack or data set again and compare."""
    from kit.data.verify import verify as in_order

    for line in in_order(what):
        out(line)
