"""From a plan to a run directory, and from there to a running job."""

from __future__ import annotations

import functools
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kit import __version__
from kit.benchmark import Benchmark, load_benchmark
from kit.core import paths
from kit.core.checksums import MANIFEST, digest, text_digest
from kit.core.errors import KitError
from kit.core.files import write_atomic, write_json
from kit.data import generated
from kit.data.isolated import PACK
from kit.doctor.outcome import NAME
from kit.images.built import Built
from kit.images.render import Image
from kit.images.sbom import sbom
from kit.placement import warnings
from kit.plan import Plan, plan_of
from kit.runs.record import (
    DATA,
    FILE,
    SBOM,
    Glance,
    ImageRecord,
    Rendering,
    Run,
    State,
    directory_name,
    load_run,
    resolved,
    save_run,
)
from kit.runs.states import Unanswered, ask, become, current_state, elsewhere
from kit.runtimes import RUNTIMES
from kit.schedulers import SCHEDULERS, Job
from kit.script.quoting import words
from kit.script.render import array_script, rendered

ARRAY = "array.sh"
PATIENCE = 20  # questions that a scheduler may leave without an answer, one after the other
CANCEL_SECONDS = 30
DRY = (Path("/RUN"), Path("/DATA"))  # placeholders for the run directory and the data in a script that is only printed


def describe_image(image: Image, runtime: str, arch: str) -> tuple[ImageRecord, str]:
    """The image that is about to run, by digest, and its SBOM; KitError when it is not built, or for other processors."""
    address, bill = "", "{}"
    if runtime != "host":  # outside a container there is nothing to describe, and the run cannot become valid
        built = Built(image, "docker" if runtime == "docker" else "sif")
        if built.arch != arch:
            raise KitError(
                f"image {image.name}: is built for {built.arch}, and the nodes of this partition are {arch} (key 'arch'); "
                "build it on a machine like them: kit image build"
            )
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
        parameters=plan.changed,
        cores=cores,
        memory_gb=memory_gb,
        machine=RUNTIMES[plan.site.container.runtime].facts(plan.image),
        tuning=plan.request.tuning,
    )


def called() -> str:
    """The command line of this process, for the header of the script."""
    return f"kit {words(sys.argv[1:])}"


def prepare(plan: Plan, runs: Path) -> Path:
    """Makes a new run directory below `runs`, ready to be submitted; returns its path."""
    image_record, bill = describe_image(plan.image, plan.site.container.runtime, plan.partition.arch)
    created, commit = datetime.now(UTC), paths.commit()
    isolated = plan.request.isolated
    folder = isolated.absolute() if isolated else generated.make(data_benchmark(plan), plan.size_name)
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
    shutil.copyfile(folder / MANIFEST, directory / DATA)
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
            commit=commit,
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
            challenge=plan.request.challenge,
            image=image_record,
            data=digest(directory / DATA),  # every file has been verified against it
            rendering=source,
            script=text_digest(text),
            state=State(name="rendered"),
            scheduler=plan.partition.scheduler,
        ),
    )
    return directory


def data_benchmark(plan: Plan) -> Benchmark:
    """The benchmark that the data are made of: whatever the seed of the run, they are the same, but for a challenge."""
    return load_benchmark(plan.benchmark.name).challenged(plan.size_name, plan.request.challenge)


def warnings_of(directory: Path) -> list[str]:
    """Warnings about a run that is about to start."""
    plan = plan_of(directory)
    return warnings(plan.benchmark, plan.placement, plan.partition)


def submit(directory: Path, jobs: int = 1) -> Run:
    """Submits the job script of a run; KitError if its job is still running, or was.

    With several `jobs` each starts when the one before has ended, however that ended: stages that are done are skipped, so
    a run that needs longer than a job may take goes on in the next.
    """
    run = ready(directory, jobs)
    scheduler = SCHEDULERS[run.scheduler]
    ids: list[str] = []
    try:
        for _ in range(jobs):
            ids.append(scheduler.submit(directory / "job.sh", after=ids[-1] if ids else ""))
    finally:  # what was submitted stands in the record, even if the next was refused
        if ids:
            run = submitted(directory, run, ids)
    return run


def check_jobs(plan: Plan, jobs: int) -> None:
    """KitError for a chain of jobs where a job has no limit."""
    if jobs > 1 and plan.partition.scheduler == "local":
        raise KitError(
            f"site {plan.site.name}: --jobs {jobs}: without a scheduler a job has no limit that another would go beyond"
        )


def submit_all(directories: Sequence[Path], jobs: int = 1) -> list[Run]:
    """Submits the job scripts of several runs that one command made: as arrays of jobs where the site allows it."""
    if len(directories) > 1 and jobs == 1:
        plan = plan_of(directories[0])
        most = plan.partition.max_jobs_in_array
        if most > 1 and SCHEDULERS[plan.partition.scheduler].ARRAY:
            parts = [directories[place : place + most] for place in range(0, len(directories), most)]
            return [run for part in parts for run in (submit_array(plan, part) if part[1:] else [submit(part[0])])]
    return [submit(directory, jobs) for directory in directories]


