"""What a stranger may send: every fact forged in turn with all checksums right again, and things that are no submission.

A forger writes sha256sums.txt anew and keeps run.json's own list of files in step; what is left must still be refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, files, forged, rewritten, run_boxed

from kit.core import paths
from kit.core.checksums import digest, labelled, sha256
from kit.core.errors import KitError
from kit.core.files import json_text, open_plain
from kit.images.recipes import RECIPES
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.record import load_run, read_stages, save_run, stage_lines
from kit.submissions import rerender
from kit.submissions.check import MOST_FINDINGS, check
from kit.submissions.layout import packed
from kit.submissions.pack import pack

pytestmark = pytest.mark.usefixtures("toy")
Table = dict[str, Any]


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KIT_ALLOW_DIRTY", raising=False)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_forger_who_changes_nothing_is_not_found(submission: Path) -> None:
    """The harness itself is no reason for a finding."""
    assert forged(submission) == ""


def put(*keys: str, value: Any) -> Callable[[Table], None]:
    def change(run: Table) -> None:
        *way, last = keys
        for key in way:
            run = run[key]
        run[last] = value

    return change


ZEROS = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("keys", "value", "finding"),
    [
        (["size"], "slow", "rendering.directory is"),
        (["size"], "huge", "unknown size of benchmark toy 'huge'"),
        (["benchmark"], "relion", "application"),
        (["isolated"], "no_such_stage", "isolated is 'no_such_stage', but no pack.json is here"),
        (["ranks"], -3, "key 'ranks'"),
        (["ranks"], 512, "ranks is 512, but 1"),
        (["threads"], 7, "threads is 7, but 1"),
        (["rendering", "ranks"], 2, "run/job.sh"),
        (["rendering", "command"], "kit run something else", "run/job.sh"),
        (["rendering", "command"], "x\ny", "one line of printable characters"),
        (["rendering", "directory"], "/elsewhere", "rendering.directory is '/elsewhere'"),
        (["rendering", "directory"], "/", "rendering.directory is '/'"),
        (["rendering", "directory"], "/a/..", "rendering.directory is '/a/..'"),
        (["rendering", "directory"], "run", "rendering.directory is 'run'"),
        (["rendering", "machine"], {"sif": "/x.sif"}, "rendering.machine: nothing is needed"),
        (["rendering"], None, "key 'rendering' is missing"),
        (["seed"], 5, "has no random_seed"),
        (["kit"], "9.9", "kit is '9.9'"),
        (["commit"], "2" * 40, "is not in the history of"),
        (["commit"], "--output=/tmp/x", "commit is --output"),
        (["commit"], "1" * 40 + "-dirty", "files of the kit were changed"),
        (["created"], "2099-01-01T00:00:00Z", "has not come yet"),
        (["created"], "2020-01-01T00:00:00Z", "descriptor"),
        (["created"], "2026-01-01T00:00:00", "key 'created'"),
        (["created"], "2026-01-01T00:00:00+14:00", "run.json: line"),
        (["scaling"], [1, 2], "scaling is not empty"),
        (["site"], "another", "rendering.directory is"),
        (["partition"], "another", "unknown partition"),
        (["scheduler"], "slurm", "scheduler is 'slurm'"),
        (["image", "digest"], "sha256:", "key 'image.digest"),
        (["image", "digest"], "sha256:" + "1" * 64, "kit:digest is"),
        (["image", "recipe"], ZEROS, "image.recipe is"),
        (["image", "version"], "9", "image.version is '9'"),
        (["image", "runtime"], "host", "image.runtime is 'host'"),
        (["image", "runtime"], "docker", "image.runtime is 'docker', that of the site 'apptainer'"),
        (["image", "name"], "relion-cuda", "unknown image for benchmark toy"),
        (["image", "arguments"], {"x": "y"}, "unknown argument 'x'"),
        (["data"], "nothing", "key 'data'"),
        (["metrics"], [], "metric resolution is missing"),
        (["system", "number_of_nodes"], 9999, "system.number_of_nodes is 9999, run/site.json says 1"),
        (["system", "system_name"], "Frontier", "system.system_name is 'Frontier'"),
        (["system", "submitter"], "CERN", "system.submitter is no key that the kit writes"),
        (["system"], {}, "system.system_name is None"),
        (["job"], "--me", "key 'job'"),
        (["files", ".hidden/x.json"], ZEROS, "key 'files..hidden/x.json"),
        (["files", "job.stdout.txt"], ZEROS, "two of its files are packed as run/job.stdout.txt"),
        (["state", "reason"], "though", "state is valid: though"),
    ],
)
def test_forged_key(submission: Path, keys: list[str], value: Any, finding: str) -> None:
    assert finding in forged(submission, put(*keys, value=value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unit", "metre"),
        ("direction", "higher"),
        ("file", "run/third.json"),
        ("label", "noise"),
        ("at_most", 1e9),
        ("source", "me"),
        ("sha256", ZEROS),
        ("problem", "none"),
        ("value", 6.5),
    ],
)
def test_forged_metric(submission: Path, key: str, value: Any) -> None:
    def change(run: Table) -> None:
        run["metrics"][0][key] = value

    assert "metric resolution" in forged(submission, change)


def test_valid_on_no_gpus(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rerender.in_process.cache_clear()
    rerender.script_of.cache_clear()
    monkeypatch.setattr(RECIPES["relion-basic"], "DEVICE", "cuda")
    assert "image relion-basic computes on GPUs, and the partition local has none" in forged(submission)


def test_invented_metric(submission: Path) -> None:
    def change(run: Table) -> None:
        run["metrics"].append({**run["metrics"][0], "name": "invented"})

    assert "its metrics are not those of size tiny: invented" in forged(submission, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own["sizes"]["tiny"]["parameters"].update(number=8),
        lambda own: own["sizes"]["tiny"].update(floor_seconds={"first": 1e-9}),
        lambda own: own["stages"][0].update(command="true"),
        lambda own: own["stages"].pop(),
        lambda own: own["metrics"][0].update(unit="metre"),
        lambda own: own["metrics"].clear(),
        lambda own: own.update(target="it was thought of"),
    ],
)
def test_forged_benchmark(submission: Path, change: Callable[[Table], None]) -> None:
    """The folder's own copy never says what it is held against."""
    path = submission / "run/benchmark.json"
    own = json.loads(path.read_text())
    change(own)
    path.write_text(json_text(own))
    assert "run/benchmark.json" in forged(submission)


