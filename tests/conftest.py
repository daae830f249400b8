"""What the tests share: commands, a runs folder, an ordinary user, a finished run of a toy."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.benchmarks import Code, Parameters
from kit.benchmarks.relion.star import read_star
from kit.core import paths
from kit.core.checksums import SUMS, digest, sha256, write_sums
from kit.core.files import json_text, write_json
from kit.images.built import docker_client
from kit.images.render import load_image
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.runs.record import SBOM, Run, load_run, resolved, save_run
from kit.runtimes import RUNTIMES, host
from kit.submissions.check import check
from kit.submissions.layout import packed
from kit.submissions.pack import pack

pytest_plugins = ["synthetic"]  # products of CloudMask

ROOT = Path(__file__).parent.parent
if paths.commit().endswith("-dirty"):  # while somebody works on the kit; a clean checkout is held to the rule
    os.environ["KIT_ALLOW_DIRTY"] = "1"
os.environ["KIT_ALLOW_TRIAL"] = "1"  # what `make submission` packs; tests/unit/test_submitter.py holds that it is refused
KIT = [sys.executable, "-m", "kit"]


def kit(*words: str, code: int = 0, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would and expects an exit code."""
    result = subprocess.run(
        [*KIT, *words], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=1800
    )
    assert result.returncode == code, f"kit {' '.join(words)}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def in_docker(name: str, script: str, bind: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a shell script prints in the Docker image, on stdout and stderr; an error if it fails."""
    output = docker_client().containers.run(
        load_image(name).tag,
        ["sh", "-c", script],
        remove=True,
        stderr=True,
        volumes={str(bind): {"bind": str(bind), "mode": "rw"}} if bind else {},
        working_dir=str(bind or "/"),
        environment=environment or {},
    )
    return str(output.decode(errors="replace"))


