"""The tables that people make of a RELION project by hand, from any project directory: the kit's, or a laboratory's.

What RELION wrote is the source of every cell; a cell whose source is not there is empty. Bytes count what a folder holds
itself, not what its links point at.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.filesize import decimal

from kit.benchmarks.relion.project import (
    files_read,
    files_written,
    find_job,
    job_names,
    job_table,
    owner,
    read_job_star,
    recorded_times,
    said,
    tidy,
)
from kit.benchmarks.relion.results import KINDS, Result, data_beside, expectation, results
from kit.benchmarks.relion.star import column, count_rows, read_columns, read_star
from kit.benchmarks.relion.workflow import folders
from kit.core.errors import KitError, plain
from kit.core.tables import table

if TYPE_CHECKING:
    from kit.runs.record import StageRecord

# Options that name files or hand a job to a queue: they differ between any two jobs and say nothing of how they ran.
PLUMBING = re.compile(
    r"^(fn_|input_star|star_mics|coords_suffix|opt_params|other_args$|do_queue|qsub|queuename|min_dedicated)"
)
TAIL = 1 << 16  # bytes of a log that are read from its end

Row = dict[str, Any]


def check_project(directory: Path) -> None:
    if not (directory / "default_pipeline.star").is_file():
        raise KitError(f"{directory}: not a RELION project, it has no default_pipeline.star")


def jobs(directory: Path) -> list[Row]:
    """Job statistics: type, alias, status, ranks, threads, GPUs, host, seconds, bytes, and what was set otherwise.

    `seconds` are those that the job ran, by the record of what started it: the kit's job script, or its Python interface.
    None where nothing says it: RELION's own notes have the time of submission, in a zone that they do not name, and times
    of files do not survive a copy. `differs` are the options by which a job differs from the first one of its type.

    Beside them, where there is a source: RELION's `version`; the `particles_in` and `particles_out` of a job; the final
    `resolution` (angstrom) and `bfactor` (square angstrom) of Refine3D, MultiBody and PostProcess; and of a failed job
    `why`, the end of its run.err. `unread` says which file of a job is damaged.
    """
    check_project(directory)
    recorded: dict[str, tuple[str, float]] = {}
    damaged: list[str] = []  # a record that cannot be read costs the times, and not the report
    for source in (recorded_times, stage_times):
        try:
            recorded |= source(directory)
        except KitError as error:
            damaged.append(str(error))
    reads, writes = edges_of(directory)
    first: dict[str, dict[str, str]] = {}
    rows: list[Row] = []
    for process in job_table(directory):
        name = process.name
        folder = directory / name
        kind = process.type or name.split("/")[0].lower()
        row: Row = {"job": name, "type": kind, "status": process.status, "alias": process.alias}
        unread: list[str] = damaged if not rows else []
        try:
            if (folder / "job.star").is_file():
                star = read_job_star(folder / "job.star")
                row["type"], options = star.type, star.options
                row |= {"ranks": options.get("nr_mpi", ""), "threads": options.get("nr_threads", "")}
                row["gpus"] = (options.get("gpu_ids") or "all") if options.get("use_gpu") == "Yes" else ""
                known = first.setdefault(star.type, options)
                row["differs"] = {
                    key: value for key, value in options.items() if known.get(key) != value and not PLUMBING.match(key)
                }
        except KitError as error:
            unread.append(str(error))
        host, seconds = recorded.get(name, ("", None))
        row |= {"host": host, "seconds": seconds, "bytes": size(folder), "version": version(folder)}
        row["particles_in"] = particle_count(directory, reads.get(name, ()), unread)
        row["particles_out"] = particle_count(directory, [*own_data(directory, name), *writes.get(name, ())], unread)
        row |= outcome(folder, row["type"], unread)
        row["why"] = said(tail(folder / "run.err")) if process.status in ("Failed", "Aborted") else ""
        row["unread"] = unread
        rows.append(row)
    return rows


def edges_of(directory: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The files that each job reads and those that it writes, by the project's pipeline."""
    known = job_names(directory, job_table(directory))
    reads: dict[str, list[str]] = {}
    writes: dict[str, list[str]] = {}
    for file, job in files_read(directory):
        reads.setdefault(owner(directory, job, known), []).append(tidy(directory, file))
    for file, job in files_written(directory):
        writes.setdefault(owner(directory, job, known), []).append(tidy(directory, file))
    return reads, writes


