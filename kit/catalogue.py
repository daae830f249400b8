"""What there is to choose from: benchmarks with their sizes, sites, images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.benchmark import Benchmark, benchmark_names, load_benchmark
from kit.core.errors import KitError
from kit.core.tables import table
from kit.images.recipes import RECIPES
from kit.site import load_site, site_files


@dataclass(frozen=True)
class Catalogue:
    """Benchmarks by name; descriptions of sites and of images by name."""

    benchmarks: dict[str, Benchmark]
    sites: dict[str, str]
    images: dict[str, str]


def catalogue() -> Catalogue:
    """Everything that this kit knows; KitError for a file that cannot be read."""
    return Catalogue(
        benchmarks={name: load_benchmark(name) for name in benchmark_names()},
        sites={name: described(name) for name in site_files()},
        images={name: recipe.DESCRIPTION for name, recipe in RECIPES.items()},
    )


def described(site: str) -> str:
    """What a site is; a file of the user's that cannot be read hides none of the others."""
    try:
        return load_site(site).description
    except KitError:
        return f"cannot be used: kit site check {site}"


def as_json(found: Catalogue) -> dict[str, Any]:
    sizes = {name: {s: v.description for s, v in b.sizes.items()} for name, b in found.benchmarks.items()}
    return {"benchmarks": sizes, "sites": found.sites, "images": found.images}


def report(found: Catalogue) -> str:
    """The same as text, a line each."""
    rows = []
    for name, benchmark in found.benchmarks.items():
        rows.append(("benchmark", name, benchmark.title))
        rows += [("  size", size, value.description) for size, value in benchmark.sizes.items()]
    rows += [("site", name, text) for name, text in found.sites.items()]
    rows += [("image", name, text) for name, text in found.images.items()]
    return table(rows, "lll")
