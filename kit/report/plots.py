"""Plots for a page, as SVG that can stand in it: the same numbers give the same bytes, and no style attribute is left.

The page allows no style but its own sheet, so that what matplotlib says in style attributes becomes attributes of SVG.
Text stays text, in the page's font and colour.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from kit.core.errors import plain
from kit.report.entries import Entry

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
INK = "#010203"  # stands for the colour of the page's text, light or dark
# Three to one or better against a white and a black page; told apart by those who see few colours (after Okabe and Ito).
COLOURS = ("#0072b2", "#c05800", "#0a8f6a", "#b3589a", "#8a7a00", "#5a7fd6", "#7d7d7d")
STAGES = 5  # of the longest that a bar shows by name
LABEL = 28  # characters
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kit",
    "text.parse_math": False,  # a stranger's text is no formula
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": None,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        INK,
    ),
}


@dataclass(frozen=True)
class Plot:
    title: str
    description: str  # what is to be seen, for those who cannot
    svg: Markup


def label(number: int, entry: Entry) -> str:
    """What a plot calls a result: its number in the table, and its system or image."""
    name = entry.place[2] if entry.place else entry.run.image.name if entry.run else ""
    return cut(f"{number}: {name}")


def cut(name: str) -> str:
    """A name as a plot shows it: printable, and short."""
    text = plain(name)
    return text if len(text) <= LABEL else f"{text[: LABEL - 1]}…"


def drawn(name: str, title: str, description: str, height: float, draw: Callable[[Any], None]) -> Plot:
    """A plot of one pair of axes, 6.6 inches wide and `height` inches high. `name` keeps its ids apart from other plots'."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    from cycler import cycler

    with plt.rc_context({**SETTINGS, "axes.prop_cycle": cycler(color=COLOURS)}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font here has not is drawn by the browser's
        figure, axes = plt.subplots(figsize=(6.6, height), layout="constrained")
        try:
            draw(axes)
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        finally:
            plt.close(figure)
    return Plot(title, description, svg(text.getvalue(), name, title, description))


def svg(text: str, name: str, title: str, description: str) -> Markup:
    """A drawing of matplotlib's as an element of a page: with title and description, without styles and metadata."""
    root = ElementTree.fromstring(text)
    for node in root.iter():
        node.tag = node.tag.removeprefix(SVG)
        for declaration in node.attrib.pop("style", "").split(";"):
            key, _, value = (part.strip() for part in declaration.partition(":"))
            if key and key not in ("font", "font-family"):
                node.set(key, "currentColor" if value == INK else value)
        if node.tag == "text" and "fill" not in node.attrib:
            node.set("fill", "currentColor")
        if "id" in node.attrib:
            node.set("id", f"{name}-{node.get('id')}")
        if target := node.attrib.pop(f"{XLINK}href", ""):
            node.set("href", f"#{name}-{target.removeprefix('#')}")
        for key, value in node.attrib.items():
            node.set(key, re.sub(r"url\(#", f"url(#{name}-", value))
    for child in [node for node in root if node.tag == "metadata" or node.find("style") is not None]:
        root.remove(child)
    for key, words in (("desc", description), ("title", title)):
        node = ElementTree.Element(key, {"id": f"{name}-{key}"})
        node.text = words
        root.insert(0, node)
    for key in ("width", "height"):
        del root.attrib[key]
    root.attrib |= {
        "role": "img",
        "class": "plot",
        "aria-labelledby": f"{name}-title {name}-desc",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # ElementTree escaped all text


def plots(name: str, entries: Sequence[Entry], base: int = 0) -> list[Plot]:
    """What results of one benchmark and size took, as plots. Speed-ups are over the one at place `base`."""
    timed = [(number, entry) for number, entry in enumerate(entries, start=1) if entry.seconds]
    found = []
    if timed:
        found.append(stages(f"{name}-stages", timed))
    if len(timed) > 1:
        found.append(speedup(f"{name}-speedup", timed, timed[base]))
    if len({entry.used_cores for _, entry in timed}) > 1:
        found.append(scaling(f"{name}-scaling", [entry for _, entry in timed]))
    targets = [(number, entry) for number, entry in timed if entry.metric("target_seconds")]
    if targets:
        found.append(to_target(f"{name}-target", targets))
    return found


Numbered = Sequence[tuple[int, Entry]]


def bars(axes: Any, numbered: Numbered) -> range:
    """The places of horizontal bars, the first on top, with their labels; what is not ranked has a star."""
    places = range(len(numbered))
    names = [f"{label(number, entry)}{'' if entry.status == 'valid' else ' *'}" for number, entry in numbered]
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    return places


def high(numbered: Numbered) -> float:
    return 1.2 + 0.28 * len(numbered)


STAR = " A star marks what is not ranked."


def stages(name: str, numbered: Numbered) -> Plot:
    """The time to each result, and the stages that it went into."""
    spent: list[dict[str, float]] = []
    for _, entry in numbered:
        spent.append({})
        for stage in entry.run.stages if entry.run else ():
            if stage.timed and stage.seconds:
                spent[-1][stage.name] = spent[-1].get(stage.name, 0.0) + stage.seconds
    whole = {key: sum(found.get(key, 0.0) for found in spent) for found in spent for key in found}
    longest = sorted(whole, key=lambda key: (-whole[key], key))[:STAGES]

    def rest(found: dict[str, float]) -> float:
        return sum(value for key, value in found.items() if key not in longest)

    def draw(axes: Any) -> None:
        places = bars(axes, numbered)
        left = [0.0] * len(spent)
        for key in [*longest, *(["other stages"] if len(whole) > len(longest) else [])]:
            widths = [found.get(key, 0.0) if key in longest else rest(found) for found in spent]
            axes.barh(places, widths, left=left, height=0.62, label=cut(key))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for place, total in zip(places, left, strict=True):
            axes.annotate(f"{total:,.4g} s", (total, place), (4, 0), textcoords="offset points", va="center")
        axes.set_xlabel("seconds")
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)

    largest = f"; most of it in {', '.join(map(cut, longest[:3]))}" if longest else ""
    times = ", ".join(f"{label(number, entry)} {entry.seconds or 0:.4g} s" for number, entry in numbered[:12])
    return drawn(name, "Time to the result", f"Wall time by stage: {times}{largest}.{STAR}", high(numbered) + 0.4, draw)


def speedup(name: str, numbered: Numbered, base: tuple[int, Entry]) -> Plot:
    """How many times as fast as one of them each result was."""
    first = base[1].seconds or 1.0
    ratios = [first / (entry.seconds or first) for _, entry in numbered]

    def draw(axes: Any) -> None:
        places = bars(axes, numbered)
        axes.barh(places, ratios, height=0.62, color=COLOURS[0])
        axes.axvline(1, color=INK, linewidth=0.8, linestyle="--")
        for place, ratio in zip(places, ratios, strict=True):
            axes.annotate(f"{ratio:.2f}", (ratio, place), (4, 0), textcoords="offset points", va="center")
        axes.set_xlabel(f"times as fast as {label(*base)}")

    said = ", ".join(f"{label(*one)} {ratio:.2f}" for one, ratio in zip(numbered[:12], ratios, strict=False))
    return drawn(name, "Speed-up", f"Speed-up over {label(*base)}: {said}.{STAR}", high(numbered), draw)


def scaling(name: str, entries: Sequence[Entry]) -> Plot:
    """The time over the cores that were used, on logarithmic axes, with the line along which twice the cores halve it."""
    points = sorted((entry.used_cores, entry.seconds or 0.0, entry.status == "valid") for entry in entries)
    start = min(points, key=lambda point: point[0] * point[1])

    def draw(axes: Any) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        cores = [points[0][0], points[-1][0]]
        axes.plot(
            cores, [start[0] * start[1] / c for c in cores], color="#7d7d7d", linestyle="--", linewidth=0.8, label="ideal"
        )
        for counted, face, text in ((True, COLOURS[0], "ranked"), (False, "none", "not ranked")):
            some = [(x, y) for x, y, valid in points if valid is counted]
            if some:
                x, y = zip(*some, strict=True)
                axes.plot(x, y, "o", markersize=5, color=COLOURS[0], markerfacecolor=face, label=text)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="cores used", ylabel="seconds")
        axes.legend(frameon=False)

    said = ", ".join(f"{cores} cores {seconds:.4g} s" for cores, seconds, _ in points[:12])
    return drawn(name, "Scaling", f"Time over cores: {said}. Hollow points are not ranked.", 3.2, draw)


def to_target(name: str, numbered: Numbered) -> Plot:
    """The seconds of training until the target was reached, where a benchmark measures them (metric target_seconds)."""
    values = [entry.metric("target_seconds") or 0.0 for _, entry in numbered]

    def draw(axes: Any) -> None:
        places = bars(axes, numbered)
        axes.barh(places, values, height=0.62, color=COLOURS[2])
        for place, value in zip(places, values, strict=True):
            axes.annotate(f"{value:,.4g} s", (value, place), (4, 0), textcoords="offset points", va="center")
        axes.set_xlabel("seconds of training until the target was reached")

    said = ", ".join(f"{label(*one)} {value:.4g} s" for one, value in zip(numbered[:12], values, strict=False))
    return drawn(name, "Time to target", f"Seconds to the target: {said}.{STAR}", high(numbered), draw)
