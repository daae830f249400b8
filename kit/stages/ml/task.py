"""What a benchmark gives the trainer. Everything else about a training is the same for every network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Records(Protocol):
    """The samples of a split, numbered from 0 on; `shards.Shards` is one. Every rank sees all of them."""

    def __len__(self) -> int: ...

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """The fields of some samples, arrays (n, ...) each."""

    def batches(self, numbers: NDArray[np.int64]) -> Iterator[tuple[Any, ...]]:
        """The same as tensors for each row of numbers (steps, batch), read ahead of the step that is computed."""


class Target(NamedTuple):
    """The value of a validation metric at which a training counts as done; the training goes on behind it."""

    metric: str  # a name in the task's summary
    value: float
    higher: bool = True  # is better


class Tally(NamedTuple):
    """What a rank finds in a batch; every part is summed over the ranks, so that none is a mean.

    Where samples have parts that do not count (a pixel without a value), they are in none of the three.
    """

    loss: Any  # () float: the loss that is to become smaller, summed over all that counts
    count: Any  # () float: over how much it was summed; gradients are divided by the count of all ranks
    sums: Any  # (n,) float: what the summary is made of


def adam(rate: float) -> Any:
    import tensorflow as tf

    return tf.keras.optimizers.Adam(rate)


@dataclass(frozen=True)
class Task:
    """A network and its data, as the trainer needs them. TensorFlow may be imported inside the functions alone.

    The trainer calls `network` once on each rank, with the random seed and the precision set, and exchanges gradients, sums
    and, at the end of an epoch, the moving averages of the network (see `train.average`). `tally` is traced into a graph, so
    it holds TensorFlow's operations only; it is called with the network, with the fields of a batch as `Records` gives them,
    and with whether this is training (batch normalisation, dropout). A penalty on the weights is added to its loss, times
    the count. `summary` makes named numbers of the sums of all ranks, in double precision; `loss` must be one of them: the
    weights that are kept are of the epoch with the lowest `val_loss`. Sums rather than means are what makes them right for
    any number of ranks: a confusion matrix for accuracy and F1, squares and values for an R2.
    """

    unit: str  # what a sample is called, plural: "patches"
    target: Target
    training: Records
    validation: Records
    network: Callable[[], Any]  # a Keras model
    sums: int  # how many there are in a tally
    tally: Callable[..., Tally]  # (network, *fields, training)
    summary: Callable[[NDArray[np.float64]], dict[str, float]]
    optimizer: Callable[[float], Any] = adam  # of Keras, from a learning rate, which the trainer sets before each step
    parameters: int = 0  # that the network must have; 0: any number
    facts: Mapping[str, Any] = field(default_factory=dict)  # recorded in train.json: choices, and what the data are
    attributes: Mapping[str, str] = field(default_factory=dict)  # of the file of weights: what its user must know
    # Numbers that a checkpoint must carry to be gone on with, by name, and of what a checkpoint is that lacks them: a
    # network whose weights kept their shapes and changed their meaning gets another number.
    marks: Mapping[str, int] = field(default_factory=dict)
    stale: str = "another network"
