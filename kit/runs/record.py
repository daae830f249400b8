"""Runs: the directory of one run, and run.json, its record."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from kit.benchmark import RANKS, Benchmark, shown_unit
from kit.challenge import Challenge
from kit.core.errors import KitError
from kit.core.files import open_plain, plain_file, read_json, write_json
from kit.core.schema import Digest, Model, Name, OneLine, parse
from kit.schedulers import SCHEDULERS
from kit.site import Site
from kit.tune.store import Tuning

# In the order of the road. Only `valid` is a result.
StateName = Literal["rendered", "submitted", "running", "failed", "incomplete", "finished", "valid"]

FILE = "run.json"
STAGES = "stages.jsonl"
SBOM = "sbom.cdx.json"
DATA = "data.json"  # the manifest of its data: every file with its size and checksum


# A path of a file inside a run, without hidden or parent folders.
STEP = "[A-Za-z0-9_+][A-Za-z0-9_.+-]*"
RunFile = Annotated[str, StringConstraints(pattern=f"^{STEP}(/{STEP})*$", max_length=250)]


def in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


class State(Model):
    """The state of a run. A failure names the stage, the exit code and the reason."""

    name: StateName
    stage: str = ""
    exit_code: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        if not self.reason:
            return self.name
        return f"{self.name}: {f'stage {self.stage}: ' if self.stage else ''}{self.reason}"


class Rendering(Model):
    """What a job script is rendered from, besides benchmark, size, image, site and seed.

    With it the same kit writes the same script on any machine, so that a check can compare them byte by byte.
    """

    command: OneLine  # that asked for it
    directory: str  # of the run
    data: str  # the folder that is bound into the containers
    nodes: int | None = Field(None, ge=1, le=1_000_000)  # asked for in place of the size's, like the next two
    ranks: int | None = Field(None, ge=0, le=1_000_000)
    threads: int | None = Field(None, ge=1, le=100_000)
    gpus: int | None = Field(None, ge=0, le=1000)
    minutes: int | None = Field(None, ge=1, le=1_000_000)
    parameters: dict[Name, int | float | OneLine] = {}  # of the size, in place of its own
    cores: int = Field(ge=1, le=100_000)  # of the machine that rendered it, and its memory: for a site that does not say
    memory_gb: float = Field(ge=0, le=1e6)
    machine: dict[str, str] = {}  # the facts of the container runtime
    tuning: Tuning | None = None  # the trial that chose ranks, threads and parameters

    @model_serializer(mode="wrap")
    def without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run without a tuning is written as by kits that know of none, which are asked to render it again."""
        found: dict[str, Any] = handler(self)
        if found.get("tuning") is None:
            found.pop("tuning", None)
        return found


class ImageRecord(Model):
    name: Name
    version: OneLine
    arguments: dict[str, str] = {}
    runtime: str
    digest: Digest | Literal[""]  # of the SIF or the Docker image; empty without a container, and then never valid
    recipe: Digest
    sbom: Digest | Literal[""] = ""  # of sbom.cdx.json


class StageRecord(Model):
    """One attempt at a stage, as the job script wrote it down. Times are seconds since 1970, UTC."""

    name: OneLine
    command: str
    host: OneLine
    start: float = Field(ge=0, allow_inf_nan=False)
    end: float | None = Field(None, ge=0, allow_inf_nan=False)
    exit_code: int | None = Field(None, ge=0, le=255)
    reason: OneLine = ""

    @property
    def timed(self) -> bool:
        """Whether it is work of the benchmark; what looks at the job before is not."""
        return self.name != RANKS

    @property
    def seconds(self) -> float | None:
        return None if self.end is None else self.end - self.start


