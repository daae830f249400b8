"""The crystals of the generated data: real compounds, from a table of prototypes and one of cells.

A material is a prototype with a composition: halite's structure with sodium and chlorine, at the cell of NaCl. Cells,
and the free parameters of sites, are rounded values at room temperature as they are commonly tabulated (compare
Wyckoff, Crystal Structures, 2nd ed., 1963 to 1968, and Villars and Calvert, Pearson's Handbook, 1991). They were not
held against an edition one by one, and may be off by some hundredths of an angstrom, which is less than the strain
that samples are drawn with. The operations are generated from those of International Tables A, and tests hold the
space group of each crystal against spglib.
"""

from __future__ import annotations

import csv
import itertools
import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.core.files import read_toml

HERE = Path(__file__).parent
CENTRINGS: dict[str, list[tuple[float, float, float]]] = {
    "P": [(0, 0, 0)],
    "I": [(0, 0, 0), (1 / 2, 1 / 2, 1 / 2)],
    "F": [(0, 0, 0), (0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0)],
    "R": [(0, 0, 0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)],
}
OTHER_HAND = ", other hand"
SAME_PLACE = 1e-4  # fractions of a cell
Operation = tuple[NDArray[np.int64], NDArray[np.float64]]  # rotation and translation, of fractional coordinates


class Crystal(NamedTuple):
    """A unit cell: rows of `cell` are its vectors in angstrom, `places` fractional coordinates of the atoms."""

    material: str
    space_group: int
    cell: NDArray[np.float64]
    elements: list[str]
    places: NDArray[np.float64]


def operation(text: str) -> Operation:
    """Coordinates such as `-y,x-y,z+1/3` as rotation (3, 3) and translation (3,)."""
    rotation, translation = np.zeros((3, 3), np.int64), np.zeros(3)
    for row, part in enumerate(text.split(",")):
        for sign, letter, number in re.findall(r"([+-]?)(?:([xyz])|(\d+(?:/\d+)?))", part):
            value = -1 if sign == "-" else 1
            if letter:
                rotation[row, "xyz".index(letter)] += value
            else:
                translation[row] += value * float(Fraction(number))
    return rotation, translation


def group(generators: tuple[str, ...]) -> list[Operation]:
    """All operations that the generators make, without those of the centring; translations in [0, 1)."""

    def key(one: Operation) -> tuple[int, ...]:
        return (*one[0].ravel().tolist(), *(np.rint(one[1] * 24).astype(int) % 24).tolist())

    made = [operation(text) for text in generators]
    found = {key(one): one for one in [operation("x,y,z"), *made]}
    fresh = list(found.values())
    while fresh:
        products = [(a[0] @ b[0], (a[0] @ b[1] + a[1]) % 1.0) for a, b in itertools.product(made, fresh)]
        fresh = []
        for one in products:
            if key(one) not in found:
                found[key(one)] = one
                fresh.append(one)
    return list(found.values())


@cache
def operations(generators: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same as arrays (n, 3, 3) and (n, 3)."""
    found = group(generators)
    return np.stack([rotation for rotation, _ in found]), np.stack([translation for _, translation in found])


def vectors(lattice: str, lengths: list[float]) -> NDArray[np.float64]:
    """The cell vectors (rows, angstrom) of a lattice whose `lengths` are a, or a and c."""
    a, c = lengths[0], lengths[-1]
    if lattice == "hexagonal":
        return np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    return np.diag([a, a, c])


def value(token: str, parameters: list[float]) -> float:
    """A coordinate of a site: a fraction, a decimal, or the parameter u or v, perhaps with a sign."""
    sign, name = (-1.0, token[1:]) if token.startswith("-") else (1.0, token)
    return sign * (parameters["uv".index(name)] if name in ("u", "v") else float(Fraction(name)))


@cache
def crystals() -> list[Crystal]:
    """Every crystal of the tables, in their order. A left-handed and a right-handed one are one material."""
    prototypes = read_toml(HERE / "prototypes.toml")
    found = []
    with (HERE / "structures.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            prototype = prototypes[row["prototype"]]
            elements = row["elements"].split()
            parameters = [float(number) for number in row["parameters"].split()]
            rotations, translations = operations(tuple(prototype["generators"]))
            atoms: list[tuple[str, NDArray[np.float64]]] = []
            for letter, *tokens in prototype["sites"]:
                place = np.array([value(token, parameters) for token in tokens])
                images = rotations @ place + translations
                whole = np.concatenate([images + shift for shift in CENTRINGS[prototype["centring"]]]) % 1.0
                whole[whole > 1 - SAME_PLACE] -= 1
                kept: list[NDArray[np.float64]] = []
                for one in whole:
                    if not any(np.abs((one - other + 0.5) % 1 - 0.5).max() < SAME_PLACE for other in kept):
                        kept.append(one)
                atoms += [(elements["ABC".index(letter)], one) for one in kept]
            found.append(
                Crystal(
                    f"{row['formula']} ({row['prototype'].removesuffix(OTHER_HAND)})",
                    prototype["space_group"],
                    vectors(prototype["lattice"], [float(length) for length in row["cell_angstrom"].split()]),
                    [element for element, _ in atoms],
                    np.array([place for _, place in atoms]),
                )
            )
    return found


def chosen(space_groups: list[int], most: int) -> list[Crystal]:
    """The crystals of these space groups, at most `most` materials of each; prototypes take turns.

    KitError for a group of which there are no crystals, or fewer than three: each split needs one.
    """
    found = []
    for number in space_groups:
        # One after the other of each prototype, so that a few of a group are not all rock salts.
        of_prototype: dict[str, list[Crystal]] = {}
        for crystal in crystals():
            if crystal.space_group == number:
                of_prototype.setdefault(crystal.material.split("(")[1], []).append(crystal)
        turns = itertools.zip_longest(*of_prototype.values())
        of_group = [crystal for turn in turns for crystal in turn if crystal][:most]
        if len(of_group) < 3:
            known = sorted({crystal.space_group for crystal in crystals()})
            raise KitError(
                f"space group {number}: {len(of_group)} crystals are in structures.csv, and three are needed; "
                f"it has {', '.join(map(str, known))}"
            )
        found += of_group
    return found
