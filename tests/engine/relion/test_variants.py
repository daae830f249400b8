"""The variants of RELION give one answer, within what repeats of one variant differ by; and a different one is noticed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import mrcfile
import pytest
from conftest import in_docker, kit

from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.agreement import last_map
from kit.benchmarks.relion.star import read_star
from kit.images.built import docker_client, docker_has
from kit.images.render import load_image
from kit.runs.compare import compare, load_repeats


def ran(image: str, runs: Path) -> Path:
    """A collected run of size particles: all variants begin with the same particles and the same reference."""
    words = ["run", "relion", "--size", "particles", "--image", image, "--wait"]
    run = kit(*words, env={"KIT_RUNS": str(runs)}).stdout.strip()
    kit("collect", run)
    return Path(run)


@pytest.fixture(scope="session")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran("relion-basic", tmp_path_factory.mktemp("basic"))


@pytest.fixture(scope="session")
def accelerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran("relion-accelerated", tmp_path_factory.mktemp("accelerated"))


def test_the_variant_that_was_asked_for_ran(basic: Path, accelerated: Path) -> None:
    binaries = [json.loads((run / "evaluation.json").read_text())["binary"] for run in (basic, accelerated)]
    assert binaries[0] == {"version": "3.1.3", "precision": "BASE=double"}
    assert binaries[1].pop("kernels") in ("avx2", "avx512")
    assert binaries[1] == {"version": "3.1.3", "precision": "BASE=double, VECTOR-ACC=single"}


def test_basic_and_accelerated_agree(basic: Path, accelerated: Path) -> None:
    repeats = load_repeats("relion", "particles")
    assert len(repeats.seeds) >= 5
    text = kit("compare", str(basic), str(accelerated)).stdout
    assert "differ by no more than repeats do" in text
    compared = json.loads(kit("compare", str(basic), str(accelerated), "--json").stdout)
    names = {row["name"] for row in compared["rows"]}
    assert {"major_class_fraction", "resolution_shell", "map_fsc"} <= names
    assert all(row["difference"] <= row["allowed"] for row in compared["rows"])


@pytest.fixture
def copied(accelerated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(accelerated, tmp_path / "copy", symlinks=True))


def test_a_wrong_map_is_noticed(basic: Path, copied: Path) -> None:
    """One half of the map turned against the other: the same resolution and the same classes."""
    with mrcfile.open(last_map(copied), "r+") as file:
        density = file.data.copy()
        half = len(density) // 2
        density[:half] = density[:half, ::-1, ::-1]
        file.set_data(density)
    text = kit("compare", str(basic), str(copied), code=1).stdout
    assert re.search(r"map_fsc .* more than repeats differ", text)


def test_another_class_distribution_is_noticed(basic: Path, copied: Path) -> None:
    run = json.loads((copied / "run.json").read_text())
    (metric,) = [m for m in run["metrics"] if m["name"] == "major_class_fraction"]
    metric["value"] = 0.3
    (copied / "run.json").write_text(json.dumps(run))
    text = kit("compare", str(basic), str(copied), code=1).stdout
    assert "differ in major_class_fraction by more than repeats do" in text


def test_versions_are_not_compared_in_silence(basic: Path, copied: Path) -> None:
    run = json.loads((copied / "run.json").read_text())
    run["image"]["version"] = "5.1.0"
    (copied / "run.json").write_text(json.dumps(run))
    assert "These are two versions, 3.1.3 and 5.1.0" in kit("compare", str(basic), str(copied)).stdout


def test_other_data_are_not_compared_at_all(basic: Path, copied: Path) -> None:
    run = json.loads((copied / "run.json").read_text())
    run["data"] = "sha256:" + "0" * 64
    (copied / "run.json").write_text(json.dumps(run))
    assert "differ in data" in kit("compare", str(basic), str(copied), code=1).stderr


def test_a_result_of_the_wrong_binary_is_refused(copied: Path) -> None:
    (copied / "version.txt").write_text("RELION version: 3.1.3 \nPrecision: BASE=double\n")
    assert "relion-accelerated holds RELION 3.1.3 with" in kit("collect", str(copied), code=1).stdout
    (copied / "version.txt").write_text("RELION version: 3.1.3 \nPrecision: BASE=double, VECTOR-ACC=single \n")
    log = copied / "logs/class3d.out"
    log.write_text(log.read_text().replace("Accelerated kernels", "Plain code"))
    assert "no accelerated kernels ran" in kit("collect", str(copied), code=1).stdout


def attempt(name: str, script: str, bind: Path, environment: dict[str, str] | None = None) -> str:
    """What a script prints that may fail; then it ends in `failed with` and the exit code."""
    return in_docker(name, f"{script} || echo failed with $?", bind, environment)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("particles")
    (folder / "data").mkdir()
    (folder / "out").mkdir()
    phantom.generate(folder / "data", phantom.Settings(particles=60, box=48, pixel_size=7.1))
    return folder


CLASS2D = "--K 3 --iter 4 --tau2_fudge 2 --psi_step 12 --offset_range 3 --offset_step 1"
CLASS3D = "--K 2 --iter 4 --ref data/reference.mrc --firstiter_cc --ini_high 60 --healpix_order 1 --offset_range 3"
LOCAL = f"{CLASS3D} --sigma_ang 5 --sym D2"
COMMON = (
    "--i data/particles.star --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale"
)


@pytest.mark.parametrize("job", [CLASS2D, CLASS3D, LOCAL], ids=["class2d", "class3d", "local"])
def test_kernels_agree_with_each_other_and_with_the_plain_code(particles: Path, job: str) -> None:
    """AVX2, AVX-512 and RELION's own plain code in one binary: expected weights, classes and resolution of each particle."""
    paths = {"avx2": "--cpu", "plain": ""}
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        paths["avx512"] = "--cpu"
    models = {}
    for kernels, option in paths.items():
        name = f"out/{kernels}-{abs(hash(job))}"
        command = f"relion_refine {COMMON} {job} --o {name} --random_seed 1 --j 2 {option}"
        environment = {"RELION_KERNELS": kernels} if option else {}
        log = attempt("relion-accelerated", command, particles, environment)
        assert "failed with" not in log, log[-2000:]
        assert (f"Accelerated kernels: {kernels}" in log) == bool(option)
        models[kernels] = read_star(particles / f"{name}_it004_model.star")
    for kernels in paths:
        general, classes = (models[kernels][block] for block in ("model_general", "model_classes"))
        own, own_classes = (models["avx2"][block] for block in ("model_general", "model_classes"))
        # Between two widths only the order of sums differs; the plain code is double throughout.
        tolerance = 0.05 if kernels == "plain" else 0.002
        assert float(general["rlnAveragePmax"]) == pytest.approx(float(own["rlnAveragePmax"]), abs=tolerance)
        found = sorted(float(x) for x in classes["rlnClassDistribution"])
        assert found == pytest.approx(sorted(float(x) for x in own_classes["rlnClassDistribution"]), abs=tolerance)
        if kernels != "plain":
            assert float(general["rlnLogLikelihood"]) == pytest.approx(float(own["rlnLogLikelihood"]), rel=1e-4)


