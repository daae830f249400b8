"""The benchmarks, a folder each: benchmark.toml says what is asked, and the code beside it makes data and judges."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kit.core.errors import KitError

if TYPE_CHECKING:
    from kit.benchmark import Size, Stage
    from kit.images.render import Image
    from kit.plan import Plan
    from kit.tune.store import Choice

Parameters = Mapping[str, int | float | str]
# Writes a piece of evidence: (directory of the run, the file to write).
Writer = Callable[[Path, Path], None]


class Code(Protocol):
    """What the code of a benchmark offers. `kit/benchmarks/NAME/__init__.py` has one, as CODE.

    `generate` and `evaluate` every benchmark writes itself. The rest has a default, for benchmarks that do without.
    All of it runs on the login node: nothing here may need TensorFlow, MPI, or an image.
    """

    # Files of the kit, by their path in the package, whose text decides what `generate` writes.
    GENERATOR: tuple[str, ...] = ()
    # The parameter of a size that is the seed of its generated data; empty where no seed decides them.
    DATA_SEED: str = ""
    # Floating-point operations that are behind one unit of a throughput, at the very least, by the name of the metric.
    FLOP: Mapping[str, float] = {}
    # The work of a trial of kit tune for each core of a node, in particles or the like; 0: there is nothing to tune.
    TUNED: int = 0

    @abstractmethod
    def generate(self, folder: Path, parameters: Parameters) -> None:
        """Writes the data of a size, of these parameters, into an empty folder; the same bytes every time."""

    @abstractmethod
    def evaluate(self, directory: Path, ranks: int) -> None:
        """Judges a run whose stages all ended well, in its directory, and writes the files that metrics are read from.

        `ranks` is how many had to form one job. KitError for whatever speaks against the run.
        """

    def data_parameters(self, parameters: Parameters) -> Parameters:
        """Those parameters of a size that decide its data; all of them where a benchmark does not say."""
        return parameters

    def needed(self, workflow: str) -> list[str]:
        """Files and folders that a published data set must hold for a size, and for its workflow where it has one."""
        return []

    def compose(self, plan: Plan, directory: Path, composer: tuple[Image, str] | None = None) -> list[Stage]:
        """The stages of a size with a workflow, made ready in `directory`; with plan.pack only the one that it is made for.

        `composer` is an image and a runtime in which the workflow's own program writes its commands, where it is not that
        of the plan. KitError for a workflow that is not known.
        """
        raise KitError(f"benchmark {plan.benchmark.name}: has no workflows, but size {plan.size_name} names one")

    def read_table(self, path: Path, block: str) -> Mapping[str, Any] | None:
        """The blocks of a file that a metric is read from, by name and label, or `block` alone; None for an unknown format.

        JSON files are not asked for.
        """
        return None

    def stage_named(self, directory: Path, name: str) -> str:
        """The stage of a run that a user calls `name`: an alias, or the name of its job; else the name as it is."""
        return name

    def isolate(self, directory: Path, stage: str, folder: Path) -> dict[str, str]:
        """Copies what a stage of a run read into `folder`; {option of the stage: file in `folder`}.

        KitError for a stage that cannot run alone.
        """
        raise KitError(f"{directory}: no stage of this benchmark can be run alone, so stage {stage} cannot")

    def pair(self, first: Path, second: Path) -> tuple[dict[str, float], list[str]]:
        """What only two runs together can say: numbers by name, higher is more alike, and sentences."""
        return {}, []

    def contradictions(self, files: Mapping[str, Path]) -> Iterable[tuple[str, str]]:
        """(file, what is wrong with it) of the files that a submission carries, by their names in the run.

        What can be computed from them again is computed again. Some may be missing, and none can be trusted.
        """
        return ()

    def choices(self, size: Size, cores: int, gpus: int) -> list[Choice]:
        """What kit tune tries beside the default on a node with so many cores, and GPUs if the image computes on them."""
        return []

    def trial_parameters(self, parameters: Parameters) -> Parameters:
        """The parameters of the generated data of a trial, for a size with these parameters."""
        return parameters

    def trial_files(self, data: Path, directory: Path, amount: int) -> None:
        """Writes what a trial reads beside its data into its directory, for so much work."""
        return None

    def trial_command(self, choice: Choice, plan: Plan) -> str:
        """The shell of one measurement: it ends with an error if the choice does not work, and writes below out/."""
        raise KitError(f"benchmark {plan.benchmark.name}: has nothing to tune")

    def evidence(self, stages: Collection[str]) -> Mapping[str, Writer]:
        """What the scores of a run with these stages can be computed from again: how to write each file, by its name.

        The same run gives the same bytes. A writer may raise KitError for an output that is missing or cannot be read.
        """
        return {}

    def score_again(
        self, files: Mapping[str, Path], data: Path, parameters: Parameters, same_data: bool
    ) -> Iterable[tuple[str, str, str]]:
        """(rule, file, what is wrong with it) of the evidence and of the scores that were made of it.

        `files` are those that a submission carries, by their names in the run, the evidence as evidence/NAME. All of that is
        there, and none of it can be trusted. `data` are those of the size, made again here; `same_data` says whether their
        bytes are those of the run. The rules are those of kit/submissions/deep.py.
        """
        return ()
