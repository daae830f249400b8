"""The rules of a submission, as data, and what a check finds against them.

A rule says what must be so, why, and how to mend what is not. Only an error refuses a submission; a warning is for the
person who reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kit.core.errors import plain

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    what: str
    why: str
    mend: str


COPY = "pack the run again, and send the folder as `kit submission pack` wrote it"
OWN = "pack the run under your own names: `kit submission pack RUN --organisation NAME --system NAME`"
COLLECT = "collect the run again, and pack it"
AGAIN = "run the benchmark again, and collect and pack that run"
KIT = "check with the kit that made the run (`git fetch`), or pack the run again with this one"
SITE = "correct the site file (`kit site show`), run again, and pack that run"

AREAS: dict[str, tuple[Rule, ...]] = {
    "The folder": (
        Rule("no-folder", "error", "What is checked is a folder.", "A result is a folder of files.", "give its path"),
        Rule(
            "cannot-list",
            "error",
            "Every folder can be listed.",
            "What nobody can see, nobody can check.",
            "give yourself the permission to read it (`chmod u+rx`)",
        ),
        Rule(
            "file-name",
            "error",
            "Names are made of letters, digits, dot, dash, plus and underscore.",
            "Other characters differ between file systems, and can act on a terminal.",
            COPY,
        ),
        Rule(
            "case",
            "error",
            "No two names differ by upper and lower case alone.",
            "Some file systems keep only one of the two.",
            COPY,
        ),
        Rule("depth", "error", "No file lies too deep.", "Some tools cannot follow, and no run needs it.", COPY),
        Rule(
            "plain-file",
            "error",
            "There are plain files only: no link, FIFO, socket or device.",
            "A link can lead out of the folder, and a FIFO makes its reader wait for ever.",
            COPY,
        ),
        Rule(
            "mode",
            "error",
            "No file is executable or has a special bit.",
            "Nobody should start a stranger's file by mistake.",
            "`kit submission check --fix` takes the bits away",
        ),
        Rule(
            "hard-link",
            "error",
            "No file is a hard link to another.",
            "It could be changed elsewhere after it was checked.",
            "copy the folder (`cp -r`), and send the copy",
        ),
        Rule(
            "unknown-file",
            "error",
            "Every file is of a kind that a submission holds.",
            "What no check knows, no check can judge.",
            "remove it; `kit submission check --fix` removes what editors and file managers leave",
        ),
        Rule("file-size", "error", "No file is larger than its kind may be.", "It would fill the reader's memory.", COPY),
        Rule("folder-size", "error", "The folder is not too large.", "A repository cannot take it.", COPY),
        Rule("empty-folder", "error", "Every folder holds a file.", "Git drops a folder without one.", "remove it"),
        Rule("missing-file", "error", "Every file that is needed is there.", "Without it the result is not whole.", COPY),
        Rule("empty-file", "error", "No file that is needed is empty.", "Without it the result is not whole.", COPY),
        Rule(
            "place",
            "error",
            "The folder lies at {organisation}/{application}/{system}/{descriptor}, in plain names.",
            "The path is how results are found and told apart.",
            OWN,
        ),
        Rule(
            "place-differs",
            "error",
            "The path names the application and the run that the folder holds.",
            "Otherwise a result passes for another.",
            "move the folder back to where `kit submission pack` wrote it",
        ),
        Rule("unnamed", "error", "Organisation and system say who submits.", "A result needs somebody to ask.", OWN),
        Rule("trial", "error", "The folder is no trial.", "A trial is whole, and not meant to be submitted.", OWN),
    ),
    "Checksums": (
        Rule("sum-differs", "error", "Every file has its checksum.", "It was changed after it was packed.", COPY),
        Rule("sum-missing", "error", "Every file with a checksum is there.", "It was removed after it was packed.", COPY),
        Rule("sum-unlisted", "error", "Every file is listed with its checksum.", "It was added after it was packed.", COPY),
        Rule(
            "sum-form",
            "error",
            "The checksums are written as `sha256sum` writes them, in the order of the names.",
            "Everybody can verify them with that program.",
            "`kit submission check --fix` writes them anew where every checksum is right",
        ),
    ),
    "Records": (
        Rule(
            "schema",
            "error",
            "Every record is JSON that follows its schema.",
            "A key that nobody knows or a value of another type is read differently by each reader.",
            COPY,
        ),
        Rule(
            "form",
            "error",
            "Every record is formatted as the kit writes it.",
            "No key stands twice, no byte is hidden: every reader sees the same.",
            COPY,
        ),
        Rule("unreadable", "error", "Every file can be read as what it is.", "What cannot be read cannot be checked.", COPY),
        Rule(
            "not-rendered",
            "error",
            "The run can be rendered again from its record, with the kit at its commit.",
            "Everything else is compared with that.",
            KIT,
        ),
        Rule(
            "benchmark-differs",
            "error",
            "The run was held against the benchmark of record.",
            "A loosened gate or another command is another benchmark.",
            KIT,
        ),
        Rule("script-differs", "error", "The script is the one that the kit renders.", "Nothing else may have run.", KIT),
        Rule(
            "text-differs",
            "error",
            "Every text for people is what the kit writes of the run.",
            "People read the texts, and programs the records: both must say the same.",
            "`kit submission check --fix` writes them anew",
        ),
        Rule(
            "document-differs",
            "error",
            "Every document is what the kit writes of the run and its figures.",
            "People read it in place of the records: both must say the same.",
            COPY,
        ),
        Rule(
            "fact-differs", "error", "Facts of run.json are those that the kit comes to.", "A record can be edited.", AGAIN
        ),
        Rule("unchecked", "error", "Every check comes to its end.", "What is not checked is not accepted.", COPY),
        Rule(
            "more",
            "error",
            "A check has no more findings than can be listed.",
            "A stranger's folder could give any number.",
            "mend those that are listed, and check again",
        ),
        Rule(
            "more-warnings",
            "warning",
            "A check has no more warnings than can be listed.",
            "A stranger's folder could give any number.",
            "look at those that are listed first",
        ),
    ),
    "The run": (
        Rule("state", "error", "The run is valid.", "Only a valid run is a result.", AGAIN),
        Rule(
            "no-container",
            "error",
            "The run was made in a container, and names its digest.",
            "Otherwise nothing proves what ran.",
            "run it in an image, on a site whose container runtime is not `host`",
        ),
        Rule("scaling", "error", "The run is no scaling measurement.", "It measures something else.", AGAIN),
        Rule(
            "tuned",
            "error",
            "Only parameters that may differ do.",
            "A run that computes something else cannot be held against the others of its size.",
            "run it without `--set`",
        ),
        Rule("stages-differ", "error", "run.json and stages.jsonl tell of the same stages.", "One was edited.", AGAIN),
        Rule("stage-again", "error", "No stage ran again after it was done.", "The better of two would be taken.", AGAIN),
        Rule("stage-reason", "error", "A stage that ended well gives no reason.", "No script writes that.", AGAIN),
        Rule("stage-failed", "error", "Every stage ended well.", "A result needs all of them.", AGAIN),
        Rule("stage-command", "error", "Every stage ran the command of the script.", "Something else was run.", AGAIN),
        Rule(
            "too-fast",
            "error",
            "No stage took less than any honest run of its size.",
            "It cannot have done its work.",
            AGAIN,
        ),
        Rule("ranks", "error", "Every rank was there, in one job.", "Ranks that do not meet compute alone.", AGAIN),
        Rule("time", "error", "Times follow each other, and lie in the past.", "A clock or a record is wrong.", AGAIN),
        Rule("packed-twice", "error", "No two files of the run have one place.", "One would be lost.", COPY),
        Rule("file-differs", "error", "Every file of the run has its digest in run.json.", "It was exchanged.", COPY),
        Rule("file-missing", "error", "Every file that run.json lists is there.", "It was removed.", COPY),
        Rule("file-unlisted", "error", "Every file of the run is listed in run.json.", "It was added.", COPY),
        Rule("log-missing", "error", "Every file that each run of its size leaves is there.", "It was left out.", COPY),
        Rule(
            "file-needless",
            "error",
            "The run has no file beside those that a run of its size leaves.",
            "Nobody knows what it is for.",
            COPY,
        ),
        Rule("no-picture", "error", "A figure is a PNG.", "Something else would hide under its name.", COPY),
        Rule("sbom", "error", "The SBOM is of the image that ran.", "It tells what was in it.", AGAIN),
    ),
    "The repeats": (
        Rule(
            "repeat-number",
            "error",
            "The further runs lie in repeat-2, repeat-3 and so on, without a gap.",
            "A run that is left out may be the one that failed.",
            COPY,
        ),
        Rule("repeat-logs", "error", "Every run has its result-N.txt, and no other is there.", "One was added.", COPY),
        Rule(
            "repeat-differs",
            "error",
            "All runs of a submission differ in nothing but the seed.",
            "Otherwise their spread means nothing.",
            "pack the runs one by one",
        ),
        Rule(
            "repeat-twice",
            "error",
            "No run is there twice, and no two have one seed.",
            "One run, counted twice, looks steadier than it is.",
            "run it with seeds of their own: `kit run --repeat N`",
        ),
        Rule(
            "no-variance",
            "error",
            "What differs between repeats by nature does differ.",
            "Numbers of different seeds that agree to the last digit were copied.",
            AGAIN,
        ),
    ),
    "What can have been": (
        Rule(
            "too-long",
            "warning",
            "No stage took longer than its job was asked for.",
            "The scheduler would have ended it; a clock or a record may be wrong.",
            "say in the pull request why",
        ),
        Rule(
            "crowded",
            "warning",
            "Every thread has a core.",
            "Times of an oversubscribed run compare with none.",
            "run it with fewer ranks or threads, or on more nodes",
        ),
        Rule(
            "throughput",
            "error",
            "No throughput is above what the cores can compute.",
            "A machine cannot do more than its cores at their best.",
            "correct `cores` and `gpus` in the site file, or run again",
        ),
        Rule(
            "reference",
            "warning",
            "No measured number equals its reference to the last digit.",
            "It may have been copied.",
            "say in the pull request why",
        ),
    ),
    "What should stay at home": (
        Rule(
            "secret",
            "error",
            "No text holds a password, a token or a private key.",
            "What is published once is known for ever.",
            "make it invalid where it was given out, keep it out of the logs, and run again",
        ),
        Rule(
            "personal-path",
            "warning",
            "No path names a person's folder.",
            "It tells who has an account, and where.",
            "run from a folder of the project, if it should not be known",
        ),
        Rule(
            "address",
            "warning",
            "No e-mail address stands outside of the contacts.",
            "It is collected by whoever sends unwanted mail.",
            "keep it out of the logs, if its owner has not agreed",
        ),
    ),
    "The result": (
        Rule("metric-set", "error", "The metrics are those of the size.", "None is left out, none invented.", AGAIN),
        Rule("metric-unread", "error", "Every metric can be read from its file.", "A number without a source.", AGAIN),
        Rule("metric-differs", "error", "Every metric is the number in its file.", "One of the two was edited.", AGAIN),
        Rule("metric-gate", "error", "Every metric passes its gate.", "The result does not count otherwise.", AGAIN),
        Rule("metric-fact", "error", "A metric that states a fact of the run states it right.", "One is wrong.", AGAIN),
        Rule(
            "metric-record",
            "error",
            "Unit, direction, file, label and gates of every metric are the benchmark's.",
            "A number in another unit is another number.",
            AGAIN,
        ),
        Rule("contradiction", "error", "What can be computed again comes out the same.", "A number was edited.", AGAIN),
    ),
    # Of the options `--deep` and `--challenge` alone.
    "The evidence": (
        Rule(
            "challenge",
            "error",
            "The run was made for the challenge that was given.",
            "Another could have been made long before.",
            "run it with the text that you were given: `kit run --challenge TEXT`",
        ),
        Rule(
            "evidence-none",
            "warning",
            "The benchmark leaves evidence.",
            "Nothing else can be scored again.",
            "write it in the benchmark's code (`evidence`, `score_again`)",
        ),
        Rule(
            "evidence-elsewhere",
            "warning",
            "Evidence is in the submission, or in the folder that `--evidence` names.",
            "Evidence that nobody has fetched proves nothing yet.",
            "fetch it from where kept.json says, and give its folder with `--evidence`",
        ),
        Rule("evidence-missing", "error", "All evidence is there.", "A score without it is somebody's word.", COLLECT),
        Rule("evidence-changed", "error", "Evidence from elsewhere is that of kept.json.", "It is of another run.", COLLECT),
        Rule("evidence-unread", "error", "Evidence can be read and scored.", "What stops it may hide the rest.", COLLECT),
        Rule("evidence-form", "error", "Evidence has the form that the kit writes.", "It cannot be scored.", COLLECT),
        Rule(
            "evidence-data",
            "error",
            "The data of the run can be made here, or are here.",
            "Masks and maps are held against them.",
            "published data are fetched by `kit data get`",
        ),
        Rule(
            "evidence-other-data",
            "warning",
            "The data made again have the checksum of the run's.",
            "Other processors and libraries round otherwise, and scores can only be compared roughly.",
            "score it again on a machine like that of the run",
        ),
        Rule("evidence-score", "error", "The scores are those of the masks.", "They follow from masks and data.", AGAIN),
        Rule("evidence-copy", "error", "The half maps are two.", "One map twice agrees at any resolution.", AGAIN),
        Rule("evidence-fsc", "error", "The FSC is that of the half maps and mask.", "It gives the resolution.", AGAIN),
        Rule("evidence-map", "error", "The map is made of the half maps.", "They say nothing of another one.", AGAIN),
        Rule("evidence-truth", "error", "The map agrees with the truth as is said.", "A number was edited.", AGAIN),
        Rule("evidence-particles", "error", "The particles are those of the data.", "It was run on others.", AGAIN),
    ),
    "The system": (
        Rule("system-differs", "error", "The system is the one that the site declares.", "A record was edited.", SITE),
        Rule("system-keys", "error", "The system has the keys that the kit writes.", "A record was edited.", SITE),
        Rule("doctor", "error", "What a doctor found is of this site, and in the past.", "It proves nothing else.", COPY),
        Rule("placeholder", "error", "No placeholder is left in a text.", "Somebody forgot to fill it in.", SITE),
    ),
}
RULES: dict[str, Rule] = {rule.id: rule for rules in AREAS.values() for rule in rules}


@dataclass(frozen=True)
class Finding:
    """Something against a rule: the rule's id, the file, and what is wrong with it."""

    rule: str
    file: str
    problem: str

    @property
    def severity(self) -> Severity:
        return RULES[self.rule].severity

    def __str__(self) -> str:
        text = plain(f"{self.file}: {self.problem}")
        text = text if len(text) <= 1000 else f"{text[:1000]}... ({len(text)} characters)"
        return f"{text} [{self.rule}]" if self.severity == "error" else f"warning: {text} [{self.rule}]"


