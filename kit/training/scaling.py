"""Scaling: one stage of a benchmark with several numbers of ranks, one after the other in one job, so on the same nodes.

Strong points share the same work: all data, and a global batch of the same size. Weak points do as much a rank as the
largest one does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from kit.benchmark import Benchmark, Metric, Stage, benchmark_names, load_benchmark
from kit.core.errors import KitError

FILE = "scaling/scaling.json"  # what report.evaluate writes, with the points by name


def rank_numbers(text: str) -> tuple[int, ...]:
    """The numbers of ranks in a text such as 1,2,4; KitError for any other."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise KitError(f"--ranks {text}: expected numbers separated by commas, for example 1,2,4") from None


def points(ranks: Sequence[int]) -> dict[str, int]:
    """Names of the points, and their ranks. The largest strong point is the largest weak one as well."""
    strong = {f"strong_{number}": number for number in ranks}
    return strong | {f"weak_{number}": number for number in ranks[:-1]}


def plan(benchmark: Benchmark, size_name: str, ranks: Sequence[int], epochs: int) -> Benchmark:
    """The benchmark whose stages are the points, behind those that make their data; KitError for ranks that cannot be."""
    measured = benchmark.scaling
    if measured is None:
        able = [name for name in benchmark_names() if load_benchmark(name).scaling]
        raise KitError(
            f"benchmark {benchmark.name}: has no scaling measurement: its benchmark.toml has no [scaling]; "
            f"these have: {', '.join(able)}"
        )
    ranks = sorted(set(ranks))
    most = ranks[-1] if ranks else 0
    if len(ranks) < 2 or ranks[0] < 1 or any(most % number for number in ranks):
        given = ",".join(map(str, ranks))
        raise KitError(
            f"--ranks {given}: two numbers or more are needed, each a divisor of the largest, 1,2,4 for example: "
            "strong points share one global batch"
        )
    benchmark = benchmark.with_placement(size_name, ranks=most)  # refuses more than anybody has
    size = benchmark.size(size_name)
    own = size.parameters.get("batch_size")
    if not isinstance(own, int) or own < 1:
        raise KitError(
            f"benchmark {benchmark.name}, size {size_name}: batch_size is {own!r}, where a number from 1 is needed"
        )
    names = [stage.name for stage in benchmark.stages]
    place = names.index(measured.stage)
    stages = list(benchmark.stages[:place])
    for name, number in points(ranks).items():
        strong = name.startswith("strong")
        numbers = {
            "batch_size": own * most // number if strong else own,
            "share": 1 if strong else number / most,
            "epochs": epochs,
            "patience": 0,
            "out": name,
        }
        given = "".join(f"{{% set {key} = {json.dumps(value)} %}}" for key, value in numbers.items())
        stages.append(
            Stage(
                name=name,
                command=given + benchmark.stages[place].command,
                outputs=[f"{name}/{measured.output}"],
                ranks=number,
                note=f"{number} rank{'s' if number > 1 else ''}, batch {numbers['batch_size']} of a rank",
            )
        )
    changed = size.model_copy(update={"ranks": most, "floor_seconds": {}})
    return benchmark.model_copy(
        update={"sizes": {**benchmark.sizes, size_name: changed}, "stages": stages, "metrics": metrics(ranks)}
    )


def metrics(ranks: Sequence[int]) -> list[Metric]:
    """What is reported of each point, against the smallest number of ranks."""
    found = []
    for kind, quantity, unit, text in (
        ("strong", "speedup", "1", "throughput of the same work against that of the fewest ranks"),
        ("strong", "efficiency", "1", "the same for each rank"),
        ("weak", "efficiency", "1", "throughput of a rank against that with the fewest, the same work a rank"),
    ):
        for number in ranks:
            name = f"{kind}_{number}"
            found.append(
                Metric(
                    name=f"{name}_{quantity}",
                    description=text,
                    unit=unit,
                    direction="higher",
                    stage="collect",
                    file=FILE,
                    label=f"{kind}.{number}.{quantity}",
                )
            )
    return found
