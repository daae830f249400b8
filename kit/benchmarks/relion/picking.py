"""Compares pickers on the same micrographs: RELION's own, Topaz, crYOLO or any program that writes coordinates.

A set of picks is a dictionary of micrograph (the stem of its file's name) to positions (n, 2), x before y, in pixels of the
micrograph from its first pixel. A micrograph that is in it was looked at, whether something was found there or not: RELION,
EMAN and crYOLO leave a file for it, an empty one perhaps. One that is not in it was not, and counts for nothing. Files of
one picker are read by their suffix: RELION's and crYOLO's STAR files, EMAN's .box and crYOLO's .cbox, which give corners,
and Topaz's table.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import figures
from kit.benchmarks.relion.accuracy import Picks, Truth, against, coordinates
from kit.benchmarks.relion.phantom import Array
from kit.benchmarks.relion.project import find_job, said
from kit.benchmarks.relion.star import column, positive, read_star
from kit.core import tables
from kit.core.errors import KitError, plain
from kit.core.files import read_json, write_json
from kit.images.built import built_sif
from kit.images.render import load_image
from kit.runtimes import RUNTIMES

Set = dict[str, Array]
ENDINGS = ("_autopick", "_manualpick", "_pick", "_extract")  # what pickers add to the name of a micrograph
CONFIDENCE = 0.3  # crYOLO's default
LARGEST = 1e5  # angstrom: no particle, and no micrograph, is larger
FOLDER = "Picking"  # of a project: what other pickers left
ASKED = "micrographs.json"  # in a folder of it: the micrographs that were looked at
# Of Topaz: its pretrained network, and the score from which a position counts. A particle is brought to 22 pixels, which
# leaves its network (a receptive field of 91) room around it; no second pick lies within 0.8 of a particle.
NETWORK, THRESHOLD, PIXELS, APART = "resnet16_u64", 0.0, 22, 0.8


def star(path: Path) -> Set:
    return {name_of(path): coordinates(path)}


def box(path: Path) -> Set:
    """EMAN: the corner of a box and its sides."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    if any(len(row) < 4 for row in rows):
        raise ValueError("rows of X Y WIDTH HEIGHT are needed")
    numbers = np.array([row[:4] for row in rows], dtype=float).reshape(-1, 4)
    return {name_of(path): numbers[:, :2] + numbers[:, 2:] / 2}


def cbox(path: Path) -> Set:
    """crYOLO 1.8 and later: all boxes that its network found, of which its own programs show those of some confidence."""
    corner, size = (
        np.column_stack([np.ravel(column(path, "cryolo", label)) for label in labels])
        for labels in (("CoordinateX", "CoordinateY"), ("Width", "Height"))
    )
    sure = np.ravel(column(path, "cryolo", "Confidence")) >= CONFIDENCE
    return {name_of(path): (corner + size / 2)[sure]}


def table(path: Path) -> Set:
    """Topaz: one table of all micrographs."""
    import pandas as pd

    rows = pd.read_csv(path, sep="\t", dtype={"image_name": str}, keep_default_na=False)
    missing = {"image_name", "x_coord", "y_coord"} - set(rows)
    if missing:
        raise ValueError(f"no column {', '.join(sorted(missing))} of Topaz's table")
    return {str(name): group[["x_coord", "y_coord"]].to_numpy(float) for name, group in rows.groupby("image_name")}


READERS: dict[str, Callable[[Path], Set]] = {".star": star, ".box": box, ".cbox": cbox, ".txt": table}


def name_of(path: Path) -> str:
    name = path.stem
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def read(path: Path) -> Set:
    """The picks in a file, or in every file of a folder that has a known ending; KitError where there are none."""
    if not path.exists():
        raise KitError(f"{path}: no such file or folder")
    files = coordinate_files(path) if path.is_dir() else [path]
    if not files or files[0].suffix not in READERS:
        what = "holds no file of coordinates" if path.is_dir() else "not a file of coordinates"
        raise KitError(f"{path}: {what}; known endings: {', '.join(READERS)}")
    found: Set = {}
    for file in files:
        try:
            picks = {name: np.asarray(at, dtype=float).reshape(-1, 2) for name, at in READERS[file.suffix](file).items()}
        except (ValueError, KeyError, OSError) as error:  # of numpy, pandas and the text itself
            raise KitError(f"{file}: not coordinates as programs write them to {file.suffix}: {error}") from None
        for name, at in picks.items():
            if not np.isfinite(at).all():
                raise KitError(f"{file}: a coordinate in {name} is not a number")
            if name in found:
                raise KitError(f"{file}: {name} has coordinates in another file of {path}, too")
            found[name] = at
    return found


def coordinate_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in READERS and is_coordinates(file))


def is_coordinates(path: Path) -> bool:
    """RELION's folders hold other STAR files, and a list of micrographs that is named like coordinates."""
    if path.suffix == ".star":
        return path.stem.endswith(ENDINGS) and not path.stem.startswith("coords_suffix")
    return path.suffix != ".txt" or path.read_text(errors="replace").startswith("image_name\t")


