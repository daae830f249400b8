"""Can this image be trusted? Export with checksums, re-hash, sign and verify with the SIF's own PGP signatures."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from kit.core.checksums import SUMS, digest, labelled, plain_digest, read_sums, sha256, sha256_read, write_sums
from kit.core.errors import KitError
from kit.core.files import read_json, write_atomic, write_json
from kit.core.schema import parse
from kit.images.built import Built, Record, built_sif, docker_has, record_path, sif_labels, singularity
from kit.images.render import Image, load_image
from kit.images.sbom import sbom


def export(image: Image, folder: Path) -> list[Path]:
    """Writes the SIF, the OCI archive where a Docker image is there, the SBOM and sha256sums.txt; returns the files."""
    sif = built_sif(image)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{image.name}-{image.hash[:12]}"
    files = [folder / f"{stem}.sif", folder / f"{stem}.cdx.json"]
    for file in (*files, folder / f"{stem}.oci.tar", folder / SUMS):
        if file.exists():
            raise KitError(f"{file}: exists; an export overwrites nothing. Name another folder with --to")
    shutil.copyfile(sif, files[0])
    write_atomic(files[1], sbom(Built(image, "sif")))
    if docker_has(image.tag):
        files.append(oci_archive(image, folder / f"{stem}.oci.tar"))
    return [*files, write_sums(folder, {file.name: sha256(file) for file in files})]


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
    actual = digest(sif)
    if actual != facts.digest:
        raise KitError(f"{sif}: its checksum is {actual}, but {facts.digest} was built; build it again with --force")
    found = sif_labels(sif).get("kit.recipe")
    if found != image.recipe_digest:
        raise KitError(f"{sif}: made from the recipe {found}, but today's {image.name} is {image.recipe_digest}")
    return [f"digest {actual}", f"recipe {image.recipe_digest}", f"commit {facts.commit}", signature(sif)]


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
    signed = digest(copy)
    copy.rename(sif)
    write_json(record_path(sif), facts.model_copy(update={"digest": signed}).model_dump(mode="json"))
    return signer


def verify_export(folder: Path) -> list[str]:
    """Re-hashes what `export` wrote, and every blob of an OCI archive; KitError names both sums of what differs."""
    if not (folder / SUMS).is_file():
        raise KitError(f"{folder / SUMS}: missing; kit image export writes one")
    found = []
    for name, wanted in read_sums(folder).items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise KitError(f"{file}: missing, but {SUMS} lists it")
        actual = plain_digest(folder, name)  # a link could reveal other files of this machine
        if actual != labelled(wanted):
            raise KitError(f"{file}: its checksum is {actual}, but {SUMS} says {labelled(wanted)}")
        if name.endswith(".oci.tar"):
            check_blobs(file)
        found.append(f"{name} {actual}")
    return found


def check_blobs(archive: Path) -> None:
    """Every blob of an OCI archive is what its name says."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if member.isfile() and parts[:2] == ("blobs", "sha256"):
                file = tar.extractfile(member)
                assert file is not None  # a regular file has content
                actual = sha256_read(file)
                if actual != parts[-1]:
                    raise KitError(f"{archive}: blob {parts[-1]} has the checksum {actual}")
