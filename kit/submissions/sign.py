"""Signs a submission: its sha256sums.txt, and with it every file. The key and its passphrase stay with the signer's own
programs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kit.core.errors import KitError, plain
from kit.core.files import read_text, write_atomic
from kit.submissions.verify import MOST_PROBLEMS, NAMESPACE, NOTATION, SIGNATURES, need, rehash, tool_of

# The words that make a signature of `sums` in `out`, by the program.
SIGNERS: dict[str, Callable[[str, str, str], list[str]]] = {
    "ssh": lambda key, sums, out: ["-Y", "sign", "-q", "-f", key, "-n", NAMESPACE, sums],
    "minisign": lambda key, sums, out: ["-S", "-s", key, "-m", sums, "-x", out, "-t", NAMESPACE],
    "gpg": lambda key, sums, out: [
        *("--quiet", "--local-user", key, "--armor", "--sig-notation", f"{NOTATION}={NAMESPACE}"),
        *("--output", out, "--detach-sign", sums),
    ],
}


def sign(folder: Path, key: str, tool: str | None = None, force: bool = False) -> Path:
    """Writes the signature of a submission beside its sums, and returns it.

    `key` is a file of ssh or minisign, or the id of a key in GPG's keyring; `tool` (ssh, minisign, gpg) is found out from
    it. KitError for a folder that is not as it was packed, and for a signature that is there, unless `force` replaces it.
    """
    if tool is not None and tool not in SIGNERS:
        raise KitError(f"--with {tool}: one of {', '.join(SIGNERS)} is needed")
    tool = tool or tool_for(key)
    program = need(tool)
    target = folder / SIGNATURES[tool]
    found = rehash(folder)
    if found.problems:
        problems = [plain(problem) for problem in found.problems[:MOST_PROBLEMS]]
        raise KitError("\n".join([f"{plain(str(folder))}: not as it was packed, and is not signed:", *problems]))
    if target.exists() and not force:
        raise KitError(f"{target}: exists; --force replaces it")
    with tempfile.TemporaryDirectory(prefix="kit-") as name:
        sums = Path(name, "sums")
        sums.write_bytes(found.sums)
        out = Path(name, "sums.sig")  # the name that ssh-keygen gives it
        # Its questions, for a passphrase or a touch, go to the terminal, and so do its messages.
        words = [program, *SIGNERS[tool](key, str(sums), str(out))]
        code = subprocess.run(words, stdout=subprocess.DEVNULL).returncode
        if code or not out.is_file():
            raise KitError(f"{folder}: {program} has not signed it with {key} (exit code {code})")
        write_atomic(target, out.read_text())
    return target


def tool_for(key: str) -> str:
    """The program that a key is for: by the content of its file, and GPG's where there is no such file."""
    path = Path(key)
    if not path.is_file():
        if "/" in key:
            raise KitError(f"{key}: no such key")
        return "gpg"
    tool = tool_of(read_text(path))
    if tool in ("", "gpg"):
        hint = "a key of GPG is named by its id or address, and lies in its keyring" if tool else "--with names its program"
        raise KitError(f"{key}: not a key of ssh or minisign; {hint}")
    return tool
