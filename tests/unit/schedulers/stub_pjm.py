"""pjsub, pjstat and pjdel of the Technical Computing Suite, strict by the user guide of Fugaku."""

from __future__ import annotations

import os
import re
import shlex
import sys

from stub import SIGNALS, clock, die, directives, kill, new_number, number, of, once, record, script_of, submit

FLAGS = {"-j", "-s", "-S", "-X", "--step", "--bulk", "--norestart", "--restart"}
VALUED = {
    "-L",
    "--rsc-list",
    "--mpi",
    "-g",
    "--gname",
    "--name",
    "-N",
    "-m",
    "--mail-list",
    "-o",
    "-e",
    "-x",
    "--sparam",
    "--llio",
}
RESOURCES = {
    "node",
    "rscgrp",
    "rscunit",
    "elapse",
    "node-mem",
    "freq",
    "throttling_state",
    "retention_state",
    "vnode",
    "gpu",
}


def pairs(value: str, known: set[str], options: dict[str, str], prefix: str) -> None:
    for part in value.split(","):
        name, equal, text = part.partition("=")
        if name not in known or not equal or not text or re.search(r"\s", text):
            die(f"[ERR.] PJM 0017 pjsub Invalid parameter: {prefix} {part}")
        once(options, f"{prefix} {name}", text)


def read(words: list[str], options: dict[str, str]) -> list[str]:
    words, rest = list(words), []
    while words:
        word = words.pop(0)
        if word in FLAGS:
            once(options, word, "")
        elif word in VALUED:
            if not words or words[0].startswith("-"):
                die(f"[ERR.] PJM 0010 pjsub Option needs an argument: {word}")
            value = words.pop(0)
            if word in ("-L", "--rsc-list"):
                pairs(value, RESOURCES, options, "-L")
            elif word == "--mpi":
                pairs(value, {"proc", "max-proc-per-node", "shape", "rank-map-bychip", "rank-map-bynode"}, options, "--mpi")
            elif word == "-x":
                options[f"-x {value}"] = value
            else:
                once(options, word, value)
        elif word.startswith("-"):
            die(f"[ERR.] PJM 0011 pjsub Unknown option: {word}")
        else:
            rest.append(word)
    return rest


def pjsub(words: list[str]) -> None:
    options: dict[str, str] = {}
    script = script_of(read(words, options))
    given: dict[str, str] = {}
    for line in directives(script, "#PJM"):
        try:
            if rest := read(shlex.split(line), given):
                die(f"[ERR.] PJM 0012 pjsub Not an option: {rest}")
        except ValueError as error:
            die(f"[ERR.] PJM 0012 pjsub {error}")
    options = {**given, **options}
    for name in ("node", "elapse", "rscgrp"):
        if f"-L {name}" not in options:
            die(f"[ERR.] PJM 0058 pjsub {name} is not given")
    shape, _, kind = options["-L node"].partition(":")
    if kind not in ("", "torus", "mesh", "noncont"):
        die(f"[ERR.] PJM 0017 pjsub Invalid parameter: node={options['-L node']}")
    nodes = 1
    for side in shape.split("x"):
        nodes *= number(side, "node")
    clock(options["-L elapse"], "elapse")
    if "--mpi proc" in options:
        most = nodes * number(options.get("--mpi max-proc-per-node", "1"), "max-proc-per-node")
        if number(options["--mpi proc"], "proc") > most:
            die(f"[ERR.] PJM 0061 pjsub proc is greater than {most}")
    if len(options.get("--name", "").encode()) > 63:
        die("[ERR.] PJM 0017 pjsub job name too long")
    if ("-m" in options) != ("--mail-list" in options) or not re.fullmatch(r"[besr,]+", options.get("-m", "b")):
        die("[ERR.] PJM 0017 pjsub mail needs both -m and --mail-list")
    if "%" in options.get("-o", ""):
        die("[ERR.] PJM 0017 pjsub unknown metacharacter in -o")
    if {"--bulk", "--step"} <= set(options):
        die("[ERR.] PJM 0013 pjsub Options cannot be combined: --bulk --step")
    sparam, tasks, after = options.get("--sparam", ""), {}, ""
    if "--bulk" in options:
        match = re.fullmatch(r"(\d+)-(\d+)", sparam)
        if not match or int(match[1]) > int(match[2]):
            die(f"[ERR.] PJM 0017 pjsub --sparam {sparam}")
        job = str(new_number())
        tasks = {f"{job}[{index}]": index for index in range(int(match[1]), int(match[2]) + 1)}
    elif "--step" in options and sparam:
        match = re.fullmatch(r"jid=(\d+)", sparam)
        steps = [entry for at in range(20) for entry in of(f"{match[1]}_{at}")] if match else []
        if not steps or all(entry["state"] == "gone" for entry in steps):
            die(f"[ERR.] PJM 0071 pjsub step job does not exist: {sparam}")
        job, after = f"{match[1]}_{len(steps)}", steps[-1]["id"]
    elif sparam:
        die("[ERR.] PJM 0013 pjsub --sparam without --bulk or --step")
    else:
        job = f"{new_number()}{'_0' if '--step' in options else ''}"
    submit(job, script, options, tasks, start=os.getcwd(), out=options.get("-o", "job.out.pjm"), mode="wb", after=after)
    print(f"[INFO] PJM 0000 pjsub Job {job} submitted.")


def pjstat(words: list[str]) -> None:
    history, names, fields = False, [], []
    words = list(words)
    if words[:3] != ["-s", "-E", "--data"]:
        die(f"[ERR.] pjstat unexpected {words}")
    for word in words[3:]:
        if word.startswith("--choose="):
            fields = word.partition("=")[2].split(",")
        elif word == "-H":
            history = True
        elif re.fullmatch(r"day=\d+", word) and history:
            continue
        elif word.startswith("-"):
            die(f"[ERR.] pjstat Unknown option: {word}")
        else:
            names.append(word)
    print("H," + ",".join(field.upper() for field in fields))
    for name in names:
        entries = of(name)
        if entries and entries[0]["id"] != name:  # a bulk job, and its sub-jobs
            states = {entry["state"] for entry in entries}
            state = next(state for state in ("running", "pending", "gone") if state in states)
            entries = [{**entries[0], "id": name, "state": state, "exit": "-"}, *entries]
        for entry in entries:
            if (entry["state"] == "gone") != history:
                continue
            killed = entry["reason"] == "elapse"
            values = {
                "jid": entry["id"],
                "st": {"pending": "QUE", "running": "RUN", "gone": "EXT"}[entry["state"]],
                "ec": "-" if entry["exit"] is None else str(entry["exit"]),
                "sn": "-",
                "pc": "11" if killed else "0" if history else "-",
                "ermsg": "-",
            }
            print("," + ",".join(values[field] for field in fields))


def pjdel(words: list[str]) -> None:
    for name in words:
        entries = of(name)
        if not entries or all(entry["state"] == "gone" for entry in entries):
            die(f"[ERR.] PJM 0160 pjdel Job {name} does not exist.")
        for entry in entries:
            kill(entry, SIGNALS["TERM"])
        print(f"[INFO] PJM 0100 pjdel Accepted job {name}.")


if __name__ == "__main__":
    record(sys.argv[1:])
    {"pjsub": pjsub, "pjstat": pjstat, "pjdel": pjdel}[sys.argv[1]](sys.argv[2:])
