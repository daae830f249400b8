"""The stages of CloudMask, as the job script runs them in the image: python -m kit.stages.cloudmask STAGE."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from kit.stages.cloudmask.patches import WHOLE, Label
from kit.stages.cloudmask.products import ProductError
from kit.stages.ml.options import arithmetic_options, take_options, training_options


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m kit.stages.cloudmask", description=__doc__)
    stages = top.add_subparsers(dest="stage", required=True)

    def stage(name: str, text: str, *folders: str) -> argparse.ArgumentParser:
        found = stages.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for folder in (*folders, "--out"):
            found.add_argument(folder, type=Path, required=True)
        return found

    def label(found: argparse.ArgumentParser) -> None:
        found.add_argument("--label-source", default="bayes", help="bayes, summary or probability")
        found.add_argument("--label-bits", default="any", help="of bayes: names of bits, with commas between them, or any")
        found.add_argument("--label-positive", default="cloud", help="what a set bit means: cloud or clear")

    found = stage("extract", "list the scenes and split them", "--data")
    found.add_argument("--validation-scenes", type=int, required=True, help="at least as many, in whole orbits")
    found.add_argument("--seed", type=int, default=1234)
    found = stage("convert", "SLSTR products (.SEN3) to HDF5, in parallel", "--listing")
    found.add_argument("--skip", type=float, default=0.0, help="share of the scenes that may be unreadable")
    found.add_argument("--unseen", type=float, default=0.5, help="share of the pixels of a scene that may have no value")
    found.add_argument("--rads", action="store_true", help="keep the radiances, which nothing here reads")
    found = stage("patches", "cut the scenes into shards of training patches", "--data")
    label(found)
    found.add_argument("--trust-label", action="store_true", help="take the label even where its cloud is too warm")
    found = stage("train", "train the U-Net, one process a rank", "--data")
    training_options(found, "patches")
    found.add_argument("--positive-weight", type=float, default=1.0, help="of the loss of cloud pixels")
    found.add_argument("--plain", action="store_true", help="the network as the reference writes it, with more arithmetic")
    found = stage("infer", "mask whole scenes, one process a rank", "--data", "--model-file")
    found.add_argument("--patch", type=int, default=WHOLE, help="largest side in pixels; 40 at each end are dropped")
    found.add_argument("--batch-size", type=int, default=1, help="patches at a time; 9 for small ones, as of 256")
    arithmetic_options(found)
    found = stages.add_parser("mask", help="mask one product, which needs no label")
    for name, text in (("--product", "a folder .SEN3"), ("--model-file", "weights"), ("--out", "the mask, a file .nc")):
        found.add_argument(name, type=Path, required=True, help=text)
    found = stage("score", "hold the masks against label, truth and baselines", "--data", "--masks")
    found.add_argument("--truth-file", type=Path)
    found.add_argument("--without-cosmetic", action="store_true", help="leave out pixels that are copies of a neighbour")
    label(found)
    found = stage("sst", "sea-surface temperature where the masks are clear", "--data", "--masks")
    found.add_argument("--matchups", type=Path, help="table (.csv, .h5); without one nothing is compared, and that is said")
    found.add_argument("--retrieval", default="D2", help="whose temperature stands for the run: N2, N3, D2 or D3")
    label(found)
    return top


def run(stage: str, given: dict[str, Any]) -> None:
    """Runs a stage; each loads what it needs and nothing else: converting needs no TensorFlow."""
    if "label_source" in given:
        given["label"] = Label(given.pop("label_source"), given.pop("label_bits"), given.pop("label_positive"))
    if stage == "extract":
        from kit.stages.cloudmask.extract import extract

        extract(**given)
    elif stage == "convert":
        from kit.stages.cloudmask import convert

        convert.run(**given)
    elif stage == "patches":
        from kit.stages.cloudmask.shards import cut_all

        cut_all(**given)
    elif stage == "train":
        from kit.stages.cloudmask.train import train

        options = take_options(given)
        train(options=options, fused=not given.pop("plain"), **given)
    elif stage == "infer":
        from kit.stages.cloudmask.infer import infer

        infer(**given)
    elif stage == "mask":
        from kit.stages.cloudmask.infer import mask

        mask(**given)
    elif stage == "score":
        from kit.stages.cloudmask.score import score

        score(**given)
    else:
        from kit.stages.cloudmask.sst import compare

        compare(**given)


def main() -> None:
    # HDF5 reads this when it is loaded. On Lustre and NFS a lock may be refused, and two never write one file here.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    given = vars(parser().parse_args())
    stage = given.pop("stage")
    if stage != "mask":  # which writes one file
        given["out"].mkdir(parents=True, exist_ok=True)
    try:
        run(stage, given)
    except (ProductError, ValueError, OSError) as error:
        sys.exit(f"{stage}: {error}")


if __name__ == "__main__":
    main()