def micrographs(project: Path) -> tuple[dict[str, Path], float]:
    """The micrographs of a project (name: path) and their pixel size (angstrom), by its CtfFind or MotionCorr jobs.

    Of a micrograph that several jobs have, and of the pixel size, the last job's counts.
    """
    files = in_order(project, "CtfFind/job*/micrographs_ctf.star") or in_order(
        project, "MotionCorr/job*/corrected_micrographs.star"
    )
    if not files:
        raise KitError(f"{project}: has no CtfFind or MotionCorr job with micrographs")
    found: dict[str, Path] = {}
    for file in files:
        blocks = read_star(file)
        table = next((block for block in blocks.values() if "rlnMicrographName" in block), None)
        if table is None:
            raise KitError(f"{file}: no label _rlnMicrographName in any block")
        found |= {Path(name).stem: project / name for name in np.ravel(table["rlnMicrographName"])}
    return found, pixel_size(files[-1], blocks)


def pixel_size(file: Path, blocks: Mapping[str, Any]) -> float:
    """Angstrom a pixel of the micrographs that a STAR file lists; before RELION 3.1 from detector and magnification."""

    def first(block: str, label: str) -> float | None:
        """None for a table without rows."""
        return next(iter(positive(file, block, label, blocks[block][label])), None)

    for name, block in blocks.items():
        if "rlnMicrographPixelSize" in block:
            size = first(name, "rlnMicrographPixelSize")
            if size:
                return size
        if "rlnDetectorPixelSize" in block and "rlnMagnification" in block:  # micrometre, at the specimen after division
            micrometres, magnification = (first(name, f"rln{label}") for label in ("DetectorPixelSize", "Magnification"))
            if micrometres and magnification:
                return micrometres * 1e4 / magnification
    raise KitError(f"{file}: says no pixel size: no label _rlnMicrographPixelSize in data_optics")


def in_order(project: Path, pattern: str) -> list[Path]:
    """The files or folders of jobs that a pattern names, by the number of their job."""
    return sorted(project.glob(pattern), key=lambda path: [int(number) for number in re.findall(r"/job(\d+)", str(path))])


def topaz(project: Path, diameter: float | None) -> Path:
    """Picks on the micrographs of a project by Topaz in its image; returns its table.

    `diameter` is that of a particle, in angstrom; None where generated data know it.

    It looks at every pixel when it normalises a micrograph, since a random part would give other picks each time.
    """
    diameter = known_diameter(project) if diameter is None else diameter
    paths, pixel = micrographs(project)
    diameter = checked(diameter)
    target = project / FOLDER / "topaz"
    scale = max(1, round(diameter / pixel / PIXELS))
    radius = max(1, round(APART * diameter / pixel / scale))
    image = load_image("topaz")
    built_sif(image)  # says how to get it
    target.mkdir(parents=True, exist_ok=True)
    container = RUNTIMES["apptainer"].command(image, [str(project)], {}, [], str(project))
    python = [*container, "/opt/venv/bin/python3", "-m"]
    output = target / "topaz.txt"
    partial = target / "topaz.partial"  # an ending that nothing reads
    shrink = ["-s", scale, "--sample", 1, "-o", target, *paths.values()]
    pick = ["-m", NETWORK, "-r", radius, "-t", THRESHOLD, "-x", scale, "-o", partial]
    pick += [target / path.name for path in paths.values()]
    for words in (["topaz.commands.preprocess", "-d", -1, *shrink], ["topaz.commands.extract", "-d", -1, *pick]):
        result = subprocess.run([*python, *map(str, words)], capture_output=True, text=True)
        if result.returncode:
            raise KitError(f"{words[0]} failed with {result.returncode}:\n{said(result.stderr)}")
    write_json(target / ASKED, sorted(paths))  # its table says nothing of one in which it found nothing
    partial.replace(output)
    return output


def of_project(project: Path) -> dict[str, Set]:
    """The picks of every AutoPick and ManualPick job of a project, and those that `topaz` left there, by folder."""
    folders = [*in_order(project, "ManualPick/job*/"), *in_order(project, "AutoPick/job*/")]
    folders += sorted((project / FOLDER).glob("*/"))
    found = {}
    for folder in folders:
        if coordinate_files(folder):  # a job that has not run has none; one whose files are damaged is not passed over
            asked = read_json(folder / ASKED) if (folder / ASKED).is_file() else []
            found[folder.relative_to(project).as_posix()] = {name: np.empty((0, 2)) for name in asked} | read(folder)
    return found


