"""Queues as a scheduler's own commands describe them. They are asked, and nothing is submitted."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

LONG = 10_080  # minutes: a week, where a queue has no limit of its own
SECONDS = 20  # that a command may take


@dataclass(frozen=True)
class Fact:
    """A value, and where it came from."""

    value: Any
    source: str


@dataclass
class Queue:
    """One queue as a partition of a site file: keys with their facts, and what a person should know beside them."""

    name: str
    facts: dict[str, Fact] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def say(self, key: str, value: Any, source: str) -> None:
        if value not in (None, "", 0):
            self.facts[key] = Fact(value, source)


def ask(*words: str, errors: bool = False) -> str | None:
    """What a command prints, on stderr as well with `errors`; None if it is not there, fails, or takes too long."""
    if not shutil.which(words[0]):
        return None
    try:
        result = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode:
        return None
    return result.stdout + result.stderr if errors else result.stdout


def number(text: str | None) -> int:
    """The digits at the beginning of a text, 0 where there are none (`UNLIMITED`, `64+`, `-`)."""
    match = re.match(r"\s*(\d{1,9})", text or "")
    return int(match[1]) if match else 0


def clock(text: str) -> int:
    """Minutes of `days-hours:minutes:seconds`, `hours:minutes:seconds`, `minutes:seconds` or `minutes`; 0 for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not match:
        return 0
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:  # hours come first
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, minutes, seconds = 0, parts[0], (*parts, 0)[1]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds // 60


def minutes_of(found: Queue, minutes: int, source: str) -> None:
    found.say("max_minutes", minutes or LONG, source if minutes else f"{source}: no limit; a week is written here")


def gigabytes(text: str) -> float:
    """Gigabytes of 10^9 bytes of `527672492kb`, `605.1G` or `7.7G`: with a letter they are powers of 1024."""
    match = re.match(r"([\d.]+)\s*([kmgt]?)", text.strip().lower())
    if not match or not match[1].strip("."):
        return 0.0
    return float(match[1]) * float(1024 ** " kmgt".index(match[2] or " ")) / 1e9


def whole(value: float) -> int:
    """Down, so that no job asks for more than there is."""
    return int(value)


def slurm() -> list[Queue] | None:
    """One partition a queue, of its most frequent kind of node."""
    answer = ask("sinfo", "--noheader", "--exact", "--format=%P|%a|%D|%c|%m|%G|%l|%f|%z")
    if answer is None:
        return None
    limits = {}
    for line in (ask("scontrol", "show", "partition", "--oneliner") or "").splitlines():
        pairs = dict(word.split("=", 1) for word in line.split() if "=" in word)
        limits[pairs.get("PartitionName", "")] = pairs
    kinds: dict[str, list[list[str]]] = {}
    for line in answer.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) == 9:
            kinds.setdefault(words[0], []).append(words)
    said = ask("scontrol", "show", "config") or ""
    memory = re.search(r"^SelectTypeParameters\s*=\s*(\S*MEMORY\S*)", said, re.MULTILINE)
    most_tasks = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
    found = []
    # The default partition is marked, and comes first: it is what a site without --partition means.
    for name in sorted(kinds, key=lambda name: not name.endswith("*")):
        rows = sorted(kinds[name], key=lambda words: -number(words[2]))
        _, state, _, processors, megabytes, gres, longest, features, shape = rows[0]
        queue = Queue(name.rstrip("*"))
        source = "sinfo"
        queue.say("queue", queue.name, source)
        nodes = sum(number(words[2]) for words in rows)
        limit = limits.get(queue.name, {})
        most = number(limit.get("MaxNodes"))
        queue.say(
            "max_nodes", min(nodes, most) if most else nodes, "MaxNodes of scontrol" if most else "sinfo, all its nodes"
        )
        fewest = number(limit.get("MinNodes"))
        queue.say("min_nodes", fewest if fewest > 1 else 0, "MinNodes of scontrol")
        minutes_of(queue, clock(longest), source)
        sockets = [number(part) for part in shape.split(":")]
        cores = sockets[0] * sockets[1] if len(sockets) == 3 else number(processors)
        queue.say("cores", cores, f"sinfo, sockets x cores of a node, {shape}")
        threads = sockets[2] if len(sockets) == 3 else 1
        queue.say("hardware_threads", threads if threads > 1 else 0, f"sinfo, {processors} processors of a node")
        queue.say("memory_gb", whole(number(megabytes) * 2**20 / 1e9), f"sinfo, {megabytes} MiB of a node")
        if memory:
            queue.say("memory_request", "node", f"SelectTypeParameters of scontrol, {memory[1]}")
        if most_tasks and int(most_tasks[1]) > 1:  # indices are below it
            queue.say("max_jobs_in_array", int(most_tasks[1]) - 1, "MaxArraySize of scontrol")
        cards = re.search(r"gpu(?::([A-Za-z][\w.-]*))?:(\d+)", gres)
        if cards:
            queue.say("gpus", int(cards[2]), f"sinfo, gres {gres}")
            queue.say("gpu_type", cards[1], f"sinfo, gres {gres}")
        if state not in ("up", ""):
            queue.remarks.append(f"it is {state} now")
        for words in rows[1:]:
            queue.remarks.append(
                f"it has {words[2]} other nodes: {words[3]} processors, {words[4]} MiB, gres {words[5]}, features {words[7]}"
            )
        if len(rows) > 1 and features != "(null)":
            queue.remarks.append(f"constraint could keep to the nodes described here: their features are {features}")
        if limit.get("AllowAccounts", "ALL") != "ALL":
            queue.remarks.append(f"accounts that may use it: {limit['AllowAccounts'][:200]}")
        found.append(queue)
    return found


