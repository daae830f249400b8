"""Submissions: what the folder of one result holds, in the layout of the MLCommons Science working group."""

from __future__ import annotations

import re

from kit.core.checksums import SUMS
from kit.core.errors import KitError
from kit.runs.record import Run

# {organisation}/{application}/{system}/{descriptor}/ below submissions/
LEVELS = ("organisation", "application", "system", "descriptor")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # file systems have names of up to 255 characters

# The organisation of a trial. Its folder is whole and checked, and is no submission.
TRIAL = "trial"
# What stands where nobody has said who submits, or on which system.
UNNAMED = {"organisation": "unaffiliated", "system": "local"}

ATTRIBUTES = ".gitattributes"
REQUIRED = {
    "README.md": "the result for a person: what ran, where, and what came out",
    "scientific_contribution.md": "what the result says of the science",
    "scientific_contribution.pdf": "the same as a document, with figures",
    "sientific_contribution.pdf": "the same under the name that the working group's submit.adoc has",
    "submitter.json": "who submits, and where others get the kit from",
    "config.yaml": "where code and data come from, and every parameter",
    "result-1.txt": "the log in MLPerf's form",
    "run.json": "what ran, proof and verdict",
    "system.json": "the machine, in MLPerf's names",
    "pull_request.md": "the text of the pull request",
    "run/job.sh": "the script that ran",
    "run/sbom.cdx.json": "what the image holds, as CycloneDX",
    "run/stages.jsonl": "when each stage started and how it ended",
    "run/benchmark.json": "what the run had to do",
    "run/site.json": "the site it ran on",
    "run/data.json": "every file of its data, with size and checksum",
    ATTRIBUTES: "stops git from changing line endings",
    SUMS: "the checksum of every other file",
}

MEGABYTE = 1_000_000
# Of one run, below the folder of the submission or that of a repeat.
OF_A_RUN = {
    r"run\.json": 4 * MEGABYTE,
    r"run/(job\.sh|site\.json|benchmark\.json|pack\.json)": MEGABYTE,
    r"run/(stages|ranks)\.jsonl": 4 * MEGABYTE,
    r"run/sbom\.cdx\.json": 8 * MEGABYTE,
    r"run/data\.json": 32 * MEGABYTE,
    r"run/job\.stdout\.txt|run/stages/[^/]+\.(stdout|stderr)\.txt": 64 * MEGABYTE,
    r"run/figures/[^/]+\.png": 16 * MEGABYTE,
    r"run/evidence/[^/]+\.(npy|mrc|star|json)": 64 * MEGABYTE,
    r"run/([^/]+/){0,6}[^/]+\.(star|json)": 8 * MEGABYTE,
}
NUMBER = r"[1-9][0-9]{0,2}"
# All that a submission can hold, by the pattern of its name, and how large such a file may be.
MAY_HOLD = {
    r"\.gitattributes": 1000,
    r"(README|scientific_contribution|pull_request)\.md": MEGABYTE,
    r"scientific_contribution\.pdf|sientific_contribution\.pdf": 4 * MEGABYTE,
    r"config\.yaml|system\.json|submitter\.json": MEGABYTE,
    rf"result-{NUMBER}\.txt": MEGABYTE,
    r"sha256sums\.txt": 4 * MEGABYTE,
    r"sha256sums\.txt\.(sig|minisig|asc)": 16_000,
    **OF_A_RUN,
    **{rf"repeat-{NUMBER}/({pattern})": limit for pattern, limit in OF_A_RUN.items()},
}
MOST_FILES, MOST_BYTES, DEEPEST = 10_000, 256 * MEGABYTE, 9
PART = re.compile(r"[A-Za-z0-9_.+-]+")  # of a name; plain letters alone, which every file system keeps apart

# Placeholders that were left in a text, as whole words.
PLACEHOLDER = re.compile(
    r"(?<![\w/.-])(TODO|FIXME|XXX+|PLACEHOLDER|CHANGE[ _]?ME|lorem ipsum|(https?://|\w+@)?(www\.)?example\.(org|com))(?![\w.-])"
    r"|<your[ _-]",
    re.IGNORECASE,
)


def name_part(kind: str, value: str) -> str:
    """A name that can stand in the path of a submission; KitError otherwise."""
    if not NAME.fullmatch(value):
        raise KitError(
            f"{kind} {value!r} cannot be a folder of a submission: up to 200 letters, digits, dot, dash and underscore, "
            "beginning with a letter or digit"
        )
    return value


def is_trial(organisation: str) -> bool:
    return organisation.casefold() == TRIAL


def unnamed(kind: str, value: str) -> bool:
    """Whether a value of the path stands for no answer; upper and lower case are alike, as on some file systems."""
    return value.casefold() == UNNAMED[kind]


def descriptor(run: Run) -> str:
    """The last folder of a submission's path: what was run, and when it was asked for (UTC)."""
    return name_part("descriptor", f"{run.work.replace('/', '-')}-{run.created:%Y%m%dT%H%M%SZ}")


def log_name(number: int) -> str:
    """The log of the n-th run."""
    return f"result-{number}.txt"


def room(number: int) -> str:
    """Where the n-th run of a submission lies: the first at its top, the others in folders of their own."""
    return "" if number == 1 else f"repeat-{number}/"


def packed(name: str) -> str:
    """Where a file of the run directory lies in the submission. Logs get names that no usual .gitignore leaves out."""
    for pattern, place in (
        (r"job\.out", "job.stdout.txt"),
        (r"logs/([^/]+)\.out", r"stages/\1.stdout.txt"),
        (r"logs/([^/]+)\.err", r"stages/\1.stderr.txt"),
    ):
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, place, name)
    return f"run/{name}"
