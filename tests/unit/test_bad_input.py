"""Bad input gets a sentence that names the thing and the way out, exit code 1 (2 for usage), and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, kit

from kit.core.errors import KitError
from kit.site import load_site

SITE = (ROOT / "kit/sites/local.toml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "relio"], "unknown benchmark 'relio': did you mean relion?"),
        (["run", "relion", "--size", "tinny"], "unknown size of benchmark relion 'tinny': did you mean tiny?"),
        (["run", "relion", "--site", "locale"], "unknown site 'locale': did you mean local?"),
        (["run", "relion", "--partition", "gpu"], "unknown partition of site local 'gpu': known: local"),
        (["run", "relion", "--site", "no/such.toml"], "no/such.toml: no such file"),
        (["run"], "which benchmark?"),
        (["run", "--resume", "/nowhere"], "/nowhere: no such run directory"),
        (["collect", "/tmp"], "/tmp: not a run directory"),
        (["submission", "pack", "/nowhere"], "no such run directory"),
        (["image", "build", "relion-basics"], "unknown image 'relion-basics': did you mean relion-basic"),
        (["image", "build", "relion-basic", "--format", "tar"], "unknown format 'tar': known: docker, sif, all"),
        (["image", "inspect", "x"], "unknown image 'x': known: horovod, horovod-cuda, keras, relion-5"),
        (
            ["image", "build", "relion-accelerated", "--arg", "toolchain=icc"],
            "unknown toolchain 'icc': known: gcc, clang, oneapi",
        ),
        (["image", "build", "relion-accelerated", "--arg", "fft=mkl"], "fft=mkl needs toolchain=oneapi"),
        (["image", "build", "relion-accelerated", "--arg", "gcc"], "write it as key=value"),
        (["image", "build", "relion-accelerated", "--arg", "flags=$(rm -rf /)"], "flags can hold"),
        (
            ["image", "build", "relion-cuda", "--arg", "architectures=80,42"],
            "unknown architectures '42': known: 70,75,80,86,89,90, 70, 75, 80, 86, 89, 90",
        ),
        (
            ["image", "build", "relion-cuda", "--arg", "archs=80"],
            "unknown argument 'archs': relion-cuda knows architectures",
        ),
        (["image", "build", "relion-basic", "--arg", "x=y"], "relion-basic knows no arguments"),
        (
            ["image", "build", "relion-basic", "--from", "/nowhere.tar"],
            "/nowhere.tar: neither docker, recipe, nor an archive",
        ),
        (["image", "verify", "relion-acelerated"], "did you mean relion-accelerated"),
        (["run", "relion", "--image", "horovod"], "unknown image for benchmark relion 'horovod'"),
        (["compare", "/nowhere", "/tmp"], "/nowhere: no such run directory"),
        (["site", "show", "lokal"], "did you mean local?"),
    ],
)
def test_unknown_names(tmp_path: Path, words: list[str], message: str) -> None:
    result = kit(*words, code=1, cwd=tmp_path)
    assert message in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_usage_error_is_2(tmp_path: Path) -> None:
    assert "No such option" in kit("run", "relion", "--speed", "11", code=2, cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SITE.replace("launcher =", "lancher ="), "key 'partitions.local.lancher' is not known; did you mean 'launcher'?"),
        (SITE.replace('"mpirun"', '"mpirum"'), "key 'partitions.local.launcher': one of mpirun, srun, mpiexec"),
        (SITE.replace('"local"\n', '"locall"\n', 1), "key 'partitions.local.scheduler': one of "),
        (f"accountt = 'x'\n{SITE}", "key 'accountt' is not known; did you mean 'account'?"),
        (f"max_minutes = '48'\n{SITE}", "key 'partitions.local.max_minutes': Input should be a valid integer"),
        (f"gpus = true\n{SITE}", "key 'partitions.local.gpus': Input should be a valid integer"),
        (f"memory_gb = 256000\n{SITE}", "key 'partitions.local.memory_gb': Input should be less than or equal to 50000"),
        (f"qos = 'fast'\n{SITE}", "the scheduler local has no word for qos; say it under 'directives'"),
        (f"scratch = '$(id)'\n{SITE}", "key 'partitions.local.scratch': expected an absolute path"),
        (f"{SITE}binds = ['~/data']\n", "'~/data': an absolute folder is needed"),
        (f"{SITE}binds = ['/a:/b:rx']\n", "'/a:/b:rx': an absolute folder is needed"),
        (
            f"order = 'block'\nlauncher_args = []\n{SITE}".replace('"mpirun"', '"pals"').replace("'block'", "'cyclic'"),
            "the launcher pals does not deal ranks in the order 'cyclic'",
        ),
        (SITE + '\n[partitions.big]\nscheduler = "local"\ncores = "many"\n', "key 'partitions.big.cores'"),
        (SITE.replace("contact", "contract"), "key 'contract' is not known; did you mean 'contact'?"),
        (SITE.replace('contact = "whoever sits before it"\n', ""), "key 'contact' is missing"),
        (SITE.replace("[partitions.local]", "[partitions.local"), "not TOML"),
        ("", "no partition: add a table such as [partitions.cpu]"),
    ],
)
def test_site_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(KitError) as error:
        load_site(str(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_user_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag > KIT_* > user file > site file > default; a wrong key in the user file is named."""
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "kit.toml"))
    (tmp_path / "kit.toml").write_text('organisation = "from-file"\naccount = "a1"\n')
    assert load_site("example-slurm").organisation == "from-file"
    monkeypatch.setenv("KIT_ORGANISATION", "from-variable")
    site = load_site("example-slurm")
    assert site.organisation == "from-variable"
    assert site.partitions["cpu"].account == "a1"
    shown = kit("site", "show", "example-slurm").stdout
    assert "organisation = 'from-variable'  # KIT_ORGANISATION" in shown
    assert f"partitions.cpu.account = 'a1'  # {tmp_path / 'kit.toml'}" in shown
    assert "partitions.cpu.gpus = 0  # default" in shown
    (tmp_path / "kit.toml").write_text("organization = 'x'\n")
    with pytest.raises(KitError, match="'organization' is not known"):
        load_site("local")


