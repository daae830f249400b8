"""Is a submission what it claims? Every check is a function from a submission to its findings; no input can make one crash.

The folder is surveyed first, without opening anything: anything but a plain file with a
known name is refused and never read. Then the run is rendered again from its own record (rerender.py), and every fact that
is stated twice is compared.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from kit.benchmark import RANKS, Benchmark
from kit.core.checksums import SUMS, digest, labelled, read_sums, sums_text
from kit.core.errors import KitError, plain
from kit.core.files import json_text, kind, read_json
from kit.core.schema import M, parse, shortened
from kit.data.isolated import PACK, Pack
from kit.doctor.outcome import FILE as DOCTOR
from kit.doctor.outcome import Outcome
from kit.runs.collect import CARRIED, metric_record
from kit.runs.plausibility import ranks_seen, stated_digest, too_fast
from kit.runs.record import FILE, SBOM, Run, State, read_stages, stage_lines
from kit.runs.states import judge
from kit.runs.system import KEYS, declared
from kit.site import Site
from kit.submissions.document import figures
from kit.submissions.layout import (
    DEEPEST,
    LEVELS,
    MAY_HOLD,
    MOST_BYTES,
    MOST_FILES,
    NAME,
    NUMBER,
    PART,
    PLACEHOLDER,
    REQUIRED,
    UNNAMED,
    descriptor,
    is_trial,
    packed,
    room,
    unnamed,
)
from kit.submissions.rerender import Answer, Question, answer
from kit.submissions.submitter import SUBMITTER, Submitter

MOST_FINDINGS = 20  # of one check: a stranger's folder could give any number
SKEW = 3600.0  # seconds by which the clocks of two nodes may differ
TICK = 5.0  # seconds that a clock may be set back


@dataclass(frozen=True)
class Finding:
    """A reason to refuse a submission: the file, and what is wrong with it."""

    file: str
    problem: str

    def __str__(self) -> str:
        text = plain(f"{self.file}: {self.problem}")
        return text if len(text) <= 1000 else f"{text[:1000]}... ({len(text)} characters)"


@dataclass
class Submission:
    """A folder that has been surveyed. Only `files` are ever opened; what is missing or cannot be read is None."""

    path: Path
    place: tuple[str, ...]  # organisation, application, system, descriptor
    allow_dirty: bool
    allow_trial: bool
    files: dict[str, int] = field(default_factory=dict)  # bytes of each plain file, by its name
    strange: list[Finding] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def there(self, name: str) -> bool:
        return name in self.files

    def digest(self, name: str) -> str:
        """`sha256:...` of a file; several checks compare it."""
        if name not in self.digests:
            self.digests[name] = digest(self.path / name)
        return self.digests[name]

    def parsed(self, model: type[M], name: str) -> M | None:
        """A file parsed as a model; None if it is missing. KitError names it by its name in the submission."""
        return parse(model, self.json(name), name) if self.there(name) else None

    def json(self, name: str) -> Any:
        try:
            return read_json(self.path / name)
        except KitError as error:
            raise KitError(str(error).replace(f"{self.path}/", "", 1)) from None

    @functools.cached_property
    def run(self) -> Run | None:
        try:
            return self.parsed(Run, FILE)
        except KitError:
            return None  # the schema's own check says why

    @property
    def runs(self) -> list[Run]:
        """All runs of the submission, in order: the first, and its repeats. KitError where one cannot be read."""
        found = [re.fullmatch(rf"repeat-({NUMBER})/run\.json", name) for name in self.files]
        numbers = sorted(int(match[1]) for match in found if match)
        repeats = [self.parsed(Run, f"{room(number)}{FILE}") for number in numbers]
        return [run for run in (self.run, *repeats) if run is not None]

    @functools.cached_property
    def outcome(self) -> Answer | KitError | None:
        """What the kit at the run's commit renders for it, or why it cannot; None without a run."""
        try:
            site, pack = self.parsed(Site, "run/site.json"), self.parsed(Pack, f"run/{PACK}")
            if self.run is None or site is None or len(self.place) < 4:
                return None
            question = Question(
                run=self.run,
                site=site,
                pack=pack,
                organisation=self.place[0],
                system=self.place[2],
                submitter=self.parsed(Submitter, SUBMITTER),
                pictures=figures(self.path, self.files),
                runs=self.runs,
            )
            return answer(question, self.allow_dirty)
        except KitError as error:
            return error
        except Exception as error:  # a stranger may have written anything
            return KitError(f"{FILE}: cannot be rendered again: {shortened(error)}")

    @property
    def answer(self) -> Answer | None:
        return self.outcome if isinstance(self.outcome, Answer) else None

    @functools.cached_property
    def benchmark(self) -> Benchmark | None:
        """The benchmark to compare the run with: never the folder's own copy."""
        return parse(Benchmark, json.loads(self.answer.benchmark), "benchmark") if self.answer else None


