"""What the model (model.py) says of measured and of published curves: as text, as JSON, and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from kit.benchmark import Benchmark, Published
from kit.core.errors import KitError
from kit.core.files import read_json, read_table, read_text, read_toml, write_json
from kit.core.pictures import save
from kit.core.schema import Model, parse, shortened
from kit.core.tables import table
from kit.training import model
from kit.training.model import Fit, Known, Point, Prediction
from kit.training.scaling import FILE

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
LEAST = 3  # points of a curve, and numbers of ranks of a fit
OUTPUT = "scaling-model"  # .json and .png
GRADIENT = 4  # bytes of a parameter: gradients are exchanged in single precision
WAY_OUT = "measure more numbers of ranks, or give a file of curves (see the page of the benchmark)"

PARTS = {"input", "compute", "exchange"}  # of a step, each with a clock of its own
MOST = 10_000_000  # ranks, and samples of a rank: what is more is a mistake of writing
SHORTEST, LONGEST = 1e-6, 1e9  # seconds

Rate = Annotated[float, Field(gt=1e-9, lt=1e12)]  # samples a second


class Curves(Model):
    """A file of curves that somebody measured: [[curve]] with system, ranks, seconds and source."""

    curve: list[Published]


class Entry(BaseModel):
    """A point of scaling.json, as far as the model needs it."""

    ranks: int = Field(ge=1, le=MOST)
    batch_size: int = Field(ge=1, le=MOST)
    samples_per_second: Rate
    shares: dict[str, Annotated[float, Field(ge=0, le=1)]]
    oversubscribed: bool


class Result(BaseModel):
    """A scaling.json, as far as the model needs it: the points of each kind by ranks."""

    strong: dict[str, Entry]
    weak: dict[str, Entry]


@dataclass
class Curve:
    """One curve: what was measured, what was fitted to it, and what that says of RANKS. Without fits, notes say why."""

    system: str
    source: str
    unit: str  # what the seconds are of
    points: list[Point]
    leader: bool = False
    weak: bool = False
    fits: list[Fit] = field(default_factory=list)
    held_out: list[Prediction] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gradient: int = 0  # bytes; 0 where they are not known
    batch: Callable[[int], float] = lambda ranks: 0.0

    def predict(self, ranks: int) -> Prediction:
        return model.predict(self.fits, ranks, self.batch(ranks))

    def efficiency(self, seconds: float, ranks: int) -> float:
        """Against the model's own time with the fewest ranks that were measured; 0 for an infinite time."""
        first = self.points[0].ranks
        ratio = 1.0 if self.weak else model.workers(first, self.leader) / model.workers(ranks, self.leader)
        return self.predict(first).seconds * ratio / seconds if seconds else math.inf

    def extend(self, most: float = math.inf) -> None:
        """Predicts from the fewest ranks that were measured to `most`."""
        self.predictions = [self.predict(ranks) for ranks in RANKS if self.points[0].ranks <= ranks <= most]


def evaluate(benchmark: Benchmark, place: Path | None, per_node: int = 0) -> list[Curve]:
    """The curves of a scaling run or of a file, and the benchmark's published ones unless it is a file.

    KitError for a place without points, for too few of them, and for points that cannot be.
    """
    leader = benchmark.scaling is None
    if place is not None and place.suffix == ".toml":
        found = parse(Curves, read_toml(place), place).curve
        for number, curve in enumerate(found):
            checked(curve, f"{place}: key 'curve.{number}", leader)
        return [published(curve, leader, per_node) for curve in found]
    if benchmark.scaling is None:
        raise KitError(
            f"benchmark {benchmark.name}: has no scaling measurement and no published curves in its benchmark.toml; give a "
            "file, kit scaling BENCHMARK --model CURVES.toml, with [[curve]]: system, ranks, seconds, source"
        )
    for number, curve in enumerate(benchmark.scaling.published):
        checked(curve, f"benchmark {benchmark.name}: benchmark.toml: key 'scaling.published.{number}", leader)
    measured = of_run(place, per_node) if place is not None else []
    curves = [*measured, *(published(curve, leader, per_node) for curve in benchmark.scaling.published)]
    if not curves:
        raise KitError(
            f"benchmark {benchmark.name}: no published curves in its benchmark.toml; give a folder of kit scaling"
        )
    return curves


