"""`kit submission`: the folder for a pull request, and what its maintainers check."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kit.cli import groups, history
from kit.cli.options import AllowDirty, AllowTrial, Json, RunDirectories
from kit.cli.output import out, out_json, say
from kit.core.errors import KitError, plain

app = typer.Typer(help="Submissions: pack a run, check a folder, sign and verify it.", no_args_is_help=True)
app.add_typer(history.app, name="import", cls=groups.Group)


def ask(question: str, checked: Callable[[str], str]) -> str:
    """Asks on the terminal until the answer is one."""

    def value(text: str) -> str:
        try:
            return checked(text.strip())
        except KitError as error:
            raise typer.BadParameter(str(error)) from None

    return str(typer.prompt(question, value_proc=value, err=True))


class Layout(StrEnum):
    SCIENCE = "science"
    MLPERF = "mlperf"


@app.command()
def pack(
    directories: RunDirectories,
    to: Annotated[Path, typer.Option(help="The folder to write submissions to.")] = Path("submissions"),
    organisation: Annotated[
        str | None, typer.Option(help="Who submits; if not given, from your user file or the site, else you are asked once.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system's name; if not given, from your user file or the site, else asked for.")
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="The folders of MLCommons Science, or those of MLPerf (systems, benchmarks, results).")
    ] = Layout.SCIENCE,
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
) -> None:
    """Write the submission folder of a valid run, or of several that repeat it with other seeds, and print its path.

    Writes nothing if the check refuses it.
    """
    from kit.submissions import mlperf
    from kit.submissions import pack as science

    write = mlperf.export if layout is Layout.MLPERF else science.pack
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    runs = [directory.absolute() for directory in directories]
    out(write(runs, to, organisation, system, allow_dirty, allow_trial, ask if terminal else None))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A submission folder, or a folder that holds several.")],
    allow_dirty: AllowDirty = False,
    allow_trial: AllowTrial = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Make the data again, and compute the scores again from the evidence: minutes.")
    ] = False,
    evidence: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Evidence that you fetched from where the submitter keeps it.")
    ] = None,
    challenge: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The challenge that you gave for this result: refuse a run for another."),
    ] = None,
    as_json: Json = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a comment on a pull request.")
    ] = False,
    mend: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="First mend what can be mended safely: modes, stray files of editors, texts that follow from the run.",
        ),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Check this many submissions at once.")] = 1,
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

    if as_json and as_markdown:
        raise typer.BadParameter("--json and --markdown: only one of them can be")
    if evidence and not deep:
        raise KitError("--evidence goes with --deep, which scores it")
    if challenge == "":
        raise KitError("--challenge: is empty; give the text that you gave for this result")
    several = since or together.several(folder)
    if several and (deep or challenge):
        raise KitError(f"{folder}: holds several submissions; --deep and --challenge are for one, so give the folder of one")
    for path in (together.folders(folder) if several else [folder]) if mend else []:
        try:
            for line in verb.mend(path, allow_dirty, allow_trial):
                say(plain(f"{path}/{line}"))
        except KitError as error:  # what it is like then is for the check to say
            say(plain(str(error)))
    if several:
        judgement = together.check_all(folder, allow_dirty, allow_trial, jobs, since)
        write = together.as_json if as_json else together.as_markdown if as_markdown else together.report
        out(write(judgement), end="" if as_markdown else "\n")
        raise typer.Exit(0 if judgement.accepted else 1)
    findings = verb.check(folder, allow_dirty, allow_trial=allow_trial)
    if challenge is not None and not refusing(findings):
        from kit.submissions.deep import answers

        findings += answers(folder, challenge)
    if deep and not refusing(findings):  # what is refused is not opened any further
        from kit.cli.progress import working
        from kit.submissions.deep import deep_check

        with working(f"{folder.name}: making its data and scoring again"):
            findings += deep_check(folder, allow_dirty, allow_trial, evidence)
    if as_markdown:
        out(together.as_markdown(together.Judgement(folder, {str(folder): findings})), end="")
    else:
        out(verb.as_json(folder, findings) if as_json else verb.report(folder, findings))
    if refusing(findings):
        raise typer.Exit(1)


@app.command()
def init_repository(
    directory: Annotated[Path, typer.Argument(metavar="FOLDER", help="An empty or new folder, or a git repository.")],
    kit_source: Annotated[str, typer.Option(help="The kit that checks: the URL of its git repository, or a wheel.")],
    owners: Annotated[
        list[str], typer.Option("--owner", metavar="OWNER", help="Who approves: @name, @group/team or an e-mail address.")
    ],
    kit_revision: Annotated[str, typer.Option(help="A tag, branch or commit of that repository [default: its head].")] = "",
) -> None:
    """Write the repository that receives submissions: layout, rules, and the workflows that check, comment and publish."""
    from kit.submissions.repository import init_repository as write

    for name in write(directory, kit_source, owners, kit_revision):
        out(directory / name)
    say(f'{directory}: read README.md, "For maintainers", then commit and push')


@app.command("pr")
def pull_request(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A submission folder, as `kit submission pack` prints it.")
    ],
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


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A submission folder.")],
    allowed_signers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="KIT_ALLOWED_SIGNERS",
            help="Keys of ssh that may sign, in ssh's own format; its principals are organisations.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A public key of ssh, minisign or GPG, or a folder of them: ORGANISATION.pub, ORGANISATION.asc.",
        ),
    ] = None,
    require_signature: Annotated[bool, typer.Option("--require-signature", help="Refuse a folder without one.")] = False,
    as_json: Json = False,
) -> None:
    """Hash every file of a submission again, and verify its signatures. Fails if anything differs."""
    from kit.submissions import verify as verb

    found = verb.verify(folder, verb.Trusted(allowed_signers, key), require_signature)
    if as_json:
        out_json(verb.as_json(found))
    else:
        out(verb.report(found))
    if found.problems:
        raise typer.Exit(1)


@app.command()
def sign(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A submission folder.")],
    key: Annotated[
        str, typer.Option(metavar="KEY", help="A key file of ssh or minisign, or the id of a key in GPG's keyring.")
    ],
    tool: Annotated[
        str | None, typer.Option("--with", help="ssh, minisign or gpg [default: what the key belongs to].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a signature that is there.")] = False,
) -> None:
    """Sign a submission with your key, and print the file of the signature."""
    from kit.submissions.sign import sign as write

    out(write(folder, key, tool, force))
