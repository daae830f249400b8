"""What a job is about to read, looked at before it starts: RELION finds a fault in its data after hours, or never."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit.errors import KitError
from kit.model import read_star

MAPS = (".mrc", ".mrcs", ".map")
CTF = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
# Which column of which table names files, as NUMBER@FILE or FILE.
FILES = {"particles": "rlnImageName", "micrographs": "rlnMicrographName", "movies": "rlnMicrographMovieName"}


def check_inputs(directory: Path, options: dict[str, str], commands: Sequence[str]) -> None:
    """KitError for everything that is wrong with the files that a job of the project in `directory` is to read.

    They are those of its options that its commands name: a mask or an MTF file that is set but switched off is not read.
    """
    words = {word for command in commands for word in shlex.split(command.replace("`", ""))}
    found: list[str] = []
    for option, value in options.items():
        if value and value in words and not option.endswith("_exe") and ("/" in value or "." in value):
            try:
                float(value)
            except ValueError:
                found += problems(directory, option, value, options.get("do_ctf_correction") == "Yes")
    if found:
        raise KitError("\n".join(found))


def problems(directory: Path, option: str, value: str, ctf: bool) -> Iterator[str]:
    """What is wrong with the file, or the files of the pattern, that an option names."""
    files = sorted(directory.glob(value)) if any(mark in value for mark in "*?[") else [directory / value]
    if not files:
        yield f"{directory}: {option} = {value} matches no file"
    shapes: dict[tuple[int, ...], Path] = {}
    pixels: dict[float, Path] = {}
    for path in files:
        if not path.is_file():
            yield f"{path}: missing, but {option} names it"
        elif path.suffix == ".star":
            yield from problems_of_star(directory, path, ctf)
        elif path.suffix in MAPS:
            try:
                shape, pixel = header(path)
            except KitError as error:
                yield str(error)
                continue
            shapes.setdefault(shape[-2:], path)
            if pixel > 0:
                pixels.setdefault(round(pixel, 3), path)
        elif path.stat().st_size == 0:
            yield f"{path}: empty, but {option} names it"
    for what, kinds in (("image sizes", shapes), ("pixel sizes", pixels)):
        if len(kinds) > 1:
            some = "; ".join(f"{kind} in {path}" for kind, path in list(kinds.items())[:3])
            yield f"{directory}: {option} = {value}: {what} are mixed: {some}"


def problems_of_star(directory: Path, star: Path, ctf: bool) -> Iterator[str]:
    """What is wrong with a STAR file of particles, micrographs or movies, and with the files that it names."""
    blocks = read_star(star)
    optics = blocks.get("optics")
    if optics is not None and "rlnImagePixelSize" in optics:
        sizes = sorted({round(float(size), 3) for size in np.ravel(optics["rlnImagePixelSize"])})
        if len(sizes) > 1:
            yield f"{star}: _rlnImagePixelSize of the optics groups are mixed: {', '.join(map(str, sizes))} angstrom"
    for name, label in FILES.items():
        table = blocks.get(name)
        if table is None:
            continue
        needed = [label, *(CTF if ctf and name == "particles" else ())]
        missing = [wanted for wanted in needed if wanted not in table]
        yield from (f"{star}: no label _{wanted} in data_{name}" for wanted in missing)
        if label not in missing:
            yield from problems_of_images(directory, star, label, table[label])


def problems_of_images(directory: Path, star: Path, label: str, names: Any) -> Iterator[str]:
    """Of the files that a column names: those that are not there, cut short, or hold fewer images than are asked of them."""
    highest: dict[str, int] = {}
    for name in [names] if isinstance(names, str) else names:
        number, at, file = name.rpartition("@")
        highest[file] = max(highest.get(file, 0), int(number) if at else 0)
    for file, number in highest.items():
        path = directory / file
        if not path.is_file():
            yield f"{star}: _{label} names {file}, which is not there"
        elif path.suffix in MAPS:
            try:
                shape, _ = header(path)
            except KitError as error:
                yield f"{error} (_{label} of {star} names it)"
                continue
            held = shape[0] if len(shape) == 3 else 1
            if number > held:
                yield f"{star}: _{label} names image {number} of {file}, which holds {held}"


def header(path: Path) -> tuple[tuple[int, ...], float]:
    """Shape and pixel size (angstrom; 0 where the file does not say) of an MRC file; KitError when it is cut short."""
    import mrcfile

    try:
        with mrcfile.mmap(path) as file:
            return tuple(file.data.shape), float(file.voxel_size.x)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: cut short, or no MRC file: {error}") from None
