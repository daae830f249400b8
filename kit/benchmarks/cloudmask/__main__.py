"""The stages of CloudMask, as the job script runs them in the image: python -m kit.benchmarks.cloudmask STAGE."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kit.benchmarks.cloudmask", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    converter = stages.add_parser("convert", help="SLSTR products (.SEN3) to HDF5")
    converter.add_argument("--data", type=Path, required=True)
    converter.add_argument("--out", type=Path, required=True)
    trainer = stages.add_parser("train", help="train the U-Net, one process a rank")
    trainer.add_argument("--data", type=Path, required=True)
    trainer.add_argument("--out", type=Path, required=True)
    trainer.add_argument("--epochs", type=int, required=True)
    trainer.add_argument("--batch-size", type=int, default=32, help="patches of one rank in a step")
    trainer.add_argument("--learning-rate", type=float, default=1e-3)
    trainer.add_argument("--validation-scenes", type=int, required=True)
    trainer.add_argument("--warmup-epochs", type=int, default=0)
    trainer.add_argument("--seed", type=int, default=1234)
    inferer = stages.add_parser("infer", help="mask whole scenes, one process a rank")
    inferer.add_argument("--data", type=Path, required=True)
    inferer.add_argument("--model-file", type=Path, required=True)
    inferer.add_argument("--out", type=Path, required=True)
    inferer.add_argument("--batch-size", type=int, default=3)
    scorer = stages.add_parser("score", help="hold the masks against label, truth and baselines")
    scorer.add_argument("--data", type=Path, required=True)
    scorer.add_argument("--masks", type=Path, required=True)
    scorer.add_argument("--truth-file", type=Path, required=True)
    scorer.add_argument("--out", type=Path, required=True)
    arguments = vars(parser.parse_args())
    stage = arguments.pop("stage")
    arguments["out"].mkdir(parents=True, exist_ok=True)

    from kit.benchmarks.cloudmask.convert import ProductError

    try:
        # A stage loads what it needs and nothing else: converting needs no TensorFlow.
        if stage == "convert":
            from kit.benchmarks.cloudmask.convert import run

            run(**arguments)
        elif stage == "train":
            from kit.benchmarks.cloudmask.train import train

            train(**arguments)
        elif stage == "infer":
            from kit.benchmarks.cloudmask.infer import infer

            infer(**arguments)
        else:
            from kit.benchmarks.cloudmask.score import score

            score(**arguments)
    except (ProductError, ValueError, OSError) as error:
        sys.exit(f"{stage}: {error}")


main()
