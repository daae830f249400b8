"""What recipes and built images say of themselves, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.filesize import decimal

from kit.benchmark import load_benchmark
from kit.core.tables import table
from kit.images.recipes import RECIPES


def chosen(tested: bool = False, benchmark: str | None = None) -> list[str]:
    """The names of all images, or of those that the tests need, or that a benchmark runs on: its default comes first."""
    known = list(RECIPES) if benchmark is None else list(load_benchmark(benchmark).images)
    return [name for name in known if RECIPES[name].TESTED or not tested]


def as_json(names: Iterable[str]) -> dict[str, Any]:
    """Images by name: description, device, and the known values of their arguments."""
    return {
        name: {
            "description": RECIPES[name].DESCRIPTION,
            "device": RECIPES[name].DEVICE,
            "tested": RECIPES[name].TESTED,
            "arguments": {key: list(argument.known) for key, argument in RECIPES[name].ARGUMENTS.items()},
        }
        for name in names
    }


def report(names: Iterable[str]) -> str:
    """The same as text, a line for each image and for each argument."""
    lines = []
    for name, said in as_json(names).items():
        lines.append(f"{name:<20} {said['device']:<5} {said['description']}")
        arguments = RECIPES[name].ARGUMENTS.items()
        lines += [f"  --arg {key}=...  {one.help} [default: {one.known[0]}]" for key, one in arguments]
    return "\n".join(lines)


def inspection(facts: Mapping[str, Any]) -> str:
    """What `inspect` found of a built image, as text."""
    lines = [
        f"{facts['name']} {facts['version']} ({facts['format']})",
        f"digest  {facts['digest']}",
        f"recipe  {facts['recipe']}",
        f"size    {decimal(facts['size'])}",
        f"holds   {len(facts['debian'])} Debian and {len(facts['python'])} Python packages (kit image sbom lists them)",
        f"        from source: {', '.join(facts['sources']) or 'nothing'}",
    ]
    lines += [f"label   {key} = {value}" for key, value in facts["labels"].items()]
    layers = [
        ("layer", decimal(layer["bytes"]), f"{layer['bytes'] / facts['size']:.0%}", " ".join(layer["by"].split())[:80])
        for layer in facts["layers"]
    ]
    return "\n".join([*lines, table(layers, "lrrl")] if layers else lines)
