"""Is every file of a submission the one that was packed, and who vouches for it?

sha256sums.txt lists every other file, so a signature of it covers them all. A signature proves something only with a key
that the verifier has from elsewhere: keys that lie in the folder itself are never used.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from kit.core.checksums import SUMS, parse_sums, sha256_read
from kit.core.errors import KitError, plain
from kit.core.files import open_plain, read_text
from kit.submissions.layout import MEGABYTE, MOST_FILES, NAME

# What a signature is for. One made for anything else, a commit of git for example, is none of a submission.
NAMESPACE = "kit-submission"
NOTATION = "purpose@kit-submission"  # where a signature of GPG says the same; names of notations look like addresses
# The file of a signature, by the program that makes and verifies it.
SIGNATURES = {"ssh": f"{SUMS}.sig", "minisign": f"{SUMS}.minisig", "gpg": f"{SUMS}.asc"}
PROGRAMS = {"ssh": "ssh-keygen", "minisign": "minisign", "gpg": "gpg"}
MOST_SIGNATURE, MOST_SUMS = 16_000, 4 * MEGABYTE  # bytes
MOST_PROBLEMS = 20  # that are shown: a stranger's folder could give any number
SECONDS = 60  # that a program may take to verify a few kilobytes


@dataclass(frozen=True)
class Signed:
    """A signature that fits the folder: made by a key of `signer`, the organisation in the folder's path."""

    file: str
    tool: str
    signer: str
    key: str  # its fingerprint, or its id where there are only ids


@dataclass(frozen=True)
class Trusted:
    """The keys that the verifier trusts; none of them comes from the folder."""

    allowed_signers: Path | None = None  # as ssh has it, with organisations as principals
    keys: Path | None = None  # a public key, or a folder of them: ORGANISATION.pub, ORGANISATION.asc


@dataclass
class Verified:
    """What was found of a folder; it is as it was packed if there are no problems (`FILE: PROBLEM`)."""

    folder: Path
    files: int = 0
    size: int = 0  # bytes of the files that have their checksum
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    signatures: list[Signed] = field(default_factory=list)
    sums: bytes = b""  # sha256sums.txt as it was read, which signatures are of


def verify(folder: Path, trusted: Trusted | None = None, required: bool = False) -> Verified:
    """Hashes every file of a submission again, and verifies its signatures.

    `required` makes a missing signature a problem; one that is there and that nobody can vouch for always is. KitError for
    keys that are not where they were said to be, also where nothing is signed.
    """
    if trusted and trusted.allowed_signers and not trusted.allowed_signers.is_file():
        raise KitError(f"{trusted.allowed_signers}: no file of allowed signers")
    if trusted and trusted.keys and not trusted.keys.exists():
        raise KitError(f"{trusted.keys}: no such key")
    found = rehash(folder)
    for tool, name in SIGNATURES.items():
        if os.path.lexists(folder / name):
            try:
                found.signatures.append(signed(folder, tool, found.sums, trusted or Trusted()))
            except KitError as error:
                found.problems.append(f"{name}: {error}")
    if required and not found.signatures:
        found.problems.append(f"{SUMS}: carries no signature that counts, and one is required: kit submission sign")
    return found


