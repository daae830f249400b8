"""`kit tune`: a short trial that finds the ranks, threads and parameters with which a site's nodes are fastest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.options import Arguments, BenchmarkImage, DryRun, Json, Partition, Runs, Site, Size
from kit.cli.output import out, out_json, say
from kit.core import paths


def tune(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK",
            help="A benchmark that can be tuned (relion), or the directory of a trial, to go on with it.",
            autocompletion=complete.tunable,
        ),
    ],
    site: Site = "local",
    partition: Partition = None,
    image: BenchmarkImage = None,
    arg: Arguments = [],  # noqa: B006
    size: Size = "tiny",
    repeats: Annotated[int, typer.Option("--repeat", min=2, max=20, help="Measure each choice this many times.")] = 3,
    particles: Annotated[
        int | None, typer.Option(min=20, max=1_000_000, help="Particles of a measurement [default: 60 for each core].")
    ] = None,
    minutes: Annotated[int | None, typer.Option(min=1, help="Minutes to ask the scheduler for [default: 60].")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the job; otherwise its directory is printed.")] = True,
    dry_run: DryRun = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Measure how a node of a site is divided best into ranks and threads, and keep it for later runs there.

    A short job refines a few generated particles with several choices of ranks, threads and --pool, each several times and
    in turn. The fastest is kept if it beats the size's own numbers by more than repeats differ. `kit run` then uses it for
    this size, image, partition and processor, and the job script says so; --ranks, --threads or --no-tuning overrule it.
    """
    from kit.cli.progress import following, working
    from kit.core.errors import KitError
    from kit.runs import launch
    from kit.runs.record import load_run
    from kit.runs.states import current_state
    from kit.tune import job, judge, store

    if "/" in benchmark or Path(benchmark, "run.json").exists():
        directory = Path(benchmark).absolute()
        trial = judge.trial_of(directory)
        store.find(trial.key)
    else:
        plan, trial = job.plan(benchmark, size, site, partition, image, tuple(arg), minutes, repeats)
        if dry_run:
            out(job.script(plan, *launch.DRY), end="")
            return
        store.find(trial.key)  # a file that cannot be read is told before an hour has gone by
        with working(f"{benchmark} {size} in {plan.image.name}: data and job script"):
            directory = job.prepare(plan, trial, runs or paths.runs(), particles)
    state = current_state(directory, load_run(directory))
    if state.name in ("rendered", "failed", "incomplete"):
        started = launch.submit(directory)
        say(f"{directory}: job {started.job} ({started.scheduler}), {len(trial.order)} measurements")
    if not wait:
        say(f"when it has ended: kit tune {directory}")
        out(directory)
        return
    if state.name != "finished":
        with following(directory) as progress:
            state = launch.wait(directory, progress)
        if state.name != "finished":
            raise KitError(f"{directory}: {state}\nIts logs are in {directory}/logs; kit tune {directory} goes on with it")
    found = judge.judge(directory)
    path = store.store(found)
    if as_json:
        out_json(found.model_dump(mode="json"))
    else:
        out(judge.report(found))
    say(f"{path}: kept for runs of {found.key.benchmark}, size {found.key.size}, on site {found.key.site}")
