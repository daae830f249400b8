"""`kit reproduce`: run the work of a submission again, and say whether it comes out the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import AllowDirty, AllowTrial, DryRun, Json, Partition, Runs, Site
from kit.cli.output import out, out_json, say
from kit.core import paths
from kit.core.errors import KitError


def reproduce(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A submission folder.")],
    site: Site = "local",
    partition: Partition = None,
    seed: Annotated[
        str, typer.Option(metavar="same|new|N", help="The random seed: that of the submission, or another.")
    ] = "same",
    isolated: Annotated[
        Path | None, typer.Option(metavar="PACK", help="The pack of a submission that ran one stage alone.")
    ] = None,
    repeats: Annotated[
        Path | None, typer.Option(help="A spread that kit repeats wrote [default: the one shipped with the benchmark].")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Judge this run, which an earlier kit reproduce made; run nothing.")
    ] = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option(help="Wait for the run, and judge it.")] = True,
    runs: Runs = None,
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
    as_json: Json = False,
) -> None:
    """Run the work of a submission again on a site of yours, and compare every metric. Fails unless all agree.

    The folder is verified and checked first. The image is built from its recipe where it is not there; data that come out
    differently are refused. The verdict also stands in the new run, as reproduction.json.
    """
    from kit import reproduce as verb
    from kit.cli.progress import following, working
    from kit.runs import launch
    from kit.runs.compare import load_repeats

    submitted, remarks = verb.accepted(folder, allow_dirty, allow_trial)
    if repeats:
        load_repeats(submitted.benchmark, submitted.work, repeats)  # what is wrong with them is said before hours of work
    if run is None:
        plan, more = verb.new_plan(submitted, site, partition, seed, isolated)
        for remark in (*remarks, *more):
            say(f"kit: {remark}")
        if dry_run:
            say("kit: a dry run makes no run directory and no data: /RUN and /DATA stand for them")
            out(launch.script(plan, *launch.DRY), end="")
            return
        for what, step in verb.image_steps(plan, say):
            with working(what):
                step()
        with working(f"{submitted.benchmark} {submitted.size} in {plan.image.name}: data and job script"):
            run = verb.prepare(submitted, plan, runs or paths.runs())
        for warning in launch.warnings_of(run):
            say(f"kit: warning: {warning}")
        job = launch.submit(run)
        say(f"{run}: job {job.job} ({job.scheduler})")
        if not wait:
            say(f"kit: when it has ended: kit reproduce {folder} --run {run}")
            out(run)
            return
        with following(run) as progress:
            launch.wait(run, progress)
    elif dry_run:
        raise KitError("--dry-run: with --run nothing is run; leave one of them out")
    found = verb.judge(folder, submitted, run.absolute(), remarks, repeats)
    if as_json:
        out_json(found.model_dump(mode="json"))
    else:
        out(verb.report(found))
    if not found.agrees:
        raise typer.Exit(1)