def particle_count(directory: Path, files: Iterable[str], unread: list[str]) -> int | None:
    """How many particles the STAR files among some hold; of an optimiser or model those of the file beside it."""
    counts = []
    for path in dict.fromkeys(data_beside(directory / file) for file in files):
        if path.name.endswith((".star", ".star.gz")) and path.is_file():
            try:
                counts.append(rows_of(path, path.stat().st_mtime_ns))
            except KitError as error:
                unread.append(str(error))
    held = [count for count in counts if count is not None]
    return sum(held) if held else None


@functools.cache
def rows_of(path: Path, changed: int) -> int | None:
    """Of a file that one job writes and others read: counted once."""
    return count_rows(path, "rlnImageName")


def own_data(directory: Path, job: str) -> list[str]:
    """The particles of the last iteration of a job, which may have written others before."""
    ended = [result for result in results(directory / job) if "data" in result.files]
    return [ended[-1].files["data"].relative_to(directory).as_posix()] if ended else []


def outcome(folder: Path, kind: str, unread: list[str]) -> Row:
    """Resolution and B-factor that a job ended with; None for a job that has none, or not yet."""
    row: Row = {"resolution": None, "bfactor": None}
    try:
        if kind == "postprocess" and (folder / "postprocess.star").is_file():
            for key, label in (("resolution", "rlnFinalResolution"), ("bfactor", "rlnBfactorUsedForSharpening")):
                row[key] = finite(column(folder / "postprocess.star", "general", label))
        elif kind in ("refine3d", "multibody"):
            ended = results(folder)
            if ended and ended[-1].final and "model" in ended[-1].files:
                row["resolution"] = resolution(ended[-1])
    except (KitError, ValueError, TypeError) as error:
        unread.append(str(error))
    return row


def resolution(result: Result) -> float | None:
    """Angstrom; None before the first iteration, which has none."""
    if "model" not in result.files:
        return None
    return finite(column(result.files["model"], "model_general", "rlnCurrentResolution"))


def finite(value: Any) -> float | None:
    """A number as JSON and people can read it."""
    return float(value) if np.isfinite(float(value)) else None


def version(folder: Path) -> str:
    """The version of RELION that ran a job, by its log, or by the first line of what it wrote; empty where none says it."""
    found = re.findall(r"^RELION version: (\S+)", head(folder / "run.out"), re.MULTILINE)
    for name in ("postprocess.star", "run_it000_optimiser.star", "run_optimiser.star"):
        found = found or re.findall(r"^# RELION \w+; version (\S+)", head(folder / name), re.MULTILINE)
    return plain(found[-1]) if found else ""


def head(path: Path) -> str:
    """The first lines of a file, as text; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(TAIL).decode(errors="replace")


def tail(path: Path) -> str:
    """The last lines of a file, as text; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace")


def attempts(directory: Path) -> dict[str, list[StageRecord]] | None:
    """Every attempt at each job that the script of a run wrote down; None where no script ran the jobs of a project.

    The script records when a stage begins, so that the time in a queue is no part of it.
    """
    if not (directory / "stages.jsonl").is_file():
        return None
    from kit.runs.record import read_stages

    known = folders(directory)
    found: dict[str, list[StageRecord]] = {}
    for stage in read_stages(directory):
        if stage.name in known:
            found.setdefault(known[stage.name], []).append(stage)
    return found


