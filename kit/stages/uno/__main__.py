"""The stages of Uno, as the job script runs them in the image: python -m kit.stages.uno STAGE."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from kit.stages.ml.options import arithmetic_options, take_options, training_options


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m kit.stages.uno", description=__doc__)
    stages = top.add_subparsers(dest="stage", required=True)

    def stage(name: str, text: str, *paths: str) -> argparse.ArgumentParser:
        found = stages.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for path in (*paths, "--out"):
            found.add_argument(path, type=Path, required=True)
        return found

    found = stage("prepare", "tables of cell lines and drugs, and rows of each split", "--data")
    found.add_argument("--split", default="random", help="random (as published), cell or drug: none of them in two splits")
    found.add_argument("--seed", type=int, default=1234, help="of the splits by cell line and by drug")
    found = stage("train", "train the network, one process a rank", "--data")
    training_options(found, "samples")
    found = stage("infer", "what the network says of the test rows, one process a rank", "--data", "--model-file")
    found.add_argument("--batch-size", type=int, default=256)
    arithmetic_options(found)
    found = stage("score", "hold that against what was measured, and baselines", "--data", "--predictions")
    found.add_argument("--truth-file", type=Path, help="the response without noise, of generated data")
    return top


def run(stage: str, given: dict[str, Any]) -> None:
    """Runs a stage; each loads what it needs and nothing else."""
    if stage == "prepare":
        from kit.stages.uno.prepare import prepare

        prepare(**given)
    elif stage == "train":
        from kit.stages.uno.train import train

        train(options=take_options(given), **given)
    elif stage == "infer":
        from kit.stages.uno.infer import infer

        infer(**given)
    else:
        from kit.stages.uno.score import score

        score(**given)


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
