"""Judges a run on the login node: the ranks formed one job, no crystal is on two sides, and every stack was scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.files import read_json
from kit.training.judge import one_job, splits_kept

PREPARED, TRAIN, RECONSTRUCT, SCORE = (
    "prepared/prepared.json",
    "train/train.json",
    "reconstruct/train.json",
    "score/score.json",
)


def judge(directory: Path, ranks: int) -> None:
    """Checks ranks and devices of both trainings, the splits by material, and that the score is of the whole test split.

    KitError for what cannot be. Published npz do not say of which material they are: there nothing can be checked, and the
    score says so (materials_known).
    """
    listing = read_json(directory / PREPARED)
    trained = {TRAIN: one_job(directory, TRAIN, ranks)}
    if listing["density"]:
        trained[RECONSTRUCT] = one_job(directory, RECONSTRUCT, ranks)
    elif read_json(directory / RECONSTRUCT).get("trained") is not False:
        raise KitError(f"{RECONSTRUCT}: was trained, but {PREPARED} says that the data have no densities")
    for name, facts in trained.items():
        whole_split(name, facts, listing)
    score = read_json(directory / SCORE)
    for key, stacks in (("groups", score["groups"]["stacks"]), ("density", score["density"]["stacks"])):
        wanted = listing["samples"]["testing"] if key == "groups" or listing["density"] else 0
        if stacks != wanted:
            raise KitError(f"{SCORE}: {key} has {stacks} stacks, but {PREPARED} has {wanted} for testing")
    for key in ("labels", "classes", "merged"):
        if score[key] != listing[key]:
            raise KitError(f"{SCORE}: {key} are not those of {PREPARED}")
    if listing["materials_known"] and set(score["groups"]["per_unit"]) != set(listing["materials"]["testing"]):
        raise KitError(f"{SCORE}: the materials that were scored are not those of the test split in {PREPARED}")


def whole_split(name: str, facts: dict[str, Any], listing: dict[str, Any]) -> None:
    """KitError unless a training used materials of its own splits alone; each material is its own group."""
    if facts["validation_samples"] != listing["samples"]["validation"]:
        raise KitError(
            f"{name}: validated with {facts['validation_samples']} stacks, but {PREPARED} has "
            f"{listing['samples']['validation']}"
        )
    if listing["materials_known"]:
        listed = {split: {material: material for material in found} for split, found in listing["materials"].items()}
        used = {split: facts[f"{split}_materials"] for split in ("training", "validation")}
        splits_kept(name, used, listed, test="testing", what="materials")