def refusing(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that refuse a submission: the errors among them."""
    return [finding for finding in findings if finding.severity == "error"]


def named(rule: str, line: str, name: str = ".") -> Finding:
    """An error message as a finding: for the file that it begins with, or for `name`."""
    file, mark, problem = line.partition(": ")
    match = re.fullmatch(r"([\w./-]+?)(:[0-9]+)?", file)
    if mark and match and "." in match[1]:
        return Finding(rule, match[1], f"line {match[2][1:]}: {problem}" if match[2] else problem)
    return Finding(rule, name, line)


HEAD = """# The rules of a submission

What `kit submission check` holds a folder against. An error refuses it; a warning is for the person who reads it. This page
is written from `kit/submissions/rules.py`; `--json` gives reason and way out with every finding.

```console
$ kit submission check submissions/ORGANISATION/APPLICATION/SYSTEM/DESCRIPTOR --json
```"""


def page() -> str:
    """docs/rules.md: every rule, for a person."""
    from kit.submissions import together

    parts = [HEAD]
    for area, rules in {**AREAS, "Several submissions at once": (*together.RULES.values(),)}.items():
        rows = [f"| `{rule.id}` | {rule.severity} | {rule.what} | {rule.why} | {rule.mend} |" for rule in rules]
        parts.append(
            "\n".join([f"## {area}", "", "| rule | | what must be so | why | way out |", "|---|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"
