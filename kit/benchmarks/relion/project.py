"""A RELION project directory, kept by RELION itself.

A laboratory's parameters are in job.star files. What command they mean is RELION's to say: `relion_pipeliner` in the image
takes a job into the project and writes its commands through the template that it has for queues. So they are those of the
version that runs, and the project is one that RELION's own tools open.
"""

from __future__ import annotations

import difflib
import functools
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.benchmarks.relion.phantom import write_star
from kit.errors import KitError
from kit.image import Image
from kit.model import read_star, write_atomic
from kit.runtimes import RUNTIMES

# The type of a job as RELION 3.1 numbers it, and as RELION 4 and 5 name it (the word after `relion.`).
TYPES = {
    0: "import",
    1: "motioncorr",
    2: "ctffind",
    3: "manualpick",
    4: "autopick",
    5: "extract",
    7: "select",
    8: "class2d",
    9: "class3d",
    10: "refine3d",
    12: "maskcreate",
    13: "joinstar",
    14: "subtract",
    15: "postprocess",
    16: "localres",
    18: "initialmodel",
    19: "multibody",
    20: "polish",
    21: "ctfrefine",
    99: "external",
}
# Options that say how a job is handed to a queue; here that is how its commands are learnt.
QUEUE = ("do_queue", "qsub", "qsubscript", "queuename", "min_dedicated")
FOLDER = ".kit"  # of a project: what the kit hands to RELION
TEMPLATE = "ranks XXXmpinodesXXX threads XXXthreadsXXX\nXXXcommandXXX\n"


@dataclass(frozen=True)
class JobStar:
    """A job.star file: the type of the job and its options, all as text."""

    path: Path
    type: str
    options: dict[str, str]


@dataclass(frozen=True)
class Job:
    """A job that is in the project. `commands` are shell, as RELION composed them, run from the project directory."""

    name: str  # Class2D/job008/
    type: str
    commands: tuple[str, ...]
    ranks: int
    threads: int
    inputs: tuple[str, ...]  # files of the project that it reads
    outputs: tuple[str, ...]  # files that it is to write, relative to the project


def read_job_star(path: Path) -> JobStar:
    """A job.star of RELION 3.1, 4 or 5; KitError names what it lacks."""
    if not path.is_file():
        raise KitError(f"{path}: missing; a job.star file is in each job's folder of a RELION project")
    blocks = read_star(path, text=["rlnJobOptionValue", "rlnJobTypeLabel"])
    try:
        head, table = blocks["job"], blocks["joboptions_values"]
        options = dict(zip(table["rlnJobOptionVariable"], table["rlnJobOptionValue"], strict=True))
    except (KeyError, TypeError, ValueError) as error:  # the last two: a block is not the table it should be
        raise KitError(f"{path}: not a job.star: data_job and data_joboptions_values are needed ({error!r})") from None
    if "rlnJobTypeLabel" in head:
        kind = str(head["rlnJobTypeLabel"]).removeprefix("relion.").split(".")[0]
    elif "rlnJobType" in head:
        kind = TYPES.get(int(head["rlnJobType"]), str(head["rlnJobType"]))
    else:
        raise KitError(f"{path}: no label _rlnJobType or _rlnJobTypeLabel in data_job")
    if kind not in TYPES.values():
        raise KitError(f"{path}: unknown job type '{kind}': known: {', '.join(TYPES.values())}")
    return JobStar(path, kind, {str(key): str(value) for key, value in options.items()})


def write_job_star(path: Path, kind: str, options: dict[str, str], numbered: bool) -> None:
    """Writes a job.star; `numbered` for RELION 3.1, which has numbers for the types where later versions have names."""
    import pandas as pd

    head: dict[str, Any] = {"rlnJobType": next(n for n, name in TYPES.items() if name == kind), "rlnJobIsContinue": 0}
    if not numbered:
        head = {"rlnJobTypeLabel": f"relion.{kind}", "rlnJobIsContinue": 0, "rlnJobIsTomo": 0}
    rows = {"rlnJobOptionVariable": list(options), "rlnJobOptionValue": [value or '""' for value in options.values()]}
    write_star(path, {"job": head, "joboptions_values": pd.DataFrame(rows)})


