"""What CloudMask gains on the ancestor's scheme: `make bench/cloudmask` writes build/bench/cloudmask.json.

Both sides run in the kit's image, on the same scenes, ranks and threads, side by side and in turn, in rounds whose order
alternates; a speed-up is the median of the ratios of the rounds, beside the ratios themselves. Sections:

* train: patches a second, warm, and the accuracy on the same validation patches, a round for each of SEEDS seeds. The
  ancestor's scheme; ours with the network as the reference writes it (plain), in the form with less arithmetic (fused),
  compiled by XLA, in bfloat16 where the processor has it, and with ranks that wait busily as MPI does when left alone
* infer: seconds a scene of full size, median: the ancestor's network in single precision; ours with the reference's
  patches, and with one that holds the scene; both in bfloat16 too
* convert: seconds a product of full size: the ancestor's one process with skimage's resizing; ours, in one process and in
  one for each core
* memory: largest resident memory of a rank (GB) that trains on full-size scenes, and on three times as many, in single
  precision on both sides

Environment: SECTIONS (train infer convert memory), WAYS (names with commas between them, beside the ancestor; all), SEEDS
(5), PAIRS (3: rounds of infer and convert), EPOCHS (6), SCENES (48 of 288 x 288 km to train on), PRODUCTS (4 of full
size; twice as many to infer), RANKS (all cores, a thread each).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ancestor

from kit.benchmarks.cloudmask import scenes
from kit.core.files import write_json
from kit.core.host import processor
from kit.images.built import built_sif, no_privileges, singularity
from kit.images.render import load_image
from kit.stages.cloudmask import convert, extract, shards
from kit.stages.cloudmask.patches import Label
from kit.stages.ml.ranks import multiplies_bfloat16

ROOT = Path(__file__).parent.parent
SEEDS, PAIRS, EPOCHS, SCENES, PRODUCTS = (
    int(os.environ.get(name, default))
    for name, default in (("SEEDS", 5), ("PAIRS", 3), ("EPOCHS", 6), ("SCENES", 48), ("PRODUCTS", 4))
)
CORES = len(os.sched_getaffinity(0))
RANKS = int(os.environ.get("RANKS", CORES))
BATCH = 2  # patches of a rank in a step
BF16 = ("--precision", "bfloat16")
BUSY = "busy"
Way = Callable[[int], dict[str, Any]]  # from the number of a round, from 1 on


def generated(work: Path, rows: int, columns: int, training: int, inference: int, validation: int) -> Path:
    """A folder with scenes of one shape, converted and cut."""
    for name in ("data", "products", "scenes", "patches"):
        (work / name).mkdir(parents=True)
    numbers = {"rows": rows, "columns": columns, "training_scenes": training, "inference_scenes": inference}
    scenes.generate(work / "data", {**numbers, "label_error": 0.03, "matchups_per_scene": 1, "data_seed": 1})
    with contextlib.redirect_stdout(io.StringIO()):
        extract.extract(work / "data", work / "products", validation_scenes=validation, seed=1)
        convert.run(work / "products/scenes.json", work / "scenes", skip=0.0)
    shards.cut_all(work / "scenes", work / "patches", Label())
    return work


def in_image(work: Path, ranks: int, threads: int, *words: str, busy: bool = False) -> str:
    """Runs Python in the image, with the checkout's benches beside it; what it printed."""
    binds = ["--bind", str(work), "--bind", f"{ROOT}/bench:/opt/bench", "--pwd", str(work)]
    command = [*singularity(), "exec", *no_privileges(), "--no-home", *binds, "--env", f"OMP_NUM_THREADS={threads}"]
    command += ["--env", "OMPI_MCA_mpi_yield_when_idle=0"] if busy else []
    launcher = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
    python = [str(built_sif(load_image("horovod"))), *launcher, "/opt/venv/bin/python3", *words]
    result = subprocess.run([*command, *python], capture_output=True, text=True, timeout=3600)
    if result.returncode:
        raise SystemExit(f"{' '.join(words)}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def ours_train(work: Path, seed: int, epochs: int, options: tuple[str, ...] = (), busy: bool = False) -> dict[str, Any]:
    shutil.rmtree(work / "train", ignore_errors=True)
    words = ["train", "--data", "patches", "--out", "train", "--epochs", str(epochs), "--batch-size", str(BATCH)]
    words += ["--reference-batch", str(BATCH * RANKS), "--seed", str(seed), *options]
    in_image(work, RANKS, 1, "-m", "kit.stages.cloudmask", *words, busy=busy)
    facts = json.loads((work / "train/train.json").read_text())
    last = json.loads((work / "train/epochs.jsonl").read_text().splitlines()[-1])  # the ancestor keeps its last weights
    found = {key: facts[key] for key in ("samples_per_second", "peak_memory_gb", "input_share")}
    return {**found, "accuracy": last["val_accuracy"]}


def ancestor_train(work: Path, seed: int, epochs: int) -> dict[str, Any]:
    words = ("/opt/bench/ancestor.py", "train", ".", *map(str, (epochs, BATCH, seed)))
    return json.loads(in_image(work, RANKS, 1, *words).splitlines()[-1])


def ours_infer(work: Path, turn: int, options: tuple[str, ...] = ()) -> dict[str, Any]:
    words = ("--data", "scenes", "--model-file", "train/model.weights.h5", "--out", "masks", *options)
    in_image(work, 1, RANKS, "-m", "kit.stages.cloudmask", "infer", *words)
    return {"seconds_per_scene": json.loads((work / "masks/infer.json").read_text())["seconds_per_scene_median"]}


def ancestor_infer(work: Path, turn: int) -> dict[str, Any]:
    return json.loads(in_image(work, 1, RANKS, "/opt/bench/ancestor.py", "infer", ".", "9").splitlines()[-1])


def products(work: Path) -> list[Path]:
    return sorted((work / "data").rglob("*.SEN3"))


def timed(work: Path, action: Callable[[], object]) -> dict[str, Any]:
    """Seconds a product of an action that converts all of them, into a folder that is new."""
    shutil.rmtree(work / "again", ignore_errors=True)
    (work / "again").mkdir()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        action()
    seconds = time.perf_counter() - started
    assert len(list((work / "again").rglob("*.hdf"))) == len(products(work))
    return {"seconds": seconds / len(products(work))}


def one_by_one(work: Path, function: Callable[[Path, Path], None]) -> None:
    for product in products(work):
        function(product, work / f"again/{product.stem}.hdf")


def rounds(title: str, number: int, ways: dict[str, Way], key: str, faster_is_less: bool) -> dict[str, Any]:
    """Every way in turn, `number` times, in alternating order; each against the ancestor of its round."""
    print(title, file=sys.stderr, flush=True)
    wanted = os.environ.get("WAYS", ",".join(ways)).split(",")
    ways = {name: way for name, way in ways.items() if name in ("ancestor", *wanted)}
    found: list[dict[str, Any]] = []
    for turn in range(1, number + 1):
        order = list(ways)[:: 1 if turn % 2 else -1]
        found.append({name: ways[name](turn) for name in order})
        print("  " + ", ".join(f"{name} {found[-1][name][key]:.3g}" for name in ways), file=sys.stderr, flush=True)
    ratios = {
        name: [(entry["ancestor"][key] / entry[name][key]) ** (1 if faster_is_less else -1) for entry in found]
        for name in ways
        if name != "ancestor"
    }
    return {"rounds": found, "speedups": ratios, "speedup": {name: statistics.median(r) for name, r in ratios.items()}}


def accuracies(found: dict[str, Any]) -> dict[str, list[float]]:
    """Mean and 95 % interval (Student's t) of each way's accuracy over the seeds."""
    from scipy import stats

    intervals = {}
    for name in found["rounds"][0]:
        values = [entry[name]["accuracy"] for entry in found["rounds"]]
        mean, half = statistics.mean(values), 0.0
        if len(values) > 1:
            half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
        intervals[name] = [mean, mean - half, mean + half]
    return intervals


def train(folder: Path) -> dict[str, Any]:
    work = generated(folder, 288, 288, SCENES + 12, 3, validation=12)
    ways: dict[str, Way] = {"ancestor": functools.partial(ancestor_train, work, epochs=EPOCHS)}
    options = {"plain": ("--plain",), "fused": (), "fused XLA": ("--xla",)}
    if multiplies_bfloat16():
        options |= {"plain bfloat16": ("--plain", *BF16), "fused bfloat16": BF16, f"fused bfloat16 {BUSY}": BF16}
    for name, words in options.items():
        busy = name.endswith(BUSY)
        ways[name] = functools.partial(ours_train, work, epochs=EPOCHS, options=words, busy=busy)
    found = rounds("train, patches a second", SEEDS, ways, "samples_per_second", faster_is_less=False)
    return {**found, "accuracy": accuracies(found)}


def infer(folder: Path) -> dict[str, Any]:
    work = generated(folder, 1200, 1500, 6, 2 * PRODUCTS, validation=3)  # the first, read alone, is one of many
    ours_train(work, 1, 1)
    patches = ("--patch", "256", "--batch-size", "9")
    ways: dict[str, Way] = {"ancestor": functools.partial(ancestor_infer, work)}
    options: dict[str, tuple[str, ...]] = {"patches": patches, "whole": ()}
    if multiplies_bfloat16():
        options |= {"patches bfloat16": (*patches, *BF16), "whole bfloat16": BF16}
    for name, words in options.items():
        ways[name] = functools.partial(ours_infer, work, options=words)
    title = "infer, seconds a scene of 1200 x 1500"
    return rounds(title, PAIRS, ways, "seconds_per_scene", faster_is_less=True)


def conversion(folder: Path) -> dict[str, Any]:
    work = generated(folder, 1200, 1500, 6, PRODUCTS, validation=3)
    ways: dict[str, Way] = {
        "ancestor": lambda turn: timed(work, lambda: one_by_one(work, ancestor.convert)),
        "one process": lambda turn: timed(work, lambda: one_by_one(work, convert.convert)),
        f"{CORES} processes": lambda turn: timed(
            work, lambda: convert.run(work / "products/scenes.json", work / "again", skip=0.0)
        ),
    }
    return rounds("convert, seconds a product", PAIRS, ways, "seconds", faster_is_less=True)


def memory(folder: Path) -> dict[str, Any]:
    """Of one epoch of few and of many full-size scenes, 20 patches each."""
    print("memory, GB of a rank", file=sys.stderr, flush=True)
    found: dict[str, Any] = {"scenes": [3 * RANKS, 9 * RANKS], "ancestor": [], "ours": []}
    for number in found["scenes"]:
        work = generated(folder / str(number), 1200, 1500, number + 3, 1, validation=3)
        found["ancestor"].append(ancestor_train(work, 1, 1)["peak_memory_gb"])
        found["ours"].append(ours_train(work, 1, 1)["peak_memory_gb"])
        shutil.rmtree(work)
    return found


SECTIONS = {"train": train, "infer": infer, "convert": conversion, "memory": memory}


def main() -> None:
    """Sections that are not asked for keep what an earlier bench on the same processor found."""
    if SCENES % (3 * RANKS):
        raise SystemExit(
            f"SCENES={SCENES}: not a multiple of 3 x {RANKS} ranks, among which the ancestor deals out whole scenes"
        )
    target = ROOT / "build/bench/cloudmask.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    begun: dict[str, Any] = {
        "unit": "train: patch/s; infer, convert: s; speedup: ratio to the ancestor's scheme, median over rounds; memory: GB",
        "machine": {"processor": processor()[0], "cores": CORES},
        "ranks": RANKS,
    }
    result = json.loads(target.read_text()) if target.is_file() else {}
    if any(result.get(key) != value for key, value in begun.items()):
        result = begun
    for name in os.environ.get("SECTIONS", " ".join(SECTIONS)).split():
        with tempfile.TemporaryDirectory() as folder:
            result[name] = SECTIONS[name](Path(folder) / name)
        write_json(target, result)
    short = {
        name: {key: value for key, value in result[name].items() if key != "rounds"} for name in SECTIONS & result.keys()
    }
    print(json.dumps(short, indent=2))


if __name__ == "__main__":
    main()
