"""Workflows: job.star files of RELION, and a small file that says their order, what each takes from which, and the rules.

`workflows/NAME/workflow.toml` lists the jobs; the options of a job are those of its `JOB_job.star` beside it, or of the
one that it names as its `star`. What hands one job's files to the next is a name, not a number: `fn_img = "extract"` is the
first file that the job `extract` is to write, `"class2d:model.star"` the one whose name ends so. `compose` takes the jobs
into a project, in which RELION itself writes their commands, and returns them as the stages of a run.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from kit.benchmark import Stage
from kit.benchmarks.relion import resources
from kit.benchmarks.relion.project import Job, RelionProject, in_words, note, read_job_star
from kit.benchmarks.relion.resources import ALIGNING, SINGLE, UNTHREADED
from kit.core.errors import KitError, unknown
from kit.core.files import read_json, read_text, read_toml, write_json
from kit.core.schema import Model, parse
from kit.data.isolated import Pack
from kit.images.render import Image
from kit.placement import Placement
from kit.script.quoting import environment

FOLDER = Path(__file__).parent / "workflows"
JOBS = "workflow.json"  # of a run: the workflow, and the folder of each job
IDENTIFY = Stage(name="identify", command="in_image relion_refine --version >version.txt", outputs=["version.txt"])
# The folders of the stages where no workflow gave them a job's.
FOLDERS = {
    "class2d": "Class2D/",
    "class3d": "Class3D/",
    "refine3d": "Refine3D/",
    "maskcreate": "MaskCreate/",
    "postprocess": "PostProcess/",
}


class Rule(Model):
    """The rule by which a Select job keeps classes: all that pass, or the `best` N of those by their number of particles."""

    best: int | None = Field(None, ge=1)
    least_fraction: float = Field(0.0, ge=0, le=1)  # of the class distribution
    worst_resolution: float = Field(math.inf, gt=0)  # angstrom, rlnEstimatedResolution


class Fit(Model):
    """Pixel size, box and symmetry that a map is converted to before a job uses it as reference.

    Each may be a template over the size's numbers. With a symmetry the map is turned onto its axes, and it is applied.
    """

    pixel_size: float | str  # angstrom
    box: int | str  # pixels
    symmetry: str = ""


class Step(Model):
    """A job of a workflow. `inputs` are options filled by files of earlier jobs; `options` replace those of job.star.

    A job that was tried and `dropped`, with the reason, is part of the history of a workflow and is not run.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    star: str = Field("", pattern=r"^([a-z][a-z0-9_]*)?$")  # the job whose job.star it shares; its own when empty
    inputs: dict[str, str] = {}
    options: dict[str, str] = {}
    maps: dict[str, Fit] = {}
    rule: Rule | None = None
    dropped: str = ""


class Workflow(Model):
    description: str
    # Top-level names of the published data that their STAR files refer to; they are linked into the run directory.
    links: list[str] = []
    reference: str = ""  # the map of the data that a result is held against, where no truth is known
    jobs: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def chained(self) -> Workflow:
        known: dict[str, Step] = {}
        for step in self.jobs:
            if step.name in known:
                raise ValueError(f"two jobs are named {step.name}")
            for option, source in step.inputs.items():
                giver = known.get(source.split(":")[0])
                if giver is None:
                    raise ValueError(f"job {step.name}: {option} = '{source}', but no earlier job has that name")
                if giver.dropped and not step.dropped:
                    raise ValueError(f"job {step.name}: {option} = '{source}', but that job was dropped")
            for option in step.maps:
                if option not in step.inputs and option not in step.options:
                    raise ValueError(f"job {step.name}: maps has {option}, but neither inputs nor options have")
            known[step.name] = step
        return self


def workflow_names() -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob("*/workflow.toml"))


def load_workflow(name: str) -> Workflow:
    if name not in workflow_names():
        raise unknown("workflow of RELION", name, workflow_names())
    path = FOLDER / name / "workflow.toml"
    return parse(Workflow, read_toml(path), path)


def reference(directory: Path) -> str:
    """The map of the data that the results of a run are held against; empty where there is none."""
    path = directory / JOBS
    return str(read_json(path).get("reference", "")) if path.is_file() else ""


def folders(directory: Path) -> dict[str, str]:
    """The folder of each job of a run, by the name of its stage."""
    path = directory / JOBS
    return dict(read_json(path)["jobs"]) if path.is_file() else FOLDERS


