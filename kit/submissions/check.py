"""Is a submission what it claims? Every check is a function from a submission to its findings; no input can make one crash.

The folder is surveyed first, without opening anything: anything but a plain file with a known name is refused and never
read (survey.py, folder.py). Then each of its runs is rendered again from its own record, and every fact that is stated twice
is compared (consistency.py); whether it can have been so is asked last (plausible.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kit.core.errors import KitError
from kit.core.schema import shortened
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
from kit.submissions.folder import checksums, closed_world, path_names, required_files
from kit.submissions.plausible import times, verdict
from kit.submissions.rules import RULES, Finding, named, refusing
from kit.submissions.survey import Submission, survey

MOST_FINDINGS = 20  # of one check: a stranger's folder could give any number


CHECKS: tuple[Callable[[Submission], Iterator[Finding]], ...] = (
    closed_world,
    required_files,
    path_names,
    checksums,
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
    if not folder.is_dir():
        return [Finding("no-folder", str(folder), "not a folder")]
    folder = folder.resolve()
    dirty = in_environment("KIT_ALLOW_DIRTY") if allow_dirty is None else allow_dirty
    trial = in_environment("KIT_ALLOW_TRIAL") if allow_trial is None else allow_trial
    sub = survey(folder, place or folder.parts[-4:], dirty, trial)
    findings: list[Finding] = []
    for function in CHECKS:
        found: list[Finding] = []
        count = 0
        try:
            for finding in function(sub):
                count += 1
                if count <= MOST_FINDINGS:
                    found.append(finding)
        except KitError as error:
            found += [
                named("unreadable", line.replace(f"{folder}/", "", 1)) for line in str(error).splitlines()[:MOST_FINDINGS]
            ]
        except Exception as error:  # a stranger's folder may hold anything; the maintainer wants findings
            found.append(Finding("unchecked", ".", f"{function.__name__}: cannot be checked: {shortened(error)}"))
        if count > MOST_FINDINGS:
            found.append(Finding("more", ".", f"{function.__name__}: {count - MOST_FINDINGS} more findings of this kind"))
        findings += found
    return list(dict.fromkeys(findings))


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
    return "\n".join([*map(str, findings), f"{folder}: {verdict_of(findings)}"])


def verdict_of(findings: list[Finding]) -> str:
    errors = len(refusing(findings))
    warnings = len(findings) - errors
    words = [f"refused, {errors} finding(s)"] if errors else ["accepted"]
    return ", ".join(words + ([f"{warnings} warning(s)"] if warnings else []))
