"""result-N.txt: the log of one run in MLPerf's form, written by MLPerf's own logger.

Keys that MLPerf defines mean what MLPerf says. Stages are no blocks or epochs, so they have keys of the kit's own, in the
kit's namespace. science_ruleset.yaml beside this file says what such a log must hold, in the language of MLPerf's checker.
"""

from __future__ import annotations

import io
import logging
import re
from typing import Any

from kit import __version__
from kit.core import paths
from kit.core.errors import KitError
from kit.runs.record import FILE, Run

OWN = "kit"  # the namespace of keys that MLPerf does not define


def log(run: Run, organisation: str, system: str) -> str:
    """Times are those of the stages, not of the writing; KitError if no stage ended well."""
    from mlperf_logging.mllog.mllog import MLLogger

    # A separate logger, because the library's default one also prints.
    text = io.StringIO()
    to_text = logging.Logger("kit", logging.INFO)
    to_text.addHandler(logging.StreamHandler(text))
    # It takes the root for a pattern.
    logger = MLLogger(to_text, default_namespace="", root_dir=re.escape(str(paths.PACKAGE.parent)))
    stages = [stage for stage in run.stages if stage.exit_code == 0 and stage.timed]
    if not stages:
        raise KitError(f"{FILE}: no stage ended well")
    first, last = milliseconds(stages[0].start), milliseconds(stages[-1].end)

    def point(key: str, value: Any, **more: Any) -> None:
        logger.event(key=key, value=value, time_ms=first, **more)

    point("submission_benchmark", run.benchmark)
    point("submission_org", organisation)
    point("submission_division", "open")
    point("submission_version", __version__)
    point("submission_github_commit_version", run.commit)
    point("submission_status", "research")
    point("submission_platform", system)
    if run.seed is not None:
        point("seed", run.seed)
    point("size", run.work, namespace=OWN)
    point("image_digest", run.image.digest, namespace=OWN)
    point("data_digest", run.data, namespace=OWN)
    logger.start(key="run_start", value=None, time_ms=first)
    for stage in stages:
        logger.start(key="stage_start", value=stage.name, namespace=OWN, time_ms=milliseconds(stage.start))
        logger.end(key="stage_stop", value=stage.name, namespace=OWN, time_ms=milliseconds(stage.end))
    logger.end(key="run_stop", value=None, time_ms=last, metadata={"status": "success"})
    logger.event(key="result", value={metric.name: metric.value for metric in run.metrics}, time_ms=last)
    return text.getvalue()


def milliseconds(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1000)