def test_image_missing(tmp_path: Path) -> None:
    env = {"KIT_CACHE": str(tmp_path / "cache")}
    result = kit("run", "relion", "--runs", str(tmp_path / "runs"), code=1, env=env)
    assert "image relion-basic is not built as sif from today's recipe: kit image build relion-basic" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_engine_not_running(tmp_path: Path) -> None:
    env = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    result = kit("image", "inspect", "relion-basic", "--format", "docker", code=1, env=env)
    assert "no Docker engine answers" in result.stderr
    assert "docker.sh" in result.stderr
    result = kit("doctor", code=1, env=env)
    assert "MISSING docker" in result.stdout
    assert "sudo " in result.stdout


def test_no_container_runtime(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = kit("doctor", code=1, env={"PATH": str(tmp_path / "empty")})
    assert "MISSING apptainer" in result.stdout
    assert "apptainer.sh" in result.stdout


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    from kit.images.build import require_space

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 10**10 - 10**9, 10**9))
    with pytest.raises(KitError, match=r"1\.0 GB free, but a build needs about 8\.0 GB"):
        require_space(tmp_path, 8)


def test_a_size_without_a_seed(toy: Path) -> None:
    from kit.benchmark import load_benchmark

    with pytest.raises(KitError, match="size tiny: has no random_seed that --seed or --repeat could set"):
        load_benchmark("toy").with_seed("tiny", 3)
    assert load_benchmark("toy").with_seed("noisy", 3).size("noisy").seed == 3


def test_damaged_data_set(toy: Path) -> None:
    from kit.benchmark import load_benchmark
    from kit.data import generated

    folder = generated.make(load_benchmark("toy"), "tiny")
    (folder / "input.txt").write_text("8")
    with pytest.raises(KitError, match=r"input\.txt: differs from the manifest"):
        generated.make(load_benchmark("toy"), "tiny")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link"])
def test_manifest_that_names_what_is_not_in_the_folder(tmp_path: Path, name: str) -> None:
    """A pack from a stranger cannot ask what else lies on this machine."""
    from kit.core.checksums import verify

    (tmp_path / "secret").write_text("x")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/link").symlink_to(tmp_path / "secret")
    (tmp_path / "pack/manifest.json").write_text(f'{{"{name}": {{"bytes": 1, "sha256": "0"}}}}')
    with pytest.raises(KitError, match=r"not a name of a file|a link"):
        verify(tmp_path / "pack", "make it again")


@pytest.mark.parametrize(
    "inputs",
    [
        {"fn_img": "x; touch PWNED"},
        {"fn_img": "$(touch PWNED)"},
        {"fn_img": "../../etc/passwd"},
        {"fn_img": "/etc/passwd"},
        {"fn_img": "a b.star"},
        {"fn_img": "x\ny"},
        {"fn img": "x.star"},
        {"--gpu": "x.star"},
    ],
)
def test_pack_whose_names_are_no_plain_words(inputs: dict[str, str]) -> None:
    """They become words of RELION's commands, which are shell."""
    from kit.core.schema import parse
    from kit.data.isolated import Pack

    facts = {"benchmark": "relion", "size": "tiny", "stage": "class3d", "image": "relion-basic", "version": "3.1.3"}
    facts |= {"data": "sha256:" + "0" * 64}
    parse(Pack, {**facts, "inputs": {"fn_img": "particles/0001.star"}}, "pack.json")
    with pytest.raises(KitError, match="inputs"):
        parse(Pack, {**facts, "inputs": inputs}, "pack.json")


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 100_000, "x = " + "9" * 5000, "\x00", 'x = "\udcff"'], ids=["deep", "digits", "nul", "no utf-8"]
)
def test_site_file_of_any_kind(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert f"{path}: not TOML" in kit("site", "show", str(path), code=1).stderr


def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Neither from a record nor from the name of a file."""
    directory = tmp_path / "run\x1b[2J"
    directory.mkdir()
    digest = "sha256:" + "0" * 64
    image = {"name": "x", "version": "1", "runtime": "docker", "digest": digest, "recipe": digest}
    facts = {"kit": "0", "commit": "x", "created": "2026-01-01T00:00:00Z", "benchmark": "x", "size": "x", "site": "x"}
    state = {"name": "failed", "reason": "\x1b[1A\x1b[2K\u202eaccepted"}
    record = {**facts, "partition": "x", "ranks": 1, "threads": 1, "image": image, "data": digest, "script": digest}
    (directory / "run.json").write_text(json.dumps({**record, "state": state}))
    for words, stream in ((["status"], "stdout"), (["status", "--json"], "stdout"), (["submission", "pack"], "stderr")):
        said = getattr(kit(*words, str(directory), code=1 if words[0] == "submission" else 0), stream)
        assert "accepted" in said
        assert said.replace("\n", "").isprintable()