def submit_array(plan: Plan, directories: Sequence[Path]) -> list[Run]:
    """Submits runs, of which `plan` is that of one, as one array of jobs, by a script in a folder beside them."""
    runs = [ready(directory) for directory in directories]
    folder = directories[0].with_name(f"array-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
    folder.mkdir()
    source = runs[0].rendering
    assert source  # this kit has rendered them
    script = folder / ARRAY
    write_atomic(script, array_script(plan, source.model_copy(update={"directory": str(folder)}), directories))
    scheduler = SCHEDULERS[plan.partition.scheduler]
    job = scheduler.submit(script, tasks=len(directories))
    ids = [scheduler.task(job, number) for number in range(1, len(directories) + 1)]
    return [submitted(directory, run, [own]) for directory, run, own in zip(directories, runs, ids, strict=True)]


def known(directory: Path, run: Run) -> None:
    """KitError where a record does not say which scheduler has the job."""
    if run.scheduler not in SCHEDULERS:
        raise KitError(f"{directory / FILE}: key 'scheduler' is empty; its job can neither be asked for nor ended")


def ready(directory: Path, jobs: int = 1) -> Run:
    """A run that can be submitted; KitError otherwise."""
    run = load_run(directory)
    known(directory, run)
    resolved(directory)[1].partition(run.partition)  # before anything is submitted that could not be watched or judged
    if run.benchmark != NAME and not (directory / "data").exists():
        raise KitError(f"{directory / 'data'}: leads to no data; put them back, or start a new run")
    if jobs > 1 and run.scheduler == "local":
        raise KitError(f"{directory}: --jobs {jobs}: without a scheduler a job has no limit that another would go beyond")
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
    return run


def submitted(directory: Path, run: Run, ids: list[str]) -> Run:
    """Writes down the jobs of a run."""
    jobs = {"job": ids[0], "further": ids[1:], "host": platform.node()}
    run = become(run.model_copy(update=jobs), State(name="submitted"))
    save_run(directory, run)
    return run


def poll_seconds(directory: Path, run: Run | Glance) -> float:
    """How long to wait before the scheduler of a run is asked again, which the site says."""
    return 1.0 if run.scheduler == "local" else allowed_pause(directory, run.partition)


@functools.lru_cache(maxsize=10_000)
def allowed_pause(directory: Path, partition: str) -> float:
    return float(resolved(directory)[1].partition(partition)[1].poll_seconds)


def wait(directory: Path, progress: Callable[[State], None]) -> State:
    """Waits until a run's job ends, and reports every change to `progress`. Ctrl-C ends the job; it can be resumed.

    Meanwhile another kit may resume the run, or judge it: its record is read anew each time, and never put back. A
    scheduler that does not answer is asked again; KitError if it stays so.
    """
    pause = poll_seconds(directory, load_run(directory))
    unanswered = 0
    try:
        while True:
            run = load_run(directory)
            try:
                state = current_state(directory, run)
                unanswered = 0
            except Unanswered:
                unanswered += 1
                if unanswered == PATIENCE:
                    raise
                time.sleep(pause)
                continue
            progress(state)
            if state.name not in ("submitted", "running"):
                break
            time.sleep(pause)
    except KeyboardInterrupt:
        cancel(directory)
        raise
    if run.scheduler == "local":
        until_gone([run], 0.1, 5)  # its last words go into job.out, which a verdict hashes
    now = load_run(directory)
    if now.jobs == run.jobs:  # and nobody has resumed it meanwhile
        save_run(directory, become(now, state))
    return state


def until_gone(runs: Sequence[Run], pause: float, seconds: float) -> None:
    """Waits for the jobs of runs to be gone, but not for ever."""
    left = list(runs)
    for _ in range(round(seconds / pause)):
        answers = zip(left, ask(left), strict=True)
        left = [run for run, answer in answers if not isinstance(answer, Job) or answer.state != "gone"]
        if not left:
            return
        time.sleep(pause)


def cancel(directory: Path) -> State:
    """Ends the job of a run and returns the state it leaves: `failed: interrupted`, from which it can be resumed.

    A job that does not end within half a minute stays what it is, and the record with it.
    """
    (outcome,) = cancel_all([directory]).values()
    if isinstance(outcome, KitError):
        raise outcome
    return outcome


def cancel_all(directories: Sequence[Path]) -> dict[Path, State | KitError]:
    """Ends the jobs of runs, all at once; the states that they leave, or why a job could not be ended."""
    outcomes: dict[Path, State | KitError] = {}
    waiting: dict[Path, Run] = {}
    for directory in directories:
        try:
            run = load_run(directory)
            if not run.job:
                raise KitError(f"{directory}: has no job to end, it was never launched")
            known(directory, run)
            if elsewhere(run):
                raise KitError(f"{directory}: its job {run.job} cannot be ended here: {elsewhere(run)}")
            before = current_state(directory, run)
            if before.name not in ("submitted", "running"):  # nobody interrupts what has ended
                outcomes[directory] = before
                continue
            for job in reversed(run.jobs):  # the last first: none of them may start meanwhile
                SCHEDULERS[run.scheduler].cancel(job)
            waiting[directory] = run
        except KitError as error:
            outcomes[directory] = error
    pause = 0.1 if all(run.scheduler == "local" for run in waiting.values()) else 1.0
    until_gone(list(waiting.values()), pause, CANCEL_SECONDS)
    for directory in waiting:
        try:
            outcomes[directory] = cancelled(directory)
        except KitError as error:
            outcomes[directory] = error
    return {directory: outcomes[directory] for directory in directories}


def cancelled(directory: Path) -> State:
    """The state of a run whose job was cancelled, as far as it has ended."""
    run = load_run(directory)  # whoever waited for the job may have written it
    state = current_state(directory, run)
    if state.name in ("submitted", "running"):
        return state
    if state.name == "incomplete":  # between two stages, or before the first
        state = State(name="failed", stage=state.stage, exit_code=130, reason="interrupted")
    save_run(directory, become(run, state))
    return state