def test_forged_script(submission: Path) -> None:
    replaced(submission / "run/job.sh", "set -euo pipefail", "set -eo pipefail")
    assert "run/job.sh: line" in forged(submission)


def test_stage_that_ran_another_command(submission: Path) -> None:
    def change(run: Table) -> None:
        run["stages"][0]["command"] = "echo 7 >first.txt"

    record = submission / "run/stages.jsonl"
    lines = record.read_text().splitlines()
    first = json.loads(lines[0])
    record.write_text("\n".join([json.dumps({**first, "command": "echo 7 >first.txt"}), *lines[1:]]) + "\n")
    assert "stage first is not the command of run/job.sh" in forged(submission, change)


def shifted(submission: Path, by: Callable[[float], float]) -> Callable[[Table], None]:
    """Times of all stages changed alike in both records."""
    record = submission / "run/stages.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    record.write_text("".join(f"{json.dumps({**row, 'time': by(row['time'])})}\n" for row in rows))

    def change(run: Table) -> None:
        for stage in run["stages"]:
            stage["start"], stage["end"] = by(stage["start"]), by(stage["end"])

    return change


def test_times_of_another_day(submission: Path) -> None:
    assert "started before the run was asked for" in forged(submission, shifted(submission, lambda time: time - 86400))


def test_times_to_come(submission: Path) -> None:
    assert "a stage ended at a time that has not come yet" in forged(
        submission, shifted(submission, lambda time: time + 1e6)
    )


def test_times_that_run_backwards(submission: Path) -> None:
    now = time.time()
    assert "ended before it started" in forged(submission, shifted(submission, lambda t: now - 1000 * (t - now)))


