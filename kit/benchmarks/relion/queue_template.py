"""RELION's own queue: its submission template, written from a site, so that its jobs use the kit's images and launchers.

RELION fills such a template with the numbers of a job and hands it to a command (RELION 3.1 to 5, src/pipeline_jobs.cpp,
saveJobSubmissionScript):

* Every word XXXnameXXX (the folder of the job), XXXoutfileXXX, XXXerrfileXXX, XXXqueueXXX, XXXmpinodesXXX (ranks),
  XXXthreadsXXX, XXXcoresXXX (their product), XXXdedicatedXXX (the least number of cores of a node), XXXnodesXXX (cores /
  dedicated, rounded up) and XXXextra1XXX ... is replaced wherever it stands.
* The line with XXXcommandXXX is repeated for each command of the job. With more than one rank, a command that is no
  `..._mpi` program stands in its place without the rest of that line; so nothing may stand there but the word.
* A command is a program and its options; no mpirun stands before it. RELION_MPIRUN is read for jobs without a queue only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kit import __version__
from kit.benchmark import load_benchmark
from kit.core.errors import KitError
from kit.core.host import this_machine
from kit.images.render import load_image
from kit.placement import Placement
from kit.plan import Plan, Request
from kit.runs import launch
from kit.runs.record import Rendering
from kit.runtimes import RUNTIMES
from kit.schedulers import SCHEDULERS
from kit.script import render
from kit.script.quoting import words
from kit.site import Site

# The command that each scheduler takes a script by, which RELION puts before the name of the script.
SUBMIT = {
    "local": "bash",
    "slurm": "sbatch",
    "pbs": "qsub",
    "lsf": "bsub <",
    "gridengine": "qsub",
    "flux": "flux batch",
    "pjm": "pjsub",
    "cobalt": "qsub --mode script",
}
# Numbers that stand for RELION's words while a script is written: nodes, ranks of a node, threads of a rank. Where two sets
# of them do not give the same text, the scheduler or the launcher calculates with them, which RELION cannot.
STAND_INS = ((80_021, 70_001, 60_013), (80_039, 70_003, 60_017))


def template(
    site: Site, partition: str | None, image_name: str | None, project: Path, threads: int | None, minutes: int | None
) -> tuple[str, list[str]]:
    """The template, and the settings of RELION that go with it as lines of shell, but for the place of the template.

    KitError where the site's scheduler or launcher needs a number that RELION has no word for.
    """
    plans = [planned(site, partition, image_name, numbers, minutes) for numbers in STAND_INS]
    settings = environment_of(plans[0], threads)
    first, second = (filled(plan, project, settings, numbers) for plan, numbers in zip(plans, STAND_INS, strict=True))
    if first != second:
        line = next(a for a, b in zip(first.splitlines(), second.splitlines(), strict=True) if a != b)
        raise KitError(
            f"site {site.name}: {plans[0].partition.scheduler} or {plans[0].partition.launcher} calculates a number for "
            f"which RELION's templates have no word, in the line: {line.strip()}"
        )
    return first, settings


def planned(
    site: Site, partition_name: str | None, image_name: str | None, numbers: tuple[int, int, int], minutes: int | None
) -> Plan:
    """A plan with the stand-ins, and no stages."""
    nodes, per_node, threads = numbers
    name, partition = site.partition(partition_name)
    benchmark = load_benchmark("relion")
    image = load_image(benchmark.image(image_name))
    longest = min([partition.max_minutes, *(limit.minutes for limit in partition.limits)])  # nobody knows the nodes yet
    if minutes is not None and minutes > longest:
        raise KitError(f"--minutes {minutes}: partition {name} of site {site.name} gives at most {longest}")
    if partition.gpu_request == "task" and image.device != "cpu" and partition.gpus:
        raise KitError(
            f"site {site.name}: gpu_request is 'task', a GPU for each rank, and RELION's leader needs none; take a "
            "partition with gpu_request = 'node'"
        )
    here = this_machine()
    cores = partition.usable_cores or here[0]
    layout = Placement(
        nodes=nodes,
        ranks=nodes * per_node,
        ranks_per_node=per_node,
        threads=threads,
        cores=cores,
        gpus=partition.gpus if image.device != "cpu" else 0,
        memory_gb=partition.memory_gb,
        scratch=partition.scratch,
        order=partition.rank_order,
        # Not bound: RELION's users choose ranks and threads for each job, and ranks that do not fit would end it.
    )
    request = Request("relion", site=site.name, partition=name, image=image.name, minutes=minutes or longest)
    queue = partition.model_copy(update={"queue": "XXXqueueXXX"}) if partition.queue else partition
    return Plan(request, benchmark, image, site, name, queue, layout, here)


def environment_of(plan: Plan, threads: int | None) -> list[str]:
    """What RELION reads for its fields, as exports; the defaults fill one node."""
    cores = plan.placement.cores
    each = threads or min(4, cores)
    ranks = max(1, cores // each)
    site = plan.site.partitions[plan.partition_name]
    values = {
        "RELION_QUEUE_USE": "yes",
        "RELION_QSUB_COMMAND": SUBMIT[site.scheduler],
        **({"RELION_QUEUE_NAME": site.queue} if site.queue else {}),
        "RELION_QSUB_NRMPI": str(ranks),
        "RELION_QSUB_NRTHREADS": str(each),
        "RELION_MINIMUM_DEDICATED": str(cores),
        "RELION_QSUB_EXTRA_COUNT": "1",
        "RELION_QSUB_EXTRA1": "Ranks on each node:",
        "RELION_QSUB_EXTRA1_DEFAULT": str(ranks),
    }
    return [f"export {key}={words([value])}" for key, value in values.items()]


def filled(plan: Plan, project: Path, settings: list[str], numbers: tuple[int, int, int]) -> str:
    """The text with RELION's words where the stand-ins were."""
    site, partition, directory = plan.site, plan.partition, str(project)
    if re.search(r"[\"'$`%\\]", directory):
        raise KitError(f"{directory}: RELION's words do not go with quotes, $, % and backslashes in the path of a project")
    problem = SCHEDULERS[partition.scheduler].problem(directory)
    if problem:
        raise KitError(f"{directory!r}: {problem}; move the project")
    runtime = RUNTIMES[site.container.runtime]
    machine = runtime.facts(plan.image)
    source = Rendering(
        command=launch.called(),
        directory=directory,
        data=directory,
        nodes=None,
        ranks=None,
        threads=None,
        gpus=None,
        minutes=plan.minutes,
        cores=plan.here[0],
        memory_gb=0,
        machine=machine,
    )
    binds = list(dict.fromkeys(render.bound(plan, source)))
    container = runtime.command(
        plan.image, binds, render.variables(plan), site.container.args, directory, machine, gpus=plan.placement.gpus > 0
    )
    launcher = render.launcher(plan, plan.placement.ranks)
    facts: dict[str, Any] = {**vars(plan.placement), **render.asked(plan)}
    # Whole nodes, which is what RELION's dedicated cores mean, shared or not.
    memory = plan.placement.memory_gb if partition.memory_request else 0.0
    facts |= {"cores_per_node": plan.placement.cores, "memory_gb": memory}
    text = render.sheet("relion-queue.sh.j2").render(
        site=site,
        image=plan.image,
        partition=partition,
        partition_name=plan.partition_name,
        version=__version__,
        command=source.command,
        settings=settings,
        directory=directory,
        container=container,
        launcher=launcher,
        single=render.single(plan),
        counted=any(str(plan.placement.ranks) in word for word in launcher),
        dropped=[*render.DROPPED, *site.container.drop_environment],
        minutes=plan.minutes,
        job_name="kitrelion",
        **facts,
    )
    return in_relions_words(text, directory, numbers)


def in_relions_words(text: str, directory: str, numbers: tuple[int, int, int]) -> str:
    nodes, per_node, threads = numbers
    said = {
        nodes * per_node * threads: "XXXcoresXXX",
        nodes * per_node: "XXXmpinodesXXX",
        per_node * threads: "XXXdedicatedXXX",
        nodes: "XXXnodesXXX",
        per_node: "XXXextra1XXX",
        threads: "XXXthreadsXXX",
    }
    for number, word in said.items():
        text = re.sub(rf"(?<!\d){number}(?!\d)", word, text)
    return text.replace(f"{directory}/job.out", f"{directory}/XXXoutfileXXX")


def write(text: str, path: Path) -> None:
    """Writes a template as a new file."""
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise KitError(f"{path}: exists; nothing is overwritten. Name another with --to") from None
    except OSError as error:
        raise KitError(f"{path}: cannot be written: {error.strerror}") from None