def stage_times(directory: Path) -> dict[str, tuple[str, float]]:
    """Host and seconds of each job by the record of the script that ran it; the last attempt that ended counts."""
    return {
        job: (stage.host, stage.end - stage.start)
        for job, stages in (attempts(directory) or {}).items()
        for stage in stages
        if stage.end is not None
    }


def size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(
        os.lstat(os.path.join(path, name)).st_size
        for path, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(path, name))
    )


def classes(directory: Path) -> list[Row]:
    """Class distributions of the last iteration of every Class2D and Class3D job, largest class first.

    A row whose model cannot be read says why, `unread`, and has no classes.
    """
    check_project(directory)
    rows: list[Row] = []
    for process in job_table(directory):
        models = [result for result in results(directory / process.name) if "model" in result.files]
        if process.name.split("/")[0] in ("Class2D", "Class3D") and models:
            row: Row = {"job": process.name, "iteration": models[-1].number, "classes": []}
            try:
                row["classes"] = distribution(models[-1].files["model"])
            except (KitError, ValueError) as error:
                row["unread"] = str(error)
            rows.append(row)
    return rows


def distribution(model: Path) -> list[Row]:
    """The classes of a model, largest first; the resolution of each where the model has it."""
    fractions = np.ravel(column(model, "model_classes", "rlnClassDistribution")).astype(float)
    known = read_star(model)["model_classes"]
    resolutions = (
        np.ravel(known["rlnEstimatedResolution"]) if "rlnEstimatedResolution" in known else [np.nan] * len(fractions)
    )
    return [
        {"class": int(i) + 1, "fraction": float(fractions[i]), "resolution": finite(resolutions[i])}
        for i in np.argsort(-fractions)
    ]


def iterations(directory: Path, job: str) -> list[Row]:
    """Iteration by iteration of a refinement: seconds of expectation (as RELION says them), wall seconds, resolution.

    The last row of one that converged is `final`: what it made of all particles. Wall seconds lie between the writing of
    two iterations of one run; the first has none before it. They are None for all where the times of the files cannot be
    those of their writing, since the job was copied: where an iteration would have taken less than its expectation, or was
    not written while the job's script ran.
    """
    listed = (directory / "default_pipeline.star").is_file() and bool(job_table(directory))
    name = find_job(directory, job) if listed or not (directory / job).is_dir() else tidy(directory, job) + "/"
    folder = directory / name
    found = results(folder)
    if not found:
        raise KitError(
            f"{folder}: no run_it*_optimiser.star or run_model.star; only jobs that align particles have iterations"
        )
    spent = expectation(folder)
    recorded = attempts(directory)
    known = [(stage.start, stage.end or math.inf) for stage in recorded.get(name, ())] if recorded is not None else None
    walls = wall_seconds(found, spent, known)
    return [
        {
            "iteration": result.number,
            "final": result.final,
            "expectation_seconds": spent.get(result.number) if result.number is not None else None,
            "wall_seconds": wall,
            "resolution": resolution(result),
        }
        for result, wall in zip(found, walls, strict=True)
    ]


def wall_seconds(
    found: list[Result], spent: dict[int, float | None], known: list[tuple[float, float]] | None
) -> list[float | None]:
    """Seconds between each two iterations by the times of their files; all None where these are not to be trusted.

    RELION counts seconds of expectation whole, and those of more than a minute or an hour to a hundredth of that.
    """
    written = [next(result.files[kind] for kind in KINDS if kind in result.files).stat().st_mtime for result in found]
    if known is not None and not all(any(start - 1 <= at <= end + 1 for start, end in known) for at in written):
        return [None] * len(found)
    walls: list[float | None] = [None]
    checked = known is not None
    for (before, start), (result, end) in itertools.pairwise(zip(found, written, strict=True)):
        follows = before.run == result.run and (known is None or within(known, start, end))
        walls.append(end - start if follows else None)
        least = spent.get(result.number) if result.number is not None else None
        if not follows or least is None:
            continue
        exact = 1.0 if least < 60 else 36.0 if least >= 3600 else 0.6
        if end - start < least - exact:
            return [None] * len(found)
        checked = checked or least > exact
    return walls if checked else [None] * len(found)


