"""The scaling model: its formulas against drawn steps, what it finds again, what it will not say, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, kit

from kit.benchmark import Published, load_benchmark
from kit.core.errors import KitError
from kit.training import model, modelled
from kit.training.model import Known, Point
from kit.training.scaling import FILE

RANKS = (1, 2, 4, 8, 16, 32)
CLOUDMASK = load_benchmark("cloudmask")
# Seconds of a run's parameters: a sample, a step, reading, shared storage, bandwidth, latency, and the stragglers' spread.
TRUE = {
    "compute": 0.1,
    "step cost": 0.02,
    "reading": 0.004,
    "storage": 2e-4,
    "bandwidth": 0.03,
    "latency": 1e-4,
    "stragglers": 4e-3,
}


def seconds(parts: model.Parts, ranks: int, batch: float, true: dict[str, float]) -> dict[str, float]:
    """The seconds of each part with known parameters."""
    return {
        part: sum(true.get(term.name, 0.0) * term.factor(ranks, batch) for term in terms) for part, terms in parts.items()
    }


def of(
    parts: model.Parts, places: list[tuple[int, float]], true: dict[str, float], noise: float = 0.0, seed: int = 0
) -> Any:
    """Points with known parameters, each part off by a normal relative error."""
    draw = np.random.default_rng(seed)
    return [
        Point(*place, {part: time * (1 + noise * draw.normal()) for part, time in seconds(parts, *place, true).items()})
        for place in places
    ]


def curve(values: dict[int, float]) -> Published:
    return Published(system="here", ranks=list(values), seconds=list(values.values()), source="a test")


def run(folder: Path, ranks: tuple[int, ...] = (1, 2, 4, 8), batch: int = 2, true: dict[str, float] = TRUE) -> Path:
    """What a scaling run of these parameters leaves, as far as the model reads it."""
    most, result = ranks[-1], {"strong": {}, "weak": {}}  # type: ignore[var-annotated]
    for kind in result:
        for number in ranks:
            own = batch * most // number if kind == "strong" else batch
            parts = seconds(model.training_terms(), number, own, true)
            total = sum(parts.values())
            result[kind][str(number)] = {
                "ranks": number,
                "batch_size": own,
                "samples_per_second": number * own / total,
                "shares": {part: time / total for part, time in parts.items()},
                "oversubscribed": False,
                "loss": 0.5,  # not of the model
            }
            point = folder / f"{kind}_{number}"
            point.mkdir(parents=True, exist_ok=True)
            (point / "train.json").write_text(json.dumps({"parameters": 1_948_609}))
            # Three epochs whose mean steps differ as those of independent steps do, of 0.04 of a step.
            lines, steps = [], 9
            for epoch, sign in enumerate((-1, 0, 1)):
                mean = parts["compute"] * (1 + sign * 0.04 / math.sqrt(steps * number))
                lines.append({"steps": steps + (epoch == 0), "warm": {"compute": mean * steps}})
            (point / "epochs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / FILE).parent.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps(result))
    return folder


def changed(folder: Path, *keys: str, value: object) -> None:
    """Writes another value into the scaling.json of a run; None takes the key out."""
    whole = here = json.loads((folder / FILE).read_text())
    for key in keys[:-1]:
        here = here[key]
    here[keys[-1]] = value
    if value is None:
        del here[keys[-1]]
    (folder / FILE).write_text(json.dumps(whole))


@pytest.mark.parametrize("ranks", [1, 2, 3, 16, 64])
def test_slowest_of_many_ranks_is_what_drawn_steps_say(ranks: int) -> None:
    drawn = model.simulated_step(ranks, 1.0, 0.1, 40_000, 1)
    assert 1 + 0.1 * model.expected_maximum(ranks) == pytest.approx(drawn, abs=4 * 0.1 / math.sqrt(40_000))
    assert 1 + 0.11 * model.expected_maximum(ranks) != pytest.approx(drawn, abs=4 * 0.1 / math.sqrt(40_000)) or ranks == 1


def test_expected_maximum_has_its_known_values() -> None:
    assert model.expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert model.expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi))
    assert model.expected_maximum(1000) == pytest.approx(3.2414, abs=1e-4)  # tables of order statistics


@pytest.mark.parametrize("ranks", [2, 3, 8, 17])
def test_ring_sends_what_the_formula_says(ranks: int) -> None:
    """An all-reduce, step by step: each rank sends one part to its neighbour, which adds it, and then which keeps it."""
    values = np.random.default_rng(ranks).integers(0, 100, (ranks, ranks))  # rank, part of its gradient
    held, sent, messages = values.copy(), 0, 0
    for step in range(2 * (ranks - 1)):
        before = held.copy()
        for rank in range(ranks):
            part, neighbour = (rank - step) % ranks, (rank + 1) % ranks
            held[neighbour, part] = before[rank, part] + (before[neighbour, part] if step < ranks - 1 else 0)
        sent, messages = sent + 1, messages + 1  # of each rank, all at once: a part, in a message
    assert (held == values.sum(axis=0)).all()
    terms = {term.name: term for term in model.training_terms()["exchange"]}
    assert terms["bandwidth"].factor(ranks, 1) == pytest.approx(sent / ranks)
    assert terms["latency"].factor(ranks, 1) == messages


def test_terms_have_the_seconds_that_a_step_has() -> None:
    """Worked out by hand, for 4 ranks of 3 samples; and a training of 100 samples in batches of 5 a rank, step by step."""
    said = seconds(model.training_terms(), 4, 3, TRUE)
    assert said["compute"] == pytest.approx(0.32)
    assert said["input"] == pytest.approx(0.012 + 0.0024)
    assert said["exchange"] == pytest.approx(0.045 + 0.0006 + 0.012 * 1.02938, rel=1e-5)  # of 4 deviates: 1.02938
    for ranks in (1, 2, 4):
        steps = 100 // (5 * ranks)
        whole = sum(0.7 + 0.2 * 2 * (ranks - 1) / ranks for _ in range(steps)) + 9
        true = {"compute": 20 * 0.7, "exchange": 20 * 0.2, "constant": 9}
        assert sum(seconds(model.published_terms(), ranks, 0, true).values()) == pytest.approx(whole)


@pytest.mark.parametrize("kind", ["published", "training", "leader"])
def test_no_parameters_make_a_curve_super_linear(kind: str) -> None:
    """What is said of a curve that is: it is beyond the model, and not only beyond its fit."""
    draw = np.random.default_rng(5)
    parts = {"published": model.published_terms, "training": model.training_terms, "leader": model.leader_terms}[kind]()
    names = [term.name for terms in parts.values() for term in terms]
    for _ in range(100):
        true = dict(zip(names, (10 ** draw.uniform(-4, 2, len(names))).tolist(), strict=True))
        ranks = range(2, 40)
        times = [sum(seconds(parts, number, 1000 / number, true).values()) for number in ranks]
        assert model.superlinear(ranks, times, kind == "leader")[0] <= 1 + 1e-9


def test_any_curve_is_fitted_or_refused() -> None:
    """150 curves drawn without any sense, over ten decades: each number is within its range, and none is an error."""
    draw = np.random.default_rng(6)
    for index in range(150):
        leader = index % 3 == 0
        numbers = sorted(draw.choice(np.arange(2, 2000), draw.integers(3, 8), replace=False).tolist())
        times = [10 ** draw.uniform(-5, 5) / (number if index % 2 else 1) for number in numbers]
        if index % 4:  # not super-linear, at least
            times = [one / number for one, number in zip(sorted(times), numbers, strict=True)]
        parts = model.leader_terms() if leader else model.published_terms(per_node=int(draw.integers(0, 40)))
        points = [Point(number, 0.0, {next(iter(parts)): one}) for number, one in zip(numbers, times, strict=True)]
        for one in (2, 50, 1000):
            said = model.predict(model.fit(parts, points), one)
            assert said.low * (1 - 1e-6) <= said.seconds <= said.high * (1 + 1e-6)


def test_a_fit_finds_the_parameters_of_exact_points() -> None:
    parts = model.training_terms()
    places = [(ranks, batch) for ranks in RANKS for batch in (2.0, 8.0, 32.0)]
    found = {
        term.name: value
        for part in model.fit(parts, of(parts, places, TRUE))
        for term, value in zip(part.terms, part.parameters, strict=True)
    }
    assert found == pytest.approx(TRUE, rel=1e-6)


def test_two_networks_are_told_apart() -> None:
    parts = model.training_terms(per_node=4)
    true = {**TRUE, "bandwidth in a node": 0.01, "latency in a node": 1e-5, "bandwidth between nodes": 0.05}
    places = [(ranks, batch) for ranks in (1, 2, 3, 4, 8, 16, 32) for batch in (2.0, 8.0)]
    points = of(parts, places, true)
    assert model.predict(model.fit(parts, points), 1000, 2.0).seconds == pytest.approx(
        sum(seconds(parts, 1000, 2.0, true).values()), rel=1e-6
    )
    inside = model.fit(parts, [point for point in points if point.ranks <= 4])
    assert math.isfinite(model.predict(inside, 4, 2.0).high)
    beyond = model.predict(inside, 8, 2.0)
    assert math.isinf(beyond.high)  # no point has seen a network between nodes
    assert not beyond.fixed


@pytest.mark.parametrize("kind", ["published", "leader"])
def test_ranges_hold_what_is_true_as_often_as_they_say(kind: str) -> None:
    """100 curves with errors of 5 %: 95 % of the ranges, of what was measured and far beyond it, hold the true time."""
    if kind == "published":
        parts, true, ranks = model.published_terms(), {"compute": 4700.0, "exchange": 1500.0, "constant": 40.0}, RANKS
    else:
        parts, true = model.leader_terms(), {"expectation": 3000.0, "maximisation": 30.0, "leader": 0.2}
        ranks = (2, 3, 5, 9, 17, 33)
    hits = {8: 0, 1000: 0}
    for seed in range(100):
        fits = model.fit(parts, of(parts, [(number, 0.0) for number in ranks], true, 0.05, seed))
        for number in hits:
            said = model.predict(fits, number)
            hits[number] += said.low <= sum(seconds(parts, number, 0.0, true).values()) <= said.high
    assert all(count >= 90 for count in hits.values()), hits


def test_ranges_of_other_errors_are_not_that_wide() -> None:
    """A range that held everything would pass the test above: where many points say it, it is narrow."""
    parts = model.published_terms()
    places = [(number, 0.0) for number in range(1, 65)]
    fits = model.fit(parts, of(parts, places, {"compute": 4700.0, "exchange": 1500.0, "constant": 40.0}, 0.01))
    said = model.predict(fits, 16)
    assert (said.high - said.low) / said.seconds < 0.03
    assert said.fixed
    assert said.limits == ["compute"]


def test_latency_of_a_published_curve_is_no_term_of_its_own() -> None:
    """Why the model has one constant: with a fixed batch a rank, latency is a sum of the terms that are there."""
    for ranks in RANKS:
        assert 2 * (ranks - 1) / ranks == pytest.approx(2 * 1.0 - 2 * (1 / ranks))


def test_spread_of_steps_comes_from_epochs() -> None:
    draw = np.random.default_rng(3)
    steps = [[(1 + 0.2 * draw.normal() / math.sqrt(50), 50) for _ in range(40)] for _ in range(5)]
    found = model.spread(steps)
    assert found
    assert found[0] == pytest.approx(0.2, rel=3 * found[1])
    assert found[1] == pytest.approx(1 / math.sqrt(2 * 5 * 39))
    assert model.spread([[(1.0, 50)], []]) is None  # one epoch has no spread


def test_what_was_measured_by_itself_narrows_the_range() -> None:
    parts = model.training_terms()
    points = of(parts, [(2, 4.0), (4, 2.0), (4, 4.0)], TRUE)
    known = [Known("stragglers", TRUE["stragglers"], 0.05)]
    wide, narrow = (model.predict(model.fit(parts, points, facts), 512, 4.0) for facts in ([], known))
    true = sum(seconds(parts, 512, 4.0, TRUE).values())
    assert narrow.low <= true <= narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low


# What the kit says of the published curves. Their numbers are held in test_scaling.py.


def test_a_super_linear_curve_is_named_and_not_fitted() -> None:
    found = {one.system: one for one in modelled.evaluate(CLOUDMASK, None)}
    scarf = found["SCARF, K80"]
    assert not scarf.fits
    assert "super-linear: 1.93 times as fast from 4 to 16 ranks" in modelled.as_text(scarf)
    assert modelled.record(scarf)["predictions"] == []
    assert [system for system, one in found.items() if not one.fits] == ["SCARF, K80"]
    assert any("1.13 times as fast from 4 to 16 ranks" in note for note in found["EPCC, Cascade Lake"].notes)
    assert not any("super-linear" in note for note in found["PEARL, V100"].notes)


def test_published_points_are_met_and_what_they_do_not_fix_is_a_range() -> None:
    pearl = modelled.published(load("PEARL, V100"), leader=False)
    assert max(abs(pearl.predict(p.ranks).seconds / p.seconds - 1) for p in pearl.points) < 0.10
    record = modelled.record(pearl)
    (constant,) = (one for one in record["parameters"] if one["term"] == "constant")
    assert (constant["low"], constant["verdict"]) == (0, "not told from 0")
    far = record["predictions"][-1]
    assert (far["ranks"], far["seconds"], far["shares"]) == (1000, None, None)
    assert far["high"] > 10 * far["low"]
    assert "constant" in far["limited_by"]
    near = next(one for one in record["predictions"] if one["ranks"] == 8)
    assert near["low"] < near["seconds"] < near["high"]
    assert sum(near["shares"].values()) == pytest.approx(1)


def load(system: str) -> Published:
    assert CLOUDMASK.scaling
    return next(one for one in CLOUDMASK.scaling.published if one.system == system)


def test_points_that_the_others_do_not_foretell_are_counted() -> None:
    """Summit's second rank gains nothing, and neither does its third: no exchange of a ring grows like that."""
    good = {number: 4700 / number + 40.0 for number in RANKS}
    assert modelled.published(curve(good), leader=False).notes == []
    (said,) = modelled.published(load("Summit, V100"), leader=False).notes
    assert "points are not where the others say: " in said


