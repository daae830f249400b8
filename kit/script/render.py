"""Benchmark + image + site to a job script that a person can read and a compute node can run without Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from kit import __version__
from kit.benchmark import Benchmark, Size
from kit.core.errors import KitError
from kit.data.isolated import Pack
from kit.images.render import Image
from kit.launchers import LAUNCHERS
from kit.runs.record import Rendering
from kit.runtimes import RUNTIMES
from kit.script.layout import Layout, layout, on_gpus, warnings
from kit.script.quoting import environment
from kit.site import Partition, Site


def stage_numbers(benchmark: Benchmark, size: Size, image: Image, plan: Layout) -> dict[str, Any]:
    """What the templates of the stages are filled with; KitError for more ranks than the programs of the image can join."""
    if benchmark.images[image.name].get("backend") == "single" and plan.ranks > 1:
        raise KitError(
            f"image {image.name}: {plan.ranks} ranks are asked for, and it runs one process; "
            f"--ranks 1, with --threads {plan.ranks * plan.threads} for as many cores"
        )
    return {
        **size.parameters,
        **benchmark.images[image.name],
        "ranks": plan.ranks,
        "threads": plan.threads,
        "node_threads": plan.node_threads,
    }


def resolve(
    benchmark: Benchmark,
    size_name: str,
    image: Image,
    site: Site,
    plan: Layout,
    directory: Path,
    pack: Pack | None = None,
    composer: tuple[Image, str] | None = None,
) -> Benchmark:
    """The benchmark of one size with the stages it has on this site; a workflow is composed in `directory`.

    With a pack it is the one stage that the pack is made for. `composer` is an image and the runtime in which the
    workflow's own program writes its commands, where they are not those of the run.
    """
    size = benchmark.size(size_name)
    if not size.workflow:
        if pack:
            raise KitError(f"benchmark {benchmark.name}, size {size_name}: has no stage that can be run alone")
        return benchmark.resolve(size_name)
    numbers = stage_numbers(benchmark, size, image, plan)
    composer = composer or (image, site.container.runtime)
    stages = benchmark.code.compose(size.workflow, directory, *composer, plan, numbers, pack)
    return benchmark.resolve(size_name, stages, alone=pack is not None)


def launcher(site: Site, partition: Partition, plan: Layout, ranks: int) -> list[str]:
    """The words that start this many ranks; srun on as few of the nodes as have room for them, mpirun on all in turn."""
    per_node = min(ranks, plan.ranks_per_node)
    if site.container.mpi == "inside":  # the image's own Open MPI, which knows nothing of the site's launcher
        return LAUNCHERS["mpirun"].command(ranks, per_node, plan.threads, [])
    return LAUNCHERS[partition.launcher].command(ranks, per_node, plan.threads, partition.launcher_args)


def rendered(
    benchmark: Benchmark,
    size_name: str,
    image: Image,
    site: Site,
    partition_name: str | None,
    source: Rendering,
    directory: Path,
    pack: Pack | None = None,
    composer: tuple[Image, str] | None = None,
) -> tuple[Benchmark, Layout, str]:
    """The benchmark of one size as this site runs it, how its ranks lie, and the text of the job script.

    A workflow is composed in `directory`, which need not be that of the run. Nothing is asked of this machine that
    `source` does not say, so that the same is rendered elsewhere.
    """
    _, partition = site.partition(partition_name)
    here = (source.cores, source.memory_gb)
    plan = layout(benchmark.size(size_name), partition, site, on_gpus(benchmark, image.name), here)
    benchmark = resolve(benchmark, size_name, image, site, plan, directory, pack, composer)
    return benchmark, plan, job_script(benchmark, image, size_name, site, partition_name, plan, source)


def commands(benchmark: Benchmark, size: Size, image: Image, plan: Layout) -> dict[str, tuple[str, list[str]]]:
    """The shell of each stage with its numbers filled in, and the files that it has to leave, by the stage's name."""
    env = environment()
    numbers = stage_numbers(benchmark, size, image, plan)
    found = {}
    for stage in benchmark.stages:
        try:
            text = env.from_string(stage.command).render(numbers).strip()
            found[stage.name] = text, [env.from_string(output).render(numbers) for output in stage.outputs]
        except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
            raise KitError(f"benchmark {benchmark.name}: stage {stage.name}: {error}") from None
    return found


# Apptainer and Docker take the first three apart, Slurm's directives the next; nothing escapes them.
UNBINDABLE = re.compile(r"[\",:\\]|[^ -\U0010ffff]")


def job_script(
    benchmark: Benchmark,
    image: Image,
    size_name: str,
    site: Site,
    partition_name: str | None,
    plan: Layout,
    source: Rendering,
) -> str:
    """The text of the job script of a run that is asked for by `source`."""
    size = benchmark.size(size_name)
    name, partition = site.partition(partition_name)
    directory = source.directory
    stages = []
    texts = commands(benchmark, size, image, plan)
    for stage in benchmark.stages:
        text, outputs = texts[stage.name]
        more = {"record": json.dumps(text), "launcher": launcher(site, partition, plan, stage.ranks) if stage.ranks else []}
        stages.append({**stage.model_dump(), "command": text, "outputs": outputs, **more})
    for value in (directory, source.data, plan.scratch, *site.container.binds):
        if UNBINDABLE.search(value):
            raise KitError(
                f"{value!r}: a folder bound into a container cannot have a quote, comma, colon, backslash or newline "
                "in its path"
            )
    binds = [directory, source.data, *site.container.binds]
    if plan.scratch and plan.scratch not in binds:
        binds.append(plan.scratch)
    container = RUNTIMES[site.container.runtime].command(
        image, binds, {"OMP_NUM_THREADS": str(plan.threads)}, site.container.args, directory, source.machine
    )
    return (
        environment()
        .get_template(f"{partition.scheduler}.sh.j2")
        .render(
            benchmark=benchmark,
            image=image,
            size_name=size_name,
            site=site,
            partition=partition,
            partition_name=name,
            version=__version__,
            command=source.command,
            directory=directory,
            container=container,
            launcher=launcher(site, partition, plan, plan.ranks),
            stages=stages,
            minutes=size.minutes,
            warnings=warnings(benchmark, plan),
            job_name=re.sub(r"[^A-Za-z0-9]", "", f"kit{benchmark.name}")[:15],
            **vars(plan),
        )
    )
