"""A stage isolated: what one heavy stage of a run read, and nothing else, in a pack from which it runs alone elsewhere.

The particles of a STAR file point at images by paths of the project that they lie in. In a pack they lie below it, only
those that the STAR file names, and a run sees a pack as `data`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.project import read_job_star
from kit.benchmarks.relion.star import read_star
from kit.benchmarks.relion.workflow import folders, reference
from kit.core.errors import KitError

HEAVY = ("class2d", "class3d", "refine3d")
TRUTH = "truth*"  # of a data set: what a result is held against


def isolate(directory: Path, stage: str, target: Path) -> dict[str, str]:
    """Copies the inputs of a stage into the folder `target`; returns the option that each fills, as RELION names it."""
    jobs = folders(directory)
    star = directory / jobs.get(stage, "") / "job.star"
    job = read_job_star(star) if star.is_file() else None
    if job is None or job.type not in HEAVY:
        raise KitError(f"{directory}: stage {stage} cannot be run alone; jobs that can: {', '.join(HEAVY)}")
    inputs = {}
    for option, value in job.options.items():
        # Of a job's options those that name a file of the project are its inputs.
        if not option.startswith("fn_") or not value or not (directory / value).is_file():
            continue
        source = within(directory, value)
        if source.suffix == ".star":
            inputs[option] = particles(directory, source, target)
        else:
            inputs[option] = f"{option.removeprefix('fn_')}{source.suffix}"
            shutil.copyfile(source, target / inputs[option])
    known = reference(directory)
    if known:
        (target / known).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(within(directory, f"data/{known}"), target / known)
    for path in (directory / "data").glob(TRUTH):
        shutil.copyfile(within(directory, f"data/{path.name}"), target / path.name)
    return inputs


def within(directory: Path, name: str) -> Path:
    """A file of the run or of its data; KitError for any other, which a pack would publish."""
    try:
        path = (directory / name).resolve()
    except (OSError, RuntimeError):
        raise KitError(f"{directory / name}: a link that leads back to itself") from None
    if not any(path.is_relative_to(home.resolve()) for home in (directory, directory / "data")):
        raise KitError(f"{directory / name}: lies outside of the run and its data; it is not packed")
    return path


def particles(directory: Path, star: Path, target: Path) -> str:
    """Copies the particles that a STAR file names, and the file with their new paths; returns its name."""
    import mrcfile

    blocks = read_star(star)
    table = blocks["particles"]
    number, stack = zip(*(name.split("@") for name in table["rlnImageName"]), strict=True)
    table = table.assign(number=np.array(number, dtype=int) - 1, stack=stack)
    names = table["rlnImageName"].copy()
    (target / "particles").mkdir()
    for count, (path, rows) in enumerate(table.groupby("stack", sort=True), start=1):
        own = f"particles/{count:06d}.mrcs"
        try:
            with mrcfile.mmap(within(directory, str(path))) as source, mrcfile.new(target / own) as copy:
                copy.set_data(source.data[np.sort(rows["number"])])
                copy.voxel_size = source.voxel_size
        except (OSError, ValueError, IndexError) as error:
            raise KitError(f"{star}: _rlnImageName names images of {path}, which cannot be read: {error}") from None
        order = np.argsort(np.argsort(rows["number"].to_numpy()))
        names.loc[rows.index] = [f"{place + 1:06d}@data/{own}" for place in order]
    blocks["particles"] = table.drop(columns=["number", "stack"]).assign(rlnImageName=names)
    write_star(target / "particles.star", blocks)
    return "particles.star"
