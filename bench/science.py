"""What networks of MLCommons Science gain on their references' schemes: `make bench/science`, build/bench/science.json.

Each `bench/NAME_reference.py` has a plain port of its reference's scheme, and runs it and the kit's in turn in one process
of the image, on generated data of size `tiny`; its docstring says what it compares. Environment: BENCHMARKS (all that have
one, with spaces between them), CORES (how many a process computes on; all).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from kit.benchmark import load_benchmark
from kit.core.files import write_json
from kit.core.host import processor
from kit.data.generated import make
from kit.images.built import built_sif, no_privileges, singularity
from kit.images.render import load_image

ROOT = Path(__file__).parent.parent
PORTS = {path.stem.removesuffix("_reference"): path for path in sorted((ROOT / "bench").glob("*_reference.py"))}
CORES = os.environ.get("CORES", str(len(os.sched_getaffinity(0))))


def compared(name: str) -> dict[str, Any]:
    """What the port of a benchmark printed, as JSON."""
    data = make(load_benchmark(name), "tiny")
    command = [*singularity(), "exec", *no_privileges(), "--no-home", "--bind", f"{ROOT},{data}", "--pwd", str(ROOT)]
    command += ["--env", f"PYTHONPATH={ROOT},OMP_NUM_THREADS={CORES}", str(built_sif(load_image("horovod")))]
    words = ["/opt/venv/bin/python3", str(PORTS[name]), str(data)]
    result = subprocess.run([*command, *words], capture_output=True, text=True, timeout=7200)
    if result.returncode:
        raise SystemExit(f"{PORTS[name].name}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return json.loads(result.stdout[result.stdout.index("{") :])


def main() -> None:
    found = {name: compared(name) for name in os.environ.get("BENCHMARKS", " ".join(PORTS)).split()}
    target = ROOT / "build/bench/science.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"processor": processor(), "cores": int(CORES), **found})
    print(json.dumps(found, indent=1))
    print(f"{target}: written")


if __name__ == "__main__":
    main()