def survey(path: Path, place: tuple[str, ...], allow_dirty: bool, allow_trial: bool) -> Submission:
    """What lies in a folder, by lstat alone: nothing is opened and no link is followed."""
    found = Submission(path, place, allow_dirty, allow_trial)
    folders, seen, total = [""], dict[str, str](), 0
    executable: dict[str, int] = {}
    empty: set[str] = set()
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(path / folder), key=lambda entry: entry.name)
        except OSError as error:
            found.strange.append(Finding(folder or ".", f"cannot be listed: {error.strerror}"))
            continue
        for entry in entries:
            name = f"{folder}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            problem = strange(name, status)
            twin = seen.setdefault(name.casefold(), name)
            if twin != name:
                problem = problem or f"differs from {twin} by upper and lower case alone, and some file systems keep one"
            if len(seen) > MOST_FILES or total > MOST_BYTES:
                limit = f"{MOST_FILES} files" if len(seen) > MOST_FILES else decimal(MOST_BYTES)
                found.strange.append(Finding(".", f"holds more than {limit}; the rest was not looked at"))
                return found
            if problem:
                found.strange.append(Finding(name, problem))
            elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o111:
                executable[name] = status.st_mode
                total += status.st_size
                found.files[name] = status.st_size
            elif stat.S_ISDIR(status.st_mode):
                folders.append(f"{name}/")
                empty.add(name)
            else:
                found.files[name] = status.st_size
                total += status.st_size
    held = {parent.as_posix() for name in found.files for parent in Path(name).parents}
    for name in sorted(empty - held - {Path(finding.file).parent.as_posix() for finding in found.strange}):
        found.strange.append(Finding(name, "a folder without a file of a submission"))
    if len(executable) < len(found.files):  # if all are executable, the file system has no modes
        for name, mode in executable.items():
            del found.files[name]
            found.strange.append(Finding(name, f"its mode is {stat.S_IMODE(mode):04o}; a plain file is not executable"))
    return found


def strange(name: str, status: os.stat_result) -> str:
    """Why a file or folder must not be read; empty if it may be."""
    if not all(PART.fullmatch(part) for part in name.split("/")):
        return "its name is not made of letters, digits, dot, dash, plus and underscore"
    if name.count("/") >= DEEPEST:
        return f"lies more than {DEEPEST} folders deep"
    if stat.S_ISDIR(status.st_mode):
        return ""
    if kind(status.st_mode):
        return f"{kind(status.st_mode)}; a submission holds plain files"
    if status.st_mode & 0o7000:
        return f"its mode is {stat.S_IMODE(status.st_mode):04o}; a plain file has no set-user-ID, set-group-ID or sticky bit"
    if status.st_nlink > 1:
        return f"is one of {status.st_nlink} hard links to the same file, which may change elsewhere; copy it"
    limit = next((limit for pattern, limit in MAY_HOLD.items() if re.fullmatch(pattern, name)), None)
    if limit is None:
        return f"not listed in {SUMS}, or not of a kind that a submission holds"
    if status.st_size > limit:
        return f"has {decimal(status.st_size)}, and {decimal(limit)} are the most"
    return ""


def closed_world(sub: Submission) -> Iterator[Finding]:
    """Nothing is here but plain files of names that a submission can hold, none too large."""
    yield from sub.strange


def required_files(sub: Submission) -> Iterator[Finding]:
    """Every file that a submission must hold is there and not empty."""
    for name, purpose in REQUIRED.items():
        if not sub.there(name):
            yield Finding(name, f"missing ({purpose})")
        elif sub.files[name] == 0:
            yield Finding(name, f"empty ({purpose})")


OWN_NAMES = "pack the run under your own: kit submission pack RUN --organisation NAME --system NAME"