def checked(curve: Published, where: str, leader: bool) -> None:
    """KitError for a curve that is none: `where` names its file and key, up to the last part."""
    least = 2 if leader else 1
    count = len(curve.ranks)
    if count < LEAST:
        raise KitError(f"{where}.ranks': {count} points, where {LEAST} at least are needed; {WAY_OUT}")
    if len(curve.seconds) != count:
        raise KitError(f"{where}.seconds': {len(curve.seconds)} times for {count} numbers of ranks; one for each is needed")
    if curve.ranks[0] < least or curve.ranks[-1] > MOST or any(left >= right for left, right in pairwise(curve.ranks)):
        why = (
            f"numbers from {least}{' (a leader and a worker)' if leader else ''} to {MOST:,}, each more than the one before"
        )
        raise KitError(f"{where}.ranks': {why}, are needed, got {shortened(curve.ranks)}")
    if not all(SHORTEST < time < LONGEST for time in curve.seconds):
        raise KitError(
            f"{where}.seconds': times from {SHORTEST:g} to {LONGEST:g} are needed, got {shortened(curve.seconds)}"
        )


def published(curve: Published, leader: bool, per_node: int = 0) -> Curve:
    """A curve of whole trainings with a fixed batch a rank, or of iterations of RELION."""
    parts = model.leader_terms() if leader else model.published_terms(per_node)
    (part,) = parts
    points = [Point(ranks, 0.0, {part: time}) for ranks, time in zip(curve.ranks, curve.seconds, strict=True)]
    found = Curve(curve.system, curve.source, "iteration" if leader else "training or epoch", points, leader)
    if not beyond(found):
        found.fits, found.held_out = model.fit(parts, points), model.held_out(parts, points)
        found.extend()
        judge(found)
    return found


def beyond(curve: Curve) -> bool:
    """Whether a strong curve is beyond the model; what has to be said of it stands in its notes then."""
    ranks, seconds = [point.ranks for point in curve.points], [point.seconds for point in curve.points]
    excess, few, many = model.superlinear(ranks, seconds, curve.leader)
    said = f"super-linear: {excess:.2f} times as fast from {few} to {many} ranks as that many more ranks explain"
    if excess > model.SUPER:
        curve.notes.append(f"{said}; no sum of these terms does that, whatever the parameters: not fitted")
    elif excess > model.NAMED:
        curve.notes.append(f"{said}; fitted, but the model cannot follow it there")
    return excess > model.SUPER


def judge(curve: Curve) -> None:
    """Notes on what keeps the ranges of a fitted curve from being trusted."""
    if any(not part.freedom for part in curve.fits):
        curve.notes.append(
            "some part has no more points than parameters: its ranges rest on the error that a time is taken to have, "
            f"{model.NOISE:.0%}"
        )
    missed = [p.ranks for p, other in zip(curve.points, curve.held_out, strict=True) if not other.expects(p.seconds)]
    if missed:
        curve.notes.append(
            f"{len(missed)} of {len(curve.points)} points are not where the others say: {', '.join(map(str, missed))} "
            "ranks; the terms lack something that this system has, and the ranges are too narrow"
        )


@dataclass(frozen=True)
class Measured:
    """The points of a scaling run that count, each with the name of its folder, and its global batch of strong ones."""

    points: list[Point]
    names: list[str]
    total: int
    left_out: list[str]  # of more threads than cores

    @property
    def strong(self) -> list[Point]:
        return [point for point in self.points if point.ranks * point.batch == self.total]