def lines_of(record: Path) -> list[str]:
    return record.read_text().splitlines()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines, "garbage \x1b[2J"],
        lambda lines: [lines[0].replace('"event": "start"', '"event": "start", "more": 1'), *lines[1:]],
        lambda lines: [lines[0].replace('"event"', '"event": "start", "event"'), *lines[1:]],
        lambda lines: [lines[0], lines[1].replace('"end"', '"whatever"'), *lines[2:]],
        lambda lines: [lines[0], lines[1].replace('"exit": 0', '"exit": 1'), *lines[1:]],
        lambda lines: [*lines[:2], *lines],
        lambda lines: [lines[0], lines[1].replace('"reason": ""', '"reason": "well"'), *lines[2:]],
    ],
)
def test_record_that_no_script_writes(submission: Path, change: Callable[[list[str]], list[str]]) -> None:
    record = submission / "run/stages.jsonl"
    record.write_text("\n".join(change(lines_of(record))) + "\n")

    def follow(run: Table) -> None:
        with contextlib.suppress(KitError):
            run["stages"] = [stage.model_dump() for stage in read_stages(submission / "run")]

    assert "stages.jsonl" in forged(submission, follow)


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("a/b/evil.json", b"{}", "run/a/b/evil.json: is nothing that a run of this size leaves"),
        ("x.star", b"data_\n", "run/x.star: is nothing that a run of this size leaves"),
        ("zzz/postprocess.star", b"data_\n", "is nothing that a run of this size leaves"),
        ("logs/zzz.out", b"x", "run/stages/zzz.stdout.txt: is nothing that a run of this size leaves"),
        ("figures/x.png", b"<html>", "run/figures/x.png: is no PNG"),
    ],
)
def test_file_that_was_put_in(submission: Path, name: str, content: bytes, finding: str) -> None:
    (submission / packed(name)).parent.mkdir(parents=True, exist_ok=True)
    (submission / packed(name)).write_bytes(content)
    put = labelled(hashlib.sha256(content).hexdigest())
    assert finding in forged(submission, lambda run: run["files"].update({name: put}))


@pytest.mark.parametrize("name", ["job.out", "logs/first.out", "logs/third.err"])
def test_log_that_was_taken_out(submission: Path, name: str) -> None:
    (submission / packed(name)).unlink()
    said = forged(submission, lambda run: run["files"].pop(name, None))
    assert f"{packed(name)}: missing: every run of this size has it" in said


def test_folder_without_a_file(submission: Path) -> None:
    (submission / ".git").mkdir()
    assert ".git: a folder without a file of a submission" in "\n".join(map(str, check(submission)))


def test_sums_that_sha256sum_would_not_take(submission: Path) -> None:
    path = submission / "sha256sums.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert "sha256sums.txt" in "\n".join(map(str, check(submission)))


@pytest.mark.parametrize("key", ["name", "version"])
def test_sbom_of_another_version(submission: Path, key: str) -> None:
    path = submission / "run/sbom.cdx.json"
    bill = json.loads(path.read_text())
    bill["metadata"]["component"][key] = "99"
    path.write_text(json_text(bill))
    assert f"run/sbom.cdx.json: {key} is '99'" in forged(submission)


def test_sbom_with_two_digests(submission: Path) -> None:
    path = submission / "run/sbom.cdx.json"
    bill = json.loads(path.read_text())
    bill["metadata"]["component"]["properties"].insert(0, {"name": "kit:digest", "value": "sha256:" + "5" * 64})
    path.write_text(json_text(bill))
    assert "run/sbom.cdx.json: kit:digest is None" in forged(submission)


def test_markup_in_a_name_of_a_host() -> None:
    """What a node calls itself cannot add a row to the table of a README."""
    from kit.script.quoting import environment

    shown = environment().from_string("{{ host | md }}").render(host="n1 |\n| <img onerror=x> [a](b)")
    assert shown == r"n1 \|\\n\| \<img onerror=x\> \[a\]\(b\)"


def test_file_system_without_modes(submission: Path) -> None:
    """On FAT, NTFS and SMB every file is executable."""
    for path in files(submission):
        path.chmod(0o777)
    assert check(submission) == []


def test_clock_that_is_set_back_a_little(submission: Path) -> None:
    attempts = read_stages(submission / "run")
    moved = [
        attempt.model_copy(update={"start": attempt.start - 2, "end": (attempt.end or 0) - 2}) if number else attempt
        for number, attempt in enumerate(attempts)
    ]
    (submission / "run/stages.jsonl").write_text(stage_lines(moved))
    said = forged(
        submission, lambda run: run.update(stages=[stage.model_dump() for stage in read_stages(submission / "run")])
    )
    assert "started before" not in said
    assert "stages.jsonl" not in said


