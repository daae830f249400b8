"""bsub, bjobs and bkill of LSF, strict by its command reference (10.1)."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys

from stub import SIGNALS, die, directives, kill, new_number, number, of, once, record, submit

FLAGS = {"-x", "-N", "-B", "-r", "-rn", "-K", "-H"}
VALUED = {"-J", "-n", "-nnodes", "-alloc_flags", "-R", "-gpu", "-W", "-wt", "-wa", "-q", "-P", "-G", "-U", "-u", "-o", "-oo"}
VALUED |= {"-e", "-eo", "-w", "-M", "-cwd", "-L", "-app", "-m", "-env", "-sla", "-Jd", "-g", "-core_isolation"}
SECTIONS = {"select", "order", "rusage", "span", "same", "cu", "affinity"}
ALLOCATION = {"smt1", "smt2", "smt4", "gpumps", "gpudefault", "nvme", "maximizegpfs", "pipeline"}


def time(text: str, what: str) -> int:
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if not match or (match[1] and int(match[2]) > 59):
        die(f"bsub: {what}: Bad time specification {text!r}. Job not submitted.")
    return 60 * int(match[1] or 0) + int(match[2])


def requirement(text: str, options: dict[str, str]) -> None:
    left = re.sub(r"(\w+)\[((?:[^][]|\[[^]]*\])*)\]", lambda match: section(match, options), text)
    if left.strip():
        die(f"bsub: Bad resource requirement syntax {text!r}. Job not submitted.")


def section(match: re.Match[str], options: dict[str, str]) -> str:
    name, body = match.groups()
    if name not in SECTIONS or not body:
        die(f"bsub: Bad resource requirement syntax {match[0]!r}. Job not submitted.")
    once(options, f"-R {name}", body)
    if name == "span" and not re.fullmatch(r"(ptile|hosts|block)=[1-9]\d*", body):
        die(f"bsub: Bad resource requirement: span[{body}]")
    if name == "rusage":
        for part in body.split(","):
            if not re.fullmatch(r"[a-z_]+=\d+([KMGT]B?)?(/(host|task|job))?(:\w+=\S+)*", part):
                die(f"bsub: Bad resource requirement: rusage[{body}]")
    return ""


def read(words: list[str], options: dict[str, str]) -> None:
    words = list(words)
    while words:
        word = words.pop(0)
        if word in FLAGS:
            once(options, word, "")
        elif word in VALUED:
            if not words:
                die(f"bsub: option requires an argument -- {word}")
            value = words.pop(0)
            if word == "-R":
                requirement(value, options)
            else:
                once(options, word, value)
        else:
            die(f"bsub: Illegal option -- {word}. Job not submitted.")


def bsub(words: list[str]) -> None:
    options: dict[str, str] = {}
    read(words, options)
    script = sys.stdin.read()
    if not script.strip():
        die("bsub: no command on the standard input")
    given: dict[str, str] = {}
    for line in directives(script, "#BSUB"):
        try:
            read(shlex.split(line), given)
        except ValueError as error:
            die(f"bsub: {error}")
    options = {**given, **options}
    limit = time(options["-W"], "-W") if "-W" in options else die("bsub: no run limit")
    if ("-wa" in options) != ("-wt" in options):
        die("bsub: a warning needs both -wa and -wt")
    if "-wa" in options and (options["-wa"] not in SIGNALS or time(options["-wt"], "-wt") >= limit):
        die("bsub: bad warning action or time")
    if "-nnodes" in options:
        number(options["-nnodes"], "-nnodes")
        if mixed := {"-n", "-x", "-gpu", "-R span"} & set(options):
            die(f"bsub: -nnodes cannot be used with {sorted(mixed)}")
        if unknown := set(options.get("-alloc_flags", "").split()) - ALLOCATION:
            die(f"bsub: Invalid alloc_flags {sorted(unknown)}")
        if len({flag for flag in options.get("-alloc_flags", "").split() if flag.startswith("smt")}) > 1:
            die("bsub: Invalid alloc_flags: two levels of SMT")
    else:
        if "-alloc_flags" in options:
            die("bsub: -alloc_flags without -nnodes")
        slots = number(options.get("-n", ""), "-n")
        tile = re.fullmatch(r"ptile=(\d+)", options.get("-R span", ""))
        if tile and slots % int(tile[1]):
            die(f"bsub: {slots} slots cannot be spread by {tile[1]}")
    if "-gpu" in options and not re.fullmatch(r"num=[1-9]\d*(/(task|host))?(:[a-z_]+=\S+)*", options["-gpu"]):
        die(f"bsub: Bad GPU requirement {options['-gpu']!r}")
    if ("-u" in options or "-N" in options) and not re.fullmatch(r"\S+@\S+", options.get("-u", "")):
        die("bsub: bad mail user")
    name = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[1-([1-9]\d*)\](?:%\d+)?)?", options.get("-J", "none"))
    if not name:
        die("bsub: Bad job name. Job not submitted.")
    after = ""
    if "-w" in options:
        match = re.fullmatch(r"(ended|done|exit|started)\((\d+(?:\[\d+\])?)\)", options["-w"])
        if not match or not of(match[2]):
            die("bsub: Dependent job not found. Job not submitted.")
        after = match[2]
    job = str(new_number())
    tasks = {f"{job}[{index}]": index for index in range(1, int(name[2]) + 1)} if name[2] else None
    submit(job, script, options, tasks, start=os.getcwd(), out=options.get("-o", ""), mode="ab", after=after)
    print(f"Job <{job}> is submitted to {'queue' if '-q' in options else 'default queue'} <{options.get('-q', 'normal')}>.")


def bjobs(words: list[str]) -> None:
    if words[:3] != ["-a", "-json", "-o"]:
        die(f"bjobs: unexpected {words}")
    fields, rows, status = words[3].split(), [], 0
    for name in words[4:]:
        entries = of(name)
        if not entries:
            print(f"Job <{name}> is not found", file=sys.stderr)
            rows.append({"JOBID": name, "ERROR": f"Job <{name}> is not found"})
            status = 255
        for entry in entries:
            ended = "DONE" if entry["exit"] == 0 else "EXIT"
            row = {
                "jobid": entry["of"],
                "jobindex": str(entry["index"]),
                "stat": {"pending": "PEND", "running": "RUN"}.get(entry["state"], ended),
                "exit_code": str(entry["exit"] or ""),
                "exit_reason": entry["reason"] if entry["state"] == "gone" else "",
                "pend_reason": "New job is waiting for scheduling;\n" if entry["state"] == "pending" else "",
            }
            rows.append({field.upper(): row[field] for field in fields})
    print(json.dumps({"COMMAND": "bjobs", "JOBS": len(rows), "RECORDS": rows}))
    sys.exit(status)


def bkill(words: list[str]) -> None:
    number = SIGNALS["KILL"]  # of a parallel job, unless LSB_USE_SEQUENTIAL_SIGNAL is set
    plain = words[0] != "-s"
    if not plain:
        number, words = SIGNALS[words[1]], words[2:]
    for name in words:
        entries = of(name)
        if not entries:
            die(f"Job <{name}>: No matching job found", 255)
        for entry in entries:
            if entry["state"] == "gone":
                die(f"Job <{name}>: Job has already finished", 255)
            if entry["state"] == "pending" and not plain:
                die(f"Job <{name}>: Job has not started yet", 255)
            kill(entry, number)
    print(f"Job <{name}> is being terminated")


if __name__ == "__main__":
    record(sys.argv[1:])
    {"bsub": bsub, "bjobs": bjobs, "bkill": bkill}[sys.argv[1]](sys.argv[2:])
