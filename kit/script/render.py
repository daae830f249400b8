"""From a plan to a job script that a person can read and a compute node can run without Python."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from kit import __version__
from kit.benchmark import RANKS, Benchmark, Stage
from kit.core.errors import KitError
from kit.images.render import Image
from kit.launchers import LAUNCHERS, Ranks
from kit.placement import SCRATCH_INSIDE, warnings
from kit.plan import Plan
from kit.runs.record import Rendering
from kit.runtimes import RUNTIMES
from kit.schedulers import SCHEDULERS
from kit.script.quoting import Expanded, environment


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
        return looked_at(plan.composed(plan.benchmark.resolve(plan.size_name, stages, isolated=plan.pack is not None)))
    if plan.pack:
        raise KitError(f"benchmark {plan.benchmark.name}, size {plan.size_name}: has no stage that can be run alone")
    return looked_at(plan.composed(plan.benchmark.resolve(plan.size_name)))


def looked_at(plan: Plan) -> Plan:
    """The plan with a stage before all others that looks at the ranks of the job: ranks that do not find each other, share
    cores or miss a GPU would otherwise compute something, slowly or wrongly."""
    placement = plan.placement
    # What is on a host is not the kit's, and a run there is never a result.
    if not plan.image.mpi or plan.site.container.runtime == "host" or (placement.ranks == 1 and not placement.gpus):
        return plan
    alone = " --whole-cores" if plan.partition.hardware_threads > 1 and not plan.partition.hyperthreads else ""
    gpus = min(placement.gpus, placement.fewest_ranks) if placement.gpu_each else placement.gpus
    look = Stage(
        name=RANKS,
        command=(
            f"launch kit-ranks --ranks {placement.ranks} --nodes {placement.nodes} "
            f"--ranks-per-node {placement.ranks_per_node} --threads {placement.threads}{alone} --gpus {gpus} "
            f"--bind {'cores' if placement.bind else 'none'} >{RANKS}.jsonl"
        ),
        outputs=[f"{RANKS}.jsonl"],
        note="does each rank have the cores and GPUs of the plan, and do they form one job?",
        always=True,
    )
    return plan.composed(plan.benchmark.model_copy(update={"stages": [look, *plan.benchmark.stages]}))


def launcher(plan: Plan, ranks: int, threads: int = 0) -> list[str]:
    """The words that start this many ranks. srun uses as few nodes as hold them, mpirun all nodes in turn.

    `threads` are those of each rank, where they are not those of the plan.
    """
    placement, partition, container = plan.placement, plan.partition, plan.site.container
    per_node = min(ranks, placement.ranks_per_node)
    threads = threads or placement.threads
    wanted = Ranks(
        count=ranks,
        per_node=per_node,
        spread=placement.nodes if ranks == placement.ranks else 0,
        threads=threads,
        cores=placement.cores,
        gpus=placement.gpus,
        gpu_each=placement.gpu_each,
        order=placement.order,
        bind=placement.bind and per_node * threads <= placement.cores,
        pmi=partition.pmi,
        hardware_threads=partition.hardware_threads,
        hyperthreads=partition.hyperthreads,
    )
    if container.mpi == "inside":  # the image's own Open MPI, which knows nothing of the site's launcher
        return LAUNCHERS["mpirun"].command(replace(wanted, gpu_each=False, pmi=""), [])
    if container.runtime == "docker" and ranks > 1:
        raise KitError(
            f"site {plan.site.name}: the runtime docker does not hand on what a launcher tells its ranks, and each would be "
            "alone; set key 'container.mpi' to 'inside'"
        )
    return LAUNCHERS[partition.launcher].command(wanted, partition.launcher_args)


def single(plan: Plan) -> list[str]:
    """The words that start a stage of one process, where the job script does not run on a node that computes."""
    if not plan.partition.single:
        return []
    placement, partition = plan.placement, plan.partition
    alone = Ranks(
        count=1,
        per_node=1,
        threads=placement.node_threads,
        cores=placement.cores,
        gpus=placement.gpus,
        bind=placement.bind,
        pmi=partition.pmi,
        hardware_threads=partition.hardware_threads,
        hyperthreads=partition.hyperthreads,
    )
    return LAUNCHERS[plan.partition.launcher].command(alone, plan.partition.launcher_args)


def rendered(plan: Plan, source: Rendering, directory: Path, composer: tuple[Image, str] | None = None) -> tuple[Plan, str]:
    """The plan with the stages that this site runs, and the text of the job script.

    A workflow is composed in `directory`, which need not be that of the run. Facts of the machine come from `source` alone,
    so that another machine renders the same.
    """
    plan = resolve(plan, directory, composer)
    return plan, job_script(plan, source)


@functools.lru_cache(maxsize=4096)
def template(text: str) -> jinja2.Template:
    return environment().from_string(text)


def commands(plan: Plan) -> dict[str, tuple[str, list[str]]]:
    """{stage: (its shell with the numbers filled in, the files that it must leave)}."""
    numbers = stage_numbers(plan)
    found = {}
    for stage in plan.benchmark.stages:
        ranks = stage.ranks or plan.placement.ranks
        if stage.halves and (ranks < 3 or ranks % 2 == 0):
            raise KitError(
                f"benchmark {plan.benchmark.name}: stage {stage.name}: {ranks} ranks are given; one leads and two halves "
                f"share the others, so an odd number is needed, three at least (--ranks {max(3, ranks + 1)})"
            )
        try:
            text = template(stage.command).render(numbers).strip()
            found[stage.name] = text, [template(output).render(numbers) for output in stage.outputs]
        except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
            raise KitError(f"benchmark {plan.benchmark.name}: stage {stage.name}: {error}") from None
    return found


# Apptainer and Docker split at the first three, Slurm's directives at the next; none can be escaped.
UNBINDABLE = re.compile(r"[\",:\\]|[^ -\U0010ffff]")

# Variables of the person who submits that no stage may see: they change what MPI, Python, numerical libraries or the
# container do, and nobody who runs the script again has them.
DROPPED = (
    "APPTAINERENV_*",
    "APPTAINER_BIND*",
    "HOROVOD_*",
    "KMP_*",
    "LD_AUDIT",
    "LD_PRELOAD",
    "MKL_*",
    "OMPI_MCA_*",
    "OMP_*",
    "OPENBLAS_*",
    "PMIX_MCA_*",
    "PRTE_MCA_*",
    "PYTHON*",
    "RELION_*",
    "SINGULARITYENV_*",
    "SINGULARITY_BIND*",
    "TF_*",
    "XLA_*",
)
# For an mpirun in the container: the scheduler's variables would make it start its ranks by the scheduler's commands, which
# the image does not have.
INSIDE = {
    "OMPI_MCA_ras": "^gridengine,slurm,tm,lsf",
    "OMPI_MCA_plm": "^slurm,tm,lsf",
    "OMPI_MCA_pmix": "^flux",
    "PRTE_MCA_ras": "^gridengine,slurm,pbs,lsf",
    "PRTE_MCA_plm": "^slurm,pbs,lsf",
}
# For ranks that Slurm's PMIx tells of each other: its shared memory lies in a folder of slurmd, which no container has. And
# each rank in a container of its own may not read the memory of its neighbour, of which Open MPI 4 would complain.
PMIX = {"PMIX_MCA_gds": "hash", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}


def variables(plan: Plan) -> dict[str, str]:
    """What a container is given beside what its runtime lets through; the site's own word counts for more."""
    partition, container = plan.partition, plan.site.container
    found = {"OMP_NUM_THREADS": str(plan.placement.threads)}
    if container.mpi == "inside" and partition.scheduler != "local":
        found |= INSIDE
    elif container.mpi == "outside" and partition.pmi.startswith("pmix"):
        found |= PMIX
    if container.runtime in ("docker", "podman-hpc"):  # which let nothing through
        return found | partition.environment
    return {key: value for key, value in found.items() if key not in partition.environment}


