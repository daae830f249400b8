"""A challenge: text that a maintainer gives before a run, and that decides its seeds, so that no result can be made before.

Seeds are SHA-256 over lines of text, reduced to the range of a seed (kit/benchmark.py). That of the generated data is the
same for every repeat of a run, that of the stages is another for each.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, StringConstraints

from kit.core.schema import Model

# It stands in comments of scripts and on command lines. A short one could be tried out beforehand.
LEAST = 8
Text = Annotated[str, StringConstraints(pattern=rf"^[A-Za-z0-9][A-Za-z0-9 ._:/@+-]{{{LEAST - 1},199}}$")]


class Challenge(Model):
    text: Text
    repeat: int = Field(1, ge=1, le=1000)  # which of the runs that one command made

    def data_seed(self, benchmark: str, size: str, most: int) -> int:
        """The seed of the generated data, from 0 to `most`."""
        return hashed(most, self.text, benchmark, size, "data")

    def run_seed(self, benchmark: str, size: str, most: int) -> int:
        """The random seed of the stages, from 0 to `most`."""
        return hashed(most, self.text, benchmark, size, f"run {self.repeat}")


def hashed(most: int, *lines: str) -> int:
    """A number from 0 to `most` that only these lines decide."""
    return int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest(), "big") % (most + 1)
