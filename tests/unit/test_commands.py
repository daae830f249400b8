"""The command as a whole: what it imports, what a benchmark adds to it, old names, and what the shell completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from conftest import KIT, ROOT, kit
from typer.testing import CliRunner

from kit import cli
from kit.benchmark import benchmark_names
from kit.cli import groups

# What a command may import when it runs, and none may import before.
HEAVY = {"aiohttp", "docker", "fsspec", "hpccm", "jinja2", "matplotlib", "networkx", "numpy", "pandas", "pydantic"}
HEAVY |= {"rich", "s3fs", "scipy", "spython", "starfile", "tabulate", "tenacity", "tomllib", "yaml"}


def imported(*words: str) -> set[str]:
    """The modules that are there when the command has ended."""
    code = (
        "import atexit, sys; from kit.cli import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); sys.argv[0] = 'kit'; main()"
    )
    result = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]])
def test_help_imports_neither_a_library_nor_a_benchmark(words: list[str]) -> None:
    found = imported(*words)
    assert "kit.cli.run" in found
    typers_own = {"pydantic"} if len(words) > 1 else set()  # it reads the words before a command with it
    assert {name.partition(".")[0] for name in found} & HEAVY <= typers_own
    assert not {name for name in found if name.startswith("kit.benchmarks")}


def test_state_of_runs_imports_nothing_that_makes_one(tmp_path: Path) -> None:
    found = imported("status", "--runs", str(tmp_path))
    assert "kit.runs.overview" in found
    assert not {"jinja2", "numpy", "kit.plan", "kit.images.build", "kit.runs.launch", "kit.script.render"} & found


def test_the_list_of_imports_would_show_a_heavy_one() -> None:
    assert {"pydantic", "kit.site"} <= imported("site", "show", "local")


def test_a_benchmark_is_imported_when_its_group_is_used() -> None:
    found = imported("relion", "--help")
    assert "kit.benchmarks.relion.commands" in found
    assert "kit.benchmarks.relion.tables" not in found
    assert "kit.benchmarks.cloudmask.commands" not in found


def test_help_lists_every_benchmark_that_has_commands() -> None:
    said = kit("--help").stdout
    assert "  relion      RELION beyond its runs: " in said
    assert "  cloudmask   CloudMask beyond its runs: " in said
    assert "  project  Show a RELION project: " in kit("relion", "--help").stdout
    assert "  mask  Mask an unlabelled product: " in kit("cloudmask", "--help").stdout
    for words in ([], ["image"], ["data"], ["relion"]):
        assert "...\n" not in kit(*words, "--help").stdout.partition("Commands:")[2]  # said as a whole
    for word in ("project", "picks"):
        assert f"\n  {word} " not in said


def test_no_benchmark_takes_the_name_of_a_command() -> None:
    assert not {*cli.COMMANDS, *cli.GROUPS, *groups.OLD_NAMES} & set(benchmark_names())


def test_a_benchmark_needs_nothing_but_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command is a group, too; a benchmark without commands has no group."""
    package = tmp_path / "package"
    (package / "benchmarks/planted").mkdir(parents=True)
    (package / "benchmarks/bare").mkdir()
    (package / "benchmarks/planted/commands.py").write_text(
        '"""Planted.\n\nAnd more."""\nimport typer\napp = typer.Typer()\n\n'
        '@app.command()\ndef grow() -> None:\n    print("grown")\n'
    )
    monkeypatch.setattr("kit.core.paths.PACKAGE", package)
    monkeypatch.setattr("kit.benchmarks.__path__", [str(package / "benchmarks")])
    app = typer.Typer(cls=groups.Top, rich_markup_mode=None)
    groups.add_benchmarks(app)
    runner = CliRunner()
    said = runner.invoke(app, ["--help"]).stdout
    assert "planted  Planted." in said
    assert "bare" not in said
    assert "kit.benchmarks.planted.commands" not in sys.modules
    assert runner.invoke(app, ["planted", "grow"]).stdout == "grown\n"
    result = runner.invoke(app, ["planted", "glow"])
    assert result.exit_code == 2
    assert "No such command 'glow'" in result.stderr