class Attempt(Protocol):
    """When a stage ran."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float | None: ...


class MetricRecord(Model):
    """A metric as read: its value, and the file of this run it was read from, by hash."""

    name: str
    value: float
    unit: OneLine
    direction: OneLine
    file: RunFile
    label: OneLine
    sha256: OneLine
    at_least: float | None = None
    at_most: float | None = None
    reference: float | None = None
    tolerance: float | None = None
    source: str = ""
    problem: str | None = None

    @property
    def shown_unit(self) -> str:
        return shown_unit(self.unit)


# The id of a job as its scheduler writes it: 123, 123_4, 12[3].server, f1AbC, 1234:5678. It is a word of commands, where
# it cannot pass for an option.
WORD = r"[A-Za-z0-9][A-Za-z0-9_.:\[\]-]{0,99}"
JobId = Annotated[str, StringConstraints(pattern=f"^{WORD}$")]
JobIdOrNone = Annotated[str, StringConstraints(pattern=f"^({WORD})?$")]
PROCESS = re.compile(r"[0-9]{1,10}(:[0-9]{1,20})?")  # of a job without a scheduler


def known_scheduler(value: str) -> str:
    if value and value not in SCHEDULERS:
        raise ValueError(f"one of {', '.join(SCHEDULERS)} is needed")
    return value


SchedulerName = Annotated[str, AfterValidator(known_scheduler)]


class Launched(BaseModel):
    """What was handed over to a scheduler: the jobs of a run."""

    if TYPE_CHECKING:  # each model has them at its own place
        job: str
        further: list[str]
        scheduler: str

    @model_validator(mode="after")
    def fitting(self) -> Self:
        if self.scheduler == "local" and not all(PROCESS.fullmatch(job) for job in self.jobs):
            raise ValueError("without a scheduler a job is the number of a process and its start, as 1234:5678")
        return self

    @property
    def jobs(self) -> list[str]:
        return [self.job, *self.further] if self.job else []


class Run(Launched, Model):
    """run.json: first what is known when the script is rendered, then the job, then its results."""

    schema_version: Literal[1] = 1
    kit: OneLine
    commit: OneLine
    created: Annotated[AwareDatetime, AfterValidator(in_utc)]
    benchmark: Name
    size: Name
    isolated: OneLine = ""  # the one stage that ran, from a pack; empty for the whole of the size
    scaling: list[int] = []  # the numbers of ranks that were measured; empty for a run of the benchmark
    site: Name
    partition: Name
    ranks: int = Field(ge=1, le=1_000_000)
    threads: int = Field(ge=1, le=100_000)
    seed: int | None = None  # of the stages, where the benchmark has one
    challenge: Challenge | None = None  # what decided the seeds of data and stages
    image: ImageRecord
    data: Digest  # of the manifest of the data
    rendering: Rendering | None = None  # of runs that kit 0.1.0 made before it wrote this down
    script: Digest  # of job.sh
    state: State
    job: JobIdOrNone = ""
    further: list[JobId] = []  # jobs that follow it, each after the one before, however that ended
    scheduler: SchedulerName = ""
    host: OneLine = ""  # where the job was handed over; without a scheduler that is where it runs
    stages: list[StageRecord] = []
    metrics: list[MetricRecord] = []
    system: dict[OneLine, OneLine | int | float] = {}
    files: dict[RunFile, Digest] = {}  # sha256 of what the run wrote and a submission carries

    @property
    def changed(self) -> str:
        """The parameters that are not those of the size, as text; empty where all are."""
        return changed_parameters(self.rendering.parameters) if self.rendering else ""

    def untuned(self, benchmark: Benchmark) -> str:
        """Why a run with changed parameters is no result; empty if it may become one.

        A run that computes something else than its size says cannot be held against the others of that size.
        """
        changed = self.rendering.parameters if self.rendering else {}
        other = [f"{key}={value}" for key, value in changed.items() if key not in benchmark.tunable]
        if not other:
            return ""
        may = f"only {', '.join(benchmark.tunable)} may differ" if benchmark.tunable else "none may differ"
        return f"{', '.join(other)} is not what size {self.size} says: a trial, not a result ({may})"

    @property
    def work(self) -> str:
        """What was run: a size, one stage of it, or a scaling measurement."""
        if self.scaling:
            return f"{self.size}/scaling"
        return f"{self.size}/{self.isolated}" if self.isolated else self.size


def changed_parameters(parameters: Mapping[str, int | float | str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def directory_name(work: str, site: str, created: datetime) -> str:
    """The name of a run's directory: what runs, where, and when it was asked for (UTC, to the millisecond)."""
    stamp = f"{created:%Y%m%dT%H%M%S}{created.microsecond // 1000:03d}Z"
    return f"{work.replace('/', '-')}-{site}-{stamp}"


