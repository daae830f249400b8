"""RELION: cryo-EM structure determination, from movies to a map that is held against the truth.

The stages are RELION's own programs in the image. Each method loads what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.benchmarks import Code, Parameters, Writer
from kit.core.errors import KitError

if TYPE_CHECKING:
    from kit.benchmark import Size, Stage
    from kit.images.render import Image
    from kit.plan import Plan
    from kit.tune.store import Choice


def maker(parameters: Parameters) -> Any:
    """The module that makes data of such parameters: movies where they speak of micrographs, particles otherwise."""
    from kit.benchmarks.relion import movies, phantom

    return movies if "micrographs" in parameters else phantom


class Relion(Code):
    GENERATOR = ("benchmarks/relion/phantom.py", "benchmarks/relion/movies.py", "benchmarks/relion/6zu5.csv.gz")
    DATA_SEED = "seed"
    TUNED = 60

    def data_parameters(self, parameters: Parameters) -> Parameters:
        return {key: value for key, value in parameters.items() if key in maker(parameters).Settings.__dataclass_fields__}

    def generate(self, folder: Path, parameters: Parameters) -> None:
        settings = maker(parameters).Settings(**self.data_parameters(parameters))
        maker(parameters).generate(folder, settings)

    def needed(self, workflow: str) -> list[str]:
        from kit.benchmarks.relion.workflow import load_workflow

        found = load_workflow(workflow)
        return [*found.links, *([found.reference] if found.reference else [])]

    def compose(self, plan: Plan, directory: Path, composer: tuple[Image, str] | None = None) -> list[Stage]:
        from kit.benchmarks.relion.workflow import compose
        from kit.script.render import stage_numbers

        image, runtime = composer or (plan.image, plan.site.container.runtime)
        return compose(plan.size.workflow, directory, image, runtime, plan.placement, stage_numbers(plan), plan.pack)

    def evaluate(self, directory: Path, ranks: int) -> None:
        from kit.benchmarks.relion.judge import evaluate

        evaluate(directory, ranks)

    def read_table(self, path: Path, block: str) -> Mapping[str, Any] | None:
        from kit.benchmarks.relion.star import read_star

        return read_star(path, only=block) if path.suffix == ".star" else None

    def stage_named(self, directory: Path, name: str) -> str:
        from kit.benchmarks.relion.project import find_job
        from kit.benchmarks.relion.workflow import folders

        known = {folder: stage for stage, folder in folders(directory).items()}
        if name in known.values() or not (directory / "default_pipeline.star").is_file():
            return name
        try:
            return known.get(find_job(directory, name), name)
        except KitError:  # the caller knows what the stages are
            return name

    def isolate(self, directory: Path, stage: str, folder: Path) -> dict[str, str]:
        from kit.benchmarks.relion.isolated import isolate

        return isolate(directory, stage, folder)

    def pair(self, first: Path, second: Path) -> tuple[dict[str, float], list[str]]:
        from kit.benchmarks.relion.agreement import pair

        return pair(first, second)

    def choices(self, size: Size, cores: int, gpus: int) -> list[Choice]:
        from kit.benchmarks.relion.tuning import choices

        return choices(size, cores, gpus)

    def trial_parameters(self, parameters: Parameters) -> Parameters:
        from kit.benchmarks.relion.tuning import trial_parameters

        return trial_parameters(parameters)

    def trial_files(self, data: Path, directory: Path, amount: int) -> None:
        from kit.benchmarks.relion.tuning import trial_files

        trial_files(data, directory, amount)

    def trial_command(self, choice: Choice, plan: Plan) -> str:
        from kit.benchmarks.relion.tuning import command

        return command(choice, plan)

    def contradictions(self, files: Mapping[str, Path]) -> Iterable[tuple[str, str]]:
        from kit.benchmarks.relion.consistency import contradictions

        return contradictions(files)

    def evidence(self, stages: Collection[str]) -> Mapping[str, Writer]:
        from kit.benchmarks.relion.evidence import writers

        return writers(stages)

    def score_again(
        self, files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
    ) -> Iterable[tuple[str, str, str]]:
        from kit.benchmarks.relion.evidence import score_again

        return score_again(files, data)


CODE = Relion()
