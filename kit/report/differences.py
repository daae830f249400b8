"""What differs between results, parameter by parameter: `Change CPU`, `Change pool`, `Change binary`."""

from __future__ import annotations

from collections.abc import Sequence

from kit.report.entries import Entry

# What follows from another fact, or differs between any two runs, and so is no change of its own.
INCIDENTAL = ("seed", "data", "kit commit", "image digest")


def facts(entry: Entry) -> dict[str, str]:
    """What decides the time and the outcome of a result, by the names that the tables use."""
    run = entry.run
    if run is None:
        return {}
    system = run.system
    found = {
        "benchmark": run.benchmark,
        "size": run.work,
        "binary": " ".join([run.image.name, run.image.version, *(f"{k}={v}" for k, v in run.image.arguments.items())]),
        "CPU": str(system.get("host_processor_model_name", "unknown")),
        "cores of a node": str(entry.cores or "unknown"),
        "memory of a node": str(system.get("host_memory_capacity", "unknown")),
        "accelerators of a node": accelerators(entry),
        "nodes": str(entry.nodes or "unknown"),
        "ranks": str(run.ranks),
        "threads": str(run.threads),
        "site": run.site,
        "partition": run.partition,
        "runtime": run.image.runtime,
    }
    size = entry.benchmark.sizes.get(run.size) if entry.benchmark else None
    parameters = {key: str(value) for key, value in (size.parameters if size else {}).items() if key != "random_seed"}
    last = {
        "seed": ", ".join(str(run.seed) for run in entry.runs),
        "data": run.data,
        "image digest": run.image.digest or "none",
        "kit commit": run.commit,
    }
    return {**found, **{key: value for key, value in parameters.items() if key not in found}, **last}


def accelerators(entry: Entry) -> str:
    system = entry.run.system if entry.run else {}
    number, model = system.get("accelerators_per_node", 0), system.get("accelerator_model_name", "")
    return f"{number} {model}".strip() if number else "none"


def differing(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The facts that are not the same in all entries, each with its values in their order; what one has not is unknown."""
    all_facts = [facts(entry) for entry in entries]
    names = dict.fromkeys(name for found in all_facts for name in found)
    values = {name: [found.get(name, "unknown") for found in all_facts] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def change(before: Entry, after: Entry) -> str:
    """What one result has otherwise than the one above it, in the words of a table: `Change CPU, pool`."""
    names = [name for name in differing([before, after]) if name not in INCIDENTAL]
    if not names:
        names = [name for name in differing([before, after]) if name != "kit commit"]
    return f"Change {', '.join(names)}" if names else "a repeat"
