"""Renders a run again from its own record: its script, benchmark and texts must come out the same.

A check does this with the kit of the commit that the run names. Where that is not the one that checks, its tree is taken
from the history of this checkout, and this module of it answers: `python -m kit.submissions.rerender` reads a question, as
JSON, and prints what it came to.

What a commit answered to a question is kept in the cache: packing asks, and so do the checks before and in a pull request.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from kit import __version__
from kit.benchmark import Benchmark
from kit.core import paths
from kit.core.checksums import digest_of, text_digest
from kit.core.errors import KitError
from kit.core.files import json_text, read_json, write_atomic
from kit.core.schema import Digest, Model, parse
from kit.data.isolated import Pack
from kit.runs.record import Run, State, directory_name
from kit.site import Site
from kit.submissions.submitter import Submitter

# What renders is imported where it is used: a check whose answer is known does not wait for it.
if TYPE_CHECKING:
    from kit.images.render import Image
    from kit.plan import Plan


class Question(Model):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    run: Run
    site: Site
    pack: Pack | None
    organisation: str
    system: str
    submitter: Submitter | None = None
    pictures: dict[str, bytes] | None = None  # of the document, by name (document.figures); None: no document is wanted
    runs: list[Run] = []  # all of the submission, in its order, where the texts are asked for; `run` is the first


class Answer(Model):
    """What the kit renders for a question: texts of files, the shell of each stage, and facts that run.json must state."""

    benchmark: str  # run/benchmark.json
    script: str  # run/job.sh
    commands: dict[str, str]
    facts: dict[str, Any]  # of run.json, by dotted path
    derived: dict[str, str]  # the texts that follow from the run
    documents: dict[str, Digest]  # of what else follows from it


# What a run did is no part of what it was asked.
DONE: dict[str, Any] = {"state": State(name="rendered"), "stages": [], "metrics": [], "system": {}, "files": {}}


def again(question: Question) -> Answer:
    """Renders a run with this kit; KitError if the kit could not have made it."""
    from kit.script.render import commands
    from kit.submissions.texts import derived, documents

    run, site = question.run, question.site
    asked = question.model_copy(update={"run": run.model_copy(update=DONE), "runs": [], "submitter": None, "pictures": None})
    final, script = script_of(asked.model_dump_json())
    facts = {
        "kit": __version__,
        "site": site.name,
        "ranks": final.placement.ranks,
        "threads": final.placement.threads,
        "seed": final.seed,
        "scheduler": final.partition.scheduler,
        "script": text_digest(script),
        "image.name": final.image.name,
        "image.version": final.image.source.VERSION,
        "image.arguments": final.image.arguments,
        "image.recipe": final.image.recipe_digest,
    }
    told = (question.runs or [run], final.benchmark, question.organisation, question.system, question.submitter)
    written = {} if question.pictures is None else documents(*told, question.pictures)
    return Answer(
        benchmark=json_text(final.benchmark.model_dump(mode="json")),
        script=script,
        commands={stage: text for stage, (text, _) in commands(final).items()},
        facts=facts,
        derived=derived(*told),
        documents={name: digest_of(content) for name, content in written.items()},
    )


@functools.lru_cache(maxsize=4)
def script_of(asked: str) -> tuple[Plan, str]:
    """The plan and the job script of a question in JSON. Kept: composing a workflow starts a program for each job."""
    from kit.images.render import load_image
    from kit.plan import make_plan, request_of
    from kit.runtimes import RUNTIMES
    from kit.script.render import rendered

    question = Question.model_validate_json(asked)
    run, site = question.run, question.site
    source = run.rendering
    if source is None:
        raise KitError(
            "run.json: key 'rendering' is missing; an older kit made this run, and nobody can write its script again"
        )
    request = request_of(run)
    image = load_image(run.image.name, request.arguments)
    runtime = RUNTIMES.get(run.image.runtime)
    if runtime is None or run.image.runtime != site.container.runtime:
        raise KitError(f"run.json: image.runtime is '{run.image.runtime}', that of the site '{site.container.runtime}'")
    problem = runtime.problem(image, source.machine)
    if problem:
        raise KitError(f"run.json: rendering.machine: {problem}")
    pack = question.pack
    if (pack is not None) != bool(run.isolated):
        raise KitError(f"run.json: isolated is '{run.isolated}', but {'no' if pack is None else 'a'} pack.json is here")
    if pack and (pack.benchmark, pack.size, pack.stage) != (run.benchmark, run.size, run.isolated):
        raise KitError("run/pack.json: is of another benchmark, size or stage than run.json")
    plan = make_plan(request, site, pack, (source.cores, source.memory_gb))
    wanted = directory_name(run.work, run.site, run.created)
    if not (Path(source.directory).is_absolute() and Path(source.directory).name == wanted):
        raise KitError(f"run.json: rendering.directory is {source.directory!r}, and {wanted} is what the kit makes for it")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / Path(source.directory).name
        place.mkdir()
        composer = composing(image, plan.benchmark) if plan.size.workflow else None
        return rendered(plan, source, place, composer)


def composing(image: Image, benchmark: Benchmark) -> tuple[Image, str]:
    """A local image of the same version as `image`, which writes a workflow's commands as it does, and a runtime."""
    from kit.images.built import runtime_here
    from kit.images.render import load_image

    same = [load_image(name) for name in benchmark.images]
    for candidate in (image, *(other for other in same if other.source.VERSION == image.source.VERSION)):
        runtime = runtime_here(candidate)
        if runtime:
            return candidate, runtime
    names = " or ".join(other.name for other in same if other.source.VERSION == image.source.VERSION)
    raise KitError(
        f"the commands of {benchmark.title.split(':')[0]} are written by its own program, and no image of version "
        f"{image.source.VERSION} is here to write them again: kit image build, {names}"
    )


