"""A bundle: what it is made of, what it refuses, and an installer that trusts no file. Its wheels: tests/engine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Installed, kit
from fetches import FETCHES

from kit import bundle
from kit.benchmark import benchmark_names, load_benchmark
from kit.bundle import wheels
from kit.core import paths
from kit.core.checksums import SUMS, digest, read_sums
from kit.core.errors import KitError
from kit.core.files import write_json
from kit.data import generated
from kit.images.built import Record, record_path
from kit.images.render import load_image

SITE = """
description = "x"
contact = "x"
url = "https://localhost"
[partitions.cpu]
scheduler = "local"
cores = 2
arch = "{arch}"
[container]
runtime = "{runtime}"
mpi = "inside"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "far.toml"
    path.write_text(SITE.format(arch=platform.machine(), runtime="apptainer"))
    return path


@pytest.fixture
def stocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has an image of RELION and its particles, small ones; and wheels that nobody fetched."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("kit.runtimes.apptainer.singularity", lambda: ["apptainer"])

    def fetch(folder: Path, there: wheels.Target) -> None:
        folder.mkdir()
        (folder / "science_kit-0-py3-none-any.whl").write_text("no wheel")

    monkeypatch.setattr(wheels, "fetch", fetch)
    image = load_image("relion-basic")
    image.sif.parent.mkdir(parents=True)
    image.sif.write_bytes(b"an image")
    record = Record(
        name=image.name,
        arguments={},
        digest=digest(image.sif),
        recipe=image.recipe_digest,
        created=datetime.now(UTC),
        commit="1" * 40,
    )
    write_json(record_path(image.sif), record.model_dump(mode="json"))
    monkeypatch.setattr("kit.benchmarks.relion.Relion.generate", lambda self, folder, _: (folder / "x").write_text("data"))
    generated.make(load_benchmark("relion"), "particles")
    return tmp_path / "cache"


