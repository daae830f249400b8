"""`kit report`: a page over some results, or a leaderboard of all submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.output import out


def report(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN_OR_SUBMISSION...", help="Collected runs, or submission folders.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="What to write [default: report.html; with --leaderboard the folder leaderboard]."),
    ] = None,
    leaderboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Make a leaderboard of all submissions below this folder.")
    ] = None,
    verdicts: Annotated[
        Path | None, typer.Option(help="With --leaderboard: verdicts of kit submission check --json, in place of a check.")
    ] = None,
) -> None:
    """Write an HTML page that holds results against each other: times, what differs, metrics and figures.

    The page is one file and works offline. With --leaderboard it becomes a folder for any web server, with a page for each
    submission and the data as JSON and CSV. Prints the path of the page.
    """
    if leaderboard is not None:
        if folders:
            raise typer.BadParameter("give results, or --leaderboard FOLDER, not both")
        from kit.report.leaderboard import build

        out(build(leaderboard, to or Path("leaderboard"), verdicts))
        return
    if not folders:
        raise typer.BadParameter("at least one run or submission is needed, or --leaderboard FOLDER")
    if verdicts is not None:
        raise typer.BadParameter("--verdicts goes with --leaderboard")
    from kit.report.comparison import report as write

    out(write(folders, to or Path("report.html")))
