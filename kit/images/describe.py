"""What recipes and built images say of themselves, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal

from kit.core.tables import table
from kit.images.recipes import RECIPES


def as_json(tested: bool = False) -> dict[str, Any]:
    """Every image, or those that the tests need: description, device, and the known values of its arguments."""
    return {
        name: {
            "description": recipe.DESCRIPTION,
            "device": recipe.DEVICE,
            "tested": recipe.TESTED,
            "arguments": {key: list(argument.known) for key, argument in recipe.ARGUMENTS.items()},
        }
        for name, recipe in RECIPES.items()
        if recipe.TESTED or not tested
    }


def report(tested: bool = False) -> str:
    """The same as text, a line for each image and for each argument."""
    lines = []
    for name, said in as_json(tested).items():
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
