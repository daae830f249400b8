"""Pages over results: what may be ranked, what differs, and that a stranger's text is text. In a browser: tests/browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sys
import types
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from board import PIXEL, made, verdicts
from conftest import ROOT, files, kit, rewritten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.report import leaderboard
from kit.report.comparison import report
from kit.report.differences import change, differing
from kit.report.entries import MEANING, load, ranked
from kit.report.figures import figures, png
from kit.report.leaderboard import build
from kit.report.page import duration
from kit.report.plots import plots
from kit.report.verdicts import given as read_verdicts
from kit.report.verdicts import place, verdict


class Page(HTMLParser):
    """What an HTML page is made of: its elements with their attributes, and the text of its tables by caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def board(tmp_path: Path, accepted: dict[Path, str], name: str = "site") -> tuple[Path, list[dict[str, Any]]]:
    """A leaderboard with these verdicts, and its data."""
    index = build(tmp_path / "board", tmp_path / name, verdicts(tmp_path / "verdicts.json", accepted))
    return index, json.loads((index.parent / "leaderboard.json").read_text())


def test_the_quickest_valid_result_is_first_and_nothing_else_has_a_rank(submission: Path, tmp_path: Path) -> None:
    root = tmp_path / "board"
    slow = made(submission, root, "a", "toy", "slow", "tiny-1", seconds=20)
    quick = made(submission, root, "b", "toy", "quick", "tiny-1", seconds=5)
    crowded = made(submission, root, "c", "toy", "crowded", "tiny-1", seconds=1, cores=1, ranks=2)
    trial = made(submission, root, "trial", "toy", "mine", "tiny-1", seconds=1)
    failed = {"name": "failed", "stage": "second", "reason": "out of memory"}
    invalid = made(submission, root, "d", "toy", "failed", "tiny-1", seconds=1, state=failed)
    refused = made(submission, root, "e", "toy", "forged", "tiny-1", seconds=1)
    made(submission, root, "f", "toy", "unseen", "tiny-1", seconds=1)
    accepted = dict.fromkeys([slow, quick, crowded, trial, invalid], "")
    index, data = board(tmp_path, {**accepted, refused: "metric resolution is 1"})
    found = {entry["system"]: (entry["rank"], entry["status"], "; ".join(entry["reasons"])) for entry in data}
    assert found == {
        "quick": (1, "valid", ""),
        "slow": (2, "valid", ""),
        "crowded": (None, "oversubscribed", "2 threads on a node of 1 cores"),
        "mine": (None, "trial", "handed in under the name trial"),
        "failed": (None, "invalid", "failed: stage second: out of memory"),
        "forged": (None, "refused", "run.json: metric resolution is 1"),
        "unseen": (None, "not checked", "kit submission check has given no verdict on it"),
    }
    assert {status for _, status, _ in found.values()} == set(MEANING)
    text = index.read_text()
    ranking, rest = text.split("Not ranked: toy, size tiny</span>")[0], text.split("Not ranked: toy, size tiny</span>")[1]
    for system, (rank, status, reason) in found.items():
        assert (f">{system}</a>" in ranking) is (rank is not None)
        if rank is None:
            assert f"/ {system} /" in rest
            assert f">{status}</td>" in rest
            assert reason in rest


def test_a_run_cut_off_is_not_ranked_for_what_is_left_of_its_time(submission: Path, tmp_path: Path) -> None:
    folder = made(submission, tmp_path, "a", "toy", "b", "tiny-1")
    run = json.loads((folder / "run.json").read_text())
    run["stages"].insert(1, {**run["stages"][1], "end": None, "exit_code": None})
    (folder / "run.json").write_text(json.dumps(run))
    entry = load(folder)
    assert entry.status == "invalid"
    assert "nobody knows how long" in entry.reasons[0]


def test_a_training_that_shared_cores_is_oversubscribed_by_its_own_word(submission: Path, tmp_path: Path) -> None:
    folder = made(submission, tmp_path, "a", "toy", "b", "tiny-1")
    run = json.loads((folder / "run.json").read_text())
    run["metrics"][0]["file"] = "train.json"
    (folder / "run.json").write_text(json.dumps(run))
    for said, status in ((True, "oversubscribed"), (False, "valid")):
        (folder / "run/train.json").write_text(json.dumps({"oversubscribed": said}))
        assert load(folder).status == status


