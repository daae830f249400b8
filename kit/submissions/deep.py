"""Are the scores of a run those of its evidence? The data are made again here, and scored again by the kit's own code.

This comes after the check (check.py), which opens nothing but plain files of known names and sizes, and renders the
benchmark of the run; what it accepts is read here. It takes minutes, and room for the data in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from kit.benchmark import Benchmark
from kit.core.checksums import MANIFEST, digest
from kit.core.errors import KitError
from kit.core.files import plain_file, read_json
from kit.core.schema import parse, shortened
from kit.data import generated
from kit.runs import evidence
from kit.runs.record import FILE, Run
from kit.submissions.check import allowed
from kit.submissions.layout import packed
from kit.submissions.rules import Finding
from kit.submissions.survey import survey


def deep_check(
    folder: Path, allow_dirty: bool | None = None, allow_trial: bool | None = None, elsewhere: Path | None = None
) -> list[Finding]:
    """What `scored_again` finds of each run of a submission folder that the check has accepted, with the same allowances."""
    folder = folder.resolve()
    top = survey(folder, folder.parts[-4:], *allowed(allow_dirty, allow_trial))
    findings = []
    for sub in (top, *top.repeats):
        found: Iterator[Finding] = iter([Finding("evidence-unread", FILE, "no run of a known benchmark is here")])
        if sub.run and sub.benchmark:
            files = {name: sub.path / packed(name) for name in sub.run.files if sub.there(packed(name))}
            found = scored_again(sub.run, sub.benchmark, files, elsewhere)
        findings += [replace(finding, file=f"{sub.room}{finding.file}") for finding in found]
    return findings


def answers(folder: Path, text: str) -> list[Finding]:
    """Whether each run of a submission folder that the check has accepted was made for the challenge `text`."""
    top = survey(folder.resolve(), folder.resolve().parts[-4:], True, True)
    found = []
    for sub in (top, *top.repeats):
        given = sub.run.challenge.text if sub.run and sub.run.challenge else ""
        if given != text:
            said = f"challenge.text is {given!r}" if given else "has no challenge"
            found.append(Finding("challenge", f"{sub.room}{FILE}", f"{said}, and {text!r} was given for it"))
    return found


def scored_again(
    run: Run, benchmark: Benchmark, files: Mapping[str, Path], elsewhere: Path | None = None
) -> Iterator[Finding]:
    """What is wrong with the evidence of a run and the scores that are said to be of it.

    `benchmark` is the one that the check rendered, and `files` are those that the submission carries, by their names in the
    run. `elsewhere` is a folder with evidence that was fetched from where the submitter keeps it.
    """
    names = evidence.names_of(benchmark)
    if not names:
        yield Finding("evidence-none", FILE, f"nothing of a run of {run.benchmark}, {run.work}, can be scored again")
        return
    try:
        if evidence.KEPT in files:
            kept = parse(evidence.Kept, read_json(files[evidence.KEPT]), f"run/{evidence.KEPT}")
            if elsewhere is None:
                yield Finding("evidence-elsewhere", f"run/{evidence.KEPT}", f"not scored again; kept at: {kept.store}")
                return
            changed = differing(kept, names, elsewhere)
            yield from changed
            if changed:
                return
            files = {**files, **{name: elsewhere / Path(name).name for name in names}}
        missing = [name for name in names if name not in files]
        yield from (Finding("evidence-missing", f"run/{name}", "missing: scores come from it") for name in missing)
        if missing:
            return
        try:
            data = generated.make(benchmark, run.size)
        except KitError as error:
            yield Finding("evidence-data", FILE, str(error))
            return
        here = digest(data / MANIFEST)
        if here != run.data:
            yield Finding("evidence-other-data", FILE, f"data is {run.data}, and what was made here is {here}")
        parameters = benchmark.size(run.size).parameters
        for rule, file, problem in benchmark.code.score_again(files, data, parameters, here == run.data):
            yield Finding(rule, f"run/{file}", problem)
    except KitError as error:
        yield Finding("evidence-unread", FILE, str(error))
    except Exception as error:  # a stranger may have written anything
        yield Finding("evidence-unread", FILE, f"its evidence cannot be scored: {shortened(error)}")


def differing(kept: evidence.Kept, names: list[str], folder: Path) -> list[Finding]:
    """Evidence from elsewhere that is not what the submission says it is. KitError for what is no plain file."""
    found = []
    for name in (Path(name).name for name in names):
        if name not in kept.files:
            found.append(Finding("evidence-missing", f"run/{evidence.KEPT}", f"says nothing of {name}"))
        elif digest(plain_file(folder, name)) != kept.files[name].sha256:
            found.append(Finding("evidence-changed", f"run/{evidence.KEPT}", f"{folder / name} is not the file of {name}"))
    return found
