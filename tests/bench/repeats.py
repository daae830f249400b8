"""How far two runs of RELION differ that differ in their random seed only: `make bench/repeats`.

Runs size tiny in relion-accelerated with seeds 1 to N (REPEATS, 6), and writes the metrics of each and what each pair of
them has in common to kit/benchmarks/relion/repeats.json, from which `kit compare` takes its tolerances.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
from pathlib import Path

from kit import launch, paths
from kit.benchmark import load_benchmark
from kit.collect import collect
from kit.compare import FILE, Repeats, pair
from kit.image import Image, load_image
from kit.model import write_json
from kit.run import load_run
from kit.system import processor

SEEDS = list(range(1, int(os.environ.get("REPEATS", "6")) + 1))
IMAGE = "relion-accelerated"
SIZE = "tiny"
# What a run is judged by; the others are counts of ranks or follow from these.
METRICS = ("map_truth_correlation", "resolution_shell", "major_class_fraction", "class_assignment_accuracy")


def repeat(image: Image, seed: int) -> Path:
    """A collected run with this seed: one that is there already, or a new one."""
    built = f"sha256:{image.hash}"
    for directory in sorted((launch.runs_folder() / "relion").glob(f"{SIZE}-local-*")):
        run = load_run(directory)
        if run.metrics and run.seed == seed and run.image.name == image.name and run.image.recipe == built:
            return directory.absolute()
    directory = launch.prepare("relion", SIZE, "local", None, launch.runs_folder(), image, seed)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    collect(directory)
    return directory


def main() -> None:
    image, directories, metrics = load_image(IMAGE), [], {name: [] for name in METRICS}  # type: ignore[var-annotated]
    for seed in SEEDS:
        directory = repeat(image, seed)
        run = load_run(directory)
        found = {metric.name: metric.value for metric in run.metrics}
        print(f"seed {seed}: {run.state} {found}", flush=True)
        if not set(METRICS) <= set(found):
            raise SystemExit(f"{directory}: ended without the metrics that are compared")
        for name in METRICS:
            metrics[name].append(found[name])
        directories.append(directory)
    benchmark = load_benchmark("relion")
    pairs: dict[str, list[float]] = {}
    for first, second in itertools.combinations(directories, 2):
        for name, value in pair(benchmark, first, second).items():
            pairs.setdefault(name, []).append(value)
    model, _ = processor()
    repeats = Repeats(
        image=IMAGE,
        version=image.source.VERSION,
        machine=f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}",
        seeds=SEEDS,
        metrics=metrics,
        steps={"resolution_shell": 1},
        pairs=pairs,
    )
    path = paths.PACKAGE / "benchmarks/relion" / FILE
    known = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, {**known, SIZE: repeats.model_dump(mode="json")})
    print(path)


main()
