"""Completions for the shell. Each function imports what it needs when it is called.

A file that cannot be read offers nothing: an error in the middle of typing helps nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import typer

from kit.core.errors import KitError

P = ParamSpec("P")


def quiet(names: Callable[P, list[str]]) -> Callable[P, list[str]]:
    @functools.wraps(names)
    def offered(*args: P.args, **kwargs: P.kwargs) -> list[str]:
        try:
            return names(*args, **kwargs)
        except (KitError, OSError):
            return []

    return offered


@quiet
def benchmarks() -> list[str]:
    from kit.benchmark import benchmark_names

    return benchmark_names()


@quiet
def scalable() -> list[str]:
    from kit.benchmark import benchmark_names, load_benchmark

    return [name for name in benchmark_names() if load_benchmark(name).scaling]


@quiet
def tunable() -> list[str]:
    from kit.benchmark import names_to_tune

    return names_to_tune()


def chosen(ctx: typer.Context) -> list[str]:
    """The benchmark of this command line, all where none was given yet."""
    # An option that still waits for its value ends the parser's work, and leaves the arguments where they are.
    candidates = [ctx.params.get("benchmark"), *ctx.args, ctx.parent.info_name if ctx.parent else None]
    known = benchmarks()
    return next(([name] for name in candidates if name in known), known)


@quiet
def sizes(ctx: typer.Context) -> list[str]:
    from kit.benchmark import load_benchmark

    return list(dict.fromkeys(size for name in chosen(ctx) for size in load_benchmark(name).sizes))


@quiet
def images_of_benchmark(ctx: typer.Context) -> list[str]:
    from kit.benchmark import load_benchmark

    return list(dict.fromkeys(image for name in chosen(ctx) for image in load_benchmark(name).images))


@quiet
def images() -> list[str]:
    from kit.images.recipes import RECIPES

    return list(RECIPES)


@quiet
def sites() -> list[str]:
    from kit.site import site_files

    return list(site_files())


@quiet
def partitions(ctx: typer.Context) -> list[str]:
    from kit.site import load_site

    return list(load_site(ctx.params.get("site") or "local").partitions)


@quiet
def data_sets() -> list[str]:
    from kit.data.published import data_sets as published

    return [data_set.full_name for data_set in published()]
