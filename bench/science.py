"""What networks of MLCommons Science gain on their references' schemes: `make bench/science`, build/bench/science.json.

In turn, a seed at a time: a run of size tiny as anyone makes it (`kit run NAME --seed S`), and a plain port of the
reference's scheme in the same image, on the same data, cores and epochs (`bench/NAME_reference.py` says what the scheme
is). Both train to the end: samples a second are those of whole epochs but the first, and scores are those of the
best epoch on the validation samples. Environment: BENCHMARKS (all that have a port, with spaces between them) and SEEDS.

The published patterns of STEMDL have 512 pixels a side, those of size tiny 64, and the reference's scheme makes them small
whenever it trains on them. It is so measured a second time, on files as large as the published ones (`reference_512`): each
pixel stands 8 x 8 times, whose mean is the pixel. The kit does that once, before training, and its shards stay the same.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from kit.benchmark import load_benchmark
from kit.core.files import write_json
from kit.core.host import processor
from kit.data.generated import make
from kit.images.built import built_sif, no_privileges, singularity
from kit.images.render import load_image
from kit.runs.record import load_run
from kit.stages.stemdl.prepare import files_in

ROOT = Path(__file__).parent.parent
PORTS = {path.stem.removesuffix("_reference"): path for path in sorted((ROOT / "bench").glob("*_reference.py"))}
SCORES = {"stemdl": "val_f1", "tevolop": "val_nnse", "uno": "val_r2"}
PUBLISHED_SIDE = 512
SEEDS = os.environ.get("SEEDS", "1 2 3 4 5").split()


def said(words: list[str], name: str) -> str:
    result = subprocess.run(words, capture_output=True, text=True, timeout=7200)
    if result.returncode:
        raise SystemExit(f"{name}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def ours(name: str, seed: str, runs: Path) -> tuple[Path, dict[str, float]]:
    """The directory of a run, and what its training came to."""
    words = [sys.executable, "-m", "kit", "run", name, "--size", "tiny", "--seed", seed, "--runs", str(runs), "--wait"]
    directory = Path(said(words, name).splitlines()[-1])
    run = load_run(directory)
    if run.state.name not in ("ended", "finished", "valid"):
        raise SystemExit(f"{directory}: {run.state}")
    facts = json.loads((directory / "train/train.json").read_text())
    found = {"samples_per_second": facts["samples_per_second"], "score": facts[SCORES[name]], "seconds": facts["elapsed"]}
    return directory, {**found, "input_share": facts["input_share"], "peak_memory_gb": facts["peak_memory_gb"]}


def theirs(name: str, seed: str, data: Path, directory: Path) -> dict[str, Any]:
    """What the port printed, as JSON."""
    binds = f"{ROOT},{data},{directory}"
    command = [*singularity(), "exec", *no_privileges(), "--no-home", "--bind", binds, "--pwd", str(ROOT)]
    command += ["--env", f"PYTHONPATH={ROOT},OMP_NUM_THREADS={len(os.sched_getaffinity(0))},TF_CPP_MIN_LOG_LEVEL=2"]
    sizes = json.dumps(dict(load_benchmark(name).sizes["tiny"].parameters))
    words = ["/opt/venv/bin/python3", str(PORTS[name]), str(data), str(directory), seed, sizes]
    printed = said([*command, str(built_sif(load_image("horovod"))), *words], PORTS[name].name)
    return dict(json.loads(printed.splitlines()[-1]))


def enlarged(data: Path) -> Path:
    """A copy of STEMDL's data with patterns of the published size (doi 10.13139/OLCF/1510313): (3, 512, 512)."""
    import h5py

    folder = ROOT / "build/bench" / f"{data.name}-512"
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path in files_in(data):
            with h5py.File(path) as source, h5py.File(partial / path.name, "w") as target:
                for sample, group in source.items():
                    stack = group["cbed_stack"][()]
                    times = PUBLISHED_SIDE // stack.shape[1]
                    copy = target.create_group(sample)
                    copy.attrs.update(group.attrs)
                    copy["cbed_stack"] = stack.repeat(times, axis=1).repeat(times, axis=2)
        partial.rename(folder)
    return folder


def compared(name: str) -> dict[str, Any]:
    data = make(load_benchmark(name), "tiny")
    rounds = []
    for seed in SEEDS:
        directory, own = ours(name, seed, ROOT / "build/bench/science")
        rounds.append({"seed": int(seed), "kit": own, "reference": theirs(name, seed, data, directory)})
        if name == "stemdl":
            rounds[-1]["reference_512"] = theirs(name, seed, enlarged(data), directory)
        print(f"{name}: {json.dumps(rounds[-1])}", file=sys.stderr, flush=True)
    ways = [way for way in rounds[0] if way != "seed"]
    ratios = {
        way: [entry["kit"]["samples_per_second"] / entry[way]["samples_per_second"] for entry in rounds] for way in ways[1:]
    }
    scores = {way: [entry[way]["score"] for entry in rounds] for way in ways}
    return {
        "score": SCORES[name],
        "speed_up": {way: statistics.median(values) for way, values in ratios.items()},
        "ratios": ratios,
        "scores": scores,
        "means": {way: statistics.mean(values) for way, values in scores.items()},
        "deviations": {way: statistics.stdev(values) if len(values) > 1 else None for way, values in scores.items()},
        "rounds": rounds,
    }


def main() -> None:
    found = {name: compared(name) for name in os.environ.get("BENCHMARKS", " ".join(PORTS)).split()}
    target = ROOT / "build/bench/science.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"processor": processor(), "cores": len(os.sched_getaffinity(0)), **found})
    print(f"{target}: written")


if __name__ == "__main__":
    main()