def within(known: list[tuple[float, float]], start: float, end: float) -> bool:
    """Whether both times are of one attempt."""
    return any(first - 1 <= start and end <= final + 1 for first, final in known)


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
        if label in table and table[label].notna().any()
    }
    return row


def particle_report(row: Row) -> str:
    out = [f"{row['particles']} particles" + (f" of {row['micrographs']} micrographs" if "micrographs" in row else "")]
    for name in ("classes", "halves"):
        if name in row:
            shares = sorted(row[name].items(), key=lambda item: -item[1])
            out.append(f"{name}: " + "  ".join(f"{key}: {count / row['particles']:.3f}" for key, count in shares))
    ranges = ((text, *(f"{value:.4g}" for value in values)) for text, values in row["ranges"].items())
    return "\n".join([*out, table(ranges, "lrrr", ("", "5 %", "median", "95 %"))])


def sizes(directory: Path) -> list[Row]:
    """Bytes of each kind of job, largest first, and of all."""
    check_project(directory)
    found: dict[str, int] = {}
    for process in job_table(directory):
        kind = process.name.split("/")[0]
        found[kind] = found.get(kind, 0) + size(directory / process.name)
    rows = [{"folder": kind, "bytes": number} for kind, number in sorted(found.items(), key=lambda item: -item[1])]
    return [*rows, {"folder": "all jobs", "bytes": sum(found.values())}]


def clean(directory: Path, image: str) -> list[Row]:
    """RELION's gentle clean of a project, by the RELION of an image: bytes of each kind of job before and after.

    KitError for a run of the benchmark that is not valid: what judges it must still be there when it is collected.
    """
    from kit.benchmarks.relion.project import RelionProject
    from kit.images.render import load_image
    from kit.runs.record import FILE, load_run

    check_project(directory)
    if (directory / FILE).is_file() and load_run(directory).state.name != "valid":
        raise KitError(f"{directory}: {load_run(directory).state}: collect it first, which needs what a clean takes away")
    before = sizes(directory)
    RelionProject(directory, load_image(image)).gentle_clean()
    after = {row["folder"]: row["bytes"] for row in sizes(directory)}
    return [{"folder": row["folder"], "before": row["bytes"], "after": after[row["folder"]]} for row in before]


def clean_report(directory: Path, rows: list[Row]) -> str:
    shown = ((row["folder"], decimal(row["before"]), decimal(row["after"])) for row in rows)
    text = table(shown, "lrr", ("folder", "before", "after"))
    return f"{text}\n{directory / 'Trash'} holds the rest; remove it to free the space"


def ancestry(directory: Path, job: str | None = None) -> Any:
    """A graph of jobs (networkx.DiGraph), edges along the files that one writes and another reads; or of one's ancestors."""
    import networkx as nx

    check_project(directory)
    jobs = job_table(directory)
    known = job_names(directory, jobs)
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(process.name for process in jobs)
    for file, reader in files_read(directory):
        writer, reader = owner(directory, file, known), owner(directory, reader, known)
        if writer and reader and writer != reader:  # a job that was continued reads its own files
            graph.add_edge(writer, reader)
    if job is None:
        return graph
    wanted = find_job(directory, job)
    return graph.subgraph({wanted, *nx.ancestors(graph, wanted)})


def draw(directory: Path, target: Path, job: str | None = None) -> None:
    """The flow chart of a project, or of one job's ancestry, as SVG or PNG by the name of `target`."""
    if target.suffix not in (".svg", ".png"):
        raise KitError(f"--chart {target}: a name that ends in .svg or .png is needed")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import networkx as nx

    graph = ancestry(directory, job).copy()
    if not graph:
        raise KitError(f"{directory}: a project without jobs, of which there is nothing to draw")
    status = {job.name: job.status for job in job_table(directory)}
    # Jobs that read from each other in a circle, as a damaged pipeline may have it, stand in one line.
    circles = nx.condensation(graph)
    order = {circle: number for number, line in enumerate(nx.topological_generations(circles)) for circle in line}
    layer = {node: order[circle] for node, circle in circles.graph["mapping"].items()}
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
        text = plain(node.strip("/")).replace("$", r"\$")  # which would start a formula in matplotlib
        axes.annotate(text, place, ha="center", va="center", fontsize=7, bbox=box)
    axes.margins(0.2, 0.02)
    axes.axis("off")
    figure.savefig(target, dpi=120)
    plt.close(figure)


