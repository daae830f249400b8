"""Pickers side by side on the same micrographs: RELION's own, Topaz, crYOLO or whatever wrote coordinates.

A set of picks is a dictionary of micrograph (the stem of its file's name) to positions (n, 2), x before y, in pixels of the
micrograph from its first pixel. Files of one picker are read by their suffix: RELION's and crYOLO's STAR files, EMAN's .box
and crYOLO's .cbox, which give corners, and Topaz's table.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion import figures
from kit.benchmarks.relion.files import column
from kit.benchmarks.relion.phantom import Array
from kit.benchmarks.relion.project import said
from kit.benchmarks.relion.score import Truth, against
from kit.errors import KitError
from kit.image import built_sif, load_image
from kit.model import read_json, read_star
from kit.runtimes import RUNTIMES

Set = dict[str, Array]
ENDINGS = ("_autopick", "_manualpick", "_pick", "_extract")  # what pickers add to the name of a micrograph
CONFIDENCE = 0.3  # crYOLO's default
FOLDER = "Picking"  # of a project: what other pickers left
# Of Topaz: its pretrained network, and the score from which a position counts. A particle is brought to 22 pixels, which
# leaves its network (a receptive field of 91) room around it; no second pick lies within 0.8 of a particle.
NETWORK, THRESHOLD, PIXELS, APART = "resnet16_u64", 0.0, 22, 0.8


def star(path: Path) -> Set:
    for block in read_star(path).values():
        if "rlnCoordinateX" in block:
            return {name_of(path): np.column_stack([np.ravel(block[f"rlnCoordinate{axis}"]) for axis in "XY"])}
    raise KitError(f"{path}: no label _rlnCoordinateX in any block")


def box(path: Path) -> Set:
    """EMAN: the corner of a box and its sides."""
    try:
        table = np.loadtxt(path, ndmin=2)
        return {name_of(path): table[:, :2] + table[:, 2:4] / 2}
    except (ValueError, IndexError) as error:
        raise KitError(f"{path}: not an EMAN box file, of rows X Y WIDTH HEIGHT: {error}") from None


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

    rows = pd.read_csv(path, sep="\t")
    missing = {"image_name", "x_coord", "y_coord"} - set(rows)
    if missing:
        raise KitError(f"{path}: no column {', '.join(sorted(missing))}, so it is no table of Topaz")
    return {str(name): group[["x_coord", "y_coord"]].to_numpy(float) for name, group in rows.groupby("image_name")}


READERS: dict[str, Callable[[Path], Set]] = {".star": star, ".box": box, ".cbox": cbox, ".txt": table}


def name_of(path: Path) -> str:
    name = path.stem
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def read(path: Path) -> Set:
    """The picks in a file, or in every file of a folder that has a known ending; KitError where there are none."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in READERS and is_coordinates(file))
    elif path.suffix not in READERS or not path.is_file():
        raise KitError(f"{path}: not a file of coordinates; known endings: {', '.join(READERS)}")
    found: Set = {}
    for file in files:
        found.update(READERS[file.suffix](file))
    if not found:
        raise KitError(f"{path}: holds no file of coordinates; known endings: {', '.join(READERS)}")
    return found


def is_coordinates(path: Path) -> bool:
    """RELION's folders hold other STAR files, and a list of micrographs that is named like coordinates."""
    if path.suffix == ".star":
        return path.stem.endswith(ENDINGS) and not path.stem.startswith("coords_suffix")
    return path.suffix != ".txt" or path.read_text(errors="replace").startswith("image_name\t")


def micrographs(project: Path) -> tuple[dict[str, Path], float]:
    """The micrographs of a project (name: path) and their pixel size (angstrom), by its last CtfFind or MotionCorr."""
    files = [*sorted(project.glob("CtfFind/job*/micrographs_ctf.star"))]
    files = files or sorted(project.glob("MotionCorr/job*/corrected_micrographs.star"))
    if not files:
        raise KitError(f"{project}: has no CtfFind or MotionCorr job with micrographs")
    names = np.ravel(column(files[-1], "micrographs", "rlnMicrographName"))
    pixel = float(np.ravel(column(files[-1], "optics", "rlnMicrographPixelSize"))[0])
    return {Path(name).stem: project / name for name in names}, pixel


