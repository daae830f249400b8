"""What decides a training: its plan with the learning rate of every step, and which rank takes which samples when."""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.ranks import BACKENDS


class Plan(NamedTuple):
    """What decides a training, and is recorded with its result."""

    epochs: int
    batch_size: int  # samples of one rank in a step
    learning_rate: float  # for a global batch of `reference_batch` samples
    reference_batch: int = 32
    scaling: str = "sqrt"  # of the learning rate with the global batch: sqrt, linear or none
    warmup_epochs: float = 0  # over which the learning rate rises from near zero
    schedule: str = "constant"  # after that: constant, or cosine down to a hundredth
    patience: int = 0  # epochs without a lower validation loss after which it ends; 0: never
    precision: str = "float32"  # of the arithmetic: float32 or bfloat16; weights and loss are float32
    tf32: bool = True  # GPUs that can multiply float32 in TF32
    xla: bool = False
    share: float = 1.0  # of the training samples
    deterministic: bool = True  # the same bytes every time, where the device can
    seed: int = 1234

    def rate(self, step: int, steps: int, global_batch: int) -> float:
        """The learning rate of a step (from 0 on), where an epoch has `steps`.

        It grows with the square root of the global batch: Adam divides the mean gradient by its own size, so that the noise
        of a step falls with the root of the batch, and not with the batch as it does in plain gradient descent, whose rule
        is the linear one (Goyal et al. 2017, arXiv 1706.02677). Malladi et al. 2022 (arXiv 2205.10287) derive and test the
        root for Adam; they change its decay rates with the batch as well, which is not done here. `none` leaves the rate
        as it is, whatever the number of ranks.
        """
        ratio = global_batch / self.reference_batch
        factor = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.scaling]
        full, warm = self.learning_rate * factor, self.warmup_epochs * steps
        if step < warm:
            first = min(self.learning_rate, full) / max(warm, 1)
            return first + (full - first) * step / warm
        if self.schedule == "cosine":
            share = (step - warm) / max(self.epochs * steps - warm, 1)
            return full * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
        return full


def shares(samples: int, batch_size: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers of the samples of an epoch (ranks, steps, batch): all ranks take as many steps, no sample comes twice."""
    steps = samples // (batch_size * size)
    order = np.random.default_rng([seed, epoch]).permutation(samples)[: steps * batch_size * size]
    # A step takes the same samples, however many ranks share them.
    return order.reshape(steps, batch_size, size).transpose(2, 0, 1)


def arithmetic_options(parser: argparse.ArgumentParser) -> None:
    """What a network computes in, and what joins its ranks: options of all stages that load one."""
    choices = ("float32", "bfloat16", "auto")
    parser.add_argument("--precision", choices=choices, default="float32", help="auto: bfloat16 where the device has it")
    text = "multiply float32 in full on GPUs that have TF32"
    parser.add_argument("--no-tf32", dest="tf32", action="store_false", help=text)
    parser.add_argument("--backend", choices=BACKENDS, default="horovod")


def training_options(parser: argparse.ArgumentParser, unit: str) -> None:
    """The options of a training, one for each field of `Plan`; `unit` is what a sample is called (plural)."""
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=32, help=f"{unit} of one rank in a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="for a global batch of --reference-batch")
    parser.add_argument("--reference-batch", type=int, default=32)
    text = "of the rate with the global batch: Adam's grows with its root; none leaves it"
    parser.add_argument("--scaling", choices=("sqrt", "linear", "none"), default="sqrt", help=text)
    parser.add_argument("--warmup-epochs", type=float, default=0)
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="constant")
    parser.add_argument("--patience", type=int, default=0, help="epochs without a better validation loss; 0: no end")
    parser.add_argument("--share", type=float, default=1.0, help=f"of the training {unit}: weak scaling takes a part")
    parser.add_argument("--xla", action="store_true", help="compile forward and backward pass; nondeterministic")
    parser.add_argument("--nondeterministic", action="store_true", help="leave the order of sums to the device")
    parser.add_argument("--seed", type=int, default=1234)
    arithmetic_options(parser)


def take_plan(given: dict[str, Any]) -> Plan:
    """The plan that `training_options` were given, taken out of the parsed options; the backend and others stay there."""
    loose = given.pop("nondeterministic") or given["xla"]
    return Plan(**{key: given.pop(key) for key in Plan._fields if key != "deterministic"}, deterministic=not loose)
