"""What checking, verifying and publishing submissions costs: `make bench/submissions` writes build/bench/submissions.json.

Measured on copies of a real submission: the first below SUBMISSIONS, which `make submission` leaves there. Times are
wall-clock seconds of whole processes, the median of several runs after one that is not counted; beside it the processor
time, which other work on the machine changes less.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kit.core import paths
from kit.core.checksums import SUMS, sha256, write_sums
from kit.submissions.together import folders

ROOT = Path(__file__).parent.parent
KIT = str(ROOT / ".venv/bin/kit")
FILES, RESULTS = 10_000, 1_000
LOG = b"iteration 12 of 25: 3.4 s, class 2, resolution 8.31 A\n"


def measured(command: list[str], runs: int = 5, forget: bool = False) -> dict[str, float]:
    """Seconds of a command by the clock on the wall and of the processor, and the peak memory of any child so far.

    To `forget` is to remove, before each run, what the kit has kept of rendering runs again.
    """
    walls, processors = [], []
    for _ in range(runs + 1):
        if forget:
            shutil.rmtree(paths.cache() / "answers", ignore_errors=True)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "median": statistics.median(walls[1:]),
        "min": min(walls[1:]),
        "max": max(walls[1:]),
        "processor": statistics.median(processors[1:]),
        "memory_bytes": 1024 * after.ru_maxrss,
        "runs": runs,
    }


def copied(submission: Path, base: Path, name: str = "copy") -> Path:
    return Path(shutil.copytree(submission, base / name / Path(*submission.parts[-4:])))


def summed(folder: Path) -> None:
    """Checksums of all that lies in a folder now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    write_sums(folder, {path.relative_to(folder).as_posix(): sha256(path) for path in files})


def many_files(submission: Path, base: Path) -> dict[str, float]:
    """The check of a folder with so many files; promised: less than 2 s. It refuses the added ones, and reads them all."""
    folder = copied(submission, base, "files")
    (folder / "run/added").mkdir()
    there = sum(path.is_file() for path in folder.rglob("*"))
    for number in range(FILES - there):
        (folder / f"run/added/{number}.json").write_text(json.dumps({"value": number}))
    summed(folder)
    return {**measured([KIT, "submission", "check", str(folder), "--allow-trial", "--allow-dirty"]), "files": FILES}


def hashing(submission: Path, base: Path) -> dict[str, float]:
    """Verifying a large folder, and sha256sum on the same files in the same run, in turn."""
    folder = copied(submission, base, "large")
    for number in range(4):
        (folder / f"run/stages/added{number}.stdout.txt").write_bytes(LOG * (50_000_000 // len(LOG)))
    summed(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    ours = measured([KIT, "submission", "verify", str(folder)])
    theirs = measured(["bash", "-c", f'cd "$1" && sha256sum --check --quiet {SUMS}', "sh", str(folder)])
    return {**ours, "bytes": size, "sha256sum_median": theirs["median"], "sha256sum_processor": theirs["processor"]}


def leaderboard(submission: Path, base: Path) -> dict[str, float]:
    """The pages of so many submissions whose verdicts are known; promised: less than 20 s."""
    root, verdicts = base / "board", base / "verdicts.json"
    said = []
    for number in range(RESULTS):
        _, application, system, descriptor = submission.parts[-4:]
        folder = root / f"organisation-{number:04d}" / application / system / descriptor
        shutil.copytree(submission, folder)
        said.append({"folder": str(folder), "accepted": True, "findings": []})
    verdicts.write_text(json.dumps({"submissions": said}))
    command = [KIT, "report", "--leaderboard", str(root), "--verdicts", str(verdicts), "--to", str(base / "site")]
    found = measured(command, runs=3)
    size = sum(path.stat().st_size for path in (base / "site").rglob("*") if path.is_file())
    return {**found, "submissions": RESULTS, "bytes_of_pages": size}


def main() -> None:
    root = Path(os.environ.get("SUBMISSIONS", ROOT / "submissions")).resolve()
    there = folders(root) if root.is_dir() else []
    if not there:
        sys.exit(f"{root}: no submission here; make submission leaves two")
    submission = there[0]
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        check = [KIT, "submission", "check", str(submission), "--allow-trial", "--allow-dirty"]
        result = {
            "unit": "second (wall clock of a whole process; processor: of the processor), byte",
            "submission": "/".join(submission.parts[-4:]),
            # Promised for the second and every further check of CloudMask: less than 0.5 s of the processor.
            "check_first": measured(check, forget=True),
            "check": measured(check),
            "check_of_10000_files": many_files(submission, base),
            "verify": hashing(submission, base),
            "leaderboard_of_1000": leaderboard(submission, base),
        }
    target = ROOT / "build/bench/submissions.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    json.dump(result, sys.stdout, indent=2)
    print()


main()