def test_code_path_is_chosen_by_the_processor(tmp_path: Path) -> None:
    script = "relion_refine --version"
    assert "RELION version" in attempt("relion-accelerated", script, tmp_path)
    answer = attempt("relion-accelerated", script, tmp_path, {"RELION_KERNELS": "avx1024"})
    assert "RELION_KERNELS=avx1024: known: avx2, avx512" in answer
    assert "failed with 1" in answer


def test_unsupported_processor_gets_a_sentence(tmp_path: Path) -> None:
    """Emulated: a Nehalem knows no AVX2, a Haswell no AVX-512."""
    script = (
        "exec 2>&1; (apt-get update && apt-get install -y --no-install-recommends qemu-user) >/dev/null; "
        "p=/opt/relion/bin/relion_refine; "
        "qemu-x86_64 -cpu Nehalem $p --version; echo nehalem $?; qemu-x86_64 -cpu Haswell $p --version; echo haswell $?; "
        "RELION_KERNELS=avx512 qemu-x86_64 -cpu Haswell $p --version; echo asked $?"
    )
    answer = attempt("relion-accelerated", script, tmp_path)
    nehalem, rest = answer.split("nehalem 1")
    assert "this processor has no AVX2 (x86-64-v3), which this image needs; use the image relion-basic here" in nehalem
    haswell, asked = rest.split("haswell 0")
    assert "RELION version: 3.1.3" in haswell
    assert "this processor has no AVX-512" in asked
    assert "asked 1" in asked


