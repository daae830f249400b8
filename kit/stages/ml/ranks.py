"""The ranks of a job, and the devices they compute on: what training and inference need of them, and no more.

`horovod` is the way of the benchmark. `single` is one process without Horovod, which runs on any TensorFlow.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Variables by which launchers tell a process of how many it is one, the innermost launcher first: mpirun starts its daemons
# by srun, whose variables the ranks inherit. SLURM_NTASKS is missing, since a batch script has it as well.
SIZES = (
    "HOROVOD_SIZE",  # horovodrun
    "OMPI_COMM_WORLD_SIZE",  # Open MPI's mpirun
    "MV2_COMM_WORLD_SIZE",  # MVAPICH2
    "PMI_SIZE",  # MPICH, Intel MPI, Cray MPICH
    "JSM_NAMESPACE_SIZE",  # jsrun
    "FLUX_JOB_SIZE",  # Flux
    "SLURM_STEP_NUM_TASKS",  # srun
)
# Where none of them is set, there are at least as many as these say: of one node, or a rank, which counts from 0.
LOCAL_SIZES = ("PALS_LOCAL_SIZE", "MPI_LOCALNRANKS")  # PALS; Hydra, of MPICH and Intel MPI
RANKS = ("PMIX_RANK", "PALS_RANKID", "PMI_RANK", "ALPS_APP_PE")  # PMIx; PALS; MPICH and others; aprun


def announced(environment: Mapping[str, str]) -> tuple[int, str]:
    """How many processes the launcher announces, at least, and the variable that says so; (1, "") if it says nothing."""
    for name in SIZES:
        if environment.get(name, "").isdigit():
            return int(environment[name]), name
    least = [(int(environment[name]), name) for name in LOCAL_SIZES if environment.get(name, "").isdigit()]
    least += [(int(environment[name]) + 1, name) for name in RANKS if environment.get(name, "").isdigit()]
    return max(least, key=lambda found: found[0], default=(1, ""))


def refuse_strangers(backend: str, size: int, environment: Mapping[str, str]) -> None:
    """ValueError where the launcher started more processes than came together: each would do the work of all."""
    started, name = announced(environment)
    if started <= size:
        return
    if backend == "single":
        raise ValueError(f"backend single is one process, but {started} were started ({name}); --ranks 1")
    raise ValueError(
        f"backend {backend} joined {size} of the {started} processes that were started ({name}={environment[name]}): the "
        'MPI of the image does not understand this launcher. In the site file: another launcher or pmi, or mpi = "inside" '
        "under [container]; kit-ranks in the image says more"
    )


class Single:
    """A job of one process."""

    rank, size = 0, 1

    def __init__(self) -> None:
        refuse_strangers("single", self.size, os.environ)
        self.devices = [take_gpu(0)]

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """Each tensor summed over all ranks."""
        return list(tensors)

    def broadcast(self, variables: Sequence[Any]) -> None:
        """The variables of rank 0 on every rank."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order."""
        return [value]


class Horovod:
    """The processes that the launcher started, joined by Horovod."""

    def __init__(self) -> None:
        # A rank of Open MPI waits by asking again and again, and takes the processor from those that still compute; told
        # to yield it does not (docs/cloudmask.md has what that gives). Who sets it otherwise is left alone.
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
        import horovod.tensorflow as hvd

        if not gpus():
            # Bytes. What is larger goes as it is and not through Horovod's buffer, which takes two copies of everything:
            # Uno's 65 MB in 19 ms in place of 56 (docs/speed.md). Small tensors still share a message.
            os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", str(2**20))

        hvd.init()
        self.hvd = hvd
        self.rank, self.size = hvd.rank(), hvd.size()
        refuse_strangers("horovod", self.size, os.environ)
        gpu = take_gpu(hvd.local_rank())
        try:
            self.devices = self.gather(gpu)  # the first that they do together
        except Exception as error:
            if "nccl" not in str(error):
                raise
            raise ValueError(
                f"NCCL could not join the ranks ({hvd.local_size()} on this node): {error}. It needs a GPU for each rank; "
                "where there are more ranks than GPUs, give fewer (--ranks). NCCL_DEBUG=WARN in the environment makes NCCL "
                "say more"
            ) from error

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        if self.size == 1:  # nothing to exchange, which Horovod takes its time for
            return list(tensors)
        return list(self.hvd.grouped_allreduce(list(tensors), op=self.hvd.Sum))

    def broadcast(self, variables: Sequence[Any]) -> None:
        self.hvd.broadcast_variables(variables, root_rank=0)

    def gather(self, value: Any) -> list[Any]:
        return list(self.hvd.allgather_object(value))


