"""Intel MPI's mpirun."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks, no_pmi

ORDERS: tuple[str, ...] = ("block", "cyclic")


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    no_pmi("intelmpi", ranks)
    # Within a job Intel MPI takes the scheduler's ranks per node, and -ppn counts only when it is told not to.
    words = ["env", "I_MPI_JOB_RESPECT_PROCESS_PLACEMENT=off", "mpirun", "-n", str(ranks.count)]
    words += ["-ppn", str(ranks.per_node if ranks.order == "block" else 1)]
    if not ranks.bind:
        return [*words, "-genv", "I_MPI_PIN", "off", *args]
    cell = "unit" if ranks.hyperthreads else "core"
    return [*words, "-genv", "I_MPI_PIN_CELL", cell, "-genv", "I_MPI_PIN_DOMAIN", f"{ranks.threads}:compact", *args]
