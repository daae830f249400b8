"""The machine, in the names of MLPerf's system_desc: found out where it can be, taken from the site where it is said."""

from __future__ import annotations

import os
import platform
import shutil
from typing import Any

from kit.core.host import memory_gb, operating_system, processor
from kit.site import Site


def describe(site: Site, partition_name: str) -> dict[str, Any]:
    """The system description of a partition: facts of the machine that collects, laid under what the site file says."""
    model, packages = processor()
    local = site.partition(partition_name)[1].scheduler == "local"
    found = {
        "system_name": site.name,
        "status": "Research, Development, or Internal (RDI)",
        "number_of_nodes": 1,
        "host_processors_per_node": packages,
        "host_processor_model_name": model,
        "host_processor_vcpu_count": len(os.sched_getaffinity(0)),
        "host_memory_capacity": f"{memory_gb():.1f} GB",
        "accelerators_per_node": 0,
        "operating_system": f"{operating_system()}, Linux {platform.release()}",
        "other_software_stack": f"{site.container.runtime}: {shutil.which(site.container.runtime) or 'not on the PATH'}",
        "sw_notes": "" if local else "facts of the node that collected, where the site file does not say otherwise",
    }
    return {**found, **declared(site, partition_name)}


# What a description can say beside the hardware that a site declares.
KEYS = [
    "system_name",
    "status",
    "number_of_nodes",
    "host_processors_per_node",
    "host_processor_model_name",
    "host_processor_vcpu_count",
    "host_memory_capacity",
    "accelerators_per_node",
    "operating_system",
    "other_software_stack",
    "sw_notes",
]


def declared(site: Site, partition_name: str) -> dict[str, Any]:
    """What of a system's description the site file says, so that it can be held against it."""
    partition = site.partition(partition_name)[1]
    said: dict[str, Any] = {
        "system_name": site.name,
        "number_of_nodes": partition.max_nodes,
        "accelerators_per_node": partition.gpus,
    }
    if partition.cores:
        said["host_processor_vcpu_count"] = partition.cores
    if partition.memory_gb:
        said["host_memory_capacity"] = f"{partition.memory_gb:g} GB"
    return {**said, **site.hardware}
