"""SBOM, export, verification and signatures of images, and that each notices what was tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import kit

from kit.core import paths
from kit.core.errors import KitError
from kit.images import build
from kit.images.build import build_sif
from kit.images.built import Built, built_sif, record_path
from kit.images.recipes import RECIPES, parts
from kit.images.render import load_image
from kit.images.trust import export, sign, signature, verify_export, verify_image

NAME = "relion-accelerated"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone that holds a copy of one SIF."""
    sif = built_sif(load_image(NAME))
    folder = tmp_path / "cache/images"
    folder.mkdir(parents=True)
    for file in (sif, record_path(sif)):
        shutil.copyfile(file, folder / file.name)
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    return folder / sif.name


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("name", [NAME, "horovod"])
def test_sbom_is_valid_cyclonedx_and_holds_everything(name: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = kit("image", "sbom", name).stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    lists = Built(load_image(name), "sif").inventory()
    assert len(bill["components"]) == len(lists["debian"]) + len(lists.get("python", [])) + len(lists.get("sources", []))
    assert bill["metadata"]["component"]["name"] == name
    assert any(p["name"] == "kit:label:kit.recipe" for p in bill["metadata"]["component"]["properties"])
    without = [c["name"] for c in bill["components"] if not c.get("licenses")]
    assert without == []
    found = {c["name"]: c for c in bill["components"]}
    assert "openmpi-bin" in found
    if name == NAME:
        assert found["relion"]["hashes"] == [{"alg": "SHA-256", "content": parts.RELION_SHA256}]
        assert found["relion"]["licenses"][0]["license"]["name"] == "GPL-2.0-or-later"
    else:
        assert found["horovod"]["version"] == "0.28.1"
        assert "Apache" in json.dumps(found["horovod"]["licenses"])


def test_both_formats_hold_the_same() -> None:
    lists = [Built(load_image(NAME), format).inventory() for format in ("docker", "sif")]
    assert lists[0] == lists[1]


def test_verify_notices_one_bit(own_cache: Path) -> None:
    assert any(line.startswith("digest sha256:") for line in verify_image(load_image(NAME)))
    damage(own_cache, own_cache.stat().st_size // 2)
    with pytest.raises(KitError, match=r"its checksum is sha256:[0-9a-f]{64}, but sha256:[0-9a-f]{64} was built"):
        verify_image(load_image(NAME))


def test_verify_notices_another_recipe(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECIPES[NAME], "DESCRIPTION", "changed")
    changed = load_image(NAME)
    shutil.copy(own_cache, changed.sif)
    facts = json.loads(record_path(own_cache).read_text())
    record_path(changed.sif).write_text(json.dumps(facts))
    with pytest.raises(KitError, match="made from the recipe"):
        verify_image(changed)


def test_signature(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPTAINER_KEYSDIR", str(tmp_path / "keys"))
    image = load_image(NAME)
    assert signature(own_cache).startswith("signature none")
    with pytest.raises(KitError, match="key newpair"):
        sign(image)
    key = ["apptainer", "key", "newpair", "--name", "Kit Test", "--email", "kit@localhost", "--comment", "test"]
    subprocess.run([*key, "--password", "", "--push=false"], check=True, capture_output=True)
    signer = sign(image)
    assert len(signer.split()[1]) == 40
    assert signer in verify_image(image)
    damage(own_cache, own_cache.stat().st_size // 2)
    with pytest.raises(KitError, match="does not verify"):
        signature(own_cache)


def test_export_verify_and_build_from_the_archive(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = load_image(NAME)
    files = export(image, tmp_path / "export")
    assert [file.suffix for file in files] == [".sif", ".json", ".tar", ".txt"]
    assert len(verify_export(tmp_path / "export")) == 3
    with pytest.raises(KitError, match="overwrites nothing"):
        export(image, tmp_path / "export")
    # On another machine: nothing but the archive.
    own_cache.unlink()
    monkeypatch.setattr(build, "SQUASHFS", "-comp zstd -Xcompression-level 1")
    archive = files[2]
    assert build_sif(image, str(archive)) == own_cache
    assert verify_image(image)[1] == f"recipe sha256:{image.hash}"
    with pytest.raises(KitError, match="neither docker, recipe, nor an archive"):
        build_sif(image, str(files[3]), force=True)
    with pytest.raises(KitError, match="holds an image of the recipe"):
        build_sif(load_image("relion-basic"), str(archive))
    assert not load_image("relion-basic").sif.exists()
    damage(archive, archive.stat().st_size // 2)
    with pytest.raises(KitError, match=r"sha256sums\.txt says sha256:[0-9a-f]{64}"):
        verify_export(tmp_path / "export")
