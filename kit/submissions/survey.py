"""What lies in a folder, by lstat alone, and the files of one run in it, each opened only when it is plain and known."""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from kit.benchmark import Benchmark
from kit.core.checksums import SUMS, digest
from kit.core.errors import KitError
from kit.core.files import kind, read_json
from kit.core.schema import M, parse, shortened
from kit.data.isolated import PACK, Pack
from kit.runs.record import FILE, Run
from kit.site import Site
from kit.submissions.document import figures
from kit.submissions.layout import DEEPEST, MAY_HOLD, MOST_BYTES, MOST_FILES, NUMBER, PART, room
from kit.submissions.rerender import Answer, Question, answer
from kit.submissions.rules import Finding
from kit.submissions.submitter import SUBMITTER, Submitter

REPEAT = re.compile(rf"repeat-({NUMBER})/(.+)")
LIMITS = [(re.compile(pattern).fullmatch, limit) for pattern, limit in MAY_HOLD.items()]
SKEW = 3600.0  # seconds by which the clocks of two nodes may differ


@dataclass
class Submission:
    """A folder that has been surveyed. Only `files` are ever opened; what is missing or cannot be read is None."""

    path: Path
    place: tuple[str, ...]  # organisation, application, system, descriptor
    allow_dirty: bool
    allow_trial: bool
    files: dict[str, int] = field(default_factory=dict)  # bytes of each plain file, by its name
    strange: list[Finding] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)  # by name from the top; repeats share them
    room: str = ""  # where a repeat lies below the top, `repeat-2/`

    def there(self, name: str) -> bool:
        return name in self.files

    def digest(self, name: str) -> str:
        """`sha256:...` of a file; several checks compare it."""
        key = f"{self.room}{name}"
        if key not in self.digests:
            self.digests[key] = digest(self.path / name)
        return self.digests[key]

    def parsed(self, model: type[M], name: str) -> M | None:
        """A file parsed as a model; None if it is missing. KitError names it by its name in the submission."""
        return parse(model, self.json(name), name) if self.there(name) else None

    def json(self, name: str) -> Any:
        try:
            return read_json(self.path / name, finite=True)
        except KitError as error:
            raise KitError(str(error).replace(f"{self.path}/", "", 1)) from None

    @functools.cached_property
    def run(self) -> Run | None:
        try:
            return self.parsed(Run, FILE)
        except KitError:
            return None  # the schema's own check says why

    @functools.cached_property
    def repeats(self) -> list[Submission]:
        """The further runs, in the order of their numbers, each like a submission in its own folder."""
        found: dict[int, dict[str, int]] = {}
        for name, size in self.files.items():
            match = REPEAT.fullmatch(name)
            if match:
                found.setdefault(int(match[1]), {})[match[2]] = size
        return [
            replace(self, path=self.path / room(number), files=files, strange=[], room=room(number))
            for number, files in sorted(found.items())
        ]

    @property
    def runs(self) -> list[Run]:
        """All runs that can be read, in order: the first, and its repeats."""
        return [part.run for part in (self, *self.repeats) if part.run is not None]

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
                pictures=None if self.room else figures(self.path, self.files),
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
            found.strange.append(Finding("cannot-list", folder or ".", f"cannot be listed: {error.strerror}"))
            continue
        for entry in entries:
            name = f"{folder}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            problem = strange(name, status)
            twin = seen.setdefault(name.casefold(), name)
            if twin != name:
                alike = f"differs from {twin} by upper and lower case alone, and some file systems keep one"
                problem = problem or ("case", alike)
            if len(seen) > MOST_FILES or total > MOST_BYTES:
                limit = f"{MOST_FILES} files" if len(seen) > MOST_FILES else decimal(MOST_BYTES)
                found.strange.append(Finding("folder-size", ".", f"holds more than {limit}; the rest was not looked at"))
                return found
            if problem:
                found.strange.append(Finding(problem[0], name, problem[1]))
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
    held = set(above(found.files))
    for name in sorted(empty - held - {os.path.dirname(finding.file) for finding in found.strange}):
        found.strange.append(Finding("empty-folder", name, "a folder without a file of a submission"))
    if len(executable) < len(found.files):  # if all are executable, the file system has no modes
        for name, mode in executable.items():
            del found.files[name]
            found.strange.append(
                Finding("mode", name, f"its mode is {stat.S_IMODE(mode):04o}; a plain file is not executable")
            )
    return found


def above(names: Iterable[str]) -> Iterator[str]:
    """The folders that hold files of these names."""
    for name in {name.rpartition("/")[0] for name in names}:
        while name:
            yield name
            name = name.rpartition("/")[0]


def strange(name: str, status: os.stat_result) -> tuple[str, str] | None:
    """Why a file or folder must not be read, as rule and problem; None if it may be."""
    mode = status.st_mode
    if not all(PART.fullmatch(part) for part in name.split("/")):
        return "file-name", "its name is not made of letters, digits, dot, dash, plus and underscore"
    if name.count("/") >= DEEPEST:
        return "depth", f"lies more than {DEEPEST} folders deep"
    if stat.S_ISDIR(mode):
        return None
    if kind(mode):
        return "plain-file", f"{kind(mode)}; a submission holds plain files"
    if mode & 0o7000:
        special = "a plain file has no set-user-ID, set-group-ID or sticky bit"
        return "mode", f"its mode is {stat.S_IMODE(mode):04o}; {special}"
    if status.st_nlink > 1:
        links = f"is one of {status.st_nlink} hard links to the same file"
        return "hard-link", f"{links}, which may change elsewhere; copy it"
    limit = next((limit for pattern, limit in LIMITS if pattern(name)), None)
    if limit is None:
        return "unknown-file", f"not listed in {SUMS}, or not of a kind that a submission holds"
    if status.st_size > limit:
        return "file-size", f"has {decimal(status.st_size)}, and {decimal(limit)} are the most"
    return None


def same_text(sub: Submission, rule: str, name: str, wanted: str, of: str) -> Iterator[Finding]:
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
    yield Finding(rule, name, f"line {place + 1} is {shortened(here)}, but the kit writes {shortened(there)} {of}")
