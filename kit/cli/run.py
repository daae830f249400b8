"""`kit run` and what follows a run: its state, its end, its verdict; and how a benchmark scales."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import (
    Arguments,
    BenchmarkImage,
    BenchmarkOrNone,
    DryRun,
    Json,
    Partition,
    RunDirectory,
    Runs,
    Site,
    Size,
    Threads,
)
from kit.cli.output import out, out_json, say
from kit.core.errors import KitError


def run(
    benchmark: BenchmarkOrNone = None,
    size: Size = "tiny",
    site: Site = "local",
    partition: Partition = None,
    image: BenchmarkImage = None,
    arg: Arguments = [],  # noqa: B006
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes [default: the size's].")] = None,
    ranks: Annotated[
        int | None, typer.Option(min=0, help="MPI ranks [default: the size's]. 0: as many as the nodes hold.")
    ] = None,
    threads: Threads = None,
    seed: Annotated[int | None, typer.Option(help="The random seed [default: the size's].")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Make this many runs, each with its own seed.")] = 1,
    isolated: Annotated[
        Path | None, typer.Option(metavar="PACK", help="Run one stage alone, on a pack that kit data pack made.")
    ] = None,
    allow_cpu: Annotated[
        bool, typer.Option("--allow-cpu", help="Run an image for GPUs where there are none: a trial, never a result.")
    ] = False,
    dry_run: DryRun = False,
    wait: Annotated[bool | None, typer.Option(help="Wait until the run ends [default: only without a scheduler].")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue a run that was cut off.")] = None,
    runs: Runs = None,
) -> None:
    """Run a benchmark: make the data, write the job script, submit it. Prints the run directory."""
    from kit.cli.progress import working
    from kit.plan import Request, repeated
    from kit.runs import launch

    runs = runs or launch.runs_folder()
    if resume is not None:
        if dry_run:
            raise KitError(f"--dry-run: the script of a run is there already: {resume}/job.sh; nothing was started")
        start(resume.absolute(), wait)
    elif benchmark is None:
        raise KitError("which benchmark? kit run BENCHMARK; kit list shows all")
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
    """Submits the job of a run, waits for it if there is no scheduler, and prints the run directory."""
    from kit.cli.progress import following
    from kit.runs import launch

    started = launch.submit(directory)
    say(f"{directory}: job {started.job} ({started.scheduler})")
    if wait if wait is not None else started.scheduler == "local":
        with following(directory) as progress:
            state = launch.wait(directory, progress)
        if state.name not in ("finished", "valid"):  # valid: another kit has judged it already
            raise KitError(
                f"{directory}: {state}\nIts logs are in {directory}/logs; continue it with: kit run --resume {directory}"
            )
    out(directory)


def scaling(
    benchmark: Annotated[str, typer.Argument(help="A benchmark that trains a network.", autocompletion=complete.scalable)],
    ranks: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of ranks to measure; each must divide the largest.")
    ],
    size: Annotated[str, typer.Option(help="The size whose data it runs on.", autocompletion=complete.sizes)] = "tiny",
    site: Site = "local",
    partition: Partition = None,
    image: BenchmarkImage = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Nodes for the largest number of ranks. For fewer ranks srun uses fewer nodes, mpirun all of them."
        ),
    ] = None,
    threads: Threads = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each measurement; the first step is not counted.")] = 3,
    dry_run: DryRun = False,
    runs: Runs = None,
) -> None:
    """Measure strong and weak scaling in one job: speed-up, efficiency, and where the time went. Prints the run directory.

    Without a scheduler it waits and prints the report. With one, run kit collect RUN when the job has ended.
    """
    from kit.cli.progress import working
    from kit.plan import Request, make_plan
    from kit.runs import launch
    from kit.runs.collect import collect as verb
    from kit.runs.record import load_run
    from kit.training.scaling import rank_numbers

    request = Request(
        benchmark,
        size,
        site,
        partition,
        image,
        nodes=nodes,
        threads=threads,
        scaling=rank_numbers(ranks),
        epochs=epochs,
    )
    plan = make_plan(request)
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


def status(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")], as_json: Json = False
) -> None:
    """Show the state of runs."""
    from kit.runs.record import load_run
    from kit.runs.states import current_state

    states = {str(directory): current_state(directory, load_run(directory)) for directory in directories}
    if as_json:
        out_json({name: state.model_dump() for name, state in states.items()})
        return
    for name, state in states.items():
        out(f"{name}: {state}")


def cancel(directory: RunDirectory) -> None:
    """End the job of a run. The run can be resumed."""
    from kit.runs import launch

    out(f"{directory}: {launch.cancel(directory.absolute())}")


def collect(directory: RunDirectory, as_json: Json = False) -> None:
    """Read the results of a run from its files, apply the gates, and write run.json. Fails unless the run is valid."""
    from kit.cli.progress import working
    from kit.runs.collect import collect as verb
    from kit.runs.collect import report

    with working(f"{directory.name}: reading results"):
        result = verb(directory.absolute())
    if as_json:
        out_json(result.model_dump(mode="json"))
    else:
        out(report(directory, result))
    if result.state.name != "valid":
        raise typer.Exit(1)
