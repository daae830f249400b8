"""What is drawn of every training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def learning_curve(plt: Any, history: Path, metric: str, label: str) -> Any:
    """A metric in training and in validation, epoch by epoch, from the epochs.jsonl of a training."""
    epochs = [json.loads(line) for line in history.read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for key, text in ((metric, "training"), (f"val_{metric}", "validation")):
        axes.plot([e["epoch"] for e in epochs], [e[key] for e in epochs], marker="o", markersize=3, label=text)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=label)
    axes.legend(frameon=False)
    return figure