@pytest.mark.parametrize(("excess", "said"), [(1.0, ""), (1.1, "fitted, but"), (1.3, "not fitted")])
def test_super_linear_curves_by_how_much(excess: float, said: str) -> None:
    values = {number: 1000 / number for number in (1, 2, 4, 8)} | {16: 1000 / 16 / excess}
    found = modelled.published(curve(values), leader=False)
    assert bool(found.fits) == (excess < 1.25)
    assert said in " ".join(found.notes)


def test_leader_and_maximisation_limit_relion(tmp_path: Path) -> None:
    """3000 s of expectation, 30 s of maximisation, 0.2 s a rank of the leader: 1,000 ranks are slower than 128."""
    values = {number: 3000 / (number - 1) + 30 + 0.2 * number for number in (2, 3, 5, 9, 17, 33, 65, 129, 257)}
    found = modelled.published(curve(values), leader=True)
    times = {one.ranks: one for one in found.predictions}
    assert 1 not in times  # a leader alone does nothing
    assert times[1000].seconds == pytest.approx(3000 / 999 + 30 + 200, rel=0.01)
    assert times[1000].seconds > times[128].seconds
    assert times[1000].limits == ["leader"]
    assert times[2].limits == ["expectation"]
    assert times[128].limits[0] in ("maximisation", "expectation", "leader")
    assert found.efficiency(times[2].seconds, 2) == pytest.approx(1)