def compose(
    workflow_name: str,
    directory: Path,
    image: Image,
    runtime: str,
    placement: Placement,
    numbers: Mapping[str, Any],
    pack: Pack | None = None,
) -> list[Stage]:
    """Makes `directory` a RELION project with the jobs of a workflow, and returns their stages.

    With a pack that is its one job, on the files of the pack. `numbers` fill the templates of the workflow's options; those
    named `acceleration`, `random_seed` and `pool` go to the jobs that align. KitError for an option that this RELION does
    not have, or a file that no job is to write.
    """
    workflow = load_workflow(workflow_name)
    project = RelionProject(directory, image, runtime)
    env = environment()
    jobs: dict[str, Job] = {}
    boxes: dict[str, int] = {}  # pixels of the particles that a job reads, or extracts
    stages = [IDENTIFY]
    for name in workflow.links:
        link = directory / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(directory / "data" / name, link.parent))
    for step in workflow.jobs:
        if step.dropped or (pack and step.name != pack.stage):
            continue
        where = f"workflow {workflow_name}: job {step.name}"
        given = read_job_star(job_star(workflow_name, step.star or step.name, project))
        kind = given.type
        changes = {key: env.from_string(value).render(numbers) for key, value in step.options.items()}
        before: list[str] = []
        for option, source in step.inputs.items():
            if pack and option not in pack.inputs:
                raise KitError(f"{where}: the pack has no {option}; it is of another version of this workflow")
            changes[option] = "" if pack else produced(jobs, source, where)
        if pack:  # which holds what job.star names, too
            changes |= {option: f"data/{file}" for option, file in pack.inputs.items()}
        for option, wanted in step.maps.items() if not pack else ():  # a pack holds the map as it was read
            target = f"{MAPS}/{step.name}_{option}.mrc"
            before += fit(changes[option], target, wanted, lambda text: env.from_string(text).render(numbers))
            changes[option] = target
        options = {**given.options, **changes}
        ranks, threads = resources.share(kind, placement, training=options.get("do_param_optim") == "Yes")
        if kind in ALIGNING and ranks == 1 and not numbers["acceleration"]:
            threads = int(numbers.get("plain_threads", threads))
        if kind == "refine3d" and ranks < 3:
            raise KitError(f"{where}: {ranks} ranks are given, but its halves need two and a third to lead them (--ranks)")
        if kind == "refine3d" and ranks % 2 == 0:
            raise KitError(
                f"{where}: {ranks} ranks are given; one leads and the halves share the others, so an odd number is needed "
                f"(--ranks {ranks - 1} or {ranks + 1})"
            )
        if kind not in SINGLE:
            options["nr_mpi"] = str(ranks)
        if kind not in (*SINGLE, *UNTHREADED):
            options["nr_threads"] = str(threads)
        if kind in ALIGNING and "pool" in numbers and "nr_pool" not in step.options:
            options["nr_pool"] = str(numbers["pool"])
        if kind in ALIGNING:
            own, acceleration = options.get("other_args", ""), numbers["acceleration"]
            if acceleration == "--gpu":
                acceleration = f"--gpu {resources.gpu_map(ranks, placement)}".strip()
            options["other_args"] = f"{own} --random_seed {numbers['random_seed']} {acceleration}".strip()
            if placement.scratch:  # a folder of its own: RELION empties the one it is given, and so would another job
                options["scratch_dir"] = f"{placement.scratch}/kit-{re.sub(r'[^A-Za-z0-9_.+-]', '_', directory.name)}"
        job = project.add(given, options, directory)
        jobs[step.name] = job
        if (kind == "select" and "fn_model" in step.inputs) != (step.rule is not None):
            raise KitError(f"{where}: a Select job on a model needs a rule, and no other job has one")
        commands = select(step.rule, job) if step.rule else [in_words(command) for command in job.commands]
        record(directory, step.name, job, commands)
        done = f"{job.name}RELION_JOB_EXIT_SUCCESS"
        text = [f"rm -f {job.name}RELION_JOB_EXIT_*", *commands, f"touch {done}" if step.rule else f"test -e {done}"]
        if kind == "maskcreate":
            text += not_empty(job.name)
        cont = f"last_iteration {job.name}run" if kind in ALIGNING else ""
        if cont:
            text[1] += ' "${resume[@]}"'
        text[1:1] = before
        outputs = [name for name in job.outputs if not name.endswith(".pdf")]
        given_by = [source.split(":")[0] for source in step.inputs.values()]
        boxes[step.name] = next((boxes[name] for name in given_by if boxes.get(name)), int(numbers.get("box", 0)))
        if kind == "extract":
            boxes[step.name] = int(options["rescale" if options.get("do_rescale") == "Yes" else "extract_size"])
        gigabytes = resources.memory(kind, options, boxes[step.name], ranks, placement)
        stages.append(
            Stage(
                name=step.name,
                command="\n".join(text),
                outputs=outputs,
                resume=cont,
                resume_option="--continue" if cont else "",
                memory_gb=gigabytes,
                note=resources.note(kind, ranks, threads, gigabytes, placement),
            )
        )
    folders_of_jobs = {name: job.name for name, job in jobs.items()}
    write_json(directory / JOBS, {"workflow": workflow_name, "reference": workflow.reference, "jobs": folders_of_jobs})
    return stages


