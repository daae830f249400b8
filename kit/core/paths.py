"""Paths: the folders shipped with the kit, the cache, the user file, and the folder of runs."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.core.errors import KitError

# Every command imports this module, and most ask nothing of git or of how the kit was installed: what serves only that is
# imported where it is used.
if TYPE_CHECKING:
    import subprocess
    from importlib.metadata import FileHash

PACKAGE = Path(__file__).resolve().parent.parent
# The kit's git checkout; None where the package is installed from a wheel.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def shipped(name: str) -> Path:
    """A folder that comes with the kit and stands beside its package in a checkout: templates."""
    return (CHECKOUT or PACKAGE) / name


def host_script(name: str) -> Path:
    """A script that installs on this machine what images need: docker.sh, apptainer.sh or base.sh."""
    return PACKAGE / "images" / "host" / name


def cache() -> Path:
    """Images and generated data, kept by content outside any checkout: $KIT_CACHE, else ~/.cache/kit."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kit"
    return Path(os.environ.get("KIT_CACHE", default)).expanduser().absolute()


def make_cached(folder: Path) -> Path:
    """Makes a folder of the cache if it does not exist; KitError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"{folder}: cannot be made: {error.strerror}; KIT_CACHE can name another folder") from None
    return folder


def user_file() -> Path:
    """The user's own settings: $KIT_CONFIG, else ~/.config/kit/kit.toml."""
    default = Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "kit" / "kit.toml"
    return Path(os.environ.get("KIT_CONFIG", default)).expanduser().absolute()


def runs() -> Path:
    """The folder of runs: $KIT_RUNS, else `runs` where the command is called."""
    return Path(os.environ.get("KIT_RUNS", "runs"))


def git(*words: str, stdout: Any = None) -> subprocess.CompletedProcess[bytes]:
    """A git command in the kit's own checkout, whoever owns it and whatever repository the environment names.

    Its output is in the answer, where it goes into no file (`stdout`).
    """
    import subprocess

    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT), *words]
    return subprocess.run(command, env=environment, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE)


def commit() -> str:
    """The commit of the kit's checkout, or the one that its wheel was built from; with `-dirty` behind it when files differ.

    `unknown` where nobody knows: a wheel that was not built in a git checkout.
    """
    if CHECKOUT is None:
        return installed_commit()
    answer = git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    return answer.stdout.decode().strip() or "unknown"


def untracked() -> bool:
    """Whether there are files in the kit's checkout, among those that it is made of, of which no commit knows."""
    return CHECKOUT is not None and bool(
        git("ls-files", "--others", "--exclude-standard", "kit", "templates").stdout.strip()
    )


@functools.cache
def installed_commit() -> str:
    """The commit that the wheel of this package was built from (hatch_build.py); its files are held against pip's record."""
    import importlib.metadata

    try:
        built = (PACKAGE / "commit.txt").read_text().strip()
        distribution = importlib.metadata.distribution("science-kit")
    except (OSError, importlib.metadata.PackageNotFoundError):
        return "unknown"
    root = PACKAGE.parent
    if Path(str(distribution.locate_file(PACKAGE.name))).resolve() != PACKAGE or built == "unknown":
        return "unknown"
    for file in distribution.files or []:
        if file.hash and file.parts[0] == PACKAGE.name and not recorded(root / file, file.hash):
            return f"{built.removesuffix('-dirty')}-dirty"
    return built


def recorded(path: Path, wanted: FileHash) -> bool:
    """Whether a file has the hash that a wheel's RECORD gives it: base64 for URLs, without padding."""
    import base64
    import hashlib

    try:
        digest = hashlib.new(wanted.mode, path.read_bytes()).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == wanted.value
