"""The pictures that a run drew of itself, as data in the page: only what is a PNG by its own bytes, and not too large."""

from __future__ import annotations

import base64
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from kit.core.errors import KitError
from kit.core.files import open_plain
from kit.submissions.layout import MEGABYTE

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST, IN_ALL = 4 * MEGABYTE, 12 * MEGABYTE  # bytes of a picture, and of all pictures of a result
PIXELS = 40_000_000  # a small file can unpack into more than a browser has memory for
NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,99}\.png")

# What is to be seen on the figures that benchmarks draw, by file name, for those who cannot see them.
SHOWN = {
    "angles.png": "How many particles look from each direction, on a map of the sphere of equal areas",
    "calibration.png": "Calibration: how often a pixel is cloudy, over the probability that the network gives",
    "class2d.png": "Averages of the last 2D classification, fullest first, each with its share of the particles",
    "ctf.png": "Power spectra of micrographs with the fitted contrast transfer functions, and how they agree",
    "drift.png": "Drift of the middle of each micrograph, as it was made and as motion correction found it",
    "fsc.png": "Fourier shell correlation over resolution, with the levels by which the resolution is read",
    "iterations.png": "Resolution of each job by iteration, and the class distribution of each 3D classification",
    "map.png": "Middle slices of the final map, above those of the map that it is compared with",
    "masks.png": "Scenes: reflectance, temperature, the Bayesian cloud mask, and the mask of this run",
    "picking.png": "Particles that each step of picking found and missed",
    "picks.png": "A micrograph with a circle around each pick, and the true positions",
    "scaling.png": "Speed-up and efficiency over the number of ranks, and where the time of a step went",
    "sst.png": "Distribution of satellite minus buoy temperatures, with each cloud mask",
    "times.png": "Wall time of every stage, over all its attempts",
    "training.png": "Training and validation, epoch by epoch",
}


@dataclass(frozen=True)
class Figure:
    """A picture: its name, what it shows, and its bytes as a data URI; without those, why it is not shown."""

    name: str
    alt: str
    uri: str = ""
    problem: str = ""


def figures(root: Path) -> list[Figure]:
    """The pictures in the folder `figures` of a run, in the order of their names."""
    folder = root / "figures"
    if folder.is_symlink() or not folder.is_dir():
        return []
    names = sorted(name for name in os.listdir(folder) if NAME.fullmatch(name))
    left, found = IN_ALL, []
    for name in names:
        alt = SHOWN.get(name, f"The figure {name.removesuffix('.png')} that the run drew")
        try:
            content = png(root, f"figures/{name}", left)
        except KitError as error:
            found.append(Figure(name, alt, problem=str(error)))
            continue
        left -= len(content)
        found.append(Figure(name, alt, Markup("data:image/png;base64,") + Markup(base64.b64encode(content).decode())))
    return found


def png(root: Path, name: str, left: int = IN_ALL) -> bytes:
    """The bytes of a picture of at most `left` bytes; KitError for what is no PNG, too large, or no plain file."""
    most = min(LARGEST, left)
    with open_plain(root, name) as file:
        content = file.read(most + 1)
    if not content.startswith(SIGNATURE) or content[12:16] != b"IHDR" or len(content) < 33:
        raise KitError(f"{name}: is no PNG, and is not shown")
    width, height = struct.unpack(">II", content[16:24])
    if len(content) > most or width * height > PIXELS:
        raise KitError(f"{name}: is too large to be shown ({width} x {height} pixels; {most} bytes are left for it)")
    return content
