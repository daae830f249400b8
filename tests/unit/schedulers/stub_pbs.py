"""qsub, qstat and qdel of PBS, strict by its manual (qsub(1B), pbs_resources(7B)) and by how qsub splits a directive."""

from __future__ import annotations

import getopt
import json
import os
import re
import sys

from stub import SIGNALS, clock, die, directives, kill, new_number, number, of, once, record, script_of, submit

OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:q:r:R:S:u:v:VW:XzP:"
ATTRIBUTES = {
    "depend",
    "group_list",
    "umask",
    "sandbox",
    "block",
    "run_count",
    "stagein",
    "stageout",
    "release_nodes_on_stageout",
}
OLD = {"ncpus", "mem", "ngpus", "mpiprocs", "nodes", "vmem"}  # of the whole job: not together with chunks


def split(line: str) -> list[str]:
    """As qsub does: quotes of either kind, in which nothing is escaped; a backslash before a single character."""
    words, word, at, open_word = [], "", 0, False
    while at < len(line):
        c = line[at]
        if c in "'\"":
            end = line.find(c, at + 1)
            if end < 0:
                die(f"qsub: unmatched {c}")
            word, at, open_word = word + line[at + 1 : end], end, True
        elif c == "\\":
            word, at, open_word = word + line[at + 1 : at + 2], at + 1, True
        elif c.isspace():
            if open_word:
                words.append(word)
            word, open_word = "", False
        else:
            word, open_word = word + c, True
        at += 1
    return [*words, word] if open_word else words


def chunk(text: str) -> None:
    for part in text.split(":"):
        match = re.fullmatch(r"([A-Za-z][\w-]*)=([^\s=:]+)", part)
        if not match:
            die(f"qsub: illegal -l value: select: {part!r} is no resource of a chunk")
        name, value = match.groups()
        if name in ("ncpus", "mpiprocs", "ompthreads", "ngpus"):
            number(value, name)
        if name == "mem" and not re.fullmatch(r"\d+([kmgt]?b)", value):
            die(f"qsub: illegal -l value: mem={value}")
    names = [part.partition("=")[0] for part in text.split(":")]
    if len(names) != len(set(names)):
        die(f"qsub: illegal -l value: a resource twice in chunk {text}")


def resources(value: str, options: dict[str, str]) -> None:
    if re.search(r"\s", value):
        die("qsub: illegal -l value: blank")
    for part in value.split(","):
        name, equal, text = part.partition("=")
        if not equal or not text or not re.fullmatch(r"[A-Za-z][\w-]*", name):
            die(f"qsub: illegal -l value: {part}")
        once(options, f"-l {name}", text)
        if name == "select":
            for one in text.split("+"):
                count, _, rest = one.partition(":")
                if "=" in count:
                    rest = one
                else:
                    number(count, "select")
                chunk(rest)
        elif name == "place":
            kinds = [{"free", "pack", "scatter", "vscatter"}, {"excl", "shared", "exclhost"}]
            for word in text.split(":"):
                group = next((kind for kind in kinds if word in kind), None)
                if group is None and not word.startswith("group="):
                    die(f"qsub: illegal -l value: place={text}")
                if group is not None:
                    kinds.remove(group)
        elif name == "walltime":
            clock(text, "walltime")
        elif name in ("ncpus", "ngpus"):
            number(text, name)
        elif name == "mem" and not re.fullmatch(r"\d+[kmgt]?b", text):
            die(f"qsub: illegal -l value: mem={text}")


def attribute(value: str, options: dict[str, str]) -> None:
    name, equal, text = value.strip().partition("=")
    if not equal or not text:
        die("qsub: illegal -W value")
    if name not in ATTRIBUTES:
        die(f"qsub: Undefined attribute {name}")
    once(options, f"-W {name}", text)
    if name == "umask" and not re.fullmatch(r"[0-7]{1,4}", text):
        die("qsub: illegal -W value: umask")
    if name == "depend":
        kind, _, jobs = text.partition(":")
        if kind not in ("after", "afterok", "afternotok", "afterany") or not jobs:
            die("qsub: illegal -W value: depend")
        for job in jobs.split(":"):
            if not of(job):
                die(f"qsub: Unknown Job Id {job}")


