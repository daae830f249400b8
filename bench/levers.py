"""What single choices give relion-accelerated: `make bench/levers` writes build/bench/levers.json.

Each lever is run in turn with the image as it is, PAIRS times on SWEEP particles of the first of BOXES; a figure is the
median over pairs of plain divided by lever, so that above 1 the lever is faster. Levers that are arguments of the recipe
build an image each. LEVERS takes those whose name holds its text.
"""

from __future__ import annotations

import json
import os
import statistics
from typing import Any

from relion import BOXES, CORES, PAIRS, ROOT, data, run

from kit.images.build import build_sif
from kit.images.render import load_image

IMAGE = "relion-accelerated"
# name: (arguments of the image, environment)
LEVERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "AVX2 kernels instead of AVX-512": ([], {"RELION_KERNELS": "avx2"}),
    "huge pages": ([], {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
    "one memory arena": ([], {"MALLOC_ARENA_MAX": "1"}),
    "Clang instead of GCC": (["toolchain=clang"], {}),
    "-O3 -ffast-math outside the kernels": (["flags=-O3 -ffast-math -march=x86-64-v3"], {}),
}


def main() -> None:
    result: dict[str, Any] = {"unit": "plain / lever, median over pairs of the whole program's wall clock"}
    target = ROOT / "build/bench/levers.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    levers = {name: lever for name, lever in LEVERS.items() if os.environ.get("LEVERS", "") in name}
    for arguments, _ in levers.values():
        build_sif(load_image(IMAGE, arguments))
    folder = data(BOXES[0])
    for name, (arguments, environment) in levers.items():
        for job in ("class2d", "class3d"):
            choice = (1, CORES, 10)
            pairs = []
            for number in range(PAIRS):
                both = {"plain": {}, "lever": {"arguments": arguments, "environment": environment}}
                order = list(both) if number % 2 == 0 else list(reversed(both))
                pairs.append({which: run(IMAGE, job, choice, folder, "part.star", **both[which]) for which in order})
            ratios = [pair["plain"]["seconds"] / pair["lever"]["seconds"] for pair in pairs]
            result.setdefault(name, {})[job] = {"gain": statistics.median(ratios), "ratios": ratios, "pairs": pairs}
            print(f"{name}, {job}: {statistics.median(ratios):.2f}", flush=True)
            target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