def read_run(directory: Path) -> Measured:
    """What a scaling run measured; KitError for a result that is none, and for one of too few points."""
    path = directory / FILE
    if not path.is_file():
        raise KitError(f"{path}: no such file; give a directory of kit scaling, after kit collect")
    result = parse(Result, read_json(path, finite=True), path)
    found: dict[tuple[int, int], tuple[str, Point]] = {}  # the largest strong point is the largest weak one as well
    left_out = []
    for kind, entries in (("strong", result.strong), ("weak", result.weak)):
        for entry in entries.values():
            if set(entry.shares) != PARTS or not math.isclose(sum(entry.shares.values()), 1, abs_tol=1e-6):
                needed = f"shares of {', '.join(sorted(PARTS))} that sum to 1 are needed; run kit collect {directory} again"
                raise KitError(f"{path}: key '{kind}.{entry.ranks}.shares': {needed}")
            if entry.oversubscribed:
                left_out.append(f"{kind} {entry.ranks}")
                continue
            place = entry.ranks, entry.batch_size
            seconds = entry.ranks * entry.batch_size / entry.samples_per_second
            point = Point(*place, {part: share * seconds for part, share in entry.shares.items()})
            found.setdefault(place, (f"{kind}_{entry.ranks}", point))
    total = max((entry.ranks * entry.batch_size for entry in result.strong.values()), default=0)
    measured = Measured([point for _, point in found.values()], [name for name, _ in found.values()], total, left_out)
    count = len(measured.strong)
    if count < 2:
        more = f"; oversubscribed, so not counted: {', '.join(left_out)}" if left_out else ""
        raise KitError(
            f"{path}: key 'strong': {count} numbers of ranks, where 2 at least are needed, and more to tell bytes from "
            f"messages{more}; measure more: kit scaling BENCHMARK --ranks 1,2,4,8"
        )
    return measured


def of_run(directory: Path, per_node: int) -> list[Curve]:
    """The strong and the weak curve of a scaling run, of one fit to all points of both."""
    measured = read_run(directory)
    points, total, path = measured.points, measured.total, str(directory / FILE)
    terms, known = model.training_terms(per_node), stragglers(directory, measured)
    notes = [f"left out, since oversubscribed: {', '.join(measured.left_out)}"] if measured.left_out else []
    if not known:
        notes.append("no epochs.jsonl tells the spread of steps: stragglers are told from the rest by the points alone")
    if not per_node:
        notes.append("one network for all ranks; with --per-node N, one within nodes and one between them")
    batch = min(point.batch for point in points)  # of a weak point
    size = gradient(directory, measured.names)
    curves = [
        Curve("this run, strong", path, "step", measured.strong, gradient=size, batch=lambda ranks: total / ranks),
        Curve("this run, weak", path, "step", [p for p in points if p.batch == batch], gradient=size, weak=True),
    ]
    curves[0].notes.append(f"a global batch of {total} has no more than {total} ranks")
    curves[1].batch = lambda ranks: batch
    refused = beyond(curves[0])
    fits = [] if refused else model.fit(terms, points, known)
    others = [] if refused else model.held_out(terms, points, known)
    for curve in curves:
        curve.points.sort(key=lambda point: point.ranks)
        curve.notes += notes
        if refused:
            continue
        curve.fits, curve.held_out = fits, [others[points.index(point)] for point in curve.points]
        curve.extend(math.inf if curve.weak else total)
        judge(curve)
    if refused:
        curves[1].notes.append("not fitted, since the strong points are beyond the model")
    return curves


def stragglers(directory: Path, measured: Measured) -> list[Known]:
    """The spread of a rank's step for each sample of its batch, from the epochs of the points; empty where none tells."""
    steps = []
    for name, point in zip(measured.names, measured.points, strict=True):
        path = directory / name / "epochs.jsonl"
        if path.is_file():
            steps.append(epochs(path, point.ranks))
    found = model.spread(steps)
    if found is None:
        return []
    per_sample = sum(point.parts["compute"] / point.batch for point in measured.points) / len(measured.points)
    return [Known("stragglers", found[0] * per_sample, found[1])] if per_sample else []


