"""Does a submission come out again? Its work is run anew, on a site of one's own, and every metric is held against it.

What was asked is read from the submission; what it is run with is this checkout: its recipe must be that of the
submission, and the data that it makes must be the same byte for byte. What else differs is said.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from kit.benchmark import MOST_SEED, Benchmark
from kit.core import paths
from kit.core.checksums import SUMS, plain_digest
from kit.core.errors import KitError, plain
from kit.core.files import plain_file, read_json, write_json
from kit.core.schema import Digest, Model, parse
from kit.core.tables import table
from kit.images.build import steps
from kit.images.built import docker_client, docker_has, sif_of
from kit.plan import Plan, make_plan, request_of
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.compare import elsewhere, load_repeats, processor
from kit.runs.record import FILE as RUN
from kit.runs.record import SBOM, Run, State, load_run, resolved
from kit.submissions.check import check
from kit.submissions.rules import refusing
from kit.submissions.verify import SIGNATURES, rehash

FILE = "reproduction.json"
MOST_NAMED = 5  # packages that a sentence names


class Row(Model):
    """A metric of the submission beside that of the new run. `agrees` is None where nothing says how far they may differ."""

    name: str
    unit: str
    submitted: float
    reproduced: float | None
    difference: float | None
    tolerance: float | None
    source: str  # of the tolerance
    agrees: bool | None


class Duration(Model):
    """Seconds that a stage took, where it came to its end."""

    stage: str
    submitted: float | None
    reproduced: float | None


class Reproduction(Model):
    """What a reproduction came to; it stands as reproduction.json in the directory of the new run."""

    submission: str  # ORGANISATION/APPLICATION/SYSTEM/DESCRIPTOR
    sums: Digest  # of the submission's sha256sums.txt, which says exactly which one it was
    run: str  # the directory of the new run
    state: State
    metrics: list[Row]
    durations: list[Duration]
    remarks: list[str]
    agrees: bool
    verdict: str


def accepted(folder: Path, allow_dirty: bool | None = None, allow_trial: bool | None = None) -> tuple[Run, list[str]]:
    """The run of a submission, and what has to be said of it; KitError for a folder that verification or check refuses."""
    problems = rehash(folder).problems
    findings = [] if problems else check(folder, allow_dirty, allow_trial=allow_trial)
    refused = refusing(findings)
    remarks = [str(finding) for finding in findings if finding not in refused]
    problems += map(str, refused)
    if problems:
        raise KitError("\n".join([f"{plain(str(folder))}: refused, and not run:", *map(plain, problems[:20])]))
    run = parse(Run, read_json(plain_file(folder, RUN)), folder / RUN)
    if any((folder / name).exists() for name in SIGNATURES.values()):
        remarks.append("Its signature was not verified: kit submission verify does that, with your keys.")
    more = len(list(folder.glob(f"repeat-*/{RUN}")))
    if more:
        remarks.append(f"It holds {more + 1} runs; the first of them is reproduced.")
    return run, remarks


def way_back(run: Run) -> str:
    """The command that takes the checkout to the kit that made a run."""
    return f"git -C {paths.CHECKOUT or 'CHECKOUT'} checkout {run.commit.removesuffix('-dirty')}"


def new_plan(
    submitted: Run, site: str, partition: str | None = None, seed: str = "same", isolated: Path | None = None
) -> tuple[Plan, list[str]]:
    """The plan of the same work on another site, and what has to be said before it runs.

    Ranks and threads are those of the submission where they fit, and those of the size elsewhere. KitError for another
    recipe, and for a site that runs no containers: nothing would say that the same programs ran.
    """
    if submitted.isolated and isolated is None:
        raise KitError(
            f"it ran stage {submitted.isolated} alone, on a pack that is not in it; give that pack: --isolated PACK"
        )
    same = request_of(submitted)  # its seed may be none of its own, where a challenge decides it
    asked = dataclasses.replace(
        same,
        site=site,
        partition=partition,
        ranks=submitted.ranks,
        threads=submitted.threads,
        seed=same.seed if seed == "same" else chosen_seed(submitted.seed, seed),
        isolated=isolated,
        tuning=None,  # its choice stands in ranks, threads and parameters, and its seconds are of another site
    )
    remarks = kits(submitted, paths.commit())
    try:
        plan = make_plan(asked)
    except KitError as error:
        plan = make_plan(dataclasses.replace(asked, nodes=None, ranks=None, threads=None, gpus=None))
        remarks.append(f"{submitted.ranks} ranks of {submitted.threads} threads do not fit: {error}")
    if plan.image.recipe_digest != submitted.image.recipe:
        raise KitError(
            f"image {plan.image.name}: the submission's is of the recipe {submitted.image.recipe}, and this kit's is "
            f"{plan.image.recipe_digest}; another image is no reproduction. Go back to the kit that made it: "
            f"{way_back(submitted)}"
        )
    if plan.site.container.runtime == "host":
        raise KitError(
            f"site {plan.site.name}: container.runtime is 'host', and nothing would say that the same programs ran"
        )
    return plan, remarks


def kits(submitted: Run, commit: str) -> list[str]:
    """What has to be said where a kit of another commit reproduces a run."""
    if commit == submitted.commit:
        return []
    return [f"The kit is another: commit {commit} here, {submitted.commit} there. To use that one: {way_back(submitted)}"]


def chosen_seed(submitted: int | None, asked: str) -> int:
    """The seed for `new` or a number; KitError for anything else."""
    if asked == "new" and submitted is None:
        raise KitError("--seed new: this benchmark has no random seed")
    if asked == "new":
        fresh = random.SystemRandom().randrange(MOST_SEED)
        return fresh if fresh != submitted else fresh + 1
    if not asked.isdecimal():
        raise KitError(f"--seed {asked}: same, new or a number is needed")
    return int(asked)


def image_steps(plan: Plan, say: Callable[[str], None]) -> list[tuple[str, Callable[[], object]]]:
    """What is to be done so that the image of a plan is built here; nothing where it is."""
    docker = plan.site.container.runtime == "docker"
    if docker_has(plan.image.tag) if docker else sif_of(plan.image).is_file():
        return []
    source = "docker"
    try:
        docker_client()
    except KitError:
        source = "recipe"
    return steps([plan.image.name], plan.request.arguments, "docker" if docker else "sif", source, False, say)


def prepare(submitted: Run, plan: Plan, runs: Path) -> Path:
    """A run directory that is ready to be submitted; KitError where the data are not those of the submission."""
    directory = launch.prepare(plan, runs)
    data = load_run(directory).data
    if data != submitted.data:
        shutil.rmtree(directory)  # nothing ran in it
        raise KitError(
            f"{submitted.benchmark}, size {submitted.size}: the data here are not those of the submission: their manifest "
            f"is {data}, and the submission's {submitted.data}. Go back to the kit that made them: {way_back(submitted)}"
        )
    return directory


def judge(folder: Path, submitted: Run, directory: Path, remarks: list[str], repeats: Path | None = None) -> Reproduction:
    """Collects the new run, holds it against the submission, and writes reproduction.json into its directory.

    KitError for a run of other work or other data.
    """
    before = load_run(directory)
    if before.created == submitted.created:
        raise KitError(f"{directory}: is the very run that was submitted; it cannot reproduce itself")
    for what in ("benchmark", "work", "changed", "data"):
        if getattr(before, what) != getattr(submitted, what):
            raise KitError(f"{directory}: differs from {folder} in {what}; only a run of the same work reproduces it")
    if before.image.recipe != submitted.image.recipe:
        raise KitError(f"{directory}: its image is of another recipe than that of {folder}")
    run = collect(directory)
    benchmark, _ = resolved(directory)
    known, more = tolerances(benchmark, submitted, run, repeats)
    values = {metric.name: metric.value for metric in run.metrics}
    rows = [
        row(metric.name, metric.shown_unit, metric.value, values.get(metric.name), *known.get(metric.name, (None, "")))
        for metric in submitted.metrics
    ]
    agrees, verdict = judged(run.state, rows)
    found = Reproduction(
        submission="/".join(folder.resolve().parts[-4:]),
        sums=plain_digest(folder, SUMS),
        run=str(directory),
        state=run.state,
        metrics=rows,
        durations=durations(submitted, run),
        remarks=[*remarks, *images(folder, submitted, directory, run), *differences(submitted, run), *more],
        agrees=agrees,
        verdict=verdict,
    )
    write_json(directory / FILE, found.model_dump(mode="json"))
    return found


def tolerances(
    benchmark: Benchmark, submitted: Run, run: Run, path: Path | None
) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """How far each metric may differ and who says so, and what has to be said of that.

    The spread of repeats comes first (kit/runs/compare.py), then the tolerance that the benchmark gives around a
    reference. Nothing that a submission says of itself counts.
    """
    found = {
        metric.name: (metric.tolerance, f"benchmark: {metric.reference:g} +- {metric.tolerance:g}")
        for metric in benchmark.metrics
        if metric.tolerance is not None
    }
    try:
        repeats = load_repeats(submitted.benchmark, submitted.work, path)
    except KitError:
        if path is not None:
            raise
        return found, []
    source = f"repeats: {len(repeats.seeds)} of {repeats.image} {repeats.version}"
    return found | {name: (repeats.allowed(name), source) for name in repeats.metrics}, elsewhere(repeats, [submitted, run])


def row(name: str, unit: str, submitted: float, reproduced: float | None, tolerance: float | None, source: str) -> Row:
    difference = None if reproduced is None else abs(reproduced - submitted)
    agrees = None if tolerance is None else difference is not None and difference <= tolerance
    return Row(
        name=name,
        unit=unit,
        submitted=submitted,
        reproduced=reproduced,
        difference=difference,
        tolerance=tolerance,
        source=source or "none known: reported only",
        agrees=agrees,
    )


def judged(state: State, rows: list[Row]) -> tuple[bool, str]:
    """Whether a submission was reproduced, and why, as a sentence."""
    differing = [row.name for row in rows if row.agrees is False]
    agreeing = [row.name for row in rows if row.agrees]
    if state.name != "valid":
        return False, f"not reproduced: the new run is {state}"
    if differing:
        return False, f"not reproduced: {', '.join(differing)} differ by more than the tolerance"
    if not agreeing:
        return False, (
            "undecided: no metric has a tolerance; measure repeats (kit run --repeat, kit repeats --output FILE) and give "
            "--repeats FILE"
        )
    equal = sum(row.difference == 0 for row in rows)
    return True, (
        f"reproduced in what can be judged: {', '.join(agreeing)} agree. Nothing says how far the other "
        f"{len(rows) - len(agreeing)} metrics may differ; {equal} of all {len(rows)} are equal to the last digit"
    )


def durations(submitted: Run, run: Run) -> list[Duration]:
    """The stages of both runs with the time of the attempt that ended well, and their sum."""
    both = [
        {stage.name: stage.seconds for stage in one.stages if stage.timed and stage.exit_code == 0}
        for one in (submitted, run)
    ]
    names = dict.fromkeys((*both[0], *both[1]))
    found = [Duration(stage=name, submitted=both[0].get(name), reproduced=both[1].get(name)) for name in names]
    sums = [sum(seconds or 0.0 for seconds in one.values()) for one in both]
    return [*found, Duration(stage="all", submitted=sums[0], reproduced=sums[1])]


def images(folder: Path, submitted: Run, directory: Path, run: Run) -> list[str]:
    """Whether the image is the very same, and if not, which of its packages are others."""
    if run.image.digest == submitted.image.digest:
        return [f"The image is the same: {run.image.digest}."]
    there, here = components(folder, f"run/{SBOM}"), components(directory, SBOM)
    others = sorted(here ^ there)
    packages = "by their SBOMs they hold the same packages"
    if others:
        rest = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        packages = f"their SBOMs differ in {', '.join(others[:MOST_NAMED])}{rest}"
    return [
        f"The image is of the same recipe, and of another build: {run.image.digest or 'no digest'} here, "
        f"{submitted.image.digest} there. Times in files, and packages that were updated meanwhile, differ between builds; "
        f"{packages}."
    ]


def components(folder: Path, name: str) -> set[str]:
    """The packages that an SBOM lists, each with its version; none where it is not one."""
    bill = read_json(plain_file(folder, name))
    listed = bill.get("components", []) if isinstance(bill, dict) else []
    return {f"{one.get('name')} {one.get('version')}" for one in listed if isinstance(one, dict)}


def differences(submitted: Run, run: Run) -> list[str]:
    """What else of the two runs is not the same, and may be why they differ."""
    found = kits(submitted, run.commit)
    if run.seed != submitted.seed:
        found.append(f"The random seed is another: {run.seed} here, {submitted.seed} there.")
    here, there = (f"{one.ranks} ranks of {one.threads} threads" for one in (run, submitted))
    if here != there:
        found.append(f"It ran with {here} here, and with {there} there, which can change results.")
    if processor(run) != processor(submitted):
        found.append(f"It ran on {processor(run)} here, and on {processor(submitted)} there.")
    return found


def report(found: Reproduction) -> str:
    """Metric by metric and stage by stage, what has to be said, and the verdict."""
    words = {True: "agrees", False: "DIFFERS", None: ""}
    metrics = [
        (
            one.name,
            shown(one.submitted),
            shown(one.reproduced) or "missing",
            shown(one.difference),
            shown(one.tolerance),
            one.unit,
            words[one.agrees],
            one.source,
        )
        for one in found.metrics
    ]
    header = ("metric", "submitted", "reproduced", "difference", "tolerance", "", "", "tolerance of")
    stages = [
        (f"{one.stage} (s)", *(None if s is None else f"{s:.1f}" for s in (one.submitted, one.reproduced)))
        for one in found.durations
    ]
    return "\n".join(
        [
            table(metrics, "lrrrrlll", header),
            "",
            table(stages, "lrr", ("stage", "submitted", "reproduced")),
            "",
            *found.remarks,
            f"{found.submission}: {found.verdict}",
        ]
    )


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
