"""Each image in both formats: what it holds, that it works, that both formats agree, as root and as an ordinary user."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, in_docker, kit

from kit.benchmarks.relion import phantom
from kit.core import paths
from kit.core.errors import KitError
from kit.images import build
from kit.images.build import build_docker, build_sif
from kit.images.built import built_sif, docker_client, docker_has, inspect
from kit.images.recipes import RECIPES, parts
from kit.images.render import INVENTORY, load_image
from kit.images.trust import oci_archive

SINGULARITY = ["apptainer", "exec", "--no-privs", "--no-home"]
# What `make test` builds.
ALWAYS = [name for name, recipe in RECIPES.items() if recipe.TESTED]


@pytest.fixture(params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    """Every image; those that are built on demand are skipped where they are not there."""
    image = load_image(request.param)
    if request.param not in ALWAYS and not (docker_has(image.tag) and image.sif.is_file()):
        pytest.skip(f"not built here: make image/{request.param}")
    return str(request.param)


def in_sif(path: Path, script: str, bind: Path | None = None, **options: object) -> str:
    binds = ["--bind", str(bind), "--pwd", str(bind)] if bind else []
    result = subprocess.run(
        [*SINGULARITY, *binds, str(path), "sh", "-c", script], capture_output=True, text=True, timeout=300, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_selftest_in_both_formats(name: str) -> None:
    test = RECIPES[name].TEST
    in_docker(name, test)
    in_sif(built_sif(load_image(name)), test)


def test_describes_itself(name: str) -> None:
    for format in ("docker", "sif"):
        facts = inspect(load_image(name), format)  # type: ignore[arg-type]
        assert facts["digest"].startswith("sha256:")
        labels = facts["labels"]
        assert labels["org.opencontainers.image.title"] == name
        assert labels["org.opencontainers.image.version"] == RECIPES[name].VERSION
        assert labels["kit.recipe"] == facts["recipe"]
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
        assert labels["org.opencontainers.image.created"] <= datetime.now(UTC).isoformat()
        assert len(facts["debian"]) > 50
        assert facts["sources"] == [f"{s['name']}={s['version']}" for s in RECIPES[name].SOURCES]
    assert sum(layer["bytes"] for layer in inspect(load_image(name), "docker")["layers"]) > 1e8


def test_holds_what_it_is_named_for() -> None:
    assert "relion=3.1.3-4" in " ".join(inspect(load_image("relion-basic"), "sif")["debian"])
    assert not [p for p in inspect(load_image("relion-accelerated"), "sif")["debian"] if p.startswith("relion=")]
    python = inspect(load_image("horovod"), "sif")["python"]
    assert {"horovod==0.28.1", "tensorflow-cpu==2.15.1"} <= set(python)


def test_no_build_tools(name: str) -> None:
    sif = built_sif(load_image(name))
    assert in_sif(sif, "for p in gcc g++ cc make cmake ninja pip nvcc; do command -v $p || true; done").strip() == ""
    empty = "/usr/include /usr/src /var/lib/apt/lists /var/cache/apt /var/cache/ldconfig"
    assert in_sif(sif, f"find {empty} -type f").strip() == ""
    assert in_sif(sif, "find /usr/lib /opt -name '*.a' | head").strip() == ""


def test_size(name: str) -> None:
    assert inspect(load_image(name), "sif")["size"] < RECIPES[name].MEGABYTES * 1e6


IMPORTED = """
import os, sys, tensorflow
files = [m for m in list(sys.modules.values()) if (getattr(m, "__file__", None) or "").startswith("/opt/venv/")]
files = [m for m in files if m.__file__.endswith(".py")]
print(len(files), [m.__name__ for m in files if not os.path.isfile(m.__cached__)])
"""


@pytest.mark.parametrize("name", ["horovod", "horovod-cuda", "keras"], indirect=True)
def test_what_a_rank_imports_is_compiled(name: str) -> None:
    """Where it is not, each rank compiles it before it begins."""
    count, _, missing = in_sif(built_sif(load_image(name)), f"/opt/venv/bin/python3 -c '{IMPORTED}'").partition(" ")
    assert int(count) > 1000
    assert missing.strip() == "[]"


def test_licences_are_in_the_image(name: str) -> None:
    sif = built_sif(load_image(name))
    assert int(in_sif(sif, "ls /usr/share/doc/*/copyright | wc -l")) > 50


def test_ctffind_estimates_a_generated_micrograph(tmp_path: Path) -> None:
    """Debian's own ctffind hangs or crashes here. A micrograph of noise with a known CTF must give its defocus back."""
    import mrcfile

    n, pixel, defocus = 512, 2.0, 15000.0
    k = phantom.frequencies(n, pixel)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    transfer = phantom.ctf(kx, ky, defocus, defocus, 0.0, 300.0, 2.7, 0.1)
    rng = np.random.default_rng(0)
    image = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, n))) * transfer).real + rng.normal(size=(n, n)) * 0.3
    with mrcfile.new(tmp_path / "micrograph.mrc") as file:
        file.set_data(image.astype(np.float32))
        file.voxel_size = pixel
    # image, output, pixel, kV, Cs, Q0, box, minimum and maximum resolution, defocus range and step, and five plain answers
    answers = "micrograph.mrc\nout.mrc\n2.0\n300\n2.7\n0.1\n256\n50\n6\n5000\n30000\n100\nno\nno\nno\nno\nno\n"
    (tmp_path / "answers").write_text(answers)
    for run in (
        lambda: in_docker("relion-basic", "timeout 120 ctffind <answers", tmp_path),
        lambda: in_sif(built_sif(load_image("relion-basic")), "timeout 120 ctffind <answers", tmp_path),
    ):
        (tmp_path / "out.txt").unlink(missing_ok=True)
        run()
        line = (tmp_path / "out.txt").read_text().splitlines()[-1].split()
        assert float(line[1]) == pytest.approx(defocus, abs=200)
        assert float(line[2]) == pytest.approx(defocus, abs=200)


