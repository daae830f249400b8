"""How MPI ranks start: the words that stand before the container (or, inside one, before the program)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kit.launchers import mpirun, srun


class Launcher(Protocol):
    """What a launcher module offers."""

    def command(self, ranks: int, ranks_per_node: int, threads: int, args: Sequence[str]) -> list[str]:
        """The words before a rank's command."""


LAUNCHERS: dict[str, Launcher] = {"mpirun": mpirun, "srun": srun}
