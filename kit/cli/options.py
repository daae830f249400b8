"""Arguments and options that several commands have, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import complete

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the job script and do nothing.")]

RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as `kit run` prints it.")]
RunDirectories = Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories, as `kit run` prints them.")]
Runs = Annotated[Path | None, typer.Option(help="Where run directories are made [default: $KIT_RUNS, else runs].")]

Benchmark = Annotated[str, typer.Argument(help="A benchmark; kit list shows all.", autocompletion=complete.benchmarks)]
BenchmarkOrNone = Annotated[
    str | None, typer.Argument(help="A benchmark; kit list shows all.", autocompletion=complete.benchmarks)
]
Size = Annotated[
    str, typer.Option(help="The size of the benchmark; every benchmark has tiny.", autocompletion=complete.sizes)
]

Site = Annotated[str, typer.Option(help="A site's name, or the path of its .toml file.", autocompletion=complete.sites)]
Partition = Annotated[
    str | None,
    typer.Option(help="A partition of the site [default: its first].", autocompletion=complete.partitions),
]
Jobs = Annotated[
    int,
    typer.Option(
        min=1,
        max=100,
        help="Submit this many jobs, each after the one before, for a run that needs longer than a job may take.",
    ),
]
Wait = Annotated[bool | None, typer.Option(help="Wait until the run ends [default: only without a scheduler].")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads per rank [default: the size's].")]

ImageName = Annotated[str, typer.Argument(help="An image; kit image list shows all.", autocompletion=complete.images)]
BenchmarkImage = Annotated[
    str | None,
    typer.Option(
        help="An image that the benchmark runs on [default: its first].", autocompletion=complete.images_of_benchmark
    ),
]
Arguments = Annotated[
    list[str],
    typer.Option("--arg", metavar="KEY=VALUE", help="An argument of the image's recipe; kit image list shows them."),
]
BuiltFormat = Annotated[str, typer.Option(help="docker or sif.")]

AllowTrial = Annotated[
    bool,
    typer.Option(
        "--allow-trial",
        envvar="KIT_ALLOW_TRIAL",
        help="For a trial of your own: accept the organisation `trial`, under which nothing can be handed in.",
    ),
]
AllowDirty = Annotated[
    bool,
    typer.Option(
        "--allow-dirty",
        envvar="KIT_ALLOW_DIRTY",
        help="Accept a run of a kit with uncommitted changes. For your own trials.",
    ),
]
