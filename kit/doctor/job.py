"""A real small job that shows whether a site can run what it will be asked: rendered, submitted and waited for like a run.

Its only stage makes every check and ends well whatever they find (templates/doctor.j2); kit/doctor/judge.py reads what
they left.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

from kit import __version__
from kit.benchmark import Benchmark, Card, Metric, Size, Stage, Variant, benchmark_names, load_benchmark
from kit.core import paths
from kit.core.checksums import MANIFEST, digest, text_digest
from kit.core.errors import KitError
from kit.core.files import read_table, write_atomic, write_json
from kit.core.host import this_machine
from kit.data.generated import data_key
from kit.doctor.outcome import NAME
from kit.images.render import Image, load_image
from kit.placement import SCRATCH_INSIDE
from kit.plan import Plan, Request, placed
from kit.runs import launch
from kit.runs.record import SBOM, Rendering, Run, State, save_run
from kit.script.quoting import environment
from kit.script.render import bound, job_script
from kit.site import Partition, load_site
from kit.site_files import COMMANDS

MINUTES = 10
TRIAL = 64 << 20  # bytes that are written where a run writes
CHECKS = "checks.sh"
STAGE = Stage(name=NAME, command=f"# shellcheck source=/dev/null\n. ./{CHECKS}", outputs=["doctor.jsonl"])
START = "start.json"  # what the login node knew when the job was asked for


def empty(image: Image, nodes: int, ranks: int, threads: int, minutes: int) -> Benchmark:
    """The job as a benchmark, by which it goes the road of a run."""
    nothing = Card(objective="", formula="", score="", dataset="", baseline="")
    failures = Metric(
        name="failed",
        description="checks that failed",
        unit="1",
        direction="lower",
        stage=STAGE.name,
        file="doctor.json",
        label="failed",
    )
    return Benchmark(
        name=NAME,
        title="What a job finds of this site",
        images={image.name: Variant.model_validate({})},
        target="every check passes",
        card=nothing,
        sizes={
            "tiny": Size(description="a few seconds of work", minutes=minutes, ranks=ranks, nodes=nodes, threads=threads)
        },
        stages=[STAGE],
        metrics=[failures],
    )


def chosen(site_name: str, partition: Partition, benchmark: str | None, image: str | None) -> Image:
    """The image to try: the one asked for, else the first that is built and computes on what the partition has."""
    if image is not None:
        return load_image(load_benchmark(benchmark).image(image) if benchmark else image)
    names = [load_benchmark(name).images for name in ([benchmark] if benchmark else benchmark_names())]
    images = [load_image(name) for found in names for name in found]
    images.sort(key=lambda found: (found.device != "cpu") != bool(partition.gpus))
    runtime = load_site(site_name).container.runtime
    problem: KitError | None = None
    for candidate in images:
        try:
            launch.describe_image(candidate, runtime, partition.arch)
            return candidate
        except KitError as error:
            problem = problem or error
    raise problem or KitError("no benchmark has an image")


def plan(
    site_name: str,
    partition_name: str | None = None,
    benchmark: str | None = None,
    image_name: str | None = None,
    nodes: int | None = None,
) -> Plan:
    """The plan of the job: two ranks on one node, one on each of several, with all cores of their nodes where those are
    the job's own; KitError if the partition has no room for that."""
    site = load_site(site_name)
    name, partition = site.partition(partition_name)
    image = chosen(site_name, partition, benchmark, image_name)
    count = nodes or partition.min_nodes
    here = this_machine()
    each = 2 if count == 1 and image.mpi else 1
    if partition.gpu_request == "task" and image.device != "cpu" and partition.gpus:
        each = min(each, partition.gpus)
    cores = partition.usable_cores or here[0]
    threads = max(1, cores // each) if partition.exclusive else 1
    minutes = min(MINUTES, partition.minutes_for(count))
    job = empty(image, count, count * each, threads, minutes)
    request = Request(NAME, "tiny", site_name, name, image.name, nodes=nodes)
    return placed(request, job, image, site, here)


def data_of(benchmark: str | None) -> Path | None:
    """The data of the size tiny, if they were made here."""
    if benchmark is None:
        return None
    found = load_benchmark(benchmark)
    folder = paths.cache() / "data" / f"{benchmark}-tiny-{data_key(found, 'tiny')}"
    return folder if (folder / MANIFEST).is_file() else None


def checks(plan: Plan, source: Rendering, data: Path | None) -> str:
    """The shell of the job's stage."""
    partition, placement, container = plan.partition, plan.placement, plan.site.container
    alone = ["--whole-cores"] if partition.hardware_threads > 1 and not partition.hyperthreads else []
    program = {"apptainer": source.machine.get("program", ""), "host": ""}.get(container.runtime, container.runtime)
    launcher = COMMANDS.get(partition.launcher, partition.launcher)
    scratch = partition.scratch
    variable, _, rest = scratch.removeprefix("$").partition("/")
    return (
        environment()
        .get_template("doctor.j2")
        .render(
            directory=source.directory,
            data=str(data) if data else "",
            version=[program, "--version"] if program else [],
            single=partition.single,
            binds=[f"{mode(str(bind), plan, source)}:{inside(str(bind))}" for bind in bound(plan, source)],
            # Of a folder that only the node knows, bash has to replace the variable.
            scratch_host=f'"${{{variable}:-}}{"/" + rest if rest else ""}"' if scratch.startswith("$") else f"'{scratch}'",
            launcher_version=[launcher, "--version"] if container.mpi == "outside" else [],
            asks_pmi=launcher == "srun" and container.mpi == "outside",
            mpi=bool(plan.image.mpi),
            trial_bytes=TRIAL,
            ranks_command=[
                *("kit-ranks", "--ranks", str(placement.ranks), "--nodes", str(placement.nodes)),
                *("--ranks-per-node", str(placement.ranks_per_node), "--threads", str(placement.threads), *alone),
                *("--gpus", str(placement.gpus), "--bind", "cores" if placement.bind else "none", "--timeout", "60"),
            ],
        )
    )


def mode(bind: str, plan: Plan, source: Rendering) -> str:
    """What a program has to be able to do with a folder: write in that of the run, read data, and what the site says."""
    if bind in (source.directory, plan.partition.scratch) or bind.startswith("$"):
        return "own"
    return "ro" if bind == source.data or bind.endswith(":ro") else "rw"


def inside(bind: str) -> str:
    """Where a container has a folder that it was given."""
    parts = bind.split(":")
    return SCRATCH_INSIDE if bind.startswith("$") else parts[1] if len(parts) > 1 else parts[0]


def prepare(plan: Plan, runs: Path, benchmark: str | None = None) -> Path:
    """Makes the directory of the job, ready to be submitted; returns its path."""
    record, bill = launch.describe_image(plan.image, plan.site.container.runtime, plan.partition.arch)
    created = datetime.now(UTC)
    stamp = f"{created:%Y%m%dT%H%M%S}{created.microsecond // 1000:03d}Z"
    directory = (runs / NAME / f"{plan.site.name}-{plan.partition_name}-{stamp}").absolute()
    data = data_of(benchmark)
    source = launch.rendering(plan, directory, data or paths.make_cached(paths.cache() / "data"))
    shell = checks(plan, source, data)
    script = job_script(plan, source)
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise KitError(f"{directory}: cannot be made: {error.strerror}") from None
    if data:
        files = read_table(data / MANIFEST)
        lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in files.items())
        write_atomic(directory / "data.sums", lines)
    write_json(directory / "benchmark.json", plan.benchmark.model_dump(mode="json"))
    write_json(directory / "site.json", plan.site.model_dump(mode="json"))
    write_atomic(directory / SBOM, bill)
    write_atomic(directory / CHECKS, shell)
    write_atomic(directory / "job.sh", script)
    names = re.findall(r"^check (\w+)", shell, re.MULTILINE)
    before = time.time()
    (directory / "login.clock").touch()
    skew = (directory / "login.clock").stat().st_mtime - before
    write_json(directory / START, {"checks": names, "data": str(data or ""), "ahead": skew})
    save_run(
        directory,
        Run(
            kit=__version__,
            commit=paths.commit(),
            created=created,
            benchmark=NAME,
            size="tiny",
            site=plan.site.name,
            partition=plan.partition_name,
            ranks=plan.placement.ranks,
            threads=plan.placement.threads,
            image=record,
            data=digest(data / MANIFEST) if data else text_digest(""),
            rendering=source,
            script=text_digest(script),
            state=State(name="rendered"),
            scheduler=plan.partition.scheduler,
        ),
    )
    return directory


def script(plan: Plan, directory: Path, data: Path) -> str:
    """The job script and its checks, for `--dry-run`: nothing is written."""
    source = launch.rendering(plan, directory, data)
    return f"{job_script(plan, source)}\n# ---- {CHECKS}\n{checks(plan, source, None)}"
