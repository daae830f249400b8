"""CloudMask: a U-Net that masks cloud in Sentinel-3 SLSTR scenes, from products to sea-surface temperature.

The stages (extract, convert, patches, train, infer, score, sst) are `python -m kit.stages.cloudmask` in the image. Each
method loads what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kit.benchmarks import Code, Parameters, Writer

DATA_PARAMETERS = (
    "rows",
    "columns",
    "training_scenes",
    "inference_scenes",
    "label_error",
    "matchups_per_scene",
    "data_seed",
)


class CloudMask(Code):
    GENERATOR = (
        "benchmarks/cloudmask/scenes.py",
        "benchmarks/cloudmask/writing.py",
        "stages/cloudmask/products.py",
        "stages/cloudmask/matchups.py",
    )
    DATA_SEED = "data_seed"
    # The convolutions of the U-Net (kit/stages/cloudmask/network.py) over a patch of 256 x 256, 17.4e9, and twice as many
    # for the gradients; a quarter of it, because Winograd's algorithm for 3 x 3 needs no more (arXiv:1509.09308).
    FLOP = {"training_throughput": 3 * 17.4e9 / 4}

    def data_parameters(self, parameters: Parameters) -> Parameters:
        return {key: parameters[key] for key in DATA_PARAMETERS}

    def generate(self, folder: Path, parameters: Parameters) -> None:
        from kit.benchmarks.cloudmask.scenes import generate

        generate(folder, dict(parameters))

    def needed(self, workflow: str) -> list[str]:
        return ["training", "inference"]

    def evaluate(self, directory: Path, ranks: int) -> None:
        from kit.benchmarks.cloudmask.figures import draw
        from kit.benchmarks.cloudmask.judge import judge

        judge(directory, ranks)
        draw(directory)

    def contradictions(self, files: Mapping[str, Path]) -> Iterable[tuple[str, str]]:
        from kit.benchmarks.cloudmask.consistency import contradictions

        return contradictions(files)

    def evidence(self, stages: Collection[str]) -> Mapping[str, Writer]:
        from kit.benchmarks.cloudmask.evidence import MASKS, write_masks

        return {MASKS: write_masks} if {"infer", "score"} <= set(stages) else {}

    def score_again(
        self, files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
    ) -> Iterable[tuple[str, str, str]]:
        from kit.benchmarks.cloudmask.evidence import score_again

        return score_again(files, data, parameters, same_data)


CODE = CloudMask()
