"""How far two runs of RELION differ that differ in their random seed only: `make bench/repeats`.

Runs size tiny (SIZE) in relion-accelerated with seeds 1 to N (REPEATS, 6), and writes kit/benchmarks/relion/repeats.json,
from which `kit compare` takes its tolerances: `kit run --repeat`, `kit collect` and `kit repeats`, one after another.
"""

from __future__ import annotations

import os
import subprocess
import sys

from kit.core import paths
from kit.runs.compare import FILE

KIT = [sys.executable, "-m", "kit"]
SIZE, REPEATS = os.environ.get("SIZE", "tiny"), os.environ.get("REPEATS", "6")


def kit(*words: str) -> str:
    return subprocess.run([*KIT, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


runs = kit("run", "relion", "--size", SIZE, "--image", "relion-accelerated", "--repeat", REPEATS).split()
for run in runs:
    print(kit("collect", run), flush=True)
print(kit("repeats", *runs, "--output", str(paths.PACKAGE / "benchmarks/relion" / FILE)))