def path_names(sub: Submission) -> Iterator[Finding]:
    """The folder lies at {organisation}/{application}/{system}/{descriptor}, and the names agree with the run."""
    if len(sub.place) < 4:
        yield Finding(".", f"does not lie at {'/'.join(f'{{{level}}}' for level in LEVELS)}")
        return
    for level, part in zip(LEVELS, sub.place, strict=True):
        if not NAME.fullmatch(part):
            yield Finding(".", f"{level} '{part}' in the path is not a plain name")
        elif level in UNNAMED and unnamed(level, part) and not is_trial(sub.place[0]):
            yield Finding(".", f"{level} '{part}' in the path says nothing; {OWN_NAMES}")
    if is_trial(sub.place[0]) and not sub.allow_trial:
        trial = "--allow-trial accepts it for a trial of your own"
        yield Finding(".", f"organisation '{sub.place[0]}' marks a trial, which is no submission; {OWN_NAMES} ({trial})")
    if sub.run:
        if sub.place[1] != sub.run.benchmark:
            yield Finding(".", f"the path says application '{sub.place[1]}', run.json says '{sub.run.benchmark}'")
        if sub.place[3] != descriptor(sub.run):
            yield Finding(".", f"the path says descriptor '{sub.place[3]}', run.json says '{descriptor(sub.run)}'")


def checksums(sub: Submission) -> Iterator[Finding]:
    """Every file is the one that was packed, and no file was added."""
    if not sub.there(SUMS):
        return
    wanted = read_sums(sub.path)
    refused = {finding.file for finding in sub.strange}
    for name, digits in wanted.items():
        if name in sub.files:
            if sub.digest(name) != labelled(digits):
                yield Finding(name, f"differs from its checksum in {SUMS}")
        elif name not in refused:
            yield Finding(name, f"missing, but {SUMS} lists it")
    for name in sorted(sub.files):
        if name not in wanted and name != SUMS:
            yield Finding(name, f"not listed in {SUMS}")
    yield from same_text(sub, SUMS, sums_text(wanted), "of these sums")


def schema(sub: Submission) -> Iterator[Finding]:
    """Each record follows its schema and is formatted as the kit writes it: no key twice, nothing added."""
    for model, name in (
        (Run, FILE),
        (Site, "run/site.json"),
        (Pack, f"run/{PACK}"),
        (Outcome, f"run/{DOCTOR}"),
        (Submitter, SUBMITTER),
    ):
        try:
            found = sub.parsed(model, name)
        except KitError as error:
            yield from (named(line, name) for line in str(error).splitlines())
            continue
        if found is not None:
            yield from same_text(sub, name, json_text(found.model_dump(mode="json")), "of what it says")


def named(line: str, name: str = ".") -> Finding:
    """An error message as a finding: for the file that it begins with, or for `name`."""
    file, mark, problem = line.partition(": ")
    return Finding(file, problem) if mark and re.fullmatch(r"[\w./-]+", file) and "." in file else Finding(name, line)


def same_text(sub: Submission, name: str, wanted: str, of: str) -> Iterator[Finding]:
    """A text is, byte for byte, what the kit writes."""
    if not sub.there(name):
        return
    found = (sub.path / name).read_bytes().decode(errors="backslashreplace")
    if found == wanted:
        return
    ours, theirs = wanted.split("\n"), found.split("\n")
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    here = theirs[place] if place < len(theirs) else "its end"
    there = ours[place] if place < len(ours) else "its end"
    yield Finding(name, f"line {place + 1} is {shortened(here)}, but the kit writes {shortened(there)} {of}")


