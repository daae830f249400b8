"""Anything at all, in place of any file that the check reads: findings and KitErrors, and never another exception."""

from __future__ import annotations

import contextlib
import json
import os
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, files, refitted, rewritten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.benchmarks.relion.star import read_star
from kit.core.checksums import read_sums
from kit.core.errors import KitError
from kit.core.files import read_json
from kit.core.schema import parse
from kit.doctor.outcome import Outcome
from kit.runs.plausibility import ranks_seen, stated_digest
from kit.runs.record import Run, read_stages
from kit.submissions.check import check
from kit.submissions.leaks import found
from kit.submissions.rules import RULES
from kit.submissions.submitter import Submitter

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

# Values of JSON, those that Python alone reads and those that other readers take otherwise among them.
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "valid", "../../etc/passwd", "sha256:" + "0" * 64, "1" * 40, "\x1b[2J", "\ud800", "{{ 7 }}", "$(id)"]
    ),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
PIECES = (
    *(
        b"data_general\n",
        b"loop_\n",
        b"_rlnFinalResolution",
        b" 7\n",
        b"#1\n",
        b"'",
        b'"',
        b";",
        b"\0",
        b"\xff",
        b"\r\n",
        b"\n",
    ),
    *(b'{"rank": ', b'"size": 1}', b'{"stage": "a", "event": "start", ', b'"time": ', b"1e999", b"NaN", b"[", b"{", b"}"),
    *(b"0" * 64, b"  ", b"README.md\n", b"\xef\xbb\xbf", b"ghp_", b"://a:b", b"@c.de ", b"password=", b"/home/"),
)
pieces = st.sampled_from(PIECES)
contents = st.binary(max_size=200) | st.lists(pieces | st.binary(max_size=5), max_size=30).map(b"".join)


def way_to(data: Any, steps: list[int]) -> list[Any]:
    """The keys that lead to some place in nested data."""
    way: list[Any] = []
    for step in steps:
        keys = list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []
        if not keys:
            break
        way.append(keys[step % len(keys)])
        data = data[way[-1]]
    return way


def with_value(data: Any, way: list[Any], value: Any) -> Any:
    """Nested data with another value at some place."""
    if not way:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[way[0]] = with_value(data[way[0]], way[1:], value)
    return copy


def as_bytes(data: Any) -> bytes:
    return json.dumps(data, indent=2).encode(errors="surrogatepass")


def survives(folder: Path) -> None:
    findings = check(folder)
    assert not [finding for finding in findings if finding.rule == "unchecked"], findings
    assert all(finding.rule in RULES and str(finding).isprintable() for finding in findings)


@few
@given(data=st.data())
def test_any_bytes_in_any_file(submission: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(submission)))
    before = path.read_bytes()
    cut = data.draw(st.integers(0, len(before)))
    put = data.draw(contents)
    path.write_bytes(data.draw(st.sampled_from([put, before[:cut], before[:cut] + put, before[:cut] + put + before[cut:]])))
    if path.name != "sha256sums.txt":
        rewritten(submission)
    try:
        survives(submission)
    finally:
        path.write_bytes(before)
        rewritten(submission)


@few
@given(steps=st.lists(st.integers(0, 30), min_size=1, max_size=5), value=values, name=st.sampled_from(
    ["run.json", "run/site.json", "run/benchmark.json", "run/sbom.cdx.json", "system.json", "submitter.json"]
))  # fmt: skip
def test_any_value_at_any_key(submission: Path, steps: list[int], value: Any, name: str) -> None:
    path = submission / name
    before = path.read_bytes()
    data = json.loads(before)
    path.write_bytes(as_bytes(with_value(data, way_to(data, steps), value)))
    try:
        if name != "run.json":
            refitted(submission)
        rewritten(submission)
        survives(submission)
    finally:
        path.write_bytes(before)
        refitted(submission)
        rewritten(submission)


def in_file(name: str, read: Callable[[Path], Any]) -> Callable[[Path, bytes], Any]:
    """A parser of a file in a folder, as one of bytes."""

    def parser(folder: Path, content: bytes) -> Any:
        (folder / name).write_bytes(content)
        return read(folder)

    return parser


PARSERS: dict[str, Callable[[Path, bytes], Any]] = {
    "stages.jsonl": in_file("stages.jsonl", read_stages),
    "ranks.jsonl": in_file("ranks.jsonl", lambda folder: ranks_seen(folder, 2)),
    "run.json": in_file("run.json", lambda folder: parse(Run, read_json(folder / "run.json"), "run.json")),
    "doctor.json": in_file("doctor.json", lambda folder: parse(Outcome, read_json(folder / "doctor.json"), "doctor.json")),
    "submitter.json": in_file("s.json", lambda folder: parse(Submitter, read_json(folder / "s.json"), "s.json")),
    "sha256sums.txt": in_file("sha256sums.txt", read_sums),
    "SBOM": in_file("sbom.cdx.json", lambda folder: stated_digest(read_json(folder / "sbom.cdx.json"))),
    "STAR": in_file("x.star", lambda folder: read_star(folder / "x.star", only="general")),
    "any text": in_file("x.txt", lambda folder: list(found(folder / "x.txt"))),
}


@pytest.mark.parametrize("name", PARSERS)
@many
@given(content=contents | values.map(as_bytes))
def test_parser(tmp_path: Path, name: str, content: bytes) -> None:
    with contextlib.suppress(KitError):
        PARSERS[name](tmp_path, content)


def test_fuzzing_by_coverage_finds_nothing() -> None:
    """The first inputs of what tests/fuzz/parsers.py does for as long as it is asked to."""
    pytest.importorskip("atheris")
    command = [sys.executable, str(ROOT / "tests/fuzz/parsers.py"), "300", "3000"]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "number_of_executed_units" in result.stderr


@many
@given(text=st.text(string.printable + "é\0\u202e", max_size=2000))
def test_search_for_leaks_takes_any_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(text)
    assert all(hit.line <= text.encode().count(b"\n") + 1 for hit in found(path))


@pytest.mark.parametrize(
    "text",
    [b"eyJ", b"password=", b"@a.", b"://a:", b"AKIA", b"/home/", b"a@", b"-----BEGIN ", b"ghp_a", b"token: ", b"password"],
)
def test_search_takes_a_text_made_to_be_slow(tmp_path: Path, text: bytes) -> None:
    """Two megabytes that begin a match at each byte or two; a search that looks at each again for each would not end."""
    path = tmp_path / "x.txt"
    path.write_bytes(text * (2_000_000 // len(text)))
    assert len(list(found(path))) < 2000