PARTICLES = "\ndata_particles\n\nloop_\n_rlnMicrographName #1\n_rlnClassNumber #2\na.mrc 1\na.mrc 2\nb.mrc 1\n"


def test_old_names_do_the_same_and_say_the_new_one(tmp_path: Path) -> None:
    star = tmp_path / "particles.star"
    star.write_text(PARTICLES)
    new = kit("relion", "project", str(star), "--json")
    old = kit("project", str(star), "--json")
    assert new.stderr == ""
    assert old.stderr == "kit: 'kit project' is now 'kit relion project'; the next version drops the old name\n"
    assert old.stdout == new.stdout
    assert json.loads(old.stdout)["particles"] == 3
    hint = "kit: 'kit picks' is now 'kit relion picks'; the next version drops the old name\n"
    for words, code in (([str(tmp_path / "none")], 1), ([str(tmp_path), "--speed", "11"], 2)):
        wanted = kit("relion", "picks", *words, code=code)
        assert wanted.stdout == ""
        assert kit("picks", *words, code=code).stderr == hint + wanted.stderr


def test_old_names_are_those_of_commands_that_exist() -> None:
    for new in groups.OLD_NAMES.values():
        assert kit(*new.split(), "--help").stdout.startswith(f"Usage: kit {new} ")
    assert "No such command 'projects'" in kit("projects", code=2).stderr


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """What bash is told to offer for the last word of a line, by the protocol of its script; nothing else is said."""

    def offered(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_KIT_COMPLETE", "complete_bash")
        with pytest.raises(SystemExit):
            cli.main()
        said = capsys.readouterr()
        assert said.err == ""
        return said.out.split()

    return offered


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("kit re", ["resume", "repeats", "report", "reproduce", "relion"]),
        ("kit relion p", ["project", "picks"]),
        ("kit project --ch", ["--chart"]),
        ("kit run rel", ["relion"]),
        ("kit tune ", ["relion"]),
        ("kit tune relion --image relion-b", ["relion-basic"]),
        ("kit tune relion --site loc", ["local"]),
        ("kit data make cloud", ["cloudmask"]),
        ("kit run relion --size t", ["tiny", "tutorial"]),
        ("kit run --size ds", ["ds1_sample", "ds1", "ds2", "ds1a"]),
        ("kit run cloudmask --size ds", ["ds1_sample", "ds1", "ds2"]),
        ("kit run relion --size ds", []),
        ("kit run relion --image relion-b", ["relion-basic"]),
        ("kit run cloudmask --image relion-b", []),
        ("kit relion project RUN --image relion-b", ["relion-basic"]),
        ("kit relion project RUN --image top", []),
        ("kit image build relion-basic to", ["topaz"]),
        ("kit image inspect relion-b", ["relion-basic"]),
        ("kit run relion --site loc", ["local"]),
        ("kit site show loc", ["local"]),
        ("kit run relion --site example-slurm --partition ", ["cpu"]),
        ("kit run relion --site nowhere --partition ", []),
        ("kit data get relion/tu", ["relion/tutorial"]),
        ("kit scaling rel", []),
    ],
)
def test_names_complete(completed: Callable[[str], list[str]], line: str, some: list[str]) -> None:
    assert completed(line) == some


def test_sites_of_ones_own_complete_and_a_damaged_one_is_quiet(
    completed: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "kit.toml"))
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/mine.toml").write_text("not [ TOML")
    assert completed("kit run --site mi") == ["mine"]
    assert completed("kit run relion --site mine --partition ") == []


def test_bash_completes_by_the_script_that_was_installed(tmp_path: Path) -> None:
    program = tmp_path / "bin/kit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {KIT[0]} -m kit "$@"\n')
    program.chmod(0o755)
    press = 'COMP_WORDS=(kit run rel); COMP_CWORD=2; _kit_completion kit; echo "${COMPREPLY[@]}"; complete -p kit\n'
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    for script in (f'eval "$(kit --show-completion)"\n{press}', f"kit --install-completion >&2\n. ~/.bashrc\n{press}"):
        result = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
        assert result.stdout == "relion\ncomplete -o default -F _kit_completion kit\n", result.stderr
    assert (tmp_path / ".bash_completions/kit.sh").is_file()