def rendering(sub: Submission) -> Iterator[Finding]:
    """Benchmark, script, texts and numbers are those that the kit at the run's commit renders."""
    if isinstance(sub.outcome, KitError):
        yield from (named(line, FILE) for line in str(sub.outcome).splitlines())
    answer, run = sub.answer, sub.run
    if answer is None or run is None:
        return
    yield from gates(sub)
    hint = f"; a submission is checked by the kit that made it, commit {run.commit}"
    yield from same_text(sub, "run/benchmark.json", answer.benchmark, f"for size {run.size}{hint}")
    yield from same_text(sub, "run/job.sh", answer.script, "for this run")
    for name, text in answer.derived.items():
        yield from same_text(sub, name, text, "of this run")
    logs = {name for name in sub.files if re.fullmatch(rf"result-{NUMBER}\.txt", name)}
    for name in sorted(logs - answer.derived.keys()):
        yield Finding(name, "is of no run of this submission")
    for name in sorted(answer.derived.keys() - sub.files.keys() - REQUIRED.keys()):
        yield Finding(name, "missing: the log of one of its runs")
    for name, wanted in answer.documents.items():
        if sub.there(name) and sub.digest(name) != wanted:
            yield Finding(name, "is not the document that the kit writes of this run and its figures")
    for key, wanted in answer.facts.items():
        found: Any = run
        for part in key.split("."):
            found = getattr(found, part)
        if found != wanted:
            yield Finding(FILE, f"{key} is {shortened(found)}, but {shortened(wanted)} is what the kit comes to")


GATES = ("stage", "file", "label", "unit", "direction", "at_least", "at_most", "reference", "tolerance")


def gates(sub: Submission) -> Iterator[Finding]:
    """The run was judged by all gates of its benchmark here, and by no others."""
    run, benchmark = sub.run, sub.benchmark
    if run is None or benchmark is None:
        return
    try:
        own = sub.parsed(Benchmark, "run/benchmark.json")
    except KitError:
        return  # its text is compared as a whole, too
    if own is None:
        return
    found = {metric.name: metric for metric in own.metrics}
    hint = f"; a submission is checked by the kit that made it, commit {run.commit}"
    for metric in benchmark.metrics:
        if metric.name not in found:
            yield Finding("run/benchmark.json", f"has no metric {metric.name}, which size {run.size} has{hint}")
            continue
        for gate in GATES:
            here, there = getattr(metric, gate), getattr(found[metric.name], gate)
            if here != there:
                yield Finding("run/benchmark.json", f"metric {metric.name}: {gate} is {there}, not {here}{hint}")


def verdict(sub: Submission) -> Iterator[Finding]:
    """The run is valid by its own record, and by what the record of its stages says when it is read again."""
    run = sub.run
    if run is None:
        return
    if run.state != State(name="valid"):
        yield Finding(FILE, f"state is {run.state}; only a valid run is a result")
    if not run.image.digest:
        yield Finding(FILE, "image.digest is missing; nothing proves what ran")
    if run.image.runtime == "host":
        yield Finding(FILE, "image.runtime is 'host': it ran outside a container, so nothing proves what ran")
    if run.scaling:
        yield Finding(FILE, "scaling is not empty: it measures how the benchmark scales, and is no result of it")
    if sub.benchmark and run.untuned(sub.benchmark):
        yield Finding(FILE, f"rendering.parameters: {run.untuned(sub.benchmark)}")
    if not sub.there("run/stages.jsonl"):
        return
    attempts = read_stages(sub.path / "run")
    if attempts != run.stages:
        yield Finding("run/stages.jsonl", "its stages are not those of run.json")
    yield from same_text(sub, "run/stages.jsonl", stage_lines(attempts), "of these stages")
    done: set[str] = set()
    for attempt in attempts:
        if attempt.name in done and attempt.timed:
            yield Finding("run/stages.jsonl", f"stage {attempt.name} ran again after it was done")
        if attempt.exit_code == 0:
            done.add(attempt.name)
            if attempt.reason:
                yield Finding("run/stages.jsonl", f"stage {attempt.name} ended well, and gives a reason: {attempt.reason}")
    if sub.benchmark is None or sub.answer is None:
        return
    state = judge([stage.name for stage in sub.benchmark.stages], attempts, job_gone=True)
    if state.name != "finished":
        yield Finding("run/stages.jsonl", f"says {state}")
    fast = too_fast(sub.benchmark, run.size, attempts)
    if fast:
        yield Finding("run/stages.jsonl", str(fast))
    if RANKS in done and sub.there(f"run/{RANKS}.jsonl"):
        try:
            ranks_seen(sub.path / "run", run.ranks)
        except KitError as error:
            yield Finding(f"run/{RANKS}.jsonl", str(error))
    for attempt in attempts:
        if attempt.command != sub.answer.commands.get(attempt.name):
            yield Finding("run/stages.jsonl", f"stage {attempt.name} is not the command of run/job.sh")