def records(text: str, heads: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Blocks of `name` and indented `key = value` lines, as qstat -f and pbsnodes print them; long lines go on below."""
    name, pairs, last = "", dict[str, str](), ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            if pairs:
                yield name, pairs
            name, pairs, last = line.removeprefix(heads).strip(), {}, ""
        elif line.startswith("\t") and last and " = " not in line:
            pairs[last] += line.strip()
        elif " = " in line:
            key, _, value = line.strip().partition(" = ")
            pairs[key], last = value, key
    if pairs:
        yield name, pairs


def pbs() -> list[Queue] | None:
    """Execution queues of PBS Professional or OpenPBS; nodes as pbsnodes says of the most frequent kind."""
    server = ask("qstat", "-B", "-f")
    if server is None or not server.startswith("Server:"):
        return None
    kinds: dict[tuple[str, str, str], int] = {}
    for _, node in records(ask("pbsnodes", "-a") or ""):
        processors, memory, cards = (node.get(f"resources_available.{key}", "") for key in ("ncpus", "mem", "ngpus"))
        kind = processors, memory, cards
        kinds[kind] = kinds.get(kind, 0) + 1
    found = []
    for name, pairs in records(ask("qstat", "-Q", "-f") or "", "Queue:"):
        if pairs.get("queue_type") != "Execution":
            continue  # a routing queue hands jobs on
        queue = Queue(name)
        source = "qstat -Qf"
        queue.say("queue", name, source)
        most = number(pairs.get("resources_max.nodect"))
        queue.say(
            "max_nodes", most or sum(kinds.values()), f"{source}, resources_max.nodect" if most else "pbsnodes, all nodes"
        )
        queue.say("min_nodes", number(pairs.get("resources_min.nodect")), f"{source}, resources_min.nodect")
        minutes_of(queue, clock(pairs.get("resources_max.walltime", "")), f"{source}, resources_max.walltime")
        if kinds:
            processors, memory, cards = max(kinds, key=lambda kind: kinds[kind])
            queue.say("cores", number(processors), "pbsnodes, ncpus of most nodes; they may be hardware threads")
            queue.say("memory_gb", whole(gigabytes(memory)), f"pbsnodes, mem {memory}")
            queue.say("gpus", number(cards), "pbsnodes, ngpus")
            if len(kinds) > 1:
                queue.remarks.append(f"pbsnodes knows {len(kinds)} kinds of nodes; those of this queue may be others")
        if "False" in (pairs.get("enabled"), pairs.get("started")):
            queue.remarks.append("it takes or starts no jobs now")
        found.append(queue)
    return found


def lsf() -> list[Queue] | None:
    answer = ask("bqueues", "-l")
    if answer is None or "QUEUE:" not in answer:
        return None
    kinds: dict[tuple[str, str], int] = {}
    for line in (ask("lshosts", "-w") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 6 and words[4].isdigit():
            kinds[words[4], words[5]] = kinds.get((words[4], words[5]), 0) + 1
    found = []
    for block in answer.split("QUEUE:")[1:]:
        queue = Queue(block.split()[0])
        source = "bqueues -l"
        queue.say("queue", queue.name, source)
        longest = re.search(r"MAXIMUM LIMITS:.*?RUNLIMIT[^\n]*\n\s*([\d.]+)\s+min", block, re.DOTALL)
        minutes_of(queue, int(float(longest[1])) if longest else 0, f"{source}, RUNLIMIT")
        queue.say("max_nodes", sum(kinds.values()), "lshosts, all hosts with processors")
        if kinds:
            processors, memory = max(kinds, key=lambda kind: kinds[kind])
            queue.say("cores", number(processors), "lshosts, ncpus of most hosts; they may be hardware threads")
            queue.say("memory_gb", whole(gigabytes(memory)), f"lshosts, maxmem {memory}")
        status = re.search(r"\n\s*PRIO NICE STATUS[^\n]*\n\s*\S+\s+\S+\s+(\S+)", block)
        if status and status[1] != "Open:Active":
            queue.remarks.append(f"it is {status[1]} now")
        found.append(queue)
    return found


def gridengine() -> list[Queue] | None:
    """Cluster queues of Grid Engine, with the first parallel environment of theirs that spans hosts."""
    environments = ask("qconf", "-spl")
    if environments is None:
        return None
    hosts: dict[tuple[str, str, str], int] = {}
    header, *lines = [line.split() for line in (ask("qhost") or "").splitlines()] or [[]]
    for words in lines:
        host = dict(zip(header, words, strict=False))
        if host.get("NCPU", "").isdigit():  # not the line of rules, nor that of all hosts together
            cores = host.get("NCOR", host["NCPU"])
            kind = cores, host.get("NTHR", cores), host.get("MEMTOT", "")
            hosts[kind] = hosts.get(kind, 0) + 1
    found = []
    for name in (ask("qconf", "-sql") or "").split():
        settings = {}
        for line in (ask("qconf", "-sq", name) or "").replace("\\\n", " ").splitlines():
            key, _, value = line.partition(" ")
            settings[key] = value.strip()
        queue = Queue(name)
        source = f"qconf -sq {name}"
        queue.say("queue", name, source)
        longest = settings.get("h_rt", "INFINITY")
        minutes_of(queue, clock(longest), f"{source}, h_rt")
        queue.say("max_nodes", sum(hosts.values()), "qhost, all hosts")
        if hosts:
            cores, threads, memory = max(hosts, key=lambda kind: hosts[kind])
            queue.say("cores", number(cores), "qhost, cores of most hosts")
            several = number(threads) // max(1, number(cores))
            queue.say("hardware_threads", several if several > 1 else 0, "qhost, NTHR by NCOR")
            queue.say("memory_gb", whole(gigabytes(memory)), f"qhost, MEMTOT {memory}")
        rules = {}
        for environment in re.split(r"[\s,]+", settings.get("pe_list", "")):
            rule = re.search(r"allocation_rule\s+(\S+)", ask("qconf", "-sp", environment) or "")
            if rule:
                rules[environment] = rule[1]
        spanning = [environment for environment, rule in rules.items() if rule != "$pe_slots"]
        queue.say(
            "parallel_environment",
            next(iter([*spanning, *rules]), ""),
            f"{source}, pe_list; rules of allocation: {', '.join(f'{key} {rule}' for key, rule in rules.items())}",
        )
        found.append(queue)
    return found


def duration(text: str) -> int:
    """Minutes of a duration of Flux: `30m`, `1d`, `1.5h`, seconds without a unit, `inf`."""
    match = re.fullmatch(r"([\d.]+)(ms|s|m|h|d)?", text.strip())
    if not match:
        return 0
    unit = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}[match[2]]
    return int(float(match[1]) * unit // 60)


def flux() -> list[Queue] | None:
    answer = ask("flux", "resource", "list", "--no-header", "--states=all", "--format={nnodes} {ncores} {ngpus}")
    if answer is None:
        return None
    nodes = cores = cards = 0
    for line in answer.splitlines():
        words = line.split()
        if len(words) == 3 and number(words[0]):
            nodes, cores, cards = nodes + number(words[0]), cores + number(words[1]), cards + number(words[2])
    listed = ask("flux", "queue", "list", "--no-header", "--format={queue}|{limits.timelimit}|{limits.max.nnodes}") or ""
    rows = [line.strip().split("|") for line in listed.splitlines() if line.count("|") == 2] or [["", "", ""]]
    found = []
    for name, longest, most in rows:
        queue = Queue(name or "batch")
        queue.say("queue", name, "flux queue list")
        queue.say("max_nodes", min(number(most) or nodes, nodes or number(most)), "flux queue list and flux resource list")
        minutes_of(queue, duration(longest), "flux queue list")
        if nodes:
            queue.say("cores", cores // nodes, f"flux resource list, {cores} cores of {nodes} nodes")
            queue.say("gpus", cards // nodes, f"flux resource list, {cards} GPUs of {nodes} nodes")
        queue.remarks.append("memory_gb is missing: Flux does not say it")
        found.append(queue)
    return found


def pjm() -> list[Queue] | None:
    """Resource groups of Fujitsu's scheduler, which says neither nodes nor limits in a form that all sites share."""
    answer = ask("pjstat", "--rsc")
    if answer is None:
        return None
    lines = [line.split() for line in answer.splitlines() if line.strip()]
    column = lines[0].index("RSCGRP") if lines and "RSCGRP" in lines[0] else -1
    names = [words[column] for words in lines[1:] if column >= 0 and len(words) > column and words[column] != "-"]
    found = []
    for name in dict.fromkeys(names or ["batch"]):
        queue = Queue(name)
        queue.say("queue", name if names else "", "pjstat --rsc")
        queue.remarks.append("max_nodes, max_minutes, cores and memory_gb are missing: pjacl and the site's pages say them")
        found.append(queue)
    return found


# In the order in which they are asked: a command `qstat` is of PBS as well as of Grid Engine, and only PBS has -B -f.
QUERIES: dict[str, Callable[[], list[Queue] | None]] = {
    "slurm": slurm,
    "flux": flux,
    "lsf": lsf,
    "pjm": pjm,
    "pbs": pbs,
    "gridengine": gridengine,
}


def scheduler() -> tuple[str, list[Queue], list[str]]:
    """The first scheduler that answers and has queues, its queues, and the names of others that answer as well."""
    answers = {name: queues for name, query in QUERIES.items() if (queues := query())}
    if not answers:
        return "local", [], []
    name, *others = answers
    return name, answers[name], others