def test_a_bundle_has_everything_under_the_names_of_the_cache(stocked: Path, site: Path, tmp_path: Path) -> None:
    said: list[str] = []
    what = bundle.contents(["relion/particles"], str(site))
    bundle.write(what, tmp_path / "b", said.append)
    found = {path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*") if path.is_file()}
    sif = load_image("relion-basic").sif
    (data,) = (stocked / "data").iterdir()
    assert found == {
        SUMS,
        "install.sh",
        "scripts/relion-particles-relion-basic.sh",
        "sites/far.toml",
        "wheels/science_kit-0-py3-none-any.whl",
        f"images/{sif.name}",
        f"images/{record_path(sif).name}",
        f"data/{data.name}/x",
        f"data/{data.name}/manifest.json",
    }
    assert read_sums(tmp_path / "b").keys() == found - {SUMS}
    assert f"images/{sif.name}: 8 bytes" in said
    subprocess.run(["bash", "-n", tmp_path / "b/install.sh"], check=True)
    subprocess.run([Path(sys.executable).with_name("shellcheck"), tmp_path / "b/install.sh"], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "cache", "far.toml"]


@pytest.mark.parametrize("name", ["b.tar", "b.tar.zst"])
def test_an_archive_has_the_same_in_a_folder_of_its_name(name: str, stocked: Path, site: Path, tmp_path: Path) -> None:
    if name.endswith(".zst") and not bundle.shutil.which("zstd"):
        with pytest.raises(KitError, match="zstd is not on the PATH"):
            bundle.write(bundle.contents(["relion/particles"], str(site)), tmp_path / name, lambda text: None)
        return
    bundle.write(bundle.contents(["relion/particles"], str(site)), tmp_path / name, lambda text: None)
    subprocess.run(["tar", "--extract", "--file", tmp_path / name, "--directory", tmp_path], check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path / "b", check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", name, "cache", "far.toml"]
    if name == "b.tar":
        with tarfile.open(tmp_path / name) as tar:
            assert {(member.uid, member.uname) for member in tar} == {(0, "")}


def test_what_is_missing_is_named_with_the_command_that_makes_it(stocked: Path, site: Path) -> None:
    with pytest.raises(KitError, match=r"data/relion-tiny-\w+: not here; make it with kit data make relion --size tiny"):
        bundle.contents(["relion"], str(site))
    with pytest.raises(KitError, match=r"not here; fetch it with kit data get relion/tutorial"):
        bundle.contents(["relion/tutorial"], str(site))
    with pytest.raises(KitError, match=r"kit image build relion-5"):
        bundle.contents(["relion/particles"], str(site), images=["relion-5"])
    with pytest.raises(KitError, match=r"runs on relion-basic.* and --image names none"):
        bundle.contents(["relion/particles"], str(site), images=["horovod"])


def test_without_images_none_is_needed(stocked: Path, site: Path) -> None:
    load_image("relion-basic").sif.unlink()
    assert bundle.contents(["relion/particles"], str(site), without_images=True).sifs == []
    with pytest.raises(KitError, match="kit image build relion-basic"):
        bundle.contents(["relion/particles"], str(site))


@pytest.mark.parametrize(
    ("arch", "runtime", "message"),
    [("ppc64le", "apptainer", "its processors are ppc64le, and the images here"), ("", "docker", "runtime' is docker, and")],
)
def test_a_site_that_cannot_use_these_images_is_refused(
    arch: str, runtime: str, message: str, stocked: Path, site: Path
) -> None:
    site.write_text(SITE.format(arch=arch or platform.machine(), runtime=runtime))
    with pytest.raises(KitError, match=message):
        bundle.contents(["relion/particles"], str(site))
    assert bundle.contents(["relion/particles"], str(site), without_images=True).data


def test_an_image_or_data_that_changed_are_not_packed(stocked: Path, site: Path, tmp_path: Path) -> None:
    what = bundle.contents(["relion/particles"], str(site))
    sif = load_image("relion-basic").sif
    sif.write_bytes(b"another!")
    with pytest.raises(KitError, match=r"its checksum is sha256:\w+, but sha256:\w+ was built"):
        bundle.write(what, tmp_path / "b", lambda text: None)
    sif.write_bytes(b"an image")
    (what.data[0] / "x").write_text("dada")
    with pytest.raises(KitError, match="differs from the manifest"):
        bundle.write(what, tmp_path / "b", lambda text: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "far.toml"]  # nothing half-written


class Usage(NamedTuple):
    free: int


def test_nothing_is_overwritten_and_a_full_disk_is_noticed_before(
    stocked: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = bundle.contents(["relion/particles"], str(site))
    (tmp_path / "there").mkdir()
    with pytest.raises(KitError, match="exists; a bundle overwrites nothing"):
        bundle.write(what, tmp_path / "there", lambda text: None)
    with pytest.raises(KitError, match=r"a folder, a .tar or a .tar.zst"):
        bundle.write(what, tmp_path / "b.tar.gz", lambda text: None)
    monkeypatch.setattr(bundle.shutil, "disk_usage", lambda path: Usage(1000))
    with pytest.raises(KitError, match=r"300\.0 MB are needed and 1\.0 kB are free"):
        bundle.write(what, tmp_path / "b", lambda text: None)
    assert not (tmp_path / "b").exists()


@pytest.fixture
def packed(stocked: Path, site: Path, tmp_path: Path) -> Path:
    bundle.write(bundle.contents(["relion/particles"], str(site)), tmp_path / "b", lambda text: None)
    return tmp_path / "b"


def installed_by(folder: Path, prefix: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHON": sys.executable, "KIT_CACHE": f"{prefix}-cache", **environment}
    return subprocess.run(["bash", folder / "install.sh", prefix], env=variables, capture_output=True, text=True)


def test_the_installer_fills_the_cache_and_takes_back_a_kit_that_did_not_install(packed: Path, tmp_path: Path) -> None:
    """Its wheel is none."""
    result = installed_by(packed, tmp_path / "new")
    assert result.returncode != 0
    assert not (tmp_path / "new").exists()
    for folder in ("images", "data"):
        for name in os.listdir(packed / folder):
            assert (tmp_path / "new-cache" / folder / name).exists()
        assert len(os.listdir(tmp_path / "new-cache" / folder)) == len(os.listdir(packed / folder))
    sif = next((tmp_path / "new-cache/images").glob("*.sif"))
    sif.write_text("of this site")
    assert f"{sif}: is there already" in installed_by(packed, tmp_path / "new").stdout
    assert sif.read_text() == "of this site"


def test_the_installer_refuses(packed: Path, tmp_path: Path) -> None:
    def said(**environment: str) -> str:
        result = installed_by(packed, tmp_path / "new", **environment)
        assert result.returncode == 1
        assert not (tmp_path / "new").exists()
        assert not (tmp_path / "new-cache").exists()
        return result.stdout + result.stderr

    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.9 x86_64 cpython\n")
    other.chmod(0o755)
    assert "is '3.9 x86_64 cpython', and the wheels are for" in said(PYTHON=str(other))
    (packed / "wheels/added.whl").write_text("")
    assert "< wheels/added.whl" in said()
    (packed / "wheels/added.whl").unlink()
    path = next((packed / "images").glob("*.sif"))
    path.write_bytes(b"damaged!")
    assert f"images/{path.name}: FAILED" in said()
    path.unlink()
    assert "a file is missing or damaged" in said()
    (tmp_path / "new").mkdir()
    assert "exists; name a new folder" in installed_by(packed, tmp_path / "new").stderr


def wheel(folder: Path, name: str, tag: str, *requires: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-1-{tag}.whl", "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1", *(f"Requires-Dist: {text}" for text in requires)]
        archive.writestr(f"{name}-1.dist-info/METADATA", "\n".join(lines) + "\n\n")


THERE = wheels.target("3.12", "aarch64", "2.28")


def test_what_wheels_need_is_asked_of_the_target(tmp_path: Path) -> None:
    any_ = "py3-none-any"
    wheel(tmp_path, "pip", any_)
    wheel(tmp_path, "science_kit", any_, "a[fast]>=1", 'old; python_version < "3.12"', 'tests; extra == "dev"')
    wheel(tmp_path, "a", any_, 'arm; platform_machine == "aarch64"', 'quick<2; extra == "fast"', 'slow; extra == "slow"')
    wheel(tmp_path, "old", any_)
    assert wheels.closure(tmp_path, THERE) == ({"science-kit", "a", "pip"}, ["arm", "quick<2"])


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("py3-none-any", True),
        ("cp312-cp312-manylinux_2_28_aarch64", True),
        ("cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64", True),
        ("cp39-abi3-manylinux_2_17_aarch64", True),
        ("cp312-cp312-manylinux_2_34_aarch64", False),
        ("cp311-cp311-manylinux_2_28_aarch64", False),
        ("cp312-cp312-manylinux_2_28_x86_64", False),
        ("cp312-cp312-linux_aarch64", False),
    ],
)
def test_which_wheels_fit(tag: str, fits: bool) -> None:
    assert bool(wheels.parse_wheel_filename(f"x-1-{tag}.whl")[3] & THERE.tags) == fits


@pytest.mark.parametrize(("python", "glibc"), [("3.10", "2.28"), ("312", "2.28"), ("3.12", "2.5"), ("3.12", "8")])
def test_a_target_is_written_as_one(python: str, glibc: str) -> None:
    with pytest.raises(KitError, match="write it as"):
        wheels.target(python, "x86_64", glibc)


def test_pip_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"pip cannot fetch the wheels for x:\nERROR: .*nothing-of-this-name"):
        wheels.pip("download", "--no-index", "nothing-of-this-name", what="for x")


def test_an_installed_kit_packs_itself_as_it_was(installed: Installed, tmp_path: Path) -> None:
    """Its files, hashes and commit: the kit that is installed from it is the same."""
    code = f"from pathlib import Path; from kit.bundle.wheels import own_wheel; print(own_wheel(Path({str(tmp_path)!r})))"
    with zipfile.ZipFile(installed.python(code)) as archive:
        names = set(archive.namelist())
        assert archive.read("kit/commit.txt").decode().strip() == paths.commit()
        record = next(name for name in names if name.endswith("RECORD"))
        assert len(archive.read(record).splitlines()) == len(names)
    assert {"kit/bundle/__init__.py", "kit/templates/install.sh.j2", "kit/sites/local.toml"} <= names
    assert {name.partition("/")[2] for name in names if ".dist-info/" in name} >= {"METADATA", "WHEEL", "entry_points.txt"}
    assert not [name for name in names if name.endswith(("direct_url.json", "INSTALLER", ".pyc"))]


@pytest.mark.parametrize("command", ["pip install x", "curl -O x", "docker pull x", "x docker://debian", "apt-get update"])
def test_a_fetch_would_be_seen(command: str) -> None:
    assert FETCHES.search(f"    {command}\n")


# The stages of a workflow are RELION's to write, in its image: tests/engine/test_bundle.py.
SIZES = [(name, size) for name in benchmark_names() for size, is_ in load_benchmark(name).sizes.items() if not is_.workflow]


@pytest.mark.parametrize("site", ["local", "example-slurm"])
@pytest.mark.parametrize(("benchmark", "size"), SIZES)
def test_no_job_script_fetches(benchmark: str, size: str, site: str) -> None:
    words = ("--ranks", "3", "--threads", "1", "--nodes", "1")
    text = kit("run", benchmark, "--size", size, "--site", site, *words, "--dry-run").stdout
    assert "run_stage" in text
    assert [line for line in text.splitlines() if FETCHES.search(line)] == []


def test_what_runs_in_images_opens_no_connection() -> None:
    modules = re.compile(r"^\s*(?:import|from) (urllib|http|ftplib|requests|aiohttp|fsspec|s3fs|pooch)\b", re.M)
    assert modules.search("import os\nfrom urllib.request import urlopen\n")
    for path in (paths.PACKAGE / "stages").rglob("*.py"):
        assert not modules.search(path.read_text()), path
