"""The rules on paper, findings as JSON and Markdown, and what `--fix` mends."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, files, kit, refitted, rewritten

from kit.core.checksums import SUMS
from kit.core.errors import KitError
from kit.submissions import rules, together
from kit.submissions.check import as_json, check, mend, report
from kit.submissions.rules import RULES, Finding, refusing

PAYLOAD = "`|[x](javascript:alert(1)) <img src=x onerror=alert(1)> @everyone #1 www.evil.de\n::error::x \x1b[2J\u202e"


def test_page_is_what_the_rules_say() -> None:
    assert (ROOT / "docs/rules.md").read_text() == rules.page()


def test_rules_say_all_of_it() -> None:
    for name, rule in RULES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert rule.severity in ("error", "warning")
        assert rule.what.endswith(".")
        assert rule.why.endswith(".")
        assert rule.mend
        assert "|" not in f"{rule.what}{rule.why}{rule.mend}"


def test_every_rule_that_a_check_names_is_one() -> None:
    """A finding of an unknown rule would be an error of the kit itself, and only then when it is needed."""
    named = set()
    for path in (ROOT / "kit/submissions").glob("*.py"):
        named |= set(re.findall(r"Finding\(\s*\"([a-z-]+)\"", path.read_text()))
    assert named
    assert named <= RULES.keys() | together.RULES.keys()


def test_foreign_text_is_text_in_every_form() -> None:
    findings = [Finding("unknown-file", PAYLOAD, PAYLOAD)]
    for line in report(Path("x"), findings).split("\n"):
        assert line.isprintable()
    (entry,) = json.loads(as_json(Path("x"), findings))["findings"]
    assert entry["file"] == PAYLOAD
    text = together.as_markdown(together.Judgement(Path("x"), {PAYLOAD: findings}))
    outside = re.sub(r"`[^`\n]*`", "", text)  # what is not in a code span
    for piece in ("javascript", "<img", "@everyone", "www.evil", "\x1b", "\u202e"):
        assert piece not in outside
    assert not re.search("^::", text, re.MULTILINE)
    (row,) = [line for line in text.splitlines() if "unknown-file" in line]
    assert row.count("|") == 6


def test_warnings_refuse_nothing(submission: Path) -> None:
    log = submission / "run/stages/first.stdout.txt"
    log.write_text(log.read_text() + "/home/alice\n")
    refitted(submission)
    rewritten(submission)
    (finding,) = check(submission)
    assert (finding.rule, finding.severity, finding.file) == ("personal-path", "warning", "run/stages/first.stdout.txt")
    assert refusing([finding]) == []
    assert report(submission, [finding]).endswith("accepted, 1 warning(s)")
    assert str(finding).startswith("warning: run/stages/first.stdout.txt: line ")


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_command(tmp_path: Path, option: str) -> None:
    said = kit("submission", "check", str(tmp_path), option, code=1).stdout
    assert "missing-file" in said
    assert "README.md" in said


def test_secret_is_not_repeated(submission: Path) -> None:
    token = "ghp" + "_" + "s3cr" * 9
    (submission / "README.md").write_text(token)
    said = report(submission, check(submission))
    assert "README.md: line 1 holds what looks like a GitHub token: ghp_..." in said
    assert "s3cr" not in said


def changed_text(folder: Path) -> None:
    (folder / "README.md").write_text("better")


def without_text(folder: Path) -> None:
    (folder / "README.md").unlink()
    rewritten(folder)


def strays(folder: Path) -> None:
    for name in (".DS_Store", "run/Thumbs.db", "README.md~", ".README.md.swp", "run/#job.sh#", "._run.json"):
        (folder / name).write_text("x")


def other_lines(folder: Path) -> None:
    sums = folder / SUMS
    lines = sums.read_text().splitlines()
    sums.write_bytes("\r\n".join(sorted((line.replace("  ", " *") for line in lines), reverse=True)).encode())


MENDED: dict[str, Callable[[Path], Any]] = {
    "executable": lambda folder: (folder / "run/job.sh").chmod(0o755),
    "set-user-ID": lambda folder: (folder / "run.json").chmod(0o4755),
    "text": changed_text,
    "text and its checksum": lambda folder: [changed_text(folder), rewritten(folder)],
    "text that is gone": without_text,
    "strays": strays,
    "form of the checksums": other_lines,
    "all of it": lambda folder: [change(folder) for change in (changed_text, strays, other_lines)],
}


@pytest.mark.parametrize("change", MENDED.values(), ids=MENDED)
def test_mended(submission: Path, change: Callable[[Path], Any]) -> None:
    before = {path.relative_to(submission): path.read_bytes() for path in files(submission)}
    change(submission)
    assert refusing(check(submission))
    assert mend(submission)
    assert check(submission) == []
    assert {path.relative_to(submission): path.read_bytes() for path in files(submission)} == before
    assert mend(submission) == []


def changed_record(folder: Path) -> None:
    refitted(folder, lambda run: run["metrics"][0].update(value=3.0))


LEFT: dict[str, Callable[[Path], Any]] = {
    "run.json": changed_record,
    "a log": lambda folder: (folder / "run/stages/first.stdout.txt").write_text("x"),
    "a file beside": lambda folder: (folder / "run/x.star").write_text("x"),
    "a stranger's file": lambda folder: (folder / "notes.md").write_text("x"),
    "a file that is gone": lambda folder: (folder / "run/job.sh").unlink(),
    "a link": lambda folder: (folder / ".DS_Store").symlink_to("/etc/hostname"),
    "a FIFO": lambda folder: os.mkfifo(folder / "Thumbs.db"),
    "a folder": lambda folder: (folder / ".DS_Store").mkdir(),
    "checksums that are none": lambda folder: (folder / SUMS).write_text("x"),
}


@pytest.mark.parametrize("change", LEFT.values(), ids=LEFT)
def test_left_as_it_is(submission: Path, change: Callable[[Path], Any]) -> None:
    """What is evidence, or somebody else's, stays; so do the checksums that tell of it."""
    change(submission)
    plain = [path for path in files(submission) if not path.is_symlink()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in plain}
    findings = check(submission)
    assert refusing(findings)
    assert mend(submission) == []
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in plain} == before
    assert check(submission) == findings


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_renamed_folder_is_left_as_it_is(submission: Path, level: int) -> None:
    """Whose result it is, and which, is for the submitter to say: texts are not written for another name."""
    place = [*submission.parts[-4:]]
    place[level] = "other"
    renamed = submission.parents[3].joinpath("renamed", *place)
    renamed.parent.mkdir(parents=True)
    submission.rename(renamed)
    changed_text(renamed)
    before = {path: path.read_bytes() for path in files(renamed)}
    assert mend(renamed) == []
    assert {path: path.read_bytes() for path in files(renamed)} == before


def test_forged_record_is_no_better_mended(submission: Path) -> None:
    """Texts follow from it then, and what it was forged against still tells."""
    changed_record(submission)
    rewritten(submission)
    assert mend(submission)
    assert "metric-differs" in {finding.rule for finding in check(submission)}


@pytest.mark.parametrize("name", ["sha256sums.txt.sig", "sha256sums.txt.minisig", "sha256sums.txt.asc"])
def test_signed_folder_is_not_touched(submission: Path, name: str) -> None:
    (submission / name).write_text("x")
    changed_text(submission)
    with pytest.raises(KitError, match="is signed"):
        mend(submission)
    assert (submission / "README.md").read_text() == "better"


def test_fix_says_what_it_did(submission: Path) -> None:
    strays(submission)
    done = mend(submission)
    assert ".DS_Store: removed; an editor or a file manager had left it" in done
    with pytest.raises(KitError, match="not a folder"):
        mend(submission / "run.json")
    assert "run.json" in kit("submission", "check", str(submission / "run.json"), "--fix", code=1).stderr
