"""Reports a scaling run: scaling/scaling.json, the table beside it, and figures/scaling.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.files import write_atomic, write_json
from kit.core.tables import table
from kit.runs.record import load_run, resolved
from kit.training.judge import one_job
from kit.training.scaling import FILE, points

PARTS = ("input", "compute", "exchange")
# What all points have to have in common, beside what the benchmark says; strong ones the last two as well.
COMMON = ("precision", "threads", "tensorflow", "epochs_run")
STRONG = ("global_batch", "training_samples")


def evaluate(directory: Path) -> None:
    """Writes the three files; KitError where the ranks of a point formed no job, or points did not do the same work."""
    run, (benchmark, _) = load_run(directory), resolved(directory)
    scaling = benchmark.scaling
    assert scaling  # a scaling run has it
    found = {name: one_job(directory, f"{name}/{scaling.output}", ranks) for name, ranks in points(run.scaling).items()}
    first = found[f"strong_{run.scaling[0]}"]
    for name, facts in found.items():
        for key in (*COMMON, *scaling.common, *(STRONG if name.startswith("strong") else ())):
            if facts[key] != first[key]:
                raise KitError(
                    f"{directory}/{name}/{scaling.output}: {key} is {facts[key]}, but {first[key]} with {run.scaling[0]} "
                    "ranks; points that differ in it cannot be compared"
                )
    most = run.scaling[-1]
    curves: dict[str, Any] = {
        "strong": {str(ranks): point(found[f"strong_{ranks}"], first) for ranks in run.scaling},
        "weak": {
            str(ranks): point(found[f"{'strong' if ranks == most else 'weak'}_{ranks}"], found[f"weak_{run.scaling[0]}"])
            for ranks in run.scaling
        },
    }
    published = [curve.model_dump() for curve in scaling.published]
    (directory / FILE).parent.mkdir(exist_ok=True)
    write_json(directory / FILE, {**curves, "published": published})
    write_atomic(directory / FILE.replace(".json", ".md"), written(curves, first["unit"]))
    draw(directory, curves, published)


def point(facts: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """One point of a curve against its first: throughput in samples a second, and the parts of a warm step."""
    speedup = facts["samples_per_second"] / first["samples_per_second"]
    seconds = sum(facts["warm_seconds"].values())
    return {
        "ranks": facts["ranks"],
        "batch_size": facts["batch_size"],
        "samples": facts["training_samples"],
        "samples_per_second": facts["samples_per_second"],
        "speedup": speedup,
        "efficiency": speedup * first["ranks"] / facts["ranks"],
        "shares": {part: facts["warm_seconds"][part] / seconds for part in PARTS},
        "loss": facts["loss"],
        "oversubscribed": facts["oversubscribed"],
    }


def written(curves: dict[str, Any], unit: str) -> str:
    """Markdown; `unit` is what a sample is called. What was measured with more threads than cores is marked."""
    points = [(kind, entry) for kind, entries in curves.items() for entry in entries.values()]
    rows = [
        (
            kind,
            f"{entry['ranks']}{' *' if entry['oversubscribed'] else ''}",
            f"{entry['samples_per_second']:.2f}",
            f"{entry['speedup']:.2f}",
            f"{entry['efficiency']:.2f}",
            *(f"{entry['shares'][part]:.1%}" for part in PARTS),
            f"{entry['loss']:.4f}",
        )
        for kind, entry in points
    ]
    header = ("scaling", "ranks", f"{unit}/s", "speed-up", "efficiency", *PARTS, "loss")
    text = table(rows, "l" + "r" * 8, header, markdown=True) + "\n"
    if any(entry["oversubscribed"] for _, entry in points):
        text += "\n\\* oversubscribed, with more threads than cores, or ranks that share a GPU: functional only.\n"
    return text


def draw(directory: Path, curves: dict[str, Any], published: list[dict[str, Any]]) -> None:
    """Speed-up with what others published beside it, efficiency, and where the time went."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    strong, weak = (list(curves[kind].values()) for kind in ("strong", "weak"))
    for curve in published:
        speedups = [curve["seconds"][0] / seconds * curve["ranks"][0] for seconds in curve["seconds"]]
        left.plot(curve["ranks"], speedups, color="0.6", marker=".", linewidth=0.8)
        left.annotate(curve["system"], (curve["ranks"][-1], speedups[-1]), fontsize=6, color="0.4", ha="right", va="bottom")
    ranks = [entry["ranks"] for entry in strong]
    widest = max([*ranks, *(curve["ranks"][-1] for curve in published)])
    left.plot([1, widest], [1, widest], color="0.8", linestyle="--", linewidth=0.8)
    left.plot(ranks, [entry["speedup"] * ranks[0] for entry in strong], color="C0", label="this run, strong")
    for axes, entries, quantity, factor in (
        (left, strong, "speedup", ranks[0]),
        (middle, strong, "efficiency", 1),
        (middle, weak, "efficiency", 1),
    ):
        colour = "C0" if entries is strong else "C1"
        for entry in entries:
            hollow = {"markerfacecolor": "white"} if entry["oversubscribed"] else {}
            axes.plot(entry["ranks"], entry[quantity] * factor, "o", color=colour, **hollow)
    for entries, colour, text in ((strong, "C0", "strong"), (weak, "C1", "weak")):
        middle.plot(ranks, [entry["efficiency"] for entry in entries], color=colour, label=text)
    left.set(xlabel="ranks", ylabel="speed-up", title="Strong scaling", xscale="log", yscale="log")
    middle.set(xlabel="ranks", ylabel="efficiency", title="Efficiency", ylim=(0, None), xscale="log")
    for axes in (left, middle):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False, fontsize=8)
    left.yaxis.set_major_formatter("{x:g}")
    places = range(2 * len(ranks))
    floor = [0.0] * len(places)
    entries = [*strong, *weak]
    for part in PARTS:
        heights = [entry["shares"][part] for entry in entries]
        right.bar(places, heights, bottom=floor, label=part)
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    names = [f"{kind}\n{entry['ranks']}" for kind, of in (("strong", strong), ("weak", weak)) for entry in of]
    right.set_xticks(list(places), names, fontsize=8)
    right.set(ylabel="share of a warm step", title="Where the time went", ylim=(0, 1.12))
    right.legend(frameon=False, fontsize=8, loc="upper center", ncols=3)
    if any(entry["oversubscribed"] for entry in entries):
        figure.supxlabel("hollow: oversubscribed, functional only", fontsize=8)
    (directory / "figures").mkdir(exist_ok=True)
    figure.savefig(directory / "figures/scaling.png", dpi=110)
    plt.close(figure)