def test_the_page_has_these_numbers() -> None:
    """Its table of the published curves: every number that stands there, to the digits that it has."""
    page = (ROOT / "docs/cloudmask.md").read_text()
    for one in modelled.evaluate(CLOUDMASK, None):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {one.system} |"))
        found = [float(text.replace(",", "")) for text in re.findall(r"[-+]?\d[\d,.]*", row.split("|", 2)[2])]
        if not one.fits:
            assert "not fitted" in row
            continue
        off = max((one.predict(p.ranks).seconds / p.seconds - 1 for p in one.points), key=abs)
        last = one.held_out[-1].seconds / one.points[-1].seconds - 1
        inside = sum(other.expects(p.seconds) for p, other in zip(one.points, one.held_out, strict=True))
        expected = [100 * off, 100 * last, inside, len(one.points)]
        for entry in modelled.parameters(one):
            expected += [entry["seconds"], entry["low"], entry["high"]]
        assert found == pytest.approx(expected, rel=0.01, abs=0.6), one.system


# A run.


def test_a_run_is_fitted_part_by_part(tmp_path: Path) -> None:
    strong, weak = modelled.evaluate(CLOUDMASK, run(tmp_path / "run"))[:2]
    assert [point.ranks for point in strong.points] == [point.ranks for point in weak.points] == [1, 2, 4, 8]
    assert [point.batch for point in strong.points] == [16, 8, 4, 2]
    for one in (strong, weak):
        for ranks in (1, 4, 8):
            true = sum(seconds(model.training_terms(), ranks, one.batch(ranks), TRUE).values())
            assert one.predict(ranks).seconds == pytest.approx(true, rel=0.02)
    assert [one.ranks for one in strong.predictions] == [1, 2, 4, 8, 16]  # of a global batch of 16
    assert [one.ranks for one in weak.predictions][-1] == 1000
    true = sum(seconds(model.training_terms(), 1000, 2, TRUE).values())
    assert weak.predictions[-1].low <= true <= weak.predictions[-1].high
    assert weak.efficiency(weak.predictions[0].seconds, 1) == pytest.approx(1)
    text = modelled.as_text(strong)
    assert "GB/s" in text
    for name in TRUE:
        assert name in text
    assert "a global batch of 16 has no more than 16 ranks" in modelled.as_text(strong)


