"""From request to plan: a request becomes a plan in one step, and all later code takes the plan."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kit.benchmark import Benchmark, Size, load_benchmark
from kit.challenge import Challenge
from kit.core.checksums import text_digest
from kit.core.errors import KitError
from kit.core.files import json_text
from kit.core.host import this_machine
from kit.data.isolated import Pack, load_pack
from kit.images.render import Image, load_image
from kit.placement import Placement, placement
from kit.runs.record import Run, load_run, resolved
from kit.site import Partition, Site, load_site
from kit.training import scaling
from kit.tune import store
from kit.tune.store import Key, Tuning


@dataclass(frozen=True)
class Request:
    """What is asked for, in names and numbers. None: the benchmark, its size or the site decides."""

    benchmark: str
    size: str = "tiny"
    site: str = "local"
    partition: str | None = None
    image: str | None = None
    arguments: tuple[str, ...] = ()  # of the image's recipe, as key=value
    nodes: int | None = None
    ranks: int | None = None
    threads: int | None = None
    seed: int | None = None
    parameters: tuple[str, ...] = ()  # of the size, as key=value, in place of its own
    isolated: Path | None = None  # the pack of the one stage that is to run
    scaling: tuple[int, ...] = ()  # numbers of ranks to measure, in place of a run of the benchmark
    epochs: int = 0  # of each point of a scaling run
    gpus: int | None = None  # of a node; None: all that the partition has
    minutes: int | None = None  # of one job; None: what the size needs
    allow_cpu: bool = False  # an image for GPUs where there are none
    challenge: Challenge | None = None  # decides the seeds of generated data and of the stages
    tuning: Tuning | None = None  # the trial that chose ranks, threads and parameters; the script names it


@dataclass(frozen=True)
class Plan:
    """The plan of a request. It does not change; `composed` returns another one, with the stages of a workflow."""

    request: Request
    benchmark: Benchmark  # with what was asked of its size
    image: Image
    site: Site
    partition_name: str
    partition: Partition
    placement: Placement
    here: tuple[int, float]  # cores and gigabytes of memory of the machine that planned
    pack: Pack | None = None

    @property
    def size_name(self) -> str:
        return self.request.size

    @property
    def size(self) -> Size:
        return self.benchmark.size(self.request.size)

    @property
    def seed(self) -> int | None:
        """The random seed of the stages; None if the benchmark has none."""
        return self.size.seed

    @property
    def changed(self) -> dict[str, int | float | str]:
        """The parameters that were asked for in place of the size's, by the key."""
        return {key: self.size.parameters[key] for key, _, _ in (text.partition("=") for text in self.request.parameters)}

    @property
    def lacks_gpus(self) -> bool:
        """Whether the image computes on GPUs and the partition has none: a trial that cannot become a result."""
        return self.image.device != "cpu" and not self.partition.gpus

    @property
    def minutes(self) -> int:
        """What the scheduler is asked for."""
        return self.request.minutes or self.size.minutes

    @property
    def work(self) -> str:
        """What runs: a size, one stage of it, or a scaling measurement."""
        part = self.pack.stage if self.pack else "scaling" if self.request.scaling else ""
        return f"{self.size_name}/{part}" if part else self.size_name

    def composed(self, benchmark: Benchmark) -> Plan:
        return dataclasses.replace(self, benchmark=benchmark)


