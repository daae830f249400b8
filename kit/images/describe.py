"""What recipes and built images say of themselves, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.images.recipes import RECIPES


def arguments() -> dict[str, Any]:
    """The arguments of each image's recipe: {image: {key: Argument}}."""
    return {name: getattr(recipe, "ARGUMENTS", {}) for name, recipe in RECIPES.items()}


def as_json() -> dict[str, Any]:
    """Description and known values of the arguments of every image."""
    return {
        name: {"description": RECIPES[name].DESCRIPTION, "arguments": {k: list(a.known) for k, a in known.items()}}
        for name, known in arguments().items()
    }


def report() -> str:
    """The same as text, a line for each image and for each argument."""
    lines = []
    for name, known in arguments().items():
        lines.append(f"{name:<20} {RECIPES[name].DESCRIPTION}")
        lines += [f"  --arg {key}=...  {one.help} [default: {one.known[0]}]" for key, one in known.items()]
    return "\n".join(lines)


def inspection(facts: Mapping[str, Any]) -> str:
    """What `inspect` found of a built image, as text."""
    lines = [
        f"{facts['name']} {facts['version']} ({facts['format']})",
        f"digest  {facts['digest']}",
        f"recipe  {facts['recipe']}",
        f"size    {facts['size'] / 1e6:.0f} MB",
        f"holds   {len(facts['debian'])} Debian and {len(facts['python'])} Python packages (kit image sbom lists them)",
        f"        from source: {', '.join(facts['sources']) or 'nothing'}",
    ]
    lines += [f"label   {key} = {value}" for key, value in facts["labels"].items()]
    for layer in facts["layers"]:
        by = " ".join(layer["by"].split())
        lines.append(f"layer   {layer['bytes'] / 1e6:6.0f} MB {100 * layer['bytes'] / facts['size']:3.0f} %  {by[:80]}")
    return "\n".join(lines)
