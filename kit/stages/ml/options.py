"""What decides a training: its options, as they are given and as they are recorded with its result."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from kit.stages.ml.ranks import BACKENDS


class Options(NamedTuple):
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


def arithmetic_options(parser: argparse.ArgumentParser) -> None:
    """What a network computes in, and what joins its ranks: options of all stages that load one."""
    choices = ("float32", "bfloat16", "auto")
    parser.add_argument("--precision", choices=choices, default="float32", help="auto: bfloat16 where the device has it")
    text = "multiply float32 in full on GPUs that have TF32"
    parser.add_argument("--no-tf32", dest="tf32", action="store_false", help=text)
    parser.add_argument("--backend", choices=BACKENDS, default="horovod")


def training_options(parser: argparse.ArgumentParser, unit: str) -> None:
    """The options of a training, one for each field of `Options`; `unit` is what a sample is called (plural)."""
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


def take_options(given: dict[str, Any]) -> Options:
    """What `training_options` were given, taken out of the parsed options; the backend and others stay there."""
    loose = given.pop("nondeterministic") or given["xla"]
    return Options(**{key: given.pop(key) for key in Options._fields if key != "deterministic"}, deterministic=not loose)