def make_plan(
    request: Request, site: Site | None = None, pack: Pack | None = None, here: tuple[int, float] | None = None
) -> Plan:
    """The plan of a request. It reads files of the kit and of the user, and writes nothing.

    `site` and `pack` stand in for those that the request names, and `here` for cores and memory (GB) of this machine: a
    check plans the run of another machine. KitError for what is not known, or does not go together.
    """
    benchmark = load_benchmark(request.benchmark).with_placement(
        request.size, nodes=request.nodes, ranks=request.ranks, threads=request.threads
    )
    benchmark = benchmark.with_parameters(request.size, request.parameters)
    if request.challenge and (request.isolated or pack or request.scaling):
        raise KitError("--challenge decides the data of a whole run, not of one stage alone or of a scaling measurement")
    if request.scaling:
        benchmark = scaling.plan(benchmark, request.size, request.scaling, request.epochs)
    if request.challenge and request.seed is not None:
        raise KitError("--challenge decides the random seed, and --seed gives one: only one of them can be")
    benchmark = benchmark.challenged(request.size, request.challenge).with_seed(request.size, request.seed)
    image = load_image(benchmark.image(request.image), request.arguments)
    site = site or load_site(request.site)
    if request.isolated is not None and pack is None:
        pack = fitting_pack(request.isolated, request)
    plan = placed(request, benchmark, image, site, here or this_machine(), pack)
    check_tuning(plan)
    if plan.lacks_gpus and not request.allow_cpu:
        raise KitError(
            f"site {site.name}: image {image.name} computes on GPUs, and the partition {plan.partition_name} has none (key "
            "'gpus'); take another partition or image, or --allow-cpu for a trial that cannot become a result"
        )
    gpus, ranks = plan.placement.gpus, plan.placement.ranks_per_node
    if benchmark.variant(image.name).one_rank_per_gpu and 0 < gpus < ranks:
        raise KitError(
            f"site {site.name}: {ranks} ranks on a node and {gpus} GPU{'s' if gpus > 1 else ''}, but in image {image.name} "
            f"each rank needs its own; --ranks {gpus * plan.placement.nodes}"
        )
    return plan


def placed(
    request: Request, benchmark: Benchmark, image: Image, site: Site, here: tuple[int, float], pack: Pack | None = None
) -> Plan:
    """The plan of what was looked up already; KitError for a partition that is not known, too small, or of another kind."""
    partition_name, partition = site.partition(request.partition)
    family, container = image.mpi, site.container
    if family and container.mpi == "outside" and container.mpi_family not in ("", family):
        raise KitError(
            f"image {image.name}: its MPI is {family}, and that of site {site.name} is {container.mpi_family} (key "
            "'container.mpi_family'): its ranks would not find each other; set 'container.mpi' to 'inside' for one node"
        )
    maker = {"cuda": "nvidia", "rocm": "amd"}.get(image.device)
    if maker and partition.gpus and partition.gpu_vendor != maker:
        raise KitError(
            f"image {image.name}: computes on GPUs of {maker}, and those of site {site.name}, partition {partition_name}, "
            f"are of {partition.gpu_vendor}"
        )
    return Plan(
        request=request,
        benchmark=benchmark,
        image=image,
        site=site,
        partition_name=partition_name,
        partition=partition,
        placement=placement(
            benchmark.size(request.size), partition, site, image.device != "cpu", here, request.gpus, request.minutes
        ),
        here=here,
        pack=pack,
    )


def repeated(request: Request, count: int) -> list[Plan]:
    """The plans of a request that is made `count` times: from the second on each has the next random seed."""
    first = make_plan(request)
    if request.challenge:
        repeats = [request.challenge.model_copy(update={"repeat": number}) for number in range(2, count + 1)]
        return [first, *(make_plan(dataclasses.replace(request, challenge=repeat)) for repeat in repeats)]
    seeds = [(first.seed or 0) + number for number in range(1, count)]
    return [first, *(make_plan(dataclasses.replace(request, seed=seed)) for seed in seeds)]


def swept(request: Request, count: int, sweeps: Iterable[str]) -> list[Plan]:
    """The plans of a request that is made `count` times with each of the values of each `KEY=VALUE,VALUE,...`.

    Several sweeps give every combination. The seeds of the repeats are the same with every value, so that runs can be
    compared pair by pair. Nothing is made unless all of them can be planned.
    """
    choices = []
    for sweep in sweeps:
        key, mark, values = sweep.partition("=")
        given = values.split(",")
        if not mark or not key or not all(given):
            raise KitError(
                f"--sweep {sweep}: a parameter and its values are needed, for example --sweep {key or 'pool'}=3,12,30"
            )
        if len(set(given)) < len(given):
            raise KitError(f"--sweep {sweep}: a value is there twice; --repeat makes several runs of each")
        choices.append([f"{key}={value}" for value in given])
    plans = []
    for chosen in itertools.product(*choices):
        plans += repeated(dataclasses.replace(request, parameters=(*request.parameters, *chosen)), count)
    return plans


def fitting_pack(folder: Path, request: Request) -> Pack:
    """The pack in a folder; KitError when it is damaged, or made of another benchmark or size."""
    pack = load_pack(folder)
    if (pack.benchmark, pack.size) != (request.benchmark, request.size):
        raise KitError(
            f"{folder}: made of a run of {pack.benchmark}, size {pack.size}; run that: "
            f"kit run {pack.benchmark} --size {pack.size} --isolated {folder}"
        )
    return pack


