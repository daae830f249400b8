"""Pages in a real Chromium: they sort and filter, load nothing, run nothing of a stranger's, and fit a phone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from board import PIXEL, made, verdicts

from kit.report.comparison import report
from kit.report.leaderboard import build

NASTY = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
ROWS = 12
Open = Callable[..., Any]


@pytest.fixture
def site(submission: Path, tmp_path: Path) -> Path:
    """A leaderboard of some results, one with markup for names, one refused; returns its first page."""
    root = tmp_path / "board"
    accepted = {}
    for number in range(ROWS):
        system = {
            "host_processor_model_name": NASTY if number == 3 else ["Skylake", "Broadwell", "Rome", "Grace"][number % 4]
        }
        seconds, ranks = 5.0 + (number * 7) % ROWS, 2 ** (number % 4)
        folder = made(submission, root, f"centre{number}", "toy", "s", "tiny-1", seconds=seconds, ranks=ranks, system=system)
        accepted[folder] = "metric resolution is wrong" if number == 5 else ""
    (root / "centre1/toy/s/tiny-1/run/figures").mkdir()
    (root / "centre1/toy/s/tiny-1/run/figures/fsc.png").write_bytes(PIXEL)
    return build(root, tmp_path / "site", verdicts(tmp_path / "verdicts.json", accepted))


@pytest.fixture
def comparison(site: Path, submission: Path, tmp_path: Path) -> Path:
    folders = [tmp_path / "board" / f"centre{number}" / "toy/s/tiny-1" for number in (1, 3, 4)]
    return report(folders, tmp_path / "comparison.html")


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a file in a window of some width, and at the end holds that it had no error and asked for nothing else."""
    seen: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1280, **settings: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("dialog", lambda dialog: seen.append(dialog.message))
        own = path.as_uri()
        page.on(
            "request",
            lambda request: seen.append(request.url) if not request.url.startswith((own, "data:image/png;")) else None,
        )
        page.goto(own)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert seen == []


def column(page: Any, name: str) -> list[str]:
    """The texts of a column of the first table, from top to bottom, without hidden rows."""
    return page.evaluate(
        """name => { const table = document.querySelector("table");
        const place = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === name);
        return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[place].textContent); }""",
        name,
    )


def test_a_click_sorts_by_numbers_and_by_words_and_back(site: Path, open_page: Open) -> None:
    page = open_page(site)
    ranks = column(page, "rank")
    assert ranks == [str(number) for number in range(1, ROWS)]
    head = page.locator("table").first.locator("th", has_text="organisation")
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    names = column(page, "organisation")
    assert names == [f"centre{number}" for number in range(ROWS) if number != 5]  # as a person counts
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, "organisation") == names[::-1]
    page.locator("table").first.get_by_role("button", name="time").click()
    assert head.get_attribute("aria-sort") is None
    assert column(page, "rank") == ranks


def test_the_keyboard_alone_reaches_and_sorts(site: Path, open_page: Open) -> None:
    page = open_page(site)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#content"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "ranks":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    assert column(page, "ranks") == sorted(column(page, "ranks"), key=int)
    page.keyboard.press("Enter")
    assert column(page, "ranks") == sorted(column(page, "ranks"), key=int, reverse=True)


def test_a_filter_hides_rows_and_says_how_many_are_left(site: Path, open_page: Open) -> None:
    page = open_page(site)
    field = page.get_by_role("searchbox").first
    field.fill("GRACE basic")
    assert set(column(page, "processor")) == {"Grace"}
    assert page.locator("output").first.text_content() == f"{len(column(page, 'rank'))} of {ROWS - 1} rows"
    field.fill("nothing of the kind")
    assert column(page, "rank") == []
    field.fill("")
    assert len(column(page, "rank")) == ROWS - 1


def test_markup_of_a_stranger_is_text(site: Path, comparison: Path, open_page: Open) -> None:
    for path in (site, comparison, *sorted((site.parent / "results").iterdir())[:4]):
        page = open_page(path)
        assert "hacked" not in page.title()
        assert page.evaluate("[...document.images].every(image => image.src.startsWith('data:image/png;'))")
    page = open_page(site)
    assert NASTY in page.evaluate("document.body.textContent")


