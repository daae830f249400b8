"""Many submissions at once: each judged by itself, then all held against each other.

Across submissions only records are compared (run.json, sha256sums.txt, names), each read once, and of each a few hashes are
kept; so a thousand of them need little memory. What is equal though nobody could have measured it twice is an error; what
is equal though one would expect a difference is a warning.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kit.core.checksums import SUMS, read_sums
from kit.core.errors import KitError, plain
from kit.core.files import open_plain, plain_file, read_toml
from kit.core.schema import Model, Name, OneLine, parse
from kit.runs.evidence import KEPT, Kept
from kit.runs.record import FILE, P
from kit.submissions.check import check, verdict_of
from kit.submissions.git import commit_of, git, top
from kit.submissions.layout import LEVELS, MEGABYTE
from kit.submissions.rules import RULES as OWN_RULES
from kit.submissions.rules import Finding, Rule, Severity, refusing

SUBMISSIONS = "submissions"
DEEPEST = len(LEVELS)  # folders below the one that holds all submissions
STRAY = "is in no submission"
MARKS = (FILE, SUMS)  # a folder that holds one of them means to be a submission
BESIDE = {"README.md", ".gitkeep", ".gitattributes"}  # what may lie in submissions/ itself
ORGANISATIONS = "organisations.toml"  # beside submissions/
MOST_RECORD = 4 * MEGABYTE  # bytes; no larger run.json is accepted (layout.MAY_HOLD)
MOST_SHOWN = 20  # findings of one kind
MOST_MARKDOWN = 60_000  # characters; GitHub takes 65,536 in a comment

RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule(
            "same-script",
            "error",
            "No two submissions have the same job script.",
            "A script names its run's directory, to the millisecond: two submissions of one script are one run.",
            "keep the one under the name of the system that ran it",
        ),
        Rule(
            "same-times",
            "error",
            "No two submissions have stages that ran on the same node at the same times.",
            "One run was packed under two names.",
            "keep the one under the name of the system that ran it",
        ),
        Rule(
            "same-log",
            "error",
            "No result file is in two submissions.",
            "A log holds times to the millisecond: two that are equal are copies.",
            "remove the copy",
        ),
        Rule(
            "same-evidence",
            "error",
            "No map, mask or other evidence is in submissions of different work or seed.",
            "Another seed gives other numbers, so that equal bytes were copied.",
            "run the benchmark again, and submit that run",
        ),
        Rule(
            "same-picture",
            "warning",
            "Figures of different runs differ, and so does evidence of one seed on two machines, mostly.",
            "Equal bytes may come from equal processors, and may be copied.",
            "say in the pull request why they are equal",
        ),
        Rule(
            "equal-metrics",
            "error",
            "No two submissions with different seeds, or with a measured time, have metrics equal to the last digit.",
            "Nobody measures the same time twice, nor gets every digit again from another seed.",
            "run the benchmark again, and submit that run",
        ),
        Rule(
            "equal-on-systems",
            "warning",
            "Two systems seldom come to metrics that are equal to the last digit.",
            "It happens on equal processors with the same seed and image; elsewhere it is a copy.",
            "say in the pull request why they are equal",
        ),
        Rule(
            "unknown-organisation",
            "error",
            f"Every organisation is listed in {ORGANISATIONS}.",
            "A maintainer has to know who answers for a result.",
            f"ask the maintainers, in a pull request of its own, to add it to {ORGANISATIONS}",
        ),
        Rule(
            "similar-name",
            "error",
            "No two organisations, or systems of one, differ by upper and lower case alone.",
            "They are taken for each other, and some file systems keep only one of them.",
            "take the name that is there already",
        ),
        Rule(
            "outside",
            "error",
            "Every file below submissions/ lies in a submission.",
            "No check reads the others.",
            f"remove it, or move it to where it belongs: {'/'.join(f'{{{level}}}' for level in LEVELS)}/",
        ),
        Rule(
            "changed-later",
            "error",
            "A published submission is not changed.",
            "Others may have cited it.",
            "leave it as it was, and submit another run; only maintainers take a result back",
        ),
    )
}


@dataclass(frozen=True)
class Match(Finding):
    """Something that several submissions show together; the file is that of one of them."""

    @property
    def severity(self) -> Severity:
        return RULES[self.rule].severity


@dataclass
class Judgement:
    """The findings of each submission, by its path below the root, and of what lies beside them."""

    root: Path
    verdicts: dict[str, list[Finding]]
    outside: list[Finding] = field(default_factory=list)

    @property
    def refused(self) -> list[str]:
        return [name for name, findings in self.verdicts.items() if refusing(findings)]

    @property
    def accepted(self) -> bool:
        return not self.refused and not refusing(self.outside)


def folders(root: Path) -> list[Path]:
    """The submission folders below a folder, at most four deep, in the order of their names; no link is followed.

    KitError where `root` cannot be listed; a folder in it that cannot be holds none.
    """
    return survey(root)[0]


def survey(root: Path) -> tuple[list[Path], dict[Path, str]]:
    """The submission folders below a folder, and what else is there, with what is wrong with it; KitError as `folders`."""
    if root.is_symlink() or not root.is_dir():
        raise KitError(f"{root}: not a folder; give the folder that holds the submissions, and no link to it")
    found: list[Path] = []
    strays: dict[Path, str] = {}
    level = [root]
    for depth in range(DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            try:
                entries = listed(folder)
            except KitError as error:
                if not depth:
                    raise
                strays[folder] = str(error).removeprefix(f"{folder}: ")
                continue
            if depth and any(entry.name in MARKS for entry in entries):
                found.append(folder)
                continue
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            beside = (Path(entry.path) for entry in entries if not entry.is_dir(follow_symlinks=False))
            strays |= dict.fromkeys(beside, STRAY)
            if (not inner and depth) or depth == DEEPEST:
                strays[folder] = STRAY
            else:
                below += inner
        level = below
    places = {root, *(folder.parents[DEEPEST - 1] for folder in found if len(folder.parents) >= DEEPEST)}
    kept = {place / name for place in places for name in BESIDE}
    return sorted(found), {stray: strays[stray] for stray in sorted(strays) if stray not in kept}


def listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise KitError(f"{folder}: cannot be listed: {error.strerror}") from None


def several(folder: Path) -> bool:
    """Whether a folder is no submission and is made to hold some; KitError for a link to one, and where one lies in it."""
    if folder.is_symlink() and folder.is_dir() and several(folder.resolve()):
        raise KitError(f"{folder}: a link to a folder of submissions; give that folder, {folder.resolve()}")
    if folder.is_symlink() or not folder.is_dir() or any(os.path.lexists(folder / name) for name in MARKS):
        return False
    if os.path.lexists(folder / SUBMISSIONS):
        raise KitError(f"{folder}: is no submission; give {folder / SUBMISSIONS}, or the folder of one")
    return folder.name == SUBMISSIONS or bool(folders(folder))


def check_all(
    root: Path, allow_dirty: bool | None = None, allow_trial: bool | None = None, jobs: int = 1, since: str = ""
) -> Judgement:
    """The verdict on every submission below a folder; KitError where there is none.

    `since` names a commit of the git clone that holds them: then only submissions that have changed since are judged, and
    only what concerns them is told; that none has changed is no error. `jobs` processes work at once.
    """
    root = root.absolute()
    found, strays = survey(root)
    names = [folder.relative_to(root).as_posix() for folder in found]
    changes = dict.fromkeys(names, False)
    if since:
        words, then = differing(root, since)
        published = {submission_of(word) for word in then} - {""}
        changes = {name: name in published for name in sorted({*map(submission_of, words)} & {*names, *published})}
        strays = {
            stray: problem
            for stray, problem in strays.items()
            if problem != STRAY or stray.relative_to(root).as_posix() in words
        }
    elif not found:
        raise KitError(f"{root}: holds no submission; kit submission pack RUN writes one")
    judged = [name for name in names if name in changes]
    judgement = Judgement(root, own_findings(root, judged, allow_dirty, allow_trial, jobs))
    for name in (name for name, published in changes.items() if published):
        later = Match("changed-later", ".", "differs from what was published")
        judgement.verdicts.setdefault(name, []).append(later)
    told: Counter[tuple[str, str]] = Counter()
    for name, match in across(root, names):
        told[name, match.rule] += 1
        if name in changes and told[name, match.rule] <= MOST_SHOWN:
            judgement.verdicts[name].append(match)
    judgement.outside += limited("outside", strays, root)
    return judgement


def limited(rule: str, strays: dict[Path, str], root: Path) -> Iterator[Finding]:
    for stray in list(strays)[:MOST_SHOWN]:
        yield Match(rule, os.fsencode(stray.relative_to(root)).decode(errors="backslashreplace"), strays[stray])
    if len(strays) > MOST_SHOWN:
        yield Match(rule, ".", f"{len(strays) - MOST_SHOWN} more files or folders are in no submission")


def own_findings(
    root: Path, names: list[str], allow_dirty: bool | None, allow_trial: bool | None, jobs: int
) -> dict[str, list[Finding]]:
    """What the check of each submission finds, in as many processes as are asked for."""
    one = functools.partial(check, allow_dirty=allow_dirty, allow_trial=allow_trial)
    paths = [root / name for name in names]
    if jobs < 2 or len(names) < 2:
        return {name: one(path) for name, path in zip(names, paths, strict=True)}
    try:
        with ProcessPoolExecutor(min(jobs, len(names))) as pool:
            return dict(zip(names, pool.map(one, paths), strict=True))
    except BrokenProcessPool:
        raise KitError(f"{root}: a process that checked a submission was killed; --jobs 1 needs less memory") from None


def differing(root: Path, since: str) -> tuple[set[str], list[str]]:
    """The files below submissions/ that differ from a commit, also those that are gone, and the files that it has there."""
    if root.name != SUBMISSIONS:
        raise KitError(f"{root}: what has changed is found below the whole of {SUBMISSIONS}/ alone; give that folder")
    commit = commit_of(top(root), since)
    words = git(root, "diff", "--name-only", "-z", "--no-renames", "--relative", commit, "--", ".").split("\0")
    words += git(root, "ls-files", "--others", "-z", "--", ".").split("\0")
    return set(words) - {""}, git(root, "ls-tree", "-r", "--name-only", "-z", commit, ".").split("\0")


def submission_of(name: str) -> str:
    """The four folders in which a file below submissions/ lies; empty where it lies in fewer."""
    parts = name.split("/")
    return "/".join(parts[:DEEPEST]) if len(parts) > DEEPEST else ""


class Image(BaseModel):
    digest: str = ""


class Stage(BaseModel):
    name: str
    host: str = ""
    start: float
    end: float | None = None


class Metric(BaseModel):
    name: str
    value: float
    unit: str = ""


class Record(BaseModel):
    """What of a run.json is held against others; its own check judges the rest."""

    benchmark: str
    size: str
    seed: int | None = None
    script: str
    image: Image
    stages: list[Stage] = []
    metrics: list[Metric] = []
    files: dict[str, str] = {}

    @property
    def work(self) -> tuple[object, ...]:
        return (self.benchmark, self.size, self.seed, self.image.digest)


@dataclass(frozen=True)
class Trace:
    """A hash of something that should not be in two submissions, and where it is."""

    rule: str
    key: bytes
    name: str  # of the submission
    file: str
    work: tuple[object, ...] = ()  # benchmark, size, seed, image

    @property
    def system(self) -> tuple[str, ...]:
        return tuple(self.name.split("/")[-DEEPEST:-1:2])  # organisation and system


WHAT = {
    "same-script": "has the job script of",
    "same-times": "ran on the same node at the same times as",
    "same-log": "is the result file of",
    "same-evidence": "is, byte for byte, evidence of",
    "same-picture": "is, byte for byte, a file of",
    "equal-metrics": "has, to the last digit, the metrics of",
    "equal-on-systems": "has, to the last digit, the metrics of",
}


def across(root: Path, names: list[str]) -> Iterator[tuple[str, Match]]:
    """What submissions show together, each finding with the submission that it is about."""
    groups: dict[tuple[str, bytes], list[Trace]] = {}
    for name in names:
        for trace in traces(root, name):
            groups.setdefault((trace.rule, trace.key), []).append(trace)
    for group in groups.values():
        yield from matches(group)
    yield from strangers(root, names)
    yield from similar(root, names)


def matches(group: list[Trace]) -> Iterator[tuple[str, Match]]:
    """The gravest finding for each submission in a group of equal traces, if they are in several."""
    for trace in group if len(group) > 1 else []:
        broken = {verdict(trace, other): other for other in reversed(group) if other.name != trace.name}
        broken.pop("", None)
        if broken:
            rule = min(broken, key=lambda rule: (RULES[rule].severity, rule))  # an error is before a warning
            other = broken[rule]
            yield trace.name, Match(rule, trace.file, f"{WHAT[rule]} {other.name}/{other.file}")


def verdict(trace: Trace, other: Trace) -> str:
    """The rule that two equal traces break; empty for none."""
    if trace.rule == "same-evidence" and trace.work == other.work:
        return "same-picture"
    if trace.rule == "equal-on-systems" and trace.work[2] != other.work[2]:
        return "equal-metrics"
    if trace.rule == "equal-on-systems" and trace.system == other.system:
        return ""  # the same machine and seed
    return trace.rule


def traces(root: Path, name: str) -> Iterator[Trace]:
    """Of each run in a submission, and of its result files. What cannot be read leaves none: its own check refuses it."""
    try:
        sums = read_sums(root / name) if small(root / name, SUMS) else {}
    except (KitError, OSError):
        sums = {}
    for file, digits in sums.items():
        if re.fullmatch(r"result-[0-9]+\.txt", file):
            yield Trace("same-log", bytes.fromhex(digits), name, file)
    for folder in ["", *sorted({file.split("/")[0] + "/" for file in sums if re.match(r"repeat-[0-9]+/", file)})]:
        run = read(Record, root / name, f"{folder}{FILE}")
        if run and KEPT in run.files:  # maps that are too large to be carried are named there
            elsewhere = read(Kept, root / name, f"{folder}run/{KEPT}")
            run.files.update(
                {f"{KEPT} {inner}": file.sha256 for inner, file in elsewhere.files.items()} if elsewhere else {}
            )
        if run:
            yield from traces_of(run, name, folder)


def small(folder: Path, name: str) -> bool:
    """Whether a file is plain, and not larger than a record may be."""
    try:
        return plain_file(folder, name).stat().st_size <= MOST_RECORD
    except (KitError, OSError):
        return False


def read(model: type[P], folder: Path, name: str) -> P | None:
    """A record of a submission; None where it cannot be read as one."""
    try:
        with open_plain(folder, name) as file:
            text = file.read(MOST_RECORD + 1)
        return model.model_validate_json(text) if len(text) <= MOST_RECORD else None
    except (KitError, OSError, ValidationError):
        return None


def traces_of(run: Record, name: str, folder: str) -> Iterator[Trace]:
    file = f"{folder}{FILE}"
    yield Trace("same-script", key(run.script), name, file)
    ended = [(stage.host, stage.start, stage.end) for stage in run.stages if stage.end is not None]
    if ended:
        yield Trace("same-times", key(*sorted(ended)), name, file)
    values = [(metric.name, metric.value) for metric in run.metrics]
    if any(value != round(value) for _, value in values if abs(value) < 1e300):  # whole numbers are often equal
        measured = any(metric.unit == "s" or "/s" in metric.unit or metric.unit.startswith("s/") for metric in run.metrics)
        rule = "equal-metrics" if measured else "equal-on-systems"
        yield Trace(rule, key(run.benchmark, run.size, *values), name, file, run.work)
    for inner, digest in run.files.items():
        if inner.startswith(("evidence/", "figures/")):
            rule = "same-evidence" if inner.startswith("evidence/") else "same-picture"
            yield Trace(rule, key(digest), name, f"{folder}run/{inner}", run.work)


def key(*values: object) -> bytes:
    return hashlib.sha256(repr(values).encode(errors="backslashreplace")).digest()


class Organisation(Model):
    name: OneLine
    contact: OneLine = ""


class Organisations(Model):
    organisation: dict[Name, Organisation] = {}


def strangers(root: Path, names: list[str]) -> Iterator[tuple[str, Match]]:
    """Submissions of organisations that the file beside submissions/ does not list; without that file, none."""
    lists: dict[Path, frozenset[str] | None] = {}
    for name in names:
        folder = root / name
        if len(folder.parents) <= DEEPEST:
            continue
        place, owner = folder.parents[DEEPEST], folder.parts[-DEEPEST]
        if place not in lists:
            lists[place] = organisations(place)
        known = lists[place]
        if known is not None and owner not in known:
            yield name, Match("unknown-organisation", ".", f"organisation '{owner}' is not in {ORGANISATIONS}")


def organisations(folder: Path) -> frozenset[str] | None:
    """The organisations that a repository knows; None where it keeps no list. KitError for a list that cannot be read."""
    if not os.path.lexists(folder / ORGANISATIONS):
        return None
    file = plain_file(folder, ORGANISATIONS)
    return frozenset(parse(Organisations, read_toml(file), file).organisation)


def similar(root: Path, names: list[str]) -> Iterator[tuple[str, Match]]:
    """Names of the same folder that differ by upper and lower case alone."""
    spelt: dict[str, set[str]] = {}
    for name in names:
        for prefix in prefixes(name):
            spelt.setdefault(prefix.casefold(), set()).add(prefix)
    for name in names:
        for prefix in prefixes(name):
            others = sorted(spelt[prefix.casefold()] - {prefix})
            if others:
                yield name, Match("similar-name", ".", f"'{prefix}' and '{others[0]}' differ by upper and lower case alone")
                break


def prefixes(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def report(judgement: Judgement) -> str:
    """The findings as text, a line each, a verdict for each submission, and how many there are of each."""
    lines = [str(finding) for finding in judgement.outside]
    for name, findings in judgement.verdicts.items():
        lines += [str(replace(finding, file=f"{name}/{finding.file}")) for finding in findings]
        lines.append(f"{plain(name)}: {verdict_of(findings)}")
    refused = len(judgement.refused)
    lines.append(f"{plain(str(judgement.root))}: {len(judgement.verdicts) - refused} accepted, {refused} refused")
    return "\n".join(lines)


def as_json(judgement: Judgement) -> str:
    verdicts = [
        {"folder": name, "accepted": not refusing(findings), "findings": [table(finding) for finding in findings]}
        for name, findings in judgement.verdicts.items()
    ]
    whole: dict[str, Any] = {"folder": str(judgement.root), "accepted": judgement.accepted, "submissions": verdicts}
    return json.dumps({**whole, "outside": [table(finding) for finding in judgement.outside]}, indent=2)


def table(finding: Finding) -> dict[str, str]:
    rule = (RULES if isinstance(finding, Match) else OWN_RULES)[finding.rule]
    return {"rule": rule.id, "severity": rule.severity, **vars(finding), "why": rule.why, "mend": rule.mend}


def as_markdown(judgement: Judgement) -> str:
    """A comment for a pull request: foreign text stands in code spans alone, where it is no markup, link or mention."""
    lines = ["### Check of the submissions", ""]
    if not judgement.verdicts and not judgement.outside:
        lines.append("No submission is changed.")
    if judgement.outside:
        lines += section("Beside the submissions", judgement.outside)
    for name, findings in judgement.verdicts.items():
        lines += section(f"{code(name)}: {verdict_of(findings)}", findings)
    text = "\n".join(lines) + "\n"
    if len(text) <= MOST_MARKDOWN:
        return text
    end = text.rindex("\n", 0, MOST_MARKDOWN)
    return f"{text[:end]}\n\nThe rest is left out; `kit submission check` tells all of it.\n"


def section(title: str, findings: Iterable[Finding]) -> list[str]:
    lines = [title, ""]
    rows = [table(finding) for finding in findings]
    if rows:
        lines += ["| | rule | file | problem | way out |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row["severity"], row["rule"], code(row["file"]), code(row["problem"]), row["mend"])
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""] if rows else lines


def code(text: str) -> str:
    """Foreign text as a code span that also stands in a table, where no escape is sure to hold for a bar."""
    shown = plain(text).replace("`", "'").replace("|", "¦")
    return f"`{shown[:500]}`" if shown.strip() else ""
