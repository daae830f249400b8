"""Is a submission what it claims? Every check is a function from a submission to its findings; no input can make one crash.

The folder is surveyed first, without opening anything: anything but a plain file with a known name is refused and never
read (survey.py, folder.py). Then each of its runs is rendered again from its own record, and every fact that is stated twice
is compared (consistency.py); whether it can have been so is asked last (plausible.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from kit.core.errors import KitError, plain
from kit.core.schema import shortened
from kit.submissions.across import repeated
from kit.submissions.consistency import (
    bill,
    carried,
    contradictions,
    doctored,
    metrics,
    placeholders,
    rendering,
    schema,
    system,
)
from kit.submissions.fix import fix
from kit.submissions.folder import checksums, closed_world, path_names, required_files
from kit.submissions.leaks import hidden, leaks
from kit.submissions.plausible import copied, crowded, durations, throughput, times, verdict
from kit.submissions.rules import RULES, Finding, named, refusing
from kit.submissions.survey import Submission, survey

MOST_FINDINGS = 20  # of one check: a stranger's folder could give any number


Check = Callable[[Submission], Iterator[Finding]]
# Of the folder as a whole, and of each run in it.
OF_FOLDER: tuple[Check, ...] = (closed_world, required_files, path_names, checksums, repeated, leaks)
OF_RUN: tuple[Check, ...] = (
    schema,
    rendering,
    verdict,
    times,
    carried,
    bill,
    metrics,
    contradictions,
    system,
    doctored,
    placeholders,
    durations,
    crowded,
    throughput,
    copied,
)


def check(
    folder: Path,
    allow_dirty: bool | None = None,
    place: tuple[str, ...] | None = None,
    allow_trial: bool | None = None,
) -> list[Finding]:
    """All findings of all checks. A check that fails on what it reads reports that as a finding.

    `place` is where the folder is to lie, if not where it lies. For trials of one's own, `allow_dirty` accepts a run by a
    kit with changed files and `allow_trial` the organisation `trial`; where they are not given, KIT_ALLOW_DIRTY=1 and
    KIT_ALLOW_TRIAL=1 in the environment do.
    """
    try:
        if not folder.is_dir():
            return [Finding("no-folder", str(folder), "not a folder")]
        folder = folder.resolve()
        sub = survey(folder, place or folder.parts[-4:], *allowed(allow_dirty, allow_trial))
    except OSError as error:  # no permission, or a file that went away meanwhile
        return [Finding("cannot-list", str(folder), f"cannot be listed: {error.strerror}")]
    findings = [finding for function in OF_FOLDER for finding in found_by(function, sub)]
    findings += [finding for run in (sub, *sub.repeats) for function in OF_RUN for finding in found_by(function, run)]
    return list(dict.fromkeys(findings))


def found_by(function: Check, sub: Submission) -> list[Finding]:
    """What one check finds, with names of files as they are from the top; never more than can be read."""
    found: list[Finding] = []
    count = 0
    try:
        for finding in function(sub):
            count += 1
            if count <= MOST_FINDINGS:
                found.append(finding)
    except KitError as error:
        lines = str(error).splitlines()[:MOST_FINDINGS]
        found += [named("unreadable", line.replace(f"{sub.path}/", "", 1)) for line in lines]
    except Exception as error:  # a stranger's folder may hold anything; the maintainer wants findings
        found.append(failure(function, sub, error))
    if count > MOST_FINDINGS:
        rule = "more" if refusing(found) else "more-warnings"
        found.append(Finding(rule, ".", f"{function.__name__}: {count - MOST_FINDINGS} more findings of this kind"))
    return [
        replace(finding, file=(sub.room + finding.file).removesuffix("/."), problem=hidden(finding.problem))
        for finding in found
    ]


def failure(function: Check, sub: Submission, error: Exception) -> Finding:
    """What stopped a check, for the file that could not be read, if it was one."""
    name = str(getattr(error, "filename", ""))
    if isinstance(error, OSError) and name.startswith(f"{sub.path}/"):
        return Finding("unreadable", name.removeprefix(f"{sub.path}/"), f"cannot be read: {error.strerror}")
    return Finding("unchecked", ".", f"{function.__name__}: cannot be checked: {shortened(error)}")


def mend(folder: Path, allow_dirty: bool | None = None, allow_trial: bool | None = None) -> list[str]:
    """Mends what can be mended safely (fix.py), and returns what was done; KitError as there, and for what is no folder."""
    if not folder.is_dir():
        raise KitError(f"{folder}: not a folder")
    folder = folder.resolve()
    return fix(folder, folder.parts[-4:], *allowed(allow_dirty, allow_trial))


def allowed(dirty: bool | None, trial: bool | None) -> tuple[bool, bool]:
    """Whether a changed kit and a trial are accepted: as it is given, or else as the environment says."""
    return (
        in_environment("KIT_ALLOW_DIRTY") if dirty is None else dirty,
        in_environment("KIT_ALLOW_TRIAL") if trial is None else trial,
    )


def in_environment(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def as_json(folder: Path, findings: list[Finding]) -> str:
    """The verdict and the findings for a program."""
    entries = []
    for finding in findings:
        rule = RULES[finding.rule]
        entries.append({**vars(finding), "severity": rule.severity, "why": rule.why, "mend": rule.mend})
    return json.dumps({"folder": str(folder), "accepted": not refusing(findings), "findings": entries}, indent=2)


def report(folder: Path, findings: list[Finding]) -> str:
    """The findings as text, a line each, and the verdict."""
    return "\n".join([*map(str, findings), f"{plain(str(folder))}: {verdict_of(findings)}"])


def verdict_of(findings: list[Finding]) -> str:
    errors = len(refusing(findings))
    warnings = len(findings) - errors
    words = [f"refused, {errors} finding(s)"] if errors else ["accepted"]
    return ", ".join(words + ([f"{warnings} warning(s)"] if warnings else []))
