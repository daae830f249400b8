"""A model of the time of a run over its ranks, fitted to measured points: what it is made of, and what points cannot tell.

A time is a sum of terms, each a known function of the ranks N times a parameter that is not negative. Of a step of a
training with b samples a rank:

- compute: b (each sample) + 1 (what a step costs however small it is);
- input: b (what a rank reads by itself) + b N (one storage that all ranks share);
- exchange: 2 (N - 1) / N (bytes over bandwidth) + 2 (N - 1) (messages, one latency each), which is a ring all-reduce
  (Patarasuk and Yuan 2009, doi 10.1016/j.jpdc.2008.09.002); with several nodes its slowest link counts, so beyond
  `per_node` ranks the two have parameters of their own;
- stragglers: b m(N), the wait for the slowest rank, where m is the expected maximum of N normal deviates.

Published curves are whole trainings with a fixed batch a rank, so with 1/N of the steps: 1 / N (compute), 2 (N - 1) / N**2
(bandwidth), 1 (constant). Latency, 2 (N - 1) / N there, is twice the constant less twice the compute: no such curve can tell
them apart, nor shared storage or start-up from either, and the constant stands for all three. They report no spread, so
stragglers are not told from the rest.

An iteration of RELION takes E / (N - 1) + M + leader N: workers expect; as many of them as there are maps maximise, whatever
N is, which is Amdahl's serial share; the leader hands out work to one after the other.

Parameters come from non-negative least squares of relative errors. Ranges are profile likelihoods of 95 %: all values for
which the other parameters can still be chosen so that the points are met, which also holds where a parameter is zero, and
where the points do not fix it. The error of a time is taken to be NOISE unless the points say otherwise, with the weight of
PRIOR further points (a scaled inverse chi-squared prior): few points alone would say that they are met without any error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

Array = NDArray[np.float64]

NOISE = 0.05  # relative error of a measured time, before the points say anything of it
PRIOR = 4  # points that this belief weighs as much as
SUPER = 1.25  # a speed-up this much above the ratio of ranks is no noise, and no curve that has it is fitted
NAMED = 1.02  # above this it is said
FIXED = 2.0  # where the upper end of a range is this much above the lower, no single number is given
FLOOR = 0.01  # of a step: a part that is less is not known better than NOISE of this


@dataclass(frozen=True)
class Term:
    """A summand: its name, and its seconds by ranks and by batch of a rank for a parameter of 1."""

    name: str
    factor: Callable[[int, float], float]


@cache
def expected_maximum(ranks: int) -> float:
    """Expected maximum of as many independent standard normal deviates: the integral of x N f(x) F(x)**(N - 1)."""
    if ranks < 2:
        return 0.0

    def density(x: float) -> float:
        return x * math.exp(math.log(ranks) + stats.norm.logpdf(x) + (ranks - 1) * stats.norm.logcdf(x))

    return float(integrate.quad(density, -10, 10, points=[0, math.sqrt(2 * math.log(ranks))], limit=200)[0])


def ring(ranks: int) -> float:
    """Gradients' bytes that pass the slowest link of a ring, in units of the gradient."""
    return 2 * (ranks - 1) / ranks


def networks(per_node: int, bytes_: Callable[[int], float], messages: Callable[[int], float] | None) -> tuple[Term, ...]:
    """The terms of one network, or, with ranks of a node, of one within nodes and one between them."""

    def inside(of: Callable[[int], float]) -> Callable[[int, float], float]:
        return lambda ranks, batch: of(ranks) if not per_node or ranks <= per_node else 0.0

    def between(of: Callable[[int], float]) -> Callable[[int, float], float]:
        return lambda ranks, batch: of(ranks) if ranks > per_node else 0.0

    places = [("", inside)] if not per_node else [(" in a node", inside), (" between nodes", between)]
    found = []
    for place, of in places:
        found.append(Term(f"bandwidth{place}", of(bytes_)))
        if messages:
            found.append(Term(f"latency{place}", of(messages)))
    return tuple(found)


def training_terms(per_node: int = 0) -> dict[str, tuple[Term, ...]]:
    """The terms of each measured part of a step."""
    return {
        "compute": (
            Term("compute", lambda ranks, batch: batch),
            Term("step cost", lambda ranks, batch: 1.0),
        ),
        "input": (
            Term("reading", lambda ranks, batch: batch),
            Term("storage", lambda ranks, batch: batch * ranks),
        ),
        "exchange": (
            *networks(per_node, ring, lambda ranks: 2.0 * (ranks - 1)),
            Term("stragglers", lambda ranks, batch: batch * expected_maximum(ranks)),
        ),
    }