def test_spread_of_a_run_is_that_of_one_rank(tmp_path: Path) -> None:
    """A mean over 9 steps of 8 ranks varies by a 72nd root of what a step of one rank does."""
    folder = run(tmp_path / "run")
    measured = modelled.read_run(folder)
    (known,) = modelled.stragglers(folder, measured)
    per_sample = np.mean([point.parts["compute"] / point.batch for point in measured.points])
    assert known.value == pytest.approx(0.04 * per_sample)
    assert known.error == pytest.approx(1 / math.sqrt(2 * 2 * len(measured.points)))


def test_without_epochs_the_spread_is_not_known(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    with_epochs = modelled.evaluate(CLOUDMASK, folder)[1]
    for path in folder.glob("*/epochs.jsonl"):
        path.unlink()
    without = modelled.evaluate(CLOUDMASK, folder)[1]
    assert "no epochs.jsonl tells the spread of steps" in modelled.as_text(without)
    assert "no epochs.jsonl" not in modelled.as_text(with_epochs)

    def stragglers(one: modelled.Curve) -> float:
        (found,) = (entry for entry in modelled.parameters(one) if entry["term"] == "stragglers")
        return found["high"] - found["low"]

    assert stragglers(with_epochs) < stragglers(without)


def test_super_linear_run_is_not_fitted(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    changed(folder, "strong", "8", "samples_per_second", value=1e6)
    strong, weak = modelled.evaluate(CLOUDMASK, folder)[:2]
    assert not strong.fits
    assert not weak.fits
    assert "super-linear" in modelled.as_text(strong)
    assert "the strong points are beyond the model" in modelled.as_text(weak)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("strong",), None, r"scaling\.json: key 'strong' is missing"),
        (("strong", "2", "samples_per_second"), 0, r"key 'strong\.2\.samples_per_second': Input should be greater than"),
        (("weak", "2", "ranks"), "two", r"key 'weak\.2\.ranks'"),
        (("strong", "4", "shares"), {"compute": 1}, r"key 'strong\.4\.shares': shares of compute, exchange, input"),
        (
            ("strong", "4", "shares"),
            dict.fromkeys(("compute", "exchange", "input"), 0.5),
            "that sum to 1 are needed; run kit",
        ),
        (("strong", "4", "samples_per_second"), 1e300, r"key 'strong\.4\.samples_per_second'"),
        (("strong", "4", "ranks"), 10**400, r"key 'strong\.4\.ranks'"),
        (("strong",), {}, r"key 'strong': 0 numbers of ranks, where 2 at least are needed"),
    ],
)
def test_results_that_are_none_are_refused(tmp_path: Path, keys: tuple[str, ...], value: object, said: str) -> None:
    changed(run(tmp_path / "run"), *keys, value=value)
    with pytest.raises(KitError, match=said):
        modelled.evaluate(CLOUDMASK, tmp_path / "run")


