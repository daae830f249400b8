"""What a launcher is asked to start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kit.core.errors import KitError


@dataclass(frozen=True)
class Ranks:
    """So many ranks, at most `per_node` on a node, each with cores for its threads."""

    count: int
    per_node: int
    threads: int
    cores: int = 0  # of a node, that ranks may use; 0: unknown
    gpus: int = 0  # of a node, that ranks may use
    gpu_each: bool = False  # each rank sees one GPU of its own; otherwise all of its node
    order: str = "cyclic"  # over nodes: dealt in turn, or `block`: one node after another
    bind: bool = False  # each rank to cores of its own
    pmi: str = ""  # how the launcher tells ranks of each other
    spread: int = 0  # nodes that all have some; 0: as few as hold them
    hardware_threads: int = 1  # of one core
    hyperthreads: bool = False  # threads take hardware threads, not cores

    @property
    def nodes(self) -> int:
        return self.spread or math.ceil(self.count / self.per_node)

    @property
    def cores_each(self) -> int:
        """Physical cores that a rank needs."""
        return math.ceil(self.threads / self.hardware_threads) if self.hyperthreads else self.threads

    @property
    def even(self) -> bool:
        return self.count == self.nodes * self.per_node


def no_pmi(launcher: str, ranks: Ranks) -> None:
    if ranks.pmi:
        raise KitError(f"the launcher {launcher} has no word for 'pmi' ({ranks.pmi}); say it under 'launcher_args'")
