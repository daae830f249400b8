"""A product that nobody labelled, masked by the command as the docs give it, in the real image."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from conftest import ROOT, commands, kit
from inside import CODE, stage
from network import reference_weights, write_keras_file

from kit import __version__


@pytest.fixture(scope="module")
def bare(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a product of the inference scenes without its flags, and weights in the reference's layout."""
    folder = tmp_path_factory.mktemp("bare")
    source = sorted((data / "inference").iterdir())[0]
    shutil.copytree(source, folder / source.name)
    (folder / source.name / "flags_in.nc").unlink()
    weights = reference_weights(5)
    weights[-1] += 1.9  # so that this network calls a part of the scene cloud
    write_keras_file(folder / "model.h5", weights, whole=True)
    return folder


def product_of(folder: Path) -> Path:
    (found,) = folder.glob("*.SEN3")
    return found


def documented(folder: Path, output: str) -> list[str]:
    """The words of the command in docs/cloudmask.md, with the files of a folder in it."""
    (line,) = [line for line in commands(ROOT / "docs/cloudmask.md") if line.startswith("kit cloudmask mask")]
    words = shlex.split(line)[1:]
    assert words[2].endswith(".SEN3")
    words[2] = str(product_of(folder))
    words[words.index("--model") + 1] = str(folder / "model.h5")
    words[words.index("--output") + 1] = str(folder / output)
    return words


def same_masks(one: xr.Dataset, other: xr.Dataset) -> None:
    """To what the number of threads changes of a sum in single precision."""
    a, b = one["cloud_probability"].values, other["cloud_probability"].values
    assert np.array_equal(np.isfinite(a), np.isfinite(b))
    assert np.nanmax(np.abs(a - b)) < 1e-5
    clear_cut = ~(np.abs(a - 0.5) < 1e-5)
    assert np.array_equal(one["cloud_mask"].values[clear_cut], other["cloud_mask"].values[clear_cut])


def test_a_product_without_a_label_is_masked_as_the_stage_infer_masks_it(bare: Path, converted: Path) -> None:
    result = kit(*documented(bare, "mask.nc"))
    assert result.stdout.strip() == str(bare / "mask.nc")
    assert "% of the pixels that were seen are cloud" in result.stderr
    product = product_of(bare)
    # The same scene, converted with its label and masked by the stage, with the same weights.
    shutil.copy(bare / "model.h5", converted / "model.h5")
    words = ("--data", "scenes", "--model-file", "model.h5", "--out", "masked", "--backend", "single")
    stage(converted, 0, *CODE, "infer", *words)
    with xr.open_dataset(converted / f"masked/{product.name.removesuffix('.SEN3')}.nc", engine="h5netcdf") as dataset:
        expected = dataset.load()
    with xr.open_dataset(product / "geodetic_in.nc", engine="h5netcdf") as dataset:
        where = dataset.load()
    found = xr.load_dataset(bare / "mask.nc", engine="h5netcdf")
    assert dict(found.sizes) == {"rows": 288, "columns": 320}
    assert set(found.data_vars) == {"cloud_probability", "cloud_mask"}
    assert set(found.coords) == {"latitude", "longitude"}
    for name in ("latitude", "longitude"):
        assert found[name].dims == ("rows", "columns")
        assert found[name].values == pytest.approx(where[f"{name}_in"].values, abs=1e-6)
        assert found[name].attrs["standard_name"] == name
    assert (found["latitude"].attrs["units"], found["longitude"].attrs["units"]) == ("degrees_north", "degrees_east")
    same_masks(found, expected)
    chance, mask = found["cloud_probability"].values, found["cloud_mask"].values
    seen = np.isfinite(chance)
    assert seen.mean() > 0.9
    assert 0.05 < (mask[seen] == 1).mean() < 0.95
    assert np.array_equal(mask[seen], chance[seen] > 0.5)
    assert (mask[~seen] == 2).all()