def plan_of(directory: Path, run: Run | None = None) -> Plan:
    """The plan of a run that was rendered: benchmark and site are its own copies, with its stages."""
    run = run or load_run(directory)
    benchmark, site = resolved(directory)
    request = request_of(run)
    here = (run.rendering.cores, run.rendering.memory_gb) if run.rendering else this_machine()
    return placed(request, benchmark, load_image(run.image.name, request.arguments), site, here)


def request_of(run: Run) -> Request:
    """What was asked for, from what a run says of it; not what it was asked to measure of its scaling."""
    source = run.rendering
    return Request(
        benchmark=run.benchmark,
        size=run.size,
        site=run.site,
        partition=run.partition,
        image=run.image.name,
        arguments=tuple(f"{key}={value}" for key, value in run.image.arguments.items()),
        nodes=source.nodes if source else None,
        ranks=source.ranks if source else None,
        threads=source.threads if source else None,
        seed=None if run.challenge else run.seed,
        challenge=run.challenge,
        parameters=tuple(f"{key}={value}" for key, value in source.parameters.items()) if source else (),
        gpus=source.gpus if source else None,
        minutes=source.minutes if source else None,
        tuning=source.tuning if source else None,
    )


def key_of(request: Request) -> Key:
    """What a trial has to be of, to say something of a request."""
    benchmark, site = load_benchmark(request.benchmark), load_site(request.site)
    size = benchmark.size(request.size)
    image = load_image(benchmark.image(request.image), request.arguments)
    name, partition = site.partition(request.partition)
    return Key(
        benchmark=benchmark.name,
        size=request.size,
        numbers=text_digest(json_text(size.model_dump(mode="json", include={"nodes", "ranks", "threads", "parameters"}))),
        image=image.name,
        recipe=image.recipe_digest,
        site=site.name,
        partition=name,
        processor=store.processor_of(site, partition),
        cores=partition.usable_cores or this_machine()[0],
        gpus=partition.gpus if image.device != "cpu" else 0,
    )


def tuned(request: Request, swept: Iterable[str] = ()) -> tuple[Request, str]:
    """The request with what a trial on its site found (kit tune), and what has to be said of that.

    A trial finds ranks, threads and parameters together. If one of them is given, or among the parameters that are `swept`,
    all of it is left to the request.
    """
    key = key_of(request)
    found, why_not = store.find(key)
    if found is None:
        said = {"--site": request.site, "--partition": request.partition, "--image": request.image, "--size": request.size}
        words = " ".join(f"{flag} {value}" for flag, value in said.items() if value)
        return request, why_not and f"{why_not}; kit tune {request.benchmark} {words} measures for this run"
    given = {text.partition("=")[0] for text in (*request.parameters, *swept)} & found.choice.parameters.keys()
    flags = [f"--{key}" for key in ("ranks", "threads", "gpus") if getattr(request, key) is not None] + sorted(given)
    if flags:
        return request, f"the tuning of site {key.site} is not used: {', '.join(flags)} is given"
    if found.kept:
        return dataclasses.replace(request, tuning=found), ""
    nodes = request.nodes or load_benchmark(request.benchmark).size(request.size).nodes
    chosen = dataclasses.replace(
        request,
        tuning=found,
        ranks=found.choice.ranks_on(nodes),
        threads=found.choice.threads,
        parameters=(*request.parameters, *(f"{key}={value}" for key, value in found.choice.parameters.items())),
    )
    return chosen, f"tuned for site {key.site}: {found.choice} on a node (kit tune); --no-tuning leaves it to the size"


def check_tuning(plan: Plan) -> None:
    """KitError for a tuning whose choice is not what runs: the script would tell of another."""
    tuning, placed = plan.request.tuning, plan.placement
    if tuning is None:
        return
    parameters = {key: plan.size.parameters.get(key) for key in tuning.choice.parameters}
    # A default that is kept has the ranks that the size says, on however many nodes.
    ranks = placed.ranks if tuning.kept and placed.nodes > 1 else tuning.choice.ranks_on(placed.nodes)
    runs = (placed.ranks, placed.threads, parameters)
    if runs != (ranks, tuning.choice.threads, tuning.choice.parameters):
        raise KitError(f"key 'tuning': its choice is {tuning.choice}, and that is not what this run has")
