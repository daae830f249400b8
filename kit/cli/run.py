"""`kit run` and what follows a run: its state, its end, its verdict; and how a benchmark scales."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli import complete
from kit.cli.options import (
    Arguments,
    BenchmarkImage,
    BenchmarkOrNone,
    DryRun,
    Jobs,
    Json,
    Partition,
    RunDirectories,
    RunDirectory,
    Runs,
    Site,
    Size,
    Threads,
    Wait,
)
from kit.cli.output import out, out_json, say
from kit.core import paths
from kit.core.errors import KitError, plain

if TYPE_CHECKING:
    from kit.challenge import Challenge


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
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of each node [default: all of them].")] = None,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Another value for a parameter of the size; an unknown KEY lists them."
        ),
    ] = [],  # noqa: B006
    pool: Annotated[
        int | None, typer.Option(min=1, help="Particles that a rank of RELION takes at a time; short for --set pool=N.")
    ] = None,
    sweep: Annotated[
        list[str],
        typer.Option(metavar="KEY=V,V,...", help="A run with each value of a parameter; of several, each combination."),
    ] = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="The random seed [default: the size's].")] = None,
    challenge: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What a maintainer gave you for this run; it decides data and random seed."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Make this many runs, each with its own seed.")] = 1,
    minutes: Annotated[
        int | None, typer.Option(min=1, help="Minutes to ask the scheduler for [default: the size's].")
    ] = None,
    jobs: Jobs = 1,
    isolated: Annotated[
        Path | None, typer.Option(metavar="PACK", help="Run one stage alone, on a pack that kit data pack made.")
    ] = None,
    allow_cpu: Annotated[
        bool, typer.Option("--allow-cpu", help="Run an image for GPUs where there are none: a trial, never a result.")
    ] = False,
    tuning: Annotated[
        bool, typer.Option("--tuning/--no-tuning", help="Use the ranks, threads and parameters that kit tune found.")
    ] = True,
    dry_run: DryRun = False,
    wait: Wait = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="The same as kit resume RUN.")] = None,
    runs: Runs = None,
) -> None:
    """Run a benchmark: make the data, write the job script, submit it. Prints the run directory.

    Several runs (--repeat, --sweep) are one array of jobs where the site has arrays.
    """
    from kit.cli.progress import working
    from kit.plan import Request, swept, tuned
    from kit.runs import launch

    runs = runs or paths.runs()
    if resume is not None:
        if dry_run:
            raise KitError(f"--dry-run: the script of a run is there already: {resume}/job.sh; nothing was started")
        start([resume.absolute()], wait, jobs)
        return
    if benchmark is None:
        raise KitError("which benchmark? kit run BENCHMARK; kit list shows all")
    request = Request(
        benchmark=benchmark,
        size=size,
        site=site,
        partition=partition,
        image=image,
        arguments=tuple(arg),
        nodes=nodes,
        ranks=ranks,
        threads=threads,
        gpus=gpus,
        minutes=minutes,
        parameters=(*settings, *([] if pool is None else [f"pool={pool}"])),
        seed=seed,
        challenge=challenged(challenge),
        isolated=isolated,
        allow_cpu=allow_cpu,
    )
    if tuning:
        request, remark = tuned(request, sweep)
        if remark:
            say(f"kit: {remark}")
    plans = swept(request, repeat, sweep)
    launch.check_jobs(plans[0], jobs)
    if dry_run:
        say("kit: a dry run makes no run directory and no data: /RUN and /DATA stand for them")
        if len(plans) > 1:
            say(f"kit: this is the script of the first of {len(plans)} runs")
        out(launch.script(plans[0], *launch.DRY), end="")
        return
    directories = []
    for plan in plans:
        with working(f"{benchmark} {size} in {plan.image.name}: data and job script"):
            directories.append(launch.prepare(plan, runs))
        for warning in launch.warnings_of(directories[-1]):
            say(f"kit: warning: {warning}")
        if plan.partition.scheduler == "local":  # one after the other: together they would disturb each other
            start(directories[-1:], wait, jobs)
    if plans[0].partition.scheduler != "local":
        start(directories, wait, jobs)


def challenged(text: str | None) -> Challenge | None:
    """The challenge of a text; KitError for one that cannot be."""
    from kit.challenge import LEAST, Challenge
    from kit.core.schema import parse

    if text is None:
        return None
    try:
        return parse(Challenge, {"text": text}, "--challenge")
    except KitError:
        needed = f"{LEAST} to 200 letters, digits, spaces and ._:/@+- are needed, beginning with a letter or digit"
        raise KitError(f"--challenge {plain(text)}: {needed}") from None


def start(directories: list[Path], wait: bool | None, jobs: int = 1) -> None:
    """Submits the jobs of runs, waits for them if there is no scheduler, and prints the run directories."""
    from kit.cli.progress import following
    from kit.runs import launch
    from kit.runs.record import load_run

    try:
        runs = launch.submit_all(directories, jobs)
    except KitError:
        for directory in directories if len(directories) > 1 or jobs > 1 else ():
            job = load_run(directory).job
            say(f"{directory}: {f'its job {job} was submitted' if job else 'was not submitted; kit resume starts it'}")
        raise
    for directory, started in zip(directories, runs, strict=True):
        more = f" and {len(started.further)} more that follow it" if started.further else ""
        say(f"{directory}: job {started.job}{more} ({started.scheduler})")
        if not (wait if wait is not None else started.scheduler == "local"):
            out(directory)
    for directory in directories:
        if wait if wait is not None else load_run(directory).scheduler == "local":
            with following(directory) as progress:
                state = launch.wait(directory, progress)
            if state.name not in ("finished", "valid"):  # valid: another kit has judged it already
                raise KitError(
                    f"{directory}: {state}\nIts logs are in {directory}/logs; continue it with: kit resume {directory}"
                )
            out(directory)


def resume(directories: RunDirectories, jobs: Jobs = 1, wait: Wait = None) -> None:
    """Continue runs that were cut off: stages that are done are skipped, and RELION and training go on where they were."""
    each(directories, lambda directory: start([directory], wait, jobs))


def each(directories: list[Path], act: Callable[[Path], object]) -> None:
    """Does something to each of several runs; an error of one does not keep it from the others, and fails at the end."""
    problems = []
    for directory in directories:
        try:
            act(directory.absolute())
        except KitError as error:
            problems.append(str(error))
    if problems:
        raise KitError("\n".join(problems))


def scaling(
    benchmark: Annotated[str, typer.Argument(help="A benchmark that trains a network.", autocompletion=complete.scalable)],
    place: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="With --model: a run directory of this command, or a file CURVES.toml [default: published curves alone].",
        ),
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Numbers of ranks to measure; each must divide the largest.")
    ] = None,
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
    model: Annotated[
        bool, typer.Option("--model", help="Measure nothing: fit a model to what was measured, up to 1,000 ranks.")
    ] = False,
    per_node: Annotated[
        int, typer.Option(min=0, help="With --model: ranks of a node, to tell the network in nodes from that between them.")
    ] = 0,
    to: Annotated[
        Path | None,
        typer.Option(help="With --model: where its JSON and picture go [default: scaling/ of the folder, or .]."),
    ] = None,
) -> None:
    """Measure strong and weak scaling in one job: speed-up, efficiency, and where the time went. Prints the run directory.

    Without a scheduler it waits and prints the report. With one, run kit collect RUN when the job has ended.
    With --model it says what limits a run on more ranks, and what the points do not tell.
    """
    if model:
        if ranks is not None or dry_run:
            raise typer.BadParameter("--model measures nothing: --ranks and --dry-run are of a measurement; leave them out")
        modelled(benchmark, place, per_node, to)
        return
    if place is not None or per_node or to is not None:
        raise typer.BadParameter("a folder, --per-node and --to are for --model; --ranks measures")
    if ranks is None:
        raise typer.BadParameter("--ranks is missing: which numbers of ranks to measure, 1,2,4 for example; or --model")
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
        directory = launch.prepare(plan, runs or paths.runs())
    start([directory], None)
    if load_run(directory).state.name == "finished":
        result = verb(directory)
        if result.state.name != "valid":
            raise KitError(f"{directory}: {result.state}")
        say((directory / "scaling/scaling.md").read_text())
        say(f"{directory}/figures/scaling.png: drawn")


def modelled(name: str, place: Path | None, per_node: int, to: Path | None) -> None:
    """Prints what the model says of a scaling run and of published curves, and writes it as JSON and as a picture."""
    from kit.benchmark import load_benchmark
    from kit.training import modelled as verb

    curves = verb.evaluate(load_benchmark(name), place, per_node)
    folder = to or (place / "scaling" if place is not None and place.is_dir() else Path("."))
    out("\n\n".join(map(verb.as_text, curves)))
    verb.write(curves, folder)
    say(f"{folder / verb.OUTPUT}.png: drawn; the same as JSON beside it")


def status(
    directories: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run directories, or folders of them [default: all].")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show them until all have ended, as they change.")] = False,
    as_json: Json = False,
    runs: Runs = None,
) -> None:
    """Show the state of runs: all below the runs folder, or those that are named."""
    from kit.runs.overview import as_table, find, records
    from kit.runs.states import states_of

    folder = runs or paths.runs()
    found = find(directories or [folder], named=bool(directories))
    if not found:
        say(f"{folder}: no runs yet")
    if watch:
        if as_json:
            raise KitError("--watch shows a table, --json prints once: one of them is meant")
        from kit.cli.progress import watching

        watching(found)
        return
    seen = states_of(found)
    if as_json:
        out_json(records(seen))
    elif seen:
        out(as_table(seen))
    if any(isinstance(run, KitError) for run in seen.values()):
        raise typer.Exit(1)


def logs(
    directory: RunDirectory,
    stage: Annotated[str | None, typer.Argument(help="A stage of it [default: the one that started last].")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    err: Annotated[bool, typer.Option("--err", help="What the stage wrote to stderr.")] = False,
) -> None:
    """Print what a stage of a run wrote, or, before any has started, what the job did."""
    from kit.runs.logs import followed, log_file, printed

    if follow:
        for text in followed(directory, stage, err):
            out(text, end="")
        return
    name = log_file(directory, stage, err)
    say(f"{directory / name}:")
    for text in printed(directory, name):
        out(text, end="")


def cancel(directories: RunDirectories) -> None:
    """End the jobs of runs. They can be resumed."""
    from kit.runs import launch

    outcomes = launch.cancel_all([directory.absolute() for directory in directories])
    for directory, outcome in outcomes.items():
        if not isinstance(outcome, KitError):
            out(f"{directory}: {outcome}")
    problems = [str(outcome) for outcome in outcomes.values() if isinstance(outcome, KitError)]
    if problems:
        raise KitError("\n".join(problems))


def collect(
    directories: RunDirectories,
    ended: Annotated[
        bool, typer.Option("--ended", help="Take the job for ended, where its scheduler cannot be asked.")
    ] = False,
    store: Annotated[
        str, typer.Option(metavar="URL", help="Where you will keep evidence that is too large for a submission.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Read the results of runs from their files, apply the gates, and write run.json. Fails unless all are valid.

    With --json and several runs it prints a list.
    """
    from kit.cli.progress import working
    from kit.runs.collect import collect as verb
    from kit.runs.collect import report

    results = []

    def judge(directory: Path) -> None:
        with working(f"{directory.name}: reading results"):
            results.append(verb(directory, ended, store))
        if not as_json:
            out(report(directory, results[-1]))

    try:
        each(directories, judge)
    finally:
        if as_json and results:
            found = [result.model_dump(mode="json") for result in results]
            out_json(found if len(directories) > 1 else found[0])
    if any(result.state.name != "valid" for result in results):
        raise typer.Exit(1)
