"""Site files before they are used: what a check says of a bad one, what it never touches, and new ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import kit

from kit import site_files
from kit.core.errors import KitError
from kit.site import Container, Partition, Site
from kit.site_files import check, listed, new, path_of, read_site

GOOD = """description = "A cluster"
contact = ""
url = ""
[partitions.cpu]
scheduler = "slurm"
launcher = "srun"
pmi = "pmix"
max_nodes = 64
max_minutes = 10000
cores = 256
memory_gb = 256
"""


def said(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return "\n".join(map(str, check(file)))


def without_scripts(tmp_path: Path, text: str) -> str:
    """The same but for the scripts of benchmarks, which take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_files, "scripts", lambda site, name: [])
        return said(tmp_path, text)


def test_a_good_file_has_nothing_to_say_but_what_this_machine_lacks(tmp_path: Path) -> None:
    lines = said(tmp_path, GOOD).splitlines()
    assert all("not on" in line for line in lines)  # the runner's PATH may lack what the stand-ins do not stand for


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_minutes = 10000", "max_minutes = 48", "warning: partitions.cpu.max_minutes: 48 minutes; were hours meant?"),
        (
            "memory_gb = 256",
            "memory_gb = 32000",
            "warning: partitions.cpu.memory_gb: 32000 GB in a node; were megabytes meant?",
        ),
        ("memory_gb = 256", "memory_gb = 0.5", "were terabytes meant?"),
        ("cores = 256\n", "", "warning: partitions.cpu.cores: missing: those of the login node would be taken"),
        ("cores = 256", "cores = 5000", "5000 cores in one node"),
        ("cores = 256", "cores = 256\ngpus = 400", "400 GPUs in one node"),
        ("max_nodes = 64", "max_nodes = 64\nmin_nodes = 65", "65 is more than max_nodes, 64: no job fits"),
        (
            "max_nodes = 64",
            "max_nodes = 64\nlimits = [{nodes = 9, minutes = 10001}]",
            "10001 minutes for 9 nodes are more than",
        ),
        ('pmi = "pmix"', "", "warning: partitions.cpu.pmi: missing"),
        ('launcher = "srun"\npmi = "pmix"', 'launcher = "pals"', "pals is of the family of MPICH"),
        ("max_nodes = 64", 'max_nodes = 64\nexclusive = false\ngpus = 4\ngpu_request = "none"', "asks for no GPUs"),
        ("cores = 256", 'cores = 256\narch = "ppc64le"', "warning: arch: ppc64le, and this machine is "),
        ('launcher = "srun"\npmi = "pmix"', 'launcher = "jsrun"', "warning: launcher: jsrun: jsrun is not on the PATH"),
        ('launcher = "srun"\npmi = "pmix"', 'launcher = "jsrun"\nmodules = ["x"]', "a module or the prologue may bring it"),
        ("cores = 256", 'cores = 256\nscratch = "/not/there"', "scratch: /not/there is not on this machine"),
        (
            "[partitions.cpu]",
            '[container]\nbinds = ["/not/there:/x:ro"]\n[partitions.cpu]',
            "/not/there is not on this machine",
        ),
        ('contact = ""', 'contact = "support@example.org"', "warning: contact: still holds 'support@example.org'"),
        ("cores = 256", "coers = 128", "error: "),
        ("cores = 256", "coers = 128", "did you mean 'cores'?"),
        ("cores = 256", 'cores = "128"', "error: "),
        ("cores = 256", "cores = 256\ngpus = true", "gpus"),
        ("cores = 256", "cores = ", "not TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in without_scripts(tmp_path, GOOD.replace(old, new))
    assert expected not in without_scripts(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_nodes = 64", "max_nodes = 1", "relion, size aldolase: 4 nodes are needed, but the partition has at most 1"),
        ("max_minutes = 10000", "max_minutes = 1440", "relion, size plasmodium: 2880 minutes are needed"),
        ("cores = 256", 'cores = 256\nprologue = ["if true"]', "error: partitions.cpu: bash cannot read the script of"),
    ],
)
def test_a_script_that_cannot_be_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in said(tmp_path, GOOD.replace(old, new))


def test_commands_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    text = without_scripts(tmp_path, GOOD)
    for expected in ("slurm: sbatch is not on the PATH", "srun: srun is not", "apptainer or singularity is not on the PATH"):
        assert expected in text
    assert "podman-hpc is not on the PATH" in without_scripts(tmp_path, GOOD + '[container]\nruntime = "podman-hpc"\n')


def test_a_partition_of_other_gpus_is_tried_with_images_that_go_with_it(tmp_path: Path) -> None:
    text = said(tmp_path, GOOD.replace("cores = 256", 'cores = 256\ngpus = 8\ngpu_vendor = "amd"'))
    assert "computes on GPUs of nvidia" not in text


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    text = said(tmp_path, GOOD.replace("cores = 256", "coers = 128").replace("max_nodes = 64", "max_nodes = 0"))
    assert "coers" in text
    assert "max_nodes" in text


def test_what_stands_at_the_top_is_said_once(tmp_path: Path) -> None:
    text = GOOD.replace("[partitions.cpu]", "[partitions.other]\nscheduler = 'slurm'\nlauncher = 'jsrun'\n[partitions.cpu]")
    text = text.replace('launcher = "srun"\npmi = "pmix"', 'launcher = "jsrun"')
    assert said(tmp_path, text).count("jsrun is not on the PATH") == 1


