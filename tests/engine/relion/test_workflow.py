"""Workflows: what RELION makes of them, and what they must refuse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import kit
from scipy.spatial.transform import Rotation

from kit.benchmark import load_benchmark
from kit.benchmarks.relion import workflow
from kit.benchmarks.relion.phantom import write_star
from kit.benchmarks.relion.project import Job, RelionProject, pipeline_rows
from kit.benchmarks.relion.workflow import (
    JOBS,
    Fit,
    Rule,
    compose,
    fit,
    load_workflow,
    not_empty,
    select,
)
from kit.core.errors import KitError
from kit.core.files import read_json
from kit.images.built import sif_of
from kit.images.render import load_image
from kit.placement import Placement
from kit.runtimes import RUNTIMES

ONE_NODE = Placement(nodes=1, ranks=3, ranks_per_node=3, threads=1, cores=2)
NUMBERS = {**load_benchmark("relion").sizes["tiny"].parameters, "acceleration": "", "random_seed": 7, "pool": 3}


def test_tiny_is_composed_by_relion(tmp_path: Path) -> None:
    stages = {s.name: s for s in compose("generated", tmp_path, load_image("relion-basic"), "apptainer", ONE_NODE, NUMBERS)}
    folders = read_json(tmp_path / JOBS)["jobs"]
    assert list(stages) == ["identify", *folders]
    refine = stages["refine3d"]
    assert "launch relion_refine_mpi" in refine.command
    assert f"relion_image_handler --i {folders['select3d']}map.mrc --o Maps/refine3d_fn_ref.mrc" in refine.command
    assert "--rescale_angpix 7.08 --new_box 48" in refine.command
    assert f"--i {folders['reextract']}particles.star --ref Maps/refine3d_fn_ref.mrc" in refine.command
    assert "--random_seed 7 --pipeline_control" in refine.command
    assert "--pool 3 " in refine.command
    assert refine.command.count('"${resume[@]}"') == 1
    # The plain code repeats itself on one thread only; the accelerated one takes those there are.
    assert "--j 1 " in stages["class3d"].command
    (tmp_path / "fast").mkdir()
    fast = {**NUMBERS, "acceleration": "--cpu"}
    other = compose("generated", tmp_path / "fast", load_image("relion-accelerated"), "apptainer", ONE_NODE, fast)
    assert "--j 2 " in {s.name: s for s in other}["class3d"].command
    assert f"test -e {folders['refine3d']}RELION_JOB_EXIT_SUCCESS" in refine.command
    assert f"{folders['refine3d']}run_half1_class001_unfil.mrc" in refine.outputs
    assert "in_image relion_import" in stages["import"].command
    assert "--angpix 3.54 --kV 300.0" in stages["import"].command
    assert "in_image relion_motion_refine --" in stages["polish_train"].command
    assert "relion_display" not in stages["select2d"].command
    assert [row[0] for row in pipeline_rows(tmp_path, "processes")] == list(folders.values())
    assert "with the following command(s)" in (tmp_path / folders["class2d"] / "note.txt").read_text()


def test_tiny_is_composed_by_relion_5(tmp_path: Path) -> None:
    """The options that it names otherwise are in job.star files of its own; what one job takes from another is the same."""
    image = load_image("relion-5")
    if not sif_of(image).is_file():
        pytest.skip("not built here: make image/relion-5")
    stages = {s.name: s for s in compose("generated", tmp_path, image, "apptainer", ONE_NODE, NUMBERS)}
    folders = read_json(tmp_path / JOBS)["jobs"]
    assert "--iter 12 " in stages["class2d"].command
    assert "--grad " not in stages["class2d"].command
    assert f"{folders['class2d']}run_it012_model.star data_model_classes" in stages["select2d"].command
    assert f"--ref {folders['initialmodel']}initial_model.mrc" in stages["class3d"].command
    assert f"--i {folders['reextract']}particles.star" in stages["refine3d"].command


def test_acceleration_that_a_binary_has_not_is_an_error(tmp_path: Path) -> None:
    """A plain build only warns of --cpu, and runs its plain code."""
    numbers = {**NUMBERS, "acceleration": "--cpu"}
    with pytest.raises(KitError, match="relion_refine of relion-basic has no flag '--cpu'"):
        compose("generated", tmp_path, load_image("relion-basic"), "apptainer", ONE_NODE, numbers)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first jobs of tiny as a workflow `other`, to be changed."""
    folder = tmp_path / "workflows/other"
    shutil.copytree(workflow.FOLDER / "generated", folder)
    text = (folder / "workflow.toml").read_text()
    (folder / "workflow.toml").write_text(text[: text.index('[[jobs]]\nname = "ctffind"')])
    monkeypatch.setattr(workflow, "FOLDER", tmp_path / "workflows")
    return folder


