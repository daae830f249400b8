"""The document of a submission: the same bytes wherever it is written, readable, and safe against any picture."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pypdfium2
import pytest
from conftest import ROOT, forged
from PIL import Image

from kit.benchmark import Benchmark
from kit.core import pictures
from kit.core.checksums import digest
from kit.core.files import read_json
from kit.core.schema import parse
from kit.runs.record import Run, load_run
from kit.submissions.document import MOST_PICTURES, NAMES, document, figures, pixels
from kit.submissions.submitter import Submitter
from kit.submissions.texts import facts


def png(mode: str = "RGB", size: tuple[int, int] = (60, 40), **more: object) -> bytes:
    """A picture whose left half is red, or dark, and whose right half is white."""
    picture = Image.new(mode, size, "white")
    picture.paste("red" if mode == "RGB" else 0, (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    picture.save(out, format="PNG", **more)
    return out.getvalue()


@pytest.fixture
def shown(submission: Path) -> dict[str, object]:
    run, benchmark = load_run(submission), parse(Benchmark, read_json(submission / "run/benchmark.json"), "benchmark")
    return facts([run], benchmark, "laboratory", "here", Submitter())


def text_of(content: bytes) -> str:
    pdf = pypdfium2.PdfDocument(content)
    return "\n".join(page.get_textpage().get_text_range() for page in pdf)


def test_it_says_what_the_pages_say(submission: Path, shown: dict[str, object]) -> None:
    one, other = (submission / name for name in NAMES)
    assert one.read_bytes() == other.read_bytes()
    text = text_of(one.read_bytes())
    for part in (
        "Toy: three stages of shell",
        "Submitted by laboratory for the system here",
        "resolution (angstrom)",
        "a proposal",
    ):
        assert part in text
    assert "Figure" not in text
    assert "Figure 1: run/figures/a.png" in text_of(document(shown, {"a.png": png()}))


def test_pixels_arrive(shown: dict[str, object]) -> None:
    """The last page, drawn: the left half of the picture is red, the right one white."""
    page = list(pypdfium2.PdfDocument(document(shown, {"a.png": png(size=(600, 400))})))[-1]
    drawn = page.render(scale=1).to_pil().convert("RGB")
    colours = [drawn.getpixel((x, 150)) for x in (100, 350)]
    assert colours == [(255, 0, 0), (255, 255, 255)]


def test_same_bytes_on_another_day_in_another_place(shown: dict[str, object], submission: Path) -> None:
    """Another process, with another clock, zone, language and order of hashes."""
    wanted = digest(submission / NAMES[0])
    code = (
        "import sys, time; real = time.time; time.time = lambda: real() + 1e8\n"
        "from pathlib import Path; from kit.core.checksums import digest_of\n"
        "from kit.benchmark import Benchmark; from kit.core.files import read_json; from kit.core.schema import parse\n"
        "from kit.runs.record import load_run; from kit.submissions.document import document\n"
        "from kit.submissions.submitter import Submitter; from kit.submissions.texts import facts\n"
        "folder = Path(sys.argv[1]); benchmark = parse(Benchmark, read_json(folder / 'run/benchmark.json'), 'x')\n"
        "print(digest_of(document(facts([load_run(folder)], benchmark, 'laboratory', 'here', Submitter()), {})))\n"
    )
    for environment in ({"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"}, {"LC_ALL": "C", "PYTHONHASHSEED": "2"}):
        command = [sys.executable, "-c", code, submission]
        said = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "", **environment},
        )
        assert said.stdout.strip() == wanted


def test_no_other_zlib_can_change_it(shown: dict[str, object]) -> None:
    """Nothing is compressed here: without zlib it comes out the same."""
    content = png()
    wanted = document(shown, {"a.png": content})
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*arguments: object, **more: object) -> bytes:
            raise AssertionError("compressed")

        patch.setattr(zlib, "compress", refuse)
        patch.setattr(zlib, "compressobj", refuse)
        assert document(shown, {"a.png": content}) == wanted
    assert b"".join(chunk for kind, chunk in chunks(content) if kind == b"IDAT") in wanted


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    return found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + b"\0" * 100,
        png("RGBA"),
        png("P"),
        png("1"),
        png("L", transparency=0),
        png("I;16"),
        png()[:-12],
        png().replace(b"IDAT", b"IDAX"),
        png(size=(10_001, 1)),
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 1000,
        png()[:16] + b"\0\0\0\0" + png()[20:],
    ],
)
def test_pictures_that_are_only_named(shown: dict[str, object], content: bytes) -> None:
    assert pixels(content) is None
    assert "Figure 1: run/figures/a.png" in text_of(document(shown, {"a.png": content}))


def test_text_of_strangers_is_text(shown: dict[str, object]) -> None:
    evil = "\u202e)\n(BT) Tj \\ <b>**x** \U0001f4a3 中"
    text = text_of(document({**shown, "organisation": evil}, {}))
    assert r"\u202e)\n(BT) Tj \ <b>**x** \U0001f4a3 \u4e2d" in text.replace("\r\n", " ")


def test_figures_that_fit(tmp_path: Path) -> None:
    (tmp_path / "run/figures").mkdir(parents=True)
    sizes = {"a.png": 10, "b.png": MOST_PICTURES, "c.png": 10}
    for name, size in sizes.items():
        (tmp_path / "run/figures" / name).write_bytes(b"x" * size)
    names = [f"run/figures/{name}" for name in sizes]
    assert set(figures(tmp_path, ["run/job.sh", *names])) == {"a.png"}


def test_figures_are_drawn_in_a_form_that_fits(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, _ = plt.subplots()
    pictures.save(figure, tmp_path / "a.png", dpi=50)
    plt.close(figure)
    assert pixels((tmp_path / "a.png").read_bytes()) is not None


def test_another_document_is_refused(submission: Path) -> None:
    for name in NAMES:
        path = submission / name
        content = path.read_bytes()
        path.write_bytes(content.replace(b"laboratory", b"Laboratory"))
        assert f"{name}: is not the document that the kit writes" in forged(submission)
        path.write_bytes(content)
    assert isinstance(load_run(submission), Run)
    assert forged(submission) == ""