def published_terms(per_node: int = 0) -> dict[str, tuple[Term, ...]]:
    """The terms of a whole training with a fixed batch a rank."""
    return {
        "training": (
            Term("compute", lambda ranks, batch: 1 / ranks),
            *(
                Term(term.name.replace("bandwidth", "exchange"), term.factor)
                for term in networks(per_node, lambda ranks: ring(ranks) / ranks, None)
            ),
            Term("constant", lambda ranks, batch: 1.0),
        )
    }


def leader_terms(per_node: int = 0) -> dict[str, tuple[Term, ...]]:
    """The terms of an iteration of RELION, with two ranks or more."""
    return {
        "iteration": (
            Term("expectation", lambda ranks, batch: 1 / (ranks - 1)),
            Term("maximisation", lambda ranks, batch: 1.0),
            Term("leader", lambda ranks, batch: float(ranks)),
        )
    }


def workers(ranks: int, leader: bool) -> int:
    """Ranks that work."""
    return ranks - 1 if leader else ranks


def superlinear(ranks: Sequence[int], seconds: Sequence[float], leader: bool = False) -> tuple[float, int, int]:
    """The speed-up between two points over the ratio of their ranks where that is largest, and the two numbers of ranks.

    In every sum of the terms above, ranks times seconds does not fall with the ranks: more than 1 is beyond any of them,
    whatever the parameters. Data or a network that fits into a memory only from some number of ranks on does it.
    """
    cost = [workers(number, leader) * time for number, time in zip(ranks, seconds, strict=True)]
    pairs = [(cost[i] / cost[j], ranks[i], ranks[j]) for j in range(len(cost)) for i in range(j)]
    return max(pairs, default=(1.0, 0, 0))


Parts = Mapping[str, tuple[Term, ...]]


@dataclass(frozen=True)
class Known:
    """A parameter that was measured by itself, with its relative standard error."""

    term: str
    value: float
    error: float


def columns(design: Array) -> Array:
    """What to divide the columns of a design by so that all are alike; 1 for one that no point has."""
    found: Array = np.where(design.any(axis=0), np.abs(design).max(axis=0, initial=0), 1.0)
    return found


@dataclass(frozen=True)
class Fit:
    """The parameters of one part. Rows of `design` and `values` are relative to what was measured, or known beforehand.

    design (rows, terms), values (rows,), parameters (terms,) in seconds; `points` are the first rows, which were measured.
    """

    terms: tuple[Term, ...]
    design: Array
    values: Array
    points: int
    parameters: Array

    @property
    def residuals(self) -> Array:
        """Relative, of the measured points: above 0 where the model takes more time than was measured."""
        found: Array = (self.design @ self.parameters - self.values)[: self.points]
        return found

    @property
    def error(self) -> float:
        """Relative standard error of a point: what the residuals say and NOISE, by their weights."""
        return math.sqrt((PRIOR * NOISE**2 + self.squares(self.parameters)) / (PRIOR + self.freedom))

    @property
    def freedom(self) -> int:
        """Points beyond those that the parameters need."""
        return max(0, len(self.values) - int((self.parameters > 0).sum()))

    def squares(self, parameters: Array) -> float:
        return float(((self.design @ parameters - self.values) ** 2).sum())

    def interval(self, factors: Array) -> tuple[float, float]:
        """The 95 % range of the sum of `factors` (terms,) times parameters; infinite where no point has a term of it."""
        seen = self.design.any(axis=0)
        if not factors.any():
            return 0.0, 0.0
        unseen = bool(factors[~seen].any())
        use = np.where(seen, factors, 0.0)
        if not use.any():
            return 0.0, math.inf
        widths = columns(self.design)
        design, use = self.design / widths, use / widths
        best = float(use @ (self.parameters * widths))
        scale = max(best, float(use[use > 0].min()))
        quantile = float(stats.f.ppf(0.95, 1, PRIOR + self.freedom))
        limit = self.squares(self.parameters) + self.error**2 * quantile

        def above(value: float) -> float:
            """How far the points are from being met, if the sum were this."""
            heavy = 1e4 / scale
            found, _ = optimize.nnls(np.vstack([design, heavy * use]), np.append(self.values, heavy * value))
            return float(((design @ found - self.values) ** 2).sum()) - limit

        low = 0.0 if best <= 0 or above(0.0) <= 0 else float(optimize.brentq(above, 0.0, best, xtol=1e-9 * scale))
        high = best + scale
        while above(high) <= 0:
            high *= 2
            if high > 1e12 * scale:
                return low, math.inf
        return low, math.inf if unseen else float(optimize.brentq(above, best, high, xtol=1e-9 * scale))


