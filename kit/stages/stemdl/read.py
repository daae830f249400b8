"""Reads patterns in the two published forms, and brings them to what the networks see.

HDF5 (doi 10.13139/OLCF/1510313, and what the kit generates): any number of groups in a file, each with `cbed_stack`
(3, n, n), intensities of three projections, and the attribute `space_group`. What the kit generates has `density` (3,
m, m) and the attributes `material` and `thickness` as well.

npz (the set ds1a of STFC Scientific Machine Learning): a sample a file, `data` (3, 128, 128) float32 and `label`. Its
values are either already on the scale of `to_scale` (values "log"), or intensities (values "intensity").
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
FLOOR = -17.0  # of the logarithm of an intensity
TOP = 255.0
GROUPS = 230  # space groups
VALUES = ("log", "intensity")
SUFFIXES = {".h5": "hdf5", ".hdf5": "hdf5", ".npz": "npz"}


class Sample(NamedTuple):
    """One stack: `image` (side, side, 3) on the scale of `to_scale`, what the network sees, and its space group."""

    name: str
    image: Array
    space_group: int
    material: str = ""  # empty where the file does not say it
    thickness: float = 0.0  # angstrom; 0 where the file does not say it
    density: Array | None = None  # (m, m, 3) electrons/angstrom^3


def to_scale(intensity: NDArray[Any]) -> Array:
    """clip(10 (max(-17, ln I) + 17), 0, 255): the preprocessing of the reference (at-aaims/stemdl-benchmark)."""
    smallest = np.exp(np.float64(FLOOR))
    return np.clip(10 * (np.log(np.maximum(intensity, smallest)) - FLOOR), 0, TOP).astype(np.float32)


def area_mean(stack: NDArray[Any], side: int) -> NDArray[Any]:
    """A stack (3, n, n) as (3, side, side), each pixel the mean of those it covers; n is a multiple of the side."""
    factor = stack.shape[1] // side
    return np.asarray(stack.reshape(3, side, factor, side, factor).mean(axis=(2, 4)))


def checked(stack: NDArray[Any], side: int, where: str) -> NDArray[Any]:
    """The stack; ValueError unless it is three square patterns whose side is a multiple of `side`, finite, none negative."""
    if stack.ndim != 3 or stack.shape[0] != 3 or stack.shape[1] != stack.shape[2] or stack.shape[1] % side or not stack.size:
        raise ValueError(
            f"{where} is {stack.shape}, where (3, n, n) is needed, with n a multiple of {side} (parameter side)"
        )
    if stack.dtype.kind not in "fiu":
        raise ValueError(f"{where} is of type {stack.dtype}, where numbers are needed")
    if not np.isfinite(stack).all():
        raise ValueError(f"{where} has values that are not finite; fetch the file again, or take it out of the folder")
    if stack.min() < 0:
        raise ValueError(f"{where} has negative intensities, down to {stack.min():g}; take the file out of the folder")
    return stack


def space_group(value: Any, where: str) -> int:
    """A space group's number, from what stands in a file: 225, "225", b"225", or an array of one number."""
    value = value.decode() if isinstance(value, bytes) else value
    text = str(value.item() if isinstance(value, np.ndarray) and value.size == 1 else value).strip()
    if not re.fullmatch(r"\d+(\.0)?", text) or not 1 <= int(float(text)) <= GROUPS:
        raise ValueError(f"{where} is {text[:40]!r}, where the number of a space group is needed, 1 to {GROUPS}")
    return int(float(text))


def read_hdf5(path: Path, side: int) -> Iterator[Sample]:
    """The samples of a file, one after the other; ValueError names file, group and key of what is wrong."""
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            names = sorted(file)
            if not names:
                raise ValueError(f"{path}: holds no groups; each sample is a group with cbed_stack")
            for name in names:
                group, where = file[name], f"{path}: {name}"
                if not isinstance(group, h5py.Group) or "cbed_stack" not in group:
                    raise ValueError(f"{where}: cbed_stack is missing")
                if "space_group" not in group.attrs:
                    raise ValueError(f"{where}: the attribute space_group is missing")
                stack = checked(group["cbed_stack"][()], side, f"{where}/cbed_stack")
                image = area_mean(to_scale(stack), side)
                density = None
                if "density" in group:
                    density = group["density"][()].astype(np.float32)
                    square = density.ndim == 3 and density.shape[1] == density.shape[2] > 0
                    if not square or density.shape[0] != 3 or not np.isfinite(density).all():
                        raise ValueError(f"{where}/density is {density.shape}, where (3, m, m) finite numbers are needed")
                    if (density.mean(axis=(1, 2)) <= 0).any():
                        raise ValueError(f"{where}/density has a mean of 0 or less, where electrons are expected")
                    density = density.transpose(1, 2, 0)
                dose = group.attrs.get("dose", 1.0)
                if not dose > 0:
                    raise ValueError(f"{where}: the attribute dose is {dose}, where more than 0 electrons are needed")
                yield Sample(
                    name,
                    image.transpose(1, 2, 0).astype(np.float32),
                    space_group(group.attrs["space_group"], f"{where}: the attribute space_group"),
                    str(group.attrs.get("material", "")),
                    float(group.attrs.get("thickness", 0.0)),
                    density,
                )
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read as HDF5 ({str(error).splitlines()[0]}); fetch it again") from None


def read_npz(path: Path, side: int, values: str) -> Iterator[Sample]:
    """The sample of a file; ValueError names file and key of what is wrong."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("data", "label") if key in file.files}
            there = ", ".join(file.files) or "nothing"
    # NumPy takes what is no archive for an array, or for a pickle, which it does not load.
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read as npz ({reason}); fetch it again") from None
    for key in ("data", "label"):
        if key not in arrays:
            raise ValueError(f"{path}: {key} is missing; it has {there}")
    stack, label = arrays["data"], arrays["label"]
    stack = checked(stack, side, f"{path}: data")
    if values == "log" and stack.max() > TOP:
        raise ValueError(
            f"{path}: data goes up to {stack.max():g}, beyond {TOP:g}: these are no values of the reference's scale; "
            "if they are intensities, say so with --values intensity"
        )
    image = area_mean(stack if values == "log" else to_scale(stack), side)
    yield Sample(path.stem, image.transpose(1, 2, 0).astype(np.float32), space_group(label, f"{path}: label"))


def read(path: Path, side: int, values: str = "log") -> Iterator[Sample]:
    """The samples of a file of either form."""
    if SUFFIXES[path.suffix] == "hdf5":
        yield from read_hdf5(path, side)
    else:
        yield from read_npz(path, side, values)
