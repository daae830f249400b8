"""`kit site`: the computing centres that the kit knows."""

from __future__ import annotations

from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import Json
from kit.cli.output import out, out_json, say

app = typer.Typer(help="Sites: the computing centres the kit knows.", no_args_is_help=True)

NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the site: letters, digits, dot, dash, underscore.")
]


@app.command("list")
def list_sites(as_json: Json = False) -> None:
    """List the sites: scheduler, description, whether somebody ran it, and its file."""
    from kit.site_files import listed, report

    rows = listed()
    if as_json:
        out_json([vars(row) for row in rows])
    else:
        out(report(rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A site's name, or the path of its file.", autocompletion=complete.sites)],
) -> None:
    """Print every value of a site, and where it came from."""
    from kit.site import explain

    for key, value, origin in explain(name):
        out(f"{key} = {value!r}  # {origin}")


@app.command()
def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Site files, or names of sites.", autocompletion=complete.sites)
    ],
    as_json: Json = False,
) -> None:
    """Say what is wrong with a site file, and what may be. Fails on errors, not on warnings.

    It looks whether folders and commands are there, and opens and runs none.
    """
    from kit.site_files import check as verb
    from kit.site_files import path_of

    found = {str(path): verb(path) for path in map(path_of, files)}
    if as_json:
        out_json({file: [vars(finding) for finding in findings] for file, findings in found.items()})
    else:
        for file, findings in found.items():
            for finding in findings:
                out(f"{file}: {finding}" if finding.key else f"{finding}")
            errors = sum(finding.level == "error" for finding in findings)
            out(f"{file}: {errors} error(s), {len(findings) - errors} warning(s)" if findings else f"{file}: well")
    if any(finding.level == "error" for findings in found.values() for finding in findings):
        raise typer.Exit(1)


@app.command()
def new(
    name: NewName,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="SITE", help="A site to copy [default: a template].", autocompletion=complete.sites),
    ] = None,
) -> None:
    """Write a site file to edit, and print its path. An existing one is never overwritten."""
    from kit.site_files import new as verb

    path = verb(name, source)
    say(f"edit it, then: kit site check {name}")
    out(path)


@app.command()
def detect(
    write: Annotated[
        str | None, typer.Option("--write", metavar="NAME", help="Write it as your site of this name, and print its path.")
    ] = None,
) -> None:
    """Print a site file for this machine: what its scheduler, its MPI and its kernel say, each with its source.

    It asks commands and submits nothing. On a login node it describes the compute nodes as the scheduler does.
    """
    from kit.detect import detect as verb
    from kit.site_files import own_file
    from kit.site_files import write as save

    if write is None:
        out(verb(), end="")
        return
    path = own_file(write)
    save(path, verb())
    say(f"read it, then: kit site check {write}")
    out(path)
