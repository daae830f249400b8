"""Maps and particles of a run, scored again: what is honest passes, and each forgery is refused by its own rule."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.benchmark import load_benchmark
from kit.benchmarks.relion import accuracy, evidence, judge, maps, phantom
from kit.benchmarks.relion.star import read_star

BOX, PIXEL = 32, 10.6
STAR = "PostProcess/job024/postprocess.star"
Files = dict[str, Path]


def write_map(path: Path, density: maps.Array) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(density.astype(np.float32))
        file.voxel_size = PIXEL


def post(path: Path, first: maps.Array, second: maps.Array, mask: maps.Array) -> int:
    """Writes the postprocess.star of two half maps, with phases that were not randomised; returns the shell it reports."""
    masked = maps.fsc(first * mask, second * mask)
    shell = maps.crossing(masked, maps.HALF_MAPS)
    labels = ("UnmaskedMaps", "MaskedMaps")
    curves = {f"rlnFourierShellCorrelation{label}": maps.fsc(first, second) if "Un" in label else masked for label in labels}
    table = pd.DataFrame(
        {
            "rlnSpectralIndex": np.arange(len(masked)),
            "rlnAngstromResolution": [999.0, *(BOX * PIXEL / np.arange(1, len(masked)))],
            **curves,
            "rlnFourierShellCorrelationCorrected": masked,
            "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": np.zeros(len(masked)),
        }
    )
    phantom.write_star(path, {"general": {"rlnFinalResolution": BOX * PIXEL / shell}, "fsc": table})
    return shell


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of a session at the microscope, without its movies: a blob of density, and where its particles lie."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(2)
    facts = {"species": ["80S"], "bfactor": 120.0, "pixel_size": 3.54, "spacing": 310.0}
    (folder / "truth.json").write_text(json.dumps(facts))
    blob = maps.low_pass(rng.standard_normal((BOX,) * 3), 8) * maps.sphere(BOX, 250 / PIXEL)
    write_map(folder / "truth_80S.mrc", blob / blob.std())
    places = [(x, y) for x in (150.0, 400.0, 650.0) for y in (150.0, 400.0, 650.0)]
    angles = {f"rlnAngle{name}": rng.uniform(0, 170, len(places)) for name in ("Rot", "Tilt", "Psi")}
    columns = {"rlnCoordinateX": [x for x, _ in places], "rlnCoordinateY": [y for _, y in places]}
    table = pd.DataFrame({"rlnMicrographName": "movies/m1.mrcs", **columns, **angles, "rlnClassNumber": [1, 2, *[1] * 7]})
    phantom.write_star(folder / "truth.star", {"particles": table})
    return folder


@pytest.fixture(scope="module")
def run(session: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that finds the truth, up to noise; its poses are those of the data."""
    folder = tmp_path_factory.mktemp("run")
    for name in (STAR, "evidence/map.mrc"):
        (folder / name).parent.mkdir(parents=True)
    true = judge.truth_map(session, json.loads((session / "truth.json").read_text()), BOX, PIXEL)
    rng = np.random.default_rng(3)
    halves = [true + maps.low_pass(0.5 * rng.standard_normal(true.shape), 20) for _ in range(2)]
    mask = maps.sphere(BOX, 300 / PIXEL).astype(float)
    written = dict(zip(evidence.MAPS, (*halves, mask, (halves[0] + halves[1]) / 2), strict=True))
    for name, density in written.items():
        write_map(folder / "evidence" / name, density)
    densities = {name: maps.read_map(folder / "evidence" / name)[0] for name in written}
    shell = post(folder / STAR, densities["half1.mrc"], densities["half2.mrc"], mask)
    sphere = maps.sphere(BOX, judge.DIAMETER / PIXEL)
    density = densities["map.mrc"]
    particles = read_star(session / "truth.star")["particles"]
    phantom.write_star(folder / "evidence/particles.star", {"particles": particles})
    said = {
        "postprocess": {"shell": shell},
        "truth": {
            "correlation": maps.correlation(density, maps.low_pass(true, shell), sphere),
            "rotation_degrees": [0.0, 0.0, 0.0],
            "shift_angstrom": [0.0, 0.0, 0.0],
            "mirrored": False,
        },
        "fsc": {"truth": maps.fsc(density * sphere, true * sphere).tolist()},
        "refine3d": judge.poses(accuracy.Truth.read(session).match(folder / "evidence/particles.star")),
    }
    (folder / "evaluation.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def files(run: Path, tmp_path: Path) -> Files:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    return {path.relative_to(copy).as_posix(): path for path in copy.rglob("*") if path.is_file()}


@pytest.fixture
def found(files: Files, session: Path) -> Callable[[], set[str]]:
    return lambda: {rule for rule, _, _ in evidence.score_again(files, session)}


def edit(files: Files, *keys: str, value: Any) -> None:
    said = json.loads(files["evaluation.json"].read_text())
    inner = said
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    files["evaluation.json"].write_text(json.dumps(said))


def maps_of(files: Files) -> dict[str, maps.Array]:
    return {name: maps.read_map(files[f"evidence/{name}"])[0] for name in evidence.MAPS}


def test_honest_maps_have_the_scores(files: Files, session: Path) -> None:
    assert list(evidence.score_again(files, session)) == []


def test_one_half_map_twice(files: Files, found: Callable[[], set[str]]) -> None:
    """The forger writes the curve of his two equal maps, which is 1 everywhere."""
    one = maps_of(files)
    write_map(files["evidence/half2.mrc"], 2 * one["half1.mrc"])
    shell = post(files[STAR], one["half1.mrc"], one["half1.mrc"], one["mask.mrc"])
    edit(files, "postprocess", "shell", value=shell)
    assert "evidence-copy" in found()


def test_half_maps_of_something_else(files: Files, found: Callable[[], set[str]]) -> None:
    """They agree with each other and with the curve, and have nothing to do with the map."""
    rng = np.random.default_rng(9)
    common = maps.low_pass(rng.standard_normal((BOX,) * 3), 10)
    noise = [common + 0.1 * rng.standard_normal(common.shape) for _ in range(2)]
    for number, density in enumerate(noise, 1):
        write_map(files[f"evidence/half{number}.mrc"], density)
    one = maps_of(files)
    edit(files, "postprocess", "shell", value=post(files[STAR], one["half1.mrc"], one["half2.mrc"], one["mask.mrc"]))
    assert "evidence-map" in found()


def test_map_of_noise(files: Files, found: Callable[[], set[str]]) -> None:
    write_map(files["evidence/map.mrc"], np.random.default_rng(1).standard_normal((BOX,) * 3))
    assert {"evidence-map", "evidence-truth"} <= found()


def test_forged_curve(files: Files, found: Callable[[], set[str]]) -> None:
    one = maps_of(files)
    better = one["half1.mrc"] + 0.5 * one["half2.mrc"]
    post(files[STAR], better, one["half2.mrc"], one["mask.mrc"])
    assert "evidence-fsc" in found()


def test_another_mask(files: Files, found: Callable[[], set[str]]) -> None:
    write_map(files["evidence/mask.mrc"], maps.sphere(BOX, 12).astype(float))
    assert "evidence-fsc" in found()


@pytest.mark.parametrize(
    ("keys", "value", "rule"),
    [
        (("postprocess", "shell"), 3, "evidence-fsc"),
        (("truth", "correlation"), 0.9999, "evidence-truth"),
        (("truth", "rotation_degrees"), [0.0, 0.0, 90.0], "evidence-truth"),
        (("truth", "mirrored"), True, "evidence-truth"),
        (("truth", "correlation"), float("nan"), "evidence-truth"),
        (("fsc", "truth"), [1.0] * (BOX // 2 + 1), "evidence-truth"),
        (("fsc", "truth"), [], "evidence-truth"),
        (("refine3d", "pose", "error"), 0.5, "evidence-particles"),
        (("refine3d", "purity"), 0.99, "evidence-particles"),
        (("refine3d", "particles"), 5, "evidence-particles"),
    ],
)
def test_forged_score(files: Files, found: Callable[[], set[str]], keys: tuple[str, ...], value: Any, rule: str) -> None:
    edit(files, *keys, value=value)
    assert rule in found()


def test_particles_of_other_data(files: Files, found: Callable[[], set[str]]) -> None:
    table = read_star(files["evidence/particles.star"])["particles"]
    for axis in "XY":
        table[f"rlnCoordinate{axis}"] = np.random.default_rng(4).uniform(100, 900, len(table))
    phantom.write_star(files["evidence/particles.star"], {"particles": table})
    assert found() == {"evidence-particles"}
    phantom.write_star(files["evidence/particles.star"], {"particles": table.assign(rlnMicrographName="other.mrc")})
    assert found() == {"evidence-particles"}


def header(columns: int, rows: int, sections: int, mode: int, extended: int = 0) -> bytes:
    return struct.pack("<4i", columns, rows, sections, mode).ljust(92, b"\0") + struct.pack("<i", extended).ljust(932, b"\0")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MAP " * 100,
        header(32, 32, 32, 2),
        header(2**31 - 1, 2**31 - 1, 2**31 - 1, 2),
        header(-32, -32, -32, 2) + bytes(131072),
        header(32, 32, 16, 2) + bytes(65536),
        header(32, 32, 32, 0) + bytes(32768),
        header(32, 32, 32, 2, -131072),
        header(32, 32, 32, 2, 4) + bytes(131072),
    ],
)
def test_hostile_maps(files: Files, found: Callable[[], set[str]], content: bytes) -> None:
    files["evidence/half1.mrc"].write_bytes(content)
    assert found() == {"evidence-form"}


@given(start=st.binary(max_size=200), size=st.integers(0, 2000))
def test_any_bytes_are_judged(start: bytes, size: int) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(start.ljust(size, b"\0"))
        file.flush()
        assert evidence.unreadable(Path(file.name))


def test_no_numbers_and_another_box(files: Files, found: Callable[[], set[str]]) -> None:
    with pytest.warns(RuntimeWarning, match="NaN"):
        write_map(files["evidence/half1.mrc"], np.full((BOX,) * 3, np.nan))
    assert found() == {"evidence-form"}
    write_map(files["evidence/half1.mrc"], np.ones((16,) * 3))
    assert found() == {"evidence-form"}


def test_published_data_have_no_truth(files: Files, tmp_path: Path) -> None:
    write_map(files["evidence/map.mrc"], maps_of(files)["half1.mrc"])
    assert list(evidence.score_again(files, tmp_path)) == []


def test_which_runs_leave_what() -> None:
    code = load_benchmark("relion").code
    whole = code.evidence(
        ["motioncorr", "refine3d", "maskcreate", "postprocess", "refine3d_polished", "postprocess_polished"]
    )
    assert list(whole) == [*evidence.MAPS, "particles.star"]
    assert list(code.evidence(["refine3d", "maskcreate", "postprocess"])) == list(evidence.MAPS)
    assert not code.evidence(["refine3d"])


def test_files_are_those_of_the_last_refinement(tmp_path: Path) -> None:
    jobs = {"motioncorr": "M/", "refine3d": "R1/", "maskcreate": "K/", "postprocess": "P/", "refine3d_polished": "R2/"}
    (tmp_path / "workflow.json").write_text(json.dumps({"jobs": jobs}))
    for folder, name in (("R1", "run_data.star"), ("R2", "run_half1_class001_unfil.mrc"), ("K", "mask.mrc")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(folder)
    writers = evidence.writers(list(jobs))
    for name, folder in (("particles.star", "R1"), ("half1.mrc", "R2"), ("mask.mrc", "K")):
        writers[name](tmp_path, tmp_path / name)
        assert (tmp_path / name).read_text() == folder
