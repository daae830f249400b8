"""Open MPI's mpirun, versions 4 and 5."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks, no_pmi

ORDERS: tuple[str, ...] = ("cyclic", "block")


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    no_pmi("mpirun", ranks)
    # Open MPI refuses to run as root without the first; for other users it changes nothing.
    words = ["mpirun", "--allow-run-as-root", "-n", str(ranks.count)]
    mapping = "node" if ranks.order == "cyclic" else f"ppr:{ranks.per_node}:node"
    if ranks.bind:
        if ranks.hyperthreads:
            words.append("--use-hwthread-cpus")
        unit = "hwthread" if ranks.hyperthreads else "core"
        return [*words, "--map-by", f"{mapping}:PE={ranks.threads}", "--bind-to", unit, *args]
    # RELION's leader rank waits while its followers work, so more ranks than cores is the rule there; binding is left
    # to the kernel because a bound rank would press all its threads on one core.
    return [*words, "--oversubscribe", "--map-by", mapping, "--bind-to", "none", *args]
