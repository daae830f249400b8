"""Runs: the directory of one run, and run.json, its record."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from kit.benchmark import RANKS, Benchmark, shown_unit
from kit.core.errors import KitError
from kit.core.files import plain_file, read_json, write_json
from kit.core.schema import Digest, Model, Name, OneLine, parse
from kit.site import Site

# In the order of the road. Only `valid` is a result.
StateName = Literal["rendered", "submitted", "running", "failed", "incomplete", "finished", "valid"]

FILE = "run.json"
SBOM = "sbom.cdx.json"


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
    cores: int = Field(ge=1, le=100_000)  # of the machine that rendered it, and its memory: for a site that does not say
    memory_gb: float = Field(ge=0, le=1e6)
    machine: dict[str, str] = {}  # the facts of the container runtime


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


class Run(Model):
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
    image: ImageRecord
    data: Digest  # of the manifest of the data
    rendering: Rendering | None = None  # of runs that kit 0.1.0 made before it wrote this down
    script: Digest  # of job.sh
    state: State
    # 123, 123_4, 12[3].server, f1AbC, 1234:5678: a word of commands, where it cannot pass for an option.
    job: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.:\[\]-]{0,99})?$")] = ""
    scheduler: Annotated[str, StringConstraints(pattern=r"^[a-z]*$")] = ""
    stages: list[StageRecord] = []
    metrics: list[MetricRecord] = []
    system: dict[OneLine, OneLine | int | float] = {}
    files: dict[RunFile, Digest] = {}  # sha256 of what the run wrote and a submission carries

    @property
    def work(self) -> str:
        """What was run: a size, one stage of it, or a scaling measurement."""
        if self.scaling:
            return f"{self.size}/scaling"
        return f"{self.size}/{self.isolated}" if self.isolated else self.size


def directory_name(work: str, site: str, created: datetime) -> str:
    """The name of a run's directory: what runs, where, and when it was asked for (UTC, to the millisecond)."""
    stamp = f"{created:%Y%m%dT%H%M%S}{created.microsecond // 1000:03d}Z"
    return f"{work.replace('/', '-')}-{site}-{stamp}"


def load_run(directory: Path) -> Run:
    if not directory.is_dir():
        raise KitError(f"{directory}: no such run directory")
    if not os.path.lexists(directory / FILE):
        raise KitError(f"{directory}: not a run directory, it has no {FILE}")
    return parse(Run, read_json(plain_file(directory, FILE)), directory / FILE)


def save_run(directory: Path, run: Run) -> None:
    write_json(directory / FILE, run.model_dump(mode="json"))


def resolved(directory: Path) -> tuple[Benchmark, Site]:
    """Benchmark and site as the run was rendered with, from its own copies and not from today's files."""
    benchmark = parse(Benchmark, read_json(plain_file(directory, "benchmark.json")), directory / "benchmark.json")
    site = parse(Site, read_json(plain_file(directory, "site.json")), directory / "site.json")
    return benchmark, site


def read_stages(directory: Path) -> list[StageRecord]:
    """Every attempt at a stage that the job script wrote down, in order."""
    path = directory / "stages.jsonl"
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
