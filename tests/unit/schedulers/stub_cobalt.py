"""qsub, qstat and qdel of Cobalt, strict by its manual and by how its qsub reads a script."""

from __future__ import annotations

import os
import re
import sys

from stub import SIGNALS, die, kill, load, new_number, number, of, once, record, script_of, submit

FLAGS = {"-h", "--held", "--disable_preboot", "--run_project", "-d", "--debug"}
VALUED = {
    "--nodecount": "-n",
    "--time": "-t",
    "--project": "-A",
    "--queue": "-q",
    "--notify": "-M",
    "--output": "-o",
    "--error": "-e",
    "--outputprefix": "-O",
    "--umask": "-u",
    "--inputfile": "-i",
    "--attrs": "",
    "--jobname": "",
    "--debuglog": "",
    "--dependencies": "",
    "--env": "",
    "--cwd": "",
    "--mode": "",
    "--proccount": "",
}
LONG = {short: name for name, short in VALUED.items() if short}


def read(words: list[str], options: dict[str, str]) -> list[str]:
    """Options up to the first word that is none: the script."""
    words = list(words)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        name = LONG.get(word, word)
        if word in FLAGS:
            once(options, word, "")
        elif name in VALUED:
            if not words:
                die(f"qsub: error: {word} option requires an argument", 2)
            once(options, name, words.pop(0))
        else:
            die(f"qsub: error: no such option: {word}", 2)
    return words


def qsub(words: list[str]) -> None:
    options: dict[str, str] = {}
    rest = read(words, options)
    script = script_of(rest)
    if not os.access(rest[0], os.X_OK | os.R_OK):
        die(f"command {rest[0]} is not executable")
    lines = script.splitlines()
    given: dict[str, str] = {}
    if lines[0].startswith("#!"):
        at = 1
        while at < len(lines) and lines[at].startswith("#COBALT "):
            # Nothing is quoted: blanks separate, and a word that is no option would be taken for the script.
            if left := read(lines[at].removeprefix("#COBALT ").split(), given):
                die(f"command {left[0]} not found, or is not a file")
            at += 1
        if late := [line for line in lines[at:] if line.startswith("#COBALT")]:
            die(f"directive not directly behind the first line: {late[0]}")  # the real one leaves it out without a word
    options = {**given, **options}
    for name, text in (("--time", "'time' not provided"), ("--nodecount", "'nodecount' not provided")):
        if name not in options:
            die(text)
    number(options["--nodecount"], "nodecount")
    if not re.fullmatch(r"[1-9]\d*", options["--time"]):
        die(f"invalid time specification: minutes are needed, not {options['--time']}")
    if "--attrs" in options and not re.fullmatch(r"[\w.-]+=[^:=]+(:[\w.-]+=[^:=]+)*", options["--attrs"]):
        die(f"Improperly formatted argument to attrs: {options['--attrs']}")
    if "--umask" in options and not re.fullmatch(r"[0-7]+", options["--umask"]):
        die("Invalid umask value")
    for name in ("--output", "--error", "--debuglog"):
        if options.get(name, "").startswith("/") and not os.path.isdir(os.path.dirname(options[name])):
            die(f"directory {options[name]} does not exist")
    for job in filter(None, options.get("--dependencies", "").split(":")):
        if load(job) is None:
            die(f"dependencies {job} do not match jobs currently in the queue")
    job = str(new_number())
    submit(job, script, options, None, start=os.getcwd(), out=options.get("--output", f"{job}.output"), mode="wb", after="")
    print('Job routed to queue "default".', file=sys.stderr)
    print(job)


def qstat(words: list[str]) -> None:
    if words[:2] != ["--header", "JobID:State"] or not words[2:]:
        die(f"qstat: unexpected {words}", 2)
    if bad := [word for word in words[2:] if not word.isdecimal()]:
        die(f"jobid must be an integer: {bad[0]}")
    known = [entry for name in words[2:] for entry in of(name) if entry["state"] != "gone"]
    if not known:
        sys.exit(1)
    print("JobID  State\n==============")
    for entry in known:
        print(f"{entry['id']}    {entry['reason'] or {'pending': 'queued'}.get(entry['state'], entry['state'])}")


def qdel(words: list[str]) -> None:
    for name in words:
        entries = [entry for entry in of(name) if entry["state"] != "gone"]
        if not entries:
            die("qdel: no jobs deleted")
        kill(entries[0], SIGNALS["TERM"])


if __name__ == "__main__":
    record(sys.argv[1:])
    {"qsub": qsub, "qstat": qstat, "qdel": qdel}[sys.argv[1]](sys.argv[2:])