def test_sbom_of_another_image(submission: Path) -> None:
    replaced(submission / "run/sbom.cdx.json", ZEROS, "sha256:" + "5" * 64)
    assert "run/sbom.cdx.json: kit:digest is" in forged(submission)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "config.yaml",
        "scientific_contribution.md",
        "pull_request.md",
        "result-1.txt",
        "system.json",
        ".gitattributes",
    ],
)
def test_text_that_says_something_else(submission: Path, name: str) -> None:
    path = submission / name
    path.write_text(path.read_text().replace("7", "1", 1) + "\nand more\n")
    assert f"{name}: line" in forged(submission)


@pytest.mark.parametrize(
    ("key", "value"),
    [("submission_org", "elsewhere"), ("submission_platform", "else"), ("submission_division", "closed")],
)
def test_log_that_differs_from_the_path(submission: Path, key: str, value: str) -> None:
    path = submission / "result-1.txt"
    lines = path.read_text().splitlines()
    rows = [(":::MLLOG ", json.loads(line.removeprefix(":::MLLOG "))) for line in lines]
    path.write_text(
        "".join(f"{mark}{json.dumps({**row, **({'value': value} if row['key'] == key else {})})}\n" for mark, row in rows)
    )
    assert "result-1.txt: line" in forged(submission)


def test_path_that_differs_from_the_log(submission: Path) -> None:
    moved = submission.parents[1] / "faster" / submission.name
    moved.parent.mkdir()
    submission.rename(moved)
    said = "\n".join(map(str, check(moved)))
    assert "system.json: line" in said
    assert "result-1.txt: line" in said


def test_second_result_is_not_taken_unread(submission: Path) -> None:
    (submission / "result-2.txt").write_text((submission / "result-1.txt").read_text())
    assert "holds 2 of result-N.txt, and 1 run(s)" in forged(submission)


def test_key_that_stands_twice(submission: Path) -> None:
    """Another reader might take the other one."""
    path = submission / "run.json"
    path.write_text(path.read_text().replace('"size": "tiny"', '"size": "slow",\n  "size": "tiny"', 1))
    rewritten(submission)
    assert any(finding.file == "run.json" and "line" in finding.problem for finding in check(submission))


# --- what no submission may hold -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "run/../../outside.txt"])
def test_nothing_outside_is_read(submission: Path, name: str) -> None:
    """Neither is it opened, nor is it said whether its hash is right."""
    outside = submission.parent / "outside.txt"
    outside.write_text("secret")
    said = []
    for digits in (sha256(outside), sha256(Path("/etc/hostname")), "0" * 64):
        path = submission / "sha256sums.txt"
        before = path.read_text()
        path.write_text(f"{before}{digits}  {name}\n")
        said.append(re.sub(r"[0-9a-f]{64}", "DIGEST", "\n".join(map(str, check(submission)))))
        path.write_text(before)
    assert f"{name}: missing, but sha256sums.txt lists it" in said[0]
    assert len(set(said)) == 1


@pytest.mark.parametrize("file", ["/etc/hostname", "../../outside.json", "data/x.json"])
def test_metric_outside_is_not_read(submission: Path, file: str) -> None:
    def change(run: Table) -> None:
        run["metrics"][0]["file"] = file
        run["files"][file] = digest(Path("/etc/hostname"))

    said = forged(submission, change)
    assert "run.json: key 'metrics.0.file'" in said or "run/data/x.json: missing" in said


def strange_files() -> dict[str, Callable[[Path], Any]]:
    def written(name: str, mode: int = 0o644, size: int = 1) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as file:
                file.truncate(size)
            (folder / name).chmod(mode)

        return make

    def fifo(name: str) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            (folder / name).unlink(missing_ok=True)
            (folder / name).parent.mkdir(exist_ok=True)
            os.mkfifo(folder / name)

        return make

    def linked(name: str, target: str) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(target)

        return make

    return {
        "README.md: a FIFO": fifo("README.md"),
        "notes.md: a FIFO": fifo("notes.md"),
        "run/stages/x.stdout.txt: a FIFO": fifo("run/stages/x.stdout.txt"),
        "README.md: a link": linked("README.md", "/etc/hostname"),
        "run/benchmark.json: a link": linked("run/benchmark.json", "/dev/zero"),
        "run/stages/first.stdout.txt: a link": linked("run/stages/first.stdout.txt", "../../../secret"),
        ".git/config: not listed": written(".git/config"),
        ".github/workflows/ci.yml: not listed": written(".github/workflows/ci.yml"),
        "run.sh: not listed": written("run.sh"),
        "run/job.sh: its mode is 0755": lambda folder: (folder / "run/job.sh").chmod(0o755),
        "README.md: its mode is 4644": lambda folder: (folder / "README.md").chmod(0o4644),
        "README.md: is one of 2 hard links": lambda folder: os.link(folder / "README.md", folder.parent / "twin"),
        "run/figures/x.png: has 1.0 GB": written("run/figures/x.png", size=1_000_000_000),
        "run.json: has 1.0 GB": written("run.json", size=1_000_000_000),
        "run/second.star: differs from run/Second.star by upper and lower case": written("run/Second.star"),
        "its name is not made of": written("run/figures/caf\u00e9.png"),
        "r\\udcff.md: its name is not made of": lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/r\xff.md")).touch(),
        "\\x1b[2Jx.md: its name": written("\x1b[2Jx.md"),
        "lies more than 9 folders deep": written("run/a/b/c/d/e/f/g/h/i/j.json"),
    }


