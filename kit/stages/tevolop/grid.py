"""The region, its pixels, its unit of time and its horizons: numbers of the MLCommons Science working group.

A pixel has a number from 0, row by row from the north, west to east, as in the published files. Time is counted in whole
fortnights; what is left of the days at the end is not used.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOUTH, NORTH, WEST, EAST = 32.0, 36.0, -120.0, -114.0
ROWS, COLUMNS = 40, 60
PIXELS = ROWS * COLUMNS
FORTNIGHT = 14  # days
BEGIN = datetime(1950, 1, 1, tzinfo=UTC)
SMALLEST_OF_NOTE = 3.29  # magnitude above which the working group counts events one by one
# What is forecast, by how far ahead it reaches: width in fortnights of the window that begins now.
HORIZONS = {"2w": 1, "3m": 6, "6m": 13, "1y": 26, "2y": 52, "4y": 104}
WIDTHS = tuple(HORIZONS.values())
STEPS = 26  # fortnights of input, a year
# Fortnights that pass before the first forecast: each climatology has at least a year of finished four-year windows.
WARM_UP = 130


def pixel(latitude: float, longitude: float) -> int:
    """The number of a place's pixel, -1 outside. The southern and western edges belong to the region, as does its corner."""
    # Rounded first: 120 - 117.9 is 2.0999..., and an event on an edge would come into the pixel beside its own.
    row, column = (int(np.floor(np.round(away * 10, 6))) for away in (NORTH - latitude, longitude - WEST))
    if row == ROWS and latitude >= SOUTH:
        row -= 1
    if column == COLUMNS and longitude <= EAST:
        column -= 1
    return row * COLUMNS + column if 0 <= row < ROWS and 0 <= column < COLUMNS else -1


def centre(number: int) -> tuple[float, float]:
    """Latitude and longitude of the middle of a pixel, degrees."""
    return NORTH - (number // COLUMNS + 0.5) / 10, WEST + (number % COLUMNS + 0.5) / 10


def magnitude(energy: NDArray[Any]) -> NDArray[np.float64]:
    """The magnitude of one event with an energy, in units of 10^(1.5 m) (the working group's); 0 where there is none."""
    return np.where(energy > 0, np.log10(np.maximum(energy, 1.0)) / 1.5, 0.0)


def neighbours(values: NDArray[Any]) -> NDArray[Any]:
    """(fortnights, PIXELS) to the sums over the eight pixels around each; beyond the region there is nothing."""
    field = np.pad(values.reshape(-1, ROWS, COLUMNS), ((0, 0), (1, 1), (1, 1)))
    total = np.zeros((len(values), ROWS, COLUMNS), values.dtype)
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                total += field[:, row : row + ROWS, column : column + COLUMNS]
    return total.reshape(len(values), PIXELS)
