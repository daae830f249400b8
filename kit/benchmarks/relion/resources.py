"""The resources of a job: ranks, threads, GPUs, scratch space, and the memory that it will need."""

from __future__ import annotations

from collections.abc import Mapping

from kit.placement import Placement

# Jobs that align particles: they take a seed and an accelerator, and on one node threads serve them better than ranks.
ALIGNING = ("class2d", "initialmodel", "class3d", "refine3d")
# Jobs of which RELION has no MPI program, or whose work cannot be divided.
SINGLE = ("import", "select", "maskcreate", "postprocess", "joinstar")
UNTHREADED = ("ctffind", "autopick", "extract")


def share(kind: str, placement: Placement, training: bool = False) -> tuple[int, int]:
    """Ranks and threads of a job.

    The halves of Refine3D need ranks; on a single node threads serve the other alignments better. Polish trains its
    parameters in one process only.
    """
    if kind in SINGLE:
        return 1, 1
    if training or (kind in ALIGNING and kind != "refine3d" and placement.nodes == 1):
        return 1, placement.node_threads
    return placement.ranks, placement.threads


def gpu_map(ranks: int, placement: Placement) -> str:
    """RELION's word for which GPU each rank takes: `:` between ranks, `,` between the threads of one.

    The first rank hands out work and takes none. Empty where the site does not
    say how many GPUs a node has: RELION then takes all that it sees.
    """
    if not placement.gpus:
        return ""
    if ranks == 1:
        return ",".join(str(gpu) for gpu in range(placement.gpus))
    if placement.gpu_each:
        return ":".join("0" for _ in range(1, ranks))
    taken = []
    for rank in range(1, ranks):
        node, place = placement.node_of(rank, ranks)
        taken.append((place - (node == 0)) % placement.gpus)  # the leader sits on the first node
    return ":".join(str(gpu) for gpu in taken)


def memory(kind: str, options: Mapping[str, str], box: int, ranks: int, placement: Placement) -> float:
    """Gigabytes that the last iteration of an alignment needs on a node; 0 for other jobs, and if the box is unknown.

    Each rank keeps, of every class, the padded transform of its map (16 bytes a coefficient, double precision) and the sums
    of its back-projection (16 + 8 bytes); the reconstruction of one class needs another 40 bytes a coefficient. Half of the
    cube of the padded box are independent. This is for images that are used up to their Nyquist frequency, as the last
    iteration of Refine3D does. Largest resident sizes of RELION 3.1.3 on boxes of 96 and 128 pixels, 1 to 4 classes, were
    0.7 to 1.0 of it.
    """
    if kind not in ALIGNING or not box:
        return 0.0
    padded = box * (1 if options.get("do_pad1") == "Yes" else 2)
    coefficients = padded ** (2 if kind == "class2d" else 3) / 2
    classes = int(options.get("nr_classes", "1"))
    return min(placement.ranks_per_node, ranks) * (coefficients * 40 * (classes + 1) / 1e9 + 0.1)


def note(kind: str, ranks: int, threads: int, gigabytes: float, placement: Placement) -> str:
    """The resources of a job, as a comment for the reader of the job script."""
    words = [f"{ranks} rank{'s' if ranks > 1 else ''} x {threads} thread{'s' if threads > 1 else ''}"]
    if gigabytes:
        words.append(f"about {gigabytes:.1f} GB of memory a node in its last iteration")
    if placement.scratch and kind in ALIGNING:
        words.append("particles copied to the node's own disk")
    return ", ".join(words)
