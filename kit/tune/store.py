"""What trials found for a site: one file each, beside the user's own site files, and which of them a run may use.

A trial holds for one benchmark and size, one recipe of an image, one partition and the hardware of its nodes. Anything else
is another question, and the answer is left where it is.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from kit.core import paths
from kit.core.errors import KitError
from kit.core.files import json_text, read_json, write_atomic
from kit.core.host import processor
from kit.core.schema import Digest, Model, Name, OneLine, parse
from kit.site import Partition, Site

NAME = "tune"  # of the benchmark that a trial is, in its run.json
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def to_the_second(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(microsecond=0)


class Choice(Model):
    """How a node is divided, and the parameters of the benchmark that go with it."""

    ranks: int = Field(ge=1, le=1_000_000)  # of one node
    threads: int = Field(ge=1, le=100_000)  # of each rank
    parameters: dict[Name, Annotated[int, Field(ge=0)]] = {}

    def __str__(self) -> str:
        plural = [
            f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((self.ranks, "rank"), (self.threads, "thread"))
        ]
        return ", ".join([" x ".join(plural), *(f"{key} {value}" for key, value in self.parameters.items())])

    def ranks_on(self, nodes: int) -> int:
        """Ranks of a job on several nodes: an odd number in all, for one leads and two halves share the rest."""
        total = self.ranks * nodes
        return total if nodes == 1 else total - 1 + total % 2


class Tuning(Model):
    """What a trial came to. The choice is the default where no other was faster by more than repeats differ."""

    date: Annotated[AwareDatetime, AfterValidator(to_the_second)]
    processor: OneLine  # of the node that measured
    choice: Choice
    seconds: Seconds  # median
    default: Choice
    default_seconds: Seconds | None = None  # median; None where the default failed
    spread: Seconds  # the larger range of repeats of the two that were compared

    @property
    def kept(self) -> bool:
        return self.choice == self.default

    @model_validator(mode="after")
    def sound(self) -> Tuning:
        if self.kept and self.default_seconds != self.seconds:
            raise ValueError("seconds and default_seconds differ, and the choice is the default")
        if not self.kept and self.default_seconds is not None and self.default_seconds - self.seconds <= self.spread:
            raise ValueError("the choice is not faster than the default by more than the spread")
        return self

    @property
    def lines(self) -> list[str]:
        """What the job script says of it."""
        when = f"measured {self.date:%Y-%m-%d} on {self.processor}"
        if self.kept:
            return [f"Tuning: the default, {self.default}, {when}: {self.seconds:.2f} s; no other was surely faster"]
        was = "failed" if self.default_seconds is None else f"{self.default_seconds:.2f} s"
        return [
            f"Tuning: {self.choice}, {when}: {self.seconds:.2f} s",
            f"Tuning: the default, {self.default}: {was}; repeats differed by {self.spread:.2f} s at most",
        ]


class Tried(Model):
    """A choice with the seconds of each repeat that ended well; `problem` says why one did not, and it cannot be chosen."""

    choice: Choice
    seconds: list[Seconds] = []
    problem: OneLine = ""


class Key(Model):
    """What a trial holds for."""

    benchmark: Name
    size: Name
    numbers: Digest  # of the size's own ranks, threads and parameters: the default, and what is refined
    image: Name
    recipe: Digest
    site: Name
    partition: Name
    processor: OneLine  # as the site file says it, or this machine where jobs run on it; empty: nobody says
    cores: int = Field(ge=1, le=100_000)  # of one node, that threads may use
    gpus: int = Field(0, ge=0, le=1000)  # of one node, that the image computes on

    @property
    def path(self) -> Path:
        text = "\n".join(map(str, self.model_dump().values()))
        name = f"{self.benchmark}-{self.size}-{self.image}-{self.partition}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return folder(self.site) / f"{name}.json"

    def differences(self, other: Key) -> list[str]:
        """In what another key differs, as sentences of what it was measured for."""
        words = {
            "size": "for size {}",
            "numbers": "with other numbers of the size",
            "image": "with image {}",
            "recipe": "with another recipe of the image",
            "partition": "on partition {}",
            "processor": "on processor {}",
            "cores": "on {} cores",
            "gpus": "on {} GPUs",
        }
        if self.size != other.size:
            del words["numbers"]
        if self.image != other.image:
            del words["recipe"]
        return [
            text.format("unknown" if getattr(other, key) == "" else getattr(other, key))
            for key, text in words.items()
            if getattr(self, key) != getattr(other, key)
        ]


class Stored(Model):
    """The file of one trial."""

    schema_version: Literal[1] = 1
    kit: OneLine
    key: Key
    tuning: Tuning
    tried: list[Tried] = Field(min_length=1)


def folder(site: str) -> Path:
    return paths.user_file().parent / "tuning" / site


def processor_of(site: Site, partition: Partition) -> str:
    """The processor of a partition's nodes, as far as it is known where a run is planned; empty where it is not."""
    said = site.hardware.get("host_processor_model_name", "")
    return str(said) or (processor()[0] if partition.scheduler == "local" else "")


def store(found: Stored) -> Path:
    path = found.key.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json_text(found.model_dump(mode="json")))
    except OSError as error:
        raise KitError(f"{path}: cannot be written: {error.strerror}; KIT_CONFIG can name another user file") from None
    return path


def read(path: Path) -> Stored:
    try:
        found = parse(Stored, read_json(path), path)
        if found.key.path.name != path.name:
            raise KitError(f"{path}: key 'key': is that of {found.key.path.name}")
    except KitError as error:
        raise KitError(f"{error}\nRemove it and measure again with kit tune, or run with --no-tuning") from None
    return found


def find(key: Key) -> tuple[Tuning | None, str]:
    """The tuning for a key, or why none of this site and benchmark fits; without any there is nothing to say.

    KitError for a file that cannot be read.
    """
    others = [read(path) for path in sorted(folder(key.site).glob(f"{key.benchmark}-*.json"))]
    others = [other for other in others if other.key.benchmark == key.benchmark]
    for other in others:
        if other.key == key:
            return other.tuning, ""
    if not others:
        return None, ""
    nearest = min(others, key=lambda other: len(key.differences(other.key)))
    measured = ", ".join(key.differences(nearest.key))
    return None, f"the tuning {nearest.key.path} is not used: it was measured {measured}"
