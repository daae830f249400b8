"""Benchmark + image + site to a job script that a person can read and a compute node can run without Python."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from kit import __version__, paths
from kit.benchmark import Benchmark, Size
from kit.data import Pack
from kit.errors import KitError, plain
from kit.image import Image
from kit.launchers import LAUNCHERS
from kit.run import Rendering
from kit.runtimes import RUNTIMES
from kit.site import Partition, Site


@dataclass(frozen=True)
class Layout:
    """How the ranks of a size lie on the nodes of a partition."""

    nodes: int
    ranks: int
    ranks_per_node: int
    threads: int
    cores: int  # of one node
    gpus: int = 0  # of one node, where the site says it
    memory_gb: float = 0.0  # of one node, where it is known
    scratch: str = ""

    @property
    def node_threads(self) -> int:
        """What a stage of one process may use of the node it shares with nobody."""
        return min(self.cores, self.ranks_per_node * self.threads)


def layout(
    size: Size, partition: Partition, site: Site, on_gpus: bool = False, here: tuple[int, float] | None = None
) -> Layout:
    """The arithmetic of nodes, ranks and threads; KitError for what the partition can not give.

    `on_gpus` says whether the ranks compute on the GPUs that the partition may have. `here` are cores and gigabytes of
    memory where the site does not say them: those of this machine if not given.
    """
    cores_here, memory_gb = here or (len(os.sched_getaffinity(0)), memory_here())
    if size.nodes > partition.max_nodes:
        raise KitError(
            f"site {site.name}: {size.nodes} nodes are needed, but the partition has at most {partition.max_nodes}; "
            "--nodes asks for fewer"
        )
    if size.minutes > partition.max_minutes:
        raise KitError(
            f"site {site.name}: {size.minutes} minutes are needed, but the partition gives at most {partition.max_minutes}"
        )
    if size.nodes > 1 and site.container.mpi == "inside":
        raise KitError(f"site {site.name}: key 'container.mpi' is 'inside', which serves one node; set it to 'outside'")
    cores = partition.cores or cores_here
    ranks = size.ranks or fill(size, partition.gpus if on_gpus else 0, cores)
    per_node = math.ceil(ranks / size.nodes)
    if partition.scheduler != "local" and per_node * size.threads > cores:
        raise KitError(
            f"site {site.name}: {per_node} ranks x {size.threads} threads a node are needed, but a node has {cores} cores "
            "(key 'cores' of the partition)"
        )
    return Layout(
        nodes=size.nodes,
        ranks=ranks,
        ranks_per_node=per_node,
        threads=size.threads,
        cores=cores,
        gpus=partition.gpus,
        memory_gb=partition.memory_gb or (memory_gb if partition.scheduler == "local" else 0.0),
        scratch=partition.scratch,
    )


def fill(size: Size, gpus: int, cores: int) -> int:
    """As many ranks as the nodes have room for: one that hands out work, and an even number that do it; three at least.

    With `gpus` of a node, one rank works for each of them, and the one that hands out work comes on top.
    """
    room = size.nodes * gpus + 1 if gpus else size.nodes * max(1, cores // size.threads)
    return max(3, room - 1 + room % 2)


def on_gpus(benchmark: Benchmark, image: str) -> bool:
    return benchmark.images[benchmark.image(image)].get("acceleration") == "--gpu"


def memory_here() -> float:
    """Gigabytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def warnings(benchmark: Benchmark, plan: Layout) -> list[str]:
    """What speaks against a run before it starts, and does not forbid it: stages that want more memory than a node has."""
    return [
        f"stage {stage.name}: about {stage.memory_gb:.0f} GB of memory a node are needed, and it has {plan.memory_gb:.0f}; "
        "take more nodes or fewer ranks (--nodes, --ranks)"
        for stage in benchmark.stages
        if plan.memory_gb and stage.memory_gb > plan.memory_gb
    ]


def words(command: Sequence[str]) -> str:
    return " ".join(quoted(word) for word in command)


def quoted(word: object) -> str:
    """A word that bash reads as it is, on one line whatever it holds: it may stand in a comment, too."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        c if c.isprintable() and c not in "\\'" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c)) for c in text
    )
    return f"$'{''.join(escaped)}'"


def environment() -> jinja2.Environment:
    # Sandboxed: the templates of a run's own benchmark.json are rendered, too, and anybody may have written that.
    env = jinja2.sandbox.SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(paths.shipped("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["q"] = quoted
    env.filters["words"] = words
    env.filters["md"] = markdown
    return env


def markdown(text: object) -> str:
    """Foreign text in a page of Markdown, where it can neither be markup nor end a row of a table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", plain(str(text)))


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
                f"{value!r}: a folder bound into a container can not have a quote, comma, colon, backslash or newline "
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
