"""How much faster relion-accelerated is than relion-basic: `make bench/relion` writes build/bench/relion.json.

Both binaries run the same commands on the same particles (projections of a ribosome with CTF and noise), from their SIFs.
For each job and box the number of ranks, threads and pooled particles is swept for each binary on a part of the
particles; then the best of each run in turn, in pairs, on all of them. A time is the wall clock of the whole program; the
speed-up is the median over pairs of basic divided by accelerated. The seconds that the processors worked stand beside the
wall clock: on a machine that others use too they hold what the wall clock does not. What was measured is kept: a bench
that was cut off goes on where it was. Environment: PARTICLES, SWEEP (particles of the sweep), BOXES, PAIRS, JOBS, CORES.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.star import read_star
from kit.benchmarks.relion.tuning import FIELD, JOBS, POOLS
from kit.core.files import write_json
from kit.core.host import processor
from kit.core.paths import cache
from kit.images.built import built_sif, no_privileges, singularity
from kit.images.render import load_image

ROOT = Path(__file__).parent.parent
PARTICLES = int(os.environ.get("PARTICLES", "2000"))
SWEEP = int(os.environ.get("SWEEP", "60"))
BOXES = [int(box) for box in os.environ.get("BOXES", "128 256").split()]
PAIRS = int(os.environ.get("PAIRS", "3"))
CORES = int(os.environ.get("CORES", len(os.sched_getaffinity(0))))
ACCELERATION = {"relion-basic": "", "relion-accelerated": "--cpu"}
Choice = tuple[int, int, int]  # ranks, threads, pool


def choices(job: str) -> list[Choice]:
    """Ranks, threads and pool that use all cores; the first of several ranks only hands out work."""
    if job == "refine3d":  # at least a leader and one rank for each half
        return [(3, max(1, CORES // 2), pool) for pool in POOLS]
    one = [(1, CORES, pool) for pool in POOLS]
    return [*one, *[(CORES + 1, 1, pool) for pool in POOLS[1:]]] if CORES > 1 else one


def data(box: int) -> Path:
    folder = cache() / "data" / f"bench-relion-{box}-{PARTICLES}"
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        settings = phantom.Settings(particles=PARTICLES, box=box, pixel_size=FIELD / box, ssnr_one=25.0)
        phantom.generate(partial, settings)
        part = (partial / "particles.star").read_text().splitlines(keepends=True)
        rows = [i for i, line in enumerate(part) if "@data/" in line]
        (partial / "part.star").write_text("".join(part[: rows[min(SWEEP, len(rows)) - 1] + 1]))
        partial.rename(folder)
    return folder


def processor_seconds() -> float:
    """What the processes started so far have worked, in user and system mode; those that still run are not counted."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(
    image: str,
    job: str,
    choice: Choice,
    folder: Path,
    star: str,
    prefix: list[str] | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Wall seconds of one job in a fresh directory, and what came of it. `arguments` are those of the image."""
    ranks, threads, pool = choice
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        work = Path(name)
        (work / "data").symlink_to(folder)
        (work / "out").mkdir()
        inside = prefix or [
            *(*singularity(), "exec", "--no-home", *no_privileges(), "--pwd", name, "--bind", name, "--bind", str(folder)),
            str(built_sif(load_image(image, arguments))),
        ]
        mpi = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        program = "relion_refine_mpi" if ranks > 1 else "relion_refine"
        words = [*inside, *mpi, program, "--i", f"data/{star}", "--o", "out/run", *JOBS[job].split()]
        words += ["--pool", str(pool), "--j", str(threads), *ACCELERATION[image].split()]
        started, worked = time.perf_counter(), processor_seconds()
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        result = subprocess.run(words, cwd=name, capture_output=True, text=True, env=variables)
        seconds, worked = time.perf_counter() - started, processor_seconds() - worked
        if result.returncode or "not a valid RELION argument" in result.stdout + result.stderr:
            raise SystemExit(f"{' '.join(words)}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
        model = read_star(sorted((work / "out").glob("run_it*_model.star"))[-1])
        classes = sorted((float(x) for x in model["model_classes"]["rlnClassDistribution"]), reverse=True)
        resolution = float(model["model_general"]["rlnCurrentResolution"])
    what = f"{image:<20} {job:<9} ranks {ranks} threads {threads} pool {pool:>3}"
    print(f"  {what}: {seconds:8.2f} s ({worked:.2f})", flush=True)
    return {
        "seconds": seconds,
        "processor_seconds": worked,
        "ranks": ranks,
        "threads": threads,
        "pool": pool,
        "classes": classes,
        "resolution": resolution,
    }


def overhead(folder: Path) -> dict[str, Any]:
    """The same binary in its container and outside: its files unpacked, started by their own loader, on this host."""
    sif = built_sif(load_image("relion-accelerated"))
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        root = Path(name) / "root"
        root.mkdir()
        pack = [*singularity(), "exec", *no_privileges(), str(sif), "tar", "-C", "/", "-chf", "-"]
        with subprocess.Popen([*pack, "opt/relion", "lib64", "usr/lib/x86_64-linux-gnu"], stdout=subprocess.PIPE) as tar:
            subprocess.run(["tar", "-xf", "-", "-C", str(root)], stdin=tar.stdout, check=True)
        libraries = f"{root}/opt/relion/lib:{root}/usr/lib/x86_64-linux-gnu"
        loader = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", libraries]
        program = str(root / "opt/relion/bin/relion_refine")
        wrapper = Path(name) / "relion_refine"
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(loader)} {program} "$@"\n')
        wrapper.chmod(0o755)
        choice = (1, CORES, 10)
        outside = ["env", f"PATH={name}:{os.environ['PATH']}"]
        pairs = []
        for number in range(max(PAIRS, 3)):
            prefixes = {"within": None, "outside": outside}
            order = list(prefixes) if number % 2 == 0 else list(reversed(prefixes))
            job = ("relion-accelerated", "class2d", choice, folder, "particles.star")
            pairs.append({where: run(*job, prefixes[where]) for where in order})
    ratios = {
        key: [pair["within"][key] / pair["outside"][key] for pair in pairs] for key in ("seconds", "processor_seconds")
    }
    return {"pairs": pairs, "ratios": ratios, "median_ratio": {key: statistics.median(r) for key, r in ratios.items()}}


def measure(job: str, box: int, entry: dict[str, Any], save: Callable[[], None]) -> None:
    """The sweep and the pairs of one job, as far as `entry` lacks them; saved after each."""
    folder = data(box)
    if "sweep" not in entry:
        print(f"{job}, box {box}: sweep on {SWEEP} particles", flush=True)
        entry["sweep"] = {
            image: [run(image, job, choice, folder, "part.star") for choice in choices(job)] for image in ACCELERATION
        }
        save()
    best = {image: min(tried, key=lambda r: r["seconds"]) for image, tried in entry["sweep"].items()}
    print(f"{job}, box {box}: {PAIRS} pairs on {PARTICLES} particles", flush=True)
    pairs = entry.setdefault("pairs", [])
    while len(pairs) < PAIRS:
        order = list(ACCELERATION) if len(pairs) % 2 == 0 else list(reversed(ACCELERATION))
        pair = {}
        for image in order:
            choice = (best[image]["ranks"], best[image]["threads"], best[image]["pool"])
            pair[image] = run(image, job, choice, folder, "particles.star")
        pairs.append(pair)
        for name, key in (("speedup", "seconds"), ("processor_speedup", "processor_seconds")):
            ratios = [pair["relion-basic"][key] / pair["relion-accelerated"][key] for pair in pairs]
            entry[name] = statistics.median(ratios)
            entry[f"{name}_of_pairs"] = ratios
        save()


def main() -> None:
    model, _ = processor()
    begun: dict[str, Any] = {
        "unit": "second (wall clock of the whole program); speedup: basic / accelerated, median over pairs",
        "machine": {"processor": model, "cores": CORES, "system": platform.release()},
        "particles": PARTICLES,
        "commands": JOBS,
    }
    target = ROOT / "build/bench/relion.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    result = json.loads(target.read_text()) if target.is_file() else {}
    if any(result.get(key) != value for key, value in begun.items()):
        result = begun

    def save() -> None:
        for job in JOBS.keys() & result.keys():
            # Of several boxes the smallest speed-up is the one that is claimed.
            done = [entry["speedup"] for entry in result[job]["box"].values() if "speedup" in entry]
            result[job]["speedup"] = min(done, default=None)
        write_json(target, result)

    for box in BOXES:
        for job in os.environ.get("JOBS", " ".join(JOBS)).split():
            entry = result.setdefault(job, {"box": {}})["box"].setdefault(str(box), {})
            measure(job, box, entry, save)
            print(f"{job}, box {box}: {entry['speedup']:.2f} x ({entry['processor_speedup']:.2f})", flush=True)
    if "container_overhead" not in result:
        result["container_overhead"] = overhead(data(BOXES[0]))
        save()
    speedups = {job: result[job]["speedup"] for job in JOBS if job in result}
    json.dump({"speedup": speedups, "container_overhead": result["container_overhead"]}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
