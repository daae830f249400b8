"""From a plan to a job script that a person can read and a compute node can run without Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2

from kit import __version__
from kit.core.errors import KitError
from kit.images.render import Image
from kit.launchers import LAUNCHERS
from kit.placement import warnings
from kit.plan import Plan
from kit.runs.record import Rendering
from kit.runtimes import RUNTIMES
from kit.script.quoting import environment


def stage_numbers(plan: Plan) -> dict[str, Any]:
    """The values for the templates of the stages; KitError for more ranks than the image's programs support."""
    variant, placement = plan.benchmark.variant(plan.image.name), plan.placement
    most = variant.max_ranks or placement.ranks
    if placement.ranks > most:
        room = "one process" if most == 1 else f"{most} at most"
        raise KitError(
            f"image {plan.image.name}: {placement.ranks} ranks are asked for, and it runs {room}; "
            f"--ranks {most}, with --threads {placement.ranks * placement.threads // most} for as many cores"
        )
    return {
        **plan.size.parameters,
        **variant.words,
        "ranks": placement.ranks,
        "threads": placement.threads,
        "node_threads": placement.node_threads,
    }


def resolve(plan: Plan, directory: Path, composer: tuple[Image, str] | None = None) -> Plan:
    """The plan with the stages that its size has on this site; a workflow is composed in `directory`.

    With a pack it is the one stage that the pack is made for. `composer` is an image and the runtime in which the
    workflow's own program writes its commands, where they are not those of the run.
    """
    if plan.size.workflow:
        stages = plan.benchmark.code.compose(plan, directory, composer)
        return plan.composed(plan.benchmark.resolve(plan.size_name, stages, isolated=plan.pack is not None))
    if plan.pack:
        raise KitError(f"benchmark {plan.benchmark.name}, size {plan.size_name}: has no stage that can be run alone")
    return plan.composed(plan.benchmark.resolve(plan.size_name))


def launcher(plan: Plan, ranks: int) -> list[str]:
    """The words that start this many ranks. srun uses as few nodes as hold them, mpirun all nodes in turn."""
    per_node, threads = min(ranks, plan.placement.ranks_per_node), plan.placement.threads
    if plan.site.container.mpi == "inside":  # the image's own Open MPI, which knows nothing of the site's launcher
        return LAUNCHERS["mpirun"].command(ranks, per_node, threads, [])
    return LAUNCHERS[plan.partition.launcher].command(ranks, per_node, threads, plan.partition.launcher_args)


def rendered(plan: Plan, source: Rendering, directory: Path, composer: tuple[Image, str] | None = None) -> tuple[Plan, str]:
    """The plan with the stages that this site runs, and the text of the job script.

    A workflow is composed in `directory`, which need not be that of the run. Facts of the machine come from `source` alone,
    so that another machine renders the same.
    """
    plan = resolve(plan, directory, composer)
    return plan, job_script(plan, source)


def commands(plan: Plan) -> dict[str, tuple[str, list[str]]]:
    """{stage: (its shell with the numbers filled in, the files that it must leave)}."""
    env = environment()
    numbers = stage_numbers(plan)
    found = {}
    for stage in plan.benchmark.stages:
        try:
            text = env.from_string(stage.command).render(numbers).strip()
            found[stage.name] = text, [env.from_string(output).render(numbers) for output in stage.outputs]
        except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
            raise KitError(f"benchmark {plan.benchmark.name}: stage {stage.name}: {error}") from None
    return found


# Apptainer and Docker split at the first three, Slurm's directives at the next; none can be escaped.
UNBINDABLE = re.compile(r"[\",:\\]|[^ -\U0010ffff]")


def job_script(plan: Plan, source: Rendering) -> str:
    """The text of the job script of a run that is asked for by `source`."""
    benchmark, site, partition = plan.benchmark, plan.site, plan.partition
    directory = source.directory
    stages = []
    texts = commands(plan)
    for stage in benchmark.stages:
        text, outputs = texts[stage.name]
        more = {"record": json.dumps(text), "launcher": launcher(plan, stage.ranks) if stage.ranks else []}
        stages.append({**stage.model_dump(), "command": text, "outputs": outputs, **more})
    scratch = plan.placement.scratch
    for value in (directory, source.data, scratch, *site.container.binds):
        if UNBINDABLE.search(value):
            raise KitError(
                f"{value!r}: a folder bound into a container cannot have a quote, comma, colon, backslash or newline "
                "in its path"
            )
    binds = [directory, source.data, *site.container.binds]
    if scratch and scratch not in binds:
        binds.append(scratch)
    container = RUNTIMES[site.container.runtime].command(
        plan.image,
        binds,
        {"OMP_NUM_THREADS": str(plan.placement.threads)},
        site.container.args,
        directory,
        source.machine,
        gpus=partition.gpus > 0,
    )
    return (
        environment()
        .get_template(f"{partition.scheduler}.sh.j2")
        .render(
            benchmark=benchmark,
            image=plan.image,
            size_name=plan.size_name,
            site=site,
            partition=partition,
            partition_name=plan.partition_name,
            version=__version__,
            command=source.command,
            directory=directory,
            container=container,
            launcher=launcher(plan, plan.placement.ranks),
            stages=stages,
            minutes=plan.size.minutes,
            warnings=warnings(benchmark, plan.placement),
            job_name=re.sub(r"[^A-Za-z0-9]", "", f"kit{benchmark.name}")[:15],
            **vars(plan.placement),
        )
    )