def asked(plan: Plan) -> dict[str, Any]:
    """What the scheduler is asked for, of each node: cores, GPUs, and gigabytes of memory, 0 for nothing to ask."""
    placement, partition = plan.placement, plan.partition
    used = placement.ranks_per_node * placement.threads
    share = 1.0 if partition.exclusive else min(1.0, used / placement.cores)
    return {
        "cores_per_node": placement.cores if partition.exclusive else used,
        "memory_gb": placement.memory_gb * share if partition.memory_request else 0.0,
        # Whoever is to be warned 60 s before the end of a job of a minute would be warned at its beginning.
        "warn": min(60, plan.minutes * 15),
    }


def bound(plan: Plan, source: Rendering) -> list[str]:
    """The folders that containers see; KitError for a path that neither Apptainer nor Docker can be told."""
    site, scratch = plan.site, plan.partition.scratch
    for value in (
        source.directory,
        source.data,
        scratch,
        *(part for bind in site.container.binds for part in bind.split(":")),
    ):
        if UNBINDABLE.search(value):
            raise KitError(
                f"{value!r}: a folder bound into a container cannot have a quote, comma, colon, backslash or newline "
                "in its path"
            )
    binds = [source.directory, source.data, *site.container.binds]
    if scratch.startswith("$"):
        binds.append(Expanded(f"{scratch}:{SCRATCH_INSIDE}"))
    elif scratch and scratch not in binds:
        binds.append(scratch)
    return binds