def test_what_the_file_says_of_itself(bare: Path) -> None:
    """The attributes that the CF conventions ask for, and where the mask comes from."""
    if not (bare / "mask.nc").exists():
        kit(*documented(bare, "mask.nc"))
    with xr.open_dataset(bare / "mask.nc", engine="h5netcdf", decode_cf=False) as raw:
        mask = raw["cloud_mask"]
        assert mask.dtype == np.uint8
        assert list(mask.attrs["flag_values"]) == [0, 1, 2]
        assert mask.attrs["flag_meanings"] == "clear cloud not_seen"
        assert mask.attrs["_FillValue"] == 255
        assert set(np.unique(mask.values)) <= {0, 1, 2}
        assert np.isnan(raw["cloud_probability"].attrs["_FillValue"])
        for name in ("cloud_mask", "cloud_probability"):
            assert set(raw[name].attrs["coordinates"].split()) == {"latitude", "longitude"}
        facts = raw.attrs
    assert facts["Conventions"] == "CF-1.8"
    assert facts["source"] == product_of(bare).name
    assert facts["model_sha256"] == hashlib.sha256((bare / "model.h5").read_bytes()).hexdigest()
    assert facts["kit_version"] == __version__


def test_docker_masks_where_there_is_no_apptainer(bare: Path, tmp_path: Path) -> None:
    """The same mask, in a file of the user's own."""
    (tmp_path / "docker").symlink_to(shutil.which("docker") or "/usr/bin/docker")
    kit(*documented(bare, "docker.nc"), env={"PATH": str(tmp_path)})
    assert (bare / "docker.nc").stat().st_uid == os.getuid()
    if not (bare / "mask.nc").exists():
        kit(*documented(bare, "mask.nc"))
    one, other = (xr.load_dataset(bare / name, engine="h5netcdf") for name in ("mask.nc", "docker.nc"))
    same_masks(one, other)


def test_what_can_not_be_masked_is_said_in_a_sentence(bare: Path, tmp_path: Path) -> None:
    product, model = product_of(bare), bare / "model.h5"

    def said(product: Path, model: Path = model, output: Path = tmp_path / "mask.nc") -> str:
        result = kit("cloudmask", "mask", str(product), "--model", str(model), "--output", str(output), code=1)
        return re.sub(r"\s+", " ", result.stderr)

    (tmp_path / "holiday").mkdir()
    assert "holiday: not the name of an SLSTR level 1 product" in said(tmp_path / "holiday")
    assert "is not there: a product is a folder of NetCDF files" in said(tmp_path / product.name)
    packed = tmp_path / product.name
    packed.write_bytes(b"PK")
    assert "is no folder; unpack it first" in said(packed)
    packed.unlink()
    packed.mkdir()
    assert f"{product.name}/geodetic_in.nc: missing from the product" in said(packed)
    assert "none.h5: no such file" in said(product, tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("weights")
    assert "text.h5: not a readable HDF5 file of weights" in said(product, tmp_path / "text.h5")
    with h5py.File(tmp_path / "old.weights.h5", "w") as file:
        file["_layer_checkpoint_dependencies/conv2d/vars/0"] = np.zeros(3)
    assert "does not say in which order its weights are" in said(product, tmp_path / "old.weights.h5")
    assert "a name that ends in .nc is needed" in said(product, output=tmp_path / "mask.tif")
    assert "there is no folder" in said(product, output=tmp_path / "nowhere/mask.nc")
    (tmp_path / "there.nc").write_text("mine")
    assert "exists, and a mask is never overwritten" in said(product, output=tmp_path / "there.nc")
    assert (tmp_path / "there.nc").read_text() == "mine"
    (tmp_path / "a:b").mkdir()
    assert "a colon or a comma" in said(product, output=tmp_path / "a:b/mask.nc")
    # Nothing half-written is left.
    assert not list(tmp_path.glob("*.partial"))
    assert not (tmp_path / "mask.nc").exists()


def test_the_label_plays_no_part(data: Path, bare: Path) -> None:
    """A product with a label gives the mask that it gives without."""
    product = product_of(bare)
    words = ["--model", str(bare / "model.h5"), "--output", str(bare / "labelled.nc")]
    kit("cloudmask", "mask", str(data / "inference" / product.name), *words)
    if not (bare / "mask.nc").exists():
        kit(*documented(bare, "mask.nc"))
    one, other = (xr.load_dataset(bare / name, engine="h5netcdf") for name in ("mask.nc", "labelled.nc"))
    same_masks(one, other)
