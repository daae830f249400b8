"""TEvolOp: forecasts of the energy that earthquakes release, pixel by pixel, from a fortnight to four years ahead.

The stages (prepare, train, infer, score) are `python -m kit.stages.tevolop` in the image. Each method loads what it needs
when it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kit.benchmarks import Code, Parameters, Writer

DATA_PARAMETERS = ("days", "background_per_year", "pixels", "data_seed")


class Tevolop(Code):
    GENERATOR = ("benchmarks/tevolop/etas.py", "stages/tevolop/grid.py")
    DATA_SEED = "data_seed"

    def data_parameters(self, parameters: Parameters) -> Parameters:
        return {key: parameters[key] for key in DATA_PARAMETERS}

    def generate(self, folder: Path, parameters: Parameters) -> None:
        from kit.benchmarks.tevolop.etas import generate

        generate(folder, dict(parameters))

    def evaluate(self, directory: Path, ranks: int) -> None:
        from kit.benchmarks.tevolop.figures import draw
        from kit.benchmarks.tevolop.judge import judge

        judge(directory, ranks)
        draw(directory)

    def contradictions(self, files: Mapping[str, Path]) -> Iterable[tuple[str, str]]:
        from kit.benchmarks.tevolop.consistency import contradictions

        return contradictions(files)

    def evidence(self, stages: Collection[str]) -> Mapping[str, Writer]:
        from kit.benchmarks.tevolop.evidence import FORECASTS, write_forecasts

        return {FORECASTS: write_forecasts} if {"infer", "score"} <= set(stages) else {}

    def score_again(
        self, files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
    ) -> Iterable[tuple[str, str, str]]:
        from kit.benchmarks.tevolop.evidence import score_again

        return score_again(files, data, parameters, same_data)


CODE = Tevolop()