@pytest.fixture(scope="module")
def alone() -> Path:
    """relion-basic built from its definition alone, without the Docker image."""
    return build_sif(load_image("relion-basic"), "recipe")


def test_both_recipes_hold_the_same_and_answer_the_same(alone: Path, tmp_path: Path) -> None:
    packages = f"cat {INVENTORY}/debian.tsv"
    assert in_sif(alone, packages).split() == in_docker("relion-basic", packages).split()
    phantom.generate(tmp_path, phantom.Settings(particles=60))
    data = tmp_path / "work"
    data.mkdir()
    shutil.move(tmp_path / "particles.star", data)
    (data / "data").mkdir()
    shutil.move(tmp_path / "particles.mrcs", data / "data")
    command = (
        "mkdir -p {0} && relion_refine --i particles.star --o {0}/run --iter 2 --K 2 --ctf --particle_diameter 310 "
        "--psi_step 12 --offset_range 2 --offset_step 1 --random_seed 1 --j 1 && grep -v '^#' {0}/run_it002_model.star"
    )
    answers = []
    for name, run in (
        ("docker", lambda c: in_docker("relion-basic", c, data)),
        ("sif", lambda c: in_sif(alone, c, data)),
    ):
        text = run(command.format(name))
        answers.append(text[text.index("data_model_general") :].replace(f"{name}/run", "run"))
    assert answers[0] == answers[1]


@pytest.mark.full
def test_horovod_from_both_recipes() -> None:
    path = build_sif(load_image("horovod"), "recipe")
    for file in ("debian.tsv", "python.tsv"):
        assert in_sif(path, f"cat {INVENTORY}/{file}") == in_docker("horovod", f"cat {INVENTORY}/{file}")
    in_sif(path, RECIPES["horovod"].TEST)


def let_in(folder: Path) -> None:
    """Lets other users into a folder of the tests, which lies deeper where several processes share them."""
    for parent in (folder, *folder.parents):
        if parent == Path(tempfile.gettempdir()):
            return
        parent.chmod(0o755)


def test_an_ordinary_user_can_run_an_image(tmp_path: Path, ordinary_user: pwd.struct_passwd) -> None:
    image = built_sif(load_image("relion-basic"))
    copy = tmp_path / "image.sif"
    shutil.copy(image, copy)
    let_in(tmp_path)
    who = {
        "user": ordinary_user.pw_uid,
        "group": ordinary_user.pw_gid,
        "extra_groups": [],
        "cwd": "/tmp",
        "env": {"PATH": os.environ["PATH"], "HOME": ordinary_user.pw_dir},
    }
    assert "RELION version: 3.1.3" in in_sif(copy, "relion_refine --version", **who)
    assert in_sif(copy, "id -u", **who).strip() == str(ordinary_user.pw_uid)