def times(sub: Submission) -> Iterator[Finding]:
    """Stages end after they start, follow each other, and lie between the creation of the run and now."""
    run, now = sub.run, time.time()
    if run is None:
        return
    created = run.created.timestamp()
    if created > now + SKEW:
        yield Finding(FILE, f"created is {run.created:%Y-%m-%d}, which has not come yet")
    before, what, host = created - SKEW, "the run was asked for", ""
    for attempt in run.stages:
        if attempt.start < before - (TICK if attempt.host == host else SKEW):
            yield Finding(FILE, f"stage {attempt.name} started before {what}")
        if attempt.end is not None and attempt.end < attempt.start - TICK:
            yield Finding(FILE, f"stage {attempt.name} ended before it started")
        before, what, host = attempt.end or attempt.start, f"stage {attempt.name} ended", attempt.host
    if run.stages and max(attempt.end or attempt.start for attempt in run.stages) > now + SKEW:
        yield Finding(FILE, "a stage ended at a time that has not come yet")


def carried(sub: Submission) -> Iterator[Finding]:
    """The files of the run are those of run.json: what every run has, what its metrics were read from, and figures."""
    run, benchmark = sub.run, sub.benchmark
    if run is None:
        return
    places: dict[str, str] = {}
    for name, recorded in run.files.items():
        if packed(name) in places:
            yield Finding(FILE, f"two of its files are packed as {packed(name)}")
        places[packed(name)] = recorded
    for name, recorded in places.items():
        if sub.there(name) and sub.digest(name) != recorded:
            yield Finding(name, f"is not the file that run.json names, {shortened(recorded)}")
        elif not sub.there(name):
            yield Finding(name, "missing, but run.json lists it among its files")
        if name.endswith(".png") and sub.there(name) and not is_png(sub.path / name):
            yield Finding(name, "is no PNG")
    for name in sub.files:
        if name.startswith("run/") and name not in places:
            yield Finding(name, "is not among the files of run.json")
    if benchmark is None:
        return
    logs = {f"logs/{stage.name}.{end}" for stage in benchmark.stages for end in ("out", "err")}
    expected = {*CARRIED, *logs, *(metric.file for metric in benchmark.metrics)} - ({PACK} if not run.isolated else set())
    if not any(stage.name == RANKS for stage in benchmark.stages):
        expected.discard(f"{RANKS}.jsonl")
    for name in sorted(expected - {DOCTOR} - set(run.files)):
        yield Finding(packed(name), "missing: every run of this size has it")
    for name in run.files:
        if name not in expected and not re.fullmatch(r"figures/[^/]+\.png", name):
            yield Finding(packed(name), "is nothing that a run of this size leaves for a submission")


def is_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89PNG\r\n\x1a\n"


def bill(sub: Submission) -> Iterator[Finding]:
    """The SBOM is of the image that ran: same digest, same recipe, same name and version."""
    run, name = sub.run, f"run/{SBOM}"
    if run is None or not sub.there(name):
        return
    if sub.digest(name) != run.image.sbom:
        yield Finding(name, "is not the one that run.json names")
    found = stated_digest(sub.json(name))
    for key, wanted in (
        ("kit:digest", run.image.digest),
        ("kit:label:kit.recipe", run.image.recipe),
        ("name", run.image.name),
        ("version", run.image.version),
    ):
        if found.get(key) != wanted:
            yield Finding(name, f"{key} is {shortened(found.get(key))}, run.json says {shortened(wanted)}")


