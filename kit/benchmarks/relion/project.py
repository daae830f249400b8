"""A RELION project directory, kept by RELION itself.

A laboratory's parameters are in job.star files. RELION itself turns them into commands: `relion_pipeliner` in the image
takes a job into the project and writes its commands through its template for queues. The commands are therefore those of the
version that runs, and RELION's own tools can open the project.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from kit.benchmarks.relion import ccpem
from kit.benchmarks.relion.ccpem_driver import program
from kit.benchmarks.relion.inputs import check_inputs
from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.star import read_star
from kit.core.errors import KitError, plain, unknown
from kit.core.files import read_json, write_atomic, write_json
from kit.core.host import gpus_here
from kit.core.schema import Model, parse
from kit.images.built import built_sif
from kit.images.render import Image
from kit.launchers import LAUNCHERS, Ranks
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
# Those that the kit shows and does not run: of RELION 2 and 3.0, and of RELION 4 and 5.
OTHER_TYPES = {
    6: "sort",
    11: "moviepolish",
    17: "movierefine",
    22: "dynamight",
    23: "modelangelo",
    50: "importtomo",
    51: "pseudosubtomo",
    52: "ctfrefinetomo",
    53: "framealigntomo",
    54: "reconstructparticletomo",
    55: "aligntiltseries",
    56: "reconstructtomograms",
    57: "excludetilts",
    58: "denoisetomo",
    59: "picktomo",
}
# The status in a pipeline for each mark in a job's folder: the number of RELION 3.1, the word of later versions. Where a job
# has several marks, and its pipeline none of their words, the last of these counts.
STATUS = {"SUCCESS": (2, "Succeeded"), "ABORTED": (4, "Aborted"), "FAILURE": (3, "Failed")}
STATUSES = {"0": "Running", "1": "Scheduled", "2": "Succeeded", "3": "Failed", "4": "Aborted"}
# Options on how a job is submitted to a queue; the kit uses them to get the job's commands.
QUEUE = ("do_queue", "qsub", "qsubscript", "queuename", "min_dedicated")
Engine = Literal["direct", "relion_pipeliner", "ccpem"]
FOLDER = ".kit"  # of a project: what the kit hands to RELION
TIMES = "times.jsonl"  # in it: when the jobs ran that the kit started itself
LONGEST = 300  # characters of a line of a log that are shown
IGNORED = re.compile(r".*is not a valid RELION argument.*")  # what RELION prints for an option that it ignores
TEMPLATE = "ranks XXXmpinodesXXX threads XXXthreadsXXX\nXXXcommandXXX\n"


@dataclass(frozen=True)
class JobStar:
    """A job.star file: the type of the job, whether the kit can run it or not, and its options, all as text."""

    path: Path
    type: str
    options: dict[str, str]


class Job(Model):
    """A job of the project. `commands` are the shell that RELION composed, run from the project directory."""

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
        kind = type_of(str(head["rlnJobTypeLabel"]))
    elif "rlnJobType" in head:
        kind = type_of(str(head["rlnJobType"]))
    else:
        raise KitError(f"{path}: no label _rlnJobType or _rlnJobTypeLabel in data_job")
    return JobStar(path, kind, {str(key): str(value) for key, value in options.items()})


def type_of(text: str) -> str:
    """The type of a job by the number or label that RELION gives it; one that is not known stays as it is."""
    known = {**TYPES, **OTHER_TYPES}
    if text.isdecimal():
        return known.get(int(text), text)
    label = text.removeprefix("relion.")
    return label.split(".")[0] if label.split(".")[0] in known.values() else label


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

    def __init__(self, directory: Path | str, image: Image, runtime: str = "apptainer") -> None:
        self.directory = Path(directory).absolute()
        self.image = image
        self.runtime = runtime
        self.known_flags: dict[str, dict[str, str]] = {}
        if runtime == "apptainer":
            built_sif(image)  # says how to get an image that is not here
        initialise(self.directory)

    def relion(self, *words: str, where: Path | None = None) -> str:
        """What a program of the image prints, in the project directory; KitError when it fails."""
        folder = str(where or self.directory)
        command = RUNTIMES[self.runtime].command(self.image, [folder], {}, [], folder, gpus=False)
        # On a project that it does not accept, RELION waits for a lock.
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
            initialise(Path(name))
            self.add(star, options, Path(name))
        return self.add(star, options, self.directory)

    def add(self, star: JobStar, options: dict[str, str], where: Path) -> Job:
        """A job added to the project at `where`; after an error the project there is not to be used."""
        if star.type not in TYPES.values():
            what = "job type that is shown and not run" if star.type in OTHER_TYPES.values() else "unknown job type"
            raise KitError(f"{star.path}: {what} '{plain(star.type)}': known: {', '.join(TYPES.values())}")
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
        self.refuse_unknown(star, options, known)
        # The project keeps the laboratory's own words on queues.
        own = {key: options.get(key, {"do_queue": "No"}.get(key, known[key])) for key in QUEUE if key in known}
        write_job_star(where / name / "job.star", star.type, {**known, **own}, self.numbered)
        first, *commands = (where / name / "run_submit.script").read_text().split("\n")
        (where / name / "run_submit.script").unlink()
        ranks, threads = (int(number) for number in re.findall(r"\d+", first))
        inputs, outputs = (tuple(file for file, job in of(where) if job == name) for of in (files_read, files_written))
        kept = tuple(command.strip() for command in commands if command.strip())
        self.refuse_unknown_flags(star, options.get("other_args", ""), kept)
        job = Job(name=name, type=star.type, commands=kept, ranks=ranks, threads=threads, inputs=inputs, outputs=outputs)
        path = where / FOLDER / "jobs" / f"{name.strip('/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, job.model_dump(mode="json"))
        return job

    def job(self, name: str) -> Job:
        """A job that this project was given by `schedule_job`, by any name that `find_job` takes; KitError for any other."""
        if not (self.directory / FOLDER / "jobs" / f"{name.strip('/')}.json").is_file() and processes(self.directory):
            with contextlib.suppress(KitError):
                name = find_job(self.directory, name)
        path = self.directory / FOLDER / "jobs" / f"{name.strip('/')}.json"
        if not path.is_file():
            known = [row for row in processes(self.directory) if (path.parents[1] / f"{row.strip('/')}.json").is_file()]
            listed = f"known: {', '.join(known) or 'none'}{nearest(name, known)}"
            raise KitError(f"{self.directory}: no job '{name}' was scheduled here; {listed}")
        return parse(Job, read_json(path), path)

    def run_schedule(
        self,
        name: str,
        jobs: Sequence[Job | str],
        nr_repeat: int = 1,
        minutes_wait: float = 0,
        minutes_wait_before: float = 0,
        seconds_wait_after: float = 0,
        engine: Engine = "direct",
    ) -> None:
        """Runs jobs in order, `nr_repeat` times, and ends at the first that fails: KitError says which, and why.

        Before the first, `minutes_wait_before` pass; a repetition begins no sooner than `minutes_wait` after the one
        before it; after each job `seconds_wait_after` pass. `engine` starts RELION's programs itself, or leaves that to
        `relion_pipeliner` or to ccpem-pipeliner (`ccpem`), which return normally whatever happened. In all of them the
        verdict is read from what each job left.
        """
        if engine not in get_args(Engine):
            raise unknown("engine", str(engine), get_args(Engine))
        if isinstance(jobs, str) or not jobs or nr_repeat < 1:
            raise KitError(f"schedule {name}: a list of jobs and at least one repeat are needed, or nothing would run")
        known = [job if isinstance(job, Job) else self.job(job) for job in jobs]
        time.sleep(60 * minutes_wait_before)
        for number in range(nr_repeat):
            began = time.monotonic()
            for job in known:
                try:
                    self.run_job(job, name, engine)
                finally:
                    settle(self.directory)
                time.sleep(seconds_wait_after)
            if number + 1 < nr_repeat:
                time.sleep(max(0.0, 60 * minutes_wait - (time.monotonic() - began)))

    def gentle_clean(self) -> None:
        """RELION's own gentle clean of every job that succeeded: what no later job needs goes to Trash/."""
        for process in job_table(self.directory):
            if process.status == "Succeeded":
                (number,) = re.findall(r"job(\d+)", process.name)
                self.relion("relion_pipeliner", "--gentle_clean", str(int(number)))

    def run_job(self, job: Job, schedule: str, engine: Engine) -> None:
        """Runs one job to its end; KitError unless it left everything that says it went well.

        KitError before it starts for input that is missing, cut short or not what its STAR file says.
        """
        folder = self.directory / job.name
        for warning in check_inputs(self.directory, read_job_star(folder / "job.star").options, job.commands):
            print(f"kit: warning: {warning}", file=sys.stderr, flush=True)
        for mark in folder.glob("*_JOB_EXIT_*"):
            mark.unlink()
        stamp = folder / ".started"
        stamp.touch()
        where = str(self.directory)
        started_by = RUNTIMES[self.runtime].command(
            self.image, [where], {"OMP_NUM_THREADS": "1"}, [], where, gpus=gpus_here()
        )
        container = shlex.join(started_by)
        if engine == "direct":
            mpi = shlex.join(LAUNCHERS["mpirun"].command(Ranks(job.ranks, job.ranks, job.threads), []))
            words = {"in_image": container, "launch": f"{container} {mpi}"}
            commands = [re.sub(r"^(in_image|launch)\b", lambda m: words[m[1]], in_words(text)) for text in job.commands]
        elif engine == "ccpem":
            commands = list(job.commands)
        else:
            # A schedule keeps a file that says it runs; one that was killed leaves it behind.
            (self.directory / f"RUNNING_PIPELINER_default_{schedule}").unlink(missing_ok=True)
            asked = f"relion_pipeliner --schedule {shlex.quote(schedule)} --repeat 1 --RunJobs {job.name}"
            commands = [f"{container} {asked}"]
        note(folder, "Executing new job", commands)
        for log in ("run.out", "run.err"):
            (folder / log).touch()
        began = time.time()
        if engine == "ccpem":
            code = self.run_by_ccpem(job, started_by)
        else:
            with (folder / "run.out").open("ab") as out, (folder / "run.err").open("ab") as err:
                script = ["bash", "-ec", "\n".join(commands)]
                code = subprocess.run(script, cwd=self.directory, stdout=out, stderr=err).returncode
        record_times(self.directory, job.name, began, time.time())
        problem = f"exit code {code}" if code else self.problem(job, stamp)
        if problem and engine == "ccpem":
            problem += f" (more in {self.directory}/{ccpem.LOG})"
        if problem:
            (folder / "RELION_JOB_EXIT_SUCCESS").unlink(missing_ok=True)
            (folder / "RELION_JOB_EXIT_FAILURE").touch()
            text = (folder / "run.err").read_text(errors="replace")
            raise KitError(f"{folder}: {problem}; the end of its run.err:\n{said(text)}")

    def run_by_ccpem(self, job: Job, container: Sequence[str]) -> int:
        """Runs one job by ccpem-pipeliner, with its job.star as that has to read it; returns its exit code."""
        path = self.directory / job.name / "job.star"
        own, star = path.read_bytes(), read_job_star(path)
        if self.runtime != "apptainer":
            raise KitError(f"{self.directory}: the engine ccpem needs the runtime apptainer, not {self.runtime}")
        names = sorted({program(shlex.split(command.replace("`", ""))) for command in job.commands} - {""})
        defaults = {name: self.defaults(name) for name in names}
        # The pipeliner asks for the program without MPI, too, before it believes that a job can be run.
        programs = sorted({*names, *(name.removesuffix("_mpi") for name in names)})
        options = ccpem.restated(star.type, star.options) if self.numbered else star.options
        try:
            write_job_star(path, star.type, options, numbered=False)
            return ccpem.run(self.directory, job.name, job.commands, job.ranks, defaults, container, programs)
        finally:
            path.write_bytes(own)
            shutil.rmtree(self.directory / ".relion_lock", ignore_errors=True)

    def problem(self, job: Job, stamp: Path) -> str:
        """What is wrong with a job that has ended: a missing mark or file, or an option that RELION ignored."""
        folder = self.directory / job.name
        for log in ("run.out", "run.err"):
            match = IGNORED.search((folder / log).read_text(errors="replace"))
            if match:
                return plain(match[0].strip())
        if not (folder / "RELION_JOB_EXIT_SUCCESS").exists():
            return "RELION left no mark of success"
        for name in job.outputs:
            path = self.directory / name
            if not name.endswith(".pdf") and (not path.is_file() or path.stat().st_mtime < stamp.stat().st_mtime):
                return f"wrote no {name}"
        return ""

    def refuse_unknown(self, star: JobStar, options: Iterable[str], known: Collection[str]) -> None:
        lines = []
        for key in options:
            if key not in known and key not in QUEUE:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
                lines.append(f"{star.path}: RELION {self.version} has no option '{key}' in a job {star.type}; {hint}")
        if lines:
            raise KitError("\n".join(lines))

    def flags(self, program: str) -> list[str]:
        """The flags of a program, from its own help."""
        return sorted(self.defaults(program))

    def defaults(self, program: str) -> dict[str, str]:
        """The flags of a program with their defaults, from its own help."""
        if program not in self.known_flags:
            help_text = self.relion(program, "--help")
            found = re.findall(r"^ *(--?[A-Za-z]\w*)(?: \(([^)]*)\))?", help_text, re.MULTILINE)
            self.known_flags[program] = dict(found)
        return self.known_flags[program]

    def refuse_unknown_flags(self, star: JobStar, other_args: str, commands: Iterable[str]) -> None:
        """KitError for a flag among a job's `other_args` that its program has not: RELION only warns, if at all."""
        if not any(other_args in command for command in commands):  # Import of RELION 3.1 drops them
            raise KitError(
                f"{star.path}: RELION {self.version} takes no other_args in a job {star.type}, here '{other_args}'"
            )
        for word in shlex.split(other_args):
            if not re.match(r"--?[A-Za-z]", word):
                continue  # a value
            for command in commands:
                program = re.search(r"\brelion_\w+", command)
                if program and word in command and word not in self.flags(program[0]):
                    near = difflib.get_close_matches(word, self.flags(program[0]), n=1)
                    raise KitError(
                        f"{star.path}: other_args: {program[0]} of {self.image.name} has no flag '{word}'; "
                        + (f"did you mean '{near[0]}'?" if near else f"see {program[0]} --help")
                    )


