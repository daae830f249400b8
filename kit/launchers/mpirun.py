"""Open MPI's mpirun, versions 4 and 5."""

from __future__ import annotations

from collections.abc import Sequence


def command(ranks: int, ranks_per_node: int, threads: int, args: Sequence[str]) -> list[str]:
    # RELION's leader rank waits while its followers work, so more ranks than cores is the rule there; binding is left
    # to the kernel because a bound rank would press all its threads on one core.
    # Open MPI refuses to run as root without these; for other users they change nothing.
    return [
        "mpirun",
        "--allow-run-as-root",
        "-n",
        str(ranks),
        "--oversubscribe",
        "--map-by",
        "node",
        "--bind-to",
        "none",
        *args,
    ]
