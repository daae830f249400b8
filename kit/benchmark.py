"""Benchmarks: data, stages, metrics and their references, one TOML file each beside the benchmark's own code."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from kit.benchmarks import Code
from kit.challenge import Challenge
from kit.core import paths
from kit.core.errors import KitError, unknown
from kit.core.files import read_json, read_text, read_toml
from kit.core.schema import Model, parse, shortened

# RELION reads a seed into 32 bits, and takes the time of day for one below 0.
MOST_SEED = 2**31 - 1
Gate = Annotated[float, Field(allow_inf_nan=False)]  # nothing would miss one that is no number


UNKNOWN = "unknown"


class Form(Model):
    """The rest of the working group's form "Specific Benchmark Targets", as it was filled in; else it is unknown."""

    science: str = UNKNOWN
    task: str = UNKNOWN
    owner: str = UNKNOWN  # the institute that looks after it
    about: str = UNKNOWN
    download: str = UNKNOWN
    data_size: str = UNKNOWN
    input_size: str = UNKNOWN
    training_samples: str = UNKNOWN
    validation_samples: str = UNKNOWN
    reference_code: str = UNKNOWN
    run_instructions: str = UNKNOWN
    systems: dict[str, str] = {}  # explored, and how they performed
    improvements: list[str] = []  # examples
    remarks: list[str] = []  # what a reader should know of these statements
    sources: list[str] = Field(min_length=1)


class Link(Model):
    name: str
    url: str


class Entry(Model):
    """What the list of benchmarks of MLCommons Science asks for and the card does not say (kit/card.py)."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*$")  # of which the list makes the name of a page
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")  # since when there is the benchmark; not known: its entry
    url: str = Field(pattern=r"^https?://")
    doi: str = UNKNOWN
    licensing: str = UNKNOWN
    domain: list[str] = Field(min_length=1)
    keywords: list[str] = Field(min_length=1)
    task_types: list[str] = Field(min_length=1)
    capabilities: list[str] = Field(min_length=1)
    motif: list[str] = Field(min_length=1)
    ml_task: list[str] = Field(min_length=1)
    contact: str = UNKNOWN
    email: str = UNKNOWN
    cite: list[str] = Field(min_length=1)  # BibTeX
    datasets: list[Link] = Field(min_length=1)
    results: list[Link] = []


class Card(Model):
    """The science of a benchmark, in the words of the MLCommons Science working group."""

    objective: str
    formula: str
    score: str
    dataset: str
    baseline: str
    listed: bool = False  # among the working group's own benchmarks; otherwise a result is a proposal
    # Of a file: a run says what it had to do, and not what others say of it.
    form: Form | None = Field(default=None, exclude=True)
    entry: Entry | None = Field(default=None, exclude=True)


class Size(Model):
    """One scale of a benchmark. `floor_seconds` is the least time that an honest run of a stage takes at this size."""

    description: str
    minutes: int = Field(ge=1)  # asked of the scheduler
    ranks: int = Field(1, ge=0, le=1_000_000)  # 0: fill the nodes, with one leading rank and an even number of working ranks
    nodes: int = Field(1, ge=1, le=1_000_000)
    threads: int = Field(1, ge=1, le=100_000)
    parameters: dict[str, int | float | str] = {}
    floor_seconds: dict[str, float] = {}
    workflow: str = ""  # the workflow whose jobs replace the benchmark's stages
    dataset: str = ""  # the published data set that it runs on, in place of generated data

    @model_validator(mode="after")
    def seeded(self) -> Size:
        value = self.parameters.get("random_seed", 0)
        if not isinstance(value, int) or not 0 <= value <= MOST_SEED:
            raise ValueError(f"random_seed is {value!r}, where a whole number from 0 to {MOST_SEED} is needed")
        return self

    @property
    def seed(self) -> int | None:
        """The random seed of the stages; None if the benchmark has none."""
        value = self.parameters.get("random_seed")
        return None if value is None else int(value)


# The stage that looks at the ranks of a job before the work begins, and its file, ranks.jsonl.
RANKS = "ranks"


class Stage(Model):
    """One step of the job script. `command` is shell, and a Jinja2 template over the size's numbers and parameters.

    `in_image` before a program runs it once in the image, `launch` runs it there on all ranks. The stage fails unless it
    leaves each file of `outputs`, new and not empty. `resume` is shell that prints the file from which an interrupted
    attempt continues, if there is one; the command gets it as `"${resume[@]}"`, after `resume_option`.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    command: str
    outputs: list[str] = Field(min_length=1)
    resume: str = ""
    resume_option: str = ""
    memory_gb: float = Field(default=0.0, ge=0)  # roughly what it needs on a node; 0: unknown
    note: str = ""  # its share of the nodes, as a comment in the script
    ranks: int = Field(default=0, ge=0)  # ranks that `launch` starts in this stage; 0: those of the run
    threads: int = Field(default=0, ge=0)  # of each of these ranks, where `ranks` are given; 0: those of the run
    halves: bool = False  # its ranks are a leader and two halves: an odd number, three at least
    always: bool = False  # in each job anew, though it was done in an earlier one: it looks at the job, and is not timed


