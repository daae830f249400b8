"""What commands print: what is for programs is JSON."""

from __future__ import annotations

import json

import pytest

from kit.cli.output import out_json


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_numbers_that_are_none_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    """A metric can be one, and so can a ratio of nothing."""
    out_json({"a": [float("nan"), (float("inf"), 1.5)], "b": -float("inf"), "c": "nan"})
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"a": [None, [None, 1.5]], "b": None, "c": "nan"}
