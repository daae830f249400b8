"""The stages of TEvolOp, as the job script runs them in the image: python -m kit.stages.tevolop STAGE."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from kit.stages.ml.options import take_options, training_options


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m kit.stages.tevolop", description=__doc__)
    stages = top.add_subparsers(dest="stage", required=True)

    def stage(name: str, text: str, *folders: str) -> argparse.ArgumentParser:
        found = stages.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for folder in (*folders, "--out"):
            found.add_argument(folder, type=Path, required=True)
        return found

    found = stage("prepare", "events to series, targets and splits", "--data")
    found.add_argument("--days", type=int, required=True, help="since 1950 that are looked at")
    found.add_argument("--pixels", type=int, required=True, help="how many of the most active ones")
    found.add_argument("--split", choices=("location", "time"), required=True)
    found.add_argument("--stride", type=int, default=1, help="fortnights from one window of a pixel to its next")
    found.add_argument("--smallest", type=float, default=2.5, help="magnitude below which events are left out")
    found.add_argument("--most-outside", type=float, default=0.01, help="share of the events that may lie elsewhere")
    found.add_argument("--seed", type=int, default=1234, help="of the split by location")
    found = stage("train", "train a network, one process a rank", "--data")
    training_options(found, "windows")
    found.add_argument("--model", default="lstm", help="lstm or transformer")
    found.add_argument("--units", type=int, default=64, help="of each layer")
    found.add_argument("--dropout", type=float, default=0.1, help="share of the values that are set to zero in training")
    found = stage("infer", "forecast the windows of the test split", "--data", "--trained")
    found.add_argument("--batch-size", type=int, default=1024)
    found = stage("score", "hold the forecasts against what happened, and against baselines", "--data", "--forecast")
    found.add_argument("--truth", type=Path, help="expected numbers of events of generated data")
    return top


def run(stage: str, given: dict[str, Any]) -> None:
    """Runs a stage; each loads what it needs and nothing else: preparing needs no TensorFlow."""
    if stage == "prepare":
        from kit.stages.tevolop.prepare import prepare

        prepare(**given)
    elif stage == "train":
        from kit.stages.tevolop.train import train

        train(options=take_options(given), **given)
    elif stage == "infer":
        from kit.stages.tevolop.infer import infer

        infer(**given)
    else:
        from kit.stages.tevolop.score import score

        score(**given)


def main() -> None:
    os.environ.setdefault(
        "HDF5_USE_FILE_LOCKING", "FALSE"
    )  # read when HDF5 is loaded; on Lustre and NFS a lock may be refused
    given = vars(parser().parse_args())
    stage = given.pop("stage")
    given["out"].mkdir(parents=True, exist_ok=True)
    try:
        run(stage, given)
    except (ValueError, OSError) as error:
        sys.exit(f"{stage}: {error}")


if __name__ == "__main__":
    main()
