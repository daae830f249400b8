"""What Apptainer unpacks: archives, by their kind and the image they hold, and the layers of an engine, packed or not."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kit.core.errors import KitError
from kit.images import build
from kit.images.build import archive_uri
from kit.images.render import load_image

IMAGE = load_image("relion-basic")
OWN = {"kit.recipe": IMAGE.recipe_digest}


def written(path: Path, files: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def oci(labels: dict[str, str] | None, nested: bool = False) -> dict[str, Any]:
    """As skopeo writes it; `nested`, as an engine does that keeps an index for each image."""
    manifests = {"manifests": [{"digest": "sha256:manifest"}]}
    return {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"manifests": [{"digest": "sha256:index"}]} if nested else manifests,
        "blobs/sha256/index": manifests,
        "blobs/sha256/manifest": {"config": {"digest": "sha256:config"}, "layers": []},
        "blobs/sha256/config": {"config": {"Labels": labels}},
    }


def saved(labels: dict[str, str] | None) -> dict[str, Any]:
    """As `docker save` writes it."""
    return {"c.json": {"config": {"Labels": labels}}, "manifest.json": [{"Config": "c.json", "Layers": []}]}


@pytest.mark.parametrize(
    ("files", "kind"),
    [(oci(OWN), "oci-archive"), (oci(OWN, nested=True), "oci-archive"), (saved(OWN), "docker-archive")],
)
def test_an_archive_of_this_image_is_taken(files: dict[str, Any], kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "image.tar", files)
    assert archive_uri(path, IMAGE) == f"{kind}:{path}"


@pytest.mark.parametrize("of", [oci, saved])
@pytest.mark.parametrize("labels", [{"kit.recipe": "sha256:other"}, {}, None])
def test_an_archive_of_another_image_is_refused(of: Any, labels: dict[str, str] | None, tmp_path: Path) -> None:
    path = written(tmp_path / "image.tar", of(labels))
    wanted = f"{path}: holds an image of the recipe {(labels or {}).get('kit.recipe')}, but today's relion-basic is"
    with pytest.raises(KitError, match=re.escape(wanted)):
        archive_uri(path, IMAGE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": b"a"}, "holds neither oci-layout nor manifest.json"),
        ({"oci-layout": {}}, "neither docker, recipe, nor an archive"),
        ({"oci-layout": {}, "index.json": b"{"}, "neither docker, recipe, nor an archive"),
        ({"oci-layout": {}, "index.json": []}, "neither docker, recipe, nor an archive"),
        ({"oci-layout": {}, "index.json": {"manifests": []}}, "neither docker, recipe, nor an archive"),
        ({"manifest.json": [{"Config": "away.json"}]}, "neither docker, recipe, nor an archive"),
        ({"manifest.json": {}}, "neither docker, recipe, nor an archive"),
    ],
)
def test_what_is_no_image_is_refused(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "image.tar", files)
    with pytest.raises(KitError, match=message):
        archive_uri(path, IMAGE)


def test_layers_are_packed_fast_where_there_is_skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a folder that is gone afterwards, and whose path is not in the name that the SIF keeps."""
    ran: list[list[str]] = []
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(build, "run_build", lambda command, image, log, cwd: ran.append(command))
    with build.layers(IMAGE, tmp_path / "log") as (folder, uri):
        assert folder is not None
        assert folder.is_dir()
        assert uri == "oci:relion-basic"
        (command,) = ran
        assert command[-2:] == [f"docker-daemon:{IMAGE.tag}", f"oci:{folder}/relion-basic"]
        assert command[command.index("--dest-compress-level") + 1] == "1"
    assert not folder.exists()


def test_apptainer_asks_the_engine_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with build.layers(IMAGE, tmp_path / "log") as found:
        assert found == (None, f"docker-daemon:{IMAGE.tag}")
