"""What there is to choose from: benchmarks with their sizes, sites, images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.benchmark import Benchmark, benchmark_names, load_benchmark
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
        sites={name: load_site(name).description for name in site_files()},
        images={name: recipe.DESCRIPTION for name, recipe in RECIPES.items()},
    )


def as_json(found: Catalogue) -> dict[str, Any]:
    sizes = {name: {s: v.description for s, v in b.sizes.items()} for name, b in found.benchmarks.items()}
    return {"benchmarks": sizes, "sites": found.sites, "images": found.images}


def report(found: Catalogue) -> str:
    """The same as text, a line each."""
    lines = []
    for name, benchmark in found.benchmarks.items():
        lines.append(f"benchmark  {name:<14} {benchmark.title}")
        lines += [f"  size     {size:<14} {value.description}" for size, value in benchmark.sizes.items()]
    for kind, table in (("site", found.sites), ("image", found.images)):
        lines += [f"{kind:<10} {name:<14} {text}" for name, text in table.items()]
    return "\n".join(lines)
