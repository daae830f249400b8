"""Checks the input of a job before it starts: RELION finds a fault in its data after hours, or never."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion.star import positive, read_star
from kit.core.errors import KitError, plain

MAPS = (".mrc", ".mrcs", ".map")
CTF = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
# Which column of which table names files, as NUMBER@FILE or FILE. Before RELION 3.1 a file's one table is `images` or has
# no name, and is told by its column: the first of these that it has.
FILES = {"particles": "rlnImageName", "movies": "rlnMicrographMovieName", "micrographs": "rlnMicrographName"}
UNNAMED = ("", "images")
# Of a detector's table: spatial frequency (1/pixel) and its modulation transfer there.
MTF = ("rlnResolutionInversePixel", "rlnMtfValue")
WORDS = re.compile(r"other_args$|qsub|queue|.*_exe$")  # options that hold words, or a program


def check_inputs(directory: Path, options: dict[str, str], commands: Sequence[str]) -> list[str]:
    """KitError for everything that is wrong with the files that a job of the project in `directory` is to read.

    They are those of its options that its commands name: a mask or an MTF file that is set but switched off is not read.
    Returns what is odd about them, and allowed.
    """
    words = {word for command in commands for word in shlex.split(command.replace("`", ""))}
    text = "\n".join(commands)
    found: list[str] = []
    odd: list[str] = []
    for option, value in options.items():
        if not value or WORDS.match(option) or not ("/" in value or "." in value):
            continue
        if " " in value.strip() and value in text and is_path(option, value):
            found.append(f"{option} = '{plain(value)}': RELION splits its commands at spaces; rename the file or its folder")
        elif value in words and not is_number(value):
            found += problems(directory, option, value, options.get("do_ctf_correction") == "Yes", odd)
    if found:
        raise KitError("\n".join(found))
    return odd


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_path(option: str, value: str) -> bool:
    """Whether the text of an option is a path: by the option's name, or by how it ends (`7.5 degrees` is none)."""
    return bool(
        re.match(r"(fn|in|input|star|mtf|coords|opt)_|.*_(file|files|dir|star)$", option) or re.search(r"\.\w{2,4}$", value)
    )


def problems(directory: Path, option: str, value: str, ctf: bool, odd: list[str]) -> Iterator[str]:
    """What is wrong with the file, or the files of the pattern, that an option names; `odd` takes what is allowed."""
    files = sorted(directory.glob(value)) if any(mark in value for mark in "*?[") else [directory / value]
    if not files:
        yield f"{directory}: {option} = {value} matches no file"
    shapes: dict[tuple[int, ...], Path] = {}
    pixels: dict[float, Path] = {}
    for path in files:
        if not path.is_file():
            yield f"{path}: missing, but {option} names it"
        elif path.stat().st_size == 0:
            yield f"{path}: empty, but {option} names it"
        elif "mtf" in option:
            yield from problems_of_mtf(path)
        elif path.name.endswith((".star", ".star.gz")):
            try:
                yield from problems_of_star(directory, path, ctf, odd)
            except KitError as error:
                yield str(error)
        elif path.suffix in MAPS:
            try:
                shape, pixel = header(path)
            except KitError as error:
                yield str(error)
                continue
            shapes.setdefault(shape[-2:], path)
            if pixel > 0:
                pixels.setdefault(round(pixel, 3), path)
        if " " in os.path.relpath(path, directory) and " " not in value:
            yield f"{path}: RELION splits names at spaces; rename it"
    for what, kinds in (("image sizes", shapes), ("pixel sizes", pixels)):
        if len(kinds) > 1:
            some = "; ".join(f"{kind} in {path}" for kind, path in list(kinds.items())[:3])
            yield f"{directory}: {option} = {value}: {what} are mixed: {some}"


def problems_of_mtf(path: Path) -> Iterator[str]:
    """What is wrong with the file of a detector's modulation transfer function."""
    try:
        blocks = read_star(path)
    except KitError as error:
        yield str(error)
        return
    if not any(all(label in block for label in MTF) for block in blocks.values()):
        yield f"{path}: no MTF: a STAR file with the labels _{' and _'.join(MTF)} is needed"


def problems_of_star(directory: Path, star: Path, ctf: bool, odd: list[str]) -> Iterator[str]:
    """What is wrong with a STAR file of particles, micrographs or movies, and with the files that it names."""
    blocks = read_star(star)
    if not blocks and not star.name.startswith("coords_suffix"):  # which holds a path and no table
        yield f"{star}: not a STAR file: it has no data_ block"
    optics = blocks.get("optics")
    if optics is not None and "rlnImagePixelSize" in optics:
        try:
            pixels = positive(star, "optics", "rlnImagePixelSize", optics["rlnImagePixelSize"])
        except KitError as error:
            yield str(error)
            pixels = []
        sizes = sorted({round(size, 3) for size in pixels})
        if len(sizes) > 1:
            listed = ", ".join(map(str, sizes))
            odd.append(f"{star}: _rlnImagePixelSize of the optics groups are mixed: {listed} angstrom; RELION merges them")
    if optics is not None and "rlnMtfFileName" in optics:
        for name in sorted({str(name) for name in np.ravel(optics["rlnMtfFileName"])} - {""}):
            path = directory / name
            yield from (
                problems_of_mtf(path)
                if path.is_file()
                else [f"{star}: _rlnMtfFileName names {plain(name)}, which is not there"]
            )
    tables = {name: blocks[name] for name in FILES if name in blocks}
    for block in (blocks[name] for name in UNNAMED if name in blocks):
        kind = next((name for name, label in FILES.items() if label in block), None)
        if kind:
            tables.setdefault(kind, block)
    for name, table in tables.items():
        label = FILES[name]
        needed = [label, *(CTF if ctf and name == "particles" else ())]
        missing = [wanted for wanted in needed if wanted not in table]
        yield from (f"{star}: no label _{wanted} in data_{name}" for wanted in missing)
        if label not in missing:
            yield from problems_of_images(directory, star, label, table[label])


def problems_of_images(directory: Path, star: Path, label: str, names: Any) -> Iterator[str]:
    """Of the files that a column names: those that are not there, cut short, or hold fewer images than are asked of them."""
    highest: dict[str, int] = {}
    for name in [names] if isinstance(names, str) else names:
        number, at, file = str(name).rpartition("@")
        if at and not number.isdecimal():
            yield f"{star}: _{label} names '{plain(str(name))}', where NUMBER@FILE is needed"
            return
        highest[file] = max(highest.get(file, 0), int(number) if at else 0)
    for file, largest in highest.items():
        path = directory / file
        if " " in file:
            yield f"{star}: _{label} names '{plain(file)}': RELION splits names at spaces; rename the file or its folder"
        elif not path.is_file():
            yield f"{star}: _{label} names {plain(file)}, which is not there"
        elif path.suffix in MAPS:
            try:
                shape, _ = header(path)
            except KitError as error:
                yield f"{error} (_{label} of {star} names it)"
                continue
            held = shape[0] if len(shape) == 3 else 1
            if largest > held:
                yield f"{star}: _{label} names image {largest} of {plain(file)}, which holds {held}"


def header(path: Path) -> tuple[tuple[int, ...], float]:
    """Shape and pixel size (angstrom; 0 where the file does not say) of an MRC file; KitError when it is cut short."""
    import mrcfile

    try:
        with mrcfile.mmap(path) as file:
            return tuple(file.data.shape), float(file.voxel_size.x)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: cut short, or no MRC file: {error}") from None
