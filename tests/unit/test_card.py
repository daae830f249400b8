"""Benchmark cards: every field of the form, and entries that the list of MLCommons Science takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from conftest import ROOT, kit

from kit import card
from kit.benchmark import UNKNOWN, Benchmark, benchmark_names, load_benchmark
from kit.core.errors import KitError
from kit.core.schema import parse

NAMES = benchmark_names()
FORM = (
    *("1. Scientific objective(s): ", "    - Formula: ", "    - Score: "),
    *("2. Data: ", "    - Download: ", "    - Input size: ", "    - Training samples: ", "    - Validation samples: "),
    *("3. Baseline implementation", "    - Model: ", "    - Reference code: ", "    - Run instructions: "),
    *("4. Hardware systems explored and performance", "    - Summit: ", "    - ThetaGPU: ", "    - RAL: "),
    "5. Example improvements: ",
)
# The types of source/benchmarks-format.yaml of mlcommons-science/benchmark, of which every field is needed.
FORMAT: dict[str, Any] = {
    **dict.fromkeys(("date", "version", "last_updated", "expired", "valid_date", "name", "url", "doi"), str),
    **dict.fromkeys(("focus", "summary", "licensing", "type", "solutions", "notes"), str),
    **dict.fromkeys(("domain", "keywords", "task_types", "ai_capability_measured", "metrics", "models"), list),
    **dict.fromkeys(("ml_motif", "ml_task", "cite"), list),
    "valid": bool,
    **dict.fromkeys(("contact", "datasets", "results", "fair", "ratings"), dict),
}
ASPECTS = {"software", "specification", "dataset", "metrics", "reference_solution", "documentation"}


def test_the_benchmarks_that_have_one() -> None:
    assert set(NAMES) == {"relion", "cloudmask", "stemdl", "uno", "tevolop"}


def test_the_page_is_what_the_command_prints() -> None:
    assert (ROOT / "docs/cards.md").read_text() == kit("card").stdout, "make it anew: kit card >docs/cards.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_form(name: str) -> None:
    """A field has a value, and where nobody has given one it says so."""
    lines = card.markdown(name).splitlines()
    for field in FORM:
        found = [line for line in lines if line.startswith(field)]
        assert len(found) == 1, field
        assert found[0].strip() != field.strip() or not field.endswith(": "), field
    assert any(line.startswith("Sources: ") for line in lines)
    assert not [line for line in lines if "None" in line]


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_the_columns_of_their_heads(name: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", card.markdown(name) + "\n", re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_what_is_unknown_says_so() -> None:
    text = card.markdown("stemdl")
    assert "    - ThetaGPU: unknown\n" in text
    assert "    - Summit: 40min with ResNet50 on 60 V100 GPUs\n" in text
    assert "    - Score: 0.9 considered converged\n" in text
    assert "5. Example improvements: unknown\n" in card.markdown("cloudmask")


def test_names_of_sizes_stages_and_metrics_are_those_of_the_benchmark() -> None:
    text = card.markdown("relion")
    benchmark = load_benchmark("relion")
    for name in [
        *benchmark.sizes,
        *(metric.name for metric in benchmark.metrics),
        *(stage.name for stage in benchmark.stages),
    ]:
        assert f"`{name}`" in text
    assert "| `map_truth_correlation` |" in text
    assert "tiny: at least 0.9; small: at least 0.6; particles: at least 0.9" in text


def test_published_times_stand_on_the_card() -> None:
    text = card.markdown("relion")
    assert "| job065 | Class2D | accelerated | Skylake | 9/6 | 3 | 12 | 6:40 | Change binary |" in text
    assert "| job067 | accelerated | Skylake | 0.19 | 0.37 | 0.28 | 0.16 |" in text


def test_a_run_does_not_carry_the_form() -> None:
    """run/benchmark.json of a submission is what the run had to do; cards may be written better later."""
    assert set(load_benchmark("relion").model_dump()["card"]) == {
        "objective",
        "formula",
        "score",
        "dataset",
        "baseline",
        "listed",
    }


def test_an_unknown_benchmark() -> None:
    assert "did you mean stemdl?" in kit("card", "stemd", code=1).stderr


def test_a_card_with_a_wrong_key_is_refused() -> None:
    data = load_benchmark("relion").model_dump()
    with pytest.raises(KitError, match=r"card\.form\.sience.*did you mean 'science'"):
        parse(Benchmark, {**data, "card": {**data["card"], "form": {"sources": ["a"], "sience": "b"}}}, "x.toml")
    with pytest.raises(KitError, match=r"card\.form\.sources' is missing"):
        parse(Benchmark, {**data, "card": {**data["card"], "form": {}}}, "x.toml")


def test_a_benchmark_without_a_form() -> None:
    found = load_benchmark("relion")
    bare = found.model_copy(update={"card": found.card.model_copy(update={"form": None, "entry": None})})
    with pytest.raises(KitError, match=r"relion: benchmark\.toml has no table \[card\.form\]"):
        card.form_of(bare)
    with pytest.raises(KitError, match=r"relion: benchmark\.toml has no table \[card\.entry\]"):
        card.entry_of(bare)


def empty(value: Any) -> bool:
    """Whether a value, or one in it, is none, an empty text or an empty list."""
    if isinstance(value, dict):
        return not value or any(map(empty, value.values()))
    if isinstance(value, list):
        return not value or any(map(empty, value))
    return value is None or value == ""


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_of_the_list(name: str) -> None:
    listed = yaml.safe_load(card.entries([name]))
    assert len(listed) == 1
    entry = listed[0]
    assert {key: type(value) for key, value in entry.items()} == FORMAT
    assert not empty(entry)
    assert re.fullmatch(r"[\w\-. ]+", entry["name"], re.ASCII)
    assert entry["url"].startswith("https://")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", entry[key]) for key in ("date", "last_updated", "valid_date"))
    assert set(entry["ratings"]) == ASPECTS
    assert all(rating == {"rating": 0, "reason": "Not yet evaluated"} for rating in entry["ratings"].values())
    assert all(set(link) == {"name", "url"} for key in ("datasets", "results") for link in entry[key]["links"])
    assert entry["fair"] == dict.fromkeys(("reproducible", "benchmark_ready"), True)


def test_the_entries_of_all_are_one_file() -> None:
    text = kit("card", "--catalogue").stdout
    listed = yaml.safe_load(text)
    assert len({entry["name"] for entry in listed}) == len(NAMES)
    labels = [re.match(r"@\w+\{([^,]+),", cite) for entry in listed for cite in entry["cite"]]
    assert all(labels)
    assert len({label[1] for label in labels if label}) == len(labels)  # the list wants each label once
    assert "\t" not in text
    assert UNKNOWN in text
    assert "&id" not in text  # an alias


def test_metrics_of_an_entry() -> None:
    assert "map_truth_correlation" in card.entry("relion")["metrics"]