def composed(tmp_path: Path) -> list[str]:
    image = load_image("relion-basic")
    return [stage.name for stage in compose("other", tmp_path / "project", image, "apptainer", ONE_NODE, NUMBERS)]


def test_an_option_that_relion_has_not_is_an_error(other: Path, tmp_path: Path) -> None:
    assert composed(tmp_path) == ["identify", "import", "motioncorr"]
    star = other / "motioncorr_job.star"
    star.write_text(star.read_text().replace("patch_x", "pach_x"))
    with pytest.raises(KitError, match=r"motioncorr_job.star: RELION 3.1.3 has no option 'pach_x' in a job motioncorr"):
        composed(tmp_path)


def test_a_file_that_no_job_writes_is_an_error(other: Path, tmp_path: Path) -> None:
    toml = other / "workflow.toml"
    toml.write_text(toml.read_text().replace('input_star_mics = "import"', 'input_star_mics = "import:films.star"'))
    with pytest.raises(KitError, match=r"job motioncorr: import writes no file that ends with 'films.star', only Import/"):
        composed(tmp_path)


def test_a_rule_belongs_to_a_select_job(other: Path, tmp_path: Path) -> None:
    toml = other / "workflow.toml"
    toml.write_text(toml.read_text() + "rule = { best = 1 }\n")
    with pytest.raises(KitError, match="job motioncorr: a Select job on a model needs a rule, and no other job has one"):
        composed(tmp_path)


def test_a_run_that_can_not_be_composed_leaves_nothing(other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kit import plan
    from kit.benchmark import Benchmark
    from kit.runs import launch

    (other / "motioncorr_job.star").unlink()
    benchmark = load_benchmark("relion")
    size = benchmark.sizes["tiny"].model_copy(update={"workflow": "other", "floor_seconds": {}})
    metrics = [metric for metric in benchmark.metrics if metric.stage == "collect"]
    changed: Benchmark = benchmark.model_copy(update={"sizes": {"tiny": size}, "metrics": metrics})
    for module in (launch, plan):
        monkeypatch.setattr(module, "load_benchmark", lambda name: changed)
    with pytest.raises(KitError, match=r"motioncorr_job\.star: missing"):
        launch.prepare(plan.make_plan(plan.Request("relion")), tmp_path / "runs")
    assert list((tmp_path / "runs/relion").iterdir()) == []


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    """What Class2D leaves of six particles in three classes."""
    import pandas as pd

    folder = tmp_path / "Class2D/job001"
    folder.mkdir(parents=True)
    (tmp_path / "Select/job002").mkdir(parents=True)
    classes = pd.DataFrame(
        {
            "rlnReferenceImage": [f"00000{n}@Class2D/job001/run_it025_classes.mrcs" for n in (1, 2, 3)],
            "rlnClassDistribution": [0.1, 0.6, 0.3],
            "rlnEstimatedResolution": [8.0, 12.0, 30.0],
        }
    )
    write_star(folder / "run_it025_model.star", {"model_classes": classes})
    lens = {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1}
    image = {"rlnImagePixelSize": 1.0, "rlnImageSize": 32, "rlnImageDimensionality": 2}
    optics = pd.DataFrame([{"rlnOpticsGroupName": "opticsGroup1", "rlnOpticsGroup": 1, **lens, **image}])
    particles = pd.DataFrame(
        {
            "rlnImageName": [f"{n:06d}@stack.mrcs" for n in range(6)],
            "rlnClassNumber": [1, 2, 2, 2, 3, 3],
            "rlnOpticsGroup": 1,
        }
    )
    write_star(folder / "run_it025_data.star", {"optics": optics, "particles": particles})
    for path in folder.iterdir():  # RELION takes a file without the word for one of a version before 3.1
        path.write_text("# version 30001\n" + path.read_text())
    return tmp_path


def selected(project: Path, rule: Rule) -> tuple[list[int], str]:
    """Class numbers of the particles that a rule keeps, by real RELION, and what the job printed."""
    model = "Class2D/job001/run_it025_model.star"
    job = Job(name="Select/job002/", type="select", commands=(), ranks=1, threads=1, inputs=(model,), outputs=())
    command = RUNTIMES["apptainer"].command(load_image("relion-basic"), [str(project)], {}, [], str(project))
    script = "set -euo pipefail\nin_image() { " + " ".join(command) + ' "$@"; }\n' + "\n".join(select(rule, job))
    result = subprocess.run(["bash", "-c", script], cwd=project, capture_output=True, text=True)
    if result.returncode:
        return [], f"{result.returncode}: {result.stderr}"
    from kit.benchmarks.relion.star import read_star

    kept = read_star(project / "Select/job002/particles.star")["particles"]
    return sorted(int(number) for number in kept["rlnClassNumber"]), result.stdout


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Rule(best=1), [2, 2, 2]),
        (Rule(best=2), [2, 2, 2, 3, 3]),
        (Rule(least_fraction=0.2), [2, 2, 2, 3, 3]),
        (Rule(worst_resolution=15), [1, 2, 2, 2]),
        (Rule(worst_resolution=15, best=1), [2, 2, 2]),
    ],
)
def test_rules_keep_classes(classified: Path, rule: Rule, kept: list[int]) -> None:
    found, said = selected(classified, rule)
    assert found == kept, said
    references = (classified / "Select/job002/class_averages.star").read_text()
    assert references.count("@") == len(set(kept))