def test_of_repeats_the_median_counts(submission: Path, tmp_path: Path) -> None:
    folder = made(submission, tmp_path, "a", "toy", "b", "tiny-1", seconds=10)
    for number, seconds in ((2, 50), (3, 12)):
        other = made(submission, tmp_path, "z", "toy", "b", f"tiny-{number}", seconds=seconds, seed=number)
        (folder / f"repeat-{number}").mkdir()
        shutil.copy(other / "run.json", folder / f"repeat-{number}/run.json")
    entry = load(folder)
    assert len(entry.runs) == 3
    assert entry.seconds == pytest.approx(12, abs=0.01)
    page = report([folder], tmp_path / "page.html").read_text()
    assert "Runs of this result" in page
    (folder / "repeat-2/run.json").unlink()
    assert load(folder).status == "refused"


def test_what_differs_is_said_parameter_by_parameter(submission: Path, tmp_path: Path) -> None:
    """As in the published tables: Change CPU, Change binary."""
    first = made(submission, tmp_path, "a", "toy", "b", "tiny-1", system={"host_processor_model_name": "Broadwell"})
    second = made(submission, tmp_path, "a", "toy", "b", "tiny-2", system={"host_processor_model_name": "Skylake"}, seed=7)
    system = {"host_processor_model_name": "Skylake"}
    third = made(
        submission, tmp_path, "a", "toy", "b", "tiny-3", system=system, image={"name": "relion-accelerated"}, seed=7
    )
    fourth = made(submission, tmp_path, "a", "toy", "b", "tiny-4", system=system, image={"name": "relion-accelerated"})
    benchmark = json.loads((fourth / "run/benchmark.json").read_text())
    benchmark["sizes"]["tiny"]["parameters"]["pool"] = 12
    (fourth / "run/benchmark.json").write_text(json.dumps(benchmark))
    entries = [load(folder) for folder in (first, second, third, fourth)]
    steps = [change(a, b) for a, b in itertools.pairwise(entries)]
    assert steps == ["Change CPU", "Change binary", "Change pool"]
    assert change(entries[1], entries[1]) == "a repeat"
    assert differing(entries)["CPU"] == ["Broadwell", "Skylake", "Skylake", "Skylake"]
    assert differing(entries)["pool"] == ["unknown"] * 3 + ["12"]
    assert "ranks" not in differing(entries)
    page = report([first, second, third, fourth], tmp_path / "page.html").read_text()
    for step in steps:
        assert step in page


def test_a_seed_alone_is_a_change_of_the_seed(submission: Path, tmp_path: Path) -> None:
    first, second = (load(made(submission, tmp_path, "a", "toy", "b", f"tiny-{seed}", seed=seed)) for seed in (1, 2))
    assert change(first, second) == "Change seed"


NASTY = '<script>alert(1)</script><img src=x onerror="alert(2)">\' onmouseover=alert(3) ]]> {{ 7 * 7 }} $x^2$ &amp;'
BIDI = "left‮thgir"


@pytest.fixture
def nasty(submission: Path, tmp_path: Path) -> list[Path]:
    """Submissions with markup wherever a record holds text."""
    root = tmp_path / "board"
    failed = {"name": "failed", "stage": NASTY, "reason": NASTY + BIDI}
    system = {"host_processor_model_name": NASTY, NASTY: NASTY}
    rest = {"system": system, "image": {"version": NASTY}, "kit": NASTY, "commit": NASTY, "host": NASTY}
    one = made(submission, root, "a", "toy", "one", "tiny-1", **rest)
    two = made(submission, root, "a", "toy", "two", "tiny-2", **rest, state=failed)
    for folder in (one, two):
        run = json.loads((folder / "run.json").read_text())
        for stage in run["stages"]:
            stage |= {"name": NASTY, "host": NASTY, "reason": NASTY}
        for metric in run["metrics"]:
            metric |= {"name": NASTY + BIDI, "unit": NASTY, "direction": NASTY, "source": NASTY + "\x00\x1b[31m"}
        (folder / "run.json").write_text(json.dumps(run))
    odd = root / "a" / "toy" / "<b onclick=alert(4)>" / "x\x1b[31m"
    odd.mkdir(parents=True)
    (odd / "run.json").write_text(f"{{{NASTY}")
    bytes_of = os.path.join(os.fsencode(root), b"a", b"toy", b"\xff\xfe", b"y")
    os.makedirs(bytes_of)
    return [one, two]


