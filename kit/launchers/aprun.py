"""Cray ALPS's aprun."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks, no_pmi

ORDERS: tuple[str, ...] = ("block",)


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    no_pmi("aprun", ranks)
    words = ["aprun", "-n", str(ranks.count), "-N", str(ranks.per_node)]
    words += ["-j", str(ranks.hardware_threads if ranks.hyperthreads else 1)]
    if not ranks.bind:
        return [*words, "-cc", "none", *args]
    return [*words, "-d", str(ranks.threads), "-cc", "depth", *args]