def in_words(command: str) -> str:
    """A command of RELION's in the words of a job script: `in_image`, or `launch` before a program of MPI."""

    def replace(match: re.Match[str]) -> str:
        program = match[1]
        return f"launch {program}" if program.endswith("_mpi") else f"in_image {program}"

    return re.sub(r"^(relion_\w+)", r"in_image \1", re.sub(r"^(?:mpirun -n \d+ )?`which (\w+)`", replace, command))


def note(folder: Path, what: str, commands: Iterable[str]) -> None:
    """Adds commands to the note of a job, as RELION does, whose times are local and do not say where; these are UTC."""
    stamp = utc(time.time())
    lines = "\n".join(commands)
    with (folder / "note.txt").open("a") as file:
        file.write(f" ++++ {what} on {stamp}\n ++++ with the following command(s): \n{lines}\n ++++ \n")


def initialise(directory: Path) -> None:
    """Makes a directory a RELION project, as the GUI does when it is first started there."""
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(directory / FOLDER / "commands.txt", TEMPLATE)
    (directory / ".gui_projectdir").touch()
    pipeline = directory / "default_pipeline.star"
    if not pipeline.exists():
        write_atomic(pipeline, "\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 1\n\n")


def utc(seconds: float) -> str:
    """Seconds since 1970 as a date of ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def record_times(directory: Path, job: str, start: float, end: float) -> None:
    """Adds to the project's own record when a job ran (seconds since 1970)."""
    entry = {"job": job, "host": socket.gethostname(), "start": utc(start), "end": utc(end)}
    with (directory / FOLDER / TIMES).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def recorded_times(directory: Path) -> dict[str, tuple[str, float]]:
    """Host and seconds of each job that the kit's Python interface ran; the last run counts, whether it went well or not."""
    path = directory / FOLDER / TIMES
    found = {}
    text = path.read_text(errors="replace") if path.is_file() else ""
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            spent = datetime.fromisoformat(entry["end"]) - datetime.fromisoformat(entry["start"])
            found[str(entry["job"])] = (str(entry["host"]), spent.total_seconds())
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not text.endswith("\n"):  # the machine went down while this line was written
                break
            raise KitError(f"{path}:{number}: not a record of a job's times") from None
    return found