def test_a_rule_that_keeps_nothing_ends_the_job(classified: Path) -> None:
    nothing, said = selected(classified, Rule(worst_resolution=5))
    assert nothing == []
    assert said.startswith("65: ")
    assert "no class of Class2D/job001/run_it025_model.star passes the rule" in said
    assert "worst_resolution 5" in said


def test_dry_run_of_a_workflow_leaves_nothing(tmp_path: Path) -> None:
    text = kit("run", "relion", "--dry-run", cwd=tmp_path).stdout
    assert text.startswith("#!/bin/bash\n")
    assert "relion_refine_mpi" in text
    assert "stage_initialmodel() {" in text
    assert list(tmp_path.iterdir()) == []


def test_relion_opens_the_project(made_runs: Path) -> None:
    """Every job of the run is marked as RELION marks it, and RELION's own pipeliner takes another job into the project."""
    (run,) = (made_runs / "relion").iterdir()
    copy = made_runs.parent / "opened"
    shutil.copytree(run, copy, symlinks=True)
    rows = pipeline_rows(copy, "processes")
    assert {row[3] for row in rows} == {"2"}
    assert len(rows) == len(load_workflow("generated").jobs)
    project = RelionProject(copy, load_image("relion-basic"))
    project.relion("relion_pipeliner", "--check_job_completion")
    job = project.schedule_job(workflow.FOLDER / "generated/maskcreate_job.star", fn_in="Refine3D/job016/run_class001.mrc")
    assert job.name == f"MaskCreate/job{len(rows) + 1:03d}/"
    assert len(pipeline_rows(copy, "processes")) == len(rows) + 1


def test_plasmodium_has_the_parameters_of_the_published_times(tmp_path: Path) -> None:
    """Those of RELION's standard benchmark, whose page gives them with the times of many machines."""
    numbers = {"acceleration": "", "random_seed": 0}
    many = Placement(nodes=2, ranks=9, ranks_per_node=5, threads=6, cores=30)
    image = load_image("relion-basic")
    stages = {stage.name: stage.command for stage in compose("plasmodium", tmp_path, image, "apptainer", many, numbers)}
    both = "--i Particles/shiny_2sets.star --ctf --iter 25 --particle_diameter 360 --zero_mask --oversampling 1 "
    both += "--offset_range 5 --offset_step 2 --norm --scale --random_seed 0"
    published = {
        "class2d": "--tau2_fudge 2 --K 200 --psi_step 6",
        "class3d": "--ref emd_2660.map:mrc --firstiter_cc --ini_high 60 --ctf_corrected_ref --tau2_fudge 4 --K 6 "
        "--flatten_solvent --healpix_order 2 --sym C1",
    }
    for name, own in published.items():
        composed = " ".join(stages[name].split())
        for words in f"{both} {own}".split(" --"):
            assert f"--{words.removeprefix('--')} " in composed, words
        assert "launch relion_refine_mpi" in composed
    assert "--skip_gridding" not in stages["class3d"]
    (tmp_path / "data/Particles").mkdir(parents=True)
    assert (tmp_path / "Particles").samefile(tmp_path / "data/Particles")