def topaz(project: Path, diameter: float) -> Path:
    """Picks on the micrographs of a project by Topaz in its image; returns its table. `diameter` in angstrom.

    It looks at every pixel when it normalises a micrograph, since a random part would give other picks each time.
    """
    paths, pixel = micrographs(project)
    target = project / FOLDER / "topaz"
    target.mkdir(parents=True, exist_ok=True)
    scale = max(1, round(diameter / pixel / PIXELS))
    radius = max(1, round(APART * diameter / pixel / scale))
    image = load_image("topaz")
    built_sif(image)  # says how to get it
    container = RUNTIMES["apptainer"].command(image, [str(project)], {}, [], str(project))
    python = [*container, "/opt/venv/bin/python3", "-m"]
    output = target / "topaz.txt"
    shrink = f"-d -1 -s {scale} --sample 1 -o {target}"
    pick = f"-d -1 -m {NETWORK} -r {radius} -t {THRESHOLD} -x {scale} -o {output}"
    for words in (
        ["topaz.commands.preprocess", *shrink.split(), *map(str, paths.values())],
        ["topaz.commands.extract", *pick.split(), *(str(target / path.name) for path in paths.values())],
    ):
        result = subprocess.run([*python, *words], capture_output=True, text=True)
        if result.returncode:
            raise KitError(f"{words[0]} failed with {result.returncode}:\n{said(result.stderr)}")
    return output


def of_project(project: Path) -> dict[str, Set]:
    """The picks of every AutoPick and ManualPick job of a project, and those that `topaz` left there, by folder."""
    folders = [*sorted(project.glob("ManualPick/job*/")), *sorted(project.glob("AutoPick/job*/"))]
    folders += sorted((project / FOLDER).glob("*/"))
    found = {}
    for folder in folders:
        try:
            found[folder.relative_to(project).as_posix()] = read(folder)
        except KitError:
            continue  # a job that has not run
    return found


def known_diameter(project: Path) -> float:
    """The diameter of a particle in generated data, angstrom; KitError for others."""
    facts = project / "data/truth.json"
    known = read_json(facts).get("spacing") if facts.is_file() else None
    if known is None:
        raise KitError(f"{project}: how large is a particle? --diameter says it, in angstrom")
    return float(known)


def compare(project: Path, others: Mapping[str, Path], diameter: float | None) -> dict[str, Any]:
    """Every set of picks of a project, and `others`, held against the truth of its data where that is known, and each other.

    `diameter` (angstrom) is that of a particle; a pick is of it within half of that. Draws picking.png into the project's
    figures/. KitError where there are no picks, or nobody says how large a particle is.
    """
    sets = {**of_project(project), **{name: read(path) for name, path in others.items()}}
    if not sets:
        raise KitError(f"{project}: has no picks; run an AutoPick job, or give --topaz or --with NAME=PATH")
    paths, pixel = micrographs(project)
    truth = Truth.read(project / "data") if (project / "data/truth.star").is_file() else None
    diameter = diameter or known_diameter(project)
    radius = diameter / 2 / pixel
    true = {name: truth.positions(name) for name in truth.micrographs} if truth else {}
    rows = []
    for name, found in sets.items():
        strangers = found.keys() - paths.keys()
        if strangers:
            known = ", ".join(sorted(paths)[:3])
            raise KitError(f"{name}: picks of {sorted(strangers)[0]}, which is no micrograph of {project} ({known}, ...)")
        row: dict[str, Any] = {"name": name, "micrographs": len(found), "picks": sum(len(at) for at in found.values())}
        if truth:
            row |= against(found, true, radius).as_dict()
        rows.append(row)
    pairs = [
        {"first": one, "second": other, "f1": against(sets[one], sets[other], radius).f1}
        for one, other in itertools.combinations(sets, 2)
    ]
    name = next(iter(next(iter(sets.values()))))
    shown = {text: found[name] for text, found in sets.items() if name in found}
    figures.draw_picks(project, "picking.png", paths[name], pixel, true.get(name), shown, diameter)
    return {"diameter": diameter, "pixel_size": pixel, "sets": rows, "pairs": pairs}


def report(result: Mapping[str, Any]) -> str:
    """The tables of `compare` as text."""
    lines = [f"a pick is of a particle within {result['diameter'] / 2:.0f} angstrom; errors of centres in pixels", ""]
    lines.append(f"{'':<24} {'micrographs':>11} {'picks':>7} {'precision':>9} {'recall':>7} {'F1':>6} {'error':>6}")
    for row in result["sets"]:
        line = f"{row['name']:<24} {row['micrographs']:>11} {row['picks']:>7}"
        if "f1" in row:
            line += f" {row['precision']:>9.3f} {row['recall']:>7.3f} {row['f1']:>6.3f} {row['centre_error']:>6.1f}"
        lines.append(line)
    if result["pairs"]:
        lines += ["", "agreement of each two (F1)"]
        lines += [f"  {pair['f1']:.3f}  {pair['first']}, {pair['second']}" for pair in result["pairs"]]
    return "\n".join(lines)
