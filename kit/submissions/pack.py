"""From collected runs to a submission folder. Only valid runs can be packed, and several only if they repeat one thing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from kit import __version__
from kit.benchmark import Benchmark
from kit.core import paths
from kit.core.checksums import labelled, write_sums
from kit.core.errors import KitError
from kit.core.files import json_text, open_plain
from kit.runs.record import FILE, Run, load_run, resolved
from kit.script.quoting import environment
from kit.submissions.layout import ATTRIBUTES, descriptor, is_trial, name_part, packed, room
from kit.submissions.repeats import MOST_RUNS, differences, in_order
from kit.submissions.submitter import Ask, submitter


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
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        partial.chmod(0o755)
        write_folder(partial, folders, runs, benchmark, levels[0], levels[2])
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
    folder: Path, directories: Sequence[Path], runs: Sequence[Run], benchmark: Benchmark, organisation: str, system: str
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
    for name, text in derived(runs, benchmark, organisation, system).items():
        (folder / name).write_bytes(text.encode())
        sums[name] = hashlib.sha256(text.encode()).hexdigest()
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


def derived(runs: Sequence[Run], benchmark: Benchmark, organisation: str, system: str) -> dict[str, str]:
    """{name: text} of the files that are derived from the runs; a check writes them again and compares."""
    run = runs[0]
    size = benchmark.size(run.size)
    config = {
        "github": {
            "description": benchmark.title,
            "repo": "kit",
            "branch": "main",
            "version": __version__,
            "tag": run.commit,
        },
        "data": [f"kit run {run.benchmark} --size {run.size}{' --isolated PACK' if run.isolated else ''}  # {run.data}"],
        "size": run.size,
        "ranks": run.ranks,
        "threads": run.threads,
        "image": {"name": run.image.name, "digest": run.image.digest, "recipe": run.image.recipe, "sbom": run.image.sbom},
        "hyperparameters": size.parameters,
        "changed": run.rendering.parameters if run.rendering else {},
    }
    shown = {
        "run": run,
        "runs": runs,
        "benchmark": benchmark,
        "size": size,
        "organisation": organisation,
        "system": system,
        "trial": is_trial(organisation),
        "stages": [stage for stage in run.stages if stage.exit_code == 0 and stage.timed],
        "attempts": len([stage for stage in run.stages if stage.timed]),
        "figures": sorted(Path(name).name for name in run.files if name.startswith("figures/")),
        "version": __version__,
    }
    env = environment()
    try:
        pages = {
            name: env.get_template(f"submission/{name}.j2").render(shown)
            for name in ("README.md", "scientific_contribution.md", "pull_request.md")
        }
    except jinja2.TemplateError as error:
        raise KitError(f"{FILE}: lacks what its pages say: {error}") from None
    return {
        **pages,
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
        "system.json": json_text({**run.system, "submitter": organisation, "division": "open", "system_name": system}),
        **{f"result-{number}.txt": log(run, organisation, system) for number, run in enumerate(runs, start=1)},
        ATTRIBUTES: "# Bytes as they are: checksums are over them.\n* -text\n",
    }


def log(run: Run, organisation: str, system: str) -> str:
    """result-1.txt, by MLPerf's own logger. Times are those of the stages, not of the writing."""
    from mlperf_logging.mllog.mllog import MLLogger

    # A separate logger, because the library's default one also prints.
    text = io.StringIO()
    to_text = logging.Logger("kit", logging.INFO)
    to_text.addHandler(logging.StreamHandler(text))
    # It takes the root for a pattern.
    logger = MLLogger(to_text, default_namespace="kit", root_dir=re.escape(str(paths.PACKAGE.parent)))
    stages = [stage for stage in run.stages if stage.exit_code == 0 and stage.timed]
    if not stages:
        raise KitError(f"{FILE}: no stage ended well")

    def point(key: str, value: Any) -> None:
        logger.event(key=key, value=value, time_ms=milliseconds(stages[0].start))

    def milliseconds(seconds: float | None) -> int:
        return round((seconds or 0.0) * 1000)

    point("submission_benchmark", run.benchmark)
    point("submission_org", organisation)
    point("submission_division", "open")
    point("submission_version", __version__)
    point("submission_github_commit_version", run.commit)
    point("submission_status", "research")
    point("submission_platform", system)
    logger.start(key="run_start", value=None, time_ms=milliseconds(stages[0].start))
    for stage in stages:
        logger.start(key="block_start", value=stage.name, time_ms=milliseconds(stage.start))
        logger.end(key="block_stop", value=stage.name, time_ms=milliseconds(stage.end))
    last = stages[-1].end
    logger.end(key="run_stop", value=None, time_ms=milliseconds(last), metadata={"status": "success"})
    result = {metric.name: metric.value for metric in run.metrics}
    logger.event(key="result", value=result, time_ms=milliseconds(last))
    return text.getvalue()