def metrics(sub: Submission) -> Iterator[Finding]:
    """Every metric of the benchmark, and no other, is there, was read from a file that is there, and passes its gate."""
    run, benchmark = sub.run, sub.benchmark
    if run is None or benchmark is None:
        return
    found = {metric.name: metric for metric in run.metrics}
    known: dict[Any, Any] = {}
    if [metric.name for metric in run.metrics] != [metric.name for metric in benchmark.metrics]:
        strangers = ", ".join(found.keys() - {metric.name for metric in benchmark.metrics})
        yield Finding(FILE, f"its metrics are not those of size {run.size}{': ' if strangers else ''}{strangers}")
    for metric in benchmark.metrics:
        name = packed(metric.file)
        if metric.name not in found:
            yield Finding(FILE, f"metric {metric.name} is missing")
            continue
        if not sub.there(name):
            yield Finding(name, f"missing, and with it {metric.label}, the metric {metric.name}")
            continue
        source = sub.path / name
        try:
            again = benchmark.read_value(source, metric.label, known)
        except KitError as error:
            yield Finding(name, str(error).removeprefix(f"{source}: "))
            continue
        value = found[metric.name].value
        if again != value:
            yield Finding(FILE, f"metric {metric.name} is {value!r}, but {name} says {again!r}")
        problem = metric.problem(again)
        if problem:
            yield Finding(name, problem)
        if metric.fact and again != getattr(run, metric.fact):
            yield Finding(
                name, f"metric {metric.name} is {again:g}, but {metric.fact} of run.json is {getattr(run, metric.fact)}"
            )
        wanted = metric_record(metric, again, sub.digest(name))
        for key, expected in wanted.model_dump().items():
            said = getattr(found[metric.name], key)
            if key != "value" and said != expected:
                yield Finding(FILE, f"metric {metric.name}: {key} is {shortened(said)}, not {shortened(expected)}")


def contradictions(sub: Submission) -> Iterator[Finding]:
    """The files agree with each other: everything that can be computed from them again is."""
    if sub.run and sub.benchmark:
        names = {metric.file for metric in sub.benchmark.metrics}
        files = {name: sub.path / packed(name) for name in names if sub.there(packed(name))}
        for name, problem in sub.benchmark.code.contradictions(files):
            yield Finding(f"run/{name}", problem)


def system(sub: Submission) -> Iterator[Finding]:
    """The description of the system has the keys that the kit writes, and says what the site declares of it."""
    run, site = sub.run, sub.parsed(Site, "run/site.json")
    if run is None or site is None or run.partition not in site.partitions:
        return
    wanted = declared(site, run.partition)
    for key, value in wanted.items():
        if run.system.get(key) != value:
            yield Finding(FILE, f"system.{key} is {shortened(run.system.get(key))}, run/site.json says {value!r}")
    for key in sorted({*KEYS, *wanted} ^ run.system.keys()):
        yield Finding(FILE, f"system.{key} is {'missing' if key not in run.system else 'no key that the kit writes'}")


def doctored(sub: Submission) -> Iterator[Finding]:
    """What a doctor's job found is of this site and partition, as the run knows them, and was found in the past."""
    name = f"run/{DOCTOR}"
    found, run, site = sub.parsed(Outcome, name), sub.run, sub.parsed(Site, "run/site.json")
    if found is None or run is None or site is None:
        return
    problem = found.foreign(site, run.partition)
    if problem:
        yield Finding(name, problem)
    if found.date.timestamp() > time.time() + SKEW:
        yield Finding(name, f"its date is {found.date:%Y-%m-%d}, which has not come yet")


def placeholders(sub: Submission) -> Iterator[Finding]:
    """No placeholder is left in text that people fill in."""
    site = sub.parsed(Site, "run/site.json")
    if site is None:
        return
    fields = {key: getattr(site, key) for key in ("description", "contact", "url", "organisation")}
    for key, value in {**fields, **{f"hardware.{key}": value for key, value in site.hardware.items()}}.items():
        match = PLACEHOLDER.search(str(value))
        if match:
            yield Finding("run/site.json", f"key '{key}' still holds '{match[0]}'")


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
        return [Finding(str(folder), "not a folder")]
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
            found += [named(line.replace(f"{folder}/", "", 1)) for line in str(error).splitlines()[:MOST_FINDINGS]]
        except Exception as error:  # a stranger's folder may hold anything; the maintainer wants findings
            found.append(Finding(".", f"{function.__name__}: cannot be checked: {shortened(error)}"))
        if count > MOST_FINDINGS:
            found.append(Finding(".", f"{function.__name__}: {count - MOST_FINDINGS} more findings of this kind"))
        findings += found
    return list(dict.fromkeys(findings))


def in_environment(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def as_json(folder: Path, findings: list[Finding]) -> str:
    return json.dumps(
        {"folder": str(folder), "accepted": not findings, "findings": [vars(finding) for finding in findings]}, indent=2
    )


def report(folder: Path, findings: list[Finding]) -> str:
    """The findings as text, a line each, and the verdict."""
    verdict = f"refused, {len(findings)} finding(s)" if findings else "accepted"
    return "\n".join([*map(str, findings), f"{folder}: {verdict}"])