def harmless(text: str) -> None:
    page = Page(text)
    assert len(page.all("script")) == 1
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for tag, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], (tag, attributes)
        for key in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(key, "#")
            assert re.match(r"data:image/png;base64,[A-Za-z0-9+/=]+$|[#a-zA-Z0-9._/-]+$", value), value
            assert "//" not in value or value.startswith("data:")
    assert not re.search(r"[\x00-\x08\x0b-\x1f‪-‮⁦-⁩]", text)


ELEMENTS = """
html head meta title style body a header h1 h2 h3 p nav ul li main section div table caption span thead tr th tbody td figure
figcaption img svg desc g path defs clippath rect text use strong code footer script
"""
ALLOWED = set(re.findall(r"\w+", ELEMENTS))


def test_a_page_replaces_nothing_but_a_page(submission: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype HTML>\n")
    assert report([submission], page).read_text().startswith("<!DOCTYPE html>\n<")
    record = submission / "run.json"
    before = record.read_bytes()
    with pytest.raises(KitError, match=r"run\.json: exists, and is no HTML page; name another file"):
        report([submission], record)
    assert record.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KitError, match="pipe: exists"):
        report([submission], tmp_path / "pipe")
    with pytest.raises(KitError, match=rf"{re.escape(str(tmp_path))}: a folder; name a file, such as .*/report\.html"):
        report([submission], tmp_path)


def test_text_of_strangers_is_text(nasty: list[Path], tmp_path: Path) -> None:
    index = build(tmp_path / "board", tmp_path / "site", verdicts(tmp_path / "v.json", dict.fromkeys(nasty, "")))
    pages = [*index.parent.rglob("*.html"), report(nasty, tmp_path / "page.html")]
    assert len(pages) == 6
    for page in pages:
        harmless(page.read_text(encoding="utf-8"))
    shown = "".join(Page((tmp_path / "page.html").read_text()).texts)
    assert NASTY in shown
    assert "$x^2$" in shown
    assert "left\\u202ethgir" in shown
    assert json.loads((index.parent / "leaderboard.json").read_text())


def test_markup_would_be_found() -> None:
    for text in (
        "<b>x</b><script>",
        "<script></script><iframe>",
        '<script></script><p onclick="x">',
        '<script></script><img src="http:x">',
    ):
        with pytest.raises(AssertionError):
            harmless(text)


