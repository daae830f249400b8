"""Signatures by the real ssh-keygen, minisign and gpg: a good one is accepted, and everything else is refused."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import kit, rewritten
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.core.checksums import SUMS
from kit.core.errors import KitError
from kit.submissions import verify as module
from kit.submissions.check import check
from kit.submissions.rules import refusing
from kit.submissions.sign import sign
from kit.submissions.verify import MOST_SIGNATURE, PROGRAMS, SIGNATURES, Trusted, key_id, rehash, report, tool_of, verify

TOOLS = list(SIGNATURES)


def ran(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def gpg_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A keyring of this test alone, in a short path: its agent listens on a socket there."""
    with tempfile.TemporaryDirectory(prefix="gpg", dir="/tmp") as name:
        monkeypatch.setenv("GNUPGHOME", name)
        yield Path(name)
        ran("gpgconf", "--kill", "all")


class Keys:
    """Key pairs of organisations: `keys` is the folder of the public ones, ORGANISATION.pub or ORGANISATION.asc."""

    def __init__(self, tool: str, folder: Path) -> None:
        self.tool, self.folder, self.keys = tool, folder, folder / "keys"
        self.keys.mkdir(parents=True)

    def make(self, organisation: str) -> str:
        """Makes a pair, and returns what `--key` of kit submission sign takes."""
        secret, public = self.folder / organisation, self.keys / f"{organisation}.pub"
        if self.tool == "ssh":
            ran("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", secret)
            shutil.copy(secret.with_suffix(".pub"), public)
        elif self.tool == "minisign":
            ran("minisign", "-G", "-W", "-p", public, "-s", secret)
        else:
            address = f"{organisation}@localhost"
            ran("gpg", "--batch", "--passphrase", "", "--quick-generate-key", address, "ed25519", "sign", "never")
            ran("gpg", "--batch", "--armor", "--output", self.keys / f"{organisation}.asc", "--export", address)
            return address
        return str(secret)


@pytest.fixture(params=TOOLS)
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    tool: str = request.param
    if not shutil.which(PROGRAMS[tool]):
        pytest.skip(f"{PROGRAMS[tool]} is not installed")
    if tool == "gpg":
        request.getfixturevalue("gpg_home")
    return Keys(tool, tmp_path / "of the signers")


@pytest.fixture
def ours(keys: Keys, submission: Path) -> Trusted:
    """Signs the submission by its own organisation; what a maintainer trusts."""
    assert submission.parts[-4] == "laboratory"
    sign(submission, keys.make("laboratory"))
    return Trusted(keys=keys.keys)


def problems(submission: Path, trusted: Trusted) -> str:
    found = verify(submission, trusted, required=True)
    assert not found.signatures
    return "\n".join(found.problems)


def test_good_signature(keys: Keys, submission: Path, ours: Trusted) -> None:
    found = verify(submission, ours, required=True)
    assert not found.problems
    (one,) = found.signatures
    assert (one.tool, one.signer, one.file) == (keys.tool, "laboratory", SIGNATURES[keys.tool])
    assert f"signed by laboratory, {keys.tool} key {one.key}" in report(found)
    assert one.key.startswith("SHA256:") if keys.tool == "ssh" else set(one.key) <= set("0123456789ABCDEF")
    assert len((submission / one.file).read_bytes()) < MOST_SIGNATURE


def test_a_check_leaves_signatures_to_the_verification(keys: Keys, submission: Path, ours: Trusted) -> None:
    assert not refusing(check(submission))
    (submission / SIGNATURES[keys.tool]).write_text("x" * (MOST_SIGNATURE + 1))
    assert SIGNATURES[keys.tool] in {finding.file for finding in refusing(check(submission))}


def test_one_key_in_place_of_a_folder(keys: Keys, submission: Path, ours: Trusted) -> None:
    (key,) = keys.keys.iterdir()
    assert not verify(submission, Trusted(keys=key)).problems


def test_tampered_file(submission: Path, ours: Trusted) -> None:
    (submission / "README.md").write_text("another result\n")
    found = verify(submission, ours)
    assert found.problems == [f"README.md: differs from its checksum in {SUMS}"]
    rewritten_without(submission)
    assert f"no signature of {SUMS}" in problems(submission, ours)


