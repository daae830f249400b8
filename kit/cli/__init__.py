"""The command `kit`. Each command here is a few lines that call one verb; results go to stdout, messages to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from kit import __version__
from kit.core.errors import KitError, plain_lines

EXAMPLES = """
A benchmark goes from recipe to result in these steps:

  kit doctor                                      what this machine has, and what is missing

  kit image build relion-basic                    the image, from its recipe

  kit run relion --size tiny --site local         a job script, and the run

  kit collect RUN                                 the verdict, read from what the run wrote

  kit submission pack RUN                         the folder for a pull request

  kit submission check FOLDER                     what the maintainers will check
"""

app = typer.Typer(
    help=f"Run a science benchmark on your machine or cluster, and hand in a result that others can trust.\n{EXAMPLES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
image_app = typer.Typer(help="Container images: recipe, build, inspect, export, verify, sign.", no_args_is_help=True)
site_app = typer.Typer(help="Sites: the computing centres the kit knows.", no_args_is_help=True)
data_app = typer.Typer(
    help="Data: fetch and verify published sets, make generated ones, pack what one stage of a run read.",
    no_args_is_help=True,
)
submission_app = typer.Typer(help="Submission folders: pack and check.", no_args_is_help=True)
cloudmask_app = typer.Typer(help="CloudMask beyond its runs: mask a product with a trained network.", no_args_is_help=True)
app.add_typer(image_app, name="image")
app.add_typer(site_app, name="site")
app.add_typer(data_app, name="data")
app.add_typer(submission_app, name="submission")
app.add_typer(cloudmask_app, name="cloudmask")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as `kit run` prints it.")]


def say(message: str) -> None:
    print(plain_lines(message), file=sys.stderr, flush=True)


def out(text: object = "", end: str = "\n") -> None:
    """A result, on stdout. What a run, a project or a stranger's folder wrote cannot act on the terminal."""
    print(plain_lines(str(text)), end=end)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and end.")] = False,
) -> None:
    if version:
        print(f"kit {__version__}")
        raise typer.Exit


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the benchmarks with their sizes, the sites and the images."""
    from kit.benchmark import benchmark_names, load_benchmark
    from kit.images.recipes import RECIPES
    from kit.site import load_site, site_files

    benchmarks = {name: load_benchmark(name) for name in benchmark_names()}
    sites = {name: load_site(name).description for name in site_files()}
    images = {name: recipe.DESCRIPTION for name, recipe in RECIPES.items()}
    if as_json:
        sizes = {name: {s: v.description for s, v in b.sizes.items()} for name, b in benchmarks.items()}
        out(json.dumps({"benchmarks": sizes, "sites": sites, "images": images}, indent=2))
        return
    for name, benchmark in benchmarks.items():
        out(f"benchmark  {name:<14} {benchmark.title}")
        for size, value in benchmark.sizes.items():
            out(f"  size     {size:<14} {value.description}")
    for kind, table in (("site", sites), ("image", images)):
        for name, text in table.items():
            out(f"{kind:<10} {name:<14} {text}")


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Install what is missing, where root is needed and given.")] = False,
    as_json: Json = False,
) -> None:
    """Say what this machine has of what the kit needs, and the command that brings what is missing."""
    from kit.doctor import examine

    items = examine(fix, say)
    if as_json:
        out(json.dumps([vars(item) for item in items], indent=2))
    else:
        for item in items:
            out(f"{'ok     ' if item.ok else 'MISSING'} {item.name:<12} {item.detail}")
            if not item.ok:
                out(f"        to mend it: {item.remedy}")
    if not all(item.ok for item in items):
        raise typer.Exit(1)


Arguments = Annotated[
    list[str], typer.Option("--arg", metavar="KEY=VALUE", help="A choice the recipe leaves open; kit image list shows them.")
]
BuiltFormat = Annotated[str, typer.Option(help="docker or sif.")]


@image_app.command("list")
def image_list(as_json: Json = False) -> None:
    """List the images and the arguments of their recipes."""
    from kit.images.recipes import RECIPES

    arguments = {name: getattr(recipe, "ARGUMENTS", {}) for name, recipe in RECIPES.items()}
    if as_json:
        table = {
            name: {"description": RECIPES[name].DESCRIPTION, "arguments": {k: list(a.known) for k, a in known.items()}}
            for name, known in arguments.items()
        }
        out(json.dumps(table, indent=2))
        return
    for name, known in arguments.items():
        out(f"{name:<20} {RECIPES[name].DESCRIPTION}")
        for key, argument in known.items():
            out(f"  --arg {key}=...  {argument.help} [default: {argument.known[0]}]")


@image_app.command("recipe")
def image_recipe(
    name: Annotated[str | None, typer.Argument(help="Print one image's recipe instead of writing all.")] = None,
    format: Annotated[str, typer.Option(help="docker or singularity.")] = "docker",
    arg: Arguments = [],  # noqa: B006
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a committed recipe is stale.")] = False,
) -> None:
    """Write containers/*/Dockerfile and recipes/*.def from their one source, or print one of them."""
    from kit.images import render

    if format not in render.FORMATS:
        raise KitError(f"unknown format '{format}': known: {', '.join(render.FORMATS)}")
    if name is not None:
        out(render.recipe(render.load_image(name, arg), "docker" if format == "docker" else "singularity"), end="")
        return
    changed = render.stale_recipes() if check else render.write_recipes()
    for path in changed:
        out(path.relative_to(render.context_root()))
    if check and changed:
        raise KitError("these recipes differ from their source in kit/images; write them anew with make recipes")


@image_app.command("build")
def image_build(
    names: Annotated[list[str], typer.Argument(help="Images to build.")],
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
    force: Annotated[bool, typer.Option("--force", help="Build even what is up to date.")] = False,
) -> None:
    """Build images, unless today's recipe is built already."""
    from kit.cli.progress import working
    from kit.images.build import build_docker, build_sif
    from kit.images.built import docker_client
    from kit.images.render import load_image

    if format not in ("docker", "sif", "all"):
        raise KitError(f"unknown format '{format}': known: docker, sif, all")
    images = [load_image(name, arg) for name in names]
    if source not in ("docker", "recipe"):
        if len(images) > 1:
            raise KitError(f"--from {source}: an archive holds one image; name one")
        format = "sif"
    if format == "all":
        try:
            docker_client()
        except KitError as error:
            say(f"kit: {error}\nkit: going on without it: each SIF is built from its definition alone")
            format, source = "sif", "recipe"
    for image in images:
        minutes = image.source.BUILD_MINUTES
        if format != "sif" or source == "docker":
            with working(f"{image.name}: Docker image (about {minutes} minutes on 2 cores if it is not there yet)"):
                out(f"{image.tag} {build_docker(image, force)}")
        if format != "docker":
            with working(
                f"{image.name}: SIF (about {minutes + 3 if source == 'recipe' else 3} minutes if it is not there yet)"
            ):
                out(build_sif(image, source, force))


@image_app.command("inspect")
def image_inspect(name: str, format: BuiltFormat = "sif", arg: Arguments = [], as_json: Json = False) -> None:  # noqa: B006
    """Say what a built image holds: digest, size and each layer's share of it, labels, packages."""
    from kit.images.built import inspect
    from kit.images.render import load_image

    facts = inspect(load_image(name, arg), built_format(format))
    if as_json:
        out(json.dumps(facts, indent=2))
        return
    out(f"{facts['name']} {facts['version']} ({facts['format']})")
    out(f"digest  {facts['digest']}\nrecipe  {facts['recipe']}\nsize    {facts['size'] / 1e6:.0f} MB")
    out(f"holds   {len(facts['debian'])} Debian and {len(facts['python'])} Python packages (kit image sbom lists them)")
    out(f"        from source: {', '.join(facts['sources']) or 'nothing'}")
    for key, value in facts["labels"].items():
        out(f"label   {key} = {value}")
    for layer in facts["layers"]:
        by = " ".join(layer["by"].split())
        out(f"layer   {layer['bytes'] / 1e6:6.0f} MB {100 * layer['bytes'] / facts['size']:3.0f} %  {by[:80]}")


def built_format(format: str) -> Literal["docker", "sif"]:
    if format not in ("docker", "sif"):
        raise KitError(f"unknown format '{format}': known: docker, sif")
    return "docker" if format == "docker" else "sif"


@image_app.command("sbom")
def image_sbom(name: str, format: BuiltFormat = "sif", arg: Arguments = []) -> None:  # noqa: B006
    """Print what is in a built image as CycloneDX JSON: every package, licence, and where its source is."""
    from kit.images.built import Built
    from kit.images.render import load_image
    from kit.images.sbom import sbom

    out(sbom(Built(load_image(name, arg), built_format(format))))


@image_app.command("export")
def image_export(
    name: str,
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("build/export"),
    arg: Arguments = [],  # noqa: B006
) -> None:
    """Write an image for another machine: SIF, OCI archive, SBOM, and their checksums."""
    from kit.cli.progress import working
    from kit.images.render import load_image
    from kit.images.trust import export

    with working(f"{name}: export (about 2 minutes)"):
        for file in export(load_image(name, arg), to):
            out(file)


@image_app.command("verify")
def image_verify(
    what: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A built image, or a folder of kit image export.")],
    arg: Arguments = [],  # noqa: B006
) -> None:
    """Hash again and compare: a built image with its record, recipe and signature, or an exported folder."""
    from kit.images.render import load_image
    from kit.images.trust import verify_export, verify_image

    folder = Path(what)
    for line in verify_export(folder) if folder.is_dir() else verify_image(load_image(what, arg)):
        out(line)


@image_app.command("sign")
def image_sign(name: str, arg: Arguments = []) -> None:  # noqa: B006
    """Sign a SIF with your PGP key (apptainer key newpair makes one)."""
    from kit.images.render import load_image
    from kit.images.trust import sign

    out(sign(load_image(name, arg)))


@site_app.command("show")
def site_show(name: str) -> None:
    """Print every value of a site, and where it came from."""
    from kit.site import explain

    for key, value, origin in explain(name):
        out(f"{key} = {value!r}  # {origin}")


@app.command()
def run(
    benchmark: Annotated[str | None, typer.Argument(help="relion or cloudmask; kit list shows all.")] = None,
    size: Annotated[str, typer.Option(help="How much of it; every benchmark has tiny.")] = "tiny",
    site: Annotated[str, typer.Option(help="A site's name, or the path of its .toml file.")] = "local",
    partition: Annotated[str | None, typer.Option(help="A partition of the site; the first if not given.")] = None,
    image: Annotated[str | None, typer.Option(help="An image the benchmark runs on; its first if not given.")] = None,
    arg: Arguments = [],  # noqa: B006
    nodes: Annotated[int | None, typer.Option(min=1, help="Other than the size's.")] = None,
    ranks: Annotated[
        int | None, typer.Option(min=0, help="Other than the size's; 0: as many as the nodes have room for.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a rank, other than the size's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another random seed than the size's, for a repeat.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="This many runs, each with a seed of its own.")] = 1,
    isolated: Annotated[
        Path | None, typer.Option(metavar="PACK", help="Run one stage alone, on a pack that kit data pack made for it.")
    ] = None,
    allow_cpu: Annotated[
        bool, typer.Option("--allow-cpu", help="Run an image for GPUs where there are none: a trial, and never a result.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script and do nothing.")] = False,
    wait: Annotated[bool | None, typer.Option(help="Wait for the end; by default only without a scheduler.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was cut off.")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Where run directories are made [default: $KIT_RUNS, else runs].")
    ] = None,
) -> None:
    """Run a benchmark: make the data, render the job script, hand it over. Prints the run directory."""
    from kit.cli.progress import working
    from kit.plan import Request, repeated
    from kit.runs import launch

    runs = runs or launch.runs_folder()
    if resume is not None:
        start(resume.absolute(), wait)
    elif benchmark is None:
        raise KitError("which benchmark? kit run relion, or kit run cloudmask; kit list shows all")
    else:
        request = Request(
            benchmark, size, site, partition, image, tuple(arg), nodes, ranks, threads, seed, isolated, allow_cpu=allow_cpu
        )
        for plan in repeated(request, repeat):
            if dry_run:
                out(launch.script(plan, *launch.DRY), end="")
                return
            with working(f"{benchmark} {size} in {plan.image.name}: data and job script"):
                directory = launch.prepare(plan, runs)
            for warning in launch.warnings_of(directory):
                say(f"kit: warning: {warning}")
            start(directory, wait)


def start(directory: Path, wait: bool | None) -> None:
    """Hands the job of a run over, follows it where there is no scheduler, and prints the run directory."""
    from kit.cli.progress import following
    from kit.runs import launch

    started = launch.submit(directory)
    say(f"{directory}: job {started.job} ({started.scheduler})")
    if wait if wait is not None else started.scheduler == "local":
        with following(directory) as progress:
            state = launch.wait(directory, progress)
        if state.name != "finished":
            raise KitError(
                f"{directory}: {state}\nIts logs are in {directory}/logs; "
                f"go on where it stopped with: kit run --resume {directory}"
            )
    out(directory)


@app.command()
def scaling(
    benchmark: Annotated[str, typer.Argument(help="What to measure: cloudmask.")],
    ranks: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of ranks, each a divisor of the largest.")],
    size: Annotated[str, typer.Option(help="The size whose data it runs on.")] = "tiny",
    site: Annotated[str, typer.Option(help="A site the kit knows, or your .toml file.")] = "local",
    partition: Annotated[str | None, typer.Option(help="A partition of the site; the first if not given.")] = None,
    image: Annotated[str | None, typer.Option(help="An image the benchmark runs on; its first if not given.")] = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="For the largest number of ranks; srun gives fewer ranks fewer nodes, mpirun all of them."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a rank, other than the size's.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of each point; the first step of the first is not counted.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script and do nothing.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="Where run directories are made [default: $KIT_RUNS, else runs].")
    ] = None,
) -> None:
    """Measure strong and weak scaling in one job: speed-up, efficiency, and where the time went. Prints the run directory.

    Where there is no scheduler it waits and reports; elsewhere kit collect RUN does, when the job has ended.
    """
    from kit.cli.progress import working
    from kit.plan import Request, make_plan
    from kit.runs import launch
    from kit.runs.collect import collect as verb
    from kit.runs.record import load_run

    try:
        scale = tuple(int(number) for number in ranks.split(","))
    except ValueError:
        raise KitError(f"--ranks {ranks}: numbers with commas between them are needed, 1,2,4 for example") from None
    plan = make_plan(
        Request(
            benchmark,
            size,
            site,
            partition,
            image,
            nodes=nodes,
            threads=threads,
            scaling=scale,
            epochs=epochs,
        )
    )
    if dry_run:
        out(launch.script(plan, *launch.DRY), end="")
        return
    with working(f"{benchmark} {size} in {plan.image.name}: data and job script"):
        directory = launch.prepare(plan, runs or launch.runs_folder())
    start(directory, None)
    if load_run(directory).state.name == "finished":
        result = verb(directory)
        if result.state.name != "valid":
            raise KitError(f"{directory}: {result.state}")
        say((directory / "scaling/scaling.md").read_text())
        say(f"{directory}/figures/scaling.png: drawn")


@app.command()
def status(directories: Annotated[list[Path], typer.Argument(metavar="RUN...")], as_json: Json = False) -> None:
    """Say where runs stand."""
    from kit.runs.record import load_run
    from kit.runs.states import current_state

    states = {str(directory): current_state(directory, load_run(directory)) for directory in directories}
    if as_json:
        out(json.dumps({name: state.model_dump() for name, state in states.items()}, indent=2))
        return
    for name, state in states.items():
        out(f"{name}: {state}")


@app.command()
def cancel(directory: RunDirectory) -> None:
    """End the job of a run; it can be resumed."""
    from kit.runs import launch

    out(f"{directory}: {launch.cancel(directory.absolute())}")


@app.command()
def collect(directory: RunDirectory, as_json: Json = False) -> None:
    """Read a run's results from its files, judge them, and write run.json. Fails unless the run is valid."""
    from kit.cli.progress import working
    from kit.runs.collect import collect as verb

    with working(f"{directory.name}: reading results"):
        result = verb(directory.absolute())
    if as_json:
        out(json.dumps(result.model_dump(mode="json"), indent=2))
    else:
        out(f"{directory}: {result.state}")
        for metric in result.metrics:
            out(f"  {metric.name:<28} {metric.value:>12.4g} {metric.unit:<12} {metric.problem or ''}".rstrip())
    if result.state.name != "valid":
        raise typer.Exit(1)


@app.command()
def repeats(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Valid runs that differ in their seed only.")],
    output: Annotated[Path | None, typer.Option(help="Write them to this file, for kit compare --repeats.")] = None,
    as_json: Json = False,
) -> None:
    """Say how far results differ that differ in their random seed only: kit run --repeat makes such runs."""
    from kit.core.files import read_json, write_json
    from kit.runs.compare import measure, spread
    from kit.runs.record import load_run

    found = measure([directory.absolute() for directory in directories])
    if output:
        known = read_json(output) if output.is_file() else {}
        write_json(output, {**known, load_run(directories[0]).work: found.model_dump(mode="json")})
        say(f"{output}: written")
    out(json.dumps(found.model_dump(mode="json"), indent=2) if as_json else spread(found))


@app.command()
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
        out(json.dumps(result.model_dump(mode="json"), indent=2))
    else:
        out(result)
    if not result.same:
        raise typer.Exit(1)


@app.command()
def project(
    directory: Annotated[
        Path,
        typer.Argument(metavar="PROJECT", help="A RELION project, or a run of relion; or a STAR file of particles."),
    ],
    chart: Annotated[
        Path | None, typer.Option(help="Draw the flow chart of the jobs into this SVG or PNG file instead.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only this job: its iterations, or its ancestors in the chart.")] = None,
    clean: Annotated[bool, typer.Option("--gentle-clean", help="Let RELION move what no job needs to Trash/.")] = False,
    image: Annotated[str, typer.Option(help="The image whose RELION cleans: of the project's version.")] = "relion-basic",
    as_json: Json = False,
) -> None:
    """Tables of a RELION project: jobs and what each took, class distributions, data sizes; and its flow chart."""
    from kit.benchmarks.relion import tables

    directory = directory.absolute()
    if clean:
        rows = tables.clean(directory, image)
        out(json.dumps(rows, indent=2) if as_json else tables.clean_report(directory, rows))
        return
    if directory.name.endswith((".star", ".star.gz")):
        row = tables.particles(directory)
        out(json.dumps(row, indent=2) if as_json else tables.particle_report(row))
        return
    if chart:
        if chart.suffix not in (".svg", ".png"):
            raise KitError(f"--chart {chart}: a name that ends in .svg or .png is needed")
        tables.draw(directory, chart, job)
        out(chart)
        return
    if job:
        rows = tables.iterations(directory, job)
        out(json.dumps(rows, indent=2) if as_json else tables.iteration_report(rows))
    elif as_json:
        out(json.dumps({name: getattr(tables, name)(directory) for name in ("jobs", "classes", "sizes")}, indent=2))
    else:
        out(tables.report(directory))


@app.command()
def picks(
    directory: Annotated[Path, typer.Argument(metavar="PROJECT", help="A RELION project with micrographs, or a run.")],
    topaz: Annotated[bool, typer.Option("--topaz", help="Pick by Topaz first (kit image build topaz).")] = False,
    others: Annotated[
        list[str],
        typer.Option("--with", metavar="NAME=PATH", help="Picks of another picker: .star, .box, .cbox, Topaz's .txt."),
    ] = [],  # noqa: B006
    diameter: Annotated[float | None, typer.Option(help="Of a particle, in angstrom; generated data know it.")] = None,
    as_json: Json = False,
) -> None:
    """Hold the picks of several pickers against the truth, where it is known, and each other; and draw them."""
    from kit.benchmarks.relion import picking
    from kit.cli.progress import working

    directory = directory.absolute()
    named = {}
    for text in others:
        name, _, path = text.partition("=")
        if not name or not path or name in named:
            raise KitError(f"--with {text}: NAME=PATH is needed, each name once, cryolo=CBOX for example")
        named[name] = Path(path)
    if topaz:
        with working("Topaz: picking (seconds a micrograph)"):
            picking.topaz(directory, picking.known_diameter(directory) if diameter is None else diameter)
    result = picking.compare(directory, named, diameter)
    out(json.dumps(result, indent=2) if as_json else picking.report(result))
    say(f"{result['picture']}: drawn" if result["picture"] else "not drawn: no picks, or no micrograph of theirs")


@cloudmask_app.callback()
def cloudmask_group() -> None:
    """A group, though it has one command so far."""


@cloudmask_app.command("mask")
def cloudmask_mask(
    product: Annotated[Path, typer.Argument(metavar="PRODUCT.SEN3", help="An SLSTR level 1 product; it needs no label.")],
    model: Annotated[
        Path, typer.Option(metavar="FILE", help="Weights: train/model.weights.h5 of a run, or model.h5 of the reference.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE.nc", help="The mask to write.")],
    image: Annotated[str, typer.Option(help="The image that masks.")] = "cloudmask",
) -> None:
    """Mask a product that nobody labelled: probability and mask of cloud, with latitude and longitude, as NetCDF."""
    from kit.benchmark import load_benchmark
    from kit.benchmarks.cloudmask.masking import mask
    from kit.cli.progress import working

    with working(f"{product.name}: mask (seconds)"):
        said = mask(product, model, output, load_benchmark("cloudmask").image(image))
    say(said)
    print(output)


@data_app.command("pack")
def data_pack(
    directory: RunDirectory,
    stage: Annotated[str, typer.Option(help="The stage that is to run alone, class3d for example.")],
    to: Annotated[Path, typer.Option(metavar="PACK", help="The new folder.")],
) -> None:
    """Pack what one heavy stage of a valid run read, with checksums: kit run --isolated PACK runs it alone, anywhere."""
    from kit.data.isolated import isolate

    isolate(directory.absolute(), stage, to.absolute())
    out(to)


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the published data sets: size, licence, origin, and whether they are here."""
    from kit.data.published import data_sets

    found = data_sets()
    if as_json:
        out(json.dumps([{**entry.model_dump(), "here": entry.folder.is_dir()} for entry in found], indent=2))
        return
    for entry in found:
        here = f"here: {entry.folder}" if entry.folder.is_dir() else "not here"
        out(f"{entry.full_name}  {entry.title}\n  {entry.gigabytes:g} GB, {here}")
        out(f"  from {entry.origin}\n  licence: {entry.licence}")


@data_app.command("get")
def data_get(
    name: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK/NAME[:COUNT]",
            help="A data set that kit data list shows; with :20 as many scenes or files of each folder.",
        ),
    ],
    mirror: Annotated[str, typer.Option(metavar="URL", help="Fetch its files from below this URL instead.")] = "",
) -> None:
    """Fetch a published data set; cut off, the same command goes on where it was. Prints its folder."""
    from kit.data.published import get, load_data_set

    out(get(load_data_set(name), mirror, say))


@data_app.command("make")
def data_make(
    benchmark: Annotated[str, typer.Argument(help="relion or cloudmask; kit list shows all.")],
    size: Annotated[str, typer.Option(help="The size whose data are made.")] = "tiny",
) -> None:
    """Make the data of a size now, and not when its first run is prepared. Prints their folder."""
    from kit.benchmark import load_benchmark
    from kit.cli.progress import working
    from kit.data.generated import make

    with working(f"{benchmark} {size}: data"):
        folder = make(load_benchmark(benchmark), size)
    out(folder)


@data_app.command("verify")
def data_verify(
    what: Annotated[str, typer.Argument(metavar="PACK|BENCHMARK/NAME", help="A pack, or a data set that was fetched.")],
) -> None:
    """Hash every file again: of a pack, which says what it holds, or of a data set."""
    from kit.core.checksums import verify
    from kit.data.isolated import load_pack
    from kit.data.published import REMOVE, fetched, load_data_set

    folder = Path(what)
    if not folder.is_dir():
        target = fetched(load_data_set(what))
        verify(target, REMOVE.format(target))
        out(f"{target}: every file is as it was fetched")
        return
    pack = load_pack(folder)
    out(f"{folder}: stage {pack.stage} of {pack.benchmark}, size {pack.size}, made by {pack.image} {pack.version}")
    for option, file in pack.inputs.items():
        out(f"  {option:<10} {file}")


AllowDirty = Annotated[
    bool,
    typer.Option(
        "--allow-dirty",
        envvar="KIT_ALLOW_DIRTY",
        help="For a trial of your own: accept a run of a kit whose files were changed since its commit.",
    ),
]


@submission_app.command("pack")
def submission_pack(
    directory: RunDirectory,
    to: Annotated[Path, typer.Option(help="The folder that holds submissions.")] = Path("submissions"),
    organisation: Annotated[str | None, typer.Option(help="Who submits; from the site if not given.")] = None,
    system: Annotated[str | None, typer.Option(help="The machine's name; the site's if not given.")] = None,
    allow_dirty: AllowDirty = False,
) -> None:
    """Write the submission folder of a valid run, unless the check refuses it. Prints its path."""
    from kit.submissions.pack import pack

    out(pack(directory.absolute(), to, organisation, system, allow_dirty))


@submission_app.command("check")
def submission_check(
    folder: Annotated[Path, typer.Argument(help="A submission folder.")],
    allow_dirty: AllowDirty = False,
    as_json: Json = False,
) -> None:
    """Check a submission folder as its maintainers will. Fails when anything speaks against it."""
    from kit.submissions.check import as_json as json_text
    from kit.submissions.check import check

    findings = check(folder, allow_dirty)
    if as_json:
        out(json_text(folder, findings))
    else:
        for finding in findings:
            out(finding)
        out(f"{folder}: {'accepted' if not findings else f'refused, {len(findings)} finding(s)'}")
    if findings:
        raise typer.Exit(1)


def main() -> None:
    """Runs the command; the one place where errors become exit codes: 0, 1 failed, 2 usage, 3 internal, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of a terminal that has not every letter
    try:
        code = app(standalone_mode=False)
        if code == 130:  # how Typer hands Ctrl-C back
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except KitError as error:
        say(f"kit: {error}")
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        say("kit: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a name that is too long, a folder that nobody may enter, a disk that is full
        say(f"kit: {error.filename or 'file system'}: {error.strerror or error}")
        sys.exit(1)
    except Exception as error:
        usage = getattr(error, "exit_code", None)
        if usage == 2 and hasattr(error, "show"):
            error.show()
            sys.exit(2)
        import traceback

        traceback.print_exc()
        say(f"kit: internal error: {error!r}. This is a defect of the kit; please report it with the lines above")
        sys.exit(3)
