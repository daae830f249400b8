"""`kit submission`: the folder for a pull request, and what its maintainers check."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import AllowDirty, AllowTrial, Json, RunDirectory
from kit.cli.output import out, say
from kit.core.errors import KitError

app = typer.Typer(help="Submissions: pack a run, check a folder.", no_args_is_help=True)


def ask(question: str, checked: Callable[[str], str]) -> str:
    """Asks on the terminal until the answer is one."""

    def value(text: str) -> str:
        try:
            return checked(text.strip())
        except KitError as error:
            raise typer.BadParameter(str(error)) from None

    return str(typer.prompt(question, value_proc=value, err=True))


@app.command()
def pack(
    directory: RunDirectory,
    to: Annotated[Path, typer.Option(help="The folder to write submissions to.")] = Path("submissions"),
    organisation: Annotated[
        str | None, typer.Option(help="Who submits; if not given, from your user file or the site, else you are asked once.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system's name; if not given, from your user file or the site, else asked for.")
    ] = None,
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
) -> None:
    """Write the submission folder of a valid run and print its path. Writes nothing if the check refuses it."""
    from kit.submissions.pack import pack as write

    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    out(write(directory.absolute(), to, organisation, system, allow_dirty, allow_trial, ask if terminal else None))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A submission folder, or a folder that holds several.")],
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
    as_json: Json = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a comment on a pull request. Of several submissions.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Check so many of several submissions at once.")] = 1,
    since: Annotated[
        str, typer.Option(metavar="COMMIT", help="Of several: judge only those that have changed since a commit.")
    ] = "",
) -> None:
    """Check a submission folder as the maintainers will. Fails with a list of findings if it is refused.

    A folder that holds several, as submissions/ of a repository, is judged as a whole: each of them, and what they show
    together.
    """
    from kit.submissions import check as verb
    from kit.submissions import together
    from kit.submissions.rules import refusing

    if since or together.several(folder):
        judgement = together.check_all(folder, allow_dirty, allow_trial, jobs, since)
        write = together.as_json if as_json else together.as_markdown if as_markdown else together.report
        out(write(judgement), end="" if as_markdown else "\n")
        raise typer.Exit(0 if judgement.accepted else 1)
    findings = verb.check(folder, allow_dirty, allow_trial=allow_trial)
    out(verb.as_json(folder, findings) if as_json else verb.report(folder, findings))
    if refusing(findings):
        raise typer.Exit(1)


@app.command("pr")
def pull_request(
    folder: Annotated[Path, typer.Argument(help="A submission folder, as `kit submission pack` prints it.")],
    repository: Annotated[Path, typer.Option(help="Your clone of the results repository.")],
    remote: Annotated[str, typer.Option(help="The remote to push to: the repository, or your fork of it.")] = "origin",
    branch: Annotated[str, typer.Option(help="The new branch [default: submission/ and the folder's names].")] = "",
    base: Annotated[str, typer.Option(help="The branch that the request is for.")] = "main",
    push: Annotated[bool, typer.Option("--push/--no-push", help="Push the branch and open the request.")] = True,
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
) -> None:
    """Open the pull request of a submission: commit it to a new branch, push that, and open the request with `gh`.

    Your checkout stays as it is. Without `gh`, title and text are printed, ready to be pasted.
    """
    from kit.submissions.pull_request import open_request

    opened = open_request(folder, repository, remote, branch, base, push, allow_dirty, allow_trial)
    say(f"{opened.branch}: commit {opened.commit}{'' if push else ', in your clone alone'}")
    if opened.url:
        out(opened.url)
        return
    out(f"{opened.title}\n\n{opened.body}", end="")
    say(f"Not opened: {opened.problem}. To open it, write the text above but for its title to a file BODY, and:")
    say(f"  {opened.command}")
    if opened.failed:
        raise typer.Exit(1)
