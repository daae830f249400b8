"""What Uno gives the trainer. One process a rank:

mpirun -n 2 python -m kit.stages.uno train --data rows --out train --epochs 50
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.stages.ml.options import Options
from kit.stages.ml.task import Tally, Target, Task
from kit.stages.ml.train import train as train_task
from kit.stages.uno.network import PARAMETERS, uno
from kit.stages.uno.rows import Rows, prepared

UNIT = "samples"
TARGET = Target("loss", 0.0054, higher=False)  # MLCommons Science, CANDLE-UNO: validation loss, a mean squared error
CENTRE = 0.5  # taken from areas before they are squared: they lie between 0 and 1
SUMS = ("squares", "absolutes", "count", "said", "wanted", "said_said", "wanted_wanted", "said_wanted")


def adamax(rate: float) -> Any:
    """The reference's optimiser (uno_auc_model.txt)."""
    import tensorflow as tf

    return tf.keras.optimizers.Adamax(rate)


def tally(model: Any, cells: Any, drugs: Any, wanted: Any, training: bool) -> Tally:
    import tensorflow as tf

    said = tf.cast(model([cells, drugs], training=training)[:, 0], tf.float32)
    loss = tf.reduce_sum((said - wanted) ** 2)
    # In double precision: variances are differences of sums that are nearly equal.
    y, p = tf.cast(wanted, tf.float64) - CENTRE, tf.cast(said, tf.float64) - CENTRE
    one = tf.ones_like(y)
    parts = [(p - y) ** 2, tf.abs(p - y), one, p, y, p * p, y * y, p * y]
    return Tally(loss, tf.cast(tf.size(wanted), tf.float32), tf.stack([tf.reduce_sum(part) for part in parts]))


def summary(sums: NDArray[np.float64]) -> dict[str, float]:
    """Errors, coefficient of determination and Pearson's correlation over a whole split, of sums over all ranks.

    Not the mean of batches, which is what the reference's R2 of validation is: that depends on the size of a batch.
    """
    of = dict(zip(SUMS, sums.tolist(), strict=True))
    n = of["count"]
    spread = of["wanted_wanted"] - of["wanted"] ** 2 / n
    said_spread = of["said_said"] - of["said"] ** 2 / n
    both = of["said_wanted"] - of["said"] * of["wanted"] / n
    return {
        "loss": of["squares"] / n,
        "mae": of["absolutes"] / n,
        "r2": 1 - of["squares"] / spread if spread > 1e-12 * n else float("nan"),
        # A network that says the same of all is correlated with nothing.
        "pearson": both / float(np.sqrt(spread * said_spread)) if min(spread, said_spread) > 1e-12 * n else 0.0,
    }


def task(data: Path) -> Task:
    facts = prepared(data)
    training, validation = Rows(data, "training"), Rows(data, "validation")
    for split, rows in (("training", training), ("validation", validation)):
        if len(rows) != facts["rows"][split]:
            raise ValueError(f"{data}: {split}.npy has {len(rows)} rows, not {facts['rows'][split]}; run prepare again")
    mean = float(training.records["auc"].mean(dtype=np.float64))
    return Task(
        unit=UNIT,
        target=TARGET,
        training=training,
        validation=validation,
        network=lambda: uno(mean),
        parameters=PARAMETERS,
        sums=len(SUMS),
        tally=tally,
        summary=summary,
        optimizer=adamax,
        facts={
            "split": facts["split"],
            "first_answer": mean,
            "used": {"training": training.members(), "validation": validation.members()},
        },
    )


def train(data: Path, out: Path, options: Options, backend: str) -> None:
    """Trains the network; see `kit.stages.ml.train`."""
    train_task(task(data), out, options, backend)