class RelionProject:
    """A project directory and the image whose RELION keeps it. The directory is made a project if it is none yet."""

    def __init__(self, directory: Path | str, image: Image) -> None:
        self.directory = Path(directory).absolute()
        self.image = image
        initialise(self.directory)

    def relion(self, *words: str, where: Path | None = None) -> str:
        """What a program of the image prints, in the project directory; KitError when it fails."""
        folder = str(where or self.directory)
        command = RUNTIMES["apptainer"].command(self.image, [folder], {}, [], folder)
        # A project that RELION does not take makes it wait for a lock.
        result = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300)
        text = result.stdout + result.stderr
        if result.returncode:
            raise KitError(f"{shlex.join(words)} failed with {result.returncode} in {folder}:\n{said(text)}")
        return text

    @functools.cached_property
    def version(self) -> str:
        match = re.search(r"^RELION version: (\S+)", self.relion("relion_refine", "--version"), re.MULTILINE)
        if not match:
            raise KitError(f"{self.image.name}: relion_refine --version names no RELION version")
        return match[1]

    @property
    def numbered(self) -> bool:
        """Whether this RELION numbers its job types."""
        return self.version.startswith("3.")

    def schedule_job(self, job_star: Path | str, **changes: str | float) -> Job:
        """Takes a job into the project, with `changes` to the options of its job.star; the job waits to be run.

        KitError for an option that this RELION does not have: RELION itself ignores it, and runs on its default.
        """
        star = read_job_star(self.directory / job_star)
        options = {**star.options, **{key: str(value) for key, value in changes.items()}}
        with tempfile.TemporaryDirectory() as name:  # tried there first, so that nothing half-done is left here
            trial = Path(name)
            initialise(trial)
            known = self.add(star, options, trial)[1]
        unknown = [key for key in options if key not in known and key not in QUEUE]
        if unknown:
            lines = []
            for key in unknown:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
                lines.append(f"{star.path}: RELION {self.version} has no option '{key}' in a job {star.type}; {hint}")
            raise KitError("\n".join(lines))
        return self.add(star, options, self.directory)[0]

    def add(self, star: JobStar, options: dict[str, str], where: Path) -> tuple[Job, dict[str, str]]:
        """A job added to the project at `where`, and every option that RELION knows of it, with its value."""
        queue = {"do_queue": "Yes", "qsub": "true", "qsubscript": f"{FOLDER}/commands.txt", "min_dedicated": "1"}
        before = processes(where)
        write_job_star(where / FOLDER / "job.star", star.type, {**options, **queue}, self.numbered)
        try:
            text = self.relion("relion_pipeliner", "--addJobFromStar", f"{FOLDER}/job.star", where=where)
        except KitError as error:
            raise KitError(f"{star.path}: RELION {self.version} does not take this job: {error}") from None
        added = [name for name in processes(where) if name not in before]
        if len(added) != 1:
            raise KitError(f"{star.path}: RELION {self.version} did not take this job:\n{said(text)}")
        (name,) = added
        known = read_job_star(where / name / "job.star").options
        # The project keeps the laboratory's own words on queues.
        own = {key: options.get(key, {"do_queue": "No"}.get(key, known[key])) for key in QUEUE if key in known}
        write_job_star(where / name / "job.star", star.type, {**known, **own}, self.numbered)
        first, *commands = (where / name / "run_submit.script").read_text().split("\n")
        (where / name / "run_submit.script").unlink()
        ranks, threads = (int(number) for number in re.findall(r"\d+", first))
        inputs, outputs = edges(where, name)
        kept = tuple(command.strip() for command in commands if command.strip())
        return Job(name, star.type, kept, ranks, threads, inputs, outputs), known


def initialise(directory: Path) -> None:
    """Makes a directory a RELION project, as the GUI does when it is first started there."""
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(directory / FOLDER / "commands.txt", TEMPLATE)
    (directory / ".gui_projectdir").touch()
    pipeline = directory / "default_pipeline.star"
    if not pipeline.exists():
        write_atomic(pipeline, "\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 1\n\n")


def said(text: str) -> str:
    """What a program printed, without the backtrace that RELION adds to its errors."""
    lines = [line for line in text.split("=== Backtrace")[0].splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-10:])


def pipeline_rows(directory: Path, block: str) -> list[tuple[str, ...]]:
    """Rows of a table of the project's pipeline, all as text; none where RELION has not written it yet."""
    table = read_star(directory / "default_pipeline.star").get(f"pipeline_{block}")
    if table is None:
        return []
    if isinstance(table, dict):  # a table of one row
        return [tuple(str(value) for value in table.values())]
    return [tuple(str(value) for value in row) for row in table.itertuples(index=False)]


def processes(directory: Path) -> list[str]:
    return [row[0] for row in pipeline_rows(directory, "processes")]


def edges(directory: Path, job: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that a job reads and those that it is to write, as the project's pipeline has them."""
    inputs = tuple(row[0] for row in pipeline_rows(directory, "input_edges") if row[1] == job)
    return inputs, tuple(row[1] for row in pipeline_rows(directory, "output_edges") if row[0] == job)