def job_star(workflow_name: str, step: str, project: RelionProject) -> Path:
    """The job.star of a step. For RELION 4 and later one in the folder `5` takes the place of its namesake."""
    own = FOLDER / workflow_name / "5" / f"{step}_job.star"
    return own if own.is_file() and not project.numbered else FOLDER / workflow_name / f"{step}_job.star"


def produced(jobs: Mapping[str, Job], source: str, where: str) -> str:
    """The file that `JOB` (its first) or `JOB:END` (the one whose name ends so) means."""
    name, _, end = source.partition(":")
    job = jobs[name]
    found = [path for path in job.outputs if path.endswith(end)]
    if not found and end == MODEL:  # later versions name the optimiser, beside which the model lies
        found = [path for path in job.outputs if path.endswith(OPTIMISER)]
    if not found and job.type == "select" and end == MAP:
        return job.name + MAP
    if not found:
        raise KitError(f"{where}: {name} writes no file that ends with '{end}', only {', '.join(job.outputs)}")
    return found[0]


MODEL, OPTIMISER = "model.star", "optimiser.star"
MAP = "map.mrc"  # the map of the largest class that a Select job keeps
MAPS = "Maps"  # of a project: references that were brought to the size of the images
SELECT = Path(__file__).parent / "select.sh"  # a template, as the commands of stages are


def fit(source: str, target: str, wanted: Fit, render: Callable[[str], str]) -> list[str]:
    """The commands that bring a map to the pixel size, box and symmetry of the images that it is to be a reference of."""
    scale = f"--rescale_angpix {render(str(wanted.pixel_size))} --new_box {render(str(wanted.box))}"
    commands = [f"mkdir -p {MAPS}", f"in_image relion_image_handler --i {source} --o {target} {scale}"]
    if wanted.symmetry:
        turned = target.replace(".mrc", "_turned.mrc")
        commands += [
            f"in_image relion_align_symmetry --i {target} --o {turned} --sym {wanted.symmetry}",
            f"in_image relion_image_handler --i {turned} --o {target} --sym {wanted.symmetry}",
        ]
    return commands


def not_empty(job: str) -> list[str]:
    """Commands that end a MaskCreate job whose mask is 0 throughout: RELION goes on with it, to an FSC that is no number."""
    said = f"{job}mask.mrc: empty, since no voxel of the map reaches inimask_threshold"
    marks = f"rm -f {job}RELION_JOB_EXIT_SUCCESS; touch {job}RELION_JOB_EXIT_FAILURE"
    return [
        f"in_image relion_image_handler --i {job}mask.mrc --stats >{job}stats.txt",
        f"! grep -q 'maxval= 0;' {job}stats.txt || {{ echo '{said}' >&2; {marks}; exit 65; }}",
    ]


def select(rule: Rule, job: Job) -> list[str]:
    """The commands of a Select job by rule. RELION reads its own tables; what is compared are numbers of its columns."""
    model = job.inputs[0].replace(OPTIMISER, MODEL)
    numbers = {
        "model": model,
        "data": model.replace("_model.star", "_data.star"),
        "job": job.name,
        "least": rule.least_fraction,
        "worst": rule.worst_resolution if math.isfinite(rule.worst_resolution) else 999999,
        "best": rule.best or 9999,
        "rule": shlex.quote(", ".join(f"{key} {value}" for key, value in rule if value not in (None, math.inf))),
    }
    commands = [environment().from_string(read_text(SELECT)).render(numbers).strip()]
    if model.startswith("Class3D"):  # the map of the class that holds most
        commands += [f"read -r _ class image <{job.name}classes.txt", f'cp "$image" {job.name}{MAP}']
    return commands


def record(directory: Path, stage: str, job: Job, commands: list[str]) -> None:
    """What RELION's own tools look for in a job's folder: the note of its commands, and its logs."""
    folder = directory / job.name
    note(folder, "Scheduled new job", commands)
    for end in ("out", "err"):
        os.symlink(f"../../logs/{stage}.{end}", folder / f"run.{end}")
