"""Is a submission what it says? Every check is a function from a folder to its findings; no input makes one fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.benchmark import Benchmark, load_benchmark, read_value
from kit.errors import KitError
from kit.image import sha256
from kit.model import parse, read_json
from kit.pack import read_log
from kit.run import SBOM, Run, State, judge, read_stages, too_fast
from kit.submission import LEVELS, MANIFEST, NAME, PLACEHOLDER, REQUIRED, read_manifest


@dataclass(frozen=True)
class Finding:
    """Something that speaks against a submission: the file, and what is wrong with it."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def required_files(folder: Path) -> Iterator[Finding]:
    """Every file that a submission must hold is there and not empty."""
    for name, purpose in REQUIRED.items():
        path = folder / name
        if not path.is_file():
            yield Finding(name, f"missing ({purpose})")
        elif path.stat().st_size == 0:
            yield Finding(name, f"empty ({purpose})")


def path_names(folder: Path) -> Iterator[Finding]:
    """The folder lies at {organisation}/{application}/{system}/{descriptor}, and the names agree with the run."""
    parts = folder.resolve().parts[-4:]
    for level, part in zip(LEVELS, parts, strict=False):
        if not NAME.match(part):
            yield Finding(".", f"{level} '{part}' in the path is not a plain name")
    run = load(folder)
    if run is not None and len(parts) == 4:
        if parts[1] != run.benchmark:
            yield Finding(".", f"the path says application '{parts[1]}', run.json says '{run.benchmark}'")
        if parts[0] != read_json(folder / "system.json").get("submitter"):
            yield Finding("system.json", f"submitter is not the organisation of the path, '{parts[0]}'")


def checksums(folder: Path) -> Iterator[Finding]:
    """Every file is the one that was packed, and no file was added."""
    if not (folder / MANIFEST).is_file():
        return
    wanted = read_manifest(folder)
    for name, digest in wanted.items():
        path = folder / name
        if not path.is_file():
            yield Finding(name, f"missing, but {MANIFEST} lists it")
        elif sha256(path) != digest:
            yield Finding(name, f"differs from its checksum in {MANIFEST}")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield Finding(name, "a link; a submission holds plain files")
        elif path.is_file() and name not in wanted and name != MANIFEST:
            yield Finding(name, f"not listed in {MANIFEST}")


def load(folder: Path) -> Run | None:
    try:
        return parse(Run, read_json(folder / "run.json"), "run.json")
    except KitError:
        return None


def schema(folder: Path) -> Iterator[Finding]:
    """run.json follows its schema."""
    if (folder / "run.json").is_file():
        try:
            parse(Run, read_json(folder / "run.json"), "run.json")
        except KitError as error:
            for line in str(error).splitlines():
                yield Finding("run.json", line.removeprefix("run.json: "))


def verdict(folder: Path) -> Iterator[Finding]:
    """The run is valid by its own record, and by what the record of its stages says when it is read again."""
    run = load(folder)
    if run is None:
        return
    if run.state != State(name="valid"):
        yield Finding("run.json", f"state is {run.state}; only a valid run is a result")
    if not run.image.digest.startswith("sha256:"):
        yield Finding("run.json", "image.digest is missing; nothing proves what ran")
    bill = folder / "run" / SBOM
    if bill.is_file() and f"sha256:{sha256(bill)}" != run.image.sbom:
        yield Finding(f"run/{SBOM}", "is not the one that run.json names")
    if run.kit == "" or run.commit in ("", "unknown"):
        yield Finding("run.json", "commit is unknown; run the kit from a git checkout")
    script = folder / "run/job.sh"
    if script.is_file() and f"sha256:{sha256(script)}" != run.script:
        yield Finding("run/job.sh", "is not the script that run.json names")
    if not (folder / "run/benchmark.json").is_file():
        yield Finding("run/benchmark.json", "missing; nothing says what the run had to do")
        return
    benchmark = parse(Benchmark, read_json(folder / "run/benchmark.json"), "run/benchmark.json")
    if benchmark.name != run.benchmark:
        yield Finding("run/benchmark.json", f"is of {benchmark.name}, run.json of {run.benchmark}")
    attempts = read_stages(folder / "run")
    state = judge(benchmark, attempts, job_gone=True)
    if state.name != "finished":
        yield Finding("run/stages.jsonl", f"says {state}")
    if attempts != run.stages:
        yield Finding("run/stages.jsonl", "its stages are not those of run.json")
    fast = too_fast(benchmark, run.size, attempts)
    if fast:
        yield Finding("run/stages.jsonl", str(fast))


