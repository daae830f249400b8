"""`kit image`: recipes, and the images built from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import Arguments, BuiltFormat, ImageName, Json
from kit.cli.output import out, out_json, say
from kit.core.errors import KitError

app = typer.Typer(help="Container images: recipe, build, inspect, export, verify, sign.", no_args_is_help=True)


@app.command("list")
def list_images(
    names: Annotated[bool, typer.Option("--names", help="Names alone, one a line.")] = False,
    tested: Annotated[bool, typer.Option("--tested", help="Only those that the tests need.")] = False,
    benchmark: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="BENCHMARK",
            help="Only those that a benchmark runs on, its default first.",
            autocompletion=complete.benchmarks,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the images, what each computes on, and the arguments of their recipes."""
    from kit.images import describe

    chosen = describe.chosen(tested, benchmark)
    if names:
        out("\n".join(chosen))
    elif as_json:
        out_json(describe.as_json(chosen))
    else:
        out(describe.report(chosen))


@app.command()
def recipe(
    name: Annotated[
        str | None,
        typer.Argument(help="Print one image's recipe instead of writing all.", autocompletion=complete.images),
    ] = None,
    format: Annotated[str, typer.Option(help="docker or singularity.")] = "docker",
    arg: Arguments = [],  # noqa: B006
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a committed recipe is out of date.")
    ] = False,
) -> None:
    """Write containers/*/Dockerfile and recipes/*.def from their source, or print one of them."""
    from kit.images import render

    wanted = render.known_format(format)
    if name is not None:
        out(render.recipe(render.load_image(name, arg), wanted), end="")
        return
    changed = render.stale_recipes() if check else render.write_recipes()
    for path in changed:
        out(path.relative_to(render.context_root()))
    if check and changed:
        raise KitError("these recipes differ from their source in kit/images/recipes; run make recipes")


@app.command()
def build(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Images to build.", autocompletion=complete.images)],
    format: Annotated[str, typer.Option(help="docker, sif, or all: both.")] = "all",
    arg: Arguments = [],  # noqa: B006
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="What a SIF is made from: docker (the Docker image), recipe (the .def alone), "
            "or an archive of kit image export or docker save.",
        ),
    ] = "docker",
    force: Annotated[bool, typer.Option("--force", help="Build even if the image is up to date.")] = False,
) -> None:
    """Build images. An image whose recipe has not changed is not built again."""
    from kit.cli.progress import working
    from kit.images.build import steps

    for what, step in steps(names, arg, format, source, force, say):
        with working(what):
            out(step())


@app.command()
def inspect(
    name: ImageName,
    format: BuiltFormat = "sif",
    arg: Arguments = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show what a built image holds: digest, size of each layer, labels, packages."""
    from kit.images import built, describe
    from kit.images.render import load_image

    facts = built.inspect(load_image(name, arg), built.known_format(format))
    if as_json:
        out_json(facts)
    else:
        out(describe.inspection(facts))


@app.command()
def sbom(name: ImageName, format: BuiltFormat = "sif", arg: Arguments = []) -> None:  # noqa: B006
    """Print the SBOM of a built image (CycloneDX JSON): every package, its licence, and where its source is."""
    from kit.images.built import Built, known_format
    from kit.images.render import load_image
    from kit.images.sbom import sbom as bill

    out(bill(Built(load_image(name, arg), known_format(format))))


@app.command()
def export(
    name: ImageName,
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("build/export"),
    arg: Arguments = [],  # noqa: B006
) -> None:
    """Export an image for another machine: SIF, OCI archive, SBOM and checksums."""
    from kit.cli.progress import working
    from kit.images.render import load_image
    from kit.images.trust import export as write

    with working(f"{name}: export (about 2 minutes)"):
        for file in write(load_image(name, arg), to):
            out(file)


@app.command()
def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER", help="A built image, or a folder of kit image export.", autocompletion=complete.images
        ),
    ],
    arg: Arguments = [],  # noqa: B006
) -> None:
    """Hash an image again and compare it with its record, recipe and signature; or check an exported folder."""
    from kit.images.trust import verify as found_in_order

    for line in found_in_order(what, arg):
        out(line)


@app.command()
def sign(name: ImageName, arg: Arguments = []) -> None:  # noqa: B006
    """Sign a SIF with your PGP key (apptainer key newpair makes one)."""
    from kit.images.render import load_image
    from kit.images.trust import sign as signed

    out(signed(load_image(name, arg)))
