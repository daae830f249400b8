"""Broken and hostile submissions, one rule each: every rule fires on its case, and none on a good submission."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import refitted, rewritten, run_boxed

from kit.benchmark import RANKS, Benchmark
from kit.core import paths
from kit.core.checksums import digest
from kit.core.files import json_text
from kit.doctor.outcome import Outcome
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.submissions import check as module
from kit.submissions import rerender
from kit.submissions.check import check
from kit.submissions.layout import packed
from kit.submissions.pack import pack
from kit.submissions.rules import AREAS, RULES

Table = dict[str, Any]
Change = Callable[[Path], "Path | None"]  # what it does to a good folder; a path where that is not what is checked then


@dataclass(frozen=True)
class Case:
    name: str
    rule: str
    change: Change
    repeats: bool = False  # the good folder holds two runs
    patch: Callable[[pytest.MonkeyPatch], Any] | None = None  # of the kit, for what a folder alone cannot show


def run_case(name: str, rule: str, change: Callable[[Table], Any], of: str = "") -> Case:
    """A key of run.json (of a repeat) is forged, and all checksums are right again."""

    def forge(folder: Path) -> None:
        refitted(folder / of, change)
        rewritten(folder)

    return Case(name, rule, forge, repeats=bool(of))


def text_case(name: str, rule: str, file: str, change: Callable[[bytes], bytes], refit: bool = True) -> Case:
    """The bytes of a file are changed, and all checksums are right again."""

    def edit(folder: Path) -> None:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(change(path.read_bytes() if path.exists() else b""))
        if refit:
            refitted(folder)
        rewritten(folder)

    return Case(name, rule, edit, repeats=file.startswith("repeat-"))


def record_case(name: str, rule: str, file: str, change: Callable[[Table], Any]) -> Case:
    """A JSON file is changed, written as the kit writes it, and all checksums are right again."""

    def edit(content: bytes) -> bytes:
        data = json.loads(content)
        change(data)
        return json_text(data).encode()

    return text_case(name, rule, file, edit)


def stage_case(name: str, rule: str, change: Callable[[list[Table]], list[Table]], forged: bool = True) -> Case:
    """The lines of stages.jsonl are changed; run.json follows where it is `forged` well."""
    from kit.runs.record import read_stages

    def edit(folder: Path) -> None:
        path = folder / "run/stages.jsonl"
        lines = change([json.loads(line) for line in path.read_text().splitlines()])
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        stages = [stage.model_dump() for stage in read_stages(folder / "run")]
        refitted(folder, (lambda run: run.update(stages=stages)) if forged else None)
        rewritten(folder)

    return Case(name, rule, edit)


def added(name: str, rule: str, file: str, content: bytes = b"x", size: int = 0) -> Case:
    """A file is put in, and not listed anywhere; a sparse one of `size` bytes."""

    def put(folder: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(file)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if size:
            os.truncate(path, size)

    return Case(name, rule, put)


def done(name: str, rule: str, work: Callable[[Path], Any], repeats: bool = False) -> Case:
    def change(folder: Path) -> None:
        work(folder)

    return Case(name, rule, change, repeats)


def moved(name: str, rule: str, place: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Case:
    """The folder lies elsewhere."""

    def move(folder: Path) -> Path:
        target = folder.parents[3].joinpath("moved", *place(folder.parts[-4:]))
        shutil.copytree(folder, target)
        return target

    return Case(name, rule, move)


def instead(folder: Path, file: str, make: Callable[[Path], Any]) -> None:
    """Something else stands where a file was."""
    (folder / file).unlink(missing_ok=True)
    make(folder / file)


def log(text: str) -> Callable[[bytes], bytes]:
    return lambda content: content + text.encode() + b"\n"


def put(run: Table, *way: Any, value: Any) -> None:
    *way, last = way
    for key in way:
        run = run[key]
    run[last] = value


def bomb(kind: str) -> bytes:
    """An archive of a kilobyte that holds a megabyte, and names that lead out of the folder."""
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../evil", b"\0" * 1_000_000)
    else:
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            info = tarfile.TarInfo("/etc/evil")
            info.size = 1_000_000
            tar.addfile(info, io.BytesIO(b"\0" * 1_000_000))
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def crlf(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def backwards(folder: Path) -> str:
    return "".join(sorted((folder / "sha256sums.txt").read_text().splitlines(keepends=True), reverse=True))


def at(lines: list[Table], number: int, **changes: Any) -> list[Table]:
    return [{**line, **changes} if index == number else line for index, line in enumerate(lines)]


def within(folder: Path, name: str, content: bytes) -> None:
    """A file that run.json lists, as `name` of the run."""
    write(folder / packed(name), content)
    refitted(folder, lambda run: run["files"].update({name: digest(folder / packed(name))}))
    rewritten(folder)


def without(folder: Path, name: str) -> None:
    """A file of the run that is gone from all lists, too."""
    (folder / packed(name)).unlink()
    refitted(folder)
    rewritten(folder)


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def nothing(folder: Path) -> None:
    pass


def otherwise(code: Any, files: Any) -> list[tuple[str, str]]:
    return [("second.star", "comes out as 8")]


def gate(benchmark: Table, **changes: Any) -> None:
    benchmark["metrics"][0].update(changes)


def stage(benchmark: Table, **changes: Any) -> None:
    benchmark["stages"][0].update(changes)


def slow(run: Table) -> None:
    """A run of a size with a floor of an hour."""
    run["size"] = "slow"
    run["rendering"]["directory"] = run["rendering"]["directory"].replace("tiny-", "slow-")


def long(run: Table) -> None:
    run["scheduler"] = "slurm"
    run["stages"][-1]["end"] += 10_000


def as_reference(run: Table) -> None:
    run["metrics"][0].update(value=7.25, reference=7.25, tolerance=1.0)


def twin(folder: Path) -> None:
    created = json.loads((folder / "run.json").read_text())["created"]
    refitted(folder / "repeat-2", lambda run: run.update(created=created))
    rewritten(folder)


def alone(folder: Path) -> None:
    """A look at the ranks that saw one of two."""
    path = folder / "run/stages.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    look = [{**lines[0], "stage": RANKS}, {**lines[1], "stage": RANKS}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in [*look, *lines]))
    within(folder, f"{RANKS}.jsonl", b'{"rank": 0, "size": 2}\n')


def doctored(folder: Path) -> None:
    """What a doctor found of another site."""
    found = Outcome.model_validate(
        {
            "kit": "1",
            "date": "2026-01-01T00:00:00Z",
            "site": "elsewhere",
            "partition": "local",
            "described": ZEROS,
            "nodes": 1,
            "image": "x",
            "digest": "",
            "checks": [{"name": "x", "verdict": "PASS", "detail": "x"}],
        }
    )
    within(folder, "doctor.json", json_text(found.model_dump(mode="json")).encode())


Patch = pytest.MonkeyPatch
TOML = "benchmarks/toy/benchmark.toml"


def no_listing(patch: Patch) -> None:
    def scandir(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    patch.setattr("kit.submissions.survey.os.scandir", scandir)


def broken_check(patch: Patch) -> None:
    def metrics(sub: Any) -> Any:
        raise ZeroDivisionError("of the check itself")

    patch.setattr(module, "OF_RUN", (metrics,))


def of_code(**names: Any) -> Callable[[Patch], None]:
    """The code of the benchmark says something else."""
    return lambda patch: [patch.setattr(type(Benchmark.code), name, value, raising=False) for name, value in names.items()]


def with_fact(patch: Patch) -> None:
    """The resolution has to be the number of ranks."""
    toml = paths.PACKAGE / TOML
    toml.write_text(toml.read_text().replace('unit = "angstrom"', 'unit = "angstrom"\nfact = "ranks"'))


ZEROS = "sha256:" + "0" * 64
DEEP = b"[" * 100_000
LOG = "run/stages/first.stdout.txt"
# Put together here, so that nobody takes this file for a leak.
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB = "ghp" + "_" + "a1B2" * 9
GITLAB = "glpat" + "-" + "a1B2" * 5
SLACK = "xoxb" + "-123456789012-" + "a1B2" * 6
PEM = "-----BEGIN " + "OPENSSH PRIVATE KEY-----"
JWT = ".".join(["eyJ" + "hbGciOiJIUzI1NiJ9", "eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N"])

CASES = [
    # --- what is no submission at all
    Case("a file in place of the folder", "no-folder", lambda folder: folder / "run.json"),
    Case("nothing there", "no-folder", lambda folder: folder / "nothing"),
    Case("an empty folder", "missing-file", emptied),
    Case("a folder that cannot be listed", "cannot-list", nothing, patch=no_listing),
    Case("a check that fails itself", "unchecked", nothing, patch=broken_check),
    # --- names and kinds of files
    added("a name with a space", "file-name", "run/a b.json"),
    added("a name that acts on the terminal", "file-name", "\x1b[2Jx.md"),
    added("a name that is no UTF-8", "file-name", "r\udcff.md"),
    added("a name that reverses the text after it", "file-name", "read\u202eme.md"),
    added("a name that is HTML", "file-name", "<img src=x>.md"),
    added("a name of two dots and more", "unknown-file", "...json"),
    added("a name that differs in case alone", "case", "run/Second.star"),
    done("a folder that differs in case alone", "case", lambda f: (f / "RUN").mkdir()),
    added("a file far down", "depth", "run/a/b/c/d/e/f/g/h/i/j.json"),
    done("a link out of the tree", "plain-file", lambda f: instead(f, "README.md", lambda p: p.symlink_to("/etc/hostname"))),
    done("a link to a file beside it", "plain-file", lambda f: instead(f, LOG, lambda p: p.symlink_to("second.stdout.txt"))),
    done("a folder that is a link to itself", "plain-file", lambda f: (f / "run/more").symlink_to(f)),
    done("a link to nothing", "plain-file", lambda f: instead(f, "config.yaml", lambda p: p.symlink_to("nothing"))),
    done("a FIFO", "plain-file", lambda f: instead(f, "run.json", os.mkfifo)),
    done("a script that can be started", "mode", lambda f: (f / "run/job.sh").chmod(0o755)),
    done("a file with a special bit", "mode", lambda f: (f / "run.json").chmod(0o4644)),
    done("a hard link", "hard-link", lambda f: os.link(f / "run.json", f.parent / "twin")),
    added("a zip bomb", "unknown-file", "run/evidence.zip", bomb("zip")),
    added("a tar bomb", "unknown-file", "run/evidence.tar.gz", bomb("tar")),
    added("a workflow for the repository", "unknown-file", ".github/workflows/ci.yml"),
    added("a hook", "unknown-file", ".git/hooks/post-checkout"),
    added("a page", "unknown-file", "index.html", b"<script>alert(1)</script>"),
    added("a signature of another file", "unknown-file", "run.json.sig"),
    added("a record of a terabyte, all of it a hole", "file-size", "run.json", size=10**12),
    added("a log that is too large", "file-size", LOG, size=65 * 10**6),
    added("a signature that is too large", "file-size", "sha256sums.txt.sig", size=17_000),
    done(
        "more bytes than a repository takes",
        "folder-size",
        lambda f: [os.truncate(write(f / f"run/figures/{n}.png", b"x"), 16 * 10**6) for n in range(17)],
    ),
    done("a folder without a file", "empty-folder", lambda f: (f / "run/figures/empty").mkdir(parents=True)),
    done("a folder in place of a file", "missing-file", lambda f: instead(f, "README.md", Path.mkdir)),
    done("a record that is missing", "missing-file", lambda f: (f / "run.json").unlink()),
    text_case("a text that is empty", "empty-file", "README.md", lambda content: b""),
    # --- the place
    moved("a folder with too short a path", "place", lambda place: ("x y", *place[1:])),
    moved("a path of dots", "place", lambda place: (".hidden", *place[1:])),
    moved("another application in the path", "place-differs", lambda place: (place[0], "relion", *place[2:])),
    moved("another run in the path", "place-differs", lambda place: (*place[:3], "better")),
    moved("nobody who submits", "unnamed", lambda place: ("Unaffiliated", *place[1:])),
    moved("a trial", "trial", lambda place: ("trial", *place[1:])),
    # --- checksums
    done("a file that was changed", "sum-differs", lambda f: (f / "README.md").write_text("better")),
    done("a file that was cut short", "sum-differs", lambda f: os.truncate(f / "run/job.sh", 100)),
    done("a log that was removed", "sum-missing", lambda f: (f / LOG).unlink()),
    done("a checksum of a file outside", "sum-missing", lambda f: append(f / "sha256sums.txt", f"{'0' * 64}  ../../x\n")),
    added("a figure that was added", "sum-unlisted", "run/figures/x.png", b"\x89PNG\r\n\x1a\n"),
    done("checksums in another order", "sum-form", lambda f: (f / "sha256sums.txt").write_text(backwards(f))),
    done("checksums with the ends of lines of Windows", "sum-form", lambda f: crlf(f / "sha256sums.txt")),
    done("checksums that are none", "unreadable", lambda f: (f / "sha256sums.txt").write_bytes(b"\xff\0" * 99)),
    done("one file with two checksums", "unreadable", lambda f: append(f / "sha256sums.txt", backwards(f))),
    # --- records
    text_case("a record with a byte-order mark", "schema", "run.json", lambda c: b"\xef\xbb\xbf" + c, refit=False),
    text_case("a record that is cut short", "schema", "run.json", lambda c: c[: len(c) // 2], refit=False),
    text_case("a record nested without end", "schema", "run/site.json", lambda c: DEEP),
    text_case("a record that is no UTF-8", "schema", "run/site.json", lambda c: b"\xff" + c),
    text_case("a record of thousands of digits", "schema", "run/site.json", lambda c: b'{"cores": ' + b"9" * 5000 + b"}"),
    run_case("a key that nobody knows", "schema", lambda run: run.update(colour="red")),
    run_case("a number that is a text", "schema", lambda run: run.update(ranks="many")),
    run_case("a time that is infinite", "schema", lambda run: put(run, "stages", 0, "start", value=float("inf"))),
    run_case("a name of a file that leads out", "schema", lambda run: run["files"].update({"../x.json": ZEROS})),
    run_case("a host that is two lines", "schema", lambda run: put(run, "stages", 0, "host", value="a\n::error::b")),
    text_case(
        "a key that stands twice", "form", "run.json", lambda c: c.replace(b'"size"', b'"size": "x", "size"', 1), False
    ),
    text_case("a record with the ends of lines of Windows", "form", "run.json", lambda c: c.replace(b"\n", b"\r\n"), False),
    text_case("an SBOM that is nested without end", "unreadable", "run/sbom.cdx.json", lambda c: DEEP),
    run_case("a commit of nobody", "not-rendered", lambda run: run.update(commit="2" * 40)),
    run_case("a commit that is an option of git", "not-rendered", lambda run: run.update(commit="--output=/tmp/x")),
    run_case("a size that does not exist", "not-rendered", lambda run: run.update(size="huge")),
    record_case("a gate that was loosened", "benchmark-differs", "run/benchmark.json", lambda b: gate(b, at_most=1e9)),
    record_case("a stage that does nothing", "benchmark-differs", "run/benchmark.json", lambda b: stage(b, command="true")),
    text_case("a script that goes on after an error", "script-differs", "run/job.sh", lambda c: c.replace(b"-euo", b"-eo")),
    text_case("a README that says something else", "text-differs", "README.md", lambda c: c.replace(b"7", b"6")),
    text_case("HTML in a README", "text-differs", "README.md", log("<img src=x onerror=alert(1)>")),
    text_case("a mention in the text of a request", "text-differs", "pull_request.md", log("@everyone [x](javascript:x)")),
    text_case(
        "a YAML file of aliases", "text-differs", "config.yaml", lambda c: b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    ),
    text_case(
        "a YAML file that makes objects", "text-differs", "config.yaml", log("x: !!python/object/apply:os.system [id]")
    ),
    text_case("a log of MLPerf with another result", "text-differs", "result-1.txt", lambda c: c.replace(b"7.0", b"6.0")),
    text_case("a system of another owner", "text-differs", "system.json", lambda c: c.replace(b"laboratory", b"centre")),
    text_case("attributes of git that run a filter", "text-differs", ".gitattributes", log("* filter=evil")),
    text_case("a document of another run", "document-differs", "scientific_contribution.pdf", log("%")),
    run_case("ranks that were not there", "fact-differs", lambda run: run.update(ranks=512)),
    run_case("another recipe", "fact-differs", lambda run: put(run, "image", "recipe", value=ZEROS)),
    # --- the run
    run_case("a run that failed", "state", lambda run: run.update(state={"name": "failed", "reason": "x"})),
    run_case("a run on the host", "no-container", lambda run: put(run, "image", "runtime", value="host")),
    run_case("an image without a digest", "no-container", lambda run: put(run, "image", "digest", value="")),
    run_case("a scaling measurement", "scaling", lambda run: run.update(scaling=[1, 2])),
    run_case(
        "parameters that may not differ",
        "tuned",
        lambda run: put(run, "rendering", "parameters", value={"effort": 2.5}),
        ".",
    ),
    stage_case("stages that run.json does not know", "stages-differ", lambda lines: lines[:2], forged=False),
    stage_case("a stage that ran twice", "stage-again", lambda lines: [*lines[:2], *lines]),
    stage_case("a stage that ended well for a reason", "stage-reason", lambda lines: at(lines, 1, reason="luck")),
    stage_case("a stage that failed", "stage-failed", lambda lines: at(lines, 1, exit=1)),
    stage_case("a stage that ran something else", "stage-command", lambda lines: at(lines, 0, command="echo 7 >first.txt")),
    run_case("a stage that was faster than any", "too-fast", slow),
    done("a rank that was not there", "ranks", alone),
    stage_case("times of another day", "time", lambda lines: [{**line, "time": line["time"] - 1e5} for line in lines]),
    run_case("a run of tomorrow", "time", lambda run: run.update(created="2099-01-01T00:00:00Z")),
    run_case("two files in one place", "packed-twice", lambda run: run["files"].update({"job.stdout.txt": ZEROS})),
    run_case("a file with another digest", "file-differs", lambda run: put(run, "files", "job.sh", value=ZEROS)),
    run_case("a file that is not there", "file-missing", lambda run: run["files"].update({"x.json": ZEROS})),
    text_case("a file that run.json does not list", "file-unlisted", "run/x.star", lambda c: b"data_\n"),
    done("a log that every run has", "log-missing", lambda f: without(f, "logs/first.out")),
    done("a file that no run leaves", "file-needless", lambda f: within(f, "x.json", b"{}")),
    done("a page under the name of a figure", "no-picture", lambda f: within(f, "figures/x.png", b"<script>")),
    record_case(
        "the SBOM of another image",
        "sbom",
        "run/sbom.cdx.json",
        lambda b: put(b, "metadata", "component", "name", value="x"),
    ),
    # --- the result
    run_case("a metric that was left out", "metric-set", lambda run: run.update(metrics=[])),
    text_case("a table without its metric", "metric-unread", "run/second.star", lambda c: b"data_general\n\n_rlnOther 7\n"),
    text_case("a table of strange bytes", "metric-unread", "run/second.star", lambda c: b"\0\xff" * 99),
    run_case("a metric that was improved", "metric-differs", lambda run: put(run, "metrics", 0, "value", value=3.0)),
    run_case("a metric that is no number", "schema", lambda run: put(run, "metrics", 0, "value", value=float("nan"))),
    text_case("a metric that misses its gate", "metric-gate", "run/second.star", lambda c: c.replace(b"7", b"9")),
    text_case("a metric that is infinite", "metric-gate", "run/second.star", lambda c: c.replace(b"7", b"1e999")),
    run_case("a metric in another unit", "metric-record", lambda run: put(run, "metrics", 0, "unit", value="nm")),
    run_case("a metric with a gate of its own", "metric-record", lambda run: put(run, "metrics", 0, "at_most", value=1e9)),
    Case("a metric that states another fact", "metric-fact", nothing, patch=with_fact),
    Case("a number that comes out otherwise", "contradiction", nothing, patch=of_code(contradictions=otherwise)),
    # --- the system
    done("a doctor of another site", "doctor", doctored),
    run_case("a system of another name", "system-differs", lambda run: put(run, "system", "system_name", value="Frontier")),
    run_case("a key of a system that nobody writes", "system-keys", lambda run: put(run, "system", "owner", value="me")),
    record_case("a placeholder", "placeholder", "run/site.json", lambda site: site.update(contact="TODO")),
    # --- what can have been
    run_case("more threads than cores", "crowded", lambda run: run.update(threads=3)),
    run_case("a stage that was longer than its job", "too-long", long),
    run_case("a number that is its reference", "reference", as_reference),
    Case("more than the cores can compute", "throughput", nothing, patch=of_code(FLOP={"resolution": 1e30})),
    # --- what should stay at home
    text_case("a key of AWS", "secret", LOG, log(f"export AWS_ACCESS_KEY_ID={KEY}")),
    text_case("a token of GitHub", "secret", LOG, log(f"remote: https://x-access-token@{GITHUB}")),
    text_case("a token of GitLab", "secret", LOG, log(f"PRIVATE-TOKEN: {GITLAB}")),
    text_case("a token of Slack", "secret", LOG, log(SLACK)),
    text_case("a private key", "secret", LOG, log(PEM)),
    text_case("a token of the web", "secret", LOG, log(f"Authorization: Bearer {JWT}")),
    text_case("a password", "secret", LOG, log('{"PassWord": "hunter2hunter2"}')),
    text_case("a password in an address", "secret", LOG, log("http_proxy=http://me:hunter2@proxy:3128")),
    text_case("a secret far down in a log", "secret", LOG, lambda c: b"x" * 3_000_000 + b"\n" + KEY.encode() + b"\n"),
    text_case(
        "a secret where two blocks meet", "secret", LOG, lambda c: b" " * ((1 << 20) - 5) + KEY.encode() + b" " * 9999
    ),
    text_case("a person's folder", "personal-path", LOG, log("/home/alice/relion: not found")),
    text_case("a person's folder on a Mac", "personal-path", LOG, log("cd /Users/alice")),
    text_case("an address", "address", LOG, log("mail from Alice <alice@uni-stadt.de>")),
    text_case("more addresses than anybody reads", "more-warnings", LOG, log(" ".join(f"a{n}@b.de" for n in range(50)))),
    done("more findings than anybody reads", "more", lambda f: [(f / f"x{n}").touch() for n in range(50)]),
    # --- repeats
    done("a repeat that was left out", "repeat-number", lambda f: (f / "repeat-2").rename(f / "repeat-3"), repeats=True),
    done("a log without a run", "repeat-logs", lambda f: write(f / "result-3.txt", b"x"), repeats=True),
    done("a repeat without a record", "missing-file", lambda f: (f / "repeat-2/run.json").unlink(), repeats=True),
    run_case("a repeat on another system", "repeat-differs", lambda run: run.update(ranks=2), "repeat-2/"),
    run_case("a repeat with the seed of the first", "repeat-twice", lambda run: run.update(seed=1), "repeat-2/"),
    done("a repeat that was given twice", "repeat-twice", twin, repeats=True),
    run_case(
        "a repeat with a metric that was improved",
        "metric-differs",
        lambda run: put(run, "metrics", 0, "value", value=3.0),
        "repeat-2/",
    ),
    run_case("a repeat that failed", "state", lambda run: run.update(state={"name": "failed"}), "repeat-2/"),
    run_case(
        "repeats that agree to the last digit",
        "no-variance",
        lambda run: put(run, "metrics", 1, "value", value=1.0),
        "repeat-2/",
    ),
    text_case("a secret in a repeat", "secret", f"repeat-2/{LOG}", log(GITHUB), refit=False),
]


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KIT_ALLOW_DIRTY", "KIT_ALLOW_TRIAL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def packed_repeats() -> list[Path]:
    """A submission of two runs of the toy, once it was made."""
    return []


@pytest.fixture
def repeats(toy: Path, tmp_path: Path, packed_repeats: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An accepted submission of two runs of the toy with different seeds, to be damaged."""
    if not packed_repeats:
        runs = tmp_path_factory.mktemp("toys")
        directories = []
        for seed in (1, 2):
            directory = launch.prepare(make_plan(Request("toy", "noisy", site="here", seed=seed)), runs)
            run_boxed(directory)
            directories.append(directory)
        packed_repeats.append(pack(directories, tmp_path_factory.mktemp("packed")))
    copy = tmp_path.joinpath("repeats", *packed_repeats[0].parts[-4:])
    shutil.copytree(packed_repeats[0], copy)
    return copy


def test_good_submissions_break_no_rule(submission: Path, repeats: Path) -> None:
    assert check(submission) == []
    assert check(repeats) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule_fires(case: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = request.getfixturevalue("repeats" if case.repeats else "submission")
    if case.patch:
        rerender.in_process.cache_clear()
        rerender.script_of.cache_clear()
        case.patch(monkeypatch)
    checked = case.change(folder) or folder
    findings = check(checked)
    assert case.rule in {finding.rule for finding in findings}, findings
    assert case.rule == "unchecked" or not [finding for finding in findings if finding.rule == "unchecked"]
    assert all(str(finding).isprintable() for finding in findings)
    if case.patch:
        rerender.in_process.cache_clear()
        rerender.script_of.cache_clear()


def test_every_rule_has_its_case() -> None:
    # Evidence is scored on demand alone; its rules have their cases beside it (tests/unit/test_evidence.py).
    assert {case.rule for case in CASES} == RULES.keys() - {rule.id for rule in AREAS["The evidence"]}
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