def commands(page: Path | str) -> list[str]:
    """The commands that a page of the documentation shows, or its text."""
    text = page.read_text() if isinstance(page, Path) else page
    return [
        line.removeprefix("$ ").partition(" #")[0].strip()
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.fixture(scope="session")
def ordinary_user() -> pwd.struct_passwd:
    """Someone who is not root, as everyone is on a cluster; made by tests/slurm/start.sh."""
    try:
        return pwd.getpwnam("kittest")
    except KeyError:
        pytest.skip("no user kittest; sudo tests/slurm/start.sh makes one")


@dataclass(frozen=True)
class Installed:
    """A kit that was installed from its wheel into a virtual environment of its own, outside any checkout."""

    prefix: Path

    @property
    def package(self) -> Path:
        (found,) = self.prefix.glob("lib/python3*/site-packages/kit")
        return found

    def environment(self) -> dict[str, str]:
        """Without the checkout on Python's path, from which the tests themselves may have their kit."""
        path = [entry for entry in os.environ.get("PYTHONPATH", "").split(":") if entry and not Path(entry, "kit").is_dir()]
        return {**os.environ, "PYTHONPATH": ":".join(path)}

    def kit(self, *words: str, code: int = 0, cwd: Path, env: dict[str, str] | None = None) -> str:
        """Runs its command in a folder, expects an exit code, and returns what it said: stdout, or stderr of a failure."""
        command = [str(self.prefix / "bin/kit"), *words]
        result = subprocess.run(
            command, cwd=cwd, env=self.environment() | (env or {}), capture_output=True, text=True, timeout=1800
        )
        assert result.returncode == code, f"{command}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result.stderr if code else result.stdout

    def as_installed(self, text: str) -> str:
        """What the kit of this checkout printed, with the paths of the installed one."""
        return text.replace(str(paths.PACKAGE), str(self.package))

    def python(self, code: str) -> str:
        command = [str(self.prefix / "bin/python"), "-c", code]
        result = subprocess.run(command, cwd=self.prefix, env=self.environment(), capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


def wheel(checkout: Path, folder: Path) -> Path:
    """Builds the wheel of a checkout."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, checkout]
    subprocess.run(command, check=True, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def install(wheel: Path, prefix: Path) -> Installed:
    """Installs a wheel into a new environment, which finds what the kit needs where the tests have it, but not their kit."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    command = [sys.executable, "-m", "pip", "--python", prefix / "bin/python", "install", "-q", "--no-deps", wheel]
    subprocess.run(command, check=True, cwd=prefix)
    (packages,) = prefix.glob("lib/python3*/site-packages")
    # A line of a .pth file adds a folder, and not that folder's own .pth files, by which an editable kit is found.
    (packages / "dependencies.pth").write_text("".join(f"{folder}\n" for folder in site.getsitepackages()))
    return Installed(prefix)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this checkout, installed."""
    built = wheel(ROOT, tmp_path_factory.mktemp("wheel"))
    return install(built, tmp_path_factory.mktemp("installed"))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A benchmark of three shell stages that runs on the host in no time, and the site for it; returns the runs folder.

    Stages and metrics go through the same templates, records and verdicts as the real ones.
    """
    from kit import benchmark

    package = tmp_path / "package"
    (package / "benchmarks/toy").mkdir(parents=True)
    (package / "benchmarks/toy/benchmark.toml").write_text((ROOT / "tests/toy.toml").read_text())
    shutil.copytree(paths.PACKAGE / "sites", package / "sites")
    (package / "sites/here.toml").write_text(
        'description = "no container"\ncontact = "x"\nurl = "https://localhost"\norganisation = "laboratory"\n'
        '[partitions.local]\nscheduler = "local"\ncores = 2\n[container]\nruntime = "host"\nmpi = "inside"\n'
    )
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")

    class Toy(Code):
        def data_parameters(self, parameters: Parameters) -> Parameters:
            return {"number": parameters["number"]}

        def generate(self, folder: Path, parameters: Parameters) -> None:
            (folder / "input.txt").write_text(str(parameters["number"]))

        def evaluate(self, directory: Path, ranks: int) -> None:
            (directory / "evaluation.json").write_text(json.dumps({"ranks": ranks}))

        def read_table(self, path: Path, block: str) -> Mapping[str, Any] | None:
            return read_star(path, only=block) if path.suffix == ".star" else None

    monkeypatch.setattr(benchmark.Benchmark, "code", Toy())
    for variable in ("KIT_ORGANISATION", "KIT_SYSTEM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    monkeypatch.setattr(paths, "commit", lambda: "1" * 40)  # whatever was changed in this checkout
    monkeypatch.setitem(RUNTIMES, "apptainer", host)  # of a run that passes for one in a container
    return tmp_path / "runs"


def boxed(directory: Path) -> None:
    """Lets a run of the toy on the host pass for one in a container, so that it can become valid without one."""
    run, zeros = load_run(directory), "sha256:" + "0" * 64
    labels = {"kit:digest": zeros, "kit:label:kit.recipe": run.image.recipe}
    component = {
        "name": run.image.name,
        "version": run.image.version,
        "properties": [{"name": key, "value": text} for key, text in labels.items()],
    }
    write_json(directory / SBOM, {"metadata": {"component": component}})
    image = {"digest": zeros, "runtime": "apptainer", "sbom": digest(directory / SBOM)}
    save_run(directory, run.model_copy(update={"image": run.image.model_copy(update=image)}))
    _, site = resolved(directory)
    container = site.container.model_copy(update={"runtime": "apptainer"})
    write_json(directory / "site.json", site.model_copy(update={"container": container}).model_dump(mode="json"))


def run_boxed(directory: Path) -> Run:
    """Takes a prepared run of the toy to its verdict, as if it had run in a container."""
    boxed(directory)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return collect(directory)


@pytest.fixture(scope="session")
def packed_toys() -> list[Path]:
    """The submission of the toy, once it was made: each test gets a copy."""
    return []


@pytest.fixture
def submission(toy: Path, tmp_path: Path, packed_toys: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An accepted submission of the toy, to be damaged."""
    if not packed_toys:
        directory = launch.prepare(make_plan(Request("toy", site="here")), tmp_path_factory.mktemp("toy"))
        run_boxed(directory)
        packed_toys.append(pack(directory, tmp_path_factory.mktemp("packed")))
    copy = tmp_path.joinpath("submissions", *packed_toys[0].parts[-4:])
    shutil.copytree(packed_toys[0], copy)
    return copy


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def rewritten(submission: Path) -> None:
    """Makes the checksums fit again: what a forger would do."""
    write_sums(submission, {p.relative_to(submission).as_posix(): sha256(p) for p in files(submission) if p.name != SUMS})


def forged(folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> str:
    """The findings after a forger's work."""
    refitted(folder, change)
    rewritten(folder)
    return "\n".join(map(str, check(folder)))


def refitted(folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> None:
    """A forger's work on one run: run.json changed, and its list of files right again."""
    path = folder / "run.json"
    run = json.loads(path.read_text())
    run["files"] = {name: digest(folder / packed(name)) for name in run["files"] if (folder / packed(name)).is_file()}
    for metric in run["metrics"]:
        metric["sha256"] = digest(folder / packed(metric["file"]))
    if (folder / "run/job.sh").is_file():
        run["script"] = digest(folder / "run/job.sh")
    if (folder / "run/sbom.cdx.json").is_file():
        run["image"]["sbom"] = digest(folder / "run/sbom.cdx.json")
    if change:
        change(run)
    path.write_text(json_text(run))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")
