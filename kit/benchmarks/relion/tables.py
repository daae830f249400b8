"""The tables that people make of a RELION project by hand, from any project directory: the kit's, or a laboratory's.

What RELION wrote is the source of every cell; a cell whose source is not there is empty. Bytes count what a folder holds
itself, not what its links point at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from kit.benchmarks.relion.files import column
from kit.benchmarks.relion.project import pipeline_rows, read_job_star
from kit.benchmarks.relion.workflow import folders
from kit.errors import KitError
from kit.star import read_columns

STATUSES = {"0": "Running", "1": "Scheduled", "2": "Succeeded", "3": "Failed", "4": "Aborted"}
# Options that name files or hand a job to a queue: they differ between any two jobs and say nothing of how they ran.
PLUMBING = re.compile(
    r"^(fn_|input_star|star_mics|coords_suffix|opt_params|other_args$|do_queue|qsub|queuename|min_dedicated)"
)
SECONDS = {"sec": 1.0, "min": 60.0, "hrs": 3600.0}
MODELS = "run_*it*_model.star"

Row = dict[str, Any]


def check_project(directory: Path) -> None:
    if not (directory / "default_pipeline.star").is_file():
        raise KitError(f"{directory}: not a RELION project, it has no default_pipeline.star")


def jobs(directory: Path) -> list[Row]:
    """Job statistics: type, alias, status, ranks, threads, GPUs, host, seconds, bytes, and what was set otherwise.

    `seconds` are those of the job script's record where there is one (`stages.jsonl`), else from the last line of note.txt
    that says when the job was started to the mark of its end. `differs` are the options by which a job differs from the
    first one of its type.
    """
    check_project(directory)
    recorded = stage_times(directory)
    first: dict[str, dict[str, str]] = {}
    rows = []
    for name, alias, _, status, *_ in pipeline_rows(directory, "processes"):
        folder = directory / name
        row: Row = {"job": name, "type": name.split("/")[0].lower(), "status": STATUSES.get(status, status)}
        row["alias"] = "" if alias == "None" else alias
        path = folder / "job.star"
        if path.is_file():
            star = read_job_star(path)
            row["type"], options = star.type, star.options
            row |= {"ranks": options.get("nr_mpi", ""), "threads": options.get("nr_threads", "")}
            row["gpus"] = (options.get("gpu_ids") or "all") if options.get("use_gpu") == "Yes" else ""
            known = first.setdefault(star.type, options)
            row["differs"] = {
                key: value for key, value in options.items() if known.get(key) != value and not PLUMBING.match(key)
            }
        host, seconds = recorded.get(name) or ("", noted_seconds(folder))
        row |= {"host": host, "seconds": seconds, "bytes": size(folder)}
        rows.append(row)
    return rows


def stage_times(directory: Path) -> dict[str, tuple[str, float]]:
    """Host and seconds of each job by the record of the script that ran it; the last attempt counts."""
    if not (directory / "stages.jsonl").is_file():
        return {}
    from kit.run import read_stages

    known = folders(directory)
    return {
        known[stage.name]: (stage.host, stage.end - stage.start)
        for stage in read_stages(directory)
        if stage.name in known and stage.end is not None
    }


def noted_seconds(folder: Path) -> float | None:
    """From the last start in note.txt (local time, as RELION writes it) to the mark that the job left at its end."""
    marks = [mark.stat().st_mtime for mark in folder.glob("RELION_JOB_EXIT_*")]
    note = folder / "note.txt"
    if not marks or not note.is_file():
        return None
    starts = re.findall(r"\+\+\+\+ (?:Executing|Continuing)[^\n]* on (.{24})", note.read_text(errors="replace"))
    try:
        seconds = max(marks) - datetime.strptime(starts[-1], "%a %b %d %H:%M:%S %Y").timestamp()
    except (IndexError, ValueError):  # never started, or a note in other words
        return None
    return seconds if seconds >= 0 else None  # a copy has the times of its copying


def size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(
        os.lstat(os.path.join(path, name)).st_size
        for path, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(path, name))
    )


def classes(directory: Path) -> list[Row]:
    """Class distributions of the last iteration of every Class2D and Class3D job, largest class first."""
    check_project(directory)
    rows = []
    for name, *_ in pipeline_rows(directory, "processes"):
        models = sorted((directory / name).glob(MODELS), key=iteration)
        if name.split("/")[0] in ("Class2D", "Class3D") and models:
            fractions = np.ravel(column(models[-1], "model_classes", "rlnClassDistribution")).astype(float)
            resolutions = np.ravel(column(models[-1], "model_classes", "rlnEstimatedResolution")).astype(float)
            order = np.argsort(-fractions)
            rows.append(
                {
                    "job": name,
                    "iteration": iteration(models[-1]),
                    "classes": [
                        {"class": int(i) + 1, "fraction": float(fractions[i]), "resolution": float(resolutions[i])}
                        for i in order
                    ],
                }
            )
    return rows


def iteration(path: Path) -> int:
    match = re.search(r"_it(\d+)_", path.name)
    return int(match[1]) if match else -1


def iterations(directory: Path, job: str) -> list[Row]:
    """Iteration by iteration of a refinement: seconds of expectation (as RELION says them), wall seconds, resolution.

    Wall seconds lie between the writing of two iterations; the first has none before it.
    """
    folder = directory / job
    log = folder / "run.out"
    text = log.read_text(errors="replace").replace("\r", "\n") if log.is_file() else ""
    expectation = {}
    for number, body in re.findall(r"Expectation iteration (\d+)(.*?)(?=Maximization|\Z)", text, re.DOTALL):
        spent = re.findall(r"/\s*([\d.]+) (sec|min|hrs)", body)
        if spent:
            expectation[int(number)] = float(spent[-1][0]) * SECONDS[spent[-1][1]]
    rows: list[Row] = []
    before: float | None = None
    for path in sorted(folder.glob("run_it*_optimiser.star"), key=iteration):
        number, written = iteration(path), path.stat().st_mtime
        models = sorted(folder.glob(path.name.replace("_optimiser", "*_model")))
        resolution = float(column(models[0], "model_general", "rlnCurrentResolution")) if models else None
        rows.append(
            {
                "iteration": number,
                "expectation_seconds": expectation.get(number),
                "wall_seconds": None if before is None else written - before,
                "resolution": resolution,
            }
        )
        before = written
    if not rows:
        raise KitError(f"{folder}: no run_it*_optimiser.star; only jobs that align particles have iterations")
    return rows


# What a file of particles says of them, where it says it; the rest of its columns is not read.
PARTICLES = {
    "rlnDefocusU": "defocus U (angstrom)",
    "rlnDefocusV": "defocus V (angstrom)",
    "rlnCtfMaxResolution": "resolution of the CTF fit (angstrom)",
    "rlnMaxValueProbDistribution": "largest probability of a pose",
    "rlnNrOfSignificantSamples": "significant poses",
    "rlnAutopickFigureOfMerit": "figure of merit of the pick",
}


def particles(star: Path) -> Row:
    """What a STAR file of particles holds: how many, of how many micrographs, classes and halves; ranges of the rest.

    A range is the 5th, 50th and 95th percentile. Reads of a file of 750,000 particles what it needs in 3 s and 0.3 GB.
    """
    table = read_columns(star, "particles", ["rlnMicrographName", "rlnClassNumber", "rlnRandomSubset", *PARTICLES])
    row: Row = {"particles": len(table)}
    if "rlnMicrographName" in table:
        row["micrographs"] = int(table["rlnMicrographName"].nunique())
    for label, name in (("rlnClassNumber", "classes"), ("rlnRandomSubset", "halves")):
        if label in table:
            row[name] = {int(key): int(count) for key, count in table[label].value_counts().sort_index().items()}
    row["ranges"] = {
        text: [float(value) for value in np.nanpercentile(table[label], (5, 50, 95))]
        for label, text in PARTICLES.items()
        if label in table
    }
    return row


def particle_report(row: Row) -> str:
    out = [f"{row['particles']} particles" + (f" of {row['micrographs']} micrographs" if "micrographs" in row else "")]
    for name in ("classes", "halves"):
        if name in row:
            shares = sorted(row[name].items(), key=lambda item: -item[1])
            out.append(f"{name}: " + "  ".join(f"{key}: {count / row['particles']:.3f}" for key, count in shares))
    ranges = ((text, *(f"{value:.4g}" for value in values)) for text, values in row["ranges"].items())
    return "\n".join([*out, *lines(("", "5 %", "median", "95 %"), ranges)])


def sizes(directory: Path) -> list[Row]:
    """Bytes of each kind of job, largest first, and of all."""
    check_project(directory)
    found: dict[str, int] = {}
    for name, *_ in pipeline_rows(directory, "processes"):
        kind = name.split("/")[0]
        found[kind] = found.get(kind, 0) + size(directory / name)
    rows = [{"folder": kind, "bytes": number} for kind, number in sorted(found.items(), key=lambda item: -item[1])]
    return [*rows, {"folder": "all jobs", "bytes": sum(found.values())}]


def clean(directory: Path, image: str) -> list[Row]:
    """RELION's gentle clean of a project, by the RELION of an image: bytes of each kind of job before and after.

    KitError for a run of the benchmark that is not valid: what judges it must still be there when it is collected.
    """
    from kit.benchmarks.relion.project import RelionProject
    from kit.image import load_image
    from kit.run import FILE, load_run

    check_project(directory)
    if (directory / FILE).is_file() and load_run(directory).state.name != "valid":
        raise KitError(f"{directory}: {load_run(directory).state}: collect it first, which needs what a clean takes away")
    before = sizes(directory)
    RelionProject(directory, load_image(image)).gentle_clean()
    after = {row["folder"]: row["bytes"] for row in sizes(directory)}
    return [{"folder": row["folder"], "before": row["bytes"], "after": after[row["folder"]]} for row in before]


def clean_report(directory: Path, rows: list[Row]) -> str:
    table = ((row["folder"], human(row["before"]), human(row["after"])) for row in rows)
    trash = directory / "Trash"
    return "\n".join([*lines(("folder", "before", "after"), table), f"{trash} holds the rest; remove it to free the space"])


def ancestry(directory: Path, job: str | None = None) -> Any:
    """A graph of jobs (networkx.DiGraph), edges along the files that one writes and another reads; or of one's ancestors."""
    import networkx as nx

    check_project(directory)
    names = [row[0] for row in pipeline_rows(directory, "processes")]
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(names)
    for file, reader in pipeline_rows(directory, "input_edges"):
        writer = next((name for name in names if file.startswith(name)), None)
        if writer and reader in graph:
            graph.add_edge(writer, reader)
    if job is None:
        return graph
    wanted = job.strip("/") + "/"
    if wanted not in graph:
        raise KitError(f"{directory}: no job '{wanted}'; known: {', '.join(names)}")
    return graph.subgraph({wanted, *nx.ancestors(graph, wanted)})