def said(text: str) -> str:
    """The end of what a program printed, without the backtrace that RELION adds to its errors, and safe to show."""
    lines = [line for line in text.split("=== Backtrace")[0].splitlines() if line.strip()]
    return "\n".join(f"    {plain(line[:LONGEST])}" for line in lines[-10:])


@dataclass(frozen=True)
class Process:
    """A job as a project's pipeline has it."""

    name: str  # Class2D/job010/
    alias: str  # Class2D/LoG/, or empty
    type: str
    status: str  # Running, Scheduled, Succeeded, Failed or Aborted; another word of RELION's as it is


def job_table(directory: Path) -> list[Process]:
    """The jobs of a project; the mark that a job left at its end is newer than what the pipeline says of it."""
    table = pipeline(directory).get("pipeline_processes")
    if table is None:
        return []
    columns = {label: [str(value) for value in column] for label, column in as_table(table).items()}
    names = columns.get("rlnPipeLineProcessName", [])

    def column(*labels: str) -> list[str]:
        return next((columns[label] for label in labels if label in columns), [""] * len(names))

    aliases = column("rlnPipeLineProcessAlias")
    types = column("rlnPipeLineProcessTypeLabel", "rlnPipeLineProcessType")
    statuses = column("rlnPipeLineProcessStatusLabel", "rlnPipeLineProcessStatus")
    return [
        Process(
            name, "" if alias == "None" else alias, type_of(kind), became(directory / name, STATUSES.get(status, status))
        )
        for name, alias, kind, status in zip(names, aliases, types, statuses, strict=True)
    ]