def published(name: str, directory: Path) -> dict[str, str]:
    """The commands of a workflow on published data, by stage, as they are on two nodes; blanks made one.

    The stages are those that the metrics of the size of that name are read from.
    """
    numbers = {**load_benchmark("relion").sizes[name].parameters, "acceleration": "", "random_seed": 1}
    many = Placement(nodes=2, ranks=9, ranks_per_node=5, threads=6, cores=30)
    stages = compose(name, directory, load_image("relion-basic"), "apptainer", many, numbers)
    load_benchmark("relion").resolve(name, stages)
    return {stage.name: " ".join(stage.command.split()) for stage in stages}


def require(commands: dict[str, str], wanted: dict[str, str]) -> None:
    """Every flag of `wanted`, with its value, is in the command of its stage."""
    for name, words in wanted.items():
        for word in words.split(" --"):
            assert f"--{word.removeprefix('--')} " in f"{commands[name]} ", (name, word)


def test_aldolase_has_the_parameters_that_were_published(tmp_path: Path) -> None:
    """Those of the command lines of the end-to-end benchmarks, whose times for whole nodes are published."""
    commands = published("aldolase", tmp_path)
    wanted = {
        "class2d": "--K 100 --iter 25 --tau2_fudge 2 --pad 2 --ctf --fast_subsets --flatten_solvent --zero_mask "
        "--oversampling 1 --psi_step 12 --offset_range 5 --offset_step 2 --norm --scale --particle_diameter 120 --pool 12",
        "class3d": "--K 4 --iter 25 --tau2_fudge 2 --firstiter_cc --ini_high 30 --pad 1 --skip_gridding "
        "--strict_highres_exp 7 --healpix_order 2 --sym D2 --pool 30 --solvent_mask",
        "refine3d": "--auto_refine --split_random_halves --ini_high 30 --healpix_order 2 --auto_local_healpix_order 4 "
        "--low_resol_join_halves 40 --sym D2",
        "maskcreate": "--lowpass 15 --ini_threshold 0.007 --extend_inimask 0 --width_soft_edge 5",
        "maskcreate_full": "--lowpass 15 --ini_threshold 0.001 --extend_inimask 0 --width_soft_edge 8",
        "postprocess": "--auto_bfac --autob_lowres 10 --angpix -1",
        "ctfrefine": "--fit_defocus --kmin_defocus 30 --fit_mode fpmff --fit_beamtilt --kmin_tilt 30",
        "extract_full": "--extract_size 512 --bg_radius 192 --recenter --invert_contrast",
        "select_duplicates": "--remove_duplicates 30 --image_angpix 0.56",
        "polish_train": "--min_p 10000 --eval_frac 0.5 --align_frac 0.5 --params3",
        "polish": "--combine_frames --bfac_minfreq 20 --bfac_maxfreq -1",
    }
    require(commands, wanted)
    steps = {step.name: step.dropped for step in load_workflow("aldolase").jobs}
    assert [name for name, why in steps.items() if why] == ["class3d_unmasked", "refine3d_2x"]
    assert steps.keys() - commands.keys() == {"class3d_unmasked", "refine3d_2x"}


