"""From a collected run to a submission folder. Only a valid run can be packed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from kit import __version__, paths
from kit.errors import KitError
from kit.image import sha256
from kit.model import write_json
from kit.render import environment
from kit.run import Run, load_run, resolved
from kit.submission import MANIFEST, name_part


def pack(directory: Path, submissions: Path, organisation: str | None = None, system: str | None = None) -> Path:
    """Writes submissions/{organisation}/{application}/{system}/{descriptor}/ and returns it; it appears whole."""
    run = load_run(directory)
    if run.state.name != "valid":
        hint = "" if run.metrics or run.state.reason else f"; collect it first: kit collect {directory}"
        raise KitError(f"{directory}: {run.state}: only a valid run can be submitted{hint}")
    if run.scaling:
        raise KitError(f"{directory}: measures how {run.benchmark} scales, and is no result of it; submit a run of kit run")
    for name, digest in run.files.items():
        path = directory / name
        if not path.is_file() or f"sha256:{sha256(path)}" != digest:
            raise KitError(f"{path}: missing or changed since the run was collected; collect it again")
    _, site = resolved(directory)
    target = (
        submissions
        / name_part("organisation", organisation or site.organisation)
        / name_part("application", run.benchmark)
        / name_part("system", system or site.name)
        / name_part("descriptor", f"{run.work.replace('/', '-')}-{run.created:%Y%m%dT%H%M%SZ}")
    )
    if target.exists():
        raise KitError(f"{target}: exists; a submission is never overwritten. Remove it, or keep it as it is")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        write_folder(partial, directory, run, organisation or site.organisation)
        partial.chmod(0o755)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def write_folder(folder: Path, directory: Path, run: Run, organisation: str) -> None:
    benchmark, _ = resolved(directory)
    for name in run.files:
        copy = folder / "run" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / name, copy)
    shutil.copyfile(directory / "run.json", folder / "run.json")
    write_json(folder / "system.json", {"submitter": organisation, "division": "open", **run.system})
    size = benchmark.size(run.size)
    config = {
        "github": {
            "description": benchmark.title,
            "repo": "kit",
            "branch": "main",
            "version": __version__,
            "tag": run.commit,
        },
        "data": [f"kit run {run.benchmark} --size {run.size}{' --isolated PACK' if run.alone else ''}  # {run.data}"],
        "size": run.size,
        "ranks": run.ranks,
        "threads": run.threads,
        "image": {"name": run.image.name, "digest": run.image.digest, "recipe": run.image.recipe, "sbom": run.image.sbom},
        "hyperparameters": size.parameters,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    write_log(folder / "result-1.txt", run, organisation)
    env = environment()
    shown = {
        "run": run,
        "benchmark": benchmark,
        "size": size,
        "organisation": organisation,
        "stages": [stage for stage in run.stages if stage.exit_code == 0],
        "attempts": len(run.stages),
        "figures": sorted(Path(name).name for name in run.files if name.startswith("figures/")),
        "version": __version__,
    }
    for name in ("README.md", "scientific_contribution.md", "pull_request.md"):
        (folder / name).write_text(env.get_template(f"submission/{name}.j2").render(shown))
    lines = [
        f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    (folder / MANIFEST).write_text("".join(lines))


def write_log(path: Path, run: Run, organisation: str) -> None:
    """result-1.txt, by MLPerf's own logger. Times are those of the stages, not of the writing."""
    from mlperf_logging.mllog.mllog import MLLogger

    # A logger of its own: the library's default one also prints.
    handler = logging.FileHandler(path, mode="w")
    to_file = logging.Logger("kit", logging.INFO)
    to_file.addHandler(handler)
    logger = MLLogger(to_file, default_namespace="kit", root_dir=str(paths.PACKAGE.parent))
    stages = [stage for stage in run.stages if stage.exit_code == 0]

    def point(key: str, value: Any) -> None:
        logger.event(key=key, value=value, time_ms=milliseconds(stages[0].start))

    def milliseconds(seconds: float | None) -> int:
        return round((seconds or 0.0) * 1000)

    try:
        point("submission_benchmark", run.benchmark)
        point("submission_org", organisation)
        point("submission_division", "open")
        point("submission_version", __version__)
        point("submission_github_commit_version", run.commit)
        point("submission_status", "research")
        point("submission_platform", run.site)
        logger.start(key="run_start", value=None, time_ms=milliseconds(stages[0].start))
        for stage in stages:
            logger.start(key="block_start", value=stage.name, time_ms=milliseconds(stage.start))
            logger.end(key="block_stop", value=stage.name, time_ms=milliseconds(stage.end))
        last = stages[-1].end
        logger.end(key="run_stop", value=None, time_ms=milliseconds(last), metadata={"status": "success"})
        result = {metric.name: metric.value for metric in run.metrics}
        logger.event(key="result", value=result, time_ms=milliseconds(last))
    finally:
        handler.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of an MLPerf log."""
    events = []
    for line in path.read_text().splitlines():
        head, mark, body = line.partition(":::MLLOG ")
        if mark and not head:
            events.append(json.loads(body))
    return events
