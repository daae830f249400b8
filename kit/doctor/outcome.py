"""What a doctor's job found of a site: kept in the cache, and carried by runs on that site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from kit.core import paths
from kit.core.checksums import text_digest
from kit.core.errors import KitError
from kit.core.files import json_text, read_json, write_atomic
from kit.core.schema import Digest, Model, Name, OneLine, parse
from kit.runs.record import in_utc
from kit.site import Site

FILE = "doctor.json"
NAME = "doctor"  # of the benchmark that the job is, in its run.json

Verdict = Literal["PASS", "WARN", "FAIL"]


class Checked(Model):
    """One check: what came out, and for what is not well the way out."""

    name: str = Field(pattern=r"^[a-z][a-z_]*$")
    verdict: Verdict
    detail: OneLine
    fix: OneLine = ""


class Outcome(Model):
    """doctor.json: what a job found of one partition of a site, with one image."""

    schema_version: Literal[1] = 1
    kit: OneLine
    date: Annotated[AwareDatetime, AfterValidator(in_utc)]
    site: Name
    partition: Name
    described: Digest  # of the site as it was then, settings of the user included
    nodes: int = Field(ge=1, le=1_000_000)
    hosts: list[OneLine] = []
    image: Name
    digest: Digest | Literal[""]
    checks: list[Checked] = Field(min_length=1, max_length=100)

    @property
    def failed(self) -> bool:
        return any(check.verdict == "FAIL" for check in self.checks)

    def foreign(self, site: Site, partition: str) -> str:
        """Why it says nothing of a run on this site and partition; empty if it does."""
        if (self.site, self.partition) != (site.name, partition):
            return f"is of site {self.site}, partition {self.partition}, and the run of {site.name}, {partition}"
        if self.described != description(site):
            return f"is of another description of site {self.site} than that of the run"
        return ""


def description(site: Site) -> str:
    """The digest of a site as it is; the same for the site.json of a run."""
    return text_digest(json_text(site.model_dump(mode="json")))


def stored(site: str, partition: str) -> Path:
    """Where the latest outcome for a partition lies."""
    return paths.cache() / "doctor" / f"{site}-{partition}.json"


def text(outcome: Outcome) -> str:
    return json_text(outcome.model_dump(mode="json"))


def store(outcome: Outcome) -> Path:
    path = stored(outcome.site, outcome.partition)
    paths.make_cached(path.parent)
    write_atomic(path, text(outcome))
    return path


def carry(directory: Path, site: Site, partition: str) -> None:
    """Lays the latest outcome beside the other files of a run, if it is of the site as the run knows it.

    One that cannot be read, or is of another site, is no fault of the run, and is left where it is.
    """
    try:
        outcome = parse(Outcome, read_json(stored(site.name, partition)), FILE)
    except KitError:
        return
    if not outcome.foreign(site, partition):
        write_atomic(directory / FILE, text(outcome))
