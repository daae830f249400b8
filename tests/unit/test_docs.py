"""README and docs: every command they show is one that exists, every link and path leads somewhere, every key is known."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, commands, kit

from kit import __version__
from kit.cli import app
from kit.core.schema import parse
from kit.site import Site

TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*TOP, *DOCS]
# A page on what was once so names commands and files that are gone.
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
FOLDERS = r"kit|docs|tests|templates|containers|recipes|bench|\.github|\.ci"


def spans(text: str) -> list[str]:
    """The inline code of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def leaf(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `kit WORDS...` runs, and the words that are left for it."""
    import typer.main

    command: Any = typer.main.get_command(app)
    context = command.make_context("kit", list(words))
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        if not hasattr(command, "resolve_command"):
            return command, words
        context = command.make_context(name, list(words), parent=context)
    return command, words


def problems(text: str, inline: bool = True) -> list[str]:
    """What a page says of commands, paths and pictures that is not so."""
    found = []
    targets = set(re.findall(r"^([a-z/%]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in [*commands(text), *(span for span in spans(text) if inline and re.match("(kit|make) [a-z]", span))]:
        program, *words = shlex.split(command)
        if program == "make":
            if not any(fnmatch(words[0], target.replace("%", "*")) for target in targets):
                found.append(f"{command}: no such target")
            continue
        try:
            assert program == "kit", "a page shows kit and make"
            known, rest = leaf(words)
            if command in commands(text):
                known.make_context(command, list(rest))
            options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
            unknown = [word for word in rest if word.startswith("--") and word not in {*options, "--help"}]
            assert not unknown, unknown
        except Exception as error:
            found.append(f"{command}: {error}")
    for span in spans(text) if inline else []:
        if re.fullmatch(rf"({FOLDERS})/[\w./<>*-]*", span) and not list(ROOT.glob(re.sub("<.*?>", "*", span))):
            found.append(f"{span}: no such file or folder")
    found += [f"{picture}: has no alternative text" for picture in re.findall(r"!\[\s*\]\((\S+)\)", text)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_links(page: Path) -> None:
    text = page.read_text()
    assert not problems(text, inline=page in TODAY)
    for link in re.findall(r"\]\(([^\s)#]+)\S*?\)", text):
        assert re.match("https?:", link) or (page.parent / link).is_file(), link


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ kit relate RUN\n```",
        "```console\n$ kit run relion --sizes tiny\n```",
        "```console\n$ kit collect\n```",
        "```console\n$ make nothing\n```",
        "```console\n$ rm -rf build\n```",
        "Use `kit image make`.",
        "Use `kit run relion --sizes tiny`.",
        "It is in `kit/nowhere.py`.",
        "It is in `kit/benchmarks/<name>/nothing.toml`.",
        "![](docs/picks.png)",
    ],
)
def test_what_is_wrong_is_found(text: str) -> None:
    assert len(problems(text)) == 1


def test_what_is_right_is_not() -> None:
    assert not problems(
        "```console\n$ kit run relion --size tiny   # minutes\n```\n`kit run`, `kit run relion --size tiny`, "
        "`make image/relion-cuda`, `kit/benchmarks/<name>/benchmark.toml`, ![a curve](docs/fsc.png)"
    )


def test_every_page_is_linked_and_shows_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in readme
    for page in DOCS:
        assert commands(page.read_text()), page
    assert commands(readme)[:2] == ["make submission", "make test"]


def build_site(folder: Path, extra: str = "") -> subprocess.CompletedProcess[str]:
    """What `make docs` does, in a folder of its own, with a text behind the first page."""
    shutil.copy(ROOT / "mkdocs.yml", folder)
    pages = folder / "build/pages"
    shutil.copytree(ROOT / "docs", pages / "docs")
    for page in TOP:
        shutil.copy(page, pages)
    (pages / "README.md").write_text(TOP[0].read_text() + extra)
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_site_builds(tmp_path: Path) -> None:
    result = build_site(tmp_path)
    assert result.returncode == 0, result.stderr
    html = (tmp_path / "build/docs/docs/site.html").read_text()
    assert "<h1" in html
    assert 'id="mpi-and-containers"' in html
    assert "mkdocs build --strict" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "extra",
    ["[x](docs/nothing.md)", "[x](docs/site.md#nothing)", "[x](#nothing)", "![x](docs/nothing.png)", "[x](docs/nothing)"],
)
def test_site_with_a_broken_link_does_not_build(tmp_path: Path, extra: str) -> None:
    result = build_site(tmp_path, f"\n{extra}\n")
    assert result.returncode != 0
    assert "nothing" in result.stderr


def test_citation_and_changelog_name_the_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_a_pull_request_runs_lint_and_tests() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    for command in ("make lint", "make docs", "make test/unit", r"sudo .*make test\b(?!/).*"):
        assert any(re.fullmatch(command, step) for step in steps), command
    assert "pull_request" in workflow[True]  # YAML takes the key `on` for a truth value


def test_site_example_is_a_site() -> None:
    block = re.search(r"```toml\n(.*?)```", (ROOT / "docs/site.md").read_text(), re.DOTALL)
    assert block
    parse(Site, {"name": "example", **tomllib.loads(block[1])}, "docs/site.md")


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("submission", "test", "images", "recipes", "lint", "docs", "bench", "setup"):
        assert f"make {target} " in listed


def test_ci_calls_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_every_command_explains_itself() -> None:
    for words in (
        ["run"],
        ["tune"],
        ["collect"],
        ["status"],
        ["cancel"],
        ["doctor"],
        ["list"],
        ["image", "build"],
        ["submission", "check"],
        ["relion", "project"],
        ["cloudmask", "mask"],
    ):
        assert len(kit(*words, "--help").stdout) > 200
    assert "kit submission check FOLDER" in kit("--help").stdout
