"""How well two runs agree: in their maps, and in the class of every particle. Class numbers mean nothing, so classes are
matched first, by their maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.relion import maps
from kit.benchmarks.relion.accuracy import assign, stems
from kit.benchmarks.relion.judge import DIAMETER, last_job
from kit.benchmarks.relion.maps import read_map
from kit.benchmarks.relion.results import last
from kit.benchmarks.relion.star import column, positive, read_star
from kit.benchmarks.relion.workflow import folders
from kit.core.errors import KitError
from kit.core.files import read_json

Labels = NDArray[np.int64]
PERMUTATIONS = 9999


def last_map(directory: Path) -> Path:
    """The map of the last refinement of a run."""
    return directory / last_job(folders(directory), "refine3d") / "run_class001.mrc"


def pair(first: Path, second: Path) -> tuple[dict[str, float], list[str]]:
    """How alike two runs are: as numbers that repeats have as well, higher for more alike, and what is to be said of them.

    `map_fsc`: FSC of the refined maps, mean over shells 1 to the last that both resolve. Maps of one reference lie alike.
    Those that began with an initial model of their own are aligned first: its orientation and its hand are chance.
    `class_agreement`: the share of the particles of both Class3D jobs that are in matched classes.
    """
    numbers, sentences = {}, []
    if all(last_job(folders(directory), "postprocess") for directory in (first, second)):
        shell = min(int(read_json(directory / "evaluation.json")["postprocess"]["shell"]) for directory in (first, second))
        (one, pixel), (two, _) = (read_map(last_map(directory)) for directory in (first, second))
        if own_model(first):
            two = maps.align(two, maps.low_pass(one, shell), DIAMETER / pixel).aligned
            mask = maps.sphere(len(one), DIAMETER / pixel)
            one, two = one * mask, two * mask
        numbers["map_fsc"] = float(maps.fsc(one, two)[1 : shell + 1].mean())
    if all("class3d" in folders(directory) for directory in (first, second)):
        labels = class_labels(first, second)
        numbers["class_agreement"] = float((labels[0] == labels[1]).mean())
        count = max(int(of.max()) for of in labels) + 1
        shares = [" ".join(f"{n / len(of):.3f}" for n in np.bincount(of, minlength=count)) for of in labels]
        p = permutation_test(*labels)
        verdict = "differ by more than chance explains" if p < 0.01 else "do not differ by more than chance explains"
        sentences.append(
            f"Class distributions over {len(labels[0])} particles, classes matched by their maps: {shares[0]} and "
            f"{shares[1]}; they {verdict} (permutation test, p = {p:.2g})."
        )
    return numbers, sentences


def own_model(run: Path) -> bool:
    """Whether a run made its initial model itself."""
    return "initialmodel" in folders(run)


def class_labels(first: Path, second: Path) -> tuple[Labels, Labels]:
    """The class (from 0) of every particle that both Class3D jobs hold, numbered as in the first run."""
    own, other = (directory / folders(directory)["class3d"] for directory in (first, second))
    stars = [last(job, "data").files["data"] for job in (own, other)]
    one, two = (read_star(star)["particles"] for star in stars)
    left, right = same_particles(one, two, radius=DIAMETER / 2 / original_pixel(stars[0]))
    number = matched_classes(own, other, aligned=own_model(first))
    labels = [table["rlnClassNumber"].to_numpy(dtype=np.int64) - 1 for table in (one, two)]
    return labels[0][left], number[labels[1][right]]


def matched_classes(first: Path, second: Path, aligned: bool) -> Labels:
    """The class of the first Class3D job that each of the second is, by the correlation of their maps in a sphere.

    Where they are to be aligned, one alignment serves all classes of a job, which lie alike: that of the largest.
    """
    from scipy.optimize import linear_sum_assignment

    shell = resolved_shell(first)
    one, two = class_maps(first), class_maps(second)
    pixel = read_map(one[0])[1]
    sets = [[maps.low_pass(read_map(path)[0], shell) for path in files] for files in (one, two)]
    if aligned:
        largest = [int(np.argmax(distribution(folder))) for folder in (first, second)]
        found = maps.align(sets[1][largest[1]], sets[0][largest[0]], DIAMETER / pixel)
        sets[1] = [found.apply(density) for density in sets[1]]
    mask = maps.sphere(len(sets[0][0]), DIAMETER / pixel)
    alike = np.array([[maps.correlation(a, b, mask) for b in sets[1]] for a in sets[0]])
    rows, columns = linear_sum_assignment(-alike)
    number = np.arange(len(two)) + len(one)  # a class that the first job has none for keeps a number of its own
    number[columns] = rows
    return number


def class_maps(folder: Path) -> list[Path]:
    return sorted(folder.glob(last(folder, "data").beside("class???.mrc").name))


def distribution(folder: Path) -> Any:
    return np.ravel(column(last(folder, "model").files["model"], "model_classes", "rlnClassDistribution")).astype(float)


def resolved_shell(folder: Path) -> int:
    """The shell that a Class3D job resolves: box times pixel size over its resolution."""
    model = last(folder, "model").files["model"]
    value = {
        name: float(column(model, "model_general", f"rln{name}"))
        for name in ("CurrentResolution", "OriginalImageSize", "PixelSize")
    }
    return max(2, round(value["OriginalImageSize"] * value["PixelSize"] / value["CurrentResolution"]))


def original_pixel(star: Path) -> float:
    """Angstrom a pixel of the micrographs, in which coordinates count."""
    optics = read_star(star).get("optics", {})
    labels = ("rlnMicrographOriginalPixelSize", "rlnImagePixelSize")
    for label in labels:
        if label in optics and (found := positive(star, "optics", label, optics[label])):
            return found[0]
    raise KitError(f"{star}: says no pixel size: no label _{' or _'.join(labels)} in data_optics")


def same_particles(first: Any, second: Any, radius: float) -> tuple[Labels, Labels]:
    """Rows of two tables that are one particle: picked within `radius` pixels in one micrograph, else of one image."""
    if "rlnCoordinateX" not in first or "rlnCoordinateX" not in second:
        both = first.reset_index().merge(second.reset_index(), on="rlnImageName")
        return both["index_x"].to_numpy(), both["index_y"].to_numpy()
    names = [np.array(stems(table["rlnMicrographName"])) for table in (first, second)]
    places = [table[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(dtype=float) for table in (first, second)]
    left, right = [], []
    for stem in np.unique(names[0]):
        here = [np.flatnonzero(name == stem) for name in names]
        rows, columns = assign(places[0][here[0]], places[1][here[1]], radius)
        left.append(here[0][rows])
        right.append(here[1][columns])
    return np.concatenate(left), np.concatenate(right)


def permutation_test(first: Labels, second: Labels, seed: int = 0) -> float:
    """Probability that chance alone separates two class distributions of the same particles this far (p value).

    Were both runs draws of one answer, it would not matter which of them gave a particle which of its two classes. So in
    each of 9,999 permutations every particle's pair is swapped or not, by a coin. The distance is the total variation of
    the distributions, half the sum of |difference| over classes; the observed case counts as one of them (Phipson and
    Smyth 2010, doi:10.2202/1544-6115.1585).
    """
    rng = np.random.default_rng(seed)
    moved = first != second
    one, two = first[moved], second[moved]
    if not len(one):
        return 1.0
    count = int(max(one.max(), two.max())) + 1
    # +1 in the class of the first run, -1 in that of the second; a swap turns the sign.
    change = np.zeros((len(one), count))
    np.add.at(change, (np.arange(len(one)), one), 1)
    np.add.at(change, (np.arange(len(one)), two), -1)
    observed = np.abs(change.sum(0)).sum()
    signs = rng.choice([-1.0, 1.0], size=(PERMUTATIONS, len(one)))
    distances = np.abs(signs @ change).sum(1)
    return float((1 + (distances >= observed - 1e-9).sum()) / (PERMUTATIONS + 1))