def answer(question: Question, allow_dirty: bool) -> Answer:
    """`again`, with the kit at the commit that the run names; KitError if that commit cannot be used."""
    commit = question.run.commit
    if not re.fullmatch(r"[0-9a-f]{40,64}(-dirty)?", commit):
        raise KitError(
            f"run.json: commit is {commit or 'missing'}; run the kit from a git checkout, or from a wheel built in one"
        )
    if commit.endswith("-dirty") and not allow_dirty:
        raise KitError(
            f"run.json: commit is {commit}: files of the kit were changed, and nobody else has them; commit them and run "
            "again (--allow-dirty accepts it for a trial of your own)"
        )
    asked = question.model_dump_json()
    if commit.endswith("-dirty"):  # nobody knows of which code, so nothing of it is kept
        return in_process(asked)
    here = commit == paths.commit()
    if not here:
        known(commit)  # whatever is kept: a commit may have left the history since
    kept = kept_answer(commit, asked)
    if kept.is_file():
        with contextlib.suppress(KitError):  # a full disk, or an older kit, left something else: it is asked again
            return parse(Answer, read_json(kept), kept)
    found = in_process(asked) if here else elsewhere(asked, tree(commit))
    if here and paths.untracked():
        return found  # they may have had a part in it, and the commit has not
    with contextlib.suppress(OSError):  # it is only quicker the next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, found.model_dump_json())
    return found


def kept_answer(commit: str, asked: str) -> Path:
    """Where the cache holds what a commit answers to a question in JSON, or would."""
    return paths.cache() / "answers" / f"{commit}-{hashlib.sha256(asked.encode()).hexdigest()}.json"


@functools.lru_cache(maxsize=4)
def in_process(question: str) -> Answer:
    return again(Question.model_validate_json(question))


@functools.lru_cache(maxsize=4)
def elsewhere(question: str, folder: Path) -> Answer:
    if not (folder / "kit/submissions/rerender.py").is_file():
        raise KitError(f"run.json: its commit is of a kit that cannot render again; check it with that kit: {folder}")
    result = subprocess.run(
        [sys.executable, "-m", "kit.submissions.rerender"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        input=question,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if result.returncode:
        raise KitError(result.stderr.strip().removeprefix("kit: "))
    return parse(Answer, json.loads(result.stdout), folder)


def known(commit: str) -> None:
    """KitError for a commit that is not in this checkout's own history."""
    if paths.CHECKOUT is None:
        raise KitError(
            f"run.json: commit is {commit}, and this kit is installed and of commit {paths.commit()}; what another commit "
            "made is checked from a git checkout of the kit"
        )
    # Ancestors only: other commits in the repository may contain anybody's code, and this code is run.
    if paths.git("merge-base", "--is-ancestor", commit, "HEAD").returncode:
        raise KitError(
            f"run.json: commit {commit} is not in the history of {paths.CHECKOUT}; check with a kit that has it "
            "(git fetch, and git fetch --unshallow where the clone is shallow)"
        )


def tree(commit: str) -> Path:
    """The files of a commit of this checkout's own history, in the cache; KitError for any other commit."""
    known(commit)
    folder = paths.cache() / "kits" / commit
    if folder.is_dir():
        return folder
    partial = Path(tempfile.mkdtemp(prefix=f".{commit}.", dir=paths.make_cached(folder.parent)))
    try:
        with tempfile.TemporaryFile() as file:
            paths.git("archive", commit, stdout=file).check_returncode()
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                archive.extractall(partial, filter="data")
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


if __name__ == "__main__":
    try:
        print(again(parse(Question, json.load(sys.stdin), "question")).model_dump_json())
    except KitError as error:
        print(f"kit: {error}", file=sys.stderr)
        sys.exit(1)
