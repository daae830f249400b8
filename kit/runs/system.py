"""The machine, in the names of MLPerf's system_desc: found out where it can be, taken from the site where it is said.

MLPerf's checker of system descriptions (mlperf_logging.system_desc_checker) asks for the 33 names of MLPERF. What is known
of each is in run.json; how it is known follows from `declared`, a key of the kit's own that lists what the site file says.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.core import hardware
from kit.core.host import memory_gb, operating_system, processor
from kit.site import Site

MLPERF = (
    "submitter",
    "division",
    "status",
    "system_name",
    "number_of_nodes",
    "host_processors_per_node",
    "host_processor_model_name",
    "host_processor_core_count",  # of one processor
    "host_processor_vcpu_count",  # of a node
    "host_processor_frequency",
    "host_processor_caches",
    "host_processor_interconnect",
    "host_memory_capacity",
    "host_storage_type",
    "host_storage_capacity",
    "host_networking",
    "host_networking_topology",
    "host_memory_configuration",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_host_interconnect",
    "accelerator_frequency",
    "accelerator_on-chip_memories",
    "accelerator_memory_configuration",
    "accelerator_memory_capacity",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "cooling",
    "hw_notes",
    "framework",
    "other_software_stack",
    "operating_system",
    "sw_notes",
)
# Asked for by MLPerf's rules, and not by its checker.
ALSO = ("host_network_card_count",)
# A submission says these itself: who submits, and the image that ran.
SAID_LATER = ("submitter", "division", "framework")
DECLARED = "declared"  # the keys that the site file says, in one line
# What run.json says of a system.
KEYS = [key for key in (*MLPERF, *ALSO, DECLARED) if key not in SAID_LATER]

UNKNOWN = "unknown"
NONE = "none"  # of accelerators, where there are none


def describe(site: Site, partition_name: str, directory: Path) -> dict[str, Any]:
    """The system description of a partition: facts of the machine that collects, laid under what the site file says.

    `directory` is that of the run, on whose storage it worked. An empty text: nobody says.
    """
    model, packages = processor()
    partition = site.partition(partition_name)[1]
    ports = hardware.networks()
    size = hardware.capacity_gb(directory)
    found = {
        **dict.fromkeys(KEYS, ""),
        "status": "Research, Development, or Internal (RDI)",
        "host_processors_per_node": packages,
        "host_processor_model_name": model,
        "host_processor_core_count": hardware.cores() or "",
        "host_processor_vcpu_count": len(os.sched_getaffinity(0)),
        "host_processor_frequency": hardware.frequency(),
        "host_processor_caches": hardware.caches(),
        "host_processor_interconnect": NONE if packages == 1 else "",
        "host_memory_capacity": f"{memory_gb():.1f} GB",
        "host_storage_type": hardware.storage(directory),
        "host_storage_capacity": f"{size:.1f} GB" if size else "",
        "host_networking": ", ".join(f"{count}x {port}" for port, count in sorted(Counter(ports).items())),
        "host_network_card_count": len(ports),
        "operating_system": f"{operating_system()}, Linux {platform.release()}",
        "other_software_stack": f"{site.container.runtime}: {shutil.which(site.container.runtime) or 'not on the PATH'}",
        "sw_notes": ""
        if partition.scheduler == "local"
        else "facts of the node that collected, where the site file does not say otherwise",
        **accelerators(partition.gpus),
    }
    return {**found, **declared(site, partition_name)}


def accelerators(expected: int) -> dict[str, Any]:
    """What is known of the accelerators of a node that has so many by its site."""
    keys = [key for key in KEYS if key.startswith("accelerator_")]
    if not expected:
        return dict.fromkeys(keys, NONE)
    found = hardware.accelerators()
    if found is None:
        return {}
    return {
        "accelerator_model_name": found.model,
        "accelerator_host_interconnect": found.host_interconnect,
        "accelerator_frequency": found.frequency,
        "accelerator_memory_capacity": f"{found.memory_gb:.1f} GB",
        "accelerator_interconnect": NONE if expected == 1 else found.interconnect,
        "hw_notes": found.driver,
    }


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
    said |= site.hardware
    return {**said, DECLARED: ", ".join(sorted(said))}


def description(system: Mapping[str, Any], submitter: str, name: str, framework: str) -> dict[str, Any]:
    """system.json: MLPerf's keys, what else the site says, and under `known` how each is known.

    Numbers are written as text, as in MLPerf's own results: its checker joins them, and fails at a number.
    """
    by_site = set(str(system.get(DECLARED, "")).split(", "))
    # In a submission the system has the name under which it is submitted.
    later = {"submitter": submitter, "division": "open", "system_name": name, "framework": framework}
    keys = [*MLPERF, *ALSO, *sorted(system.keys() - {*MLPERF, *ALSO, DECLARED})]
    values = {key: str(later.get(key, system.get(key, ""))) for key in keys}
    known = {key: how(key, value, by_site) for key, value in values.items()}
    filled = {key: UNKNOWN if known[key] == UNKNOWN else value for key, value in values.items()}
    return {**filled, "known": known}


def how(key: str, value: str, by_site: set[str]) -> str:
    """Whether a value was collected from the machine, declared by somebody, or is not known."""
    if value == "" and not key.endswith("_notes"):
        return UNKNOWN
    said = key in by_site or key in ("submitter", "division", "status", "system_name")
    follows = key.startswith("accelerator_") and value == NONE  # from how many there are, which the site says
    return "declared" if said or follows else "collected"