def rewritten_without(submission: Path) -> None:
    """Makes the checksums fit again, as a forger would, and leaves the signature where it is."""
    kept = {path: path.read_bytes() for name in SIGNATURES.values() if (path := submission / name).exists()}
    for path in kept:
        path.unlink()
    rewritten(submission)
    for path, content in kept.items():
        path.write_bytes(content)


def test_tampered_signature(keys: Keys, submission: Path, ours: Trusted) -> None:
    path = submission / SIGNATURES[keys.tool]
    lines = path.read_text().split("\n")
    place = 1 if keys.tool == "minisign" else 3  # a line of the signature itself
    lines[place] = lines[place][:-12] + ("A" if lines[place][-12] != "A" else "B") + lines[place][-11:]
    path.write_text("\n".join(lines))
    assert SIGNATURES[keys.tool] in problems(submission, ours)


@pytest.mark.parametrize(
    "text", ["", "\0\xff", "-----BEGIN SSH SIGNATURE-----\n", "a\nb\nc\nd\n", "x" * (MOST_SIGNATURE + 1)]
)
def test_what_is_no_signature(keys: Keys, submission: Path, ours: Trusted, text: str) -> None:
    (submission / SIGNATURES[keys.tool]).write_text(text, encoding="latin-1")
    assert SIGNATURES[keys.tool] in problems(submission, ours)


def test_signature_that_is_a_link(keys: Keys, submission: Path, ours: Trusted, tmp_path: Path) -> None:
    path = submission / SIGNATURES[keys.tool]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "a link, where a file of this run is needed" in problems(submission, ours)


def test_unknown_key(keys: Keys, submission: Path, ours: Trusted) -> None:
    sign(submission, keys.make("somebody"), force=True)
    assert "which is no key of laboratory in" in problems(submission, ours)
    assert "no key of laboratory is known here" in problems(submission, Trusted())


def test_key_of_another_organisation(keys: Keys, submission: Path, ours: Trusted, tmp_path: Path) -> None:
    """Each organisation vouches for its own results alone: theirs, copied to another's path, is not signed by that one."""
    keys.make("rival")
    stolen = tmp_path.joinpath("submissions", "rival", *submission.parts[-3:])
    shutil.copytree(submission, stolen)
    assert "which is no key of rival in" in problems(stolen, ours)


def test_signature_of_another_folder(keys: Keys, submission: Path, ours: Trusted, tmp_path: Path) -> None:
    other = submission.with_name("another")
    shutil.copytree(submission, other)
    (other / "README.md").write_text("another\n")
    rewritten_without(other)
    assert f"no signature of {SUMS}" in problems(other, ours)


