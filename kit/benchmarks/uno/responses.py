"""Drug responses with a known ceiling, in the layout of the published file.

Cell lines and drugs have hidden factors. Features of genes and descriptors of drugs are noisy linear views of them, and the
viability of a cell line under a drug falls with the dose as Hill's equation says:

    viability(x) = floor + (1 - floor) / (1 + 10^(h (x - e))),   x = log10(dose / mol l-1)

The logarithm e of the half-effect dose is a sum of what the drug does, what the cell line bears, and how the factors of both
meet, their product: what a model that only adds cannot know. The response is the mean viability over doses from 10^-10 to
10^-4 mol/l, the range of the area under the curve in the reference (Pilot1/Uno, README.AUC.md), in closed form; what is
measured is the mean of a number of replicates with Gaussian noise, cut off at 0 and 1. truth.h5 has the response without
the noise; how well that says what was measured is the ceiling of any model.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks import Parameters
from kit.core.errors import KitError
from kit.stages.uno.hdf import PARTS
from kit.stages.uno.network import DESCRIPTORS, GENES

FILE, TRUTH = "top_21_auc_1fold.uno.h5", "truth.h5"
LOWEST, HIGHEST = -10.0, -4.0  # log10 of the doses
FACTORS = 4
VIEW_NOISE = 0.3  # of a feature, whose view of the factors has unit variance
BLOCK = 512  # rows written at a time

Values = NDArray[np.float64]


class Curves(NamedTuple):
    """Hill curves: log10 of the half-effect dose, slope, and the viability that no dose goes below."""

    middle: Values
    slope: Values
    floor: Values


def viability(dose: Values, curves: Curves) -> Values:
    """Viability at doses (log10), broadcast against the curves."""
    found: Values = curves.floor + (1 - curves.floor) / (1 + 10 ** (curves.slope * (dose - curves.middle)))
    return found


def area(curves: Curves) -> Values:
    """The mean viability over log10 doses from LOWEST to HIGHEST: the integral of 1 / (1 + 10^(h (x - e))) is
    x - log10(1 + 10^(h (x - e))) / h."""

    def integral(x: float) -> Values:
        # log10(1 + 10^u) for large u is u, without a power that overflows.
        found: Values = x - np.logaddexp(0, np.log(10) * curves.slope * (x - curves.middle)) / np.log(10) / curves.slope
        return found

    mean = (integral(HIGHEST) - integral(LOWEST)) / (HIGHEST - LOWEST)
    found: Values = curves.floor + (1 - curves.floor) * mean
    return found


class World(NamedTuple):
    """Hidden factors of cell lines and drugs, and the features that show them."""

    cell_factors: Values  # (cells, FACTORS)
    drug_factors: Values  # (drugs, FACTORS)
    genes: NDArray[np.float32]  # (cells, GENES), standardised
    descriptors: NDArray[np.float32]  # (drugs, DESCRIPTORS), standardised


def world(cells: int, drugs: int, seed: int) -> World:
    rng = np.random.default_rng([seed, 1])
    factors = [rng.normal(size=(number, FACTORS)) for number in (cells, drugs)]
    views = []
    for known, columns in zip(factors, (GENES, DESCRIPTORS), strict=True):
        mixed = known @ rng.normal(size=(FACTORS, columns)) / np.sqrt(FACTORS)
        seen = mixed + VIEW_NOISE * rng.normal(size=mixed.shape)
        if columns == DESCRIPTORS:
            seen[:, ::3] = np.rint(2 * seen[:, ::3])  # counts, as many descriptors are
        deviation = seen.std(axis=0)
        views.append(((seen - seen.mean(axis=0)) / np.where(deviation > 0, deviation, 1)).astype(np.float32))
    return World(factors[0], factors[1], views[0], views[1])


def curves_of(of: World, cells: NDArray[np.int64], drugs: NDArray[np.int64], interaction: float) -> Curves:
    """The curve of each pair of a cell line and a drug. `interaction` is by how many powers of ten the meeting of their
    factors moves the half-effect dose (one standard deviation)."""
    z, u = of.cell_factors[cells], of.drug_factors[drugs]
    meeting = (z * u).sum(axis=1) / np.sqrt(FACTORS)
    middle = -6.0 + 0.5 * u[:, 0] + 0.3 * z[:, 1] + interaction * meeting
    return Curves(middle, np.exp(0.3 * np.tanh(u[:, 1])), 0.25 / (1 + np.exp(-u[:, 2])))


def generate(folder: Path, parameters: Parameters) -> None:
    """Writes FILE and TRUTH: pairs of cell lines and drugs, none twice, in random order. KitError without h5py."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise KitError("the generated data of uno need h5py; pip install 'science-kit[uno]'") from None
    cells, drugs, seed = (int(parameters[key]) for key in ("cells", "drugs", "data_seed"))
    counts = [int(parameters[f"{split}_rows"]) for split in ("training", "validation", "test")]
    interaction, noise = float(parameters["interaction"]), float(parameters["noise"])
    replicates = int(parameters["replicates"])
    if sum(counts) > cells * drugs:
        raise ValueError(f"{sum(counts)} rows of {cells} cell lines and {drugs} drugs: some pairs would come twice")
    of = world(cells, drugs, seed)
    rng = np.random.default_rng([seed, 2])
    chosen = rng.choice(cells * drugs, sum(counts), replace=False)
    cell, drug = chosen // drugs, chosen % drugs
    truth = area(curves_of(of, cell, drug, interaction))
    errors = rng.normal(size=(len(chosen), replicates)).mean(axis=1) * noise
    measured = np.clip(truth + errors, 0, 1).astype(np.float32)
    write(folder, of, cell, drug, measured, truth.astype(np.float32), counts)