def draw(directory: Path, target: Path, job: str | None = None) -> None:
    """The flow chart of a project, or of one job's ancestry, as SVG or PNG by the name of `target`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import networkx as nx

    graph = ancestry(directory, job).copy()
    status = {row[0]: STATUSES.get(row[3], row[3]) for row in pipeline_rows(directory, "processes")}
    layer = {job: number for number, jobs in enumerate(nx.topological_generations(graph)) for job in jobs}
    nx.set_node_attributes(graph, layer, "layer")
    position: Any = nx.multipartite_layout(graph, subset_key="layer", align="horizontal")
    position = {node: (x, -y) for node, (x, y) in position.items()}
    figure, axes = plt.subplots(figsize=(7, 0.55 * max(layer.values()) + 1.4), layout="constrained")
    colors = {"Succeeded": "#cfe8cf", "Failed": "#f2c4c4", "Aborted": "#f2c4c4", "Running": "#fbeab5"}
    for far in (False, True):  # a straight line would run through the jobs between
        edges = [(a, b) for a, b in graph.edges if (layer[b] - layer[a] > 1) == far]
        style = "arc3,rad=0.35" if far else "arc3"
        nx.draw_networkx_edges(
            graph, position, edges, ax=axes, arrowsize=8, edge_color="0.5", node_size=500, connectionstyle=style
        )
    for node, place in position.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": colors.get(status[node], "#e8e8e8"), "edgecolor": "0.4"}
        axes.annotate(node.strip("/"), place, ha="center", va="center", fontsize=7, bbox=box)
    axes.margins(0.2, 0.02)
    axes.axis("off")
    figure.savefig(target, dpi=120)
    plt.close(figure)


def human(number: float) -> str:
    """Bytes as people write them, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def lines(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table as lines of text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    yield from (line.rstrip() for line in capture.get().splitlines())


def iteration_report(rows: list[Row]) -> str:
    def number(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    header = ("iteration", "expectation (s)", "wall (s)", "resolution (angstrom)")
    keys = (("expectation_seconds", 0), ("wall_seconds", 1), ("resolution", 2))
    return "\n".join(
        lines(header, ((str(row["iteration"]), *(number(row[key], digits) for key, digits in keys)) for row in rows))
    )


def report(directory: Path) -> str:
    """The three tables as text."""
    out = list(
        lines(
            ("job", "status", "ranks", "threads", "GPUs", "host", "time (s)", "data", "set otherwise"),
            (
                (
                    row["job"] + (f" ({row['alias']})" if row["alias"] else ""),
                    row["status"],
                    row.get("ranks", ""),
                    row.get("threads", ""),
                    row.get("gpus", ""),
                    row["host"],
                    "" if row["seconds"] is None else f"{row['seconds']:.0f}",
                    human(row["bytes"]),
                    ", ".join(f"{key} {value}" for key, value in row.get("differs", {}).items()),
                )
                for row in jobs(directory)
            ),
        )
    )
    out.append("")
    out += lines(
        ("job", "iteration", "class distribution, largest first (resolution in angstrom)"),
        (
            (
                row["job"],
                str(row["iteration"]),
                "  ".join(
                    f"{entry['class']}: {entry['fraction']:.2f} ({entry['resolution']:.1f})" for entry in row["classes"]
                ),
            )
            for row in classes(directory)
        ),
    )
    out.append("")
    out += lines(("folder", "data"), ((row["folder"], human(row["bytes"])) for row in sizes(directory)))
    return "\n".join(out)