# Of the session, so that they skip a test before its runs are made.
@pytest.fixture(scope="session")
def cuda() -> str:
    if not docker_has(load_image("relion-cuda").tag):
        pytest.skip("not built here: make image/relion-cuda")
    return "relion-cuda"


@pytest.fixture(scope="session")
def device() -> None:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has no NVIDIA device")


@pytest.fixture(scope="session")
def relion_5() -> None:
    if not load_image("relion-5").sif.is_file():
        pytest.skip("not built here: make image/relion-5")


def test_cuda_holds_device_code_for_each_architecture(cuda: str, tmp_path: Path) -> None:
    wanted = load_image(cuda).arguments["architectures"].split(",")
    assert attempt(cuda, "cat /opt/relion/architectures.txt", tmp_path).split() == [f"sm_{a}" for a in wanted]
    assert "not found" not in attempt(cuda, "ldd /opt/relion/bin/relion_refine", tmp_path)


def test_cuda_without_a_device_says_what_to_do(cuda: str, particles: Path) -> None:
    if docker_client().info()["Runtimes"].get("nvidia"):
        pytest.skip("this machine has a GPU runtime")
    answer = attempt(cuda, f"relion_refine {COMMON} {CLASS2D} --o out/nodevice --gpu", particles)
    assert "no CUDA device is seen; start the container with --nv" in answer
    assert "failed with 1" in answer


def test_cuda_image_gives_the_basic_answer_on_the_cpu(cuda: str, particles: Path) -> None:
    command = f"relion_refine {COMMON} {CLASS3D} --random_seed 1 --j 2"
    for name in ("relion-basic", cuda):
        assert "failed with" not in attempt(name, f"{command} --o out/{name}", particles)
    models = [read_star(particles / f"out/{name}_it004_model.star") for name in ("relion-basic", cuda)]
    pmax = [float(model["model_general"]["rlnAveragePmax"]) for model in models]
    assert pmax[0] == pytest.approx(pmax[1], abs=1e-3)


@pytest.mark.usefixtures("device")
def test_cuda_on_a_device_agrees(cuda: str, basic: Path, tmp_path: Path) -> None:
    site = tmp_path / "gpu.toml"
    text = Path("kit/sites/local.toml").read_text()
    site.write_text(text.replace('launcher = "mpirun"\n', 'launcher = "mpirun"\ngpus = 1\n'))
    words = ["run", "relion", "--size", "particles", "--image", cuda, "--site", str(site), "--wait"]
    run = kit(*words, env={"KIT_RUNS": os.fspath(tmp_path)})
    kit("collect", run.stdout.strip())
    kit("compare", str(basic), run.stdout.strip())


@pytest.mark.usefixtures("relion_5")
def test_relion_5_runs_the_benchmark(basic: Path, tmp_path: Path) -> None:
    run = ran("relion-5", tmp_path)
    assert json.loads((run / "evaluation.json").read_text())["binary"]["version"] == "5.1.0"
    # Whether they differ by more than repeats is for a person to read: the versions differ in their algorithms.
    assert any("two versions" in remark for remark in compare(basic, run).remarks)