class Published(Model):
    """Published times with several numbers of ranks, drawn beside the measured ones."""

    system: str
    ranks: list[int]
    seconds: list[float]
    source: str


class Scaling(Model):
    """What `kit scaling` runs with several numbers of ranks: a `stage`, behind those that stand before it.

    Its command is rendered once a point, with other values of the parameters `batch_size` (samples of a rank in a step),
    `epochs` and `patience` (0), and with `share` (of the data that this point works on) and `out`, the folder of the point,
    which a run does not have. It leaves `output` there, the train.json of a training; `common` are keys of it that all
    points must have alike, beside those of every training.
    """

    stage: str
    output: str
    common: list[str] = []
    published: list[Published] = []


class Otherwise(Model):
    """What a metric is at one size, where that is not what it is at the others; what is left out stays."""

    description: str = ""
    stage: str = ""
    file: str = ""
    label: str = Field("", min_length=1)
    at_least: Gate | None = None
    at_most: Gate | None = None
    reference: Gate | None = None
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    source: str = ""


def shown_unit(unit: str) -> str:
    """A unit as people read it: a ratio, whose unit is 1, has none."""
    return "" if unit == "1" else unit


class Metric(Model):
    """A number of the result: read from `file` by `label`, with what it must be.

    `stage` is the one that it judges, or `collect` where it judges them all.
    A `file` `STAGE:NAME` is the NAME beside the first output of that stage. `label` is `block.column` of a STAR file
    (`block.column[row]`), or the dotted path of a JSON file. The gates
    `at_least`, `at_most` and `reference` with `tolerance` decide whether the run is valid; without one the metric is
    only reported. What differs at a size stands in `at`, by its name.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str
    unit: str
    direction: Literal["higher", "lower", "none"]
    split: str = ""
    aggregation: str = ""
    stage: str
    file: str
    label: str = Field(min_length=1)
    at_least: Gate | None = None
    at_most: Gate | None = None
    reference: Gate | None = None
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    source: str = ""
    sizes: list[str] = []  # the sizes that have it; empty: all
    at: dict[str, Otherwise] = Field(default={}, exclude=True)  # of a file: nothing is left of it where one size is written
    fact: Literal["", "ranks"] = ""  # a fact of the run that it must equal
    compared: bool = False  # it differs between repeats, and `kit compare` compares it
    step: float = Field(default=0.0, ge=0)  # for a metric that is a count: differences below one step mean nothing

    @model_validator(mode="after")
    def complete(self) -> Metric:
        for size in self.at:
            if not self.belongs(size):
                raise ValueError(f"says what it is at the size {size}, which is none of its sizes")
        for metric in (self, *map(self.at_size, self.at)):
            if metric.tolerance is not None and metric.reference is None:
                raise ValueError("a tolerance needs a reference")
            gates = (metric.reference, metric.at_least, metric.at_most)
            if any(gate is not None for gate in gates) and not metric.source:
                raise ValueError("a reference or a gate needs its source")
        return self

    def belongs(self, size: str) -> bool:
        return not self.sizes or size in self.sizes

    def at_size(self, size: str) -> Metric:
        """The metric as it is at one of its sizes."""
        changes = self.at[size].model_dump(exclude_unset=True) if size in self.at else {}
        return self.model_copy(update={**changes, "sizes": [], "at": {}})

    def problem(self, value: float) -> str | None:
        """The gate that a value misses, as a sentence; None if it passes."""
        if value != value or value in (float("inf"), float("-inf")):
            return f"{self.name} is {value}, not a number"
        shown = f"{value:.4g} {shown_unit(self.unit)}".rstrip()
        if self.at_least is not None and value < self.at_least:
            return f"{self.name} = {shown}, but at least {self.at_least:g} is needed"
        if self.at_most is not None and value > self.at_most:
            return f"{self.name} = {shown}, but at most {self.at_most:g} is allowed"
        if self.reference is not None and self.tolerance is not None and abs(value - self.reference) > self.tolerance:
            off = value - self.reference
            return f"{self.name} = {shown}, but {self.reference:g} +- {self.tolerance:g} is expected (off by {off:+.4g})"
        return None


class Variant(Model):
    """What a benchmark has to know of an image that it runs on. All other keys are words for the templates of the stages."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, str]

    max_ranks: int = Field(0, ge=0)  # that its programs can join; 0: any number
    one_rank_per_gpu: bool = False  # NCCL joins no two ranks that share one

    @property
    def words(self) -> dict[str, str]:
        return dict(self.__pydantic_extra__)