def rehash(folder: Path) -> Verified:
    """Hashes every file against sha256sums.txt, several at once; what lies there and is not listed is a problem.

    No more than a block of each file is in memory, no link is followed, and nothing but plain files is opened.
    """
    started = time.perf_counter()
    if not folder.is_dir():
        raise KitError(f"{folder}: not a folder")
    found = Verified(folder)
    if not os.path.lexists(folder / SUMS):
        found.problems.append(f"{SUMS}: missing, so this is no submission; give the folder of one")
        return found
    try:
        found.sums = small(folder, SUMS, MOST_SUMS)
        wanted = parse_sums(found.sums.decode(errors="surrogateescape"), Path(SUMS))
        there = set(entries(folder)) - {SUMS, *SIGNATURES.values()}
    except KitError as error:
        found.problems.append(str(error).replace(f"{folder}/", "", 1))
        return found
    if not wanted:
        found.problems.append(f"{SUMS}: lists no file")
    # What is listed and was not found in the folder is not looked for: it may be the name of a file elsewhere.
    found.problems += [f"{name}: missing, but {SUMS} lists it" for name in sorted(wanted.keys() - there)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for size, problem in pool.map(lambda name: hashed(folder, name, wanted[name]), sorted(wanted.keys() & there)):
            found.files += not problem
            found.size += size
            found.problems += [problem] if problem else []
    found.problems += [f"{name}: not listed in {SUMS}" for name in sorted(there - wanted.keys())]
    found.seconds = time.perf_counter() - started
    return found


def hashed(folder: Path, name: str, wanted: str) -> tuple[int, str]:
    """Bytes of a file that has its checksum, or 0 and what is wrong with it."""
    try:
        with open_plain(folder, name) as file:
            digits, size = sha256_read(file), file.tell()
    except KitError as error:
        return 0, str(error).replace(f"{folder}/", "", 1)
    return (size, "") if digits == wanted else (0, f"{name}: differs from its checksum in {SUMS}")


def entries(folder: Path) -> Iterator[str]:
    """The names of all that lies below a folder and is no folder itself; no link is followed."""

    def fail(error: OSError) -> None:
        raise KitError(f"{error.filename}: cannot be listed: {error.strerror}")

    count = 0
    for base, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        for name in (*files, *links):
            count += 1
            if count > MOST_FILES:
                raise KitError(f".: holds more than {MOST_FILES} files, which no submission does")
            yield os.path.join(base, name).removeprefix(f"{folder}/")


def small(folder: Path, name: str, most: int) -> bytes:
    """The content of a plain file of at most so many bytes; KitError for any other."""
    with open_plain(folder, name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise KitError(f"{folder / name}: has more than {decimal(most)}")
    return content


def signed(folder: Path, tool: str, sums: bytes, trusted: Trusted) -> Signed:
    """The signature of one program; KitError where it does not fit the sums, or is by no key of the organisation."""
    organisation = folder.resolve().parts[-4] if len(folder.resolve().parts) > 4 else ""
    if not NAME.fullmatch(organisation):
        raise KitError("the folder does not lie at {organisation}/{application}/{system}/{descriptor}; nobody could sign it")
    for path in (trusted.allowed_signers, trusted.keys):
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise KitError(f"{path} lies in the submission, which cannot vouch for itself; take keys from elsewhere")
    try:
        signature = small(folder, SIGNATURES[tool], MOST_SIGNATURE)
    except KitError as error:
        raise KitError(str(error).removeprefix(f"{folder / SIGNATURES[tool]}: ")) from None
    with tempfile.TemporaryDirectory(prefix="kit-") as name:
        place = Path(name)
        (place / "sums").write_bytes(sums)
        (place / "signature").write_bytes(signature)
        key = VERIFIERS[tool](place, organisation, trusted)
    return Signed(SIGNATURES[tool], tool, organisation, key)


def ssh(place: Path, organisation: str, trusted: Trusted) -> str:
    """The fingerprint of the key of a signature by ssh-keygen, which an allowed signer has."""
    sums, signature = (place / "sums").read_bytes(), str(place / "signature")
    made = run("ssh", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature, input=sums)
    match = re.search(r" key (SHA256:\S+)", made.stdout)
    if made.returncode or not match:
        raise KitError(f"no signature of {SUMS} for {NAMESPACE}: {said(made)}")
    given = [path for path in (trusted.allowed_signers,) if path is not None]
    keys = public_keys("ssh", organisation, trusted)
    lists = [path.resolve() for path in given]
    if keys:
        own = [" ".join(read_text(key).split()[:2]) for key in keys]
        (place / "allowed").write_text("".join(f"{organisation} {key}\n" for key in own))
        lists.append(place / "allowed")
    for allowed in lists:
        words = ("-Y", "verify", "-f", str(allowed), "-I", organisation, "-n", NAMESPACE, "-s", signature)
        if run("ssh", *words, input=sums).returncode == 0:
            return match[1]
    raise strange(match[1], organisation, [*given, *keys], "--allowed-signers FILE or --key FILE")


def minisign(place: Path, organisation: str, trusted: Trusted) -> str:
    """The id of the key of a signature by minisign."""
    keys = public_keys("minisign", organisation, trusted)
    made = key_id((place / "signature").read_text(errors="replace"))
    for key in keys:
        if key_id(read_text(key)) != made:
            continue
        answer = run("minisign", "-V", "-Q", "-p", key.resolve(), "-x", place / "signature", "-m", place / "sums")
        if answer.returncode:
            raise KitError(f"no signature of {SUMS}: {said(answer)}")
        if answer.stdout.strip() != NAMESPACE:
            raise KitError(f"made for another purpose than {NAMESPACE}, as its trusted comment says")
        return made
    raise strange(made, organisation, keys, "--key FILE")


def key_id(text: str) -> str:
    """The id in a public key or signature of minisign: 8 bytes behind 2 of the algorithm, the last byte first."""
    try:
        return base64.b64decode(text.splitlines()[1])[2:10][::-1].hex().upper()
    except (IndexError, ValueError, binascii.Error):
        raise KitError("neither key nor signature of minisign") from None


def gpg(place: Path, organisation: str, trusted: Trusted) -> str:
    """The fingerprint of the key of a signature by GPG, by a keyring that holds the organisation's keys alone."""
    keys = public_keys("gpg", organisation, trusted)
    home = place / "home"
    home.mkdir(mode=0o700)
    common = ("--homedir", home, "--no-options", "--batch", "--no-auto-key-retrieve", "--no-autostart")
    for key in keys:
        answer = run("gpg", *common, "--import", key.resolve())
        if answer.returncode:
            raise KitError(f"{key}: no public key of GPG: {said(answer)}")
    words = ("--trust-model", "always", "--status-fd", "1", "--verify", place / "signature", place / "sums")
    answer = run("gpg", *common, *words)
    status = re.findall(r"^\[GNUPG:\] (\w+) ?(.*)$", answer.stdout, re.MULTILINE)
    facts: dict[str, str] = dict(status)
    if "NO_PUBKEY" in facts:
        raise strange((facts.get("ERRSIG") or facts["NO_PUBKEY"]).split()[-1], organisation, keys, "--key FILE")
    count = [name for name, _ in status].count("VALIDSIG")
    if answer.returncode or "GOODSIG" not in facts or count != 1:
        raise KitError(f"no signature of {SUMS}: {said(answer)}")
    if (facts.get("NOTATION_NAME"), facts.get("NOTATION_DATA")) != (NOTATION, NAMESPACE):
        raise KitError(f"made for another purpose than {NAMESPACE}: its notation {NOTATION} does not say it")
    return facts["VALIDSIG"].split()[-1]  # of the primary key


VERIFIERS: dict[str, Callable[[Path, str, Trusted], str]] = {"ssh": ssh, "minisign": minisign, "gpg": gpg}


def public_keys(tool: str, organisation: str, trusted: Trusted) -> list[Path]:
    """The verifier's public keys of an organisation for a program: of a folder by their names, else the one given."""
    path = trusted.keys
    if path is None:
        return []
    candidates = [path / f"{organisation}.{end}" for end in ("pub", "asc")] if path.is_dir() else [path]
    return [key for key in candidates if key.is_file() and tool_of(read_text(key)) == tool]


def tool_of(text: str) -> str:
    """The program that a key belongs to, by how it begins; empty for what is no key."""
    for tool, start in (
        ("ssh", r"(ssh-|ecdsa-|sk-|-----BEGIN (OPENSSH|RSA|EC|DSA) PRIVATE KEY)"),
        ("minisign", r"untrusted comment:"),
        ("gpg", r"-----BEGIN PGP "),
    ):
        if re.match(start, text.lstrip()):
            return tool
    return ""


def strange(key: str, organisation: str, trusted: list[Path], option: str) -> KitError:
    if not trusted:
        return KitError(f"by the key {key}, and no key of {organisation} is known here; give one: {option}")
    return KitError(f"by the key {key}, which is no key of {organisation} in {', '.join(map(str, trusted))}")


def run(tool: str, *words: Any, input: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Runs the program of a kind of signature, in English and without a terminal; KitError where it is missing."""
    program = need(tool)
    try:
        answer = subprocess.run(
            [program, *map(str, words)],
            input=input,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise KitError(f"{program} has not answered in {SECONDS} s") from None
    texts = (text.decode(errors="replace") for text in (answer.stdout, answer.stderr))
    return subprocess.CompletedProcess(answer.args, answer.returncode, *texts)


def need(tool: str) -> str:
    """The program of a kind of signature; KitError says what to install where it is missing."""
    program = PROGRAMS[tool]
    if not shutil.which(program):
        package = {"ssh": "openssh-client", "minisign": "minisign", "gpg": "gnupg"}[tool]
        raise KitError(f"{program} is not on the PATH; on Debian: sudo apt-get install {package}")
    return program


def said(answer: subprocess.CompletedProcess[str]) -> str:
    """What a program said last, without its status lines."""
    lines = [line for line in (answer.stderr or answer.stdout).splitlines() if line and not line.startswith("[GNUPG:]")]
    return lines[-1] if lines else f"exit code {answer.returncode}"


def as_json(found: Verified) -> dict[str, Any]:
    return {
        "folder": str(found.folder),
        "verified": not found.problems,
        "files": found.files,
        "bytes": found.size,
        "seconds": found.seconds,
        "signatures": [vars(one) for one in found.signatures],
        "problems": found.problems,
    }


def report(found: Verified) -> str:
    """What was verified, by whom it is signed, and the problems, a line each."""
    rate = f"{decimal(round(found.size / found.seconds))}/s" if found.seconds else "no time"
    sums = f"{found.files} files have their checksum, {decimal(found.size)} in {found.seconds:.2f} s ({rate})"
    lines = [sums] if found.files else []
    lines += [f"{one.file}: signed by {one.signer}, {one.tool} key {one.key}" for one in found.signatures]
    lines += [] if found.signatures else ["no signature"] if not found.problems else []
    # A name may hold a newline, behind which it would read like a line of this report.
    lines += [plain(problem) for problem in found.problems[:MOST_PROBLEMS]]
    if len(found.problems) > MOST_PROBLEMS:
        lines.append(f"{len(found.problems) - MOST_PROBLEMS} more problems")
    verdict = f"refused, {len(found.problems)} problem(s)" if found.problems else "verified"
    return "\n".join([*lines, f"{plain(str(found.folder))}: {verdict}"])
