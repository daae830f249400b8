"""`kit card`: what a benchmark is, for a reader or for the list of benchmarks of MLCommons Science."""

from __future__ import annotations

from typing import Annotated

import typer

from kit.cli import complete
from kit.cli.output import out


def card(
    benchmark: Annotated[
        str | None,
        typer.Argument(help="A benchmark [default: all].", autocompletion=complete.benchmarks),
    ] = None,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="The entry of the list of benchmarks of MLCommons Science, as YAML.")
    ] = False,
) -> None:
    """Print the card of a benchmark: objective, formula, score, data, baseline, systems explored and improvements."""
    from kit import card as verb
    from kit.benchmark import benchmark_names

    if catalogue:
        out(verb.entries([benchmark] if benchmark else benchmark_names()), end="")
    else:
        out(verb.markdown(benchmark) if benchmark else verb.all_cards(), end="")