class Benchmark(Model):
    name: str
    title: str
    # The images it runs on (the first is the default), each with words for the templates of the stages.
    images: dict[str, Variant] = Field(min_length=1)
    target: str  # the sentence that says when the result counts
    leader: bool = False  # the first rank hands out work and computes nothing itself
    functions: str = ""  # shell functions that the stages call
    # Parameters of the sizes that decide how fast a run is and not what it computes; a run with others changed is a trial.
    tunable: list[str] = []
    card: Card
    sizes: dict[str, Size] = Field(min_length=1)
    stages: list[Stage] = Field(min_length=1)
    metrics: list[Metric] = Field(min_length=1)
    scaling: Scaling | None = None

    @model_validator(mode="after")
    def consistent(self) -> Benchmark:
        stages = [stage.name for stage in self.stages]
        twice = sorted({metric.name for metric in self.metrics if [m.name for m in self.metrics].count(metric.name) > 1})
        again = sorted({name for name in stages if stages.count(name) > 1})
        if again:
            raise ValueError(f"more than one stage is named {again[0]}")
        if twice:
            raise ValueError(f"more than one metric is named {twice[0]}; what differs at a size goes into [metrics.at.SIZE]")
        for name, size in self.sizes.items():
            if size.ranks == 0 and not self.leader:
                raise ValueError(f"size {name} has 0 ranks, but this benchmark has no leading rank")
        for metric in self.metrics:
            for name in (*metric.sizes, *metric.at):
                if name not in self.sizes:
                    raise ValueError(f"metric {metric.name} names the size {name}, which does not exist")
        for name, size in self.sizes.items():
            if size.workflow:
                continue  # its stages are known when a run resolves them
            for metric in self.metrics_at(name):
                if metric.stage not in (*stages, "collect"):
                    raise ValueError(f"metric {metric.name} names the stage {metric.stage}, which does not exist")
            for stage in size.floor_seconds:
                if stage not in stages:
                    raise ValueError(f"size {name} gives a floor for the stage {stage}, which does not exist")
        return self

    def working(self, ranks: int) -> int:
        """How many of these ranks compute: all but the one that hands out work."""
        return ranks - 1 if self.leader and ranks > 1 else ranks

    def resolve(self, size_name: str, stages: list[Stage] | None = None, isolated: bool = False) -> Benchmark:
        """The benchmark of one size only: its metrics, and `stages` where they come from a workflow.

        KitError where a metric or a floor of the size names a stage that is not there; an `isolated` stage keeps
        those that are its own.
        """
        where = f"benchmark {self.name}, size {size_name}"
        size = self.size(size_name).model_copy(update={"workflow": ""})
        stages = self.stages if stages is None else stages
        names = [stage.name for stage in stages]
        if isolated:
            floors = {name: seconds for name, seconds in size.floor_seconds.items() if name in names}
            size = size.model_copy(update={"floor_seconds": floors})
        folders = {stage.name: Path(stage.outputs[0]).parent.as_posix() for stage in stages}
        metrics = []
        for metric in self.metrics_at(size_name):
            if not isolated or metric.stage in names:
                stage, mark, name = metric.file.partition(":")
                if mark and stage not in folders:
                    raise KitError(f"{where}: metric {metric.name} reads {metric.file}, but no stage is named {stage}")
                file = (Path(folders[stage]) / name).as_posix() if mark else metric.file
                metrics.append(metric.model_copy(update={"file": file}))
        whole = self.model_copy(update={"sizes": {size_name: size}, "metrics": metrics, "stages": stages})
        return parse(Benchmark, whole.model_dump(), where)

    def metrics_at(self, size_name: str) -> list[Metric]:
        return [metric.at_size(size_name) for metric in self.metrics if metric.belongs(size_name)]

    def size(self, name: str) -> Size:
        if name not in self.sizes:
            raise unknown(f"size of benchmark {self.name}", name, self.sizes)
        return self.sizes[name]

    def with_seed(self, size_name: str, seed: int | None) -> Benchmark:
        """The benchmark with another random seed for its stages (not for its data); itself without one."""
        if seed is None:
            return self
        size = self.size(size_name)
        if "random_seed" not in size.parameters:
            raise KitError(f"benchmark {self.name}, size {size_name}: has no random_seed that --seed or --repeat could set")
        if not 0 <= seed <= MOST_SEED:
            raise KitError(f"--seed {seed}: a number from 0 to {MOST_SEED} is needed")
        changed = size.model_copy(update={"parameters": {**size.parameters, "random_seed": seed}})
        return self.model_copy(update={"sizes": {**self.sizes, size_name: changed}})

    def challenged(self, size_name: str, challenge: Challenge | None) -> Benchmark:
        """The benchmark with the seeds of a challenge, for its data and its stages; itself without one.

        KitError for a size whose data are not generated from a seed: they are known to everybody.
        """
        if challenge is None:
            return self
        size, where = self.size(size_name), f"benchmark {self.name}, size {size_name}"
        if size.dataset:
            raise KitError(
                f"{where}: --challenge decides generated data, and this size runs on the published data set {size.dataset}, "
                "which is the same for everybody; take a size on generated data"
            )
        key = self.code.DATA_SEED
        if key not in size.parameters or "random_seed" not in size.parameters:
            raise KitError(f"{where}: its data have no seed that --challenge could decide")
        seeds = {
            key: challenge.data_seed(self.name, size_name, MOST_SEED),
            "random_seed": challenge.run_seed(self.name, size_name, MOST_SEED),
        }
        changed = size.model_copy(update={"parameters": {**size.parameters, **seeds}})
        return self.model_copy(update={"sizes": {**self.sizes, size_name: changed}})

    def with_parameters(self, size_name: str, settings: Iterable[str]) -> Benchmark:
        """The benchmark with other values for parameters of a size, each given as KEY=VALUE.

        KitError for a parameter that the size does not have, a value of another type, and parameters that decide the data:
        those are made, or published, for the size as it is.
        """
        size = self.size(size_name)
        where = f"benchmark {self.name}, size {size_name}"
        fixed = self.code.data_parameters(size.parameters) if settings else {}
        changed: dict[str, int | float | str] = {}
        for setting in settings:
            key, mark, text = setting.partition("=")
            if not mark:
                raise KitError(f"{where}: parameter '{setting}': KEY=VALUE is needed, for example --set {key or 'KEY'}=1")
            if key not in size.parameters:
                raise unknown(f"parameter of {where}:", key, set(size.parameters) - set(fixed) - {"random_seed"})
            if key == "random_seed":
                raise KitError(f"{where}: parameter 'random_seed': --seed sets it")
            if key in fixed:
                raise KitError(f"{where}: parameter '{key}': decides the data, which are the same in every run of a size")
            if key in changed:
                raise KitError(f"{where}: parameter '{key}': given twice")
            changed[key] = typed(text, size.parameters[key], f"{where}: parameter '{key}'")
        altered = size.model_copy(update={"parameters": {**size.parameters, **changed}})
        return self.model_copy(update={"sizes": {**self.sizes, size_name: altered}}) if changed else self

    def with_placement(self, size_name: str, **changes: int | None) -> Benchmark:
        """The benchmark with other `nodes`, `ranks` or `threads` for a size; None leaves a number as it is."""
        size = self.size(size_name)
        given = {key: value for key, value in changes.items() if value is not None}
        if given.get("ranks") == 0 and not self.leader:
            raise KitError(f"benchmark {self.name}: --ranks 0 needs a benchmark with a leading rank; give a number")
        changed = parse(Size, {**size.model_dump(), **given}, f"benchmark {self.name}, size {size_name}")
        return self.model_copy(update={"sizes": {**self.sizes, size_name: changed}})

    def image(self, name: str | None) -> str:
        """The image asked for, or the first; KitError when the benchmark does not run on it."""
        if name is not None and name not in self.images:
            from kit.images.render import current

            name = current(name)
        if name is not None and name not in self.images:
            raise unknown(f"image for benchmark {self.name}", name, self.images)
        return name or next(iter(self.images))

    def variant(self, image: str) -> Variant:
        """What the benchmark says of an image that it runs on; a run of an older kit may know it by its old name."""
        from kit.images.recipes import ALIASES

        for name, found in self.images.items():
            if image in (name, ALIASES.get(name)):
                return found
        raise unknown(f"image for benchmark {self.name}", image, self.images)

    @property
    def code(self) -> Code:
        """The benchmark's own code."""
        import importlib

        module = importlib.import_module(f"kit.benchmarks.{self.name}")
        code: Code | None = getattr(module, "CODE", None)
        if code is None:
            raise KitError(f"{module.__file__}: CODE is missing, an instance of a class derived from kit.benchmarks.Code")
        return code

    def read_value(self, path: Path, label: str, known: dict[Any, Any] | None = None) -> float:
        """The number that `label` names in a file; KitError names file and label of what is missing.

        JSON is read here, other formats by the benchmark's own code. `known` keeps what was read, where a file is asked for
        several numbers.
        """
        if not path.is_file():
            raise KitError(f"{path}: missing, and with it {label}")
        match = re.fullmatch(r"(.+?)(?:\[(\d+)\])?", label)
        assert match  # the pattern accepts every text that is not empty
        names, row = match[1].split("."), int(match[2] or 0)
        known = {} if known is None else known
        key = (path, names[0] if path.suffix != ".json" else "")
        if key not in known:
            known[key] = read_json(path) if path.suffix == ".json" else self.code.read_table(path, names[0])
        value: Any = known[key]
        if value is None:
            raise KitError(f"{path}: a JSON file is needed, or one of a format that benchmark {self.name} reads")
        for name in names:
            try:
                value = value[name]
            except (KeyError, TypeError, IndexError):
                raise KitError(f"{path}: no label '{name}' (looking for {label})") from None
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            rows = list(value)
            if row >= len(rows):
                raise KitError(f"{path}: {label} has {len(rows)} rows, row {row} is missing")
            value = rows[row]
        try:
            return float(value)
        except (TypeError, ValueError):
            raise KitError(f"{path}: {label} is {value!r}, not a number") from None


