"""From collected runs to a submission folder. Only valid runs can be packed, and several only if they repeat one thing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kit.benchmark import Benchmark
from kit.core.checksums import labelled, write_sums
from kit.core.errors import KitError
from kit.core.files import json_text, open_plain
from kit.runs.record import FILE, Run, load_run, resolved
from kit.submissions.document import figures
from kit.submissions.layout import descriptor, is_trial, name_part, packed, room
from kit.submissions.repeats import MOST_RUNS, differences, in_order
from kit.submissions.submitter import SUBMITTER, Ask, Submitter, person, submitter
from kit.submissions.texts import derived, documents


def pack(
    directories: Path | Sequence[Path],
    submissions: Path,
    organisation: str | None = None,
    system: str | None = None,
    allow_dirty: bool | None = None,
    allow_trial: bool | None = None,
    ask: Ask | None = None,
) -> Path:
    """Writes submissions/{organisation}/{application}/{system}/{descriptor}/ and returns it.

    Several runs are repeats that differ by their seeds; the order in which they are given does not matter. The folder
    appears whole, and only when the check accepts it; KitError with the findings otherwise. `ask` is called for an
    organisation or system that is neither given nor known, and without it that is an error (kit/submissions/submitter.py).
    """
    from kit.submissions.check import check
    from kit.submissions.rules import refusing

    folders, runs = valid_runs([directories] if isinstance(directories, Path) else directories)
    run = runs[0]
    benchmark, site = resolved(folders[0])
    organisation, system = submitter(site, organisation, system, ask)
    levels = (organisation, name_part("application", run.benchmark), system, descriptor(run))
    target = submissions.joinpath(*levels)
    if target.exists():
        raise KitError(f"{target}: exists; a submission is never overwritten. Remove it, or keep it as it is")
    submitted_by = person(is_trial(organisation), ask)
    made = [folder for folder in target.parents if not folder.exists()]
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        partial.chmod(0o755)
        write_folder(partial, folders, runs, benchmark, levels[0], levels[2], submitted_by)
        findings = refusing(check(partial, allow_dirty, levels, allow_trial))
        if findings:
            raise KitError("\n".join([f"{target}: would be refused, and is not written:", *map(str, findings)]))
        try:
            os.rename(partial, target)
        except OSError:
            if not target.exists():
                raise
            raise KitError(f"{target}: exists; another kit has packed it meanwhile") from None
    except BaseException:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):  # another kit may have packed into one of them
            for folder in made:
                folder.rmdir()
        raise
    return target


def valid_runs(directories: Sequence[Path]) -> tuple[list[Path], list[Run]]:
    """Directories and runs in the order in which they were asked for; KitError unless all are valid and repeat one thing."""
    if not directories:
        raise KitError("no run to pack: name at least one run directory, as kit run prints it")
    if len(directories) > MOST_RUNS:
        raise KitError(f"{len(directories)} runs: a submission holds {MOST_RUNS} at most")
    runs = [valid_run(directory) for directory in directories]
    order = in_order(runs)
    folders, runs = [directories[place] for place in order], [runs[place] for place in order]
    problems = [f"{folders[one]} and {folders[other]}: {problem}" for one, other, problem in differences(runs)]
    if problems:
        raise KitError("\n".join([*problems, "runs of one submission repeat one thing; pack others into one of their own"]))
    return folders, runs


def valid_run(directory: Path) -> Run:
    run = load_run(directory)
    if run.state.name != "valid":
        hint = "" if run.metrics or run.state.reason else f"; collect it first: kit collect {directory}"
        raise KitError(f"{directory}: {run.state}: only a valid run can be submitted{hint}")
    if run.scaling:
        raise KitError(f"{directory}: is a scaling measurement, not a result of {run.benchmark}; submit a run of kit run")
    return run


def write_folder(
    folder: Path,
    directories: Sequence[Path],
    runs: Sequence[Run],
    benchmark: Benchmark,
    organisation: str,
    system: str,
    submitted_by: Submitter,
) -> None:
    """The files of the runs as they were when they were collected, what is written of them, and their checksums."""
    sums = {}
    for number, (directory, run) in enumerate(zip(directories, runs, strict=True), start=1):
        for name, digest in run.files.items():
            place = f"{room(number)}{packed(name)}"
            sums[place] = copy(directory, name, folder / place)
            if labelled(sums[place]) != digest:
                raise KitError(f"{directory / name}: missing or changed since the run was collected; collect it again")
        sums[f"{room(number)}{FILE}"] = copy(directory, FILE, folder / room(number) / FILE)
    told = (runs, benchmark, organisation, system, submitted_by)
    texts = {**derived(*told), SUBMITTER: json_text(submitted_by.model_dump())}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= documents(*told, figures(folder, [packed(name) for name in runs[0].files]))
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    write_sums(folder, sums)


def copy(directory: Path, name: str, target: Path) -> str:
    """Copies a plain file of a run and returns the SHA-256 of the copied bytes."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_plain(directory, name) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()