def test_tutorial_has_the_parameters_of_the_tutorial(tmp_path: Path) -> None:
    commands = published("tutorial", tmp_path)
    wanted = {
        "import": "--angpix 0.885 --kV 200 --Cs 1.4 --Q0 0.1",
        "motioncorr": "--use_own --bfactor 150 --dose_per_frame 1.277 --patch_x 5 --patch_y 5 --gainref Movies/gain.mrc "
        "--dose_weighting --grouping_for_ps 3",  # 4 electrons a square angstrom
        "ctffind": "--Box 512 --ResMin 30 --ResMax 5 --dFMin 5000 --dFMax 50000 --FStep 500 --dAst 100 --use_given_ps",
        "autopick_log": "--LoG_diam_min 150 --LoG_diam_max 180 --LoG_upper_threshold 5",
        "extract": "--extract_size 256 --scale 64",
        "class2d": "--K 100 --iter 25 --tau2_fudge 2 --particle_diameter 200",
        "class3d": "--K 4 --iter 25 --tau2_fudge 4 --ini_high 50 --ctf_corrected_ref --sym C1",
        "reextract": "--extract_size 360 --scale 256 --recenter",
        "refine3d": "--sym D2 --ini_high 50 --firstiter_cc",
        "ctfrefine_aberrations": "--fit_beamtilt --odd_aberr_max_n 3 --fit_aberr",
        "ctfrefine_magnification": "--fit_aniso",
        "refine3d_polished": "--solvent_mask MaskCreate/job017/mask.mrc --solvent_correct_fsc",
        "polish_train": "--min_p 3500 --params3",
    }
    require(commands, wanted)
    assert "relion_align_symmetry --i Maps/refine3d_fn_ref.mrc" in commands["refine3d"]


def test_a_map_is_fitted_to_the_images_it_is_a_reference_of(tmp_path: Path) -> None:
    """By real RELION: another grid, and turned onto the axes of its symmetry."""
    import mrcfile
    import numpy as np

    from kit.benchmarks.relion import maps
    from kit.benchmarks.relion.maps import read_map

    grid = np.indices((32, 32, 32)) - 16.0
    turned = Rotation.from_euler("ZYZ", [20, 35, 50], degrees=True).as_matrix()
    z, y, x = np.einsum("ij,jabc->iabc", turned, grid)
    blob = np.exp(-((x / 4) ** 2) - (y / 7) ** 2 - (z / 10) ** 2)  # three axes of two-fold symmetry, askew
    with mrcfile.new(tmp_path / "map.mrc") as file:
        file.set_data(blob.astype(np.float32))
        file.voxel_size = 4.0
    wanted = Fit(pixel_size="{{ 2 * pixel }}", box=72, symmetry="D2")  # the program works on 64 voxels, and wants no fewer
    commands = fit("map.mrc", "Maps/out.mrc", wanted, lambda text: text.replace("{{ 2 * pixel }}", "2.0"))
    container = RUNTIMES["apptainer"].command(load_image("relion-basic"), [str(tmp_path)], {}, [], str(tmp_path))
    script = "set -euo pipefail\nin_image() { " + " ".join(container) + ' "$@"; }\n' + "\n".join(commands)
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    density, pixel = read_map(tmp_path / "Maps/out.mrc")
    assert density.shape == (72, 72, 72)
    assert pixel == pytest.approx(2.0)
    inside = maps.sphere(72, 50)
    for axis in range(3):
        half_turn = Rotation.from_rotvec(180 * np.eye(3)[axis], degrees=True)
        assert maps.correlation(maps.transform(density, half_turn, np.zeros(3)), density, inside) > 0.98
    half_turn = Rotation.from_rotvec([0, 0, 180], degrees=True)
    assert maps.correlation(maps.transform(blob, half_turn, np.zeros(3)), blob, maps.sphere(32, 28)) < 0.9


@pytest.mark.parametrize(("height", "code"), [(1.0, 0), (0.0, 65)])
def test_an_empty_mask_ends_its_job(tmp_path: Path, height: float, code: int) -> None:
    import mrcfile
    import numpy as np

    mask = np.zeros((16, 16, 16), dtype=np.float32)
    mask[8, 8, 8] = height
    (tmp_path / "MaskCreate/job001").mkdir(parents=True)
    mrcfile.write(tmp_path / "MaskCreate/job001/mask.mrc", mask, voxel_size=4.0)
    (tmp_path / "MaskCreate/job001/RELION_JOB_EXIT_SUCCESS").touch()
    container = RUNTIMES["apptainer"].command(load_image("relion-basic"), [str(tmp_path)], {}, [], str(tmp_path))
    script = (
        "set -euo pipefail\nin_image() { " + " ".join(container) + ' "$@"; }\n' + "\n".join(not_empty("MaskCreate/job001/"))
    )
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == code
    assert ("mask.mrc: empty, since no voxel of the map reaches inimask_threshold" in result.stderr) == bool(code)
    (mark,) = (tmp_path / "MaskCreate/job001").glob("RELION_JOB_EXIT_*")
    assert mark.name.endswith("FAILURE") == bool(code)