def write(
    folder: Path,
    of: World,
    cell: NDArray[np.int64],
    drug: NDArray[np.int64],
    measured: NDArray[np.float32],
    truth: NDArray[np.float32],
    counts: list[int],
) -> None:
    import h5py

    samples = np.array([f"CCLE.GEN{number:05d}" for number in range(len(of.genes))], dtype="S30")
    names = np.array([f"GEN.{number:05d}" for number in range(len(of.descriptors))], dtype="S10")
    ends = np.cumsum([0, *counts])
    partial, partial_truth = folder / f"{FILE}.partial", folder / f"{TRUTH}.partial"
    with h5py.File(partial, "w") as file, h5py.File(partial_truth, "w") as known:
        label(file, CLASS="GROUP", PYTABLES_FORMAT_VERSION="2.1", TITLE="", VERSION="1.0")
        for part, start, end in zip(PARTS, ends, ends[1:], strict=False):
            here = slice(start, end)
            features(file, f"x_{part}_0", of.genes, cell[here])
            features(file, f"x_{part}_1", of.descriptors, drug[here])
            responses(file, f"y_{part}", measured[here], samples[cell[here]], names[drug[here]])
            known.create_dataset(part, data=truth[here])
        model = file.create_group("model")
        label(model, CLASS="GROUP", TITLE="", VERSION="1.0", pandas_type="frame", encoding="UTF-8", errors="strict")
        model.attrs.update({"nblocks": np.int64(0), "ndim": np.int64(2)})
        model.attrs["input_features"] = pickled({"cell.rnaseq": "cell.rnaseq", "drug1.descriptors": "drug.descriptors"})
        model.attrs["feature_shapes"] = pickled({"cell.rnaseq": (GENES,), "drug.descriptors": (DESCRIPTORS,)})
    partial_truth.rename(folder / TRUTH)
    partial.rename(folder / FILE)


def label(of: Any, **values: str) -> None:
    """Attributes as PyTables writes them: texts of fixed length in UTF-8, or it reads them as bytes."""
    import h5py

    for key, value in values.items():
        if value:
            of.attrs.create(key, np.bytes_(value), dtype=h5py.string_dtype("utf-8", len(value)))
        else:
            of.attrs[key] = h5py.Empty("S1")


def pickled(value: Any) -> np.bytes_:
    return np.bytes_(pickle.dumps(value, protocol=0))


def table(file: Any, key: str, record: np.dtype[Any], rows: int, columns: list[Any], kinds: dict[str, list[str]]) -> Any:
    """An empty frame in pandas' table format: its dataset, to be filled. `kinds` names the columns of each field."""
    group = file.create_group(key)
    label(group, CLASS="GROUP", TITLE="", VERSION="1.0", encoding="UTF-8", errors="strict", nan_rep="nan")
    label(group, pandas_type="frame_table", pandas_version="0.15.2", table_type="appendable_frame")
    group.attrs.update({"levels": np.int64(1)})
    group.attrs["index_cols"] = pickled([(0, "index")])
    group.attrs["values_cols"] = pickled(list(kinds))
    group.attrs["non_index_axes"] = pickled([(1, columns)])
    group.attrs["data_columns"] = pickled([field for field in kinds if not field.startswith("values_")])
    group.attrs["info"] = pickled({1: {"names": [None], "type": "Index"}, "index": {}})
    chunk = max(1, min(rows, 2**16 // record.itemsize or 1))
    data = group.create_dataset("table", (rows,), record, chunks=(chunk,), maxshape=(None,))
    label(data, CLASS="TABLE", TITLE="", VERSION="2.7", index_kind="integer")
    data.attrs["NROWS"] = np.int64(rows)
    for number, field in enumerate(record.names or ()):
        label(data, **{f"FIELD_{number}_NAME": field})
    for field, names in kinds.items():
        kind = record[field].base
        label(data, **{f"{field}_dtype": kind.name if kind.kind == "f" else f"bytes{8 * kind.itemsize}"})
        data.attrs[f"{field}_kind"] = pickled(names)
    return data


def features(file: Any, key: str, known: NDArray[np.float32], numbers: NDArray[np.int64]) -> None:
    """A frame of features, whose columns have no names, as in the published file: names would not fit an attribute."""
    record = np.dtype([("index", "<i8"), ("values_block_0", "<f4", (known.shape[1],))])
    names = [""] * known.shape[1]
    data = table(file, key, record, len(numbers), names, {"values_block_0": names})
    for start in range(0, len(numbers), BLOCK):
        part = numbers[start : start + BLOCK]
        rows = np.empty(len(part), record)
        rows["index"], rows["values_block_0"] = np.arange(start, start + len(part)), known[part]
        data[start : start + len(part)] = rows


def responses(file: Any, key: str, auc: NDArray[np.float32], samples: NDArray[Any], drugs: NDArray[Any]) -> None:
    fields = [("index", "<i8"), ("values_block_0", "<f4", (1,)), ("Sample", samples.dtype), ("Drug1", drugs.dtype)]
    kinds = {"values_block_0": ["AUC"], "Sample": ["Sample"], "Drug1": ["Drug1"]}
    data = table(file, key, np.dtype(fields), len(auc), ["AUC", "Sample", "Drug1"], kinds)
    rows = np.empty(len(auc), data.dtype)
    rows["index"], rows["values_block_0"] = np.arange(len(auc)), auc[:, None]
    rows["Sample"], rows["Drug1"] = samples, drugs
    data[:] = rows