@pytest.mark.parametrize("finding", strange_files())
def test_strange_file(submission: Path, finding: str) -> None:
    strange_files()[finding](submission)
    said = "\n".join(map(str, check(submission)))
    assert finding in said
    assert all(line.isprintable() for line in said.split("\n"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_device(submission: Path) -> None:
    try:
        os.mknod(submission / "notes.md", 0o020644, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this machine lets nobody make device nodes")
    assert "notes.md: a device" in "\n".join(map(str, check(submission)))


def test_findings_are_counted(submission: Path) -> None:
    for number in range(500):
        (submission / f"x{number}").touch()
    found = check(submission)
    assert len([f for f in found if "not listed" in f.problem]) == MOST_FINDINGS
    assert any(f"closed_world: {500 - MOST_FINDINGS} more findings" in f.problem for f in found)


def test_too_many_files(submission: Path) -> None:
    for number in range(10_100):
        (submission / f"run/figures/{number}.png").parent.mkdir(exist_ok=True)
        (submission / f"run/figures/{number}.png").touch()
    assert "holds more than 10000 files" in "\n".join(map(str, check(submission)))


DEEP = "[" * 200_000
CONTENTS = {
    "deep": DEEP.encode(),
    "digits": b'{"ranks": ' + b"9" * 5000 + b"}",
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "infinite": b'{"a": Infinity, "b": NaN}',
    "bytes": b"\xff\xfe\x00",
    "nested": b'{"sizes": ' + DEEP.encode() + b"}",
    "wide": b"{" + b",".join(b'"k%d": 1' % n for n in range(100_000)) + b"}",
    "list of lists": b"[" + b"[]," * 1000 + b"0]",
    "star": b"data_general\n\nloop_\n" + b"".join(b"_rln%d\n" % n for n in range(20_000)) + b"1 " * 20_000 + b"\n",
}


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "system.json",
        "run/site.json",
        "run/benchmark.json",
        "run/sbom.cdx.json",
        "run/pack.json",
        "run/stages.jsonl",
        "run/second.star",
    ],
)
def test_content_of_any_kind_gives_findings_of_the_file(submission: Path, name: str) -> None:
    for kind, content in CONTENTS.items():
        (submission / name).write_bytes(content)
        rewritten(submission)
        found = check(submission)
        assert any(finding.file == name for finding in found), (kind, found)
        assert all(str(finding).isprintable() and len(str(finding)) < 1100 for finding in found)
        assert not any("cannot be checked" in finding.problem for finding in found), (kind, found)


LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from kit.submissions.check import check
found = check(Path(sys.argv[1]))
assert found
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(
    "name", ["run.json", "run/stages.jsonl", "run/second.star", "run/sbom.cdx.json", "sha256sums.txt", "run/site.json"]
)
def test_largest_files_take_bounded_memory(submission: Path, name: str) -> None:
    """Files of the largest size that is read at all: no more than 1 GB, and no more than a minute of a processor."""
    import re

    from kit.submissions.layout import MAY_HOLD

    limit = next(size for pattern, size in MAY_HOLD.items() if re.fullmatch(pattern, name))
    row = b'{"stage": "a", "event": "start", "time": 1, "host": "h", "command": "c"}\n'
    text = {
        "run/stages.jsonl": row * (limit // len(row)),
        "run/second.star": b"data_general\n\nloop_\n_rlnFinalResolution\n" + b"7\n" * (limit // 2 - 100),
        "sha256sums.txt": (b"0" * 64 + b"  x\n") * (limit // 68),
    }.get(name, b"[" + b"[]," * (limit // 3 - 2) + b"0]")
    (submission / name).write_bytes(text[:limit])
    if name != "sha256sums.txt":
        rewritten(submission)
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, str(submission)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) < 1_000_000  # kilobytes


# --- honest folders ---------------------------------------------------------------------------------------------------


def git(*words: str, cwd: Path) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True)


def test_clone_that_changes_the_ends_of_lines(submission: Path, tmp_path: Path) -> None:
    """Through a receiving repository whose .gitignore leaves out logs and outputs, to a clone with core.autocrlf."""
    top = submission.parents[4] / "submissions"
    (top / ".gitignore").write_text("*.out\n*.err\n*.log\nlogs/\nbuild/\ndist/\nlib/\nruns/\n*.tmp\n*~\n")
    git("init", "-q", cwd=top)
    git("add", ".", cwd=top)
    git("commit", "-qm", "a result", cwd=top)
    git("-c", "core.autocrlf=true", "clone", "-q", str(top), str(tmp_path / "clone"), cwd=tmp_path)
    clone = tmp_path / "clone" / submission.relative_to(top)
    assert check(clone) == []
    assert {p.relative_to(clone) for p in files(clone)} == {p.relative_to(submission) for p in files(submission)}


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ("a cluster in Montodoro, for todos los santos", ""),
        ("/home/todo/xxl, mastodon", ""),
        ("TODO", "TODO"),
        ("see https://example.org/", "https://example.org"),
        ("the XXX cluster", "XXX"),
    ],
)
def test_placeholders_are_whole_words(toy: Path, tmp_path: Path, description: str, found: str) -> None:
    site = paths.PACKAGE / "sites/here.toml"
    site.write_text(site.read_text().replace("no container", description))
    directory = valid_run(toy)
    if not found:
        assert pack(directory, tmp_path / "submissions").is_dir()
        return
    with pytest.raises(KitError) as error:
        pack(directory, tmp_path / "submissions")
    assert f"run/site.json: key 'description' still holds '{found}'" in str(error.value)
    assert not [path for path in (tmp_path / "submissions").rglob("*") if not path.is_dir()]


# --- before a folder is written ---------------------------------------------------------------------------------------


def valid_run(toy: Path) -> Path:
    directory = launch.prepare(make_plan(Request("toy", site="here")), toy)
    assert run_boxed(directory).state.name == "valid"
    return directory


@pytest.mark.parametrize("name", ["logs/second.out", "logs/extra.err", "figures/x.png", "job.out"])
def test_link_in_a_run_is_never_packed(toy: Path, tmp_path: Path, name: str) -> None:
    directory = valid_run(toy)
    (tmp_path / "secret").write_text("BEGIN PRIVATE KEY")
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to(tmp_path / "secret")
    # A run that was collected before: its list of files is what a link could have come in by.
    run = load_run(directory)
    save_run(directory, run.model_copy(update={"files": {**run.files, name: digest(tmp_path / "secret")}}))
    with pytest.raises(KitError, match="a link, where a file of this run is needed"):
        pack(directory, tmp_path / "submissions")
    assert not [path for path in (tmp_path / "submissions").rglob("*") if not path.is_dir()]
    assert f"{name}: a link" in collect(directory).state.reason


def test_folder_of_a_run_that_is_a_link(toy: Path, tmp_path: Path) -> None:
    directory = valid_run(toy)
    (directory / "logs").rename(tmp_path / "elsewhere")
    (directory / "logs").symlink_to(tmp_path / "elsewhere")
    assert "logs: a link to" in collect(directory).state.reason
    with pytest.raises(KitError, match="a link or a file stands where a folder of this run is needed"):
        open_plain(directory, "logs/second.out")


@pytest.mark.parametrize("name", ["logs/x.out", "Class2D/job001/run_class001.mrc"])
def test_fifo_in_a_run_makes_nobody_wait(toy: Path, name: str) -> None:
    directory = valid_run(toy)
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(directory / name)
    assert f"{name}: a FIFO" in collect(directory).state.reason


def test_link_within_a_run_is_its_own(toy: Path) -> None:
    """RELION's job folders hold links to logs and data."""
    directory = valid_run(toy)
    (directory / "own").mkdir()
    (directory / "own/run.out").symlink_to("../logs/second.out")
    (directory / "own/input.txt").symlink_to("../data/input.txt")
    assert collect(directory).state.name == "valid"


def test_metric_through_a_link(toy: Path, tmp_path: Path) -> None:
    directory = valid_run(toy)
    (directory / "second.star").rename(tmp_path / "second.star")
    (directory / "second.star").symlink_to(tmp_path / "second.star")
    assert "second.star: a link" in collect(directory).state.reason


@pytest.mark.parametrize(
    ("name", "by", "said"), [("first.txt", 3600, "changed"), ("second.star", 3600, "changed"), ("third.txt", -3600, "older")]
)
def test_output_that_is_not_as_old_as_its_stage(toy: Path, name: str, by: float, said: str) -> None:
    directory = valid_run(toy)
    # As if all of it had been two hours ago, and one file an hour later or earlier.
    record = directory / "stages.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    record.write_text("".join(f"{json.dumps({**row, 'time': row['time'] - 7200})}\n" for row in rows))
    for path in directory.glob("*.*"):
        os.utime(path, (0, path.stat().st_mtime - 7200 + (by if path.name == name else 0)))
    state = collect(directory).state
    assert state.name == "failed"
    assert f"{name}: {said}" in state.reason


@pytest.mark.parametrize("key", ["digest", "sbom"])
def test_collect_finds_an_edited_image(toy: Path, key: str) -> None:
    directory = valid_run(toy)
    run = load_run(directory)
    image = run.image.model_copy(update={key: "sha256:" + "7" * 64})
    save_run(directory, run.model_copy(update={"image": image}))
    assert collect(directory).state.name == "failed"


@pytest.mark.parametrize(
    "text",
    [
        "{{ cycler.__init__.__globals__.os.system('touch PWNED') or 'first.txt' }}",
        "{{ ''.__class__.__mro__ }}",
        "{% for i in range(10**12) %}x{% endfor %}",
        "{% x",
        "{{ 1/0 }}",
    ],
)
def test_template_of_a_stranger_runs_nothing(toy: Path, text: str) -> None:
    directory = valid_run(toy)
    path = directory / "benchmark.json"
    own = json.loads(path.read_text())
    own["stages"][0]["outputs"] = [text]
    path.write_text(json.dumps(own))
    assert collect(directory).state.name == "failed"
    assert not list(toy.rglob("PWNED"))
    assert not Path("PWNED").exists()


@pytest.mark.parametrize("name", ["benchmark.json", "site.json", "job.sh", "run.json", "stages.jsonl"])
def test_record_of_a_run_that_is_no_file(toy: Path, name: str) -> None:
    directory = valid_run(toy)
    (directory / name).unlink()
    os.mkfifo(directory / name)
    try:
        said = collect(directory).state.reason
    except KitError as error:
        said = str(error)
    assert f"{name}: a FIFO" in said


def test_picture_is_not_drawn_through_a_link(toy: Path, tmp_path: Path) -> None:
    directory = valid_run(toy)
    (directory / "figures").mkdir(exist_ok=True)
    (directory / "figures/fsc.png").symlink_to("../stages.jsonl")
    assert "figures/fsc.png: a link" in collect(directory).state.reason


def test_pack_checks_before_it_writes(toy: Path, tmp_path: Path) -> None:
    """What the check refuses is never a folder: here a benchmark whose gate was loosened before it was collected."""
    directory = valid_run(toy)
    replaced(directory / "benchmark.json", '"at_most": 8.0', '"at_most": 9.0')
    collect(directory)
    with pytest.raises(KitError, match="would be refused, and is not written") as error:
        pack(directory, tmp_path / "submissions")
    assert "run/benchmark.json: metric resolution: at_most is 9.0, not 8.0" in str(error.value)
    assert not [path for path in (tmp_path / "submissions").rglob("*") if not path.is_dir()]


def test_changed_kit_is_for_trials_only(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "commit", lambda: "1" * 40 + "-dirty")
    directory = valid_run(toy)
    with pytest.raises(KitError, match="files of the kit were changed"):
        pack(directory, tmp_path / "submissions")
    folder = pack(directory, tmp_path / "submissions", allow_dirty=True)
    assert check(folder, allow_dirty=True) == []
    assert check(folder) != []