BACKENDS = {"horovod": Horovod, "single": Single}


def gpus() -> list[Any]:
    """The GPUs that this process sees."""
    import tensorflow as tf

    return list(tf.config.list_physical_devices("GPU"))


def take_gpu(number: int) -> str:
    """Takes a GPU of the node for this process, and only the memory of it that it needs; its name, or `CPU` without one.

    Schedulers that give each rank one GPU show it that one alone, so the number is taken modulo those that are seen.
    """
    import tensorflow as tf

    seen = gpus()
    if not seen:
        return "CPU"
    gpu = seen[number % len(seen)]
    tf.config.set_visible_devices(gpu, "GPU")
    tf.config.experimental.set_memory_growth(gpu, True)
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU"))


def join(backend: str, tf32: bool = True) -> Any:
    """Makes this process a rank, which computes on as many threads as OMP_NUM_THREADS says: TensorFlow does not ask it.

    `tf32`: GPUs multiply float32 in TF32, of 10 bits, where they can. It is set either way, since what TensorFlow does
    unasked is a matter of its version, and what came of it on each rank is in `ranks.tf32`.
    """
    import tensorflow as tf

    threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    ranks: Any = BACKENDS[backend]()
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.get_visible_devices("GPU")]
    ranks.tf32 = ranks.gather(multiplies_tf32(enabled, [of.get("compute_capability") for of in details], os.environ))
    return ranks


def multiplies_tf32(enabled: bool, capabilities: Sequence[tuple[int, int] | None], environment: Mapping[str, str]) -> bool:
    """Whether float32 is multiplied in TF32: TensorFlow lets it, each of the GPUs can (compute capability 8.0, Ampere), and
    NVIDIA's libraries are not told otherwise (NVIDIA_TF32_OVERRIDE=0)."""
    able = bool(capabilities) and all(capability is not None and capability >= (8, 0) for capability in capabilities)
    return enabled and able and environment.get("NVIDIA_TF32_OVERRIDE") != "0"


def crowded(ranks: Any) -> bool:
    """Whether the ranks of a node had more threads than cores, or shared a GPU: what they measure is functional only."""
    import tensorflow as tf

    here = {
        "host": socket.gethostname(),
        "cores": sorted(os.sched_getaffinity(0)),
        # Each rank may be shown all the GPUs of the node, or its own alone.
        "gpu": (os.environ.get("CUDA_VISIBLE_DEVICES"), [device.name for device in tf.config.get_visible_devices("GPU")]),
    }
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return shared(ranks.gather(here), threads, on_gpus="CPU" not in ranks.devices)


def shared(places: Sequence[dict[str, Any]], threads: int, on_gpus: bool) -> bool:
    """The same, told from the `host`, `cores` and `gpu` of every rank; 0 threads are as many as there are cores."""
    hosts: dict[str, list[dict[str, Any]]] = {}
    for place in places:
        hosts.setdefault(place["host"], []).append(place)
    for of_host in hosts.values():
        if on_gpus:
            if len({repr(place["gpu"]) for place in of_host}) < len(of_host):
                return True
            continue
        cores = set().union(*(place["cores"] for place in of_host))
        if sum(threads or len(place["cores"]) for place in of_host) > len(cores):
            return True
    return False


def multiplies_bfloat16() -> bool:
    """Whether this machine's processor has bfloat16 in hardware: AVX-512 BF16 or AMX."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return bool(flags and {"avx512_bf16", "amx_bf16"} & set(flags[1].split()))


def agreed_precision(wanted: str, ranks: Any) -> str:
    """What all ranks compute in: `auto` is bfloat16 where every one of them has it in hardware, float32 elsewhere.

    On GPUs `auto` stays with float32, the reference's.
    """
    if wanted != "auto":
        return wanted
    able = ranks.gather(multiplies_bfloat16())
    return "bfloat16" if set(ranks.devices) == {"CPU"} and all(able) else "float32"