def test_a_page_loads_nothing_and_allows_only_its_own_style_and_script(submission: Path, tmp_path: Path) -> None:
    folders = [made(submission, tmp_path, "a", "toy", "b", f"tiny-{n}", seconds=n, ranks=n) for n in (1, 2)]
    (folders[0] / "run/figures").mkdir()
    (folders[0] / "run/figures/fsc.png").write_bytes(PIXEL)
    text = report(folders, tmp_path / "page.html").read_text()
    harmless(text)
    (policy,) = [meta["content"] for meta in Page(text).all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    assert len(Page(text).all("svg")) == 3
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:url\(#|href="#)([^")]+)', text):
        assert target in ids
    (picture,) = Page(text).all("img")
    assert picture["alt"].startswith("Fourier shell correlation")
    assert picture["src"] == f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    for svg in Page(text).all("svg"):
        assert svg["role"] == "img"
        assert set(svg["aria-labelledby"].split()) <= set(ids)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "is no PNG"),
        (b"<html><script>alert(1)</script>", "is no PNG"),
        (b"\x89PNG\r\n\x1a\n<script>alert(1)</script>.........", "is no PNG"),
        (b"", "is no PNG"),
        (PIXEL[:16] + b"\x7f\xff\xff\xff" * 2 + PIXEL[24:], "is too large"),
        (PIXEL + b"\0" * 5_000_000, "is too large"),
    ],
)
def test_only_a_png_of_bounded_size_is_shown(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/a.png").write_bytes(content)
    (tmp_path / "figures/b.png").write_bytes(PIXEL)
    (tmp_path / "figures/c.svg").write_bytes(PIXEL)
    first, second = figures(tmp_path)
    assert not first.uri
    assert problem in first.problem
    assert second.uri
    with pytest.raises(KitError, match=problem):
        png(tmp_path, "figures/a.png")


def test_no_link_is_followed_to_a_picture(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PIXEL)
    run = tmp_path / "run"
    (run / "figures").mkdir(parents=True)
    (run / "figures/a.png").symlink_to(tmp_path / "secret.png")
    assert [figure.uri for figure in figures(run)] == [""]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/figures").symlink_to(run / "figures")
    assert figures(tmp_path / "other") == []


def test_all_pictures_of_a_result_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "figures").mkdir()
    for name in "abc":
        (tmp_path / f"figures/{name}.png").write_bytes(PIXEL)
    monkeypatch.setattr("kit.report.figures.IN_ALL", 2 * len(PIXEL))
    assert [bool(figure.uri) for figure in figures(tmp_path)] == [True, True, False]


def test_the_same_submissions_give_the_same_bytes(submission: Path, tmp_path: Path) -> None:
    root = tmp_path / "board"
    accepted = dict.fromkeys(
        [made(submission, root, "a", "toy", f"s{n}", "tiny-1", seconds=n, ranks=n) for n in (3, 1, 2)], ""
    )
    first, _ = board(tmp_path, accepted, "one")
    for path in files(root):
        os.utime(path, (1, 1))
    second, _ = board(tmp_path, accepted, "two")
    contents = [{p.relative_to(i.parent): p.read_bytes() for p in files(i.parent)} for i in (first, second)]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 6
    assert not re.search(rb"<dc:|Matplotlib v", contents[0][Path("index.html")])


def test_without_submissions_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    page = build(tmp_path / "submissions", tmp_path / "site")
    assert "There are no submissions yet" in page.read_text()
    assert json.loads((tmp_path / "site/leaderboard.json").read_text()) == []
    with pytest.raises(KitError, match="not a folder"):
        build(tmp_path / "nowhere", tmp_path / "site")


def test_a_leaderboard_takes_no_place_but_its_own(submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (tmp_path / "board").mkdir()
    site.mkdir()
    (site / "thesis.tex").write_text("x")
    with pytest.raises(KitError, match="exists, and is no leaderboard"):
        build(tmp_path / "board", site)
    (site / "thesis.tex").unlink()
    build(tmp_path / "board", site)
    before = (site / "index.html").read_text()
    made(submission, tmp_path / "board", "a", "toy", "b", "tiny-1")
    written = leaderboard.write

    def full(*words: Any) -> None:
        written(*words)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leaderboard, "write", full)
    with pytest.raises(OSError, match="No space"):
        build(tmp_path / "board", site, verdicts(tmp_path / "v.json", {}))
    assert (site / "index.html").read_text() == before
    monkeypatch.setattr(leaderboard, "write", written)
    build(tmp_path / "board", site, verdicts(tmp_path / "v.json", {}))
    assert (site / "index.html").read_text() != before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", [".git", "CNAME"])
def test_a_leaderboard_deletes_nothing_that_is_not_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "board").mkdir()
    site = build(tmp_path / "board", tmp_path / "site").parent
    (site / name).mkdir()
    with pytest.raises(KitError, match=f"site: holds {re.escape(name)} beside"):
        build(tmp_path / "board", site)
    assert (site / name).is_dir()


