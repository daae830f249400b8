"""The folder as a whole: its names, its place, and the checksums of its files."""

from __future__ import annotations

from collections.abc import Iterator

from kit.core.checksums import SUMS, labelled, read_sums, sums_text
from kit.runs.record import FILE
from kit.submissions.layout import LEVELS, NAME, REQUIRED, UNNAMED, descriptor, is_trial, unnamed
from kit.submissions.rules import Finding
from kit.submissions.survey import Submission, same_text


def closed_world(sub: Submission) -> Iterator[Finding]:
    """Nothing is here but plain files of names that a submission can hold, none too large."""
    yield from sub.strange


def required_files(sub: Submission) -> Iterator[Finding]:
    """Every file that a submission must hold is there and not empty."""
    of_repeats = {
        f"{repeat.room}{name}": purpose
        for repeat in sub.repeats
        for name, purpose in REQUIRED.items()
        if name == FILE or name.startswith("run/")
    }
    for name, purpose in {**REQUIRED, **of_repeats}.items():
        if not sub.there(name):
            yield Finding("missing-file", name, f"missing ({purpose})")
        elif sub.files[name] == 0:
            yield Finding("empty-file", name, f"empty ({purpose})")


OWN_NAMES = "pack the run under your own: kit submission pack RUN --organisation NAME --system NAME"


def path_names(sub: Submission) -> Iterator[Finding]:
    """The folder lies at {organisation}/{application}/{system}/{descriptor}, and the names agree with the run."""
    if len(sub.place) < 4:
        yield Finding("place", ".", f"does not lie at {'/'.join(f'{{{level}}}' for level in LEVELS)}")
        return
    for level, part in zip(LEVELS, sub.place, strict=True):
        if not NAME.fullmatch(part):
            yield Finding("place", ".", f"{level} '{part}' in the path is not a plain name")
        elif level in UNNAMED and unnamed(level, part) and not is_trial(sub.place[0]):
            yield Finding("unnamed", ".", f"{level} '{part}' in the path says nothing; {OWN_NAMES}")
    if is_trial(sub.place[0]) and not sub.allow_trial:
        trial = "--allow-trial accepts it for a trial of your own"
        yield Finding(
            "trial", ".", f"organisation '{sub.place[0]}' marks a trial, which is no submission; {OWN_NAMES} ({trial})"
        )
    if sub.run:
        if sub.place[1] != sub.run.benchmark:
            yield Finding(
                "place-differs", ".", f"the path says application '{sub.place[1]}', run.json says '{sub.run.benchmark}'"
            )
        if sub.place[3] != descriptor(sub.run):
            yield Finding(
                "place-differs", ".", f"the path says descriptor '{sub.place[3]}', run.json says '{descriptor(sub.run)}'"
            )


def checksums(sub: Submission) -> Iterator[Finding]:
    """Every file is the one that was packed, and no file was added."""
    if not sub.there(SUMS):
        return
    wanted = read_sums(sub.path)
    refused = {finding.file for finding in sub.strange}
    for name, digits in wanted.items():
        if name in sub.files:
            if sub.digest(name) != labelled(digits):
                yield Finding("sum-differs", name, f"differs from its checksum in {SUMS}")
        elif name not in refused:
            yield Finding("sum-missing", name, f"missing, but {SUMS} lists it")
    for name in sorted(sub.files):
        if name not in wanted and not name.startswith(SUMS):  # neither itself nor its signatures
            yield Finding("sum-unlisted", name, f"not listed in {SUMS}")
    yield from same_text(sub, "sum-form", SUMS, sums_text(wanted), "of these sums")