def test_the_policy_stops_what_an_escape_would_miss(site: Path, chromium: Any, tmp_path: Path) -> None:
    """The page with real markup put into it: nothing of it runs or is loaded."""
    broken = tmp_path / "broken.html"
    outside = '<img src="http://localhost:9/x.png"><iframe src="http://localhost:9/"></iframe><p style="color:red">x</p>'
    broken.write_text(site.read_text().replace("<main ", f"{NASTY}{outside}<main ", 1))
    page = chromium.new_page()
    refused: list[str] = []
    finished: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.on("requestfinished", lambda request: finished.append(request.url))
    page.goto(broken.as_uri())
    assert page.title() == "Leaderboard"
    assert [url for url in finished if not url.startswith("file:")] == []
    assert len([text for text in refused if "Content Security Policy" in text]) >= 4
    page.close()


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_never_scrolls_sideways(site: Path, comparison: Path, open_page: Open, width: int) -> None:
    for path in (site, comparison, next((site.parent / "results").glob("centre1-*"))):
        page = open_page(path, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = """[...document.querySelectorAll("main *")].filter(node =>
            node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".table, .scroll")).length"""
        assert page.evaluate(wide) == 0


LOW = """() => {
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(part => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = node => {
    const found = getComputedStyle(node).backgroundColor;
    return found === "rgba(0, 0, 0, 0)" ? ground(node.parentElement) : found;
  };
  const written = node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  return [...document.querySelectorAll("body *")].filter(written)
    .filter(node => !["SCRIPT", "title", "desc"].includes(node.tagName)).map(node => {
      const colour = getComputedStyle(node)[node.tagName === "text" ? "fill" : "color"];
      const [high, low] = [light(colour), light(ground(node))].sort((a, b) => b - a);
      return [node.tagName, node.textContent.slice(0, 30), (high + 0.05) / (low + 0.05)];
    }).filter(found => !(found[2] >= 4.5));
}"""
UNIQUE = """() => { const ids = [...document.querySelectorAll("[id]")].map(node => node.id);
  return ids.length === new Set(ids).size; }"""
REACHED = """() => [...document.querySelectorAll("*")]
  .filter(node => ["auto", "scroll"].includes(getComputedStyle(node).overflowX)).every(node => node.tabIndex === 0)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(site: Path, comparison: Path, open_page: Open, scheme: str) -> None:
    """Computed by the browser for every element with text: 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    for path in (site, comparison):
        assert open_page(path, color_scheme=scheme).evaluate(LOW) == []


def test_every_part_has_a_name_that_can_be_read_aloud(site: Path, comparison: Path, open_page: Open) -> None:
    for path in (site, comparison):
        page = open_page(path)
        for role in ("button", "link", "searchbox", "img", "region", "group"):
            for node in page.get_by_role(role).all():
                assert node.aria_snapshot().strip().removeprefix(f"- {role}").strip(" :")
        assert page.evaluate(UNIQUE)
        assert page.evaluate(REACHED)  # what scrolls can be scrolled with the keys


def test_without_javascript_the_page_is_complete(site: Path, comparison: Path, open_page: Open) -> None:
    page = open_page(site, java_script_enabled=False)
    assert page.locator("table").first.locator("tbody tr").count() == ROWS - 1
    assert page.get_by_role("button").count() == 0
    assert page.locator("svg.plot").first.is_visible()


def test_a_leaderboard_leads_to_its_results_and_back(site: Path, chromium: Any) -> None:
    page = chromium.new_page()
    page.goto(site.as_uri())
    page.locator("table").first.locator("a").first.click()
    assert page.locator("h1").text_content().startswith("centre")
    page.get_by_role("link", name="Leaderboard").click()
    assert page.title() == "Leaderboard"
    page.get_by_role("link", name="JSON").click()
    assert len(json.loads(page.locator("pre").text_content())) == ROWS
    page.close()


def test_a_thousand_rows(submission: Path, tmp_path: Path, open_page: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """How long a page of a thousand results takes to load is printed; that it sorts and filters is held."""
    first = made(submission, tmp_path / "board", "c0", "toy", "s", "tiny-1", seconds=1)
    text = json.loads((first / "run.json").read_text())
    accepted = {first: ""}
    for number in range(1, 1000):
        folder = tmp_path / "board" / f"c{number}" / "toy/s/tiny-1"
        (folder / "run").mkdir(parents=True)
        text["stages"][-1]["end"] = text["stages"][0]["start"] + 1 + number
        (folder / "run.json").write_text(json.dumps(text))
        for name in ("sha256sums.txt", "run/benchmark.json", "run/site.json"):
            (folder / name).hardlink_to(first / name)
        accepted[folder] = ""
    index = build(tmp_path / "board", tmp_path / "site", verdicts(tmp_path / "verdicts.json", accepted))
    page = open_page(index)
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    (busy,) = [one["value"] for one in session.send("Performance.getMetrics")["metrics"] if one["name"] == "ProcessTime"]
    with capsys.disabled():
        size = index.stat().st_size
        print(f"\n{len(accepted)} rows, {size} bytes: loaded in {loaded:.0f} ms, {busy * 1000:.0f} ms of processor time")
    assert len(column(page, "rank")) == 1000
    page.locator("table").first.get_by_role("button", name="rank", exact=True).click()
    page.locator("table").first.get_by_role("button", name="rank", exact=True).click()
    assert column(page, "rank")[0] == "1000"