def test_oversubscribed_points_do_not_count(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", (1, 2, 4))
    changed(folder, "strong", "4", "oversubscribed", value=True)
    changed(folder, "weak", "4", "oversubscribed", value=True)
    strong = modelled.evaluate(CLOUDMASK, folder)[0]
    assert [point.ranks for point in strong.points] == [1, 2]
    assert "left out, since oversubscribed: strong 4, weak 4" in modelled.as_text(strong)
    changed(folder, "strong", "2", "oversubscribed", value=True)
    with pytest.raises(
        KitError, match=r"1 numbers of ranks, where 2 at least .* not counted: strong 2, strong 4, weak 4; measure"
    ):
        modelled.evaluate(CLOUDMASK, folder)


@pytest.mark.parametrize(
    "line", ["[]", '{"steps": 3}', "{", '{"steps": 3, "warm": {"compute": "x"}}', '{"steps": 3, "warm": {"compute": NaN}}']
)
def test_epochs_that_are_none_are_refused(tmp_path: Path, line: str) -> None:
    (run(tmp_path / "run") / "strong_2/epochs.jsonl").write_text(f"{line}\n")
    with pytest.raises(KitError, match=r"strong_2/epochs\.jsonl: line 1: no epoch of a training"):
        modelled.evaluate(CLOUDMASK, tmp_path / "run")


# A file of curves, and the command.


def written(folder: Path, ranks: str, times: str, extra: str = "") -> Path:
    path = folder / "curves.toml"
    path.write_text(f'[[curve]]\nsystem = "x"\nsource = "y"\nranks = {ranks}\nseconds = {times}\n{extra}')
    return path


@pytest.mark.parametrize(
    ("ranks", "times", "said"),
    [
        ("[2, 3]", "[2, 1]", r"key 'curve\.0\.ranks': 2 points, where 3 at least are needed; measure more"),
        ("[2, 3, 5]", "[2, 1]", r"key 'curve\.0\.seconds': 2 times for 3 numbers of ranks"),
        (
            "[1, 3, 5]",
            "[3, 2, 1]",
            r"key 'curve\.0\.ranks': numbers from 2 \(a leader and a worker\) to 10,000,000, each more",
        ),
        ("[2, 5, 3]", "[3, 2, 1]", r"key 'curve\.0\.ranks': numbers from 2"),
        (
            "[2, 3, 5]",
            "[3, 0, 1]",
            r"key 'curve\.0\.seconds': times from 1e-06 to 1e\+09 are needed, got \[3\.0, 0\.0, 1\.0\]",
        ),
        ("[2, 3, 5]", "[3, nan, 1]", r"key 'curve\.0\.seconds': times from"),
        ("[2, 3, 5]", "[3, 1e300, 1]", r"key 'curve\.0\.seconds': times from"),
        (f"[2, 3, {10**4000}]", "[3, 2, 1]", r"key 'curve\.0\.ranks'"),
        ("[2, 3, 5]", '["x", 2, 1]', r"key 'curve\.0\.seconds\.0'"),
    ],
)
def test_curves_that_are_none_are_refused(tmp_path: Path, ranks: str, times: str, said: str) -> None:
    with pytest.raises(KitError, match=said) as error:
        modelled.evaluate(load_benchmark("relion"), written(tmp_path, ranks, times))
    assert str(tmp_path / "curves.toml") in str(error.value)


def test_relion_needs_a_file() -> None:
    with pytest.raises(KitError, match=r"benchmark relion: has no scaling measurement .* --model CURVES\.toml"):
        modelled.evaluate(load_benchmark("relion"), None)


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    result = kit("scaling", "cloudmask", "--model", str(folder))
    assert "this run, strong" in result.stdout
    assert "PEARL, V100" in result.stdout
    assert (folder / "scaling/scaling-model.png").stat().st_size > 20_000
    record = json.loads((folder / "scaling/scaling-model.json").read_text())
    assert [one["system"] for one in record["curves"]][:3] == ["this run, strong", "this run, weak", "PEARL, V100"]
    result = kit("scaling", "cloudmask", "--model", str(folder), "--per-node", "8", "--to", str(tmp_path / "nodes"))
    assert re.search(r"latency between nodes +0 +from 0 +no point has it", result.stdout)
    path = written(tmp_path, "[2, 3, 5, 9]", "[300, 160, 90, 55]")
    result = kit("scaling", "relion", "--model", str(path), "--to", str(tmp_path / "made"))
    assert "expectation" in result.stdout
    assert (tmp_path / "made/scaling-model.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["cloudmask", "--model", "--ranks", "1,2"], 2, "--model measures nothing"),
        (["cloudmask", "nowhere", "--ranks", "1,2"], 2, "are for --model"),
        (["cloudmask", "--per-node", "4", "--ranks", "1,2"], 2, "are for --model"),
        (["cloudmask"], 2, "--ranks is missing: which numbers of ranks"),
        (
            ["cloudmask", "--model", "nowhere"],
            1,
            "nowhere/scaling/scaling.json: no such file; give a directory",
        ),
        (["cloudmask", "--model", "nowhere.toml"], 1, "nowhere.toml: cannot be read"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words: list[str], code: int, said: str) -> None:
    assert said in kit("scaling", *words, code=code).stderr
