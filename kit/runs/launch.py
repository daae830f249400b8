"""From a benchmark, a size and a site to a run directory, and from there to a running job."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kit import __version__
from kit.data import generated
from kit.data.isolated import PACK, Pack, load_pack
from kit.core import paths
from kit.training import scaling
from kit.benchmark import Benchmark, load_benchmark
from kit.core.errors import KitError
from kit.images.built import Built
from kit.images.render import Image, load_image
from kit.core.checksums import sha256
from kit.core.checksums import MANIFEST
from kit.core.files import write_atomic, write_json
from kit.script.layout import layout, memory_here, on_gpus
from kit.script.render import rendered
from kit.script.quoting import words
from kit.script.layout import warnings as render_warnings
from kit.runs.record import SBOM, ImageRecord, Rendering, Run, State, directory_name, load_run, resolved, save_run
from kit.runs.states import current_state, with_state
from kit.runtimes import RUNTIMES
from kit.images.sbom import sbom
from kit.schedulers import SCHEDULERS
from kit.site import Site, load_site


def describe_image(image: Image, runtime: str) -> tuple[ImageRecord, str]:
    """The image that is about to run, by digest, and its SBOM; KitError when it is not built."""
    digest, bill = "", "{}"
    if runtime != "host":  # outside a container there is nothing to describe, and the run cannot become valid
        built = Built(image, "docker" if runtime == "docker" else "sif")
        digest, bill = built.digest, sbom(built)
    record = ImageRecord(
        name=image.name,
        version=image.source.VERSION,
        arguments=image.arguments,
        runtime=runtime,
        digest=digest,
        recipe=f"sha256:{image.hash}",
        sbom=f"sha256:{hashlib.sha256(bill.encode()).hexdigest()}",
    )
    return record, bill


def render(
    benchmark_name: str,
    size_name: str,
    site_name: str,
    partition_name: str | None,
    directory: Path,
    data_folder: Path,
    image: Image | None = None,
    seed: int | None = None,
    isolated: Path | None = None,
    changes: Mapping[str, int | None] | None = None,
    scale: tuple[Sequence[int], int] | None = None,
) -> str:
    """The job script, without leaving anything: what `--dry-run` prints."""
    benchmark, site = asked(benchmark_name, size_name, changes, scale).with_seed(size_name, seed), load_site(site_name)
    image = image or load_image(benchmark.image(None))
    source = rendering(image, site, directory, data_folder, changes or {})
    pack = packed(benchmark.name, size_name, isolated)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / directory.name
        place.mkdir()
        return rendered(benchmark, size_name, image, site, partition_name, source, place, pack)[2]


def asked(
    benchmark_name: str,
    size_name: str,
    changes: Mapping[str, int | None] | None = None,
    scale: tuple[Sequence[int], int] | None = None,
) -> Benchmark:
    """The benchmark with what is asked of a size, before its stages are known."""
    benchmark = load_benchmark(benchmark_name).with_layout(size_name, **(changes or {}))
    return scaling.plan(benchmark, size_name, *scale) if scale else benchmark


def rendering(image: Image, site: Site, directory: Path, data_folder: Path, changes: Mapping[str, int | None]) -> Rendering:
    """What this machine and this command give to a job script."""
    return Rendering(
        command=called(),
        directory=str(directory),
        data=str(data_folder),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=memory_here(),
        machine=RUNTIMES[site.container.runtime].facts(image),
        **changes,
    )


def called() -> str:
    """The command that this is, for the head of what it writes."""
    return f"kit {words(sys.argv[1:])}"


def prepare(
    benchmark_name: str,
    size_name: str,
    site_name: str,
    partition_name: str | None,
    runs: Path,
    image: Image | None = None,
    seed: int | None = None,
    isolated: Path | None = None,
    changes: Mapping[str, int | None] | None = None,
    scale: tuple[Sequence[int], int] | None = None,
) -> Path:
    """Makes a new run directory with everything in it but the run; returns its path.

    With `isolated`, the folder of a pack, it is a run of the one stage that the pack is made for. `changes` replace nodes,
    ranks or threads of the size. With `scale`, numbers of ranks and of epochs, it measures how the benchmark scales.
    """
    benchmark, site = asked(benchmark_name, size_name, changes, scale), load_site(site_name)
    image = image or load_image(benchmark.image(None))
    name, partition = site.partition(partition_name)
    layout(benchmark.size(size_name), partition, site, on_gpus(benchmark, image.name))  # refused before data are made
    image_record, bill = describe_image(image, site.container.runtime)
    created = datetime.now(UTC)
    pack = packed(benchmark.name, size_name, isolated)
    # Whatever the seed of the run, the data are the same.
    folder = isolated.absolute() if isolated else generated.make(benchmark, size_name)
    benchmark = benchmark.with_seed(size_name, seed)
    part = pack.stage if pack else "scaling" if scale else ""
    work = f"{size_name}/{part}" if part else size_name
    directory = (runs / benchmark.name / directory_name(work, site.name, created)).absolute()
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise KitError(f"{directory}: cannot be made: {error.strerror}") from None
    source = rendering(image, site, directory, folder, changes or {})
    try:
        benchmark, plan, script = rendered(benchmark, size_name, image, site, partition_name, source, directory, pack)
    except BaseException:
        shutil.rmtree(directory)  # nothing ran in it
        raise
    (directory / "data").symlink_to(folder)
    if isolated:
        shutil.copyfile(isolated / PACK, directory / PACK)
    write_json(directory / "benchmark.json", benchmark.model_dump(mode="json"))
    write_json(directory / "site.json", site.model_dump(mode="json"))
    write_atomic(directory / SBOM, bill)
    write_atomic(directory / "job.sh", script)
    save_run(
        directory,
        Run(
            kit=__version__,
            commit=paths.commit(),
            created=created,
            benchmark=benchmark.name,
            size=size_name,
            alone=pack.stage if pack else "",
            scaling=sorted(set(scale[0])) if scale else [],
            site=site.name,
            partition=name,
            ranks=plan.ranks,
            threads=plan.threads,
            seed=benchmark.size(size_name).seed,
            image=image_record,
            data=f"sha256:{sha256(folder / MANIFEST)}",  # every file has been verified against it
            rendering=source,
            script=f"sha256:{hashlib.sha256(script.encode()).hexdigest()}",
            state=State(name="rendered"),
            scheduler=partition.scheduler,
        ),
    )
    return directory


def warnings(directory: Path) -> list[str]:
    """What speaks against a run that is about to start, and does not forbid it."""
    run, (benchmark, site) = load_run(directory), resolved(directory)
    plan = layout(benchmark.size(run.size), site.partition(run.partition)[1], site, on_gpus(benchmark, run.image.name))
    return render_warnings(benchmark, plan)


def packed(benchmark_name: str, size_name: str, folder: Path | None) -> Pack | None:
    """The pack in a folder; KitError when it is damaged, or made of another benchmark or size."""
    if folder is None:
        return None
    pack = load_pack(folder)
    if (pack.benchmark, pack.size) != (benchmark_name, size_name):
        raise KitError(
            f"{folder}: made of a run of {pack.benchmark}, size {pack.size}; run that: "
            f"kit run {pack.benchmark} --size {pack.size} --isolated {folder}"
        )
    return pack


def submit(directory: Path) -> Run:
    """Hands the job script of a run over to its scheduler; a run that is going is not started twice."""
    run = load_run(directory)
    if run.job:
        state = current_state(directory, run)
        if state.name in ("submitted", "running"):
            raise KitError(f"{directory}: its job {run.job} is still {state.name}; wait, or end it with kit cancel")
        if state.name in ("finished", "valid"):
            raise KitError(f"{directory}: the run has finished; collect it with kit collect, or start a new one")
    script = directory / "job.sh"
    if f"sha256:{sha256(script)}" != run.script:
        raise KitError(f"{script}: changed since it was rendered; its results could not be trusted. Start a new run")
    job = SCHEDULERS[run.scheduler].submit(script)
    run = with_state(run.model_copy(update={"job": job}), "submitted")
    save_run(directory, run)
    return run


def wait(directory: Path, progress: Callable[[State], None]) -> State:
    """Waits for a run's job to end, telling `progress` of every change; Ctrl-C ends the job and leaves it resumable."""
    run = load_run(directory)
    try:
        while True:
            state = current_state(directory, run)
            progress(state)
            if state.name not in ("submitted", "running"):
                break
            time.sleep(1 if run.scheduler == "local" else 5)
    except KeyboardInterrupt:
        cancel(directory)
        raise
    save_run(directory, run.model_copy(update={"state": state}))
    return state


def cancel(directory: Path) -> State:
    """Ends the job of a run and returns the state it leaves: `failed: interrupted`, from which it can be resumed."""
    run = load_run(directory)
    if not run.job:
        raise KitError(f"{directory}: has no job to end, it was never launched")
    SCHEDULERS[run.scheduler].cancel(run.job)
    for _ in range(300):
        if SCHEDULERS[run.scheduler].state(run.job) == "gone":
            break
        time.sleep(0.1)
    state = current_state(directory, run)
    if state.name == "incomplete":  # between two stages, or before the first
        state = State(name="failed", stage=state.stage, exit_code=130, reason="interrupted")
    save_run(directory, run.model_copy(update={"state": state}))
    return state


def runs_folder() -> Path:
    return Path(os.environ.get("KIT_RUNS", "runs"))
