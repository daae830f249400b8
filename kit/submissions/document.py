"""scientific_contribution.pdf: what a result says of the science, with the run's own figures.

A check writes it again and compares the bytes, so nothing in it depends on the time, the machine or a version of zlib: text
is not compressed, and the pixels of a figure are those of its PNG, still compressed as whoever drew it compressed them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.core.errors import plain

if TYPE_CHECKING:
    from fpdf import FPDF

# The working group's submit.adoc spells the name without its first c; whoever looks for either finds it.
NAMES = ("scientific_contribution.pdf", "sientific_contribution.pdf")
MOST_PICTURES = 3_500_000  # bytes of all pictures in it: with its text it stays below 4 MB
MOST_PIXELS = 10_000  # of a side of a picture
FIGURES = "run/figures/"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MARGIN, WIDTH, HEIGHT = 18.0, 174.0, 261.0  # millimetres of A4, between the margins


def figures(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The figures of a submission's first run that fit into its document, by name: the first in the order of their names.

    `names` are plain files of the folder. OSError where one cannot be read.
    """
    found = {name.removeprefix(FIGURES): folder / name for name in sorted(names) if name.startswith(FIGURES)}
    totals = accumulate(path.stat().st_size for path in found.values())
    return {
        name: path.read_bytes() for (name, path), total in zip(found.items(), totals, strict=True) if total <= MOST_PICTURES
    }


def document(shown: Mapping[str, Any], pictures: Mapping[str, bytes]) -> bytes:
    """The PDF of what the pages of a submission say (texts.facts), with figures by name."""
    benchmark, run = shown["benchmark"], shown["run"]
    pdf = blank(run.created)
    pdf.set_title(latin(benchmark.title))
    heading(pdf, benchmark.title, 15)
    paragraph(pdf, summary(shown))
    table(pdf, shown["rows"], len(shown["runs"]) > 1)
    heading(pdf, "The benchmark")
    for name in ("objective", "formula", "score", "dataset", "baseline"):
        item(pdf, name, getattr(benchmark.card, name))
    item(pdf, "target", benchmark.target)
    if not benchmark.card.listed:
        item(pdf, "status", "a proposal: not among the applications of the MLCommons Science working group")
    heading(pdf, "What the measurements are")
    for name, text in shown["meanings"]:
        item(pdf, name, text)
    heading(pdf, "What ran")
    item(pdf, "image", f"{run.image.name} {run.image.version}, {run.image.digest}")
    item(pdf, "kit", f"{shown['version']}, commit {run.commit}")
    item(pdf, "data", run.data)
    item(pdf, "script", run.script)
    item(pdf, "ranks", f"{run.ranks} of {run.threads} thread(s), on site {run.site}, partition {run.partition}")
    for need in shown["needs"]:
        item(pdf, *need.split(": ", 1))
    if pictures:
        pdf.add_page()
        heading(pdf, "Figures")
    for number, (name, content) in enumerate(sorted(pictures.items()), start=1):
        figure(pdf, number, name, content)
    return bytes(pdf.output())


def summary(shown: Mapping[str, Any]) -> str:
    run, runs = shown["run"], shown["runs"]
    part = f"stage {run.isolated} alone, of " if run.isolated else ""
    mean = f" The values are means of {len(runs)} runs." if len(runs) > 1 else ""
    trial = " This is a trial, and cannot be handed in." if shown["trial"] else ""
    return (
        f"Submitted by {shown['organisation']} for the system {shown['system']}: {part}size {run.size} "
        f"({shown['size'].description}), {run.created:%Y-%m-%d %H:%M} UTC. State: {run.state}.{mean}{trial}"
    )


def blank(created: datetime) -> FPDF:
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    pdf.set_compression(False)
    pdf.set_creation_date(created)
    pdf.set_producer("kit")
    pdf.set_lang("en")
    pdf.set_margins(MARGIN, MARGIN, MARGIN)
    pdf.set_auto_page_break(True, MARGIN)
    pdf.add_page()
    return pdf


