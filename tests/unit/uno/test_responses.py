"""The generator: the same bytes each time, Hill's curves and their areas, noise of the size stated, and a ceiling."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from kit.benchmarks.uno import responses
from kit.benchmarks.uno.responses import HIGHEST, LOWEST, Curves, area, curves_of, viability, world
from kit.core.errors import KitError
from kit.stages.uno.hdf import PARTS, Store
from kit.stages.uno.network import DESCRIPTORS, GENES

PARAMETERS = {
    "cells": 40,
    "drugs": 30,
    "training_rows": 1000,
    "validation_rows": 20,
    "test_rows": 20,
    "interaction": 0.8,
    "noise": 0.06,
    "replicates": 3,
    "data_seed": 5,
}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        folder = tmp_path / name
        folder.mkdir()
        responses.generate(folder, {**PARAMETERS, "training_rows": 20, "data_seed": seed})
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())])
        assert sorted(path.name for path in folder.iterdir()) == [responses.FILE, responses.TRUTH]
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_the_area_is_the_mean_of_the_curve() -> None:
    rng = np.random.default_rng(1)
    curves = Curves(rng.uniform(-14, 2, (50, 1)), rng.uniform(0.3, 4, (50, 1)), rng.uniform(0, 0.5, (50, 1)))
    doses = np.linspace(LOWEST, HIGHEST, 20_001)
    mean = np.trapezoid(viability(doses[None], curves), doses, axis=1) / (HIGHEST - LOWEST)
    assert area(curves)[:, 0] == pytest.approx(mean, abs=1e-7)
    # At the half-effect dose half of the effect is there; a dose far below does nothing, one far above all.
    half = viability(curves.middle, curves)
    assert half == pytest.approx(curves.floor + (1 - curves.floor) / 2)
    assert viability(curves.middle - 60, curves) == pytest.approx(1)
    assert viability(curves.middle + 60, curves) == pytest.approx(curves.floor)
    # In the middle of the range a cell line that bears ten times the dose has an area larger by 1/6 of what the drug can do.
    steep = Curves(np.array([-7.0, -6.0]), np.array([8.0, 8.0]), np.array([0.1, 0.1]))
    assert np.diff(area(steep)) == pytest.approx(0.9 / 6, abs=1e-6)


def test_noise_and_ceiling(tmp_path: Path) -> None:
    responses.generate(tmp_path, PARAMETERS)
    with Store(tmp_path / responses.FILE) as store:
        said = store.responses("y_train")
    with h5py.File(tmp_path / responses.TRUTH) as file:
        truth = file["train"][()]
        assert sorted(file) == sorted(PARTS)
    inside = (said.auc > 0) & (said.auc < 1)
    errors = (said.auc - truth)[inside]
    # The mean of three replicates of 0.06; cutting off at 0 and 1 takes a little.
    assert errors.std() == pytest.approx(0.06 / np.sqrt(3), rel=0.1)
    assert abs(errors.mean()) < 0.005
    assert 0.1 < said.auc.std() < 0.3
    ceiling = 1 - ((said.auc - truth) ** 2).mean() / said.auc.var()
    assert 0.9 < ceiling < 1
    pairs = set(zip(said.sample.tolist(), said.drug.tolist(), strict=True))
    assert len(pairs) == 1000


def test_adding_does_not_explain_it() -> None:
    """With an interaction the additive part of the response is well below all; without one it is nearly all."""
    of = world(40, 30, 5)
    cells, drugs = (grid.ravel() for grid in np.meshgrid(np.arange(40), np.arange(30), indexing="ij"))
    shares = []
    for interaction in (0.8, 0.0):
        table = area(curves_of(of, cells, drugs, interaction)).reshape(40, 30)
        added = table.mean(0) + table.mean(1)[:, None] - table.mean()
        shares.append(1 - ((table - added) ** 2).mean() / table.var())
    assert shares[0] < 0.7
    assert shares[1] > 0.97


def test_features_show_the_factors() -> None:
    """Standardised columns; the factors follow from them linearly, and better for more columns than factors."""
    of = world(120, 90, 5)
    for seen, hidden, columns in ((of.genes, of.cell_factors, GENES), (of.descriptors, of.drug_factors, DESCRIPTORS)):
        assert seen.shape == (len(hidden), columns)
        assert abs(seen.mean(axis=0)).max() < 1e-5
        assert seen.std(axis=0) == pytest.approx(1, abs=1e-4)
        parts = np.linalg.svd(seen[:, :400], full_matrices=False)[0][:, :4]
        centred = hidden - hidden.mean(axis=0)
        left = centred - parts @ np.linalg.lstsq(parts, centred, rcond=None)[0]
        assert (left**2).sum() < 0.05 * (centred**2).sum()


def test_more_rows_than_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="some pairs would come twice"):
        responses.generate(tmp_path, {**PARAMETERS, "training_rows": 1200})
    assert not list(tmp_path.iterdir())


def test_a_generation_that_is_cut_off_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(responses, "responses", full)
    with pytest.raises(OSError, match="no space left"):
        responses.generate(tmp_path, {**PARAMETERS, "training_rows": 20})
    assert not {responses.FILE, responses.TRUTH} & {path.name for path in tmp_path.iterdir()}


def test_without_h5py_the_package_that_brings_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(KitError, match=r"uno need h5py; pip install 'science-kit\[uno\]'"):
        responses.generate(tmp_path, PARAMETERS)
    assert not list(tmp_path.iterdir())
