"""Flux's own launcher."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks

ORDERS: tuple[str, ...] = ("block",)


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    words = ["flux", "run", "-N", str(ranks.nodes), "-n", str(ranks.count), "-c", str(ranks.cores_each)]
    if ranks.gpu_each:
        words += ["-g", "1", "-o", "gpu-affinity=per-task"]
    elif ranks.gpus:
        words += ["--exclusive", "-o", "gpu-affinity=off"]  # every rank sees all GPUs of its node
    words += ["-o", f"cpu-affinity={'per-task' if ranks.bind else 'off'}"]
    if ranks.pmi:
        words += ["-o", f"pmi={ranks.pmi}"]
    return [*words, *args]
