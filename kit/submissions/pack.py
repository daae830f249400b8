"""From a collected run to a submission folder. Only a valid run can be packed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import shutil
import tempfile
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
from kit.submissions.layout import ATTRIBUTES, descriptor, is_trial, name_part, packed
from kit.submissions.submitter import Ask, submitter


def pack(
    directory: Path,
    submissions: Path,
    organisation: str | None = None,
    system: str | None = None,
    allow_dirty: bool | None = None,
    allow_trial: bool | None = None,
    ask: Ask | None = None,
) -> Path:
    """Writes submissions/{organisation}/{application}/{system}/{descriptor}/ and returns it.

    It appears whole, and only when the check accepts it; KitError with the findings otherwise. `ask` is called for an
    organisation or system that is neither given nor known, and without it that is an error (kit/submissions/submitter.py).
    """
    from kit.submissions.check import check
    from kit.submissions.rules import refusing

    run = load_run(directory)
    if run.state.name != "valid":
        hint = "" if run.metrics or run.state.reason else f"; collect it first: kit collect {directory}"
        raise KitError(f"{directory}: {run.state}: only a valid run can be submitted{hint}")
    if run.scaling:
        raise KitError(f"{directory}: is a scaling measurement, not a result of {run.benchmark}; submit a run of kit run")
    benchmark, site = resolved(directory)
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
        write_folder(partial, directory, run, benchmark, levels[0], levels[2])
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


def write_folder(folder: Path, directory: Path, run: Run, benchmark: Benchmark, organisation: str, system: str) -> None:
    """The files of the run as they were when it was collected, what is written of them, and their checksums."""
    sums = {}
    for name, digest in run.files.items():
        sums[packed(name)] = copy(directory, name, folder / packed(name))
        if labelled(sums[packed(name)]) != digest:
            raise KitError(f"{directory / name}: missing or changed since the run was collected; collect it again")
    sums[FILE] = copy(directory, FILE, folder / FILE)
    for name, text in derived(run, benchmark, organisation, system).items():
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


def derived(run: Run, benchmark: Benchmark, organisation: str, system: str) -> dict[str, str]:
    """{name: text} of the files that are derived from the run; a check writes them again and compares."""
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
        "result-1.txt": log(run, organisation, system),
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