def judged(folder: Path) -> tuple[Run, Benchmark] | None:
    """The run, and the benchmark that it says it was judged by; None where another check has said that one is missing."""
    run = load(folder)
    if run is None or not (folder / "run/benchmark.json").is_file():
        return None
    return run, parse(Benchmark, read_json(folder / "run/benchmark.json"), "run/benchmark.json")


def metrics(folder: Path) -> Iterator[Finding]:
    """Every metric of the benchmark is there, was read from a file that is there, and passes its gate."""
    both = judged(folder)
    if both is None:
        return
    run, benchmark = both
    found = {metric.name: metric for metric in run.metrics}
    for metric in benchmark.metrics:
        if metric.name not in found:
            yield Finding("run.json", f"metric {metric.name} is missing")
            continue
        value = found[metric.name].value
        source = folder / "run" / metric.file
        try:
            again = read_value(source, metric.label)
        except KitError as error:
            yield Finding(f"run/{metric.file}", str(error).removeprefix(f"{source}: "))
            continue
        if again != value:
            yield Finding("run.json", f"metric {metric.name} is {value!r}, but run/{metric.file} says {again!r}")
        problem = metric.problem(again)
        if problem:
            yield Finding(f"run/{metric.file}", problem)


GATES = ("stage", "label", "at_least", "at_most", "reference", "tolerance")


def gates(folder: Path) -> Iterator[Finding]:
    """The run was held against every gate that its benchmark has here, and against no other."""
    both = judged(folder)
    if both is None:
        return
    run, own = both
    found = {metric.name: metric for metric in own.metrics}
    hint = f"; a submission is checked by the kit that made it, commit {run.commit}"
    benchmark = load_benchmark(run.benchmark)
    benchmark.size(run.size)
    for metric in benchmark.metrics:
        if not metric.belongs(run.size) or (run.alone and metric.stage != run.alone):
            continue
        if metric.name not in found:
            yield Finding("run/benchmark.json", f"has no metric {metric.name}, which size {run.size} has{hint}")
            continue
        for gate in GATES:
            here, there = getattr(metric, gate), getattr(found[metric.name], gate)
            if here != there:
                yield Finding("run/benchmark.json", f"metric {metric.name}: {gate} is {there}, not {here}{hint}")


def log(folder: Path) -> Iterator[Finding]:
    """result-1.txt is an MLPerf log with the keys the working group asks for, and the numbers of run.json."""
    path = folder / "result-1.txt"
    run = load(folder)
    if not path.is_file() or run is None:
        return
    events = read_log(path)
    keys = [event.get("key") for event in events]
    for key in (
        "submission_benchmark",
        "submission_org",
        "submission_division",
        "submission_version",
        "submission_github_commit_version",
        "submission_status",
        "submission_platform",
        "run_start",
        "run_stop",
        "result",
    ):
        if keys.count(key) != 1:
            yield Finding("result-1.txt", f"key {key} stands {keys.count(key)} times, exactly once is needed")
    result: Any = next((event.get("value") for event in events if event.get("key") == "result"), None)
    if result != {metric.name: metric.value for metric in run.metrics}:
        yield Finding("result-1.txt", "its result is not that of run.json")


def placeholders(folder: Path) -> Iterator[Finding]:
    """No text that was meant to be replaced is left in what people read."""
    for path in sorted(folder.glob("*")):
        if path.suffix in (".md", ".json", ".yaml", ".txt") and path.name != MANIFEST:
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
                match = PLACEHOLDER.search(line)
                if match:
                    yield Finding(path.name, f"line {number} still holds '{match[0]}'")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    required_files,
    path_names,
    checksums,
    schema,
    verdict,
    metrics,
    gates,
    log,
    placeholders,
)


def check(folder: Path) -> list[Finding]:
    """All findings of all checks; a check that can not cope with what it reads says so as a finding."""
    if not folder.is_dir():
        return [Finding(str(folder), "not a folder")]
    findings: list[Finding] = []
    for function in CHECKS:
        try:
            findings += function(folder)
        except KitError as error:
            findings.append(Finding(".", str(error)))
        except Exception as error:  # a stranger's folder may hold anything; the maintainer wants findings
            findings.append(Finding(".", f"{function.__name__}: can not be checked: {error!r}"))
    return list(dict.fromkeys(findings))


def as_json(folder: Path, findings: list[Finding]) -> str:
    return json.dumps(
        {"folder": str(folder), "accepted": not findings, "findings": [vars(finding) for finding in findings]}, indent=2
    )
