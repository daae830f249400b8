"""Packs: what a stage of a real run read, taken elsewhere, run alone there, and refused when it is not what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from conftest import kit
from scipy import ndimage

from kit.benchmarks.relion.judge import evaluate
from kit.benchmarks.relion.star import read_star
from kit.benchmarks.relion.workflow import JOBS, folders


@pytest.fixture(scope="module")
def run(made_runs: Path) -> Path:
    (run,) = (made_runs / "relion").iterdir()
    return run


@pytest.fixture(scope="module")
def alone(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Class3D alone."""
    runs = tmp_path_factory.mktemp("alone")
    return Path(kit("run", "relion", "--isolated", str(pack), "--runs", str(runs)).stdout.strip())


@pytest.fixture(scope="module")
def pack(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packs") / "class3d"
    assert kit("data", "pack", str(run), "--stage", "class3d", "--to", str(target)).stdout.strip() == str(target)
    return target


def images(star: Path, root: Path) -> list[np.ndarray]:
    found = []
    for name in read_star(star)["particles"]["rlnImageName"]:
        number, stack = name.split("@")
        with mrcfile.mmap(root / stack) as file:
            found.append(np.array(file.data[int(number) - 1]))
    return found


def test_it_holds_what_the_stage_read_and_nothing_else(run: Path, pack: Path, tmp_path: Path) -> None:
    said = kit("data", "verify", str(pack)).stdout
    assert "stage class3d of relion, size tiny, made by relion-basic 3.1.3" in said
    selected = run / folders(run)["select2d"] / "particles.star"
    (tmp_path / "data").symlink_to(pack)
    for one, other in zip(images(selected, run), images(pack / "particles.star", tmp_path), strict=True):
        assert np.array_equal(one, other)
    held = sum(mrcfile.mmap(path).data.shape[0] for path in (pack / "particles").iterdir())
    assert held == len(read_star(selected)["particles"])
    initial = next((run / folders(run)["initialmodel"]).glob("*it020_class001.mrc"))
    assert (pack / "ref.mrc").read_bytes() == initial.read_bytes()


def test_a_stage_runs_alone(alone: Path, tmp_path: Path) -> None:
    found = json.loads(kit("collect", str(alone), "--json").stdout)
    assert (found["state"]["name"], found["size"], found["isolated"]) == ("valid", "tiny", "class3d")
    assert [stage["name"] for stage in found["stages"]] == ["ranks", "identify", "class3d"]
    assert {metric["name"] for metric in found["metrics"]} == {"major_class_fraction", "class_assignment_accuracy"}
    assert "nothing says how far two runs may differ" in kit("compare", str(alone), str(alone), code=1).stderr
    names = ("--to", str(tmp_path / "submissions"), "--organisation", "trial")
    folder = kit("submission", "pack", str(alone), *names).stdout.strip()
    assert "accepted" in kit("submission", "check", folder).stdout
    assert "stage `class3d` alone" in (Path(folder) / "README.md").read_text()
    assert "cannot be run alone" in kit("data", "pack", str(alone), "--stage", "identify", "--to", "x", code=1).stderr


def test_without_a_truth_the_map_of_the_data_is_the_judge(alone: Path, pack: Path, tmp_path: Path) -> None:
    """As for published data; a map of something else stands out."""
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(alone, run, symlinks=True)
    shutil.copytree(pack, data, ignore=shutil.ignore_patterns("truth*"))
    (run / "data").unlink()
    (run / "data").symlink_to(data)
    names = json.loads((run / JOBS).read_text())
    (run / JOBS).write_text(json.dumps({**names, "reference": "ref.mrc"}))
    evaluate(run, 3)
    found = json.loads((run / "evaluation.json").read_text())
    assert sum(found["class3d"]["fractions"]) == pytest.approx(1, abs=1e-4)
    assert found["reference"]["correlation"] > 0.7
    with mrcfile.open(data / "ref.mrc", "r+") as file:
        rng = np.random.default_rng(0)
        file.set_data(ndimage.gaussian_filter(rng.normal(size=file.data.shape), 2).astype(np.float32))
    evaluate(run, 3)
    assert json.loads((run / "evaluation.json").read_text())["reference"]["correlation"] < 0.5


def test_a_changed_byte_is_refused(pack: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pack"
    shutil.copytree(pack, copy)
    stack = next((copy / "particles").iterdir())
    content = bytearray(stack.read_bytes())
    content[-1] ^= 1
    stack.write_bytes(content)
    said = kit("run", "relion", "--isolated", str(copy), "--runs", str(tmp_path / "runs"), code=1).stderr
    assert f"{stack}: differs from the manifest of the data set; fetch or make the pack again" in said
    assert not (tmp_path / "runs").exists()
    stack.unlink()
    assert f"{stack}: missing" in kit("data", "verify", str(copy), code=1).stderr
    assert "not a pack, it has no pack.json" in kit("data", "verify", str(tmp_path), code=1).stderr


def test_a_pack_is_for_its_own_size(pack: Path, tmp_path: Path) -> None:
    words = ("run", "relion", "--size", "particles", "--isolated", str(pack), "--runs", str(tmp_path))
    assert f"kit run relion --size tiny --isolated {pack}" in kit(*words, code=1).stderr


def test_what_can_not_be_packed(run: Path, pack: Path, tmp_path: Path) -> None:
    def refused(run: Path, stage: str, to: Path) -> str:
        return kit("data", "pack", str(run), "--stage", stage, "--to", str(to), code=1).stderr

    assert "did you mean class3d" in refused(run, "clas3d", tmp_path / "x")
    assert "stage import: cannot be run alone, since no metric judges it" in refused(run, "import", tmp_path / "x")
    assert "jobs that can: class2d, class3d, refine3d" in refused(run, "motioncorr", tmp_path / "x")
    assert "a pack is never overwritten" in refused(run, "class3d", pack)
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    (copy / "run.json").write_text((copy / "run.json").read_text().replace('"name": "valid"', '"name": "finished"'))
    assert "only a valid run can be packed" in refused(copy, "class3d", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
