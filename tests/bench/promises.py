"""What the kit promises of its speed and size, measured: `make bench` writes build/bench/kit.json.

Times are wall-clock seconds of whole processes, the median of several runs after one that is not counted.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from kit.image import built_sif, load_image, no_privileges, sif_of, singularity
from kit.images import RECIPES

ROOT = Path(__file__).parent.parent.parent
KIT = str(ROOT / ".venv/bin/kit")


def seconds(command: list[str], runs: int = 7) -> dict[str, float]:
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        times.append(time.perf_counter() - started)
    return {"median": statistics.median(times[1:]), "min": min(times[1:]), "max": max(times[1:]), "runs": runs}


def main() -> None:
    built = [name for name in RECIPES if sif_of(load_image(name)).is_file()]
    result = {
        "unit": "second (wall clock, whole process), byte",
        "help": seconds([KIT, "--help"]),
        "render": seconds([KIT, "run", "relion", "--dry-run"]),
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