def test_the_old_leaderboard_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "board").mkdir()
    page = build(tmp_path / "board", tmp_path / "site")
    before, rename = page.read_text(), os.rename

    def broken(source: Path, target: Path) -> None:
        if target == page.parent and (source / "new").exists():
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(leaderboard, "write", lambda folder, entries: (folder / "new").mkdir())
    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="Input/output"):
        build(tmp_path / "board", page.parent)
    assert page.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "site"]


def test_no_cell_is_a_formula_of_a_spreadsheet(submission: Path, tmp_path: Path) -> None:
    made(
        submission, tmp_path / "board", "a", "toy", "b", "tiny-1", system={"host_processor_model_name": "=cmd|' /C calc'!A0"}
    )
    index, _ = board(tmp_path, {})
    (row,) = csv.DictReader(io.StringIO((index.parent / "leaderboard.csv").read_text()))
    assert row["processor"] == "'=cmd|' /C calc'!A0"
    assert leaderboard.field(-1.5) == -1.5
    assert leaderboard.field("@x").startswith("'")


def test_a_verdict_is_asked_once_while_nothing_changes(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kit.submissions import check as module

    calls = []
    asked = module.check
    monkeypatch.setattr(module, "check", lambda *words, **keys: calls.append(1) or asked(*words, **keys))
    assert verdict(submission) == verdict(submission) == []
    assert len(calls) == 1
    (submission / "README.md").write_text("mine")
    assert any("README.md" in text for text in verdict(submission))
    rewritten(submission)
    assert any("README.md" in text for text in verdict(submission))
    assert len(calls) == 3
    monkeypatch.setattr("kit.core.paths.commit", lambda: "2" * 40 + "-dirty")
    assert place(submission) is None


def test_a_leaderboard_checks_what_nobody_has_checked(submission: Path, tmp_path: Path) -> None:
    index = build(submission.parents[3], tmp_path / "site")
    (entry,) = json.loads((index.parent / "leaderboard.json").read_text())
    assert entry["status"] == "valid"
    (submission / "run/first.txt").write_text("added")
    build(submission.parents[3], tmp_path / "site")
    (entry,) = json.loads((index.parent / "leaderboard.json").read_text())
    assert (entry["rank"], entry["status"]) == (None, "refused")


def test_copies_of_one_run_are_not_ranked(submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "board"
    for owner in ("a", "b"):
        shutil.copytree(submission, root / owner / "toy/c/tiny-1")
    monkeypatch.setattr(leaderboard, "verdict", lambda folder: [])
    build(root, tmp_path / "site")
    data = json.loads((tmp_path / "site/leaderboard.json").read_text())
    assert [(entry["rank"], entry["status"]) for entry in data] == [(None, "refused")] * 2
    assert "run.json: has the job script of b/toy/c/tiny-1/run.json [same-script]" in data[0]["reasons"]
    shutil.rmtree(root / "b")
    build(root, tmp_path / "site")
    (entry,) = json.loads((tmp_path / "site/leaderboard.json").read_text())
    assert (entry["rank"], entry["status"]) == (1, "valid")


def test_a_folder_that_cannot_be_listed_is_refused_and_stops_nothing(
    submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, scandir = tmp_path / "board", os.scandir
    made(submission, root, "a", "toy", "b", "tiny-1")
    closed = [root / "a/closed"]
    closed[0].mkdir()

    def scanned(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path) in closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scanned)
    build(root, tmp_path / "site")
    data = json.loads((tmp_path / "site/leaderboard.json").read_text())
    found = {entry["page"].split("-")[-2]: entry for entry in data}
    assert len(data) == 2
    assert found["closed"]["status"] == "refused"
    assert found["closed"]["reasons"][0] == "cannot be listed: Permission denied"
    closed.append(root)
    with pytest.raises(KitError, match="board: cannot be listed: Permission denied"):
        build(root, tmp_path / "site")


def test_verdicts_on_other_folders_are_an_error(submission: Path, tmp_path: Path) -> None:
    made(submission, tmp_path / "board", "a", "toy", "b", "tiny-1")
    with pytest.raises(KitError, match="has a verdict on toy/b/tiny-1, and none on a/toy/b/tiny-1 or"):
        board(tmp_path, {Path("toy/b/tiny-1"): ""})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"folder": "s/a/b/c/d", "accepted": true, "findings": []}', []),
        ('[{"folder": "a/b/c/d", "accepted": false, "findings": [{"file": "f", "problem": "p"}]}]', ["f: p"]),
        ('[{"folder": "a/b/c/d", "accepted": false, "findings": []}]', ["refused, for no reason given"]),
        ('[{"folder": "a/b/c/d", "accepted": "true", "findings": []}]', ["refused, for no reason given"]),
        (
            '{"submissions": [{"folder": "a/b/c/d", "accepted": true, "findings": '
            '[{"rule": "r", "file": "f", "problem": "p", "severity": "warning"}]}]}',
            [],
        ),
    ],
)
def test_verdicts_of_the_check_are_read(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "v.json").write_text(text)
    assert read_verdicts(tmp_path / "v.json") == {("a", "b", "c", "d"): found}