def epochs(path: Path, ranks: int) -> list[tuple[float, int]]:
    """Mean seconds that a step of each epoch computed, and over how many steps of ranks that mean is."""
    found = []
    for number, line in enumerate(read_text(path).splitlines()):
        try:
            epoch = json.loads(line)
            steps = epoch["steps"] - (number == 0)  # the first step is not counted
            seconds = float(epoch["warm"]["compute"])
            if steps > 0:
                if not 0 < seconds < math.inf:
                    raise ValueError(f"{seconds} seconds of computing")
                found.append((seconds / steps, steps * ranks))
        except (LookupError, TypeError, ValueError) as error:
            raise KitError(f"{path}: line {number + 1}: no epoch of a training: {error!r}; run this point again") from None
    return found


def gradient(directory: Path, names: Sequence[str]) -> int:
    """Bytes that a step exchanges; 0 where no point says how many parameters it trained."""
    for name in names:
        if (directory / name / "train.json").is_file():
            parameters = read_table(directory / name / "train.json").get("parameters")
            return GRADIENT * parameters if isinstance(parameters, int) else 0
    return 0


def number(value: float) -> str:
    """Three digits, as a table has them."""
    return "unbounded" if math.isinf(value) else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def span(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}" if math.isfinite(high) else f"from {number(low)}"


def parameters(curve: Curve) -> list[dict[str, Any]]:
    """Each parameter with its range, and whether the points fix it."""
    found = []
    for part in curve.fits:
        for index, term in enumerate(part.terms):
            low, high = part.interval(np.eye(len(part.terms))[index])
            verdict = (
                "no point has it"
                if math.isinf(high)
                else "fixed"
                if high <= model.FIXED * low
                else "a range alone"
                if low > 0
                else "not told from 0"
            )
            value = float(part.parameters[index])
            entry = {"term": term.name, "seconds": value, "low": low, "high": high, "verdict": verdict}
            if curve.gradient and term.name.startswith("bandwidth"):
                fast = curve.gradient / 1e9 / low if low else math.inf
                entry |= {"gb_per_second_low": curve.gradient / 1e9 / high, "gb_per_second_high": fast}
            found.append(entry)
    return found


def as_text(curve: Curve) -> str:
    """What was fitted, how well, and what it says: three tables, with notes above them."""
    lines = [f"{curve.system}: seconds of a {curve.unit} ({curve.source})", *(f"  {note}" for note in curve.notes)]
    if not curve.fits:
        return "\n".join(lines)
    rows: list[Sequence[object]] = []
    for entry in parameters(curve):
        speed = [value for key, value in entry.items() if key.startswith("gb_per_second")]
        shown = f"{span(*speed)} GB/s" if speed else ""
        rows.append((entry["term"], number(entry["seconds"]), span(entry["low"], entry["high"]), entry["verdict"], shown))
    if not curve.weak:  # whose parameters are those of the strong one above it
        lines += ["", table(rows, "lrrll", ("term", "parameter, s", "95 % range", "", ""))]
    rows = []
    for point, other in zip(curve.points, curve.held_out, strict=True):
        said = curve.predict(point.ranks)
        within = "yes" if other.expects(point.seconds) else "no"
        off, held = (f"{one.seconds / point.seconds - 1:+.0%}" for one in (said, other))
        rows.append((point.ranks, number(point.seconds), number(said.seconds), off, number(other.seconds), held, within))
    header: tuple[str, ...] = ("ranks", "measured, s", "model, s", "off", "without this point, s", "off", "in its range")
    lines += ["", table(rows, "rrrrrrl", header)]
    names = list(curve.predictions[0].parts)
    rows = []
    for one in curve.predictions:
        single = (number(one.seconds), f"{curve.efficiency(one.seconds, one.ranks):.2f}") if one.fixed else ("-", "-")
        ends = span(*(curve.efficiency(end, one.ranks) for end in (one.high, one.low)))
        shares = [f"{one.parts[name] / one.seconds:.0%}" if one.fixed else "-" for name in names]
        rows.append((one.ranks, single[0], span(one.low, one.high), single[1], ends, *shares, " or ".join(one.limits)))
    header = ("ranks", "seconds", "95 % range", "efficiency", "range", *names, "limited by")
    return "\n".join([*lines, "", table(rows, "rrrrr" + "r" * len(names) + "l", header)])