@dataclass(frozen=True)
class Point:
    """A measurement: ranks, the batch of each (0 where it is not known), and the seconds of each part."""

    ranks: int
    batch: float
    parts: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())


def fit(parts: Parts, points: Sequence[Point], known: Sequence[Known] = ()) -> list[Fit]:
    """A fit of each part by its own. Errors are relative to the part, or to FLOOR of the whole where it is less than that.

    Points at which a part has no term (the exchange of one rank) say nothing of it, and are left out there.
    """
    return [fit_part(name, terms, points, known) for name, terms in parts.items()]


def fit_part(part: str, terms: tuple[Term, ...], points: Sequence[Point], known: Sequence[Known]) -> Fit:
    rows, values = [], []
    for point in points:
        row = np.array([term.factor(point.ranks, point.batch) for term in terms])
        unit = max(point.parts[part], FLOOR * point.seconds)
        if row.any():
            rows.append(row / unit)
            values.append(point.parts[part] / unit)
    measured = len(rows)
    for fact in known:
        if any(term.name == fact.term for term in terms):
            weight = NOISE / fact.error
            rows.append(np.array([weight / fact.value if term.name == fact.term else 0.0 for term in terms]))
            values.append(weight)
    design = np.array(rows, float).reshape(len(rows), len(terms))
    widths = columns(design)
    found = optimize.nnls(design / widths, np.array(values, float))[0] if rows else np.zeros(len(terms))
    return Fit(terms, design, np.array(values, float), measured, found / widths)


@dataclass(frozen=True)
class Prediction:
    """What is said of a number of ranks: seconds with their range, and the seconds of each term.

    Of several parts the range is the sum of theirs, so at least 95 %. `error` is the standard error of one more measurement,
    in seconds; `limits` are the terms that may be the largest.
    """

    ranks: int
    seconds: float
    low: float
    high: float
    error: float
    parts: dict[str, float]
    limits: list[str]

    @property
    def fixed(self) -> bool:
        """Whether the points fix it well enough for a single number."""
        return self.high <= FIXED * self.low

    def expects(self, seconds: float) -> bool:
        """Whether a measurement is within the range and twice its own error."""
        return self.low - 2 * self.error <= seconds <= self.high + 2 * self.error


def predict(fits: Sequence[Fit], ranks: int, batch: float = 0.0) -> Prediction:
    """What fitted parts say of a number of ranks with a batch of each."""
    seconds = low = high = error = 0.0
    parts: dict[str, float] = {}
    most: dict[str, float] = {}
    for part in fits:
        factors = np.array([term.factor(ranks, batch) for term in part.terms])
        ends, best = part.interval(factors), float(factors @ part.parameters)
        seconds, low, high = seconds + best, low + ends[0], high + ends[1]
        error = math.hypot(error, part.error * best)
        for term, own, time in zip(part.terms, np.diag(factors), factors * part.parameters, strict=True):
            parts[term.name], most[term.name] = float(time), part.interval(own)[1]
    largest = max(parts, key=lambda name: parts[name])
    # Another term limits as well as far as we know if its range reaches above the one that seems largest.
    limits = [name for name in parts if name == largest or most[name] > parts[largest]]
    return Prediction(ranks, seconds, low, high, error, parts, limits)


def held_out(parts: Parts, points: Sequence[Point], known: Sequence[Known] = ()) -> list[Prediction]:
    """What a fit to all other points says of each point."""
    return [
        predict(fit(parts, [*points[:index], *points[index + 1 :]], known), point.ranks, point.batch)
        for index, point in enumerate(points)
    ]


def spread(steps: Sequence[Sequence[tuple[float, int]]]) -> tuple[float, float] | None:
    """The relative standard deviation of one rank's step, and its own relative standard error; None where nothing tells.

    `steps` has for each point the mean step of each epoch in seconds, and over how many steps of ranks that mean is. Steps
    are taken to be independent: what drifts over epochs is read as noise of steps, a rank that is always slow is not seen.
    """
    squares, freedom = 0.0, 0
    for epochs in steps:
        if len(epochs) > 1:
            mean = sum(time for time, _ in epochs) / len(epochs)
            squares += sum(count * (time / mean - 1) ** 2 for time, count in epochs)
            freedom += len(epochs) - 1
    if not freedom or not squares:
        return None
    return math.sqrt(squares / freedom), 1 / math.sqrt(2 * freedom)


def simulated_step(ranks: int, compute: float, deviation: float, steps: int, seed: int) -> float:
    """Mean seconds of a step that ends with its slowest rank, drawn: what the stragglers' formula is checked against."""
    drawn = np.random.default_rng(seed).normal(compute, deviation, (steps, ranks))
    return float(drawn.max(axis=1).mean())