@pytest.mark.parametrize("text", ["3", "[1]", '["x"]', '[{"folder": "a"}]', '{"submissions": 1}', "null", "[[]]", "{"])
def test_other_verdicts_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(KitError, match=r"v\.json"):
        read_verdicts(tmp_path / "v.json")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["run.json", "run/benchmark.json", "run/site.json"]), content=st.binary(max_size=200))
def test_whatever_a_file_holds_an_entry_comes_of_it(submission: Path, name: str, content: bytes) -> None:
    (submission / name).write_bytes(content)
    entry = load(submission)
    assert entry.status == "refused"
    assert entry.reasons


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1e308", "1e308", '"x"', "null", "[]", "true"])
def test_strange_numbers_do_not_stop_a_page(submission: Path, tmp_path: Path, value: str) -> None:
    folder = made(submission, tmp_path / "board", "a", "toy", "b", "tiny-1")
    other = made(submission, tmp_path / "board", "a", "toy", "b", "tiny-2")
    text = (folder / "run.json").read_text()
    for key in ("value", "ranks", "threads", "start", "end"):
        (folder / "run.json").write_text(re.sub(rf'"{key}": [0-9.]+', f'"{key}": {value}', text))
        report([folder, other], tmp_path / "page.html")
        _, data = board(tmp_path, {folder: "", other: ""})
        assert len(data) == 2
        assert [entry["system"] for entry in data if entry["rank"] == 1] == ["b"]


def test_a_huge_record_is_not_read(submission: Path) -> None:
    with (submission / "run.json").open("a") as file:
        file.write(" " * 5_000_000)
    assert "is not read" in load(submission).reasons[0]


def test_a_link_or_pipe_in_place_of_a_record_is_not_opened(submission: Path, tmp_path: Path) -> None:
    (submission / "run.json").rename(tmp_path / "elsewhere.json")
    (submission / "run.json").symlink_to(tmp_path / "elsewhere.json")
    assert "a link" in load(submission).reasons[0]
    (submission / "run.json").unlink()
    os.mkfifo(submission / "run.json")
    assert "a FIFO" in load(submission).reasons[0]


def test_folders_are_found_through_no_link(submission: Path, tmp_path: Path) -> None:
    root = tmp_path / "board"
    folder = made(submission, root, "a", "toy", "b", "tiny-1")
    (root / "a/toy/linked").symlink_to(folder.parent)
    (root / ".git/a/b/c").mkdir(parents=True)
    shutil.copytree(submission, root / "stray")
    (root / "x/y/z/empty").mkdir(parents=True)
    assert leaderboard.found(root) == [folder, root / "stray", root / "x/y/z/empty"]


