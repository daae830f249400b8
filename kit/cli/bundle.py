"""`kit bundle`: all that a site without network needs, packed on a machine that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import Arguments, Partition, Site
from kit.cli.output import out, say


def bundle(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCHMARK[/SIZE]...",
            help="Benchmarks, each with the size to run; tiny where none is said.",
            autocompletion=complete.benchmarks,
        ),
    ],
    to: Annotated[Path, typer.Option(help="The new folder; or a new archive, NAME.tar or NAME.tar.zst.")],
    site: Site = "local",
    partition: Partition = None,
    images: Annotated[
        list[str],
        typer.Option(
            "--image", help="An image to pack [default: the first of each benchmark].", autocompletion=complete.images
        ),
    ] = [],  # noqa: B006
    arg: Arguments = [],  # noqa: B006
    without_images: Annotated[bool, typer.Option("--no-images", help="Leave the images out.")] = False,
    python_version: Annotated[
        str, typer.Option(metavar="3.N", help="The Python of the site [default: that of this kit].")
    ] = "",
    glibc: Annotated[
        str, typer.Option(metavar="2.N", help="The glibc of the site, or an older one: ldd --version.")
    ] = "2.28",
) -> None:
    """Pack images, data, the kit and its wheels for a site without network. bash install.sh installs them there."""
    from kit.bundle import contents, write
    from kit.cli.progress import working

    found = contents(what, site, partition, images, arg, without_images, python_version, glibc)
    with working(f"{to}: bundle"):
        write(found, to.absolute(), say)
    out(to)