def cell(value: float | None, digits: int = 0) -> str:
    """A number of a table; a dash where it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"


def iteration_report(rows: list[Row]) -> str:
    header = ("iteration", "expectation (s)", "wall (s)", "resolution (angstrom)")
    keys = (("expectation_seconds", 0), ("wall_seconds", 1), ("resolution", 2))
    return table(((iteration_name(row), *(cell(row[key], digits) for key, digits in keys)) for row in rows), "lrrr", header)


def iteration_name(row: Row) -> str:
    number = "" if row["iteration"] is None else str(row["iteration"])
    return f"{number} (final)".strip() if row["final"] else number


def is_particles(path: Path) -> bool:
    """Whether a path is that of a file of particles, and not of a project."""
    return path.name.endswith((".star", ".star.gz"))


def facts(path: Path, job: str | None = None) -> Any:
    """The tables of a project, the iterations of one job of it, or what a file of particles holds: as JSON has them."""
    if is_particles(path):
        return particles(path)
    if job:
        return iterations(path, job)
    return {"jobs": jobs(path), "classes": classes(path), "sizes": sizes(path)}


def text(path: Path, job: str | None = None) -> str:
    """The same as text."""
    if is_particles(path):
        return particle_report(particles(path))
    return iteration_report(iterations(path, job)) if job else report(path)


def report(directory: Path) -> str:
    """The tables of a project as text."""
    found = jobs(directory)
    work = [
        (
            row["job"] + (f" ({row['alias']})" if row["alias"] else ""),
            row["status"],
            row.get("ranks"),
            row.get("threads"),
            row.get("gpus"),
            row["host"],
            cell(row["seconds"]),
            decimal(row["bytes"]),
            ", ".join(f"{key} {value}" for key, value in row.get("differs", {}).items()),
        )
        for row in found
    ]
    header = ("job", "status", "ranks", "threads", "GPUs", "host", "time (s)", "data", "set otherwise")
    out = [table(work, "llrrrlrrl", header), ""]
    keys = (("particles_in", 0), ("particles_out", 0), ("resolution", 2), ("bfactor", 1))
    outcomes = [
        (row["job"], row["type"], row["version"], *(None if row[key] is None else cell(row[key], n) for key, n in keys))
        for row in found
        if row["version"] or any(row[key] is not None for key, _ in keys)
    ]
    quantities = ("particles in", "particles out", "resolution (angstrom)", "B-factor (square angstrom)")
    out.append(table(outcomes, "lllrrrr", ("job", "type", "RELION", *quantities)))
    for row in found:
        if row["why"]:
            out += ["", f"{plain(row['job'])} {plain(row['status'])}; the end of its run.err:", row["why"]]
        out += [f"\n{plain(row['job'])}: not read: {plain(text)}" for text in row["unread"]]
    out.append("")
    shares = [
        (
            row["job"],
            row["iteration"],
            row.get("unread")
            or "  ".join(
                f"{entry['class']}: {entry['fraction']:.2f} ({cell(entry['resolution'], 1)})" for entry in row["classes"]
            ),
        )
        for row in classes(directory)
    ]
    out += [table(shares, "lrl", ("job", "iteration", "class distribution, largest first (resolution in angstrom)")), ""]
    out.append(table(((row["folder"], decimal(row["bytes"])) for row in sizes(directory)), "lr", ("folder", "data")))
    return "\n".join(out)
