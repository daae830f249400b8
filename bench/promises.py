"""What the kit promises of its speed and size, measured: `make bench` writes build/bench/kit.json.

Times are wall-clock seconds of whole processes, the median of several runs after one that is not counted.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kit.images.built import built_sif, no_privileges, sif_of, singularity
from kit.images.recipes import RECIPES
from kit.images.render import load_image
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import State, load_run, save_run
from kit.runs.states import become

ROOT = Path(__file__).parent.parent
KIT = str(ROOT / ".venv/bin/kit")


def seconds(command: list[str], runs: int = 7, path: Path | None = None) -> dict[str, float]:
    """Times of a command, which finds programs in the folder `path` before all others."""
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment)
        times.append(time.perf_counter() - started)
    return {"median": statistics.median(times[1:]), "min": min(times[1:]), "max": max(times[1:]), "runs": runs}


def processor_seconds(command: list[str], runs: int = 7, cache: Path | None = None) -> dict[str, float]:
    """User and system time of a command and its children, which other work on the machine changes less than the clock on the
    wall. With a `cache`, that is emptied before each run."""
    environment = {**os.environ, "KIT_CACHE": str(cache)} if cache else None
    times = []
    for _ in range(runs + 1):
        if cache:
            shutil.rmtree(cache, ignore_errors=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"median": statistics.median(times[1:]), "min": min(times[1:]), "max": max(times[1:]), "runs": runs}


COLUMNS = ["CoordinateX", "CoordinateY", "AutopickFigureOfMerit", "ClassNumber", "AnglePsi", "ImageName", "MicrographName"]
COLUMNS += ["DefocusU", "DefocusV", "CtfMaxResolution", "MaxValueProbDistribution", "NrOfSignificantSamples"]
COLUMNS += [f"Other{number}" for number in range(13)] + ["RandomSubset"]


def particles(path: Path, count: int) -> None:
    """A file of particles as Class2D leaves it, with numbers of the usual length."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("\ndata_particles\n\nloop_\n")
        file.writelines(f"_rln{name} #{i}\n" for i, name in enumerate(COLUMNS, start=1))
        for i in range(count):
            row = [f"{value:12.6f}" for value in rng.normal(1e4, 1e3, len(COLUMNS))]
            row[3], row[-1] = str(i % 100 + 1), str(i % 2 + 1)
            micrograph = f"Movies/session_{i // 200:06d}.mrc"
            row[5:7] = f"{i % 200 + 1:06d}@Extract/job024/{micrograph}s", f"MotionCorr/job005/{micrograph}"
            file.write(" ".join(row) + "\n")


def summary(count: int) -> dict[str, float]:
    """Seconds and peak memory of `kit relion project` on a file of particles; memory is that of the largest child so far."""
    with tempfile.TemporaryDirectory() as name:
        star = Path(name) / "particles.star"
        particles(star, count)
        found = seconds([KIT, "relion", "project", str(star)], runs=3)
        return {
            **found,
            "bytes": star.stat().st_size,
            "memory": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        }


SITE = """
description = "a cluster that has nothing to do"
contact = "nobody"
url = "https://localhost"
scheduler = "slurm"
[partitions.cpu]
cores = 4
"""
COUNT = 1000


def scripts() -> dict[str, float]:
    """Seconds in which one process renders so many job scripts, half of each benchmark; promised: less than 5."""
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / "cluster.toml"
        site.write_text(SITE)
        requests = [Request("relion", "particles", str(site)), Request("cloudmask", "tiny", str(site))]
        started = time.perf_counter()
        for number in range(COUNT):
            launch.script(make_plan(requests[number % 2]), *launch.DRY)
        return {"seconds": time.perf_counter() - started, "scripts": COUNT}


def status() -> dict[str, float]:
    """`kit status` over so many runs that wait in one scheduler, which answers at once; promised: one question, less than a
    second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cluster.toml").write_text(SITE)
        first = launch.prepare(make_plan(Request("relion", "particles", str(folder / "cluster.toml"))), folder / "first")
        run = load_run(first)
        for number in range(1, COUNT + 1):
            copy = folder / "runs" / f"{number:04d}"
            copy.mkdir(parents=True)
            for part in ("benchmark.json", "site.json", "job.sh"):
                shutil.copy(first / part, copy / part)
            save_run(copy, become(run.model_copy(update={"job": str(number)}), State(name="submitted")))
        programs = folder / "programs"
        programs.mkdir()
        (programs / "squeue").write_text(f"#!/bin/sh\necho >>{folder}/asked\nseq -f '%g|%g|PENDING|Priority' {COUNT}\n")
        (programs / "squeue").chmod(0o755)
        found = seconds([KIT, "status", "--runs", str(folder / "runs")], path=programs)
        asked = len((folder / "asked").read_text().splitlines())
        return {**found, "scheduler_queries_of_a_command": asked / (found["runs"] + 1)}


def data(benchmark: str) -> dict[str, float]:
    """Making the data of size tiny; promised: some 10 s on 2 cores, which are twice as many of a processor."""
    with tempfile.TemporaryDirectory() as name:
        return processor_seconds([KIT, "data", "make", benchmark, "--size", "tiny"], runs=2, cache=Path(name) / "cache")


def main() -> None:
    built = [name for name in RECIPES if sif_of(load_image(name)).is_file()]
    result = {
        "unit": "second (of the clock on the wall, whole process; *_processor: of the processor), byte",
        "help": seconds([KIT, "--help"]),
        "help_processor": processor_seconds([KIT, "--help"]),  # promised: less than 0.25
        "data_processor": {benchmark: data(benchmark) for benchmark in ("relion", "cloudmask")},
        "render": seconds([KIT, "run", "relion", "--size", "particles", "--dry-run"]),
        "render_1000_scripts": scripts(),
        "status_of_1000_runs": status(),
        "star_of_750000_particles": summary(750_000),
        "start": {
            name: seconds([*singularity(), "exec", *no_privileges(), str(built_sif(load_image(name))), "true"])
            for name in built
        },
        "size": {name: built_sif(load_image(name)).stat().st_size for name in built},
    }
    target = ROOT / "build/bench/kit.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    json.dump(result, sys.stdout, indent=2)
    print()


main()
