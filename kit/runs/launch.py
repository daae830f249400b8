"""From a plan to a run directory, and from there to a running job."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from kit import __version__
from kit.benchmark import load_benchmark
from kit.core import paths
from kit.core.checksums import MANIFEST, digest, text_digest
from kit.core.errors import KitError
from kit.core.files import write_atomic, write_json
from kit.data import generated
from kit.data.isolated import PACK
from kit.images.built import Built
from kit.images.render import Image
from kit.images.sbom import sbom
from kit.placement import warnings
from kit.plan import Plan, plan_of
from kit.runs.record import SBOM, ImageRecord, Rendering, Run, State, directory_name, load_run, save_run
from kit.runs.states import become, current_state
from kit.runtimes import RUNTIMES
from kit.schedulers import SCHEDULERS
from kit.script.quoting import words
from kit.script.render import rendered

DRY = (Path("/RUN"), Path("/DATA"))  # placeholders for the run directory and the data in a script that is only printed


def describe_image(image: Image, runtime: str) -> tuple[ImageRecord, str]:
    """The image that is about to run, by digest, and its SBOM; KitError when it is not built."""
    address, bill = "", "{}"
    if runtime != "host":  # outside a container there is nothing to describe, and the run cannot become valid
        built = Built(image, "docker" if runtime == "docker" else "sif")
        address, bill = built.digest, sbom(built)
    record = ImageRecord(
        name=image.name,
        version=image.source.VERSION,
        arguments=image.arguments,
        runtime=runtime,
        digest=address,
        recipe=image.recipe_digest,
        sbom=text_digest(bill),
    )
    return record, bill


def script(plan: Plan, directory: Path, data: Path) -> str:
    """The job script of a plan, for `--dry-run`: nothing is written."""
    source = rendering(plan, directory, data)
    if not plan.size.workflow:
        return rendered(plan, source, directory)[1]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / directory.name
        place.mkdir()
        return rendered(plan, source, place)[1]


def rendering(plan: Plan, directory: Path, data: Path) -> Rendering:
    """The facts of this machine and this command that a job script depends on."""
    cores, memory_gb = plan.here
    return Rendering(
        command=called(),
        directory=str(directory),
        data=str(data),
        nodes=plan.request.nodes,
        ranks=plan.request.ranks,
        threads=plan.request.threads,
        gpus=plan.request.gpus,
        minutes=plan.request.minutes,
        cores=cores,
        memory_gb=memory_gb,
        machine=RUNTIMES[plan.site.container.runtime].facts(plan.image),
    )


def called() -> str:
    """The command line of this process, for the header of the script."""
    return f"kit {words(sys.argv[1:])}"


def prepare(plan: Plan, runs: Path) -> Path:
    """Makes a new run directory below `runs`, ready to be submitted; returns its path."""
    image_record, bill = describe_image(plan.image, plan.site.container.runtime)
    created = datetime.now(UTC)
    isolated = plan.request.isolated
    # Whatever the seed of the run, the data are the same.
    folder = isolated.absolute() if isolated else generated.make(load_benchmark(plan.benchmark.name), plan.size_name)
    directory = (runs / plan.benchmark.name / directory_name(plan.work, plan.site.name, created)).absolute()
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise KitError(f"{directory}: cannot be made: {error.strerror}") from None
    source = rendering(plan, directory, folder)
    try:
        plan, text = rendered(plan, source, directory)
    except BaseException:
        shutil.rmtree(directory)  # nothing ran in it
        raise
    (directory / "data").symlink_to(folder)
    if isolated:
        shutil.copyfile(isolated / PACK, directory / PACK)
    write_json(directory / "benchmark.json", plan.benchmark.model_dump(mode="json"))
    write_json(directory / "site.json", plan.site.model_dump(mode="json"))
    write_atomic(directory / SBOM, bill)
    write_atomic(directory / "job.sh", text)
    save_run(
        directory,
        Run(
            kit=__version__,
            commit=paths.commit(),
            created=created,
            benchmark=plan.benchmark.name,
            size=plan.size_name,
            isolated=plan.pack.stage if plan.pack else "",
            scaling=sorted(set(plan.request.scaling)),
            site=plan.site.name,
            partition=plan.partition_name,
            ranks=plan.placement.ranks,
            threads=plan.placement.threads,
            seed=plan.seed,
            image=image_record,
            data=digest(folder / MANIFEST),  # every file has been verified against it
            rendering=source,
            script=text_digest(text),
            state=State(name="rendered"),
            scheduler=plan.partition.scheduler,
        ),
    )
    return directory


def warnings_of(directory: Path) -> list[str]:
    """Warnings about a run that is about to start."""
    plan = plan_of(directory)
    return warnings(plan.benchmark, plan.placement)


def submit(directory: Path) -> Run:
    """Submits the job script of a run; KitError if its job is still running."""
    run = load_run(directory)
    if run.job:
        state = current_state(directory, run)
        if state.name in ("submitted", "running"):
            raise KitError(f"{directory}: its job {run.job} is still {state.name}; wait, or end it with kit cancel")
        # By its record, too: a run whose stages.jsonl somebody removed has finished all the same.
        if {state.name, run.state.name} & {"finished", "valid"}:
            raise KitError(f"{directory}: the run has finished; collect it with kit collect, or start a new one")
        run = become(run, state)  # run.json may be older: nobody watched the job end
    script = directory / "job.sh"
    if digest(script) != run.script:
        raise KitError(f"{script}: changed since it was rendered; its results could not be trusted. Start a new run")
    job = SCHEDULERS[run.scheduler].submit(script)
    run = become(run.model_copy(update={"job": job}), State(name="submitted"))
    save_run(directory, run)
    return run


def wait(directory: Path, progress: Callable[[State], None]) -> State:
    """Waits until a run's job ends, and reports every change to `progress`. Ctrl-C ends the job; it can be resumed.

    Meanwhile another kit may resume the run, or judge it: its record is read anew each time, and never put back.
    """
    try:
        while True:
            run = load_run(directory)
            state = current_state(directory, run)
            progress(state)
            if state.name not in ("submitted", "running"):
                break
            time.sleep(1 if run.scheduler == "local" else 5)
    except KeyboardInterrupt:
        cancel(directory)
        raise
    save_run(directory, become(run, state))
    return state


def cancel(directory: Path) -> State:
    """Ends the job of a run and returns the state it leaves: `failed: interrupted`, from which it can be resumed.

    A job that does not end within half a minute stays what it is, and the record with it.
    """
    run = load_run(directory)
    if not run.job:
        raise KitError(f"{directory}: has no job to end, it was never launched")
    SCHEDULERS[run.scheduler].cancel(run.job)
    for _ in range(300):
        if SCHEDULERS[run.scheduler].states([run.job])[run.job].state == "gone":
            break
        time.sleep(0.1)
    run = load_run(directory)  # whoever waited for the job may have written it
    state = current_state(directory, run)
    if state.name in ("submitted", "running"):
        return state
    if state.name == "incomplete":  # between two stages, or before the first
        state = State(name="failed", stage=state.stage, exit_code=130, reason="interrupted")
    save_run(directory, become(run, state))
    return state


def runs_folder() -> Path:
    return Path(os.environ.get("KIT_RUNS", "runs"))