def latin(text: object) -> str:
    """Text in the letters that every viewer's own Helvetica has; others are escaped."""
    known = plain(str(text)).replace("≥", ">=").replace("≤", "<=")
    return known.encode("latin-1", "backslashreplace").decode("latin-1")


def heading(pdf: FPDF, text: str, size: int = 11) -> None:
    pdf.ln(3)
    pdf.set_font("Helvetica", "B", size)
    pdf.multi_cell(WIDTH, size * 0.5, latin(text), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)


def paragraph(pdf: FPDF, text: str) -> None:
    pdf.set_font("Helvetica", "", 9)
    pdf.multi_cell(WIDTH, 4.5, latin(text), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(2)


def item(pdf: FPDF, name: str, text: str) -> None:
    """A word and what is said of it."""
    pdf.set_font("Helvetica", "B", 9)
    pdf.write(4.5, latin(f"{name}: "))
    pdf.set_font("Helvetica", "", 9)
    pdf.write(4.5, latin(text))
    pdf.ln(5)


def table(pdf: FPDF, rows: list[Any], several: bool) -> None:
    """Measurement, reference and what is submitted; of several runs the spread, of one the difference."""
    last = "95 % interval" if several else "Difference"
    pdf.set_font("Helvetica", "", 8)
    layout = {"borders_layout": "HORIZONTAL_LINES", "text_align": ("LEFT", "RIGHT", "RIGHT", "RIGHT")}
    with pdf.table(col_widths=(70, 30, 34, 40), line_height=4, width=WIDTH, **layout) as cells:
        cells.row(["Measurement", "Reference", "Submitted", last])
        for row in rows:
            found = row.interval if several else row.difference
            cells.row([latin(text) for text in (row.measurement, row.reference, row.submitted, found)])


def figure(pdf: FPDF, number: int, name: str, content: bytes) -> None:
    """A picture with its name below; its name alone where the PNG is of a kind that a PDF cannot take as it is."""
    from fpdf.image_datastructures import RasterImageInfo

    found = pixels(content)
    pdf.set_font("Helvetica", "", 9)
    if found is None:
        paragraph(pdf, f"Figure {number}: run/figures/{name}")
        return
    width = min(WIDTH, found["w"] * 25.4 / 120)  # as drawn, at about 120 dots an inch
    height = width * found["h"] / found["w"]
    if height > HEIGHT - 10:
        width, height = width * (HEIGHT - 10) / height, HEIGHT - 10
    if pdf.will_page_break(height + 8):
        pdf.add_page()
    # The library would decode and compress it again; a picture that it has already is taken as it is.
    pdf.image_cache.images[name] = RasterImageInfo({**found, "i": number, "usages": 0})
    pdf.image(Path(name), w=width, h=height, alt_text=latin(f"figure {name} of the run"))
    paragraph(pdf, f"Figure {number}: run/figures/{name}")


def pixels(content: bytes) -> dict[str, Any] | None:
    """A PNG as a PDF holds it: its size, and its pixels still compressed.

    None unless it has three colours or one of 8 bits each, no transparency, and lines one after the other.
    """
    chunks: dict[bytes, list[bytes]] = {}
    place = len(SIGNATURE)
    while place + 12 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        chunks.setdefault(kind, []).append(content[place + 8 : place + 8 + size])
        place += 12 + size
    head = b"".join(chunks.get(b"IHDR", []))
    if not content.startswith(SIGNATURE) or len(head) != 13 or not {b"IDAT", b"IEND"} <= chunks.keys():
        return None
    width, height = int.from_bytes(head[:4]), int.from_bytes(head[4:8])
    depth, colour, interlaced = head[8], head[9], head[12]
    fitting = 0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS
    if not fitting or depth != 8 or colour not in (0, 2) or interlaced or b"tRNS" in chunks:
        return None
    channels = 3 if colour == 2 else 1
    return {
        "w": width,
        "h": height,
        "cs": "DeviceRGB" if channels == 3 else "DeviceGray",
        "bpc": 8,
        "f": "FlateDecode",
        "dp": f"/Predictor 15 /Colors {channels} /Columns {width}",
        "data": b"".join(chunks[b"IDAT"]),
    }
