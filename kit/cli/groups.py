"""The groups of commands, those that benchmarks bring among them (`kit BENCHMARK COMMAND`), and old names of commands.

A benchmark's commands stand in kit/benchmarks/<name>/commands.py: a Typer called `app`, and a docstring whose first line is
the help of the group. That file is read for this line; it is imported when the group is used, or asked for its help.
"""

from __future__ import annotations

import ast
import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from kit.cli.output import say
from kit.core import paths

# Old name to new; the next version drops the old ones.
OLD_NAMES = {"project": "relion project", "picks": "relion picks"}


# The contexts are `Any`, for Typer changed the home of their class between versions that the kit works with.
class Group(TyperGroup):
    """Commands whose help lists the first sentence of each as a whole, not the words of it that fit on one line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands: list[Any] = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(command.name, command.get_short_help_str(limit=1000)) for command in commands])


class Top(Group):
    """The whole command, which still accepts old names of commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        new = OLD_NAMES.get(args[0])
        if new:
            if not ctx.resilient_parsing:  # while the shell completes a line, nobody is to be told
                say(f"kit: 'kit {args[0]}' is now 'kit {new}'; the next version drops the old name")
            args = [*new.split(), *args[1:]]
        return super().resolve_command(ctx, args)


class OfBenchmark(Group):
    """The commands of the benchmark that this group is called by, imported when the first of them is wanted."""

    def load(self) -> None:
        if not self.commands:
            module = importlib.import_module(f"kit.benchmarks.{self.name}.commands")
            parent = typer.Typer(rich_markup_mode=None, add_completion=False)
            parent.add_typer(module.app, name=self.name)
            whole: Any = typer.main.get_group(parent)
            self.commands = whole.commands[self.name].commands

    def list_commands(self, ctx: Any) -> list[str]:
        self.load()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        self.load()
        return super().get_command(ctx, cmd_name)


def add_benchmarks(app: typer.Typer) -> None:
    """Adds a group for each benchmark that has commands of its own."""
    for path in sorted((paths.PACKAGE / "benchmarks").glob("*/commands.py")):
        help = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        app.add_typer(typer.Typer(cls=OfBenchmark, no_args_is_help=True), name=path.parent.name, help=help)
