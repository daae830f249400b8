"""Can this image be trusted? Export with checksums, re-hash, sign and verify with the SIF's own PGP signatures."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from kit.core.checksums import sha256
from kit.core.errors import KitError
from kit.core.files import read_json, sha256_plain, write_atomic, write_json
from kit.core.schema import parse
from kit.images.built import Built, Record, built_sif, docker_has, record_path, sif_labels, singularity
from kit.images.render import Image, load_image
from kit.images.sbom import sbom

CHECKSUMS = "SHA256SUMS"


def export(image: Image, folder: Path) -> list[Path]:
    """Writes the SIF, the OCI archive where a Docker image is there, the SBOM and SHA256SUMS; returns the files."""
    sif = built_sif(image)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{image.name}-{image.hash[:12]}"
    files = [folder / f"{stem}.sif", folder / f"{stem}.cdx.json"]
    for file in (*files, folder / f"{stem}.oci.tar", folder / CHECKSUMS):
        if file.exists():
            raise KitError(f"{file}: exists; an export overwrites nothing. Name another folder with --to")
    shutil.copyfile(sif, files[0])
    write_atomic(files[1], sbom(Built(image, "sif")))
    if docker_has(image.tag):
        files.append(oci_archive(image, folder / f"{stem}.oci.tar"))
    write_atomic(folder / CHECKSUMS, "".join(f"{sha256(file)}  {file.name}\n" for file in files))
    return [*files, folder / CHECKSUMS]


def oci_archive(image: Image, path: Path) -> Path:
    if not shutil.which("skopeo"):
        raise KitError("skopeo is not on the PATH, which writes OCI archives: sudo apt-get install skopeo")
    partial = path.with_suffix(".partial")
    command = ["skopeo", "copy", "-q", f"docker-daemon:{image.tag}", f"oci-archive:{partial}:{image.tag}"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        partial.unlink(missing_ok=True)
        raise KitError(f"{path}: cannot be written: {result.stderr.strip()}")
    partial.rename(path)
    return path


def verify(what: str, arguments: Sequence[str] = ()) -> list[str]:
    """What is in order about an exported folder, or else about the built image of this name; KitError for what is not."""
    folder = Path(what)
    return verify_export(folder) if folder.is_dir() else verify_image(load_image(what, arguments))


def verify_image(image: Image) -> list[str]:
    """What was found to be in order about a built SIF; KitError for the first thing that is not."""
    sif = built_sif(image)
    if not record_path(sif).is_file():
        raise KitError(f"{record_path(sif)}: missing, so nothing says what {sif.name} was; build it again with --force")
    facts = parse(Record, read_json(record_path(sif)), record_path(sif))
    digest = f"sha256:{sha256(sif)}"
    if digest != facts.digest:
        raise KitError(f"{sif}: its checksum is {digest}, but {facts.digest} was built; build it again with --force")
    found = sif_labels(sif).get("kit.recipe")
    if found != f"sha256:{image.hash}":
        raise KitError(f"{sif}: made from the recipe {found}, but today's {image.name} is sha256:{image.hash}")
    return [f"digest {digest}", f"recipe sha256:{image.hash}", f"commit {facts.commit}", signature(sif)]


def signature(sif: Path) -> str:
    """Who signed a SIF, by Apptainer's own verification; KitError for a signature that does not fit."""
    result = subprocess.run([*singularity(), "verify", "--json", "--local", str(sif)], capture_output=True, text=True)
    text = result.stdout + result.stderr
    if "signature not found" in text.lower() or "signature object" in text.lower():
        return "signature none (kit image sign makes one)"
    if result.returncode:
        raise KitError(f"{sif}: its signature does not verify:\n{text.strip()}")
    keys = [key["Signer"]["Fingerprint"] for key in json.loads(result.stdout)["SignerKeys"]]
    return f"signature {' '.join(keys)}"


def sign(image: Image) -> str:
    """Signs the SIF with the user's PGP key and returns the signer; the new bytes are recorded."""
    sif = built_sif(image)
    verify_image(image)
    copy = sif.with_suffix(".partial")
    shutil.copyfile(sif, copy)
    # Without a key Apptainer asks for one; a program cannot answer.
    result = subprocess.run([*singularity(), "sign", str(copy)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        copy.unlink()
        raise KitError(f"{sif}: cannot be signed: {result.stderr.strip()}\nMake a key first: {singularity()[0]} key newpair")
    facts = parse(Record, read_json(record_path(sif)), record_path(sif))
    signer = signature(copy)
    digest = f"sha256:{sha256(copy)}"
    copy.rename(sif)
    write_json(record_path(sif), facts.model_copy(update={"digest": digest}).model_dump(mode="json"))
    return signer


def verify_export(folder: Path) -> list[str]:
    """Re-hashes what `export` wrote, and every blob of an OCI archive; KitError names both sums of what differs."""
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise KitError(f"{sums}: missing; kit image export writes one")
    found = []
    for line in sums.read_text().splitlines():
        wanted, _, name = line.partition("  ")
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise KitError(f"{file}: missing, but {CHECKSUMS} lists it")
        actual = sha256_plain(folder, name).removeprefix("sha256:")  # a link could ask what else lies on this machine
        if actual != wanted:
            raise KitError(f"{file}: its checksum is {actual}, but {CHECKSUMS} says {wanted}")
        if name.endswith(".oci.tar"):
            check_blobs(file)
        found.append(f"{name} sha256:{actual}")
    return found


def check_blobs(archive: Path) -> None:
    """Every blob of an OCI archive is what its name says."""
    import hashlib

    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if member.isfile() and parts[:2] == ("blobs", "sha256"):
                file = tar.extractfile(member)
                assert file is not None  # a regular file has content
                actual = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                if actual != parts[-1]:
                    raise KitError(f"{archive}: blob {parts[-1]} has the checksum {actual}")
