"""Runs one job of a RELION project by ccpem-pipeliner: python ccpem_driver.py JOB <FACTS, started in the project.

It knows nothing of the kit, so that it runs in whichever environment has the pipeliner. FACTS is JSON: `commands`, which
RELION composed for this job, the `ranks` that they are for, and `defaults`, the flags of each program with their defaults
as its help has them. The pipeliner composes its commands anew, by the rules of RELION 4 and 5; where they would do something
else, nothing is run and the exit code is 3.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

PIPELINE = "ccpem"  # its own copy: what it makes of a pipeline of RELION 3.1 is none that RELION 3.1 can read


def is_program(word: str) -> bool:
    return Path(word).name.startswith("relion_")


def program(words: list[str]) -> str:
    return next((Path(word).name for word in words if is_program(word)), "")


def ranks_of(words: list[str]) -> int:
    """What stands behind -n or -np of the launcher before a program; 1 without one."""
    before = words[: [is_program(word) for word in words].index(True)]
    return next((int(after) for word, after in itertools.pairwise(before) if word in ("-n", "-np")), 1)


def is_own(words: list[str]) -> bool:
    """Whether a command without a program of RELION is one by which the pipeliner looks after its own files."""
    return any("pipeliner" in Path(word).parts or Path(word).name.startswith("check_star_file") for word in words)


def flags(words: list[str]) -> dict[str, str]:
    """The flags of a command with their values, without those of the launcher before the program."""
    found: dict[str, str] = {}
    name = ""
    for word in words[[is_program(word) for word in words].index(True) :]:
        if re.match(r"--?[A-Za-z]", word):
            name = word
            found[name] = ""
        elif name:
            found[name] = f"{found[name]} {word}".strip()
    return found


def same(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip("\"' ") == other.strip("\"' ")


def differences(
    wanted: list[list[str]], composed: list[list[str]], defaults: dict[str, dict[str, str]], ranks: int = 1
) -> list[str]:
    """Where two sets of commands differ: programs, flags, values, ranks; a flag at its default is as good as none.

    RELION hands its commands over without a launcher, so `ranks` says how many it wants.
    """
    ours = [words for words in wanted if program(words)]
    theirs = [words for words in composed if program(words) and "--version" not in words]
    if [program(words) for words in ours] != [program(words) for words in theirs]:
        return [f"it runs {[program(words) for words in theirs]} for {[program(words) for words in ours]}"]
    found = [f"it runs {' '.join(words)}, too" for words in composed if not program(words) and not is_own(words)]
    for our, their in zip(ours, theirs, strict=True):
        known = defaults.get(program(our), {})
        one, other = flags(our), flags(their)
        if ranks_of(their) != ranks:
            found.append(f"it starts {ranks_of(their)} ranks of {program(our)} for {ranks}")
        for flag in sorted(one.keys() | other.keys()):
            if flag not in one and flag not in known:
                found.append(f"{program(our)} has no flag {flag}")
                continue
            # Without a default, or as a switch, a flag that only one of them has is a difference whatever its value.
            lone = (flag in one) != (flag in other) and known.get(flag, "") in ("", "false")
            if lone or not same(one.get(flag, known.get(flag)), other.get(flag, known.get(flag))):
                found.append(f"{flag}: {one.get(flag)!r} of RELION, {other.get(flag)!r} of the pipeliner")
    return found


def main() -> None:
    from pipeliner import job_factory
    from pipeliner.api.manage_project import PipelinerProject
    from pipeliner.data_structure import JOBSTATUS_SCHED, JOBSTATUS_SUCCESS
    from pipeliner.project_graph import ProjectGraph

    name, facts = sys.argv[1], json.load(sys.stdin)
    job = job_factory.read_job(f"{name}job.star")
    job.output_dir = name
    composed = [command.get_final_command(output_dir=name) for command in job.get_commands()]
    wanted = [shlex.split(command.replace("`", "")) for command in facts["commands"]]
    found = differences(wanted, composed, facts["defaults"], facts["ranks"])
    if found:
        print("; ".join(found), file=sys.stderr)
        sys.exit(3)
    Path(".CCPEM_pipeliner_project").unlink(missing_ok=True)
    Path(f"RUNNING_PIPELINER_{PIPELINE}_kit").unlink(missing_ok=True)  # of a run that was killed
    shutil.copy("default_pipeline.star", f"{PIPELINE}_pipeline.star")
    project = PipelinerProject(pipeline_name=PIPELINE)
    with ProjectGraph(name=PIPELINE, read_only=False) as pipeline:
        process = pipeline.find_process(name)
        process.type, process.status = job.PROCESS_NAME, JOBSTATUS_SCHED
    project.run_schedule("kit", [name], nr_repeat=1, minutes_wait=0, minutes_wait_before=0, seconds_wait_after=0)
    with ProjectGraph(name=PIPELINE) as pipeline:
        sys.exit(0 if pipeline.find_process(name).status == JOBSTATUS_SUCCESS else 1)


if __name__ == "__main__":
    main()