def as_table(block: Any) -> dict[str, list[Any]]:
    """The columns of a block; one of single values is a table of one row."""
    return {str(key): [block[key]] if isinstance(block, dict) else list(block[key]) for key in block}


def became(folder: Path, status: str) -> str:
    """The status of a job by its marks; without one, what its pipeline says."""
    marks = [word for mark, (_, word) in STATUS.items() if (folder / f"RELION_JOB_EXIT_{mark}").exists()]
    return status if status in marks or not marks else marks[-1]


def tidy(directory: Path, path: str) -> str:
    """A path of a project as its pipeline should have it: relative, with no `.`, `..` or double slash in it."""
    plainly = os.path.normpath(path)
    if os.path.isabs(plainly):
        for base in (directory, directory.resolve()):
            if Path(plainly).is_relative_to(base):
                return Path(plainly).relative_to(base).as_posix()
    return plainly


def job_names(directory: Path, jobs: Iterable[Process]) -> dict[str, str]:
    """Jobs by the folders that are theirs: of their names and of their aliases, each with a slash at its end."""
    return {tidy(directory, name) + "/": job.name for job in jobs for name in (job.name, job.alias) if name}


def owner(directory: Path, path: str, known: Mapping[str, str]) -> str:
    """The job of `job_names` in whose folder a file of the project lies; empty where it is in none's."""
    here = tidy(directory, path) + "/"
    longest = max((name for name in known if here.startswith(name)), key=len, default="")
    return known.get(longest, "")


