"""Are the scores of a run those of its evidence? The data are made again here, and scored again by the kit's own code.

This comes after the check (check.py), which opens nothing but plain files of known names and sizes, and renders the
benchmark of the run; what it accepts is read here. It takes minutes, and room for the data in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kit.benchmark import Benchmark
from kit.core.checksums import MANIFEST, digest
from kit.core.errors import KitError, plain
from kit.core.files import plain_file, read_json
from kit.core.schema import parse, shortened
from kit.data import generated
from kit.runs import evidence
from kit.runs.record import Run
from kit.submissions.check import in_environment, survey
from kit.submissions.layout import packed


class Rule(NamedTuple):
    severity: str  # an error refuses the submission, a warning is for people to read
    what: str
    why: str
    mend: str


AGAIN = "run the benchmark again, and collect and pack that run"
COLLECT = "collect the run again with this kit, and pack it"
RULES = {
    "evidence-missing": Rule(
        "error", "The evidence of the benchmark is there.", "A score without it is the submitter's word.", COLLECT
    ),
    "evidence-elsewhere": Rule(
        "warning",
        "Evidence is in the submission, or in a folder that --evidence names.",
        "Evidence that nobody fetched proves nothing yet.",
        "fetch it from where kept.json says, and give its folder with --evidence",
    ),
    "evidence-changed": Rule(
        "error", "Evidence from elsewhere has the checksums of kept.json.", "Other files prove another run.", COLLECT
    ),
    "evidence-none": Rule(
        "warning",
        "The benchmark leaves evidence.",
        "Without it nothing can be scored again.",
        "write it in the benchmark's code (evidence, score_again)",
    ),
    "evidence-data": Rule(
        "error",
        "The data of the run can be made here, or are here.",
        "Masks and maps are held against them.",
        "for published data: kit data fetch",
    ),
    "evidence-other-data": Rule(
        "warning",
        "The data made again have the checksum of the run's.",
        "Other processors and libraries round otherwise, so that scores are compared less sharply.",
        "score again on a machine like the one of the run",
    ),
    "evidence-format": Rule("error", "Evidence can be read.", "What cannot be read proves nothing.", COLLECT),
    "evidence-score": Rule("error", "The scores are those of the masks.", "They follow from masks and data.", AGAIN),
    "evidence-copy": Rule("error", "The half maps are two.", "One map twice agrees with itself at any resolution.", AGAIN),
    "evidence-fsc": Rule(
        "error", "The FSC is that of the half maps and the mask.", "The resolution is read from it.", AGAIN
    ),
    "evidence-map": Rule("error", "The map is made of both half maps.", "They prove nothing of another map.", AGAIN),
    "evidence-truth": Rule("error", "The map agrees with the truth as it is said to.", "It is a metric.", AGAIN),
    "evidence-particles": Rule(
        "error", "The particles are those of the data.", "Only who had these data knows where they lie.", AGAIN
    ),
    "evidence-error": Rule("error", "Scoring again comes to an end.", "A file that stops it hides the rest.", COLLECT),
}


class Found(NamedTuple):
    rule: str
    file: str
    problem: str

    @property
    def refuses(self) -> bool:
        return RULES[self.rule].severity == "error"

    def __str__(self) -> str:
        return plain(f"{self.file}: {self.problem} ({self.rule}; {RULES[self.rule].mend})")


def deep_check(
    folder: Path, allow_dirty: bool | None = None, allow_trial: bool | None = None, elsewhere: Path | None = None
) -> list[Found]:
    """`deep` of a submission folder that `check` has accepted, with the same allowances."""
    folder = folder.resolve()
    dirty = in_environment("KIT_ALLOW_DIRTY") if allow_dirty is None else allow_dirty
    sub = survey(folder, folder.parts[-4:], dirty, bool(allow_trial))
    if sub.run is None or sub.benchmark is None:
        return [Found("evidence-error", "run.json", "cannot be read; kit submission check says why")]
    files = {name: folder / packed(name) for name in sub.run.files if sub.there(packed(name))}
    return list(deep(sub.run, sub.benchmark, files, elsewhere))


def deep(run: Run, benchmark: Benchmark, files: Mapping[str, Path], elsewhere: Path | None = None) -> Iterator[Found]:
    """What is wrong with the evidence of a run and the scores that are said to be of it.

    `benchmark` is the one that the check rendered, and `files` are those that the submission carries, by their names in the
    run. `elsewhere` is a folder with evidence that was fetched from where the submitter keeps it.
    """
    names = evidence.names_of(benchmark)
    if not names:
        yield Found("evidence-none", ".", f"nothing of a run of {run.benchmark}, size {run.work}, can be scored again")
        return
    try:
        if evidence.KEPT in files:
            kept = parse(evidence.Kept, read_json(files[evidence.KEPT]), f"run/{evidence.KEPT}")
            if elsewhere is None:
                yield Found("evidence-elsewhere", f"run/{evidence.KEPT}", f"nothing was scored again; kept at: {kept.store}")
                return
            problems = differing(kept, names, elsewhere)
            yield from problems
            if problems:
                return
            files = {**files, **{name: elsewhere / Path(name).name for name in names}}
        missing = [name for name in names if name not in files]
        yield from (Found("evidence-missing", f"run/{name}", "missing: it is what the scores come from") for name in missing)
        if missing:
            return
        try:
            data = generated.make(benchmark, run.size)
        except KitError as error:
            yield Found("evidence-data", ".", str(error))
            return
        same = digest(data / MANIFEST) == run.data
        if not same:
            yield Found(
                "evidence-other-data", "run.json", f"data is {run.data}, and what was made here {digest(data / MANIFEST)}"
            )
        for rule, file, problem in benchmark.code.score_again(files, data, benchmark.size(run.size).parameters, same):
            yield Found(rule, f"run/{file}", problem)
    except KitError as error:
        yield Found("evidence-error", ".", str(error))
    except Exception as error:  # a stranger may have written anything
        yield Found("evidence-error", ".", f"the evidence cannot be scored: {shortened(error)}")


def differing(kept: evidence.Kept, names: list[str], folder: Path) -> list[Found]:
    """Evidence from elsewhere that is not what the submission says it is."""
    found = []
    for name in (Path(name).name for name in names):
        if name not in kept.files:
            found.append(Found("evidence-missing", f"run/{evidence.KEPT}", f"says nothing of {name}"))
        elif digest(plain_file(folder, name)) != kept.files[name].sha256:
            found.append(Found("evidence-changed", str(folder / name), f"is not the file that {evidence.KEPT} names"))
    return found