def job_script(plan: Plan, source: Rendering) -> str:
    """The text of the job script of a run that is asked for by `source`."""
    return sheet(f"{plan.partition.scheduler}.sh.j2").render(facts(plan, source))


def array_script(plan: Plan, source: Rendering, directories: Sequence[Path]) -> str:
    """The text of a script that runs the job scripts of several runs, each in a task of one array of jobs.

    The scheduler is told what it is told for one of them, which `plan` is of, in the folder that `source` names.
    """
    words = facts(plan, source)
    page = sheet(f"{plan.partition.scheduler}.sh.j2")
    directives = "".join(page.blocks["directives"](page.new_context(words)))
    index = SCHEDULERS[plan.partition.scheduler].ARRAY
    return sheet("array.sh.j2").render(**words, directives=directives, index=index, directories=map(str, directories))


def facts(plan: Plan, source: Rendering) -> dict[str, Any]:
    """What the templates of a job script know."""
    benchmark, site, partition = plan.benchmark, plan.site, plan.partition
    directory = source.directory
    stages = []
    texts = commands(plan)
    for stage in benchmark.stages:
        text, outputs = texts[stage.name]
        more = {"record": json.dumps(text), "launcher": launcher(plan, stage.ranks, stage.threads) if stage.ranks else []}
        stages.append({**stage.model_dump(), "command": text, "outputs": outputs, **more})
    problem = SCHEDULERS[partition.scheduler].problem(directory)
    if problem:
        raise KitError(f"{directory!r}: {problem}; make the runs elsewhere (--runs)")
    container = RUNTIMES[site.container.runtime].command(
        plan.image,
        bound(plan, source),
        variables(plan),
        site.container.args,
        directory,
        source.machine,
        gpus=plan.placement.gpus > 0,
    )
    return dict(
        benchmark=benchmark,
        functions=called_functions(benchmark),
        challenge=plan.request.challenge,
        tuning=plan.request.tuning.lines if plan.request.tuning else [],
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
        single=single(plan),
        dropped=[*DROPPED, *site.container.drop_environment],
        stages=stages,
        minutes=plan.minutes,
        warnings=warnings(benchmark, plan.placement, partition),
        job_name=re.sub(r"[^A-Za-z0-9]", "", f"kit{benchmark.name}")[:15],
        **{**vars(plan.placement), **asked(plan)},
    )


def called_functions(benchmark: Benchmark) -> str:
    """The shell functions of a benchmark, if a stage calls one of them."""
    names = re.findall(r"^(\w+)\(\)", benchmark.functions, re.MULTILINE)
    called = any(
        re.search(rf"\b{name}\b", f"{stage.resume}\n{stage.command}") for stage in benchmark.stages for name in names
    )
    return benchmark.functions.strip() if called else ""


@functools.cache
def sheet(name: str) -> jinja2.Template:
    return environment().get_template(name)
