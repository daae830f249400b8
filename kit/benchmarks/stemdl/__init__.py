"""STEMDL: the space group of a crystal, and its projected electron density, from convergent-beam electron diffraction.

The stages (prepare, train, reconstruct, score) are `python -m kit.stages.stemdl` in the image. Each method loads what it
needs when it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kit.benchmarks import Code, Parameters, Writer

DATA_PARAMETERS = ("space_groups", "materials", "orientations", "thicknesses", "raw_side", "data_seed")


class Stemdl(Code):
    GENERATOR = tuple(
        f"benchmarks/stemdl/{name}"
        for name in ("patterns.py", "diffraction.py", "crystals.py", "prototypes.toml", "structures.csv", "scattering.csv")
    )
    DATA_SEED = "data_seed"
    # A stack of size tiny, whose networks are the smallest: 10e6 products in the residual network and 35e6 in the dense one,
    # two operations each, twice as many for the gradients; a quarter of it, because Winograd's algorithm for 3 x 3 needs no
    # more (arXiv:1509.09308).
    FLOP = {"training_throughput": 3 * 2 * 10e6 / 4, "reconstruction_throughput": 3 * 2 * 35e6 / 4}

    def data_parameters(self, parameters: Parameters) -> Parameters:
        return {key: parameters[key] for key in DATA_PARAMETERS}

    def generate(self, folder: Path, parameters: Parameters) -> None:
        from kit.benchmarks.stemdl.patterns import generate

        generate(folder, dict(parameters))

    def needed(self, workflow: str) -> list[str]:
        return ["training", "validation", "testing"]

    def evaluate(self, directory: Path, ranks: int) -> None:
        from kit.benchmarks.stemdl.figures import draw
        from kit.benchmarks.stemdl.judge import judge

        judge(directory, ranks)
        draw(directory)

    def contradictions(self, files: Mapping[str, Path]) -> Iterable[tuple[str, str]]:
        from kit.benchmarks.stemdl.consistency import contradictions

        return contradictions(files)

    def evidence(self, stages: Collection[str]) -> Mapping[str, Writer]:
        from kit.benchmarks.stemdl.evidence import CALLED, write_called

        return {CALLED: write_called} if "score" in stages else {}

    def score_again(
        self, files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
    ) -> Iterable[tuple[str, str, str]]:
        from kit.benchmarks.stemdl.evidence import score_again

        return score_again(files, data, parameters, same_data)


CODE = Stemdl()
