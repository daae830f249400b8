"""CloudMask's network in the kit against engines of today: `make bench/cloudmask PEERS=1` writes build/bench/peers.json.

The same U-Net with the same weights, which Keras wrote, in one process on the same cores: in the kit (its trainer and
predictor, in TensorFlow of the image `horovod`), in PyTorch, in JAX, and for inference in ONNX Runtime and OpenVINO. What
they answer, and the losses of the first steps of a training, must be equal within TOLERANCE; the bench ends where they are
not. Then all take turns in ROUNDS, whose order alternates. Measured are

* train: patches a second of a step with its update, on a batch in memory (2 patches for each core)
* infer: a scene of full size as one patch, as the kit masks it, in patches of 256 x 256 a second, by its pixels; and
  `infer patches`, the same of a batch of such patches
* peak: the largest rate of a matrix product that any of them reached, which is the processor's own limit here

`share` is the arithmetic that the plain network needs (`flops`), over processor seconds and over that peak in processor
seconds, which other work on the machine disturbs less than wall clock. The kit's decoder needs less arithmetic:
`share_executed` counts what it executes.

Environment: CORES (all), ISA (AVX2: wider instructions switched off, where an engine can), PRECISIONS (float32, and bfloat16
where the processor has it), ENGINES (all), ROUNDS (3), STEPS (3: steps, scenes and batches of a turn), TENSORFLOW (a Python
with TensorFlow 2.15, h5py and xarray, in place of the image).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.files import write_json
from kit.core.host import processor
from kit.images.built import built_sif, no_privileges, singularity
from kit.images.render import load_image
from kit.stages.cloudmask.network import CONVOLUTIONS, read_weights
from kit.stages.cloudmask.patches import PATCH, WHOLE, inference_patches
from kit.stages.ml.ranks import multiplies_bfloat16

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build/bench"
CORES, ROUNDS, STEPS = (
    int(os.environ.get(name) or default)
    for name, default in (("CORES", len(os.sched_getaffinity(0))), ("ROUNDS", 3), ("STEPS", 3))
)
BATCH = 2 * CORES  # patches of a step: what the ranks of bench/cloudmask.py have together
ISA = os.environ.get("ISA", "")
OURS = "kit"
# name: what its script is given behind folder and precision
ENGINES = {
    OURS: ("peers_ours.py",),
    "PyTorch": ("peers_torch.py",),
    "JAX": ("peers_jax.py",),
    "ONNX Runtime": ("peers_onnx.py", "onnxruntime"),
    "OpenVINO": ("peers_onnx.py", "openvino"),
}
# What keeps an engine from wider instructions than the processor has. ONNX Runtime has no such switch.
NARROW = {
    "AVX2": {
        OURS: {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        "PyTorch": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        "JAX": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
        "OpenVINO": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    }
}
# Of probabilities, absolute; of losses, relative. Both are against the kit's in single precision.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
PRODUCT = 4096  # rows of the matrices of a product
WORK = ("train", "infer", "infer patches")


def flops(rows: int, columns: int, training: bool = False, fused: bool = False) -> int:
    """Floating-point operations of the reference's network on one image, or of the kit's form of it (`fused`).

    A convolution of k x k from `into` to `out` channels takes 2 k^2 into out of them for each pixel it answers: a product
    and a sum. Borders are counted as if they had neighbours; bias, ReLU, pooling and loss are not counted. In training each
    convolution is done three times: forward, for the gradient of its kernel, and for that of its input, which the first
    does not need. The kit's form takes 4 products in place of 9 where a convolution reads a field that was doubled.
    """
    # Each level of the encoder halves the sides, and those of the decoder double them again.
    halvings = (0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0)
    pixels = [rows * columns // 4**halved for halved in halvings]
    forward = [2 * 9 * into * out * count for (into, out), count in zip(CONVOLUTIONS, pixels, strict=True)]
    if fused:
        for number in (8, 10, 12):  # what is doubled is what the layer before answered
            forward[number] -= 2 * (9 - 4) * CONVOLUTIONS[number - 1][1] * CONVOLUTIONS[number][1] * pixels[number]
    forward.append(2 * 32 * rows * columns)  # the last, of 1 x 1
    return 3 * sum(forward) - forward[0] if training else sum(forward)


def difference(name: str, expected: Any, found: Any) -> float:
    """The largest difference of two arrays of answers: of losses relative, of probabilities absolute."""
    if expected.shape != found.shape:
        return float("inf")
    apart = np.abs(found - expected) / (np.abs(expected) if name == "losses" else 1.0)
    return float(apart.max())


def agreement(engine: str, precision: str, expected: dict[str, Any], found: dict[str, Any]) -> dict[str, float]:
    """The differences between an engine's answers and the kit's; SystemExit where they are not of one network."""
    apart = {name: difference(name, expected[name], found[name]) for name in expected if name in found}
    wrong = {name: value for name, value in apart.items() if not value <= TOLERANCE[precision]}  # NaN is wrong, too
    if wrong or not apart:
        said = ", ".join(f"{name} by {value:.2g}" for name, value in wrong.items()) or "nothing to compare"
        raise SystemExit(
            f"{engine} in {precision} does not answer as the kit does: {said}, and {TOLERANCE[precision]:.2g} is allowed; "
            "nothing is measured of a network that is another one"
        )
    return apart


def peers_python() -> Path:
    """Python of the environment of the peers, which is made or brought up to date where it has to be."""
    folder, wanted = BUILD / "peers", ROOT / "bench/peers-requirements.txt"
    done = folder / "requirements.txt"
    if not done.is_file() or done.read_text() != wanted.read_text():
        print("Setting up build/bench/peers (2 GB)", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "--requirement", wanted], check=True)
        done.write_text(wanted.read_text())
    return folder / "bin/python"


def command(engine: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """What starts the Python of an engine, up to its script's folder."""
    if engine != OURS:
        return [str(peers_python()), f"{ROOT}/bench"]
    if "TENSORFLOW" in os.environ:
        return [os.environ["TENSORFLOW"], f"{ROOT}/bench"]
    binds = ["--bind", str(folder), "--bind", f"{ROOT}/bench:/opt/bench", "--pwd", str(folder)]
    words = [*singularity(), "exec", *no_privileges(), "--no-home", *binds]
    words += [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    return [*words, str(built_sif(load_image("horovod"))), "/opt/venv/bin/python3", "/opt/bench"]


class Worker:
    """A running engine, which takes orders and idles in between."""

    def __init__(self, engine: str, folder: Path, what: str) -> None:
        self.engine, self.folder, self.precision = engine, folder, what
        more = {"OMP_NUM_THREADS": str(CORES), **NARROW.get(ISA, {}).get(engine, {})}
        script, *options = ENGINES[engine]
        *python, place = command(engine, folder, more)
        words = [*python, f"{place}/{script}", str(folder), what, *options]
        environment = {**os.environ, **more, "TORCHINDUCTOR_CACHE_DIR": str(BUILD / f"inductor{ISA}")}
        if "TENSORFLOW" in os.environ:
            environment["PYTHONPATH"] = str(ROOT)
        self.log = BUILD / f"peers-{script.removesuffix('.py')}-{what}.log"
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(words, env=environment, stderr=self.log.open("w"), **pipes)

    def ask(self, **order: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps(order), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"{self.engine} in {self.precision}: ended at {order}\n{self.log.read_text()[-2000:]}")
        return json.loads(line)

    def answers(self) -> dict[str, Any]:
        path = self.folder / f"answers-{self.engine}-{self.precision}.npz"
        self.ask(do="answers", to=str(path))
        with np.load(path) as file:
            return dict(file)

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def prepare(folder: Path) -> None:
    """What all engines are given: weights, a batch to train on and a scene. Values are those half precision has, as shards
    do; the classes follow from a channel, so that there is something to learn."""
    writer = Worker(OURS, folder, "weights")
    writer.end()
    if writer.process.returncode:
        raise SystemExit(writer.log.read_text()[-2000:])
    np.savez(folder / "weights.npz", *read_weights(folder / "model.weights.h5"))
    random = np.random.default_rng(1)

    def smooth(*shape: int) -> Any:
        """Random fields whose structures are some 16 pixels wide."""
        coarse = random.normal(0, 1, (shape[0], -(-shape[1] // 16), -(-shape[2] // 16), 9))
        fine = coarse.repeat(16, 1).repeat(16, 2)[:, : shape[1], : shape[2]] + random.normal(0, 0.1, (*shape, 9))
        return (0.3 * fine).astype(np.float16).astype(np.float32)

    images = smooth(BATCH, PATCH, PATCH)
    classes = (images[..., 7] < 0).astype(np.uint8)
    classes[:, :8] = 2  # not seen
    np.savez(folder / "given.npz", images=images, classes=classes, scene=inference_patches(smooth(1, 1200, 1500)[0], WHOLE))


def patches(work: str) -> float:
    """How many patches of 256 x 256 pixels one time of some work takes, by pixels."""
    if work != "infer":
        return BATCH
    rows, columns = inference_patches(np.zeros((1200, 1500), np.uint8), WHOLE).shape[1:3]
    return rows * columns / PATCH**2


def summary(turns: list[dict[str, Any]], facts: dict[str, Any], peak: float) -> dict[str, Any]:
    """Of each engine and work: the medians over rounds, and the share of the peak (FLOP in a processor second). `turns` has,
    for each round and engine, the seconds of wall clock and of processors of STEPS times."""
    found: dict[str, Any] = {}
    for engine in facts:
        found[engine] = {"version": facts[engine]["version"], "apart": facts[engine]["apart"]}
        for work in WORK:
            rounds = [turn[engine][work] for turn in turns if work in turn[engine]]
            if not rounds:
                continue
            number = STEPS * patches(work)
            rates = [number / wall for wall, _ in rounds]
            seconds = statistics.median(cpu / number for _, cpu in rounds)
            against = [[turn[engine][work][clock] / turn[OURS][work][clock] for turn in turns] for clock in (0, 1)]
            training = work == "train"
            found[engine][work] = {
                "patches_per_second": statistics.median(rates),
                "rounds": rates,
                "processor_seconds_per_patch": seconds,
                "kit_against_it": statistics.median(against[0]),
                "kit_against_it_processor": statistics.median(against[1]),
                "share": flops(PATCH, PATCH, training) / seconds / peak,
                "share_executed": flops(PATCH, PATCH, training, fused=engine == OURS) / seconds / peak,
            }
    return found


def compare(folder: Path, precision: str, expected: dict[str, Any], engines: list[str]) -> dict[str, Any]:
    """All engines in one precision, in turn."""
    workers = {engine: Worker(engine, folder, precision) for engine in engines}
    facts: dict[str, Any] = {}
    for engine, worker in workers.items():
        facts[engine] = worker.ask(do="facts")
        facts[engine]["apart"] = agreement(engine, precision, expected, worker.answers())
        print(f"  {facts[engine]['version']}: differs by {facts[engine]['apart']}", file=sys.stderr, flush=True)
    turns: list[dict[str, Any]] = []
    products: dict[str, list[float]] = {}  # FLOP/s of wall clock and of processors, the largest of the rounds
    for number in range(ROUNDS):
        turns.append({})
        for engine in engines[:: -1 if number % 2 else 1]:
            worker = workers[engine]
            works = [work for work in WORK if work != "train" or facts[engine]["trains"]]
            turns[-1][engine] = {work: worker.ask(do=work, times=STEPS) for work in works}
            if facts[engine]["multiplies"]:
                rates = [3 * 2 * PRODUCT**3 / seconds for seconds in worker.ask(do="product", size=PRODUCT, times=3)]
                products[engine] = [max(pair) for pair in zip(products.get(engine, rates), rates, strict=True)]
        said = {engine: [round(wall, 2) for wall, _ in turn.values()] for engine, turn in turns[-1].items()}
        print(f"  round {number + 1}, seconds of {', '.join(WORK)}: {said}", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.end()
    peaks = [max(rates) for rates in zip(*products.values(), strict=True)]
    return {"peak": peaks[0], "peak_processor": peaks[1], "products": products, "engines": summary(turns, facts, peaks[1])}


def main() -> None:
    if ISA and ISA not in NARROW:
        raise SystemExit(f"ISA={ISA}: {', '.join(NARROW)} or nothing")
    wanted = os.environ.get("ENGINES", ",".join(ENGINES)).split(",")
    engines = [OURS, *(name for name in ENGINES if name in wanted and name != OURS and (not ISA or name in NARROW[ISA]))]
    precisions = os.environ.get("PRECISIONS", "float32 bfloat16" if multiplies_bfloat16() and not ISA else "float32").split()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # of what is started, too
    BUILD.mkdir(parents=True, exist_ok=True)
    peers_python()
    result: dict[str, Any] = {
        "unit": "patch/s of 256 x 256; apart: largest difference; peak, products: FLOP/s of wall clock, of processors",
        "machine": {"processor": processor()[0], "cores": CORES, "isa": ISA or "all"},
        "batch": BATCH,
        "flops": {"infer": flops(PATCH, PATCH), "train": flops(PATCH, PATCH, training=True)},
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        reference = Worker(OURS, folder, "float32")
        expected = reference.answers()
        reference.end()
        for precision in precisions:
            able = [name for name in engines if precision == "float32" or name != "ONNX Runtime"]
            print(precision, file=sys.stderr, flush=True)
            result[precision] = compare(folder, precision, expected, able)
            write_json(BUILD / f"peers{ISA and '-'}{ISA.lower()}.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
