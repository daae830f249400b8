"""RELION beyond its runs: tables of a project, picks of several pickers side by side, and its own queue.

`kit relion ...`, imported when it is used (kit/cli/groups.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import BenchmarkImage, Json, Partition
from kit.cli.output import out, out_json, say

app = typer.Typer()


@app.command()
def project(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="PROJECT", help="A RELION project, a run of the relion benchmark, or a STAR file of particles."
        ),
    ],
    chart: Annotated[Path | None, typer.Option(help="Draw the flow chart of the jobs into this SVG or PNG file.")] = None,
    job: Annotated[
        str | None, typer.Option(help="Show only this job: its iterations, or with --chart its ancestors.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--gentle-clean", help="Let RELION move files that no job needs to Trash/.")
    ] = False,
    image: Annotated[
        str,
        typer.Option(
            help="The image whose RELION cleans; it must be of the project's version.",
            autocompletion=complete.images_of_benchmark,
        ),
    ] = "relion-basic",
    as_json: Json = False,
) -> None:
    """Show a RELION project: its jobs with their times, class distributions and data sizes, or its flow chart."""
    from kit.benchmarks.relion import tables

    directory = directory.absolute()
    if clean:
        rows = tables.clean(directory, image)
        if as_json:
            out_json(rows)
        else:
            out(tables.clean_report(directory, rows))
    elif chart and not tables.is_particles(directory):
        tables.draw(directory, chart, job)
        out(chart)
    elif as_json:
        out_json(tables.facts(directory, job))
    else:
        out(tables.text(directory, job))


@app.command()
def picks(
    directory: Annotated[
        Path, typer.Argument(metavar="PROJECT", help="A RELION project with micrographs, or a run of the relion benchmark.")
    ],
    topaz: Annotated[bool, typer.Option("--topaz", help="Pick with Topaz too (needs kit image build topaz).")] = False,
    others: Annotated[
        list[str],
        typer.Option("--with", metavar="NAME=PATH", help="Picks of another picker: .star, .box, .cbox, Topaz's .txt."),
    ] = [],  # noqa: B006
    diameter: Annotated[
        float | None, typer.Option(help="Diameter of a particle in angstrom [default: that of generated data].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the picks of several pickers with the truth, if it is known, and with each other; draw them."""
    from kit.benchmarks.relion import picking
    from kit.cli.progress import working

    directory = directory.absolute()
    named = picking.named(others)
    if topaz:
        with working("Topaz: picking (seconds a micrograph)"):
            picking.topaz(directory, diameter)
    result = picking.compare(directory, named, diameter)
    if as_json:
        out_json(result)
    else:
        out(picking.report(result))
    say(f"{result['picture']}: drawn" if result["picture"] else "not drawn: no picks, or no micrograph of theirs")


@app.command()
def queue(
    site: Annotated[
        str, typer.Argument(help="A site's name, or the path of its .toml file.", autocompletion=complete.sites)
    ] = "local",
    partition: Partition = None,
    image: BenchmarkImage = None,
    project: Annotated[Path, typer.Option(help="The RELION project whose jobs go to the queue.")] = Path("."),
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per rank that RELION offers [default: 4].")] = None,
    minutes: Annotated[
        int | None, typer.Option(min=1, help="Time asked for each job [default: the most that the partition gives].")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write the template here, and print the settings that RELION reads instead.")
    ] = None,
) -> None:
    """Write RELION's own queue template from a site: jobs of its GUI and schedules then run in the kit's images."""
    from kit.benchmarks.relion import queue_template as verb
    from kit.script.quoting import quoted
    from kit.site import load_site

    text, settings = verb.template(load_site(site), partition, image, project.absolute(), threads, minutes)
    if to is None:
        out(text, end="")
        return
    verb.write(text, to)
    out("\n".join([f"export RELION_QSUB_TEMPLATE={quoted(to.absolute())}", *settings]))
