"""`kit list` and `kit doctor`: what there is to choose from, and what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import DryRun, Json, Partition, Runs
from kit.cli.output import out, out_json, say
from kit.core import paths
from kit.core.errors import KitError


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
    site: Annotated[
        str | None,
        typer.Argument(
            metavar="[SITE]",
            help="A site to try with a job, or the directory of such a job that has ended [default: look at this machine].",
            autocompletion=complete.sites,
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Without SITE: as root, install what is missing.")] = False,
    partition: Partition = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Take an image of this benchmark, and verify its data.", autocompletion=complete.benchmarks),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="The image [default: one that is built].", autocompletion=complete.images)
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes, with a rank on each [default: 1, with two].")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the job; otherwise its directory is printed.")] = True,
    dry_run: DryRun = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Check that this machine has what the kit needs, and name the command that installs what is missing.

    With SITE, submit a small job there that tries what a run needs: image, MPI, cores, GPUs, folders, data, space, clocks,
    limits. For each problem it names the key of the site file to change; it fails if a check fails.
    """
    if site is not None:
        if fix:
            raise KitError("--fix installs what this machine lacks, and goes without a site")
        doctor_of_site(site, partition, benchmark, image, nodes, wait, dry_run, runs, as_json)
        return
    given = {"--partition": partition, "--benchmark": benchmark, "--image": image, "--nodes": nodes, "--runs": runs}
    alone = [option for option, value in given.items() if value is not None] + ["--dry-run"] * dry_run
    if alone:
        raise KitError(f"{alone[0]}: which site? kit doctor SITE {alone[0]} ...; kit site list shows all")
    from kit.doctor.machine import examine, report

    items = examine(fix, say)
    if as_json:
        out_json([vars(item) for item in items])
    else:
        out(report(items))
    if not all(item.ok for item in items):
        raise typer.Exit(1)


def doctor_of_site(
    site: str,
    partition: str | None,
    benchmark: str | None,
    image: str | None,
    nodes: int | None,
    wait: bool,
    dry_run: bool,
    runs: Path | None,
    as_json: bool,
) -> None:
    """The job on a site, or what an earlier one found."""
    from kit.cli.progress import following, working
    from kit.doctor import job, judge
    from kit.doctor import outcome as outcomes
    from kit.runs import launch

    if Path(site, "run.json").exists() or ("/" in site and Path(site).is_dir()):  # a folder may have the name of a site
        directory = Path(site).absolute()
    else:
        plan = job.plan(site, partition, benchmark, image, nodes)
        if dry_run:
            out(job.script(plan, *launch.DRY), end="")
            return
        with working(f"{plan.image.name}: job script"):
            directory = job.prepare(plan, runs or paths.runs(), benchmark)
        started = launch.submit(directory)
        say(f"{directory}: job {started.job} ({started.scheduler})")
        if not wait:
            say(f"when it has ended: kit doctor {directory}")
            out(directory)
            return
        with following(directory) as progress:
            launch.wait(directory, progress)
    outcome = judge.judge(directory)
    outcomes.store(outcome)
    if as_json:
        out_json(outcome.model_dump(mode="json"))
    else:
        out(judge.report(outcome))
    if outcome.failed:
        raise typer.Exit(1)
