"""Questions about several jobs, to commands that fail over one that they do not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kit.core.errors import KitError


def of_known(ask: Callable[[Sequence[str]], str], jobs: Sequence[str], unknown: re.Pattern[str]) -> str:
    """What `ask` prints of those jobs that the scheduler knows; empty if it knows none.

    `unknown` finds, in what a failed command says, the jobs that it does not know: it is then asked without them.
    """
    left = list(dict.fromkeys(jobs))
    while left:
        try:
            return ask(left)
        except KitError as error:
            strange = {number(job) for job in unknown.findall(str(error))}
            rest = [job for job in left if number(job) not in strange]
            if len(rest) == len(left):
                raise
            left = rest
    return ""


def number(job: str) -> str:
    """The id of a job without the server that gave it: `12[3].pbs.centre.edu` is also called `12[3].pbs`."""
    return job.partition(".")[0]


def one_line(text: object) -> str:
    """What a scheduler says of a job, as a single line; nothing for the dash that stands where there is nothing to say."""
    line = " ".join(str(text or "").split())
    return "" if line == "-" else line
