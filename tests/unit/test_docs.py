"""README and docs: every command they show is one that exists, every link leads somewhere, every key is known."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import ROOT, commands, kit

from kit.core.schema import parse
from kit.site import Site

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_links(page: Path) -> None:
    targets = set(re.findall(r"^([a-z/%]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        program, *words = command.split()
        if program == "make":
            assert any(fnmatch(words[0], target.replace("%", "*")) for target in targets), command
        else:
            assert program == "kit"
            verb = [word for word in words if re.fullmatch(r"[a-z]+", word)]
            depth = 2 if verb[0] in ("cloudmask", "data", "image", "site", "submission") else 1
            known = kit(*verb[:depth], "--help").stdout
            for option in re.findall(r"--[a-z-]+", command):
                assert option in known, command
    for link in re.findall(r"\]\((\S+?)\)", page.read_text()):
        assert (page.parent / link).is_file(), link


def test_every_page_is_linked_and_shows_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme
        assert commands(page)
    assert commands(ROOT / "README.md")[:2] == ["make submission", "make test"]


def test_site_example_is_a_site() -> None:
    block = re.search(r"```toml\n(.*?)```", (ROOT / "docs/site.md").read_text(), re.DOTALL)
    assert block
    parse(Site, {"name": "example", **tomllib.loads(block[1])}, "docs/site.md")


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("submission", "test", "images", "recipes", "lint", "bench", "setup"):
        assert f"make {target} " in listed


def test_ci_calls_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_every_command_explains_itself() -> None:
    for words in (
        ["run"],
        ["collect"],
        ["status"],
        ["cancel"],
        ["doctor"],
        ["list"],
        ["image", "build"],
        ["submission", "check"],
    ):
        assert len(kit(*words, "--help").stdout) > 200
    assert "kit submission check FOLDER" in kit("--help").stdout