def record(curve: Curve) -> dict[str, Any]:
    """The same as JSON; null for what is not fixed, and for an end that is not bounded."""

    def ends(one: Prediction) -> dict[str, Any]:
        high = one.high if math.isfinite(one.high) else None
        return {"ranks": one.ranks, "seconds": one.seconds if one.fixed else None, "low": one.low, "high": high}

    return {
        "system": curve.system,
        "source": curve.source,
        "seconds_of": curve.unit,
        "notes": curve.notes,
        "fitted": bool(curve.fits),
        "points": [
            {
                "ranks": point.ranks,
                "batch_size": point.batch or None,
                "seconds": point.seconds,
                "model": curve.predict(point.ranks).seconds if curve.fits else None,
                "held_out": ends(curve.held_out[index]) if curve.fits else None,
            }
            for index, point in enumerate(curve.points)
        ],
        "errors": [part.error for part in curve.fits],
        "parameters": [
            {key: None if value == math.inf else value for key, value in entry.items()} for entry in parameters(curve)
        ],
        "predictions": [
            {
                **ends(one),
                "efficiency": curve.efficiency(one.seconds, one.ranks) if one.fixed else None,
                "shares": {name: time / one.seconds for name, time in one.parts.items()} if one.fixed else None,
                "limited_by": one.limits,
            }
            for one in curve.predictions
        ],
    }


def write(curves: Sequence[Curve], folder: Path) -> None:
    """scaling-model.json and scaling-model.png in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    beliefs = {"error_of_a_time": model.NOISE, "as_if_of_points": model.PRIOR, "super_linear_above": model.SUPER}
    write_json(folder / f"{OUTPUT}.json", {"assumed": beliefs, "curves": [record(curve) for curve in curves]})
    draw(curves, folder / f"{OUTPUT}.png")


def draw(curves: Sequence[Curve], path: Path) -> None:
    """A panel for each curve: measured points, the model where it is fixed, and its range."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    wide = min(4, len(curves))
    high = math.ceil(len(curves) / wide)
    figure, panels = plt.subplots(high, wide, figsize=(3.3 * wide, 3.1 * high), layout="constrained", squeeze=False)
    for axes in panels.flat[len(curves) :]:
        axes.axis("off")
    for axes, curve in zip(panels.flat, curves, strict=False):
        measured = [point.ranks for point in curve.points]
        if curve.fits:
            ranks = [one.ranks for one in curve.predictions]
            # What is not bounded goes on to the upper edge of the panel.
            edge = 10 * max(*(point.seconds for point in curve.points), *(one.seconds for one in curve.predictions))
            lows = [max(one.low, 1e-3 * one.seconds) for one in curve.predictions]
            axes.fill_between(ranks, lows, [min(one.high, edge) for one in curve.predictions], color="C0", alpha=0.2, lw=0)
            axes.plot(ranks, [one.seconds for one in curve.predictions], color="C0", linestyle=":", linewidth=0.9)
            fixed = [one for one in curve.predictions if one.fixed]
            axes.plot([one.ranks for one in fixed], [one.seconds for one in fixed], color="C0")
        else:
            axes.text(0.97, 0.95, "super-linear: not fitted", transform=axes.transAxes, ha="right", va="top", color="C3")
        axes.plot(measured, [point.seconds for point in curve.points], "o", color="black", markersize=4)
        axes.set(xscale="log", yscale="log", xlim=(0.8, 1.25 * RANKS[-1]))
        axes.set_title(curve.system, fontsize=9)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=8)
    figure.supxlabel("ranks", fontsize=9)
    units = dict.fromkeys(curve.unit for curve in curves)
    figure.supylabel(f"seconds of a {', or of a '.join(units)}", fontsize=9)
    figure.suptitle("points: measured; line: model, dotted where the points do not fix it; shaded: 95 % range", fontsize=9)
    save(figure, path, 110)
    plt.close(figure)
