"""How the learning rate grows with the batch, warms up, and falls."""

from __future__ import annotations

import math

from kit.stages.ml.options import Options


def learning_rate(options: Options, step: int, steps: int, global_batch: int) -> float:
    """The learning rate of a step (from 0 on), where an epoch has `steps`.

    It grows with the square root of the global batch: Adam divides the mean gradient by its own size, so that the noise
    of a step falls with the root of the batch, and not with the batch as it does in plain gradient descent, whose rule
    is the linear one (Goyal et al. 2017, arXiv 1706.02677). Malladi et al. 2022 (arXiv 2205.10287) derive and test the
    root for Adam; they change its decay rates with the batch as well, which is not done here. `none` leaves the rate
    as it is, whatever the number of ranks.
    """
    ratio = global_batch / options.reference_batch
    factor = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[options.scaling]
    full, warm = options.learning_rate * factor, options.warmup_epochs * steps
    if step < warm:
        first = min(options.learning_rate, full) / max(warm, 1)
        return first + (full - first) * step / warm
    if options.schedule == "cosine":
        share = (step - warm) / max(options.epochs * steps - warm, 1)
        return full * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
    return full