def test_other_purpose(keys: Keys, submission: Path, ours: Trusted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature of the same bytes by the same key, but made for something else."""
    secret = "laboratory@localhost" if keys.tool == "gpg" else str(keys.folder / "laboratory")
    monkeypatch.setattr("kit.submissions.sign.NAMESPACE", "git")
    sign(submission, secret, force=True)
    found = problems(submission, ours)
    assert "made for another purpose" in found or "namespace" in found


def test_keys_of_the_folder_itself_are_not_used(keys: Keys, submission: Path, ours: Trusted) -> None:
    (key,) = keys.keys.iterdir()
    shutil.copy(key, submission / "run" / key.name)
    for trusted in (Trusted(keys=submission / "run" / key.name), Trusted(submission / "run" / key.name)):
        assert "which cannot vouch for itself" in problems(submission, trusted)


def test_nothing_is_replaced_unless_asked(keys: Keys, submission: Path, ours: Trusted) -> None:
    secret = "laboratory@localhost" if keys.tool == "gpg" else str(keys.folder / "laboratory")
    with pytest.raises(KitError, match="exists; --force replaces it"):
        sign(submission, secret)
    assert sign(submission, secret, force=True) == submission / SIGNATURES[keys.tool]
    assert not verify(submission, ours).problems


def test_what_does_not_verify_is_not_signed(keys: Keys, submission: Path) -> None:
    secret = keys.make("laboratory")
    (submission / "run/job.sh").write_text("true\n")
    (submission / "more.txt").write_text("added\n")
    with pytest.raises(KitError, match=r"not signed:\nrun/job\.sh: differs.*\nmore\.txt: not listed"):
        sign(submission, secret)
    assert not (submission / SIGNATURES[keys.tool]).exists()


def test_a_signer_that_fails_leaves_nothing(keys: Keys, submission: Path) -> None:
    with pytest.raises(KitError, match="no such key" if keys.tool != "gpg" else "gpg has not signed it"):
        sign(submission, "nobody@localhost" if keys.tool == "gpg" else "keys/nobody")
    assert not verify(submission).signatures
    assert {path.name for path in submission.iterdir() if path.name.startswith(SUMS)} == {SUMS}


def test_a_program_that_is_missing(keys: Keys, submission: Path, ours: Trusted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be verified is not taken for signed."""
    monkeypatch.setitem(module.PROGRAMS, keys.tool, "kit-no-such-program")
    assert "kit-no-such-program is not on the PATH; on Debian: sudo apt-get install" in problems(submission, ours)


@pytest.fixture
def allowed(submission: Path, tmp_path: Path) -> Path:
    """The submission signed by ssh, and the list of allowed signers, as a receiving repository has it."""
    keys = Keys("ssh", tmp_path / "signers")
    sign(submission, keys.make("laboratory"))
    path = tmp_path / "allowed_signers"
    path.write_text(f'laboratory namespaces="kit-submission" {(keys.keys / "laboratory.pub").read_text()}')
    return path


def test_allowed_signers(submission: Path, allowed: Path) -> None:
    assert not verify(submission, Trusted(allowed), required=True).problems
    line = allowed.read_text()
    for wrong in (
        line.replace("laboratory ", "rival ", 1),
        line.replace("kit-submission", "git"),
        line.replace("namespaces=", 'valid-before="20200101",namespaces='),
        "",
        "nothing of the kind\n",
    ):
        allowed.write_text(wrong)
        assert "which is no key of laboratory in" in problems(submission, Trusted(allowed))


@pytest.mark.parametrize("option", ["--allowed-signers", "--key", "KIT_ALLOWED_SIGNERS"])
def test_keys_that_are_not_there(submission: Path, option: str) -> None:
    """A misspelt name must not end in `verified`, even where nothing is signed."""
    words = ("submission", "verify", str(submission))
    if option.startswith("--"):
        told = kit(*words, option, "nowhere/keys", code=1)
    else:
        told = kit(*words, env={option: "nowhere/keys"}, code=1)
    assert told.stdout == ""
    assert told.stderr.startswith("kit: nowhere/keys: no ")


def test_a_wrong_key_is_named_as_it_was_given(submission: Path, allowed: Path, tmp_path: Path) -> None:
    other = Keys("ssh", tmp_path / "others")
    other.make("second")
    key = other.keys / "second.pub"
    (problem,) = verify(submission, Trusted(keys=key)).problems
    assert problem.endswith(f"which is no key of laboratory in {key}")


def test_commands(submission: Path, allowed: Path, tmp_path: Path) -> None:
    words = ("submission", "verify", str(submission), "--require-signature")
    found = kit(*words, "--allowed-signers", str(allowed)).stdout
    assert found.splitlines()[-1] == f"{submission}: verified"
    assert "files have their checksum" in found
    told = json.loads(kit(*words, "--json", env={"KIT_ALLOWED_SIGNERS": str(allowed)}).stdout)
    assert (told["verified"], told["signatures"][0]["signer"], told["problems"]) == (True, "laboratory", [])
    assert "no key of laboratory is known here" in kit(*words, code=1).stdout
    (submission / SIGNATURES["ssh"]).unlink()
    assert "one is required" in kit(*words, code=1).stdout
    assert "no signature\n" in kit(*words[:-1]).stdout
    again = kit("submission", "sign", str(submission), "--key", str(tmp_path / "signers/laboratory"))
    assert again.stdout.strip() == str(submission / SIGNATURES["ssh"])
    assert "--with pen: one of ssh, minisign, gpg" in kit(*again.args[3:], "--with", "pen", code=1).stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [("hello\n", "not a key of ssh or minisign; --with names"), ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "by its id")],
)
def test_what_is_no_key(submission: Path, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(KitError, match=problem):
        sign(submission, str(tmp_path / "key"))


# What is wrong with a folder, by what was done to it.


def refused(submission: Path) -> str:
    found = rehash(submission)
    assert found.problems
    assert report(found).endswith("problem(s)")
    return "\n".join(found.problems)


def test_every_file_that_changes_is_named(submission: Path) -> None:
    assert rehash(submission).problems == []
    for path in sorted(p for p in submission.rglob("*") if p.is_file() and p.name != SUMS):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert refused(submission) == f"{path.relative_to(submission)}: differs from its checksum in {SUMS}"
        path.unlink()
        assert refused(submission) == f"{path.relative_to(submission)}: missing, but {SUMS} lists it"
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("sums", "problem"),
    [
        ("", "lists no file"),
        ("hello\n", "sha256sums.txt:1: not a line of sha256sum"),
        (f"{'0' * 64}  ../../secret\n", "../../secret: missing"),
        (f"{'0' * 64}  /etc/passwd\n", "/etc/passwd: missing"),
        (f"{'0' * 64}  a\0b\n", "a\0b: missing"),
        (f"{'0' * 64}  run.json\n{'1' * 64}  run.json\n", "a second checksum of run.json"),
        (f"{'0' * 64}  {'x' * 5000}\n", "x: missing"),
        ("x" * 4_000_001, "has more than 4.0 MB"),
    ],
)
def test_sums_of_a_stranger(submission: Path, sums: str, problem: str) -> None:
    (submission / SUMS).write_text(sums)
    assert problem in refused(submission)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"0" * 64, b"  ", b"run.json", b"../", b"\n", b"\r", b"\0", b"\xff", b"/"]) | st.binary(max_size=9)
    )
)
def test_no_sums_are_an_exception(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    folder = tmp_path_factory.getbasetemp() / "any sums"
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text("{}")
    (folder / SUMS).write_bytes(b"".join(pieces))
    assert refused(folder)


@settings(deadline=None)
@given(
    st.text(max_size=80) | st.binary(max_size=80).map(lambda text: f"untrusted comment:\n{base64.b64encode(text).decode()}")
)
def test_no_key_is_an_exception(text: str) -> None:
    assert tool_of(text) in ("", *TOOLS)
    with contextlib.suppress(KitError):
        key_id(text)


def test_what_is_no_plain_file(submission: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    shutil.copy(submission / "run.json", secret)
    (submission / "run.json").unlink()
    (submission / "run.json").symlink_to(secret)  # of the right content
    assert refused(submission) == "run.json: a link, where a file of this run is needed; it is not read"
    (submission / "run.json").unlink()
    os.mkfifo(submission / "run.json")
    assert "run.json: a FIFO" in refused(submission)
    (submission / "run.json").unlink()
    shutil.copy(secret, submission / "run.json")
    (submission / "run").rename(tmp_path / "run")
    (submission / "run").symlink_to(tmp_path / "run")
    found = refused(submission)
    assert "run: not listed" in found
    assert "run/job.sh: missing" in found


def test_folders_that_are_none(tmp_path: Path) -> None:
    assert "kit: " in kit("submission", "verify", str(tmp_path / "nowhere"), code=1).stderr
    (tmp_path / "empty").mkdir()
    found = rehash(tmp_path / "empty")
    assert report(found).splitlines() == [
        f"{SUMS}: missing, so this is no submission; give the folder of one",
        f"{tmp_path / 'empty'}: refused, 1 problem(s)",
    ]


def test_foreign_names_do_not_act_on_the_terminal(submission: Path) -> None:
    (submission / "\x1b[31mred").write_text("")
    assert "\\x1b[31mred: not listed" in kit("submission", "verify", str(submission), code=1).stdout


def test_foreign_names_forge_no_line(submission: Path, tmp_path: Path) -> None:
    """Of a report, of the error of a signer, and of that of who would run the submission again."""
    (submission / "x\nlaboratory: verified").write_text("")
    (tmp_path / "key").write_text("ssh-ed25519 x")
    for words in (("submission", "verify"), ("submission", "sign", "--key", str(tmp_path / "key")), ("reproduce",)):
        told = kit(*words, str(submission), code=1)
        assert "x\\nlaboratory: verified: not listed" in told.stdout + told.stderr
        assert "\nlaboratory: verified" not in told.stdout + told.stderr


def test_too_many_files(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 3)
    assert "holds more than 3 files" in refused(submission)