def known_diameter(project: Path) -> float:
    """The diameter of a particle in generated data, angstrom; KitError for others."""
    facts = project / "data/truth.json"
    if (project / "data").is_symlink() and not (project / "data").exists():
        raise KitError(f"{project / 'data'}: leads to {(project / 'data').readlink()}, which is not there")
    known = read_json(facts).get("spacing") if facts.is_file() else None
    if known is None:
        raise KitError(f"{project}: the diameter of a particle is not known; give it with --diameter, in angstrom")
    return float(known)


def checked(diameter: float) -> float:
    if not 0 < diameter < LARGEST:
        raise KitError(f"--diameter {diameter:g}: angstrom, above 0 and below {LARGEST:g}, are needed")
    return diameter


def named(texts: Iterable[str]) -> dict[str, Path]:
    """Picks by name from the NAME=PATH of an option; KitError for what is not that, or a name that is there twice."""
    found: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path or name in found:
            raise KitError(f"--with {text}: NAME=PATH is needed, each name once, cryolo=CBOX for example")
        found[name] = Path(path)
    return found


def compare(project: Path, others: Mapping[str, Path], diameter: float | None) -> dict[str, Any]:
    """Every set of picks of a project, and `others`, held against the truth of its data where that is known, and each other.

    `diameter` (angstrom) is that of a particle; a pick is of it within half of that. Draws picking.png into the project's
    figures/. KitError where there are no picks, or nobody says how large a particle is.
    """
    if not project.is_dir():
        raise KitError(f"{project}: no such folder")
    paths, pixel = micrographs(project)
    sets = of_project(project)
    for name, path in others.items():
        if name in sets:
            raise KitError(f"--with {name}={path}: {name} is a job of {project}; give it another name")
        if not path.exists() and (project / "default_pipeline.star").is_file():
            with contextlib.suppress(KitError):
                path = project / find_job(project, str(path))
        sets[name] = read(path)
    if not sets:
        raise KitError(f"{project}: has no picks; run an AutoPick job, or give --topaz or --with NAME=PATH")
    truth = Truth.read(project / "data") if (project / "data/truth.star").is_file() else None
    diameter = checked(known_diameter(project) if diameter is None else diameter)
    radius = diameter / 2 / pixel
    true = {name: truth.positions(name) for name in truth.micrographs} if truth else {}
    rows = []
    for name, found in sets.items():
        strangers = found.keys() - paths.keys()
        if strangers:
            known = ", ".join(sorted(paths)[:3])
            raise KitError(
                f"{name}: picks of {plain(sorted(strangers)[0])}, which is no micrograph of {project} ({known}, ...)"
            )
        row: dict[str, Any] = {"name": name, "micrographs": len(found), "picks": sum(len(at) for at in found.values())}
        if truth:
            row |= compared(found, true, radius)
        rows.append(row)
    pairs = []
    for one, other in itertools.combinations(sets, 2):
        held = compared(sets[one], sets[other], radius)
        pairs.append({"first": one, "second": other, "f1": held["f1"], "micrographs": held["compared"]})
    name = next((name for found in sets.values() for name in found), "")
    picture = ""
    if name and paths[name].is_file():  # a project that was moved may have left its micrographs behind
        shown = {text: found[name] for text, found in sets.items() if name in found}
        figures.draw_picks(project, "picking.png", paths[name], pixel, true.get(name), shown, diameter)
        picture = str(project / "figures/picking.png")
    return {"diameter": diameter, "pixel_size": pixel, "sets": rows, "pairs": pairs, "picture": picture}


def compared(found: Set, true: Set, radius: float) -> dict[str, Any]:
    """Picks held against others over the micrographs in which both looked, `compared` of them; nothing of none."""
    both = len(found.keys() & true.keys())
    held = against(found, true, radius) if both else None
    scores = held.as_dict() if held else dict.fromkeys(Picks(0, 0, 0, float("nan")).as_dict())
    return {**scores, "compared": both}


def shown(score: float | None, digits: int) -> str:
    return "-" if score is None else f"{score:.{digits}f}"


def report(result: Mapping[str, Any]) -> str:
    """The tables of `compare` as text."""
    lines = [f"a pick is of a particle within {result['diameter'] / 2:.0f} angstrom; errors of centres in pixels", ""]
    rows: list[list[object]] = []
    for row in result["sets"]:
        rows.append([row["name"], row["micrographs"], row["picks"], *[None] * 5])
        if "f1" in row:
            scores = (("precision", 3), ("recall", 3), ("f1", 3), ("centre_error", 1))
            rows[-1][3:] = [row["compared"], *(shown(row[key], digits) for key, digits in scores)]
    header = ("", "micrographs", "picks", "compared", "precision", "recall", "F1", "error")
    lines.append(tables.table(rows, "lrrrrrrr", header))
    if result["pairs"]:
        lines += ["", "agreement of each two (F1), over the micrographs in which both looked"]
        pairs = (
            ("", shown(pair["f1"], 3), pair["micrographs"], f"{pair['first']}, {pair['second']}") for pair in result["pairs"]
        )
        lines.append(tables.table(pairs, "lrrl"))
    return "\n".join(lines)
