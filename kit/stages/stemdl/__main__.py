"""The stages of STEMDL, as the job script runs them in the image: python -m kit.stages.stemdl STAGE."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from kit.stages.ml.options import take_options, training_options
from kit.stages.stemdl.network import BLOCKS


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m kit.stages.stemdl", description=__doc__)
    stages = top.add_subparsers(dest="stage", required=True)

    def stage(name: str, text: str, *folders: str) -> argparse.ArgumentParser:
        found = stages.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for folder in (*folders, "--out"):
            found.add_argument(folder, type=Path, required=True)
        return found

    found = stage("prepare", "patterns to shards, split by material", "--data")
    found.add_argument("--side", type=int, default=128, help="pixels of a pattern that the networks see")
    found.add_argument("--values", default="log", help="of npz: log (on the reference's scale) or intensity")
    found.add_argument("--merge", default="none", help="classes: none, or enantiomorphs as one")
    found.add_argument("--held-out", type=float, default=0.2, help="share of the materials of a class, for each other split")
    found.add_argument("--seed", type=int, default=1234)
    found = stage("train", "train the network that tells space groups, one process a rank", "--data")
    training_options(found, "stacks")
    found.add_argument("--depth", type=int, choices=sorted(BLOCKS), default=50)
    found.add_argument("--width", type=int, default=64, help="channels behind the first convolution")
    found.add_argument("--smoothing", type=float, default=0.0, help="of the labels in the loss")
    found.add_argument("--mirror", action="store_true", help="train on mirrored projections as well")
    found.add_argument(
        "--zoom", type=float, default=0.0, help="train on stacks enlarged or made smaller by up to this share"
    )
    found.add_argument("--erase", type=float, default=0.0, help="chance that a rectangle of a stack is blank in training")
    found = stage("reconstruct", "train the network that draws densities, one process a rank", "--data")
    training_options(found, "stacks")
    found.add_argument("--growth", type=int, default=16, help="channels that a layer of a dense block adds")
    found.add_argument("--blocks", type=int, default=4, help="dense blocks on the way down, 2 at least")
    stage(
        "score", "hold both networks against the test split and the baselines", "--data", "--classifier", "--reconstruction"
    )
    return top


def run(stage: str, given: dict[str, Any]) -> None:
    """Runs a stage; each loads what it needs and nothing else."""
    if stage == "prepare":
        from kit.stages.stemdl.prepare import prepare

        prepare(**given)
    elif stage == "score":
        from kit.stages.stemdl.score import score

        score(**given)
    else:
        from kit.stages.stemdl import train
        from kit.stages.stemdl.augment import Augment

        options = take_options(given)
        if stage == "train":
            augment = Augment(**{key: given.pop(key) for key in Augment._fields})
            train.train(options=options, augment=augment, **given)
        else:
            train.reconstruct(options=options, **given)


def main() -> None:
    # HDF5 reads this when it is loaded. On Lustre and NFS a lock may be refused, and two never write one file here.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    given = vars(parser().parse_args())
    stage = given.pop("stage")
    given["out"].mkdir(parents=True, exist_ok=True)
    try:
        run(stage, given)
    except (ValueError, OSError) as error:
        sys.exit(f"{stage}: {error}")


if __name__ == "__main__":
    main()