@pytest.mark.full
@pytest.mark.parametrize("source", ["archive", "recipe"])
def test_an_ordinary_user_can_build_an_image(tmp_path: Path, ordinary_user: pwd.struct_passwd, source: str) -> None:
    """In a clone of their own, without root: from an archive of another machine, or the recipe alone with --fakeroot.

    The recipe takes its base image from the engine, whose group the user is in, so that no registry is needed.
    """
    checkout, image = tmp_path / "kit", load_image("relion-basic")
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    let_in(tmp_path)
    subprocess.run(["chown", "-R", f"{ordinary_user.pw_uid}:{ordinary_user.pw_gid}", checkout], check=True)
    groups = []
    if source == "recipe":
        groups = [grp.getgrnam("docker").gr_gid]
    else:
        source = str(oci_archive(image, tmp_path / "relion-basic.oci.tar"))
    pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": ordinary_user.pw_dir, "KIT_CACHE": f"{checkout}/cache"}
    words = [".venv/bin/kit", "image", "build", image.name, "--format", "sif", "--from", source]
    for command in (["make", "setup"], words):
        result = subprocess.run(
            command,
            cwd=checkout,
            user=ordinary_user.pw_uid,
            group=ordinary_user.pw_gid,
            extra_groups=groups,
            env={**environment, **pip},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
    sif = Path(result.stdout.strip())
    assert sif.stat().st_uid == ordinary_user.pw_uid
    assert "RELION version: 3.1.3" in in_sif(sif, "relion_refine --version")


def test_docker_runtime(tmp_path: Path) -> None:
    """The words that a site with runtime = "docker" puts before a program: bound folder, environment, working folder."""
    from kit.runtimes import docker

    words = docker.command(load_image("relion-basic"), [str(tmp_path)], {"OMP_NUM_THREADS": "3"}, [], str(tmp_path))
    script = "relion_refine --version >version.txt; echo $OMP_NUM_THREADS >>version.txt"
    subprocess.run([*words, "sh", "-c", script], check=True)
    text = (tmp_path / "version.txt").read_text()
    assert "RELION version: 3.1.3" in text
    assert text.endswith("3\n")
    assert (tmp_path / "version.txt").stat().st_uid == os.getuid()


def test_unchanged_recipe_builds_nothing() -> None:
    before = {name: built_sif(load_image(name)).stat().st_mtime_ns for name in ALWAYS}
    kit("image", "build", *ALWAYS)
    assert before == {name: built_sif(load_image(name)).stat().st_mtime_ns for name in ALWAYS}


def test_a_changed_line_builds_from_that_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage that compiles CTFFIND does not depend on the self-test, so it is not run again."""
    before = load_image("relion-basic").hash
    monkeypatch.setattr(RECIPES["relion-basic"], "DESCRIPTION", "another description")
    image = load_image("relion-basic")
    assert image.hash != before
    build_docker(image)
    log = sorted((paths.cache() / "logs").glob("relion-basic-docker-*.log"))[-1].read_text()
    assert log.count("Using cache") >= 5
    assert "Running in" in log
    docker_client().images.remove(image.tag)


def contents(reference: str) -> dict[str, tuple[object, ...]]:
    """Every path of a Docker image: kind, mode, owner, and what it holds (checksum or where a link points)."""
    container = docker_client().containers.create(reference, "true")
    try:
        found = {}
        with tempfile.TemporaryFile() as file:
            for chunk in container.export():
                file.write(chunk)
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                for member in tar:
                    data = tar.extractfile(member) if member.isfile() else None
                    content = hashlib.file_digest(data, "sha256").hexdigest() if data else member.linkname
                    found[member.name] = (member.type, member.mode, member.uid, member.gid, content)
        return found
    finally:
        container.remove()


@pytest.mark.full
@pytest.mark.parametrize("name", ["relion-basic", "relion-accelerated"])
def test_two_builds_hold_the_same(name: str) -> None:
    """Nothing is taken from Docker's cache the second time. What differs is times of files and the labels that tell them."""
    image = load_image(name)
    build_docker(image)
    docker_client().images.get(image.tag).tag("kit/first-build", name)
    try:
        build_docker(image, force=True)
        first, second = contents(f"kit/first-build:{name}"), contents(image.tag)
        assert [path for path in first.keys() | second.keys() if first.get(path) != second.get(path)] == []
        assert len(first) > 1000
    finally:
        docker_client().images.remove(f"kit/first-build:{name}")


def test_wrong_checksum_shows_both_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    right = parts.CTFFIND_SHA256
    monkeypatch.setitem(parts.CTFFIND, "sha256", "0" * 64)
    with pytest.raises(KitError) as error:
        build_docker(load_image("relion-basic"))
    assert right in str(error.value)
    assert "0" * 64 in str(error.value)
    assert "The whole log:" in str(error.value)
    assert not docker_has(load_image("relion-basic").tag)


def test_failed_build_shows_its_log_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path)
    monkeypatch.setattr(RECIPES["relion-basic"], "TEST", "/no/such/test")
    monkeypatch.setattr(build, "SQUASHFS", "-comp zstd -Xcompression-level 1")
    with pytest.raises(KitError) as error:
        build_sif(load_image("relion-basic"))
    assert "/no/such/test" in str(error.value)
    assert "The whole log:" in str(error.value)
    assert not list((tmp_path / "images").glob("*.sif"))
    assert not list((tmp_path / "images").glob("*.partial"))
