"""Averages of the runs of a submission, and how sure they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

LEAST_OLYMPIC = 3  # runs of which the best and the worst can be dropped


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def olympic(values: Sequence[float]) -> float | None:
    """The mean without the best and the worst value, as MLPerf has it; None for fewer than three values."""
    if len(values) < LEAST_OLYMPIC:
        return None
    return statistics.fmean(sorted(values)[1:-1])


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % confidence interval of the mean, by Student's distribution; None for a single value.

    It holds for values that scatter normally and independently of each other.
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, 0.975))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
