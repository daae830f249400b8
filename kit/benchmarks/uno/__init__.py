"""CANDLE-UNO: how tumours respond to drugs, from 942 features of genes and 5,270 of the drug.

The stages (prepare, train, infer, score) are `python -m kit.stages.uno` in the image. Each method loads what it needs when
it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kit.benchmarks import Code, Parameters, Writer

DATA_PARAMETERS = (
    *("cells", "drugs", "training_rows", "validation_rows", "test_rows"),
    *("interaction", "noise", "replicates", "data_seed"),
)


class Uno(Code):
    GENERATOR = ("benchmarks/uno/responses.py",)
    DATA_SEED = "data_seed"
    # Two for each weight of the sixteen million (multiply and add), and twice as many for the gradients; those with respect
    # to the inputs of the two first layers, 6.2 million weights, are not needed.
    FLOP = {"training_throughput": 2 * (3 * 16.2e6 - 6.3e6)}

    def data_parameters(self, parameters: Parameters) -> Parameters:
        return {key: parameters[key] for key in DATA_PARAMETERS}

    def generate(self, folder: Path, parameters: Parameters) -> None:
        from kit.benchmarks.uno.responses import generate

        generate(folder, parameters)

    def needed(self, workflow: str) -> list[str]:
        return ["top_21_auc_1fold.uno.h5"]

    def evaluate(self, directory: Path, ranks: int) -> None:
        from kit.benchmarks.uno.figures import draw
        from kit.benchmarks.uno.judge import judge

        judge(directory, ranks)
        draw(directory)

    def contradictions(self, files: Mapping[str, Path]) -> Iterable[tuple[str, str]]:
        from kit.benchmarks.uno.consistency import contradictions

        return contradictions(files)

    def evidence(self, stages: Collection[str]) -> Mapping[str, Writer]:
        from kit.benchmarks.uno.evidence import PREDICTIONS, write_predictions

        return {PREDICTIONS: write_predictions} if {"infer", "score"} <= set(stages) else {}

    def score_again(
        self, files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
    ) -> Iterable[tuple[str, str, str]]:
        from kit.benchmarks.uno.evidence import score_again

        return score_again(files, data, parameters, same_data)


CODE = Uno()