def read(words: list[str], options: dict[str, str]) -> list[str]:
    try:
        found, rest = getopt.getopt(words, OPTIONS)
    except getopt.GetoptError as error:
        die(f"qsub: {error}\nusage: qsub ...", 2)
    for name, value in found:
        if name == "-l":
            resources(value, options)
        elif name == "-W":
            attribute(value, options)
        else:
            once(options, name, value)
    return rest


RULES = {
    "-N": r"[A-Za-z0-9][^\s/]{0,14}",  # 236 characters since version 13, 15 before
    "-j": r"oe|eo|n",
    "-k": r"n|[doe]{1,3}",
    "-r": r"[yn]",
    "-m": r"n|[abej]+",
    "-P": r'[^]/\[";:|<>+,?*\s]+',
    "-A": r"\S+",
    "-M": r"[^\s,]+(,[^\s,]+)*",
    "-q": r"[\w.-]+(@\S+)?|@\S+",
    "-S": r"/\S+",
    "-J": r"\d+-\d+(:\d+)?(%\d+)?",
}


def qsub(words: list[str]) -> None:
    options: dict[str, str] = {}
    script = script_of(read(words, options))
    given: dict[str, str] = {}
    for line in directives(script, "#PBS"):
        if rest := read(split(line), given):
            die(f"qsub: directive error: {line.strip()} ({rest} is no option)")
    options = {**given, **options}
    for name, rule in RULES.items():
        if name in options and not re.fullmatch(rule, options[name]):
            die(f"qsub: illegal {name} value")
    if "-l select" in options and (mixed := {f"-l {name}" for name in OLD} & set(options)):
        die(f"qsub: Resource given both in select and for the job: {sorted(mixed)}")
    if "-l walltime" not in options:
        die("qsub: Job violates queue limits: no walltime")
    if ":" in options.get("-o", "").removeprefix("localhost:"):
        die("qsub: illegal -o value")
    job, tasks = f"{new_number()}.stub", {}
    if "-J" in options:
        first, last, step = (int(part or 1) for part in re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", options["-J"]).groups())
        if first >= last or options.get("-r") == "n":
            die("qsub: illegal -J value")
        job = job.replace(".", "[].")
        tasks = {job.replace("[]", f"[{index}]"): index for index in range(first, last + 1, step)}
    after = options.get("-W depend", "").partition(":")[2]
    # The job starts in the home directory; its output is copied over what is there.
    submit(job, script, options, tasks, start=os.environ["HOME"], out=options.get("-o", "script.o"), mode="wb", after=after)
    print(job)


def qstat(words: list[str]) -> None:
    if words[:1] == ["-x"]:
        words = words[1:]
        if os.environ.get("STUB_NO_HISTORY"):
            die("qstat: PBS is not configured to maintain job history")
        history = True
    else:
        history = False
    if words[:3] != ["-f", "-F", "json"] or len(words) < 4:
        die(f"qstat: unexpected {words}", 2)
    answer, status = {}, 0
    for name in words[3:]:
        entries = of(name)
        if not entries or (not history and all(entry["state"] == "gone" for entry in entries)):
            print(f"qstat: Unknown Job Id {name}", file=sys.stderr)
            status = 153
            continue
        states = {entry["state"] for entry in entries}
        array = entries[0]["of"] == name and entries[0]["id"] != name
        letter = "R" if "running" in states else "Q" if "pending" in states else "F"
        values = {
            "Job_Name": "x",
            "job_state": "B" if array and letter == "R" else letter,
            "Variable_List": {"A": "tab\there"},
        }
        if letter == "Q":
            values["comment"] = "Not Running: Insufficient amount of resource: ncpus"
        if letter == "F":
            values["Exit_status"] = entries[0]["exit"] or 0
        answer[f"{name}.centre.edu" if name.endswith(".stub") else name] = values
    print(json.dumps({"timestamp": 1, "Jobs": answer}).replace("\\t", "\t"))
    sys.exit(status)


def qdel(words: list[str]) -> None:
    for name in words:
        entries = of(name)
        if not entries:
            die(f"qdel: Unknown Job Id {name}", 153)
        if all(entry["state"] == "gone" for entry in entries):
            die(f"qdel: Job has finished {name}", 35)
        for entry in entries:
            kill(entry, SIGNALS["TERM"])


if __name__ == "__main__":
    record(sys.argv[1:])
    {"qsub": qsub, "qstat": qstat, "qdel": qdel}[sys.argv[1]](sys.argv[2:])