def need_run(directory: Path) -> None:
    """KitError where a directory is none of a run, or not open to this user."""
    if not directory.is_dir():
        raise KitError(f"{directory}: no such run directory")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise KitError(f"{directory}: cannot be read: you have no permission to; its owner can give it (chmod)")
    if not os.path.lexists(directory / FILE):
        raise KitError(f"{directory}: not a run directory, it has no {FILE}")


def load_run(directory: Path) -> Run:
    need_run(directory)
    return parse(Run, read_json(plain_file(directory, FILE)), directory / FILE)


class Span(BaseModel):
    start: float
    end: float | None = None


class Settings(BaseModel):
    parameters: dict[Name, int | float | OneLine] = {}


class Glance(Launched):
    """What a list of many runs says of each: a part of run.json, which reads it in a fifth of the time."""

    benchmark: Name
    size: Name
    site: Name
    partition: Name
    state: State
    job: JobIdOrNone = ""
    further: list[JobId] = []
    scheduler: SchedulerName = ""
    host: OneLine = ""
    stages: list[Span] = []
    rendering: Settings | None = None

    @property
    def changed(self) -> str:
        return changed_parameters(self.rendering.parameters) if self.rendering else ""


def glance(directory: Path) -> Glance:
    """The run in a directory at a glance; KitError as from `load_run`."""
    return parse_text(Glance, directory, FILE)


class Names(BaseModel):
    class Named(BaseModel):
        name: OneLine

    stages: list[Named]


def stage_names(directory: Path) -> list[str]:
    """The stages of a run, in order, from its own benchmark.json."""
    return [stage.name for stage in parse_text(Names, directory, "benchmark.json").stages]


P = TypeVar("P", bound=BaseModel)


def parse_text(model: type[P], directory: Path, name: str) -> P:
    """A part of a JSON file of a run; the whole of the file is parsed, strictly, where that part cannot be."""
    need_run(directory)
    with open_plain(directory, name) as file:
        text = file.read()
    try:
        return model.model_validate_json(text)
    except ValidationError:
        return parse(model, read_json(directory / name), directory / name)


def save_run(directory: Path, run: Run) -> None:
    write_json(directory / FILE, run.model_dump(mode="json"))


def resolved(directory: Path) -> tuple[Benchmark, Site]:
    """Benchmark and site as the run was rendered with, from its own copies and not from today's files."""
    benchmark = parse(Benchmark, read_json(plain_file(directory, "benchmark.json")), directory / "benchmark.json")
    site = parse(Site, read_json(plain_file(directory, "site.json")), directory / "site.json")
    return benchmark, site


def read_stages(directory: Path) -> list[StageRecord]:
    """Every attempt at a stage that the job script wrote down, in order."""
    path = directory / STAGES
    attempts: list[dict[str, Any]] = []
    if not os.path.lexists(path):
        return []
    lines = plain_file(directory, path.name).read_text(errors="replace").split("\n")
    lines = lines if lines[-1] else lines[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if entry["event"] == "start":
                attempts.append(
                    {"name": entry["stage"], "command": entry["command"], "host": entry["host"], "start": entry["time"]}
                )
            elif attempts and attempts[-1]["name"] == entry["stage"]:
                attempts[-1].update(end=entry["time"], exit_code=entry["exit"], reason=entry["reason"])
            else:
                raise KitError(f"{path}:{number}: stage {entry['stage']} ends without having started")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines):  # the machine went down while this line was written
                break
            raise KitError(f"{path}:{number}: not a record of a stage: {error}") from None
    return [parse(StageRecord, attempt, path) for attempt in attempts]


def stage_lines(attempts: list[StageRecord]) -> str:
    """stages.jsonl as a job script writes it (templates/job.sh.j2) for these attempts."""
    lines = []
    for attempt in attempts:
        head = f'{{"stage": "{attempt.name}", "event": '
        command = json.dumps(attempt.command)
        lines.append(f'{head}"start", "time": {attempt.start:.3f}, "host": "{attempt.host}", "command": {command}}}')
        if attempt.end is not None:
            reason = f'"exit": {attempt.exit_code}, "reason": "{attempt.reason}"'
            lines.append(f'{head}"end", "time": {attempt.end:.3f}, {reason}}}')
    return "".join(f"{line}\n" for line in lines)
