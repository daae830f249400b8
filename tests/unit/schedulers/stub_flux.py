"""flux batch, flux jobs and flux cancel, strict by their manuals and by the rules of directives (RFC 36)."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys

from stub import SIGNALS, die, kill, new_number, of, once, record, script_of, submit

ONE = ["--nslots", "--nodes", "--cores-per-slot", "--gpus-per-slot", "--time-limit", "--job-name", "--queue", "--output"]
ONE += ["--error", "--signal", "--cwd", "--urgency", "--bank"]
SHORT = {"--nslots": "-n", "--nodes": "-N", "--cores-per-slot": "-c", "--gpus-per-slot": "-g", "--time-limit": "-t"}
SHORT |= {"--queue": "-q", "--bank": "-B"}
MANY = {
    "--setattr": "-S",
    "--setopt": "-o",
    "--requires": "",
    "--dependency": "",
    "--env": "",
    "--env-remove": "",
    "--conf": "",
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("flux-batch", allow_abbrev=False)
    for name in ONE:
        made.add_argument(*filter(None, [SHORT.get(name, ""), name]), action="append")
    for name, short in MANY.items():
        made.add_argument(*filter(None, [short, name]), action="append")
    made.add_argument("-x", "--exclusive", action="count")
    made.add_argument("script", nargs="*")
    return made


def directive_words(script: str) -> list[str]:
    sentinel, prefix, closed, words = "", "", 0, []
    for at, line in enumerate(script.splitlines(), 1):
        match = re.match(r"^([^\w]*)((?:flux|FLUX):)(.*)$", line)
        if not match:
            if sentinel and line.strip() and not line.startswith(prefix.rstrip()):
                closed = closed or at
            continue
        if closed:
            die(f"flux-batch: line {at}: orphan '{match[2]}' detected: directives disabled after line {closed - 1}")
        if sentinel and match[1] + match[2] != sentinel:
            die(f"flux-batch: line {at}: sentinel changed from '{sentinel}' to '{match[1] + match[2]}'")
        prefix, sentinel = match[1], match[1] + match[2]
        try:
            found = shlex.split(match[3], comments=True)
        except ValueError as error:
            die(f"flux-batch: line {at}: {error}")
        if found and not found[0].startswith("-"):
            die(f"flux-batch: line {at}: Unknown directive: {match[3]}")
        words += found
    return words


def batch(words: list[str]) -> None:
    called = parser().parse_args(words)
    script = script_of(called.script)
    given = parser().parse_args(directive_words(script))
    if given.script:
        die(f"flux-batch: unrecognized arguments in directives: {given.script}", 2)
    options: dict[str, str] = {}
    for name in ONE:
        for value in getattr(given, name[2:].replace("-", "_")) or []:
            once(options, name, value)
    for name in ("--nslots", "--nodes", "--cores-per-slot", "--gpus-per-slot"):
        if name in options and not re.fullmatch(r"[1-9]\d*", options[name]):
            die(f"flux-batch: error: argument {name}: invalid int value: {options[name]!r}", 2)
    if "--nslots" not in options and "--nodes" not in options:
        die("flux-batch: ERROR: Number of slots to allocate must be specified")
    if given.exclusive and "--nodes" not in options:
        die("flux-batch: ERROR: exclusive needs --nodes")
    if "--nodes" in options and int(options.get("--nslots", options["--nodes"])) < int(options["--nodes"]):
        die("flux-batch: ERROR: node count must not be greater than task count")
    if not re.fullmatch(r"\d+(\.\d+)?(s|m|h|d)", options.get("--time-limit", "")):
        die(f"flux-batch: ERROR: a time limit with its unit is needed, not {options.get('--time-limit')!r}")
    signal = re.fullmatch(r"(?:SIG)?([A-Z0-9]*)(?:@\d+(\.\d+)?(s|m|h)?)?", options.get("--signal", ""))
    if not signal or (signal[1] and signal[1] not in SIGNALS):
        die(f"flux-batch: ERROR: --signal={options['--signal']}: invalid")
    for attribute in given.setattr or []:
        if not re.fullmatch(r"[\w.^]+(=.+)?", attribute):
            die(f"flux-batch: ERROR: --setattr={attribute}")
    for text in given.requires or []:
        if not re.fullmatch(r"(-|not )?[\w.:@-]+([&|, ]+-?[\w.:@-]+)*", text):
            die(f"flux-batch: ERROR: --requires='{text}': syntax error")
    after = ""
    for uri in called.dependency or []:
        scheme, _, job = uri.partition(":")
        if scheme not in ("after", "afterany", "afterok", "afternotok"):
            die(f"flux-batch: ERROR: dependency scheme {scheme!r} unsupported")
        after = plain(job)
        if not of(after):
            die(f"flux-batch: ERROR: {job}: job does not exist")
    job = f"f{new_number()}Zq"
    values = {**options, "setattr": given.setattr, "requires": given.requires, "exclusive": bool(given.exclusive)}
    submit(job, script, values, None, start=os.getcwd(), out=options.get("--output", ""), mode="wb", after=after)
    print(f"ƒ{job[1:]}")


def plain(job: str) -> str:
    return f"f{job[1:]}" if job[:1] in "fƒ" else job


def jobs(words: list[str]) -> None:
    made = argparse.ArgumentParser("flux-jobs", allow_abbrev=False)
    made.add_argument("-n", "--suppress-header", action="store_true")
    made.add_argument("--color", choices=["never", "always", "auto"])
    made.add_argument("-o", "--format")
    made.add_argument("jobids", nargs="*")
    asked = made.parse_args(words)
    for name in asked.jobids:
        entries = of(plain(name))
        if not entries:
            print(f"flux-jobs: ERROR: JobID {name} unknown", file=sys.stderr)
            continue
        entry = entries[0]
        gone, killed = entry["state"] == "gone", "timeout" in entry["reason"]
        values = {
            "{id.f58}": f"ƒ{entry['id'][1:]}",
            "{state}": {"pending": "SCHED", "running": "RUN", "gone": "INACTIVE"}[entry["state"]],
            "{result}": ("TIMEOUT" if killed else "FAILED" if entry["exit"] else "COMPLETED") if gone else "",
            "{annotations.sched.reason_pending}": "" if gone else "insufficient resources",
            "{exception.type}": "timeout" if gone and killed else "",
            "{exception.note}": "resource allocation expired | twice" if gone and killed else "",
        }
        line = asked.format
        for field, value in values.items():
            line = line.replace(field, value)
        if "{" in line:
            die(f"flux-jobs: ERROR: unknown format field: {line}")
        print(line)


def cancel(words: list[str]) -> None:
    for name in words:
        entries = of(plain(name))
        if not entries:
            die(f"flux-cancel: {name}: unknown job id")
        if entries[0]["state"] == "gone":
            die(f"flux-cancel: {name}: job is inactive")
        kill(entries[0], SIGNALS["HUP"], whole=False)  # the broker gets TERM, its initial program HUP


if __name__ == "__main__":
    record(sys.argv[1:])
    {"batch": batch, "jobs": jobs, "cancel": cancel}[sys.argv[2]](sys.argv[3:])
