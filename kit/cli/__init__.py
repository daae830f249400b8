"""The command `kit`: which commands there are, and how an error becomes an exit code.

A command stands in the file of its noun, and is a few lines that call one verb. It imports the verb when it runs, so that
`kit --help` and the shell's completion stay quick. Results go to stdout, messages to stderr. What a benchmark adds stands
with the benchmark (kit/cli/groups.py).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from kit import __version__
from kit.cli import bundle, card, compare, data, groups, image, listing, report, reproduce, run, site, submission, tune
from kit.cli.output import say
from kit.core.errors import KitError

HELP = """
Run a science benchmark on your machine or cluster, and submit a result that others can trust.

From recipe to result:

\b
  kit doctor                                what this machine has and lacks
  kit image build relion-basic              the image, from its recipe
  kit run relion --size tiny --site local   a job script, and the run
  kit collect RUN                           the verdict, from what the run wrote
  kit submission pack RUN                   the folder for a pull request
  kit submission check FOLDER               what the maintainers will check
"""

app = typer.Typer(
    cls=groups.Top,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich costs more time than everything else that --help imports
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "list": listing.list_all,
    "card": card.card,
    "doctor": listing.doctor,
    "run": run.run,
    "scaling": run.scaling,
    "tune": tune.tune,
    "status": run.status,
    "logs": run.logs,
    "resume": run.resume,
    "cancel": run.cancel,
    "collect": run.collect,
    "bundle": bundle.bundle,
    "repeats": compare.repeats,
    "compare": compare.compare,
    "report": report.report,
    "reproduce": reproduce.reproduce,
}
GROUPS = {"image": image.app, "site": site.app, "data": data.app, "submission": submission.app}
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name, cls=groups.Group)
groups.add_benchmarks(app)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and end.")] = False,
) -> None:
    if version:
        print(f"kit {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command; the one place where errors become exit codes: 0, 1 failed, 2 usage, 3 internal, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for terminals that cannot print every character
    if sys.argv[1:] in (["--version"], ["-V"]):  # before Typer, which imports pydantic to read any option but --help
        print(f"kit {__version__}")
        sys.exit(0)
    try:
        code = app(standalone_mode=False, prog_name="kit")
        if code == 130:  # how Typer hands Ctrl-C back
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except KitError as error:
        say(f"kit: {error}")
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        say("kit: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a name that is too long, a folder that nobody may enter, a disk that is full
        say(f"kit: {error.filename or 'file system'}: {error.strerror or error}")
        sys.exit(1)
    except Exception as error:
        usage = getattr(error, "exit_code", None)
        if usage == 2 and hasattr(error, "show"):
            error.show()
            sys.exit(2)
        import traceback

        traceback.print_exc()
        say(f"kit: internal error: {error!r}. This is a defect of the kit; please report it with the lines above")
        sys.exit(3)
