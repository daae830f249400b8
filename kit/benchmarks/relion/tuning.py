"""What `kit tune relion` measures: two iterations of Class3D and two of Refine3D, with the choices of a node.

Class2D and InitialModel share the code of Class3D, and its division of a node. The words of the jobs are those of the
standard benchmark of RELION, with fewer classes and iterations; bench/relion.py measures the images with them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kit.benchmark import Size
from kit.benchmarks import Parameters
from kit.benchmarks.relion import resources
from kit.core.files import write_atomic
from kit.placement import fill
from kit.plan import Plan
from kit.tune.store import Choice

COMMON = (
    "--ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale "
    "--dont_combine_weights_via_disc --random_seed 1"
)
START = "--ref data/reference.mrc --firstiter_cc --ini_high 40 --sym C1"
JOBS = {
    "class2d": f"{COMMON} --iter 2 --K 20 --tau2_fudge 2 --psi_step 6 --offset_range 5 --offset_step 2",
    "class3d": f"{COMMON} {START} --iter 2 --K 2 --tau2_fudge 4 --healpix_order 2 --offset_range 5 --offset_step 2",
    "refine3d": f"{COMMON} {START} --auto_refine --split_random_halves --auto_iter_max 2 --low_resol_join_halves 40 "
    "--healpix_order 2 --auto_local_healpix_order 4 --offset_range 5 --offset_step 2",
}
POOLS = (3, 10, 30)
FIELD = 340.0  # angstrom: the side of the box, whatever its pixels
BOX = 64  # pixels, of sizes that do not say theirs
PARTICLES = "particles.star"
DISTINCT = 24  # particles that are made; more are the same again, which costs RELION the same time


def layouts(size: Size, cores: int, gpus: int) -> list[tuple[int, int]]:
    """Ranks and threads that fill a node: a leader, and an even number that work; with GPUs, one or two on each.

    The leader only hands out work, so that three ranks may also have half of the cores each, where the site allows it.
    """
    if gpus:
        ranks = sorted({fill(size, gpus, cores), fill(size, 2 * gpus, cores)})
        return [(count, max(1, cores // count)) for count in ranks]
    threads = [2**power for power in range(cores.bit_length()) if 2**power == 1 or 3 * 2**power <= cores]
    found = [(fill(size.model_copy(update={"threads": each}), 0, cores), each) for each in threads]
    return list(dict.fromkeys([*found, (3, max(1, cores // 3)), (3, max(1, cores // 2))]))


def choices(size: Size, cores: int, gpus: int) -> list[Choice]:
    alone = size.model_copy(update={"nodes": 1, "ranks": 0})
    return [
        Choice(ranks=ranks, threads=threads, parameters={"pool": pool})
        for ranks, threads in layouts(alone, cores, gpus)
        for pool in POOLS
    ]


def trial_parameters(parameters: Parameters) -> Parameters:
    """Those of `phantom.Settings`, with the box that a size refines: memory grows with the third power of it."""
    box = int(parameters.get("refine_box", parameters.get("box", BOX)))
    return {"particles": DISTINCT, "box": box, "pixel_size": FIELD / box, "ssnr_one": 25.0}


def trial_files(data: Path, directory: Path, amount: int) -> None:
    """Writes particles.star: the particles of the data, over and over, until there are so many."""
    lines = (data / PARTICLES).read_text().splitlines(keepends=True)
    rows = [line for line in lines if "@data/" in line]
    head = lines[: lines.index(rows[0])]
    write_atomic(directory / PARTICLES, "".join([*head, *(rows[number % len(rows)] for number in range(amount)), "\n"]))


def command(choice: Choice, plan: Plan) -> str:
    """Both jobs as a run on one node divides it: Class3D has threads alone, Refine3D ranks and threads.

    Class3D is left out where the size fixes its threads: then no choice changes how it runs.
    """
    acceleration = plan.benchmark.variant(plan.image.name).words["acceleration"]
    placed = dataclasses.replace(plan.placement, ranks=choice.ranks, ranks_per_node=choice.ranks, threads=choice.threads)
    lines = []
    for kind, start, program in (("class3d", "in_image", "relion_refine"), ("refine3d", "launch", "relion_refine_mpi")):
        ranks, threads = resources.share(kind, placed)
        if ranks == 1 and not acceleration and "plain_threads" in plan.size.parameters:
            continue
        more = f"--gpu {resources.gpu_map(ranks, placed)}".strip() if acceleration == "--gpu" else acceleration
        words = f"--i {PARTICLES} --o out/{kind} {JOBS[kind]} --pool {choice.parameters['pool']} --j {threads} {more}"
        lines.append(f"{start} env OMP_NUM_THREADS={choice.threads} {program} {words}".rstrip())
    return " &&\n        ".join(lines)
