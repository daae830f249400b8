"""A trial: a short job that measures choices of ranks, threads and parameters in turn, and goes the road of a run.

Each measurement is a stage, so that a trial that was cut off goes on behind the last one. It may fail, and the job goes on.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from kit import __version__
from kit.benchmark import Benchmark, Card, Metric, Size, Stage, benchmark_names, load_benchmark, names_to_tune
from kit.core import paths
from kit.core.checksums import MANIFEST, digest, text_digest
from kit.core.errors import KitError, unknown
from kit.core.files import read_text, write_atomic, write_json
from kit.core.schema import Model
from kit.data import generated
from kit.placement import Placement, placement
from kit.plan import Plan, Request, key_of, make_plan, placed
from kit.runs import launch
from kit.runs.record import DATA, SBOM, Run, State, directory_name, save_run
from kit.script.render import job_script
from kit.site import load_site
from kit.tune.store import NAME, Choice, Key

FILE = "trial.json"
MINUTES = 60
NODE = Stage(
    name="node",
    command="{ in_image grep -m 1 '^model name' /proc/cpuinfo || in_image uname -m; } >node.txt",
    outputs=["node.txt"],
)
FUNCTIONS = Path(__file__).parent / "measure.sh"


class Measurement(Model):
    stage: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    choice: int = Field(ge=0)  # its place in the list of choices


class Trial(Model):
    """trial.json: what a trial is of, and what it measures in which order. The first choice is the default."""

    key: Key
    choices: list[Choice] = Field(min_length=1)
    order: list[Measurement] = Field(min_length=1)


def possible(choice: Choice, plan: Plan) -> bool:
    """Whether the planner would put a choice on one node of a plan."""
    size = plan.size.model_copy(update={"nodes": 1, "ranks": choice.ranks, "threads": choice.threads})
    try:
        placement(size, plan.partition, plan.site, plan.image.device != "cpu", plan.here, None, plan.minutes)
    except KitError:
        return False
    return True


def chosen(plan: Plan) -> list[Choice]:
    """The default of a plan for one node, and behind it what else is tried."""
    names = [key for key in plan.benchmark.tunable if key in plan.size.parameters]
    placed = plan.placement
    others = plan.benchmark.code.choices(plan.size, placed.cores, placed.gpus)
    known = {key for choice in others for key in choice.parameters} & set(names)
    default = Choice(
        ranks=placed.ranks, threads=placed.threads, parameters={key: int(plan.size.parameters[key]) for key in sorted(known)}
    )
    every = {str(choice): choice for choice in (default, *others)}.values()
    return [choice for choice in every if possible(choice, plan)]


def in_turn(choices: list[Choice], repeats: int) -> list[Measurement]:
    """Every choice once a round, and each second round backwards: what drifts on a node meets all of them."""
    rounds = [list(range(len(choices))) if number % 2 == 0 else list(range(len(choices)))[::-1] for number in range(repeats)]
    order = [choice for one in rounds for choice in one]
    return [Measurement(stage=f"m{number:03d}", choice=choice) for number, choice in enumerate(order, start=1)]


def plan(
    benchmark: str,
    size: str,
    site: str,
    partition: str | None = None,
    image: str | None = None,
    arguments: tuple[str, ...] = (),
    minutes: int | None = None,
    repeats: int = 3,
) -> tuple[Plan, Trial]:
    """The plan of a trial on one node, and what it measures; KitError for a benchmark with nothing to tune."""
    if benchmark in benchmark_names() and benchmark not in names_to_tune():
        raise unknown("benchmark with something to tune", benchmark, names_to_tune())
    name, found = load_site(site).partition(partition)
    if found.min_nodes > 1:
        raise KitError(
            f"site {site}: kit tune measures one node, and partition {name} takes jobs of {found.min_nodes} nodes or more; "
            "--partition names another"
        )
    asked = Request(benchmark, size, site, partition, image, arguments, nodes=1, minutes=minutes or MINUTES)
    default = make_plan(asked)
    trial = Trial(key=key_of(asked), choices=chosen(default), order=in_turn(chosen(default), repeats))
    room = most(trial.choices, default.placement)
    nothing = Card(objective="", formula="", score="", dataset="", baseline="")
    count = Metric(name="measured", description="", unit="1", direction="none", stage=NODE.name, file=FILE, label="measured")
    command, choices = default.benchmark.code.trial_command, list(enumerate(trial.choices))
    functions = [f"# {one}\nchoice_{place}() {{\n    {command(one, default)}\n}}\n" for place, one in choices]
    stages = [
        Stage(
            name=entry.stage,
            command=f"measure {entry.choice}",
            outputs=[f"trial/{entry.stage}.json"],
            note=str(trial.choices[entry.choice]),
            ranks=trial.choices[entry.choice].ranks,
            threads=trial.choices[entry.choice].threads,
        )
        for entry in trial.order
    ]
    job = Benchmark(
        name=NAME,
        title=f"What divides a node best: a trial for {benchmark}",
        images={default.image.name: default.benchmark.variant(default.image.name)},
        target="the fastest choice is known",
        functions="\n".join([read_text(FUNCTIONS), *functions]),
        card=nothing,
        sizes={size: Size(description="", minutes=default.minutes, nodes=1, ranks=room.ranks, threads=room.threads)},
        stages=[NODE, *stages],
        metrics=[count],
    )
    request = Request(NAME, size, site, default.partition_name, default.image.name, arguments, minutes=default.minutes)
    return placed(request, job, default.image, default.site, default.here), trial


def most(choices: list[Choice], placed: Placement) -> Choice:
    """What the scheduler is asked to have room for: the most ranks of a choice, and the cores of any.

    On a node that others use too, 23 ranks alone would leave 3 ranks of 8 threads a core short.
    """
    largest = max(choices, key=lambda choice: (choice.ranks, choice.threads))
    if placed.gpus:  # so many ranks for each
        return largest
    cores = min(placed.cores, max(choice.ranks * choice.threads for choice in choices))
    return Choice(ranks=max(largest.ranks, cores), threads=1)


def data_benchmark(trial: Trial) -> Benchmark:
    """The benchmark of a trial with one more size, of which the data of the trial are made."""
    benchmark = load_benchmark(trial.key.benchmark)
    parameters = dict(benchmark.code.trial_parameters(benchmark.size(trial.key.size).parameters))
    size = Size(description="", minutes=1, nodes=1, ranks=1, threads=1, parameters=parameters)
    return benchmark.model_copy(update={"sizes": {**benchmark.sizes, NAME: size}})


def prepare(plan: Plan, trial: Trial, runs: Path, amount: int | None = None) -> Path:
    """Makes the directory of a trial, ready to be submitted; returns its path. `amount` is the work that it is given."""
    record, bill = launch.describe_image(plan.image, plan.site.container.runtime, plan.partition.arch)
    benchmark = data_benchmark(trial)
    folder = generated.make(benchmark, NAME)
    created = datetime.now(UTC)
    directory = (runs / NAME / directory_name(f"{benchmark.name}-{plan.size_name}", plan.site.name, created)).absolute()
    source = launch.rendering(plan, directory, folder)
    script = job_script(plan, source)
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise KitError(f"{directory}: cannot be made: {error.strerror}") from None
    (directory / "data").symlink_to(folder)
    shutil.copyfile(folder / MANIFEST, directory / DATA)
    benchmark.code.trial_files(folder, directory, amount or benchmark.code.TUNED * max(2, trial.key.cores))
    write_json(directory / FILE, trial.model_dump(mode="json"))
    write_json(directory / "benchmark.json", plan.benchmark.model_dump(mode="json"))
    write_json(directory / "site.json", plan.site.model_dump(mode="json"))
    write_atomic(directory / SBOM, bill)
    write_atomic(directory / "job.sh", script)
    save_run(
        directory,
        Run(
            kit=__version__,
            commit=paths.commit(),
            created=created,
            benchmark=NAME,
            size=plan.size_name,
            site=plan.site.name,
            partition=plan.partition_name,
            ranks=plan.placement.ranks,
            threads=plan.placement.threads,
            image=record,
            data=digest(directory / DATA),
            rendering=source,
            script=text_digest(script),
            state=State(name="rendered"),
            scheduler=plan.partition.scheduler,
        ),
    )
    return directory


def script(plan: Plan, directory: Path, data: Path) -> str:
    """The job script, for `--dry-run`: nothing is written."""
    return job_script(plan, launch.rendering(plan, directory, data))