def test_nothing_that_a_hostile_file_names_is_run_or_read(tmp_path: Path) -> None:
    trap, pipe = tmp_path / "ran", tmp_path / "pipe"
    os.mkfifo(pipe)  # whoever opens it waits for ever
    fake = tmp_path / "bin/module"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {trap}\n")
    fake.chmod(0o755)
    hostile = (
        GOOD
        + f"""modules = ["$(touch {trap})", "x; touch {trap}"]
module_use = ["`touch {trap}`"]
prologue = ["touch {trap}", "source {pipe}", "cat {pipe}", "module load x"]
directives = ["--x=$(touch {trap})"]
launcher_args = ["; touch {trap}"]
scratch = "{pipe}"
[partitions.cpu.environment]
BASH_ENV = "{pipe}"
PATH = "{fake.parent}"
[container]
binds = ["{pipe}", "/proc/self/mem:/x"]
args = ["$(touch {trap})", "--env-file", "{pipe}"]
[hardware]
"{{{{ 7 * 7 }}}}" = "{{{{ cycler.__init__.__globals__.os.system('touch {trap}') }}}}"
"""
    )
    text = said(tmp_path, hostile)
    assert "error" not in text
    assert not trap.exists()
    text = said(tmp_path, hostile.replace('"touch', '"}; touch'))  # bash reads what it cannot parse, and runs none of it
    assert "bash cannot read" in text
    assert not trap.exists()


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "large", "binary", "deep"])
def test_what_is_no_site_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_text("#" * 1_000_001)
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif kind == "deep":
        path.write_text("x = " + "[" * 100_000)
    (finding,) = check(path)
    assert finding.level == "error"


def test_a_file_of_any_number_of_partitions_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_files, "scripts", lambda site, name: [])
    more = "".join(f'[partitions.p{number}]\nscheduler = "slurm"\n' for number in range(60))
    assert "scripts were rendered for the first 50 of 61" in said(tmp_path, GOOD + more)


def test_exit_codes_and_json(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD.replace("10000", "48"))
    bad.write_text(GOOD.replace("cores = 256", "coers = 128"))
    assert "0 error(s)" in kit("site", "check", str(good)).stdout
    assert "did you mean 'cores'?" in kit("site", "check", str(good), str(bad), code=1).stdout
    found = json.loads(kit("site", "check", "--json", str(good), str(bad), code=1).stdout)
    assert {"level", "key", "text"} == found[str(bad)][0].keys()
    assert "unknown site 'lokal': did you mean local?" in kit("site", "check", "lokal", code=1).stderr


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    return tmp_path / "config/sites"


def test_the_template_can_be_used_and_names_every_key(config: Path) -> None:
    path = new("mine")
    assert path == config / "mine.toml"
    site = read_site(path)
    assert site.name == "mine"
    assert [finding for finding in check(path) if finding.level == "error"] == []
    keys = {line.lstrip("# ").partition(" = ")[0].strip() for line in path.read_text().splitlines() if " = " in line}
    known = {*Partition.model_fields, *Container.model_fields, *Site.model_fields} - {"name", "partitions", "container"}
    assert known - {"hardware"} <= keys


def test_the_values_behind_a_hash_in_the_template_are_the_defaults(config: Path) -> None:
    path = new("mine")
    lines = path.read_text().splitlines()
    as_it_is = read_site(path).model_dump()
    uncommented = []
    for line in lines:
        bare = line.removeprefix("# ")
        known = {*Partition.model_fields, *Container.model_fields, "verified"}
        key = bare.partition(" = ")[0]
        keep = line.startswith("# ") and key in known and key not in ("limits", "parallel_environment")
        uncommented.append(bare if keep else line)
    path.write_text("\n".join(uncommented))
    assert read_site(path).model_dump() == as_it_is


def test_a_new_file_overwrites_nothing(config: Path) -> None:
    path = new("mine")
    path.write_text("kept")
    with pytest.raises(KitError, match="exists, and is not overwritten"):
        new("mine")
    assert path.read_text() == "kept"
    (config / "link.toml").symlink_to("/nowhere")
    with pytest.raises(KitError, match="exists"):
        new("link")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a b", "-x", "x\n", "x" * 101])
def test_a_name_is_a_name(config: Path, name: str) -> None:
    with pytest.raises(KitError, match="name"):
        new(name)
    assert not config.exists()


def test_a_copy_keeps_comments_and_is_not_verified(config: Path, tmp_path: Path) -> None:
    source = tmp_path / "theirs.toml"
    source.write_text(f'name = "theirs" # n\nverified = "2026-01-01, kit 1.0"\n{GOOD}# the end\n')
    path = new("mine", str(source))
    assert "# the end" in path.read_text()
    site = read_site(path)
    assert (site.name, site.verified) == ("mine", "")
    source.write_text(f"x = 1\n{GOOD}")
    with pytest.raises(KitError, match="not known"):
        new("other", str(source))
    assert path_of("mine") == path


def test_the_list_has_a_line_for_a_file_that_cannot_be_used(config: Path) -> None:
    new("mine", "example-slurm")
    (config / "broken.toml").write_text("x = ")
    rows = {row.name: row for row in listed()}
    assert rows["mine"].schedulers == "slurm"
    assert rows["mine"].file == str(config / "mine.toml")
    assert rows["broken"].description.startswith("cannot be used: ")
    said = kit("site", "list").stdout
    assert "unverified" in said
    assert {row["name"] for row in json.loads(kit("site", "list", "--json").stdout)} == set(rows)


def test_detect_writes_where_nothing_is(config: Path) -> None:
    new("mine")
    assert (
        "exists, and is not overwritten" in kit("site", "detect", "--write", "mine", code=1, env={"PATH": "/nowhere"}).stderr
    )
    written = kit("site", "detect", "--write", "here", env={"PATH": "/nowhere"}).stdout.strip()
    assert 'scheduler = "local"' in Path(written).read_text()
    kit("site", "check", "here")
