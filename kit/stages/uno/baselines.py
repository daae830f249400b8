"""What a network must beat: means, and a ridge regression on the same features.

The ridge is linear in the features of cell line and drug, so that it adds what each does; it cannot say that one drug does
more to one cell line than to another. Its normal equations are summed over blocks of rows, in double precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096  # rows at a time
# Penalties tried, in units of the mean eigenvalue; the one with the lowest error in validation is taken.
PENALTIES = tuple(10.0**power for power in range(-6, 4))

Values = NDArray[np.float64]


def of_means(training: NDArray[Any], test: NDArray[Any], kind: str) -> Values:
    """The mean area of the training rows of the same cell line or drug (`kind`); that of all where there are none."""
    size = int(max(training[kind].max(), test[kind].max())) + 1
    counts = np.bincount(training[kind], minlength=size)
    sums = np.bincount(training[kind], weights=training["auc"].astype(np.float64), minlength=size)
    overall = float(training["auc"].mean(dtype=np.float64))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
    found: Values = means[test[kind]]
    return found


def coordinates(table: NDArray[np.float32]) -> NDArray[Any]:
    """Columns in which the rows of a table have the same products with each other as in its own, and no more than rows.

    A penalty on the square of weights does not see a rotation, so that a ridge on these is that on the features themselves.
    """
    rows, columns = table.shape
    if rows >= columns:
        return table
    values = np.asarray(table, dtype=np.float64)
    sizes, vectors = np.linalg.eigh(values @ values.T)
    kept = sizes > sizes[-1] * 1e-12
    found: NDArray[Any] = vectors[:, kept] * np.sqrt(sizes[kept])
    return found


class Ridge:
    """Least squares with a penalty on the square of the weights, none on the constant."""

    def __init__(self, folder: Path) -> None:
        tables = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("cells", "drugs"))
        self.cells, self.drugs = (coordinates(table) for table in tables)

    def design(self, rows: NDArray[Any]) -> Values:
        """(rows, columns) of some rows."""
        return np.hstack([self.cells[rows["cell"]], self.drugs[rows["drug"]]]).astype(np.float64)

    def fit(self, training: NDArray[Any], validation: NDArray[Any]) -> None:
        size = self.cells.shape[1] + self.drugs.shape[1]
        products, with_y, total, count = np.zeros((size, size)), np.zeros(size), np.zeros(size), len(training)
        mean = float(training["auc"].mean(dtype=np.float64))
        for start in range(0, count, BLOCK):
            part = training[start : start + BLOCK]
            x = self.design(part)
            products += x.T @ x
            with_y += x.T @ (part["auc"] - mean)
            total += x.sum(axis=0)
        centre = total / count
        products -= count * np.outer(centre, centre)  # with_y needs none: the areas have the mean zero
        sizes, vectors = np.linalg.eigh(products)
        sizes, turned = np.maximum(sizes, 0), vectors.T @ with_y
        best = (np.inf, 0.0)
        self.mean, self.centre = mean, centre
        for share in PENALTIES:
            penalty = share * float(sizes.mean()) or 1.0
            self.weights = vectors @ (turned / (sizes + penalty))
            error = float(((self.predict(validation) - validation["auc"]) ** 2).mean())
            if error < best[0]:
                best, kept = (error, penalty), self.weights
        self.weights, self.penalty = kept, best[1]

    def predict(self, rows: NDArray[Any]) -> Values:
        parts = [
            (self.design(rows[start : start + BLOCK]) - self.centre) @ self.weights + self.mean
            for start in range(0, len(rows), BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)