def find_job(directory: Path, name: str) -> str:
    """A job as the pipeline names it (`Class2D/job010/`) by what people call it: with or without the slash, by its alias,
    as `job010`, `job10` or `10`, or by its path. KitError, with the nearest, for a job that is not there.
    """
    jobs = job_table(directory)
    wanted = tidy(directory, name) + "/"
    known = job_names(directory, jobs)
    if wanted not in known:  # job1 is job001, as RELION writes it
        wanted = re.sub(r"(?<![^/])job0*(\d+)/$", lambda match: f"job{int(match[1]):03d}/", wanted)
    short = {other.split("/")[-2]: job for other, job in known.items() if other.count("/") > 1}
    short |= {str(int(digits[1])): job for other, job in known.items() if (digits := re.search(r"/job0*(\d+)/$", other))}
    bare = wanted.strip("/").lstrip("0") if wanted.strip("/").isdecimal() else wanted.strip("/")
    if wanted in known or bare in short:
        return known.get(wanted) or short[bare]
    real = (directory / wanted).resolve()  # a link that someone else made
    for job in jobs:
        if (directory / wanted).is_dir() and (directory / job.name).resolve() == real:
            return job.name
    names = [job.name for job in jobs]
    aliases = [job.alias for job in jobs if job.alias]
    listed = f"known: {', '.join(map(plain, names)) or 'none'}{nearest(wanted, names + aliases)}"
    raise KitError(f"{directory}: no job '{plain(wanted)}'; {listed}")


def nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {plain(near[0])}?" if near else ""


def pipeline(directory: Path) -> dict[str, Any]:
    """The blocks of a project's pipeline."""
    text = ["rlnPipeLineProcessAlias", "rlnPipeLineProcessName", "rlnPipeLineProcessStatusLabel"]
    return read_star(directory / "default_pipeline.star", text=text)


def pipeline_rows(directory: Path, block: str, *labels: str) -> list[tuple[str, ...]]:
    """A table of the project's pipeline, or columns of it, row by row, as text; empty where RELION has written none yet."""
    table = as_table(pipeline(directory).get(f"pipeline_{block}", {}))
    return [tuple(map(str, row)) for row in zip(*(table.get(label, []) for label in labels or table), strict=False)]


def processes(directory: Path) -> list[str]:
    return [name for (name,) in pipeline_rows(directory, "processes", "rlnPipeLineProcessName")]


def files_read(directory: Path) -> list[tuple[str, str]]:
    """Each file that a job of the project reads, with the job, as its pipeline has them."""
    rows = pipeline_rows(directory, "input_edges", "rlnPipeLineEdgeFromNode", "rlnPipeLineEdgeProcess")
    return [(file, job) for file, job in rows]


def files_written(directory: Path) -> list[tuple[str, str]]:
    """Each file that a job of the project writes or is to write, with the job, as its pipeline has them."""
    rows = pipeline_rows(directory, "output_edges", "rlnPipeLineEdgeToNode", "rlnPipeLineEdgeProcess")
    return [(file, job) for file, job in rows]


def settle(directory: Path) -> None:
    """Writes what became of each job, by the marks that RELION left in its folder, into the project's pipeline.

    A pipeline learns this from the program that started its jobs; here they were started by a job script.
    """
    path = directory / "default_pipeline.star"
    blocks = pipeline(directory)
    if not job_table(directory):
        return
    table = blocks["pipeline_processes"]
    label = next(name for name in ("rlnPipeLineProcessStatusLabel", "rlnPipeLineProcessStatus") if name in table)
    numbers = {word: number for number, word in STATUS.values()}
    for row, process in enumerate(job_table(directory)):
        if process.status in numbers:
            table.loc[row, label] = numbers[process.status] if label == "rlnPipeLineProcessStatus" else process.status
    partial = path.with_name(f".{path.name}.partial")
    write_star(partial, blocks)
    partial.replace(path)