def typed(text: str, like: int | float | str, where: str) -> int | float | str:
    """A text of the command line as the type of a value that it replaces; KitError names what was expected."""
    if isinstance(like, str):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:/+,@%-]*", text):  # it stands in the shell of the stages as it is
            raise KitError(f"{where}: one word of letters, digits and _ . : / + , @ % - is needed, got {shortened(text)}")
        return text
    kind, name = (int, "a whole number") if isinstance(like, int) else (float, "a number")
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise KitError(f"{where}: {name} is needed, like {like}, got {shortened(text)}")
    if value < 0 <= like:
        raise KitError(f"{where}: 0 or more is needed, got {value}")
    return value


def benchmark_names() -> list[str]:
    return sorted(path.parent.name for path in (paths.PACKAGE / "benchmarks").glob("*/benchmark.toml"))


def names_to_tune() -> list[str]:
    """The benchmarks that have something for kit tune."""
    return [name for name in benchmark_names() if load_benchmark(name).code.TUNED]


def load_benchmark(name: str) -> Benchmark:
    """A benchmark by its benchmark.toml, with the defaults of its sizes and the shell that stands in files beside it."""
    if name not in benchmark_names():
        raise unknown("benchmark", name, benchmark_names())
    folder = paths.PACKAGE / "benchmarks" / name
    files = [*folder.glob("*.toml"), *folder.glob("*.sh")]
    return read_benchmark(
        name, folder, tuple(sorted((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files))
    )


@functools.lru_cache(maxsize=32)
def read_benchmark(name: str, folder: Path, files: tuple[tuple[str, int, int], ...]) -> Benchmark:
    """The benchmark of a folder. Kept as long as its `files` (name, time, bytes) are the same: thousands of scripts may be
    rendered of it."""
    path = folder / "benchmark.toml"
    data = with_shell(with_defaults(read_toml(path), path), path.parent)
    found = parse(Benchmark, {"name": name, **data}, path)
    if found.scaling and found.scaling.stage not in (stages := [stage.name for stage in found.stages]):
        raise KitError(f"{path}: key 'scaling.stage': {unknown('stage', found.scaling.stage, stages)}")
    parameters = {key for size in found.sizes.values() for key in size.parameters}
    for key in found.tunable:
        if key not in parameters:
            raise KitError(f"{path}: key 'tunable': {unknown('parameter', key, parameters)}")
    return found


def with_defaults(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """A benchmark.toml whose sizes have what its `[defaults]` say and they do not; tables are merged key by key."""
    defaults, sizes = data.get("defaults", {}), data.get("sizes", {})
    named = sizes.values() if isinstance(sizes, dict) else ()
    if not all(isinstance(table, dict) for table in (defaults, sizes, *named)):
        raise KitError(f"{path}: [defaults] and [sizes.NAME] need to be tables")
    for key in defaults:
        if key not in Size.model_fields:
            raise KitError(f"{path}: key 'defaults.{key}': {unknown('key of a size', key, Size.model_fields)}")
    merged = {}
    for name, size in sizes.items():
        both = [key for key in defaults if isinstance(defaults[key], dict) and isinstance(size.get(key), dict)]
        merged[name] = {**defaults, **size, **{key: {**defaults[key], **size[key]} for key in both}}
    return {key: value for key, value in data.items() if key != "defaults"} | {"sizes": merged}


def with_shell(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A benchmark.toml with the text of each file that stands in place of shell, as `{ file = "NAME.sh" }`."""

    def text(table: Any, key: str) -> Any:
        value = table.get(key) if isinstance(table, dict) else None
        if not isinstance(value, dict) or set(value) != {"file"}:
            return table
        name = value["file"]
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*", name):
            raise KitError(
                f"{folder / 'benchmark.toml'}: key '{key}.file': the name of a file beside it is needed, got {name!r}"
            )
        if (folder / name).exists() and not (folder / name).is_file():
            raise KitError(f"{folder / name}: no plain file")
        return {**table, key: read_text(folder / name)}

    stages = data.get("stages", [])
    found = text(data, "functions")
    return {**found, "stages": [text(stage, "command") for stage in stages]} if isinstance(stages, list) else found
