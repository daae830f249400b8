"""How MPI ranks start: the words that stand before the container (or, inside one, before the program)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kit.launchers import aprun, flux, intelmpi, jsrun, mpich, mpiexec, mpirun, pals, srun
from kit.launchers.ranks import Ranks

__all__ = ["LAUNCHERS", "Launcher", "Ranks"]


class Launcher(Protocol):
    """What a launcher module offers."""

    # The orders in which it can put ranks on nodes; the first is what the kit asks for if the site does not say.
    ORDERS: tuple[str, ...]

    def command(self, ranks: Ranks, args: Sequence[str]) -> list[str]:
        """The words before a rank's command; KitError for ranks that it cannot place so."""


LAUNCHERS: dict[str, Launcher] = {
    "mpirun": mpirun,
    "srun": srun,
    "mpiexec": mpiexec,
    "intelmpi": intelmpi,
    "mpich": mpich,
    "pals": pals,
    "jsrun": jsrun,
    "aprun": aprun,
    "flux": flux,
}