def test_published_results_stand_beside_the_own(submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Reference:
        job: str = "job065"
        change: str = "Change binary"
        runtime: str = "6:40"
        source: str = "a table"

    module = types.ModuleType("kit.history")
    module.references = lambda benchmark: [Reference()] if benchmark == "toy" else []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kit.history", module)
    text = "".join(Page(report([submission], tmp_path / "page.html").read_text()).texts)
    for shown in ("Published results", "job065", "Change binary", "6:40", "a table"):
        assert shown in text
    monkeypatch.setitem(sys.modules, "kit.history", None)
    assert "Published results" not in report([submission], tmp_path / "page.html").read_text()


def test_plots_are_the_same_twice_and_escape_what_they_name(submission: Path, tmp_path: Path) -> None:
    entries = [load(made(submission, tmp_path, "a", "toy", f"s{n}", "tiny-1", seconds=n, ranks=n)) for n in (1, 4)]
    first, second = (plots("x", entries) for _ in range(2))
    assert first == second
    assert [plot.title for plot in first] == ["Time to the result", "Speed-up", "Scaling"]
    assert "1: s1 1.00, 2: s4 0.25" in first[1].svg
    assert "style=" not in "".join(plot.svg for plot in first)
    assert plots("x", ranked(entries[:1]))[0].title == "Time to the result"


def test_a_time_to_the_target_is_drawn_where_it_is_measured(submission: Path, tmp_path: Path) -> None:
    folder = made(submission, tmp_path, "a", "toy", "b", "tiny-1")
    run = json.loads((folder / "run.json").read_text())
    run["metrics"].append({**run["metrics"][0], "name": "target_seconds", "value": 42.0})
    (folder / "run.json").write_text(json.dumps(run))
    assert "42 s" in plots("x", [load(folder)])[-1].svg


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.26, "0.3 s"), (119.9, "119.9 s"), (120, "2 min 0 s"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds).text == text


def test_a_scaling_measurement_shows_its_points_and_has_no_rank(submission: Path, tmp_path: Path) -> None:
    folder = made(submission, tmp_path, "a", "toy", "b", "tiny-1", scaling=[1, 2])
    (folder / "run/scaling").mkdir()
    point = {"ranks": 2, "samples_per_second": 3.25, "speedup": 1.75, "efficiency": 0.875, "oversubscribed": True}
    (folder / "run/scaling/scaling.json").write_text(json.dumps({"strong": {"2": point, "4": "<b>"}, "weak": ["<b>"]}))
    assert load(folder).status == "invalid"
    text = report([folder], tmp_path / "page.html").read_text()
    harmless(text)
    for shown in (">Scaling</span>", ">3.25<", ">1.75<", ">0.875<", ">oversubscribed<"):
        assert shown in text


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_light_and_in_dark() -> None:
    """4.5 to 1 for text, 3 to 1 for what is drawn (WCAG 2.2, 1.4.3 and 1.4.11)."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    themes = re.findall(r":root \{(.*?)\}", (ROOT / "templates/report/style.css").read_text(), re.DOTALL)
    assert len(themes) == 2
    from kit.report.plots import COLOURS

    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for name in ("ink", "quiet", "link", "good", "warn", "bad"):
            for ground in ("paper", "band"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for colour in (*COLOURS, colours["focus"]):
            assert contrast(colour, colours["paper"]) >= 3, colour


def test_headings_descend_in_order_and_tables_say_what_they_are(submission: Path, tmp_path: Path) -> None:
    folder = made(submission, tmp_path / "board", "a", "toy", "b", "tiny-1")
    index, _ = board(tmp_path, {folder: ""})
    for path in (*index.parent.rglob("*.html"), report([submission], tmp_path / "page.html")):
        page = Page(path.read_text())
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert page.all("html")[0]["lang"] == "en"
        assert len(page.all("table")) == len(page.all("caption"))
        assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_command(submission: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert kit("report", str(submission), "--to", str(page)).stdout == f"{page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    (tmp_path / "none").mkdir()
    shown = kit("report", "--leaderboard", str(tmp_path / "none"), "--to", str(tmp_path / "site")).stdout
    assert shown == f"{tmp_path}/site/index.html\n"
    for words in ([], ["--leaderboard", "x", "y"], ["x", "--verdicts", "y"]):
        kit("report", *words, code=2)
    assert "not a run directory" in kit("report", str(tmp_path), code=1).stderr
    assert "is no folder" in kit("report", str(submission), "--to", str(tmp_path / "no/page.html"), code=1).stderr
    (tmp_path / "run.json").write_text("{")
    assert "not JSON" in kit("report", str(tmp_path), code=1).stderr
